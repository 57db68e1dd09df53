//! The clients that hold pins, and how each of them combines the entries of one configuration.
//!
//! The import decides which entries of a configuration apply to a host: an entry that a more specific one replaces
//! names that one in [`Published::exempt`](super::Published::exempt). The check only decides which of the entries that
//! apply to a host are enough alone.

use super::keys::Scope;
use super::name::HostName;

/// A kind of client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Client {
    /// `CertificatePinner` of OkHttp: the pins of all patterns that match a host are combined.
    OkHttp,
    /// Android's Network Security Configuration: only the most specific entry applies.
    Android,
    /// TrustKit: only the most specific entry applies.
    TrustKit,
    /// Apple's `NSPinnedDomains`: the pins of all entries that match a host are combined, those for
    /// the leaf and those for a CA each by themselves; both kinds must match.
    Apple,
    /// Cronet's `addPublicKeyPins`: only the most specific entry applies.
    Cronet,
    /// curl's `--pinnedpubkey`: one list, of which one pin must be the leaf's.
    Curl,
    /// TLSA records: one record of an owner that matches is enough (RFC 6698 section 2.1).
    Dane,
    /// A DNS-over-TLS client's pin set (RFC 7858 section 4.2): the leaf's key or a CA's that was
    /// sent.
    DnsOverTls,
}

/// The names of [`Client`] in records.
pub(super) const CLIENTS: &[(&str, Client)] = &[
    ("okhttp", Client::OkHttp),
    ("android", Client::Android),
    ("trustkit", Client::TrustKit),
    ("apple", Client::Apple),
    ("cronet", Client::Cronet),
    ("curl", Client::Curl),
    ("dane", Client::Dane),
    ("dns-over-tls", Client::DnsOverTls),
];

impl Client {
    /// Its name in records.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        super::name_of(CLIENTS, self)
    }

    /// The client that has this name in records.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        super::named(CLIENTS, name)
    }

    /// Whether one of two entries that apply to a host is enough, given their scopes.
    pub(super) fn unites(self, one: Scope, other: Scope) -> bool {
        match self {
            Self::OkHttp | Self::Apple => one == other,
            Self::Dane | Self::DnsOverTls => true,
            Self::Android | Self::TrustKit | Self::Cronet | Self::Curl => false,
        }
    }
}

/// A host to which an entry does not apply, although it is below the entry's host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Exempt {
    /// The host.
    pub host: HostName,
    /// Whether the hosts below it are exempt as well.
    pub include_subdomains: bool,
}
