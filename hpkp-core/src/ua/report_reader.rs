//! Reads violation reports (RFC 7469 section 3).
//!
//! Reading a report answers two questions: whether it conforms ([`Examined::problems`]), and whether a collector should
//! accept it nevertheless ([`Examined::acceptable`]), since real reports differ from the RFC. Reports are not
//! authenticated: a report that conforms need not be true.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::field::decode_pin;
use super::host::Host;
use super::report::{Key, PEM_BEGIN, PEM_END};
use super::{date, have_a_key_in_common};
use crate::pin::Pin;

/// The largest body that is read, in bytes. Two long chains need a tenth of it.
pub const MAX_BODY: usize = 1024 * 1024;

/// A body of more than [`MAX_BODY`] bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the report is {} bytes long, more than the limit of {MAX_BODY}", .bytes)]
pub struct TooLarge {
    /// Bytes in the body.
    pub bytes: usize,
}

/// A way in which a body does not conform.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum Problem {
    /// Not JSON (RFC 8259).
    #[error("not-json")]
    NotJson,
    /// JSON, but not an object.
    #[error("not-an-object")]
    NotAnObject,
    /// A key that appears twice. Nothing else was examined, since it is not defined which one counts.
    #[error("duplicate-key")]
    DuplicateKey {
        /// The key.
        key: String,
    },
    /// A missing key.
    #[error("missing:{}", .0.name())]
    Missing(Key),
    /// A key that section 3 does not name.
    #[error("extra:{key}")]
    Extra {
        /// The key.
        key: String,
    },
    /// A value that is invalid for its key.
    #[error("bad:{}", .0.name())]
    Bad(Key),
    /// A pinned key is in the validated chain, so that validation cannot have failed.
    #[error("inconsistent:chain-matches-pins")]
    ChainMatchesPins,
    /// The policy was noted for a host that is neither the one wanted nor above it.
    #[error("inconsistent:noted-hostname")]
    NotedHostname,
    /// The policy was noted for a superdomain, but does not cover subdomains.
    #[error("inconsistent:include-subdomains")]
    SubdomainNotIncluded,
}

/// The code of the problem, which is stable: `bad:port`.
/// A certificate of a chain in a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The certificate, DER.
    pub der: Vec<u8>,
    /// The pin of its key.
    pub pin: Pin,
}

/// What could be read of a report. A value that is missing or bad is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadReport {
    /// When the violation was noticed, in seconds since 1970.
    pub date_time: Option<i64>,
    /// The host that the UA asked for.
    pub hostname: Option<Host>,
    /// The port that it asked for. `None` for 0, which TrustKit sends if it does not know the port.
    pub port: Option<u16>,
    /// When the violated policy ends, in seconds since 1970.
    pub effective_expiration_date: Option<i64>,
    /// Whether that policy covers subdomains.
    pub include_subdomains: Option<bool>,
    /// The host that the policy was noted for.
    pub noted_hostname: Option<Host>,
    /// The certificates that the host served.
    pub served_chain: Option<Vec<Certificate>>,
    /// The certificates of the validated chain.
    pub validated_chain: Option<Vec<Certificate>>,
    /// The pins of the policy: all that are legible, also in the spellings that do not conform
    /// (tam7t/hpkp sends bare base64).
    pub known_pins: Vec<Pin>,
}

/// The result of examining a body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Examined {
    problems: Vec<Problem>,
    report: ReadReport,
    port_is_zero: bool,
}

impl Examined {
    /// Examines the body of a report.
    ///
    /// # Errors
    /// More than [`MAX_BODY`] bytes; nothing was read.
    pub fn of(body: &[u8]) -> Result<Self, TooLarge> {
        if body.len() > MAX_BODY {
            return Err(TooLarge { bytes: body.len() });
        }
        let mut examined = Self::default();
        match members(body) {
            Ok(members) => examined.object(members),
            Err(problem) => examined.problems.push(problem),
        }
        examined.problems.sort_unstable();
        Ok(examined)
    }

    /// All problems; there are none if the report conforms to section 3.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// The values that could be read, acceptable or not.
    #[must_use]
    pub const fn report(&self) -> &ReadReport {
        &self.report
    }

    /// The report, if a collector should accept it: it has a host and pins, and no invalid value. Keys may be missing
    /// or added, and the port may be 0, as in TrustKit's reports.
    #[must_use]
    pub fn acceptable(&self) -> Option<&ReadReport> {
        let tolerable = |problem: &Problem| match problem {
            Problem::NotJson | Problem::NotAnObject | Problem::DuplicateKey { .. } => false,
            Problem::Missing(key) => !matches!(key, Key::Hostname | Key::KnownPins),
            Problem::Bad(key) => *key == Key::Port && self.port_is_zero,
            Problem::Extra { .. }
            | Problem::ChainMatchesPins
            | Problem::NotedHostname
            | Problem::SubdomainNotIncluded => true,
        };
        self.problems.iter().all(tolerable).then_some(&self.report)
    }

