//! Judges one report.

use hpkp_core::ca_table;
use hpkp_core::certificate::Certificate;
use hpkp_core::pin::Pin;
use hpkp_core::ua::host::Host;
use hpkp_core::ua::received::{Format, Received, SUCCESS};
use hpkp_core::ua::report_reader;

use super::finding::Finding;
use super::knowledge::Knowledge;
use super::own::Own;
use super::trust::{self, Led};
use crate::names;
use crate::time::DAY;

/// The longest detail, in characters. Details go into pages, alarms and the database, and a name in a certificate may
/// be as long as a body.
const MAX_DETAIL: usize = 300;

/// The most certificates of a chain whose names are searchable.
const MAX_NAMED: usize = 8;

/// The result of judging a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The finding.
    pub finding: Finding,
    /// The detail of the finding: the product of a private root, the CA, or the key.
    pub detail: String,
    /// Additional text for searches.
    pub names: String,
}

impl Verdict {
    fn new(finding: Finding, detail: &str) -> Self {
        let mut characters = detail.chars();
        let mut detail: String = characters.by_ref().take(MAX_DETAIL).collect();
        if characters.next().is_some() {
            detail.push_str("...");
        }
        Self { finding, detail, names: String::new() }
    }
}

/// The time of the violation according to the report, unless that is in the future.
pub(super) fn reported_at(received: &Received, now: i64) -> i64 {
    let age = received.age.and_then(|age| i64::try_from(age / 1000).ok());
    let before = now.saturating_sub(age.unwrap_or_default());
    received.report.date_time.filter(|at| (1..=now + DAY).contains(at)).unwrap_or(before)
}

/// The verdict on a report that was received at `now`, with its text for searches.
pub(super) fn judge(knowledge: &Knowledge, received: &Received, now: i64) -> Verdict {
    let chain = received.chain();
    let chain = chain.get(..MAX_NAMED).unwrap_or(chain);
    let names = names::searched(received.host.as_str(), &parsed(chain));
    Verdict { names, ..judge_report(knowledge, received, now) }
}

fn judge_report(knowledge: &Knowledge, received: &Received, now: i64) -> Verdict {
    if received.is_test {
        return Verdict::new(Finding::Test, "");
    }
    if received.format == Format::SmtpTls {
        return smtp(received);
    }
    let certificates = certificates(received);
    let pins: Vec<Pin> = match certificates.is_empty() {
        false => certificates.iter().map(|one| one.pin).collect(),
        true => received.served_pins.clone(),
    };
    let Some(leaf) = pins.first().copied() else {
        return Verdict::new(Finding::NoChain, "");
    };
    if have_different_leaves(received) {
        let text = "the served and the validated chain are not of one connection";
        return Verdict::new(Finding::Unverifiable, text);
    }
    if contradicts_itself(received) {
        return Verdict::new(Finding::PinsMatch, "");
    }
    let own = Ours::new(&knowledge.own, received);
    if own.own.is_compromised(leaf) {
        return Verdict::new(Finding::CompromisedKey, &format!("sha256/{leaf}"));
    }
    if own.is_ours(leaf) {
        return own.verdict(leaf);
    }
    if certificates.is_empty() {
        return without_certificates(&own, &pins);
    }
    with_certificates(knowledge, received, &own, &certificates, now)
}

/// Whether the verdict on a report needs signatures verified, whose number the author of a forged chain can choose.
pub(super) fn is_costly(knowledge: &Knowledge, received: &Received) -> bool {
    let certificates = certificates(received);
    let Some(leaf) = certificates.first() else { return false };
    let own = Ours::new(&knowledge.own, received);
    let names_a_ca = || certificates.iter().any(|one| knowledge.public.names_issuer_of(&one.der));
    let has_pinned = || certificates.iter().skip(1).any(|one| own.pins.contains(&one.pin));
    !own.is_ours(leaf.pin) && (names_a_ca() || has_pinned())
}

/// The certificates of a report, each once: first the validated chain, then other served certificates. The first is the
/// leaf: the client compared its validated chain, and a server may send its leaf at another place.
fn certificates(received: &Received) -> Vec<&report_reader::Certificate> {
    let (served, validated) = chains(received);
    let mut all: Vec<&report_reader::Certificate> = Vec::new();
    // Served certificates of a stranger must not push out the validated ones.
    for one in validated.iter().chain(served) {
        if all.iter().all(|known| known.der != one.der) {
            all.push(one);
        }
    }
    all
}

fn chains(received: &Received) -> (&[report_reader::Certificate], &[report_reader::Certificate]) {
    let report = &received.report;
    let (served, validated) = (report.served_chain.as_deref(), report.validated_chain.as_deref());
    (served.unwrap_or_default(), validated.unwrap_or_default())
}

