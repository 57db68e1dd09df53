//! Understanding: what a report comes to, from the keys that are ours, the public CAs, and the private roots that are
//! known.
//!
//! Nothing in a report is authenticated, so a verdict says what the report would mean if it were true.

pub mod alarm;
pub mod client;
pub mod finding;
pub mod own;
pub mod roots;
pub mod trust;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, RwLock};

use hpkp_core::ca_table;
use hpkp_core::certificate::Certificate;
use hpkp_core::pin::Pin;
use hpkp_core::ua::received::{Format, Received};
use hpkp_core::ua::report_reader;
use sha2::{Digest as _, Sha256};

use crate::configuration::{Configuration, Mode};
use crate::time::DAY;
use finding::Finding;
use own::Own;
use roots::PrivateRoots;
use trust::{Led, PublicRoots};

/// The most verdicts that are remembered.
const MAX_CACHE: usize = 4096;

/// Everything that verdicts depend on. Read anew from time to time.
#[derive(Debug)]
pub struct Knowledge {
    /// The keys that are ours.
    pub own: Own,
    /// The private roots that are known.
    pub private: PrivateRoots,
    /// The public CAs.
    pub public: PublicRoots,
}

impl Knowledge {
    /// Reads everything; what cannot be read of the records and the trusted certificates is a problem of
    /// theirs.
    ///
    /// # Errors
    /// The list of private roots cannot be used.
    pub fn read(configuration: &Configuration) -> Result<Self, String> {
        Ok(Self {
            own: Own::read(configuration),
            private: PrivateRoots::read(configuration.private_roots.as_deref())?,
            public: PublicRoots::read(&configuration.trusted_certificates),
        })
    }

    /// What could not be read, a line each.
    pub fn problems(&self) -> impl Iterator<Item = &String> {
        self.own.problems.iter().chain(&self.public.problems)
    }
}

/// What a report comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The finding.
    pub finding: Finding,
    /// What belongs to it: the product of a private root, the CA, the key.
    pub detail: String,
}

/// The judge, with what it knows and its latest verdicts.
#[derive(Debug)]
pub struct Judge {
    knowledge: RwLock<Arc<Knowledge>>,
    cache: Mutex<HashMap<[u8; 32], Verdict>>,
}

impl Judge {
    /// A judge that knows this.
    #[must_use]
    pub fn new(knowledge: Knowledge) -> Self {
        Self { knowledge: RwLock::new(Arc::new(knowledge)), cache: Mutex::default() }
    }

    /// What it knows.
    #[must_use]
    pub fn knowledge(&self) -> Arc<Knowledge> {
        match self.knowledge.read() {
            Ok(knowledge) => Arc::clone(&knowledge),
            Err(poisoned) => Arc::clone(&poisoned.into_inner()),
        }
    }

    /// Replaces what it knows, and forgets its verdicts.
    pub fn learn(&self, knowledge: Knowledge) {
        let mut current = match self.knowledge.write() {
            Ok(current) => current,
            Err(poisoned) => poisoned.into_inner(),
        };
        *current = Arc::new(knowledge);
        if let Ok(mut cache) = self.cache.lock() {
            cache.clear();
        }
    }

    /// The verdict on a report that came in at `now`.
    #[must_use]
    pub fn verdict(&self, received: &Received, now: i64) -> Verdict {
        let key = cache_key(received, now);
        let known = self.cache.lock().ok().and_then(|cache| cache.get(&key).cloned());
        if let Some(known) = known {
            return known;
        }
        let verdict = judge(&self.knowledge(), received, now);
        if let Ok(mut cache) = self.cache.lock() {
            if cache.len() >= MAX_CACHE {
                cache.clear();
            }
            cache.insert(key, verdict.clone());
        }
        verdict
    }
}

/// Everything of a report on which its verdict depends.
fn cache_key(received: &Received, now: i64) -> [u8; 32] {
    let mut hash = Sha256::new();
    let mut add = |part: &[u8]| {
        hash.update(part.len().to_be_bytes());
        hash.update(part);
    };
    add(received.format.name().as_bytes());
    add(received.host.as_str().as_bytes());
    for text in [&received.result, &received.policy, &received.server] {
        add(text.as_deref().unwrap_or_default().as_bytes());
    }
    add(&[u8::from(received.is_test)]);
    add(&(judged_at(received, now) / DAY).to_be_bytes());
    for chain in [&received.report.served_chain, &received.report.validated_chain] {
        add(b"chain");
        chain.iter().flatten().for_each(|one| add(&one.der));
    }
    for pins in [&received.report.known_pins, &received.served_pins] {
        add(b"pins");
        pins.iter().for_each(|pin| add(pin.to_string().as_bytes()));
    }
    hash.finalize().into()
}

