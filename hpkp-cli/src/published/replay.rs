//! `hpkp published why HOST --cert FILE`: the check that a server runs, on files.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use hpkp_core::certificate::Certificate;
use hpkp_core::check::{
    Certificates, Choice, Context, Deployment, Host, Listener, Records, Skipped, TrustSetting,
    check,
};
use hpkp_core::finding::{Check, Class, Code, Finding, Location};
use hpkp_core::path::{Anchors, Chain, Trust, VerifySignature};
use hpkp_core::published::HostName;
use hpkp_server::trust::{SystemStore, read_added};
use openssl::x509::X509;
use serde::Serialize;

use super::at_hand;
use super::store::{Failure, Store, shown};
use crate::arguments::WhyArguments;
use crate::encoded;
use crate::exit::Exit;

/// The port of HTTPS, on which a host is looked at in any case.
const HTTPS: u16 = 443;

/// What the check found.
#[derive(Debug, Serialize)]
pub(super) struct Replay {
    findings: Vec<FindingView>,
    /// Pins on record that are hashes of whole certificates.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    certificate_hashes: Vec<String>,
    #[serde(skip)]
    found: Vec<Finding>,
}

#[derive(Debug, Serialize)]
struct FindingView {
    code: &'static str,
    class: &'static str,
    summary: String,
    details: Vec<String>,
}

impl From<&Finding> for FindingView {
    fn from(finding: &Finding) -> Self {
        Self {
            code: finding.code.as_str(),
            class: match finding.class {
                Class::Invalid => "invalid",
                Class::Lockout => "lockout",
                Class::Unsure => "unsure",
                Class::Withhold => "withhold",
                Class::Warning => "warning",
            },
            summary: finding.summary.clone(),
            details: finding.details.clone(),
        }
    }
}

impl Replay {
    pub(super) fn new(
        store: &Store,
        host: &HostName,
        arguments: &WhyArguments,
    ) -> Result<Self, Failure> {
        let own = at_hand::certificates(&arguments.cert)?;
        let behind = at_hand::certificates(&arguments.chain)?.concat();
        let certificate_hashes = whole(store, host, own.iter().flatten().chain(&behind));
        let chains = own.into_iter().zip(&arguments.cert).map(|(own, file)| {
            let certificates = own.into_iter().chain(behind.iter().cloned());
            Chain::new(certificates.collect()).ok_or_else(|| {
                let most = Chain::MAX;
                Failure::no(format!("{}: the chain has more than {most} certificates", shown(file)))
            })
        });
        let chains = chains.collect::<Result<Vec<_>, _>>()?;
        let deployment = Deployment {
            contexts: vec![Context {
                certificates: Certificates::Loaded(chains),
                trust: Arc::new(trust(arguments.trusted_certificate.as_deref())?),
            }],
            // What is asked about is this name, not the others in the certificate: for those there is
            // a default server that presents nothing.
            hosts: vec![block(Some(host)), block(None)],
            listeners: ports(store, host, arguments.port)
                .into_iter()
                .map(|port| Listener {
                    port,
                    choice: Choice::Nginx,
                    hosts: vec![0],
                    default: 1,
                    patterns: Vec::new(),
                    by_port_alone: false,
                })
                .collect(),
            records: Some(Records {
                state: store.state.clone(),
                writer: None,
                directory: store.path().to_owned(),
                at: Location { file: store.paths().into(), line: 0 },
                problems: Vec::new(),
                unrecorded: None,
            }),
            ..Deployment::default()
        };
        let mut found = check(&deployment, store.now, &OpenSsl).findings;
        // One port was asked about, or all.
        found.retain(|finding| {
            !matches!(finding.code, Code::PublishedPinsPortNotServed | Code::PinnedPortClosed)
        });
        Ok(Self { findings: found.iter().map(Into::into).collect(), certificate_hashes, found })
    }

    /// How the command ends.
    pub(super) fn exit(&self, deny_warnings: bool) -> Exit {
        let exits = self.found.iter().map(|finding| match finding.class {
            Class::Lockout | Class::Invalid => Exit::No,
            Class::Unsure => Exit::Undetermined,
            Class::Withhold | Class::Warning if deny_warnings => Exit::No,
            Class::Withhold | Class::Warning => Exit::Fine,
        });
        exits.fold(Exit::Fine, Exit::and)
    }