/// Whether the leaf of the validated chain was not served: one connection cannot have two leaves.
fn have_different_leaves(received: &Received) -> bool {
    let (served, validated) = chains(received);
    validated.first().is_some_and(|leaf| {
        !served.is_empty() && served.iter().all(|served| served.der != leaf.der)
    })
}

/// Whether a validated key matches a pin that the client says it holds, so that there was no violation. With TrustKit
/// this is possible if the chain was invalid: results 2 to 5.
fn contradicts_itself(received: &Received) -> bool {
    if received.result.as_deref().is_some_and(|result| matches!(result, "2" | "3" | "4" | "5")) {
        return false;
    }
    let (_, validated) = chains(received);
    let known = &received.report.known_pins;
    validated.iter().any(|one| known.contains(&one.pin))
        || received.served_pins.iter().any(|pin| known.contains(pin))
}

/// Our keys, for the host of a report.
struct Ours<'a> {
    own: &'a Own,
    received: &'a Received,
    pins: Vec<Pin>,
}

impl<'a> Ours<'a> {
    fn new(own: &'a Own, received: &'a Received) -> Self {
        let pins = own.pins(&received.host).into_iter().map(|one| one.pin).collect();
        Self { own, received, pins }
    }

    /// Whether the key of a leaf is ours.
    fn is_ours(&self, leaf: Pin) -> bool {
        self.own.is_leaf(leaf) || self.pins.contains(&leaf)
    }

    /// The verdict for a refused key of ours. Anybody can send our chain with other pins, so the detail says whether we
    /// ever published the pins that the client says it holds.
    fn verdict(&self, pin: Pin) -> Verdict {
        let known = &self.received.report.known_pins;
        let held = match (known.is_empty(), self.own.origin_of(&self.received.host, known)) {
            (true, _) => "the client does not say which pins it holds".to_owned(),
            (false, Some(origin)) => format!("the client's pins are on record ({origin})"),
            (false, None) => "the client's pins are on no record of ours: an app that nobody \
                recorded, or a made-up report"
                .to_owned(),
        };
        Verdict::new(Finding::OwnKey, &format!("sha256/{pin}; {held}"))
    }

    /// The verdict for a chain through a pinned CA. Others have certificates of that CA too. If our leaf keys are not
    /// known, the certificate is most likely ours.
    fn pinned_ca(&self, pin: Pin) -> Verdict {
        match self.own.knows_leaves() {
            true => Verdict::new(Finding::PinnedCaOtherLeaf, &self.noted(&format!("sha256/{pin}"))),
            false => self.verdict(pin),
        }
    }

    /// A detail, preceded by a reason why the verdict may be wrong, if there is one.
    fn noted(&self, detail: &str) -> String {
        // The reason comes first, since a long detail is cut off.
        match (self.own.is_empty(), self.own.problems.is_empty()) {
            (true, true) => format!(
                "neither records nor policies are configured, so no key is known to be ours; {detail}"
            ),
            (_, false) => {
                format!("not all records could be read, so the key may be ours; {detail}")
            }
            (false, true) => detail.to_owned(),
        }
    }
}

/// The verdict for pins without certificates. They prove nothing, not even that a CA issued a certificate.
fn without_certificates(own: &Ours<'_>, pins: &[Pin]) -> Verdict {
    let above = pins.iter().skip(1);
    if let Some(pin) = above.copied().find(|pin| own.pins.contains(pin)) {
        return match own.own.knows_leaves() {
            true => {
                Verdict::new(Finding::UnknownKey, &format!("below a key that we pin, sha256/{pin}"))
            }
            false => own.verdict(pin),
        };
    }
    match pins.iter().find_map(|pin| ca_table::find(*pin)) {
        Some(ca) => {
            Verdict::new(Finding::UnknownKey, &format!("a key of {} is with it", ca.operator))
        }
        None => Verdict::new(Finding::UnknownKey, ""),
    }
}

