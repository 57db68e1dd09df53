//! `hpkp renew-check`: runs the check of `hpkp published why` for the certificate that a renewal would
//! give.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;

use hpkp_core::certificate::Certificate;
use hpkp_core::path::VerifySignature;
use hpkp_core::pin::Pin;
use hpkp_core::spki;
use openssl::ec::{EcGroup, EcKey};
use openssl::error::ErrorStack;
use openssl::nid::Nid;
use openssl::pkey::PKey;
use openssl::x509::{X509, X509Req};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::arguments::RenewCheckArguments;
use crate::chains::{self, Chains, OfServer};
use crate::der;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::published::{Judge, Judgement, OpenSsl};
use crate::{input, output, private_key, usage};

/// The JSON output.
#[derive(Debug, Serialize)]
struct Answer {
    v: u32,
    answer: &'static str,
    /// The pin of the renewed certificate; `None` for a new key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pin: Option<String>,
    hosts: BTreeMap<String, Box<RawValue>>,
    /// The queries of the server that failed, as sentences.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unknown: Vec<String>,
}

/// Runs the command.
pub(crate) fn run(arguments: &RenewCheckArguments) -> Exit {
    answer(arguments).unwrap_or_else(usage::end)
}

fn answer(arguments: &RenewCheckArguments) -> Result<Exit, Failure> {
    let (present, unknown) = match (&arguments.cert, &arguments.server) {
        (Some(file), _) => (vec![(file.clone(), chains::of_file(file)?)], Vec::new()),
        (None, Some(server)) => {
            let OfServer { chains, unknown } = chains::of_server(server, arguments.hosts.first())?;
            (chains, unknown)
        }
        (None, None) => return Err(Failure::usage("give --cert or --server")),
    };
    let key = arguments.key.as_deref().map(public_key).transpose()?;
    let renewal = Renewal::new(&present, key.as_deref())?;
    let trusted = arguments.trusted_certificate.as_deref();
    // A certificate with the present key changes nothing for clients, so the silence of other machines does
    // not matter.
    let is_kept = |spki: &Vec<u8>| {
        let pin = Some(Pin::of_spki(spki));
        present.iter().all(|(_, chain)| chain[0].pin() == pin)
    };
    let max_staleness = arguments.max_staleness.filter(|_| !key.as_ref().is_some_and(is_kept));
    let judge = Judge::open(&arguments.records.directories(), trusted)?;
    let judge = judge.with_max_staleness(max_staleness);
    let names = match &arguments.hosts[..] {
        [] => present[0].1[0].accepted_names(),
        named => named,
    };
    let hosts = judge.hosts(names.iter());
    if hosts.is_empty() {
        return Err(Failure::usage("no host: give the names of the server as HOST"));
    }
    let mut verdict = Verdict::new(unknown);
    for host in &hosts {
        verdict.add(judge.ask(host, &renewal.chains, Some(&renewal))?);
    }
    let pin = key.map(|spki| format!("sha256/{}", Pin::of_spki(&spki)));
    let (exit, written) = (verdict.exit, verdict.print(pin, arguments.records.json));
    Ok(output::ended(exit, written))
}

/// The certificates that a renewal would give. The issuers of the present certificates count as the issuers
/// of the renewed ones.
pub(crate) struct Renewal {
    pub(crate) chains: Chains,
    present: Vec<Arc<Certificate>>,
}

impl Renewal {
    pub(crate) fn new(present: &Chains, key: Option<&[u8]>) -> Result<Self, Failure> {
        let mut chains = Vec::new();
        for (source, chain) in present {
            let cannot = || {
                let source = output::path(Path::new(source));
                Failure::undetermined(format!(
                    "{source}: cannot put another key into the certificate"
                ))
            };
            let spki = key.map_or_else(new_key, |key| Ok(key.to_vec())).map_err(|_| cannot())?;
            let renewed = with_key(chain[0].der(), &spki).ok_or_else(cannot)?;
            let renewed = Certificate::from_der(&renewed).map_err(|_| cannot())?;
            let behind = chain[1..].iter().cloned();
            let chain = std::iter::once(Arc::new(renewed)).chain(behind);
            chains.push((source.clone(), chain.collect()));
        }
        Ok(Self {
            chains,
            present: present.iter().map(|(_, chain)| Arc::clone(&chain[0])).collect(),
        })
    }
}

impl VerifySignature for Renewal {
    fn is_signed_by(&self, certificate: &Certificate, issuer: &Certificate) -> bool {
        let renewed = self.chains.iter().zip(&self.present);
        let mut renewed = renewed.filter(|((_, chain), _)| chain[0].der() == certificate.der());
        let signed = renewed.next().map_or(certificate, |(_, present)| present);
        OpenSsl.is_signed_by(signed, issuer)
    }
}

