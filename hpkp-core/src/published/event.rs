//! The events of records. A file has one event a line, and an event never changes.

use std::borrow::Cow;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::client::{Client, Exempt};
use super::id::{EventId, Fingerprint};
use super::keys::{KeyGraph, Scope, Slot};
use super::name::{HostName, WriterName};
use super::tlsa::Rrset;
use crate::max_age::MaxAge;
use crate::pin::Pin;

/// An event, read from a file or to be written. It cannot be changed, because its id is the hash of its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub(super) id: EventId,
    pub(super) at: i64,
    pub(super) seq: u64,
    pub(super) writer: WriterName,
    pub(super) body: Body,
    /// The line, so that members of a later version are kept.
    pub(super) line: Box<str>,
}

impl Event {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> EventId {
        self.id
    }

    /// When it was written, in seconds since 1970 UTC.
    #[must_use]
    pub fn at(&self) -> i64 {
        self.at
    }

    /// Its number among the events of its writer. It distinguishes events of one second, and keeps the order if the
    /// clock is set back.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// Who wrote it.
    #[must_use]
    pub fn writer(&self) -> &WriterName {
        &self.writer
    }

    /// Its content.
    #[must_use]
    pub fn body(&self) -> &Body {
        &self.body
    }

    /// Its line, without the line feed.
    #[must_use]
    pub fn line(&self) -> &str {
        &self.line
    }
}

/// The content of an event.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Body {
    /// The identity of the file: its first line.
    Writer(Identity),
    /// Pins that clients may remember from now on.
    Published(Published),
    /// What a server presents for a host from now on.
    Presents(Presents),
    /// Events that are no longer in effect.
    Ended(Ended),
    /// Events that an operator no longer wants to be checked against.
    Waived(Waived),
    /// A compromised key.
    Compromised(Compromised),
    /// A policy that was configured and whose header was not sent.
    Withheld(Withheld),
    /// A writer that is gone for good.
    Gone(Gone),
    /// A server has started with the configuration with which it stopped.
    Again(Again),
    /// The writer runs, and has read these records of others.
    Seen(Seen),
}

/// The identity of a file, so that no server appends to a copy on another machine.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// A random number, made with the file.
    pub instance: String,
    /// A hash that identifies the machine; not the machine id itself, which must stay on the
    /// machine.
    pub machine: String,
}

impl Identity {
    /// The identification of a machine: the first 16 bytes of a hash of its machine id, in hexadecimal digits. The
    /// machine id itself must stay on the machine (machine-id(5)).
    #[must_use]
    pub fn machine_of(id: &[u8]) -> String {
        let hash = Sha256::new().chain_update(b"hpkp published pins\0").chain_update(id).finalize();
        hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Pins that clients may remember.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Published {
    /// The host, or the domain above the hosts.
    pub host: HostName,
    /// Which hosts the record applies to.
    pub matching: Matching,
    /// Hosts to which a record with [`Matching::OneLabel`] does not apply, because the server had other blocks for
    /// them.
    pub except: Vec<HostName>,
    /// Whether the pins also apply to all hosts below (RFC 7469 section 2.1.3).
    pub include_subdomains: bool,
    /// Which keys clients compare with the pins.
    pub scope: Scope,
    /// The port to which the pins apply; all ports if there is none, as in RFC 7469.
    pub port: Option<u16>,
    /// The pins, sorted, each once; at least one. For TLSA records, the pins of the keys that they
    /// name, which may be none.
    pub pins: Vec<Pin>,
    /// How long they are remembered.
    pub lifetime: Lifetime,
    /// Where clients got the pins.
    pub origin: Origin,
    /// When the pins were first published, if that is not the time of the event.
    pub since: Option<i64>,
    /// The client configuration to which this entry belongs. An entry without one is independent, and a certificate
    /// must match it.
    pub configuration: Option<Configuration>,
    /// Hosts for which the same configuration has a more specific entry.
    pub exempt: Vec<Exempt>,
    /// The TLSA records that clients hold in place of pins: all records of one owner.
    pub tlsa: Option<Arc<Rrset>>,
}

impl Published {
    /// Pins of one host, which clients compare with any key of the chain that they validated.
    #[must_use]
    pub fn of_one(host: HostName, pins: Vec<Pin>, lifetime: Lifetime, origin: Origin) -> Self {
        Self {
            host,
            matching: Matching::Exact,
            except: Vec::new(),
            include_subdomains: false,
            scope: Scope::Chain,
            port: None,
            pins,
            lifetime,
            origin,
            since: None,
            configuration: None,
            exempt: Vec::new(),
            tlsa: None,
        }
    }

    /// The same entry with TLSA records in place of its pins.
    #[must_use]
    pub fn with_tlsa(self, set: Rrset) -> Self {
        let scope = set.scope().unwrap_or_default();
        Self { scope, pins: set.pins(), tlsa: Some(Arc::new(set)), ..self }
    }
}

/// One configuration of one client: the kind of client, and a number that its entries share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Configuration {
    /// The kind of client.
    pub client: Client,
    /// The number that distinguishes it from other configurations on record.
    pub id: Fingerprint,
}

/// To which hosts a record applies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Matching {
    /// The host itself.
    #[default]
    Exact,
    /// The hosts one label below, and not the host itself: `*.` in a certificate and in OkHttp.
    OneLabel,
    /// The host itself and all below: `**.` in OkHttp.
    AnyDepth,
}