/// The time for which a chain is judged: that of the report, unless it lies in the future.
#[must_use]
pub fn judged_at(received: &Received, now: i64) -> i64 {
    let age = received.age.and_then(|age| i64::try_from(age / 1000).ok());
    let before = now.saturating_sub(age.unwrap_or_default());
    received.report.date_time.filter(|at| (1..=now + DAY).contains(at)).unwrap_or(before)
}

/// What tells chains apart: the certificates, else the pins, else what failed. In hexadecimal digits.
#[must_use]
pub fn chain_fingerprint(received: &Received) -> String {
    let mut hash = Sha256::new();
    let chain = received.chain();
    if !chain.is_empty() {
        for one in chain {
            hash.update(one.der.len().to_be_bytes());
            hash.update(&one.der);
        }
    } else if !received.served_pins.is_empty() {
        received.served_pins.iter().for_each(|pin| hash.update(pin.to_string()));
    } else {
        for text in [&received.policy, &received.result, &received.server] {
            hash.update(text.as_deref().unwrap_or_default());
            hash.update([0]);
        }
    }
    hash.finalize().iter().take(16).map(|octet| format!("{octet:02x}")).collect()
}

/// How the client treats the violation, as far as the report says it.
#[must_use]
pub fn mode(received: &Received) -> Option<Mode> {
    let of = |enforced| if enforced { Mode::Enforced } else { Mode::ReportOnly };
    if let Some(enforced) = received.enforced {
        return Some(of(enforced));
    }
    if received.format != Format::Rfc7469 {
        return None;
    }
    // A report-only policy has no expiry. Chromium, which had to say one, said the time of the report.
    let (at, expires) = (received.report.date_time?, received.report.effective_expiration_date?);
    Some(of(expires > at))
}

fn judge(knowledge: &Knowledge, received: &Received, now: i64) -> Verdict {
    let say = |finding, detail: &str| Verdict { finding, detail: detail.to_owned() };
    if received.is_test {
        return say(Finding::Test, "");
    }
    if received.format == Format::SmtpTls {
        return smtp(received);
    }
    let own = Ours::new(&knowledge.own, received);
    let chain = received.chain();
    let pins: Vec<Pin> = match chain.is_empty() {
        false => chain.iter().map(|one| one.pin).collect(),
        true => received.served_pins.clone(),
    };
    let Some(leaf) = pins.first().copied() else {
        return say(Finding::NoChain, "");
    };
    // First what is ours: nothing that a client says of itself may hide it.
    if own.is_ours(leaf) {
        return say(Finding::OwnKey, &format!("sha256/{leaf}"));
    }
    if chain.is_empty() {
        return without_certificates(&own, &pins);
    }
    with_certificates(knowledge, received, &own, now)
}

/// The keys that are ours, for one host.
struct Ours<'a> {
    own: &'a Own,
    pins: Vec<Pin>,
}

impl<'a> Ours<'a> {
    fn new(own: &'a Own, received: &Received) -> Self {
        let pins = own.pins(&received.host).into_iter().map(|one| one.pin).collect();
        Self { own, pins }
    }

    /// Whether a leaf's key is ours.
    fn is_ours(&self, leaf: Pin) -> bool {
        self.own.is_leaf(leaf) || self.pins.contains(&leaf)
    }

    /// The pinned key of a chain, above the leaf.
    fn pinned(&self, pins: &[Pin]) -> Option<Pin> {
        pins.iter().skip(1).copied().find(|pin| self.pins.contains(pin))
    }
}

/// What a pinned key of a CA in the chain means: others than we have certificates of it too, but where it is not
/// known which are ours, it most likely is.
fn pinned_ca(own: &Ours<'_>, pin: Pin) -> Verdict {
    let finding = if own.own.knows_leaves() { Finding::PinnedCaOtherLeaf } else { Finding::OwnKey };
    Verdict { finding, detail: format!("sha256/{pin}") }
}

fn without_certificates(own: &Ours<'_>, pins: &[Pin]) -> Verdict {
    if let Some(pin) = own.pinned(pins) {
        return pinned_ca(own, pin);
    }
    let ca = pins.iter().find_map(|pin| ca_table::find(*pin));
    match ca {
        Some(ca) => Verdict { finding: Finding::PublicCa, detail: ca.operator.to_owned() },
        None => Verdict { finding: Finding::UnknownKey, detail: String::new() },
    }
}

