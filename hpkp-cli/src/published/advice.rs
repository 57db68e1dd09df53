//! The lines of `hpkp published why --cert` about locked-out clients, and what to do.

use std::collections::BTreeSet;
use std::path::Path;

use hpkp_core::date;
use hpkp_core::pin::Pin;
use hpkp_core::published::state::{Record, Retention};
use hpkp_core::published::{Lifetime, Origin, Published};
use hpkp_core::text::{Excerpt, ShellWord, listed};
use hpkp_server::file;

use super::store::{Store, absolute};
use super::view;
use crate::output;
use crate::time::duration;

/// The most keys in the advice. Further keys are in the records.
const NAMED_KEYS: usize = 4;

/// The clients that hold a record, its expiry, and its pins.
pub(super) fn held(heading: &str, store: &Store, record: &Record<Published>) -> Vec<String> {
    let body = &record.body;
    let retention = store.state.retention(record, &store.clock);
    let name = body.matching.pattern(&body.host);
    let whom = view::whom(&name, body.include_subdomains, body.port);
    let who = match (&body.origin, body.lifetime) {
        (Origin::Header, _) | (_, Lifetime::MaxAge(_)) => {
            let since = date::format(body.since.unwrap_or(record.at));
            match store.state.end(record.id).map(|end| date::format(end.at)) {
                Some(end) => format!("clients that visited {whom} between {since} and {end}"),
                None => format!("clients that visited {whom} since {since}"),
            }
        }
        (origin, _) => format!("clients of {} for {whom}", Excerpt::new(origin.as_str())),
    };
    let until = match retention {
        Some(Retention::Until(time)) => format!("until {}", date::format(time)),
        Some(Retention::WhilePublished(after)) => {
            format!("until {} after {} stops sending these pins", duration(after), record.writer)
        }
        Some(Retention::Indefinite) | None if body.tlsa.is_some() => {
            "these records do not expire".to_owned()
        }
        Some(Retention::Indefinite) | None => "these pins do not expire".to_owned(),
    };
    let heading = output::accent(output::BAD, &format!("{heading}:"));
    let compared = match body.owner().filter(|_| body.tlsa.is_some()) {
        Some(owner) => format!("the TLSA records of {owner}"),
        None => view::compared(body.scope).to_owned(),
    };
    let mut lines = vec![
        format!("{heading} {who}; {until}"),
        format!(
            "    record {}, written by {}; clients compare {compared}",
            record.id, record.writer
        ),
    ];
    if let Some(set) = &body.tlsa {
        lines.extend(
            set.records().iter().map(|one| format!("    TLSA {}", Excerpt::new(&one.to_string()))),
        );
        return lines;
    }
    lines.extend(body.pins.iter().map(|pin| match store.state.is_compromised(*pin) {
        true => format!("    pin sha256/{pin} (compromised)"),
        false => format!("    pin sha256/{pin}"),
    }));
    lines
}

/// The possible actions: the safe ones first, the one that locks out clients last.
pub(super) fn remedies(
    store: &Store,
    refusing: &[&Record<Published>],
    directory: &str,
) -> Vec<String> {
    if refusing.is_empty() {
        return Vec::new();
    }
    let mut lines = find_key(store, refusing, directory);
    lines.extend(later(store, refusing));
    let ids: BTreeSet<String> = refusing.iter().map(|record| record.id.to_string()).collect();
    let ids = ids.into_iter().collect::<Vec<_>>().join(" ");
    lines.push("last resort, locks out those clients:".to_owned());
    lines.push(format!("    {}", store.command(&format!("waive {ids} --who NAME --why REASON"))));
    lines
}

/// The directory in which earlier keys of a certificate probably are, if the certificate's path shows it.
pub(super) fn directory_of_keys(certificate: Option<&String>) -> String {
    let file = certificate.map_or(Path::new(""), Path::new);
    let named = std::path::absolute(file).ok();
    let found = named.as_deref().and_then(Path::to_str).and_then(file::directory_of_keys);
    found.unwrap_or_else(|| absolute(file.parent().unwrap_or(file)))
}