    /// The findings as a server logs them, or that there are none.
    pub(super) fn lines(&self, host: &HostName) -> Vec<String> {
        let hashes = self.certificate_hashes.iter().map(|hash| {
            format!(
                "{hash} on record is the hash of a whole certificate, not of its key; no certificate \
                 ever meets it as a pin"
            )
        });
        let mut lines: Vec<String> = self.found.iter().flat_map(Finding::lines).collect();
        if lines.is_empty() {
            lines
                .push(format!("no client that is known to hold pins for {host} would refuse this"));
        }
        hashes.chain(lines).collect()
    }
}

/// The pins for `host` that are hashes of whole certificates at hand.
fn whole<'a>(
    store: &Store,
    host: &HostName,
    certificates: impl Iterator<Item = &'a Arc<Certificate>>,
) -> Vec<String> {
    let live = store.state.live(store.now).map(|live| &live.record.said);
    let pins = live.filter(|said| said.binds(host)).flat_map(|said| &said.pins);
    let pins: BTreeSet<_> = pins.copied().collect();
    let of = |one: &Arc<Certificate>| pins.iter().copied().find(|pin| encoded::is_whole(one, *pin));
    let found: BTreeSet<_> = certificates.filter_map(of).collect();
    found.into_iter().map(|pin| format!("sha256/{pin}")).collect()
}

/// A block with the certificates, for a host, or one without either.
fn block(host: Option<&HostName>) -> Host {
    Host {
        label: host.map_or_else(String::new, ToString::to_string),
        names: host.iter().map(ToString::to_string).collect(),
        tls: host.is_some(),
        contexts: host.iter().map(|_| 0).collect(),
        check: Check::Refuse,
        enforced: None,
        report_only: None,
        accepted: Vec::new(),
        serving: Vec::new(),
    }
}

/// The ports to look at: a record may be about one alone.
fn ports(store: &Store, host: &HostName, named: Option<u16>) -> BTreeSet<u16> {
    let live = store.state.live(store.now).map(|live| &live.record.said);
    match named {
        Some(port) => BTreeSet::from([port]),
        None => live
            .filter(|said| said.binds(host))
            .filter_map(|said| said.port)
            .chain([HTTPS])
            .collect(),
    }
}

/// The system's anchors and those in the file that is named.
fn trust(added: Option<&str>) -> Result<TrustSetting, Failure> {
    let added = added.map(|path| read_added(path, None));
    let added = added.transpose().map_err(|(code, text)| match code {
        Code::OversizedInput => Failure::no(text),
        _ => Failure::undetermined(text),
    })?;
    let (system, skipped) = system();
    let mut skipped: Vec<Skipped> = skipped.into_iter().collect();
    let added = added.map(|(anchors, more)| {
        skipped.extend(more);
        Arc::new(anchors)
    });
    let trust = Trust { system: Arc::new(system), added };
    Ok(TrustSetting { trust, problem: None, skipped })
}

/// The store that OpenSSL has for the system, or that its variables name.
fn system() -> (Anchors, Option<Skipped>) {
    // As in: OPENSSLDIR: "/usr/lib/ssl"
    let built = openssl::version::dir().split('"').nth(1).map(PathBuf::from);
    let of = |variable: &str, name: &str| {
        let named = std::env::var_os(variable).map(PathBuf::from);
        named.or_else(|| built.as_ref().map(|built| built.join(name)))
    };
    let directories = of("SSL_CERT_DIR", "certs").into_iter();
    let directories = directories.flat_map(|list| std::env::split_paths(&list).collect::<Vec<_>>());
    let store = SystemStore {
        file: of("SSL_CERT_FILE", "cert.pem"),
        is_named: std::env::var_os("SSL_CERT_FILE").is_some(),
        directories: directories.collect(),
    };
    store.read()
}

/// The command's own OpenSSL.
struct OpenSsl;

impl VerifySignature for OpenSsl {
    fn is_signed_by(&self, certificate: &Certificate, issuer: &Certificate) -> bool {
        let key = X509::from_der(issuer.der()).and_then(|issuer| issuer.public_key());
        let certificate = X509::from_der(certificate.der());
        certificate.and_then(|certificate| certificate.verify(&*key?)).unwrap_or(false)
    }
}