impl Matching {
    /// The names in records.
    pub const NAMES: &[(&str, Self)] =
        &[("exact", Self::Exact), ("one-label", Self::OneLabel), ("any-depth", Self::AnyDepth)];

    /// The pattern of the hosts to which a record of `host` applies: `host`, `*.host` or `**.host`.
    #[must_use]
    pub fn pattern(self, host: &HostName) -> String {
        match self {
            Self::Exact => host.to_string(),
            Self::OneLabel => format!("*.{host}"),
            Self::AnyDepth => format!("**.{host}"),
        }
    }

    /// One of these hosts; for `*.host`, a host with a label that no configuration has.
    #[must_use]
    pub fn any_of(self, host: &HostName) -> Cow<'_, HostName> {
        match self {
            Self::OneLabel => Cow::Owned(host.any_below()),
            Self::Exact | Self::AnyDepth => Cow::Borrowed(host),
        }
    }

    /// The name in such a pattern, and the matching.
    #[must_use]
    pub fn of_pattern(pattern: &str) -> (&str, Self) {
        match (pattern.strip_prefix("**."), pattern.strip_prefix("*.")) {
            (Some(domain), _) => (domain, Self::AnyDepth),
            (None, Some(domain)) => (domain, Self::OneLabel),
            (None, None) => (pattern, Self::Exact),
        }
    }
}

/// How long clients remember pins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lifetime {
    /// For this time after the last visit.
    MaxAge(MaxAge),
    /// Until this time, in seconds since 1970 UTC.
    ExpiresAt(i64),
    /// Until an `ended` event says otherwise.
    Open,
}

/// Where clients got pins.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// The header of the server that wrote the event.
    Header,
    /// Another source, in the words of the operator: an app's release, a TLSA record, a header set
    /// without this software.
    Other(String),
}

impl Origin {
    /// The text of [`Origin::Header`] in records; no other origin may have it.
    pub const HEADER: &str = "header";

    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Header => Self::HEADER,
            Self::Other(text) => text,
        }
    }
}

/// What a server presents for a host.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Presents {
    /// The host, or the domain above the hosts.
    pub host: HostName,
    /// Which hosts the record applies to; never [`Matching::AnyDepth`].
    pub matching: Matching,
    /// The ports, sorted; none if clients reach the server only on a Unix socket.
    pub ports: Vec<u16>,
    /// One entry for each certificate, sorted; empty if the certificates are not known when the configuration is read.
    pub certificates: Vec<Presented>,
    /// Whether clients are not expected to come here for these hosts: a default server answers for them only because
    /// of a wildcard in its certificate, or clients come by the port alone. Only the next configuration of the same
    /// writer is compared with such a record.
    pub aside: bool,
    /// Whether only clients who ignore names accept the certificates, which are valid for none of these hosts. Such a
    /// record is also `aside`.
    pub nameless: bool,
    /// The addresses, sorted, if the server presents other certificates for these hosts on other addresses of the same
    /// ports.
    pub addresses: Vec<String>,
}

impl Presents {
    /// A record of what is presented for one host on one port.
    #[must_use]
    pub fn of_one(host: HostName, port: u16, certificates: Vec<Presented>) -> Self {
        Self {
            host,
            matching: Matching::Exact,
            ports: vec![port],
            certificates,
            aside: false,
            nameless: false,
            addresses: Vec::new(),
        }
    }
}

