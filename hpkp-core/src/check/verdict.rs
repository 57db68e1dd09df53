//! What the check answers: findings, and what each host may send.

use std::sync::Arc;

use super::input::Alarm;
use super::name_set::NameSet;
use crate::finding::Finding;
use crate::header::Header;
use crate::published::{HostName, Matching, Presented};

/// The answer.
#[derive(Debug)]
pub struct Verdict {
    /// What was found, the gravest class first.
    pub findings: Vec<Finding>,
    /// What to send, an entry for each of [`Deployment::hosts`](super::Deployment::hosts).
    pub hosts: Vec<HostVerdict>,
}

/// What a host sends; `None` where it has no such policy.
#[derive(Clone, Debug, Default)]
pub struct HostVerdict {
    /// `Public-Key-Pins`.
    pub enforced: Option<Sending>,
    /// `Public-Key-Pins-Report-Only`.
    pub report_only: Option<Sending>,
    /// The lock-outs and unsure answers found for it, in spite of which the configuration may go
    /// on: what [`Host::accepted`](super::Host::accepted) is for the configuration after it.
    pub alarms: Vec<Alarm>,
    /// The names by which clients reach it.
    pub names: Vec<SeenName>,
    /// What it presents, where all of it is known.
    pub presented: Option<Vec<Presented>>,
    /// The names for which the field of the enforced policy may be sent, where the host is reached by
    /// others too. None where it may be sent for every name that leads here.
    pub header_names: Option<Arc<NameSet>>,
}

/// A name by which clients reach a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenName {
    /// The host, or the domain above the hosts.
    pub host: HostName,
    /// Which hosts are meant.
    pub matching: Matching,
    /// Hosts that a pattern does not mean: other blocks have them.
    pub except: Vec<HostName>,
    /// The ports; none where it is reached on a Unix socket alone.
    pub ports: Vec<u16>,
    /// Whether no header is sent for it: the block answers for it only by a wildcard in its
    /// certificate, or by the port alone.
    pub aside: bool,
    /// Whether only those who ignore names come in.
    pub nameless: bool,
    /// The addresses, where another block presents something else for it on the same port.
    pub addresses: Vec<String>,
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