/// The advice to load a certificate with a key that clients hold.
fn find_key(store: &Store, refusing: &[&Record<Published>], directory: &str) -> Vec<String> {
    let all: BTreeSet<Pin> = refusing.iter().flat_map(|one| &one.body.pins).copied().collect();
    // A key that all these clients hold is the best choice.
    let in_all = |pin: &Pin| refusing.iter().all(|one| one.body.pins.contains(pin));
    let sound = all.iter().filter(|pin| !store.state.is_compromised(**pin)).copied();
    let mut sound: Vec<Pin> = sound.collect();
    if all.is_empty() {
        return vec!["to fix: load a certificate that these TLSA records match".to_owned()];
    }
    // Among these, the key in use comes first, because a backup key is probably stored elsewhere.
    let hosts = refusing.iter().map(|record| &record.body.host).collect();
    let in_use = store.state.presented_keys(&hosts);
    sound.sort_by_key(|pin| (!in_all(pin), !in_use.contains(pin), *pin));
    if sound.is_empty() {
        return vec![
            "to fix: all pinned keys are compromised; there is no key to go back to".to_owned(),
        ];
    }
    let mut lines =
        vec!["to fix: load a certificate for a pinned key; find the private key with:".to_owned()];
    lines.extend(
        sound
            .iter()
            .take(NAMED_KEYS)
            .map(|pin| format!("    hpkp find sha256/{pin} {}", ShellWord::new(directory))),
    );
    if sound.len() > NAMED_KEYS {
        lines.push(format!("    and {} more pins, named above", sound.len() - NAMED_KEYS));
    }
    lines
}

/// The advice to change the key after clients know the new one.
pub(crate) fn later(store: &Store, refusing: &[&Record<Published>]) -> Vec<String> {
    let (mut until, mut after, mut open, mut zone) = (None, None, Vec::new(), Vec::new());
    let mut writers = BTreeSet::new();
    for record in refusing {
        match store.state.retention(record, &store.clock) {
            Some(Retention::Until(time)) => until = until.max(Some(time)),
            Some(Retention::WhilePublished(seconds)) => {
                after = after.max(Some(seconds));
                writers.insert(record.writer.as_str());
            }
            Some(Retention::Indefinite) | None if record.body.tlsa.is_some() => {
                zone.push(record.id.to_string());
            }
            Some(Retention::Indefinite) | None => open.push(record.id.to_string()),
        }
    }
    let mut lines = Vec::new();
    let app = "to change the key: the pins of apps do not expire; release an app with the new pin, and when \
               the old release is gone run:";
    let dns = "to change the certificate: publish its TLSA records beside these and import the zone; then run \
               this, and change the certificate twice the TTL later:";
    for (what, mut ids) in [(app, open), (dns, zone)].into_iter().filter(|(_, ids)| !ids.is_empty())
    {
        ids.sort();
        lines.push(what.to_owned());
        let end = format!("end {} --why REASON", ids.join(" "));
        lines.push(format!("    {}", store.command(&end)));
    }
    // In a fleet, each server that sends pins must send the new one.
    let place = match writers.len() {
        0 | 1 => String::new(),
        _ => format!(" on {}", listed(&writers)),
    };
    // Pins that are still sent may expire earlier than pins that were sent before.
    let outlasts = |after: &i64| Some(store.now.saturating_add(*after)) >= until;
    match (after.filter(outlasts), until) {
        // The new pin is already published, or no pin is published.
        (None, Some(time)) if after.is_none() => lines.push(format!(
            "to change the key: wait until the last of these pins expires on {}; the certificate may change then",
            date::format(time)
        )),
        (Some(after), _) => lines.push(format!(
            "to change the key: publish the new pin now{place}; the certificate may change {} after that",
            duration(after)
        )),
        (None, Some(time)) => lines.push(format!(
            "to change the key: publish the new pin now{place}; the certificate may change on {}",
            date::format(time)
        )),
        (None, None) => {}
    }
    lines
}