fn with_certificates(
    knowledge: &Knowledge,
    received: &Received,
    own: &Ours<'_>,
    now: i64,
) -> Verdict {
    let say = |finding, detail: &str| Verdict { finding, detail: detail.to_owned() };
    let chain = received.chain();
    let der: Vec<&[u8]> = chain.iter().map(|one| &*one.der).collect();
    let parsed = parsed(chain);
    let Some(leaf) = parsed.first() else {
        return say(Finding::Unverifiable, "the leaf cannot be parsed");
    };
    let pins: Vec<Pin> = chain.iter().map(|one| one.pin).collect();
    let led = knowledge.public.judge(&der, judged_at(received, now), common_time(&parsed));
    if let Some(pin) = own.pinned(&pins).filter(|_| led != Led::Elsewhere) {
        return pinned_ca(own, pin);
    }
    let validated = received.report.validated_chain.iter().flatten();
    if validated.into_iter().any(|one| received.report.known_pins.contains(&one.pin)) {
        return say(Finding::PinsMatch, "");
    }
    let top = parsed.last().map_or("", |one| one.issuer());
    let is_for = match &received.host {
        hpkp_core::ua::host::Host::Name(name) => leaf.is_for(name.as_str()),
        hpkp_core::ua::host::Host::Address(_) => true,
    };
    match led {
        Led::ToPublic if is_for => say(Finding::PublicCa, top),
        Led::ToPublic => say(Finding::OtherName, leaf.subject()),
        Led::ToPublicNotThen => say(Finding::NotValidThen, leaf.not_after_text()),
        Led::Elsewhere | Led::Broken => private(knowledge, received, &parsed),
    }
}

/// A time at which all certificates are valid, if there is one.
fn common_time(parsed: &[Certificate]) -> i64 {
    let from = parsed.iter().map(Certificate::not_before).max().unwrap_or_default();
    let to = parsed.iter().map(Certificate::not_after).min().unwrap_or_default();
    from + (to - from) / 2
}

/// A chain that leads to no public CA.
fn private(knowledge: &Knowledge, received: &Received, parsed: &[Certificate]) -> Verdict {
    let say = |finding, detail: &str| Verdict { finding, detail: detail.to_owned() };
    let names: Vec<&str> = parsed.iter().map(Certificate::issuer).collect();
    let pins = parsed.iter().filter_map(Certificate::pin).map(|pin| format!("sha256/{pin}"));
    let pins: Vec<String> = pins.collect();
    if let Some(root) = knowledge.private.find(&names, &pins) {
        return say(Finding::KnownPrivateRoot, &format!("{} ({})", root.product, root.kind));
    }
    // TSKTrustEvaluationFailedUserDefinedTrustAnchor.
    if received.format == Format::TrustKit && received.result.as_deref() == Some("4") {
        return say(Finding::UserAnchor, names.last().unwrap_or(&""));
    }
    let last = received.chain().last();
    let names_public = last.is_some_and(|last| knowledge.public.names_issuer_of(&last.der));
    match names_public {
        true => say(Finding::Unverifiable, names.last().unwrap_or(&"")),
        false => say(Finding::UnknownPrivateRoot, names.last().unwrap_or(&"")),
    }
}

/// The certificates of a chain, as far as the first that the core cannot parse.
#[must_use]
pub fn parsed(chain: &[report_reader::Certificate]) -> Vec<Certificate> {
    chain.iter().map_while(|one| Certificate::from_der(&one.der).ok()).collect()
}

fn smtp(received: &Received) -> Verdict {
    let result = received.result.as_deref().unwrap_or_default();
    let policy = received.policy.as_deref().unwrap_or_default();
    let finding = match (result, policy) {
        (hpkp_core::ua::received::SUCCESS, _) => Finding::SmtpSuccess,
        ("starttls-not-supported", _) => Finding::SmtpTls,
        ("tlsa-invalid" | "dnssec-invalid" | "dane-required", _) => Finding::SmtpDane,
        (result, _) if result.starts_with("sts-") => Finding::SmtpSts,
        (_, "tlsa") => Finding::SmtpDane,
        (_, "sts") => Finding::SmtpSts,
        _ => Finding::SmtpTls,
    };
    let server = received.server.as_deref().unwrap_or_default();
    let detail = [result, server].into_iter().filter(|part| !part.is_empty());
    Verdict { finding, detail: detail.collect::<Vec<_>>().join(", ") }
}
