//! Leases: one machine at a time may change what a host presents, for a stated time.

use serde::{Deserialize, Serialize};

use super::error::StoreError;

/// Who wants a lease, and for how long.
#[derive(Clone, Debug)]
pub(crate) struct Term {
    /// As people know it.
    pub(crate) holder: String,
    /// Differs for each run.
    pub(crate) token: String,
    /// In seconds.
    pub(crate) seconds: i64,
}

/// How often a lease is asked for that others take and give back at the same moment.
pub(super) const TRIES: u32 = 5;

/// A lease that was taken.
#[derive(Clone, Debug)]
pub(crate) struct Lease {
    /// Of what.
    pub(crate) name: String,
    /// Whose.
    pub(crate) token: String,
}

/// A lease as a store without a clock of its own has it. Then the clocks of the machines decide when it expires,
/// so they have to agree to within some seconds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Written {
    pub(super) holder: String,
    pub(super) token: String,
    /// In seconds since 1970 UTC.
    pub(super) until: i64,
    /// For how many seconds it was taken. One that seems to last longer was written by another clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) term: Option<i64>,
}

impl Written {
    pub(super) fn new(term: &Term, now: i64) -> Self {
        let until = now.saturating_add(term.seconds);
        let (holder, token) = (term.holder.clone(), term.token.clone());
        Self { holder, token, until, term: Some(term.seconds) }
    }

    pub(super) fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Whether it keeps others out. What cannot be read does: somebody else may understand it.
    pub(super) fn held(name: &str, text: &[u8], now: i64) -> Result<(), StoreError> {
        match serde_json::from_slice::<Self>(text) {
            Ok(written) if written.until <= now => Ok(()),
            Ok(written) => Err(written.error(name, now)),
            Err(_) => Err(StoreError::Failed(format!(
                "the lease of {name} is damaged; to fix: remove it from the store"
            ))),
        }
    }

    pub(super) fn error(&self, name: &str, now: i64) -> StoreError {
        StoreError::Leased {
            name: name.to_owned(),
            holder: hpkp_core::text::Excerpt::new(&self.holder).to_string(),
            seconds: self.until.saturating_sub(now).max(0),
            term: self.term,
        }
    }
}
