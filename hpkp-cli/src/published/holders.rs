//! Finds the records that contain a pin of a key, for `hpkp key drill`.

use hpkp_core::pin::Pin;
use hpkp_core::published::Published;
use hpkp_core::published::tlsa::{matching, selector};
use openssl::sha::sha512;
use serde_json::Value;

use super::store::Store;
use super::view::PublishedView;
use crate::failure::Failure;

/// The records with a pin of one key.
#[derive(Debug, Default)]
pub(crate) struct Holders {
    /// Records of pins that clients may still hold.
    pub(crate) held: Vec<Holder>,
    /// Records of pins that have expired.
    pub(crate) expired: Vec<Holder>,
    /// The number of all records of pins that clients may still hold.
    pub(crate) all: usize,
}

/// A record.
#[derive(Debug)]
pub(crate) struct Holder {
    pub(crate) host: String,
    /// The record as `hpkp published list` prints it.
    pub(crate) line: String,
    pub(crate) view: Value,
}

/// The records with a pin of the key with this `SubjectPublicKeyInfo`.
///
/// # Errors
/// The records cannot be read.
pub(crate) fn of_key(directories: &[String], spki: &[u8]) -> Result<Holders, Failure> {
    let store = Store::open(directories)?;
    let pin = Pin::of_spki(spki);
    let mut holders = Holders::default();
    let mut records: Vec<_> = store.state.published().collect();
    records.sort_by_key(|record| (&record.body.host, record.at, record.id));
    for record in records {
        let retention = store.state.retention(record, &store.clock);
        let is_held = retention.is_some_and(|retention| retention.holds(store.now));
        holders.all += usize::from(is_held);
        if !has(&record.body, spki, pin) {
            continue;
        }
        let view = PublishedView::new(&store, record);
        let host = record.body.matching.pattern(&record.body.host);
        let holder = Holder {
            host,
            line: view.line(),
            view: serde_json::to_value(&view).unwrap_or_default(),
        };
        if is_held { holders.held.push(holder) } else { holders.expired.push(holder) }
    }
    Ok(holders)
}

/// Whether clients with this record accept the key: by its pin, or by a TLSA record with the whole key or
/// its SHA-512 (RFC 6698 section 2.1.3). A TLSA record with SHA-256 is recorded as a pin.
fn has(body: &Published, spki: &[u8], pin: Pin) -> bool {
    let mut records = body.tlsa.iter().flat_map(|set| set.records());
    body.pins.contains(&pin)
        || records.any(|record| match (record.selector, record.matching) {
            (selector::KEY, matching::FULL) => record.data == spki,
            (selector::KEY, matching::SHA512) => record.data == sha512(spki),
            _ => false,
        })
}