/// The combined results for all hosts.
#[derive(Default)]
struct Verdict {
    exit: Exit,
    /// The queries of the server that failed, as sentences.
    unknown: Vec<String>,
    refusing: Vec<String>,
    lines: Vec<String>,
    json: BTreeMap<String, Box<RawValue>>,
}

impl Verdict {
    /// If some of the server's certificates are unknown, the answer is at best "undetermined".
    fn new(unknown: Vec<String>) -> Self {
        let exit = if unknown.is_empty() { Exit::Fine } else { Exit::Undetermined };
        Self { exit, unknown, ..Self::default() }
    }

    fn add(&mut self, judgement: Judgement) {
        self.exit = self.exit.and(judgement.exit);
        if judgement.exit != Exit::Fine {
            self.refusing.push(judgement.host.clone());
            // The first line is about a certificate that does not exist yet, so it is omitted.
            let lines =
                judgement.lines.iter().skip(1).filter(|line| !line.starts_with("certificate:"));
            self.lines.extend(lines.map(|line| format!("    {line}")));
        }
        self.json.insert(judgement.host, judgement.json);
    }

    /// The first line: yes or no, and what to do.
    fn first(&self, pin: Option<&str>) -> (&'static str, String) {
        let hosts = self.refusing.join(", ");
        let key = pin.map_or_else(|| "a new key".to_owned(), |pin| format!("the key {pin}"));
        match self.exit {
            Exit::Fine => ("yes", format!("clients accept a renewal with {key}")),
            Exit::No => {
                let hint = match pin {
                    Some(_) => "publish its pin and wait until older pins have expired",
                    None => "renew with the same key",
                };
                ("no", format!("a renewal with {key} locks out clients of {hosts}; {hint}"))
            }
            _ => {
                let of = if hosts.is_empty() { String::new() } else { format!(" of {hosts}") };
                ("unknown", format!("cannot tell whether clients{of} accept a renewal with {key}"))
            }
        }
    }

    fn print(self, pin: Option<String>, json: bool) -> std::io::Result<()> {
        let (answer, first) = self.first(pin.as_deref());
        if json {
            return output::json(&Answer {
                v: output::JSON_VERSION,
                answer,
                pin,
                hosts: self.json,
                unknown: self.unknown,
            });
        }
        let style = match self.exit {
            Exit::Fine => output::GOOD,
            Exit::No => output::BAD,
            _ => output::NOTE,
        };
        self.unknown.iter().for_each(|text| output::complain(text));
        output::line(&format!("{} {first}", output::accent(style, &format!("{answer}:"))))?;
        self.lines.iter().try_for_each(|line| output::line(line))
    }
}

/// The `SubjectPublicKeyInfo` of the first key in a file, in DER.
pub(crate) fn public_key(file: &OsStr) -> Result<Vec<u8>, Failure> {
    let shown = output::path(Path::new(file));
    let bytes = input::secret(Path::new(file), spki::MAX_FILE)
        .map_err(|error| Failure::undetermined(format!("{shown}: {error}")))?;
    let private = || {
        let keys = hpkp_core::pem::blocks(&bytes).flatten();
        let mut keys = keys.filter(|block| block.is_private_key());
        let der = private_key::decode(&keys.next()?)?;
        PKey::private_key_from_der(&der).ok()?.public_key_to_der().ok()
    };
    let public = || PKey::public_key_from_pem(&bytes).ok()?.public_key_to_der().ok();
    let request = || X509Req::from_pem(&bytes).ok()?.public_key().ok()?.public_key_to_der().ok();
    let certificate = || X509::from_pem(&bytes).ok()?.public_key().ok()?.public_key_to_der().ok();
    let spki = private().or_else(public).or_else(request).or_else(certificate);
    spki.ok_or_else(|| {
        Failure::undetermined(format!(
            "{shown}: no key in PEM that can be read; an encrypted key cannot"
        ))
    })
}

/// A random key, which no certificate has.
fn new_key() -> Result<Vec<u8>, ErrorStack> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?;
    PKey::from_ec_key(EcKey::generate(&group)?)?.public_key_to_der()
}

/// A copy of the certificate with another key: replaces `SubjectPublicKeyInfo` in its DER (RFC 5280 section
/// 4.1).
fn with_key(certificate: &[u8], spki: &[u8]) -> Option<Vec<u8>> {
    const VERSION: u8 = 0xa0;
    let (_, content, _) = der::element(certificate)?;
    let (_, tbs, rest) = der::element(content)?;
    let mut behind = tbs;
    // The fields before the key: the serial number, the algorithm, the issuer, the validity and the
    // subject; before them the version, unless it is 1.
    let count = if tbs.first() == Some(&VERSION) { 6 } else { 5 };
    for _ in 0..count {
        behind = der::element(behind)?.2;
    }
    let before = tbs.len() - behind.len();
    let after = der::element(behind)?.2;
    let tbs = der::sequence(&[&tbs[..before], spki, after]);
    Some(der::sequence(&[&tbs[..], rest]))
}
