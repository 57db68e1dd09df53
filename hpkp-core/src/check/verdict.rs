//! The verdict of the check: its findings, and the header that each host may send.

use std::sync::Arc;

use super::input::Alarm;
use super::name_set::{NameSet, SeenName};
use crate::finding::Finding;
use crate::header::Header;
use crate::pin::Pin;
use crate::published::Presented;

/// The verdict.
#[derive(Debug)]
pub struct Verdict {
    /// The findings, the most serious class first.
    pub findings: Vec<Finding>,
    /// What each host sends: an entry for each of [`Deployment::hosts`](super::Deployment::hosts).
    pub hosts: Vec<HostVerdict>,
    /// For each of [`Deployment::contexts`](super::Deployment::contexts), for each of its certificates,
    /// the pins of the keys on its candidate paths, the leaf's first. Empty where they are not known.
    pub paths: Vec<Vec<Vec<Pin>>>,
}

/// What a host sends. A field is `None` if the host has no such policy.
#[derive(Clone, Debug, Default)]
pub struct HostVerdict {
    /// `Public-Key-Pins`.
    pub enforced: Option<Sending>,
    /// `Public-Key-Pins-Report-Only`.
    pub report_only: Option<Sending>,
    /// The lock-outs and unsure answers found for the host. If the configuration is used all the same, they are
    /// [`Host::accepted`](super::Host::accepted) of the next configuration.
    pub alarms: Vec<Alarm>,
    /// The names by which clients reach it.
    pub names: Vec<SeenName>,
    /// The certificates that it presents, if all of them are known.
    pub presented: Option<Vec<Presented>>,
    /// The names for which the field of the enforced policy may be sent, if clients reach the host by
    /// other names too. None if it may be sent for every name that leads here.
    pub header_names: Option<Arc<NameSet>>,
}

/// One field of one host.
#[derive(Clone, Debug)]
pub struct Sending {
    /// The field, or `None` where it is withheld.
    pub header: Option<Arc<Header>>,
    /// The contexts on whose connections it may be sent: those all of whose certificates satisfy
    /// the policy. Sorted.
    pub contexts: Arc<[usize]>,
}
