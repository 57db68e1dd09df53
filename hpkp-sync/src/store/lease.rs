//! Leases: allow one machine at a time to change the certificate of a host, for a limited time.

use serde::{Deserialize, Serialize};

use super::error::StoreError;

/// A request for a lease: the holder, and for how long.
#[derive(Clone, Debug)]
pub(crate) struct Term {
    /// The machine and the process, for people to read.
    pub(crate) holder: String,
    /// Identifies the run; different for each.
    pub(crate) token: String,
    /// The duration in seconds.
    pub(crate) seconds: i64,
}

/// How often a lease is requested if others take it and give it back at the same moment.
pub(super) const TRIES: u32 = 5;

/// A lease that was taken.
#[derive(Clone, Debug)]
pub(crate) struct Lease {
    /// The host.
    pub(crate) name: String,
    /// The token of the run that has the lease.
    pub(crate) token: String,
}

/// A lease in a store that has no clock of its own. The clocks of the machines decide when it expires, so they must
/// agree to within some seconds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Written {
    pub(super) holder: String,
    pub(super) token: String,
    /// When the lease expires, in seconds since 1970 UTC.
    pub(super) until: i64,
    /// For how many seconds the lease was taken. If it seems to last longer, the clocks differ.
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

    /// Returns an error if the lease keeps others out. An unreadable lease does: newer software may understand it.
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
