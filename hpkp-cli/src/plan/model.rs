//! What a plan is.

use hpkp_core::max_age::MaxAge;
use hpkp_core::pin::Pin;
use hpkp_core::published::{KeyGraph, Lifetime, Published, Slot};
use hpkp_core::sorted::distinct;

/// The steps to a goal.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// The host.
    pub(super) host: String,
    /// The goal, as the command calls it.
    pub(super) goal: &'static str,
    /// The servers that take part.
    pub(super) servers: Vec<String>,
    /// What the configuration calls the policy.
    pub(super) policy_name: String,
    /// In order. None where the goal is reached already.
    pub(super) steps: Vec<Step>,
    /// What is to be known besides, as sentences.
    pub(super) notes: Vec<String>,
}

/// One change.
#[derive(Clone, Debug)]
pub(super) struct Step {
    /// The earliest time, in seconds since 1970 UTC.
    pub(super) from: i64,
    /// What is to be done.
    pub(super) what: String,
    /// The keys of the certificates after this step. None where any keys will do.
    pub(super) keys: Vec<Key>,
    /// The policy after this step. None where the host has none.
    pub(super) policy: Option<Policy>,
    /// The commands.
    pub(super) commands: Vec<String>,
}

/// The key of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) pin: Pin,
    /// Its kind, where that is known.
    pub(super) kind: Option<Slot>,
}

/// A certificate that the server presents, beside those of other kinds of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct InUse {
    /// Its own key.
    pub(super) leaf: Key,
    /// The keys on its paths.
    pub(super) keys: KeyGraph,
}

/// How people call a kind of key.
pub(super) const fn kind_name(kind: Slot) -> &'static str {
    match kind {
        Slot::Rsa => "RSA",
        Slot::RsaPss => "RSA-PSS",
        Slot::Dsa => "DSA",
        Slot::Ec => "ECDSA",
        Slot::Ed25519 => "Ed25519",
        Slot::Ed448 => "Ed448",
    }
}

/// What a server sends for the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Policy {
    /// Sorted, each once.
    pub(super) pins: Vec<Pin>,
    pub(super) max_age: MaxAge,
    pub(super) include_subdomains: bool,
}

impl Policy {
    /// The same with these pins as well.
    pub(super) fn with(&self, pins: impl IntoIterator<Item = Pin>) -> Self {
        Self { pins: distinct(self.pins.iter().copied().chain(pins)), ..self.clone() }
    }

    /// Whether a record has just this.
    pub(super) fn is_of(&self, body: &Published) -> bool {
        body.pins == self.pins
            && body.lifetime == Lifetime::MaxAge(self.max_age)
            && body.include_subdomains == self.include_subdomains
    }

    /// The same without these pins.
    pub(super) fn without(&self, pins: &[Pin]) -> Self {
        let kept = self.pins.iter().copied().filter(|pin| !pins.contains(pin)).collect();
        Self { pins: kept, ..self.clone() }
    }
}
