//! Whether the renewals of a host keep its key, from the operator's declaration or from the records of this server.

use std::collections::BTreeSet;

use super::checker::Checker;
use super::input::RenewalKey;
use crate::certificate::Certificate;
use crate::pin::Pin;
use crate::published::state::DRAINING;

/// What is known of the renewals of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Renewals {
    /// They keep the key.
    SameKey,
    /// They make a new one.
    NewKey {
        /// Seconds from one to the next.
        interval: i64,
        /// How many new keys the records have whose pins were not published before; none if the operator declared
        /// it.
        recorded: Option<usize>,
    },
    /// Neither the operator nor the records say it.
    Unknown,
}

/// A key of a host that was on no record before.
struct NewKey {
    at: i64,
    pin: Pin,
    is_published: bool,
}

impl Checker<'_> {
    /// What is known of the renewals of a host that presents `leaf`. The operator's declaration overrides the
    /// records.
    pub(super) fn renewals(&self, host: usize, leaf: &Certificate) -> Renewals {
        match self.deployment.renewal_keys.get(&host) {
            Some(RenewalKey::Same) => Renewals::SameKey,
            Some(RenewalKey::New) => {
                Renewals::NewKey { interval: usual_interval(leaf), recorded: None }
            }
            None => self.recorded_renewals(host, leaf),
        }
    }

    fn recorded_renewals(&self, host: usize, leaf: &Certificate) -> Renewals {
        let keys = self.recorded_keys(host);
        // A certificate that is younger than the record of its key is a renewal that kept the key. The margin is
        // for certificates that are dated back by an hour, or tried out for a while.
        let is_kept = |key: &NewKey| {
            Some(key.pin) == leaf.pin() && leaf.not_before() > key.at.saturating_add(DRAINING)
        };
        if keys.iter().any(is_kept) {
            return Renewals::SameKey;
        }
        // Keys that replaced each other within a day count as one, the last: somebody has tried them out.
        let mut unannounced: Vec<i64> = Vec::new();
        for key in keys.iter().skip(1).filter(|key| !key.is_published) {
            match unannounced.last_mut() {
                Some(last) if key.at <= last.saturating_add(DRAINING) => *last = key.at,
                _ => unannounced.push(key.at),
            }
        }
        let [.., before, last] = unannounced[..] else { return Renewals::Unknown };
        Renewals::NewKey { interval: last - before, recorded: Some(unannounced.len()) }
    }

    /// The keys that this server has presented for a host according to its records, oldest first.
    fn recorded_keys(&self, host: usize) -> Vec<NewKey> {
        let records = self.deployment.records.as_ref();
        let writer = records.and_then(|records| records.writer.as_ref());
        let (Some(records), Some(writer), Some(published)) = (records, writer, self.published)
        else {
            return Vec::new();
        };
        let mut presents: Vec<_> = published
            .routing
            .names(host)
            .keys()
            .flat_map(|(name, matching)| {
                let of_name = published.presents_by_host.get(name.as_str()).into_iter().flatten();
                of_name.filter(move |record| record.body.matching == *matching)
            })
            .filter(|record| record.writer == *writer && !record.body.aside)
            .collect();
        presents.sort_by_key(|record| record.seq);
        let mut known = BTreeSet::new();
        let mut keys = Vec::new();
        for record in presents {
            for certificate in &record.body.certificates {
                let Some(Some(pin)) = certificate.served.first().copied() else { continue };
                if known.insert(pin) {
                    let first = published.first_published(&records.state, host, pin);
                    let is_published = first.is_some_and(|first| first < record.at);
                    keys.push(NewKey { at: record.at, pin, is_published });
                }
            }
        }
        keys
    }
}

/// After how many seconds ACME clients renew a certificate by default: after two thirds of its lifetime, or half of
/// it if the lifetime is ten days or less.
fn usual_interval(leaf: &Certificate) -> i64 {
    const TEN_DAYS: i64 = 10 * 86_400;
    let lifetime = leaf.not_after().saturating_sub(leaf.not_before()).max(0);
    if lifetime <= TEN_DAYS { lifetime / 2 } else { lifetime / 3 * 2 }
}
