//! The words for findings about TLSA records.

use std::collections::BTreeSet;

use super::records::Records;
use super::report::MAX_DETAILS;
use crate::path::Chain;
use crate::published::state::Live;
use crate::published::tlsa::{Combination, matching, usage};
use crate::published::{Rrset, Tlsa};
use crate::text::ShellWord;

type Text = (String, Vec<String>);

/// How many digits of a record's data a line has.
const MAX_DIGITS: usize = 128;

/// What is wrong where no record matches: of which clients, and for how long.
pub(super) fn unmet(found: &[Live<'_>], whose: &str, until: &str) -> String {
    format!(
        "no TLSA record of {} matches {whose}; DANE clients would refuse it, {until}. Load a certificate \
         that a record matches; for a new one publish its record first, wait until no client holds the \
         old records alone, and change the certificate afterwards",
        owners(found)
    )
}

fn owners(found: &[Live<'_>]) -> String {
    let owners: BTreeSet<String> =
        found.iter().filter_map(|live| live.record.said.owner()).collect();
    owners.into_iter().take(MAX_DETAILS).collect::<Vec<_>>().join(", ")
}

/// What to publish before the certificates are loaded.
pub(super) fn advice(records: &Records, found: &[Live<'_>], chains: &[&Chain]) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for live in found {
        let Some((set, owner)) = live.record.said.tlsa.as_deref().zip(live.record.said.owner())
        else {
            continue;
        };
        let kinds: BTreeSet<Combination> =
            set.counted().into_iter().map(Tlsa::combination).collect();
        if set.names_leaf_certificate() {
            lines.push(format!(
                "records of {owner} name the whole certificate (selector 0), which changes with each \
                 renewal even where the key stays; \"3 1 1\" names the key"
            ));
        }
        let new = new_records(&kinds, chains).into_iter();
        lines.extend(
            new.map(|record| format!("publish first: {owner}. IN TLSA {}", shown(&record))),
        );
        lines.push(format!(
            "beside the records that are there; import the zone: hpkp published -d {} import --format tlsa \
             --origin ORIGIN ZONE; end the set that is on record (its id is below), and load the \
             certificate {} later",
            ShellWord::new(&records.directory),
            waiting(set)
        ));
    }
    let mut seen = BTreeSet::new();
    lines.retain(|line| seen.insert(line.clone()));
    lines.truncate(2 * MAX_DETAILS);
    lines
}

fn waiting(set: &Rrset) -> String {
    match set.wait() {
        Some(wait) if wait > 0 && wait % 3_600 == 0 => {
            format!("{} hours (twice their time to live)", wait / 3_600)
        }
        Some(wait) => format!("{wait} seconds (twice their time to live)"),
        None => "twice their time to live".to_owned(),
    }
}

/// The records of these kinds for what is going to be presented: clients support different kinds, so each
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

/// As a zone has it; of a whole certificate or key what it is.
fn shown(record: &Tlsa) -> String {
    let Tlsa { usage, selector, matching: kind, .. } = record;
    match *kind {
        matching::FULL => {
            let whole = if *selector == 0 { "certificate" } else { "public key" };
            format!("{usage} {selector} {kind} and the whole {whole} in DER, in hexadecimal digits")
        }
        _ => record.to_string(),
    }
}

/// What clients hold, a line each.
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
        format!("held: TLSA {usage} {selector} {kind} {digits}{note}")
    };
    set.records().iter().take(MAX_DETAILS).map(line).collect()
}

/// Of the records of one owner, kinds that nothing matches though another kind has a match.
pub(super) fn combination_unmet(
    live: &Live<'_>,
    unmet: &BTreeSet<Combination>,
    chains: &[&Chain],
) -> Text {
    let owner = live.record.said.owner().unwrap_or_default();
    let kinds: Vec<String> = unmet.iter().map(|(u, s, m)| format!("{u} {s} {m}")).collect();
    let summary = format!(
        "of the TLSA records of {owner} none of the kind {} matches what this server presents, though \
         another kind does; a client that supports no other kind refuses it (RFC 7671 section 8). \
         Publish a record of each kind that is there, or take that kind out",
        kinds.join(", ")
    );
    let new = new_records(unmet, chains).into_iter();
    let mut details: Vec<String> =
        new.map(|record| format!("publish: {owner}. IN TLSA {}", shown(&record))).collect();
    details.extend(live.record.said.tlsa.as_deref().map(held).unwrap_or_default());
    details.push(format!("told by {}, event {}", live.record.writer, live.record.id));
    (summary, details)
}

/// Records that no client can use.
pub(super) fn not_usable(live: &Live<'_>) -> Text {
    let owner = live.record.said.owner().unwrap_or_default();
    let summary = format!(
        "no client can use any of the TLSA records of {owner}: the usage, the selector or the matching \
         type is unknown, or the data have a wrong length. Clients go on as if there were none, or send \
         nothing; publish records that can be used"
    );
    let mut details = live.record.said.tlsa.as_deref().map(held).unwrap_or_default();
    details.push(format!("told by {}, event {}", live.record.writer, live.record.id));
    (summary, details)
}
