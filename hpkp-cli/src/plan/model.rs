//! The model of a plan.

use hpkp_core::max_age::MaxAge;
use hpkp_core::pin::Pin;
use hpkp_core::published::{KeyGraph, Lifetime, Published, Slot};
use hpkp_core::sorted::distinct;

/// The steps to a goal.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// The host.
    pub(super) host: String,
    /// The goal by its name on the command line.
    pub(super) goal: &'static str,
    /// The servers that take part.
    pub(super) servers: Vec<String>,
    /// The name of the policy in the configuration.
    pub(super) policy_name: String,
    /// The steps in order; empty if the goal is reached already.
    pub(super) steps: Vec<Step>,
    /// Further information, as sentences.
    pub(super) notes: Vec<String>,
}

/// A step.
#[derive(Clone, Debug)]
pub(super) struct Step {
    /// The earliest time, in seconds since 1970 UTC.
    pub(super) from: i64,
    /// The action.
    pub(super) what: String,
    /// The keys of the certificates after this step. Empty if any keys may be used.
    pub(super) keys: Vec<Key>,
    /// The policy after this step. `None` if the host has no policy.
    pub(super) policy: Option<Policy>,
    /// The commands.
    pub(super) commands: Vec<String>,
}

/// The key of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) pin: Pin,
    /// The kind of the key, if it is known.
    pub(super) kind: Option<Slot>,
}

/// A certificate that the server presents. The server may have others for other kinds of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct InUse {
    /// The key of the certificate itself.
    pub(super) leaf: Key,
    /// The keys on its paths.
    pub(super) keys: KeyGraph,
    /// When it expires, in seconds since 1970 UTC. `None` if it is known by its record only.
    pub(super) not_after: Option<i64>,
}

/// The common name of a kind of key.
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

/// The policy that a server sends for the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Policy {
    /// The pins, sorted, without duplicates.
    pub(super) pins: Vec<Pin>,
    pub(super) max_age: MaxAge,
    pub(super) include_subdomains: bool,
}

impl Policy {
    /// The policy with these pins added.
    pub(super) fn with(&self, pins: impl IntoIterator<Item = Pin>) -> Self {
        Self { pins: distinct(self.pins.iter().copied().chain(pins)), ..self.clone() }
    }

    /// Whether a record contains exactly this policy.
    pub(super) fn is_of(&self, body: &Published) -> bool {
        body.pins == self.pins
            && body.lifetime == Lifetime::MaxAge(self.max_age)
            && body.include_subdomains == self.include_subdomains
    }

    /// The policy without these pins.
    pub(super) fn without(&self, pins: &[Pin]) -> Self {
        let kept = self.pins.iter().copied().filter(|pin| !pins.contains(pin)).collect();
        Self { pins: kept, ..self.clone() }
    }
}