/// One certificate that a server presents.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Presented {
    /// The pins of the certificates that the server sends, the leaf first; `None` for a key that has no pin.
    pub served: Vec<Option<Pin>>,
    /// The keys on the paths that clients may build.
    pub keys: KeyGraph,
    /// The hashes that distinguish the certificates from others with the same keys. None in a record of format 1.
    pub identity: Option<CertificateIdentity>,
}

/// Hashes that distinguish the certificates of one chain from others with the same keys, as far as a
/// client's path depends on them: which authority issued the leaf, and which CA certificates are
/// sent. A renewal of the leaf with the same key by the same issuer does not change `issuer` and
/// `authorities`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CertificateIdentity {
    /// The kind of key, which decides which clients get this certificate. None if it is not known: the key is of a rare
    /// kind, or the record does not have it.
    pub slot: Option<Slot>,
    /// The leaf's issuer name and authority key identifier.
    pub issuer: Fingerprint,
    /// The certificates sent after the leaf, in their order: hashes of their DER.
    pub authorities: Vec<Fingerprint>,
    /// A hash of the leaf's DER, since clients that compare whole certificates notice each renewal. None in records
    /// without it.
    pub leaf: Option<Fingerprint>,
}

/// Events that are no longer in effect.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ended {
    /// Their ids.
    pub ids: Vec<EventId>,
    /// The reason.
    pub why: Why,
    /// When they ended, if that is not the time of this event.
    pub when: Option<i64>,
}

/// Why events are no longer in effect.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Why {
    /// Another configuration replaced them.
    Replaced,
    /// The server stopped.
    Stopped,
    /// Another reason, in the words of the operator: an app's release lost support, a writer is
    /// gone.
    Other(String),
}

impl Why {
    /// The text of [`Why::Replaced`] in records.
    pub const REPLACED: &str = "replaced";
    /// The text of [`Why::Stopped`] in records.
    pub const STOPPED: &str = "stopped";

    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Replaced => Self::REPLACED,
            Self::Stopped => Self::STOPPED,
            Self::Other(text) => text,
        }
    }
}

/// Events that an operator no longer wants to be checked against.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Waived {
    /// Their ids.
    pub ids: Vec<EventId>,
    /// Who decided it.
    pub who: String,
    /// The reason.
    pub why: String,
}

/// A compromised key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Compromised {
    /// Its pin.
    pub pin: Pin,
    /// The reason.
    pub why: String,
}

/// A policy that was configured and whose header was not sent, since it would have locked clients out. The record lets
/// the next config test distinguish a server that was started in spite of that from a new mistake.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Withheld {
    /// The host, or the domain above the hosts.
    pub host: HostName,
    /// Which hosts the record applies to.
    pub matching: Matching,
    /// Whether the policy would also have applied to all hosts below.
    pub include_subdomains: bool,
    /// The pins, sorted, each once; at least one.
    pub pins: Vec<Pin>,
}

/// A writer that is gone for good: a container that was replaced by one with another name, a machine that was removed.
/// Later events of the writer revoke this event.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Gone {
    /// The name of the writer.
    pub of: WriterName,
    /// Which of its files, if that is known: a file that was created again is another one.
    pub instance: Option<String>,
    /// The number of its last known event.
    pub upto: u64,
    /// The reason.
    pub why: String,
    /// When the writer ended, if that is not the time of this event.
    pub when: Option<i64>,
}

/// A server has started with the configuration with which it stopped.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Again {
    /// The ids of the `ended` events of that stop, which are no longer in effect.
    pub ids: Vec<EventId>,
    /// Events that stay ended nevertheless.
    pub except: Vec<EventId>,
}

/// Which writers' records have been read, and how far.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Seen {
    /// How far each writer's records have been read, sorted by writer.
    pub of: Vec<Sight>,
    /// Events of the same writer that do not belong to its last accepted configuration any more. They have not ended,
    /// because the server that a new one succeeded still runs with them.
    pub succeeded: Vec<EventId>,
}

/// How far the records of a writer have been read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sight {
    /// The writer.
    pub writer: WriterName,
    /// Which of its files, if the first line of the file tells it.
    pub instance: Option<String>,
    /// The number of the last event that was read.
    pub seq: u64,
}
