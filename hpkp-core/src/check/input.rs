//! The input of the check: everything that a configuration declares and has loaded, and the records.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::digest::Digest;
use super::listener::Listener;
use crate::finding::{Check, Code, Location, Text};
use crate::path::{Chain, Trust};
use crate::pin::Pin;
use crate::policy::Policy;
use crate::published::heard::AllHeard;
use crate::published::{HostName, Matching, State, WriterName};
use crate::text::ShellWord;

/// Everything that a configuration declares and has loaded.
#[derive(Debug, Default)]
pub struct Deployment {
    /// What the server loaded, one entry for each TLS context.
    pub contexts: Vec<Context>,
    /// The policies, with different names.
    pub policies: Vec<Policy>,
    /// The server blocks.
    pub hosts: Vec<Host>,
    /// The names of the directives in messages.
    pub names: Names,
    /// The addresses on which the server blocks answer with TLS. Without listeners no name leads to a block, and each
    /// block is compared only with its own policy.
    pub listeners: Vec<Listener>,
    /// The records of published pins; none if the caller does not use them.
    pub records: Option<Records>,
    /// Names that the operator declared to be served elsewhere (`hpkp_not_served_here`).
    pub not_served_here: Vec<NotServedHere>,
    /// Findings of the server's module about the configuration itself.
    pub noticed: Vec<Noticed>,
    /// The hosts (by position) whose certificates are chosen during the handshake, and whose header is
    /// sent on each connection whose certificate satisfies the policy (`hpkp NAME unguarded`).
    pub unguarded: BTreeSet<usize>,
    /// The hosts (by position) whose certificates are chosen during the handshake and compared with the
    /// pins there, in the worker (`hpkp_guard`).
    pub guarded: BTreeSet<usize>,
    /// Whether renewals keep the key, for the hosts (by position) for which the operator declared it
    /// (`hpkp_renewal_key`).
    pub renewal_keys: BTreeMap<usize, RenewalKey>,
}

impl Deployment {
    /// The policies by their names.
    #[must_use]
    pub fn policies_by_name(&self) -> HashMap<&str, &Policy> {
        self.policies.iter().map(|policy| (policy.name(), policy)).collect()
    }

    /// The chains that are loaded for the host at this position.
    pub fn chains(&self, host: usize) -> impl Iterator<Item = &Chain> + '_ {
        let contexts = self.hosts[host].contexts.iter();
        contexts.flat_map(|context| self.contexts[*context].certificates.loaded())
    }
}

/// Whether a host's ACME client keeps the key when it renews the certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RenewalKey {
    /// The client keeps the key.
    Same,
    /// The client makes a new key each time.
    New,
}

/// A finding of the server's module about something that the core does not see.
#[derive(Clone, Debug)]
pub struct Noticed {
    /// The code, which gives the class.
    pub code: Code,
    /// What it is about, in place of a host.
    pub label: String,
    /// What was found. Findings of one code with the same text become one.
    pub text: Text,
    /// The directive.
    pub at: Location,
}

/// A name that the operator declared to be served elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotServedHere {
    /// The host, or the domain above the hosts.
    pub host: HostName,
    /// Which hosts are meant: this one, or those one label below it.
    pub matching: Matching,
    /// The port concerned; none for all ports.
    pub port: Option<u16>,
    /// Whether only pins of clients that come over UDP are concerned.
    pub udp: bool,
    /// The place of the directive.
    pub at: Location,
}

/// The names that a server has for the directives in messages.
#[derive(Clone, Copy, Debug)]
pub struct Names {
    /// Sets how long clients remember a policy.
    pub max_age: &'static str,
    /// Sets where clients send violation reports.
    pub report_uri: &'static str,
    /// Names the file of trust anchors.
    pub trusted_certificate: &'static str,
    /// Names the directory with records.
    pub published_pins: &'static str,
    /// Declares that a name is served elsewhere.
    pub not_served_here: &'static str,
    /// Makes a default server refuse clients of names that no server has; none if the server has no such directive.
    pub reject_handshake: Option<&'static str>,
    /// Declares that renewals keep the key, with its argument; none if the server has no such directive.
    pub same_key: Option<&'static str>,
}

impl Default for Names {
    /// The names of nginx's directives.
    fn default() -> Self {
        Self {
            max_age: "max_age",
            report_uri: "report_uri",
            trusted_certificate: "hpkp_trusted_certificate",
            published_pins: "hpkp_published_pins",
            not_served_here: "hpkp_not_served_here",
            reject_handshake: Some("ssl_reject_handshake on"),
            same_key: Some("hpkp_renewal_key same"),
        }
    }
}

/// A TLS context: the certificates of one server block.
#[derive(Debug)]
pub struct Context {
    /// Its certificates.
    pub certificates: Certificates,
    /// The trust anchors of the clients of the server that owns it.
    pub trust: Arc<TrustSetting>,
}

/// The certificates of a TLS context.
#[derive(Debug)]
pub enum Certificates {
    /// One chain for each key: a server may have an RSA and an ECDSA certificate side by side.
    Loaded(Vec<Chain>),
    /// The certificates are not known when the configuration is read.
    NotKnown {
        /// Why, as a clause.
        why: Cow<'static, str>,
        /// What can be done, as a clause.
        remedy: &'static str,
    },
    /// The server has no certificate yet, and answers with one that it made itself, which no client accepts. The
    /// clauses are those of `NotKnown`.
    Temporary {
        /// Why.
        why: Cow<'static, str>,
        /// What can be done.
        remedy: &'static str,
    },
    /// This is a config test, and the certificates are known only at the start; the reason, as a clause.
    Later(String),
    /// A certificate cannot be used; the code and what is wrong.
    Unusable(Code, Text),
}

