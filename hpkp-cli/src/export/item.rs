//! A pin set to be written, and what a format cannot express.

use hpkp_core::published::Rrset;

use crate::import::{self, Matching, PinSet, Scope};

/// A pin set to be exported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The pin set. Sets with the same client and group belong to one configuration.
    pub set: PinSet,
    /// The max-age of the header, in seconds, if the pins come from a header.
    pub max_age: Option<u32>,
    /// The TLSA records that the set represents, if it comes from DNS.
    pub tlsa: Option<Rrset>,
}

impl Item {
    /// The host, or the pattern of hosts.
    pub(super) fn name(&self) -> String {
        self.set.matching.pattern(&self.set.host)
    }

    pub(super) fn refuse<T>(&self, what: &'static str) -> Result<T, Refusal> {
        Err(Refusal { name: self.name(), what })
    }

    /// Whether the set applies to the host and to all hosts below it.
    pub(super) fn covers_all_below(&self) -> bool {
        self.set.include_subdomains || self.set.matching == Matching::AnyDepth
    }

    /// Refuses what most formats cannot express: a port, exempt hosts, an expiry, a scope other than
    /// `scope`.
    pub(super) fn plain(&self, scope: Scope) -> Result<(), Refusal> {
        match () {
            () if self.set.port.is_some() => self.refuse("a port"),
            () if self.set.expires_at.is_some() => self.refuse("an expiry"),
            () if self.set.scope != scope => self.refuse(scope_of(self.set.scope)),
            () => Ok(()),
        }
    }
}

pub(super) const fn scope_of(scope: Scope) -> &'static str {
    match scope {
        Scope::Chain => "the scope \"chain\"",
        Scope::Leaf => "the scope \"leaf\"",
        Scope::PathCa => "the scope \"path-ca\"",
        Scope::SentCa => "the scope \"sent-ca\"",
    }
}

/// A part of a pin set that a format cannot express.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: this format cannot express {}", .name, .what)]
pub struct Refusal {
    /// The host, or the pattern of hosts.
    pub name: String,
    /// What the format cannot express.
    pub what: &'static str,
}

/// The day on which the pins expire. Other times than the one for which the importer takes a day are
/// refused.
pub(super) fn day(item: &Item) -> Result<Option<String>, Refusal> {
    let Some(time) = item.set.expires_at else { return Ok(None) };
    let text = hpkp_core::date::format(time);
    let day = text.get(..10).unwrap_or_default().to_owned();
    match import::day(&day) == Some(time) {
        true => Ok(Some(day)),
        false => item.refuse("an expiry within a day"),
    }
}
