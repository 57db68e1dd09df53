//! What the next certificate renewal means for the pins of a header.

use std::collections::BTreeSet;

use hpkp_core::date;
use hpkp_core::finding::Code;
use hpkp_core::pin::Pin;

use super::chain::Judged;
use super::findings::Found;
use super::report::Renewal;
use crate::ca::{CaKey, CaTable};

/// The effect of the next renewal for one header and the presented chains, and a finding if the renewal may
/// lock clients out although nobody changes the pins.
pub(super) fn next(
    pins: Option<&[Pin]>,
    chains: &[&Judged],
    table: &CaTable,
) -> Option<(Renewal, Option<Found>)> {
    let expiry = chains.iter().map(|one| one.chain.leaf().not_after()).min()?;
    let not_after = date::format(expiry);
    let Some(pins) = pins else {
        let text = format!(
            "the certificate expires at {not_after}; no header pins a key: as far as headers are concerned, \
             any certificate may follow"
        );
        let renewal = Renewal { outcome: "no-pins", not_after, text, missing: Vec::new() };
        return Some((renewal, None));
    };
    // The worst result of all chains counts.
    let answers = chains.iter().map(|one| of_chain(pins, one, table, &not_after));
    answers.max_by_key(|(renewal, _)| gravity(renewal.outcome))
}

/// Ranks the outcomes: the worse one has the larger number.
pub(super) fn gravity(outcome: &str) -> u8 {
    match outcome {
        "safe" => 0,
        "same-key" => 1,
        "depends" => 2,
        _ => 3,
    }
}

fn of_chain(
    pins: &[Pin],
    judged: &Judged,
    table: &CaTable,
    not_after: &str,
) -> (Renewal, Option<Found>) {
    let is_pinned = |pin: Option<Pin>| pin.is_some_and(|pin| pins.contains(&pin));
    let answer = |outcome, text: String, missing| Renewal {
        outcome,
        not_after: not_after.to_owned(),
        text: format!("the certificate expires at {not_after}; {text}"),
        missing,
    };
    let leaf = is_pinned(judged.chain.leaf().pin());
    let above = || judged.path.iter().skip(1).filter(|node| node.on_path);
    let is_root = above().any(|node| node.anchor.is_some() && is_pinned(node.certificate.pin()));
    if is_root {
        let text = "a trusted root is pinned: a renewal by the same CA is safe with any key as long as the \
                    chain leads to this root";
        return (answer("safe", text.to_owned(), Vec::new()), None);
    }
    let pinned: Vec<Pin> = above()
        .filter(|node| node.anchor.is_none())
        .filter_map(|node| node.certificate.pin())
        .filter(|pin| pins.contains(pin))
        .collect();
    if pinned.is_empty() {
        let text = match leaf {
            true => {
                "only its own key is pinned: renew with the same key (certbot renew --reuse-key), or \
                     with a key whose backup pin clients hold"
            }
            false => {
                "no key of this chain is pinned: clients that hold these pins refuse it already"
            }
        };
        let outcome = if leaf { "same-key" } else { "may-lock-out" };
        return (answer(outcome, text.to_owned(), Vec::new()), None);
    }
    let known: Vec<&CaKey> = pinned.iter().filter_map(|pin| table.find(*pin)).collect();
    let Some(key) = known.iter().find(|key| table.rotation(key).is_some()) else {
        let text = "an intermediate is pinned: the renewal is safe if the CA issues from the same \
                    intermediate, which hpkp does not know";
        return (
            answer(if leaf { "same-key" } else { "depends" }, text.to_owned(), Vec::new()),
            None,
        );
    };
    in_rotation(key, pins, leaf, table, answer)
}

/// The result if the CA issues from one of several intermediates.
fn in_rotation(
    key: &CaKey,
    pins: &[Pin],
    leaf: bool,
    table: &CaTable,
    answer: impl Fn(&'static str, String, Vec<String>) -> Renewal,
) -> (Renewal, Option<Found>) {
    let pinned: BTreeSet<String> = pins.iter().map(|pin| format!("sha256/{pin}")).collect();
    let missing: Vec<&CaKey> =
        table.siblings(key).filter(|other| !pinned.contains(&other.pin)).collect();
    let retired = if key.status.may_issue() { "" } else { ", which is retired" };
    let complete = table.rotation(key).is_some_and(|rotation| rotation.complete);
    if missing.is_empty() {
        let outcome = if complete { "safe" } else { "depends" };
        let text = format!(
            "the pinned intermediate {} is in rotation, and all keys that are known to take its place are \
             pinned too",
            key.name
        );
        return (answer(outcome, text, Vec::new()), None);
    }
    let names: Vec<&str> = missing.iter().map(|other| other.name.as_str()).collect();
    let names = names.join(", ");
    let pins: Vec<String> = missing.iter().map(|other| other.pin.clone()).collect();
    if leaf {
        let text = format!(
            "its own key and the intermediate {}{retired} are pinned: renew with the same key, since the \
             CA may issue from {names}, which are not pinned",
            key.name
        );
        return (answer("same-key", text, pins), None);
    }
    let text = format!(
        "the pinned intermediate {}{retired} is in rotation: the CA may issue the next certificate from \
         {names}, which are not pinned",
        key.name
    );
    let found = Found::new(
        Code::IntermediateInRotation,
        format!("{text}; clients that hold the pins then refuse the connection"),
    )
    .fix("pin the server's own key and a backup key, and wait for max-age before the next renewal")
    .details(missing.iter().map(|other| {
        format!(
            "not pinned: {}  {} ({}), {}",
            other.pin,
            other.name,
            other.ca,
            other.status.as_str()
        )
    }));
    (answer("may-lock-out", text, pins), Some(found))
}