    fn object(&mut self, members: Vec<(String, &RawValue)>) {
        let mut values = BTreeMap::new();
        let mut extra = Vec::new();
        let mut names = BTreeSet::new();
        for (name, value) in &members {
            if !names.insert(name) {
                self.problems = vec![Problem::DuplicateKey { key: name.clone() }];
                return;
            }
            match Key::ALL.into_iter().find(|key| key.name() == name) {
                Some(key) => {
                    // A number or string that has no value, such as 1e999, is a bad value, not a missing one.
                    values.insert(key, serde_json::from_str(value.get()).unwrap_or(Value::Null));
                }
                None => extra.push(Problem::Extra { key: name.clone() }),
            }
        }
        self.problems = extra;
        for key in Key::ALL {
            match values.get(&key) {
                None => self.problems.push(Problem::Missing(key)),
                Some(value) if self.take(key, value).is_none() => {
                    self.problems.push(Problem::Bad(key));
                }
                Some(_) => {}
            }
        }
        self.consistency();
    }

    /// Takes over the value of a key; `None` if it is bad.
    fn take(&mut self, key: Key, value: &Value) -> Option<()> {
        let report = &mut self.report;
        match key {
            Key::DateTime => report.date_time = Some(date::parse(value.as_str()?)?),
            Key::EffectiveExpirationDate => {
                report.effective_expiration_date = Some(date::parse(value.as_str()?)?);
            }
            Key::Hostname => report.hostname = Some(host(value)?),
            Key::NotedHostname => report.noted_hostname = Some(host(value)?),
            Key::Port => {
                let port = u16::try_from(value.as_u64()?).ok()?;
                self.port_is_zero = port == 0;
                report.port = Some(port).filter(|port| *port != 0);
                report.port?;
            }
            Key::IncludeSubdomains => report.include_subdomains = Some(value.as_bool()?),
            Key::ServedCertificateChain => report.served_chain = Some(chain(value)?),
            Key::ValidatedCertificateChain => report.validated_chain = Some(chain(value)?),
            Key::KnownPins => {
                let mut all_conform = true;
                for pin in value.as_array()? {
                    let conforming = pin.as_str().and_then(conforming_pin);
                    all_conform &= conforming.is_some();
                    let legible = || pin.as_str()?.parse().ok();
                    report.known_pins.extend(conforming.or_else(legible));
                }
                return all_conform.then_some(());
            }
        }
        Some(())
    }

    fn consistency(&mut self) {
        let report = &self.report;
        if let Some(chain) = &report.validated_chain {
            let keys: Vec<Pin> = chain.iter().map(|certificate| certificate.pin).collect();
            if have_a_key_in_common(&report.known_pins, &keys) {
                self.problems.push(Problem::ChainMatchesPins);
            }
        }
        let names = report.hostname.as_ref().zip(report.noted_hostname.as_ref());
        if let Some((wanted, noted)) = names.filter(|(wanted, noted)| wanted != noted) {
            match (wanted, noted) {
                (Host::Name(wanted), Host::Name(noted)) if wanted.is_within(noted) => {
                    if report.include_subdomains == Some(false) {
                        self.problems.push(Problem::SubdomainNotIncluded);
                    }
                }
                _ => self.problems.push(Problem::NotedHostname),
            }
        }
    }
}

/// The members of the JSON object `body`, in their order and with repeated keys.
pub(super) fn members(body: &[u8]) -> Result<Vec<(String, &RawValue)>, Problem> {
    let whole: &RawValue = serde_json::from_slice(body).map_err(|_| Problem::NotJson)?;
    if !whole.get().starts_with('{') {
        return Err(Problem::NotAnObject);
    }
    let Members(members) = serde_json::from_str(whole.get()).map_err(|_| Problem::NotJson)?;
    Ok(members)
}

/// The value of the first member with that name in the JSON object `text`.
pub(super) fn member<'t>(text: &'t str, name: &str) -> Option<&'t RawValue> {
    let Members(members) = serde_json::from_str(text).ok()?;
    members.into_iter().find(|(key, _)| key == name).map(|(_, value)| value)
}

struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(Members(members))
    }
}

/// A host in the form that is sent, so in ASCII.
pub(super) fn host(value: &Value) -> Option<Host> {
    let text = value.as_str().filter(|text| text.is_ascii())?;
    Host::parse(text).ok()
}

pub(super) fn chain(value: &Value) -> Option<Vec<Certificate>> {
    value.as_array()?.iter().map(|pem| certificate(pem.as_str()?)).collect()
}

/// One certificate in PEM. Lines may have any length and ending: TrustKit sends CRLF.
fn certificate(pem: &str) -> Option<Certificate> {
    let base64 = pem.trim_ascii().strip_prefix(PEM_BEGIN)?;
    let mut base64 = base64.strip_suffix(PEM_END)?.as_bytes().to_vec();
    base64.retain(|byte| !byte.is_ascii_whitespace());
    let der = STANDARD.decode(base64).ok()?;
    let (rest, certificate) = X509Certificate::from_der(&der).ok()?;
    let pin = Pin::of_spki(certificate.tbs_certificate.subject_pki.raw);
    rest.is_empty().then_some(())?;
    Some(Certificate { der, pin })
}

/// A pin in the form of section 3: `pin-sha256="B64"`, with the name in any case.
pub(super) fn conforming_pin(text: &str) -> Option<Pin> {
    let (name, value) = text.split_once('=')?;
    let base64 = value.strip_prefix('"')?.strip_suffix('"')?;
    let (pin, _) = decode_pin(base64.as_bytes()).ok()?;
    name.eq_ignore_ascii_case("pin-sha256").then_some(pin)
}

#[cfg(test)]
mod tests;