fn with_certificates(
    knowledge: &Knowledge,
    received: &Received,
    own: &Ours<'_>,
    chain: &[&report_reader::Certificate],
    now: i64,
) -> Verdict {
    let der: Vec<&[u8]> = chain.iter().map(|one| &*one.der).collect();
    let parsed: Vec<Certificate> =
        der.iter().map_while(|der| Certificate::from_der(der).ok()).collect();
    let Some(leaf) = parsed.first() else {
        return Verdict::new(Finding::Unverifiable, "the leaf cannot be parsed");
    };
    let is_for = match &received.host {
        Host::Name(name) => leaf.is_for(name.as_str()),
        Host::Address(_) => true,
    };
    // The client's clock may be wrong and the date in the report forged. Neither must hide a certificate that is valid
    // now.
    let (at, between) = (reported_at(received, now), common_time(&parsed));
    let pinned = chain.iter().skip(1).find(|one| own.pins.contains(&one.pin));
    if let Some(pinned) = pinned {
        if trust::is_issued_below(&der, &pinned.der, &[at, now, between]) {
            return match is_for {
                true => own.pinned_ca(pinned.pin),
                false => Verdict::new(Finding::OtherName, leaf.subject()),
            };
        }
    }
    let issuer = leaf.issuer();
    // One time is enough if the report was received within an hour of the violation.
    let times: &[i64] = if now.saturating_sub(at).abs() < 3600 { &[now] } else { &[at, now] };
    match knowledge.public.judge(&der, times, between) {
        Led::ToPublic if is_for => {
            let detail = format!("valid until {}; issued by {issuer}", leaf.not_after_text());
            Verdict::new(Finding::PublicCa, &own.noted(&detail))
        }
        Led::ToPublic => Verdict::new(Finding::OtherName, leaf.subject()),
        Led::ToPublicNotThen => {
            let detail = format!("valid until {}; issued by {issuer}", leaf.not_after_text());
            Verdict::new(Finding::NotValidThen, &detail)
        }
        Led::Elsewhere | Led::Broken => private(knowledge, received, chain, &parsed),
    }
}

/// A time at which all certificates are valid, if there is one; else a time at which the leaf is valid.
fn common_time(parsed: &[Certificate]) -> i64 {
    let middle = |from: i64, to: i64| from.saturating_add(to.saturating_sub(from) / 2);
    let from = parsed.iter().map(Certificate::not_before).max().unwrap_or_default();
    let to = parsed.iter().map(Certificate::not_after).min().unwrap_or_default();
    match parsed.first() {
        Some(leaf) if from > to => middle(leaf.not_before(), leaf.not_after()),
        _ => middle(from, to),
    }
}

/// The verdict for a chain that leads to no public CA.
fn private(
    knowledge: &Knowledge,
    received: &Received,
    chain: &[&report_reader::Certificate],
    parsed: &[Certificate],
) -> Verdict {
    let names: Vec<&str> = parsed.iter().map(Certificate::issuer).collect();
    let pins = parsed.iter().filter_map(Certificate::pin).map(|pin| format!("sha256/{pin}"));
    let pins: Vec<String> = pins.collect();
    if let Some(root) = knowledge.private.find(&names, &pins) {
        let detail = format!("{} ({})", root.product, root.kind);
        return Verdict::new(Finding::KnownPrivateRoot, &detail);
    }
    let top = names.last().copied().unwrap_or_default();
    // Result 4 is TSKTrustEvaluationFailedUserDefinedTrustAnchor.
    if received.format == Format::TrustKit && received.result.as_deref() == Some("4") {
        return Verdict::new(Finding::UserAnchor, top);
    }
    // The chain names a public CA: an intermediate is missing, this machine does not trust the CA, or the name is
    // forged.
    let names_public = chain.iter().any(|one| knowledge.public.names_issuer_of(&one.der));
    let has_public = chain.iter().skip(1).any(|one| ca_table::find(one.pin).is_some());
    let operator = || {
        let mut operators = ca_table::keys().map(|(_, key)| key.operator);
        operators.any(|operator| names.iter().any(|name| name.contains(operator)))
    };
    match names_public || has_public || operator() {
        true => Verdict::new(Finding::Unverifiable, top),
        false => Verdict::new(Finding::UnknownPrivateRoot, top),
    }
}

/// The certificates of a chain, up to the first that the core cannot parse.
#[must_use]
pub fn parsed(chain: &[report_reader::Certificate]) -> Vec<Certificate> {
    chain.iter().map_while(|one| Certificate::from_der(&one.der).ok()).collect()
}

fn smtp(received: &Received) -> Verdict {
    let result = received.result.as_deref().unwrap_or_default();
    let policy = received.policy.as_deref().unwrap_or_default();
    let finding = match (result, policy) {
        (SUCCESS, _) => Finding::SmtpSuccess,
        ("starttls-not-supported", _) => Finding::SmtpTls,
        ("tlsa-invalid" | "dnssec-invalid" | "dane-required", _) => Finding::SmtpDane,
        (result, _) if result.starts_with("sts-") => Finding::SmtpSts,
        (_, "tlsa") => Finding::SmtpDane,
        (_, "sts") => Finding::SmtpSts,
        _ => Finding::SmtpTls,
    };
    let server = received.server.as_deref().unwrap_or_default();
    let detail = [result, server].into_iter().filter(|part| !part.is_empty());
    Verdict::new(finding, &detail.collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_detail_is_cut_off() {
        let long = Verdict::new(Finding::UserAnchor, &"\u{e9}".repeat(100_000));
        assert_eq!(long.detail.chars().count(), MAX_DETAIL + 3);
    }
}
