//! The texts of findings about TLSA records.

use std::collections::BTreeSet;

use super::Records;
use super::messages::MAX_DETAILS;
use crate::date;
use crate::finding::Text;
use crate::path::Chain;
use crate::published::state::Live;
use crate::published::tlsa::{Combination, matching, usage};
use crate::published::{Rrset, Tlsa};

/// How many digits of a record's data a line has.
const MAX_DIGITS: usize = 128;

/// The text for records of which none matches: which clients are affected, and for how long.
pub(super) fn unmet(found: &[Live<'_>], chain: &str, until: &str) -> String {
    format!(
        "no TLSA record of {} matches {chain}; DANE clients would refuse the certificate, {until}",
        owners(found)
    )
}

fn owners(found: &[Live<'_>]) -> String {
    let owners: BTreeSet<String> =
        found.iter().filter_map(|live| live.record.body.owner()).collect();
    owners.into_iter().take(MAX_DETAILS).collect::<Vec<_>>().join(", ")
}

/// The actions that lock no DANE clients out, best first; none if these clients hold no TLSA
/// records.
pub(super) fn advice(records: &Records, found: &[Live<'_>], chains: &[&Chain]) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for live in found {
        let body = &live.record.body;
        let Some((set, owner)) = body.tlsa.as_deref().zip(body.owner()) else { continue };
        lines.push(format!("load a certificate that a TLSA record of {owner} matches"));
        let kinds: BTreeSet<Combination> =
            set.counted().into_iter().map(Tlsa::combination).collect();
        let new = new_records(&kinds, chains).into_iter();
        lines.extend(new.map(|record| {
            format!(
                "for a new certificate: publish its record now, beside the others: {owner}. IN TLSA {}",
                text_of(&record)
            )
        }));
        lines.push(format!(
            "then import the zone: hpkp published {} import --format tlsa --origin ORIGIN ZONE",
            records.options()
        ));
        lines.push(format!(
            "then, and {} before the certificate changes, end the earlier records: hpkp published {} end \
             {} --why REASON",
            waiting(set),
            records.options(),
            live.record.id
        ));
        if set.names_leaf_certificate() {
            lines.push(format!(
                "records of {owner} that name the whole certificate (selector 0) change with each renewal; \
                 use \"3 1 1\", which names the key"
            ));
        }
    }
    let mut seen = BTreeSet::new();
    lines.retain(|line| seen.insert(line.clone()));
    lines.truncate(2 * MAX_DETAILS);
    lines
}

/// How long to wait after the zone was changed. Clients hold records for the TTL, and a server of the zone may send
/// the old records for up to a TTL after the change (RFC 7671 section 8.1).
fn waiting(set: &Rrset) -> String {
    match set.wait() {
        Some(wait) => format!("{} (twice the TTL)", date::duration(wait)),
        None => "twice the TTL".to_owned(),
    }
}

/// New records of these kinds for the chains of this configuration. Clients support different kinds, so each kind
/// needs one (RFC 7671 section 8).
fn new_records(kinds: &BTreeSet<Combination>, chains: &[&Chain]) -> BTreeSet<Tlsa> {
    let record = |(kind, chain): (&Combination, &&Chain)| {
        let at = match kind.0 {
            usage::PKIX_EE | usage::DANE_EE => 0,
            _ => 1,
        };
        Some(Tlsa::of(*kind, chain.certificates().get(at)?))
    };
    let pairs = kinds.iter().flat_map(|kind| chains.iter().map(move |chain| (kind, chain)));
    pairs.filter_map(record).collect()
}

/// A record in zone file format, or a description if it contains a whole certificate or key.
fn text_of(record: &Tlsa) -> String {
    let Tlsa { usage, selector, matching: kind, .. } = record;
    match *kind {
        matching::FULL => {
            let whole = if *selector == 0 { "certificate" } else { "public key" };
            format!("{usage} {selector} {kind} with the whole {whole} (DER, in hexadecimal digits)")
        }
        _ => record.to_string(),
    }
}

/// The records that clients hold, one line each.
pub(super) fn held(set: &Rrset) -> Vec<String> {
    let counted = set.counted();
    let line = |record: &Tlsa| {
        let mut digits = record.digits();
        if digits.len() > MAX_DIGITS {
            digits.truncate(MAX_DIGITS);
            digits.push_str("...");
        }
        let (usage, selector, kind) = record.combination();
        let note = match counted.contains(&record) {
            true => "",
            false if record.is_usable() => " (a stronger digest counts in its place)",
            false => " (clients cannot use it)",
        };
        format!("TLSA {usage} {selector} {kind} {digits}{note}")
    };
    set.records().iter().take(MAX_DETAILS).map(line).collect()
}

/// The text for kinds of records without a match, although another kind of the same owner matches.
pub(super) fn combination_unmet(
    live: &Live<'_>,
    unmet: &BTreeSet<Combination>,
    chains: &[&Chain],
) -> Text {
    let owner = live.record.body.owner().unwrap_or_default();
    let kinds: Vec<String> = unmet.iter().map(|(u, s, m)| format!("{u} {s} {m}")).collect();
    let new = new_records(unmet, chains).into_iter();
    let mut text = Text::new(format!(
        "no TLSA record of {owner} of the kind {} matches what this server presents, though another kind \
         matches; a client that supports no other kind refuses the certificate (RFC 7671 section 8)",
        kinds.join(", ")
    ));
    for record in new {
        text = text.fix(format!("publish: {owner}. IN TLSA {}", text_of(&record)));
    }
    text.fix("or remove all records of that kind").details(held_by(live))
}

/// The text for records that no client can use.
pub(super) fn not_usable(live: &Live<'_>) -> Text {
    let owner = live.record.body.owner().unwrap_or_default();
    Text::new(format!(
        "no client can use a TLSA record of {owner}: the usage, the selector or the matching type is \
         unknown, or the data is invalid; clients connect as if there were none, or not at all"
    ))
    .fix("publish records that clients can use, such as \"3 1 1\"")
    .details(held_by(live))
}

fn held_by(live: &Live<'_>) -> Vec<String> {
    let source = format!("(recorded by {}, id {})", live.record.writer, live.record.id);
    let records = live.record.body.tlsa.as_deref().map(held).unwrap_or_default().into_iter();
    records.map(|record| format!("held: {record} {source}")).collect()
}