impl Certificates {
    /// The chains that are loaded; none in all other cases.
    #[must_use]
    pub fn loaded(&self) -> &[Chain] {
        match self {
            Self::Loaded(chains) => chains,
            _ => &[],
        }
    }
}

/// The trust anchors in force for a server, and the problems in reading them.
#[derive(Debug, Default)]
pub struct TrustSetting {
    /// The anchors that could be read.
    pub trust: Trust,
    /// The code, what is wrong, and the directive.
    pub problem: Option<(Code, Text, Location)>,
    /// Certificates that were skipped; the other anchors are used.
    pub skipped: Vec<Skipped>,
}

/// Trusted certificates that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// What is skipped, the consequence, and each certificate with the reason.
    pub text: Text,
    /// The directive; none where it is the system's store.
    pub at: Option<Location>,
}

/// A server block.
#[derive(Debug)]
pub struct Host {
    /// Its name in messages: its first name, or where it listens.
    pub label: String,
    /// Its names as the server's configuration has them, wildcards included.
    pub names: Vec<String>,
    /// Whether it answers on TLS.
    pub tls: bool,
    /// The contexts (positions in [`Deployment::contexts`]) whose certificates it presents.
    pub contexts: Vec<usize>,
    /// What the server does about a lock-out or an unsure answer.
    pub check: Check,
    /// The policy for `Public-Key-Pins`.
    pub enforced: Option<PolicyUse>,
    /// The policy for `Public-Key-Pins-Report-Only`.
    pub report_only: Option<PolicyUse>,
    /// Lock-outs and unsure answers with which the running configuration serves this host with the
    /// same keys and the same policy. To refuse the new configuration for them would protect
    /// nobody, and would keep the other hosts from being renewed.
    pub accepted: Vec<Alarm>,
    /// The leaves that the running server presents for it while this configuration is a candidate
    /// to take its place; empty where nothing is serving yet.
    pub serving: Vec<Serving>,
}

impl Host {
    /// A host without a policy that answers on TLS.
    #[must_use]
    pub fn new(label: String, names: Vec<String>, contexts: Vec<usize>) -> Self {
        Self {
            label,
            names,
            tls: true,
            contexts,
            check: Check::Refuse,
            enforced: None,
            report_only: None,
            accepted: Vec::new(),
            serving: Vec::new(),
        }
    }
}

/// A lock-out or an unsure answer that was found for a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alarm {
    /// What was found.
    pub code: Code,
    /// The name concerned, if the finding is about one name; the same finding for another name is another alarm. A
    /// finding about a policy has no port, because its pins apply to all ports.
    pub name: Option<(HostName, Matching, Option<u16>)>,
    /// The addresses of the port, with whether clients of the name reach the host there. The same finding is another
    /// alarm for clients who reached another host before.
    pub addresses: BTreeMap<String, bool>,
}

impl Alarm {
    /// An alarm that is not about the clients of certain addresses.
    #[must_use]
    pub fn new(code: Code, name: Option<(HostName, Matching, Option<u16>)>) -> Self {
        Self { code, name, addresses: BTreeMap::new() }
    }
}

/// A leaf that is being served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Serving {
    /// Its pin.
    pub pin: Pin,
    /// When it expires, as text for messages.
    pub not_after: String,
}

/// A directive that puts a policy into use.
#[derive(Clone, Debug)]
pub struct PolicyUse {
    /// The policy's name.
    pub policy: String,
    /// The place of the directive.
    pub at: Location,
    /// Whether it is in the server block itself, not inherited.
    pub own: bool,
}

/// The records, and the problems in reading them.
#[derive(Debug)]
pub struct Records {
    /// The state that follows from them.
    pub state: State,
    /// The writer name of this server; none where it writes no records.
    pub writer: Option<WriterName>,
    /// Where they were read: first the directory to which `hpkp published` can add what the operator decides.
    pub directories: Vec<String>,
    /// The directive that names the directories, or without a directive the place that findings name.
    pub at: Location,
    /// What is wrong with them: the code, the text, and the directive.
    pub problems: Vec<(Code, Text, Location)>,
    /// The digest ([`super::digest()`]) of the last accepted configuration, if it is served and could not be recorded,
    /// or its record is lost. The records are then of an earlier configuration, so only a configuration with this
    /// digest is unchanged. None if the last accepted configuration is on record.
    pub unrecorded: Option<Digest>,
    /// How long other machines may be silent, for each directory with `max_staleness`.
    pub freshness: Vec<Freshness>,
}

impl Records {
    /// The directories as options of `hpkp published`, which reads all of them and writes to the first.
    #[must_use]
    pub fn options(&self) -> String {
        directory_options(&self.directories)
    }
}

/// Directories as options of `hpkp published`.
#[must_use]
pub fn directory_options(directories: &[String]) -> String {
    let option = |directory: &String| format!("-d {}", ShellWord::new(directory));
    directories.iter().map(option).collect::<Vec<_>>().join(" ")
}

/// How long the writers of the copies in one directory may be silent, and when they were heard from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Freshness {
    /// The longest silence, in seconds.
    pub max_staleness: i64,
    /// The directive.
    pub at: Location,
    /// The path of the file of heartbeats.
    pub file: String,
    /// The writers that have a copy in the directory.
    pub peers: BTreeSet<WriterName>,
    /// The content of that file.
    pub heard: HeardFile,
    /// Whether certificates arrive one by one at the handshake, so that each of them counts as new.
    pub at_handshake: bool,
}

/// When other machines were heard from, as far as the file can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeardFile {
    /// The last receipt of each that was ever heard from.
    Read(AllHeard),
    /// The file does not exist: no machine was ever heard from.
    Missing,
    /// The file cannot be used, for this reason.
    Unusable(String),
}
