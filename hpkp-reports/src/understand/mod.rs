//! Judges reports with our keys, the public CAs, and the known private roots.
//!
//! Nothing in a report is authenticated, so a verdict says what the report would mean if it were true.

pub mod alarm;
pub mod client;
pub mod finding;
mod knowledge;
pub mod own;
pub mod roots;
pub mod trust;
mod verdict;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, RwLock};

use hpkp_core::ua::received::{Format, Received};
use sha2::{Digest as _, Sha256};

use crate::configuration::Mode;
use crate::time::DAY;
use verdict::{is_costly, judge, reported_at};

pub use knowledge::Knowledge;
pub use verdict::{Verdict, parsed};

/// The most verdicts in the cache.
const MAX_CACHE: usize = 4096;

/// The judge, with its data and a cache of verdicts.
#[derive(Debug)]
pub struct Judge {
    knowledge: RwLock<Arc<Knowledge>>,
    cache: Mutex<HashMap<[u8; 32], Verdict>>,
}

impl Judge {
    /// A judge with this data.
    #[must_use]
    pub fn new(knowledge: Knowledge) -> Self {
        Self { knowledge: RwLock::new(Arc::new(knowledge)), cache: Mutex::default() }
    }

    /// The data of the judge.
    #[must_use]
    pub fn knowledge(&self) -> Arc<Knowledge> {
        match self.knowledge.read() {
            Ok(knowledge) => Arc::clone(&knowledge),
            Err(poisoned) => Arc::clone(&poisoned.into_inner()),
        }
    }

    /// Replaces the data of the judge, and clears the cache.
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

    /// The verdict on a report that was received at `now`.
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

    /// How many verdicts on these reports are not in the cache and need signatures verified.
    #[must_use]
    pub fn costly<'a>(&self, reports: impl Iterator<Item = &'a Received>, now: i64) -> usize {
        let mut keys = HashSet::new();
        let with_chains = reports.filter(|report| !report.chain().is_empty());
        for report in with_chains {
            let key = cache_key(report, now);
            let is_known = self.cache.lock().is_ok_and(|cache| cache.contains_key(&key));
            if !is_known && is_costly(&self.knowledge(), report) {
                keys.insert(key);
            }
        }
        keys.len()
    }
}

/// A hash of all parts of a report on which its verdict depends.
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
    add(&(reported_at(received, now) / DAY).to_be_bytes());
    add(&(now / DAY).to_be_bytes());
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

/// The fingerprint of a chain in hexadecimal digits: a hash of the certificates, else of the pins, else of what failed.
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
    hash.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// How the client treats the violation, if the report says it.
#[must_use]
pub fn mode(received: &Received) -> Option<Mode> {
    let of = |enforced| if enforced { Mode::Enforced } else { Mode::ReportOnly };
    if let Some(enforced) = received.enforced {
        return Some(of(enforced));
    }
    if received.format != Format::Rfc7469 {
        return None;
    }
    // A report-only policy has no expiry, but the format requires one: Chromium used the time of the report.
    let (at, expires) = (received.report.date_time?, received.report.effective_expiration_date?);
    Some(of(expires > at))
}
