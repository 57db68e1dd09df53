//! TLSA records (RFC 6698, RFC 7671). All records of one owner form a set, since a client uses them together.
//!
//! Which records count follows OpenSSL (`SSL_dane_tlsa_add`, `dane_match_cert`): records that it cannot use are left
//! out, and of several digests for one usage and selector only the strongest counts.

use std::collections::BTreeSet;
use std::fmt;

use sha2::{Digest as _, Sha256, Sha512};
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::keys::Scope;
use crate::certificate::Certificate;
use crate::pin::Pin;
use crate::sorted::distinct;

/// The most records of one owner.
pub const MAX_RECORDS: usize = 256;

/// The most bytes in the data of one owner's records together: a DNS message has room for no more.
pub const MAX_DATA: usize = 65_535;

/// Which certificate is matched (RFC 6698 section 2.1.1).
pub mod usage {
    /// A CA on the path that the client validates.
    pub const PKIX_TA: u8 = 0;
    /// The leaf, whose path the client validates as well.
    pub const PKIX_EE: u8 = 1;
    /// A CA that the server sends; the client needs no other trust anchor.
    pub const DANE_TA: u8 = 2;
    /// The leaf, whatever its names, its expiry and its issuer.
    pub const DANE_EE: u8 = 3;
}

/// Which part of the certificate is matched (RFC 6698 section 2.1.2).
pub mod selector {
    /// The whole certificate.
    pub const CERTIFICATE: u8 = 0;
    /// Its public key.
    pub const KEY: u8 = 1;
}

/// How that part is matched (RFC 6698 section 2.1.3).
pub mod matching {
    /// In full.
    pub const FULL: u8 = 0;
    /// By its SHA-256.
    pub const SHA256: u8 = 1;
    /// By its SHA-512.
    pub const SHA512: u8 = 2;
}

/// The transport in an owner name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// `_tcp`
    Tcp,
    /// `_udp`
    Udp,
    /// `_sctp`
    Sctp,
}

/// The names of [`Protocol`] in records.
pub(super) const PROTOCOLS: &[(&str, Protocol)] =
    &[("tcp", Protocol::Tcp), ("udp", Protocol::Udp), ("sctp", Protocol::Sctp)];

impl Protocol {
    /// Its name in records.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        PROTOCOLS.iter().find(|(_, other)| *other == self).map_or("", |(name, _)| name)
    }

    /// The protocol of a label (`_tcp`), in any case.
    #[must_use]
    pub fn of_label(label: &str) -> Option<Self> {
        let name = label.strip_prefix('_')?;
        let mut all = PROTOCOLS.iter();
        all.find(|(other, _)| name.eq_ignore_ascii_case(other)).map(|(_, protocol)| *protocol)
    }
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tlsa {
    /// See [`usage`]. Any number is possible, since a record may have an unknown usage.
    pub usage: u8,
    /// See [`selector`].
    pub selector: u8,
    /// See [`matching`].
    pub matching: u8,
    /// The data to match.
    pub data: Vec<u8>,
}

/// The kind of a record: its usage, selector and matching type.
pub type Combination = (u8, u8, u8);

impl Tlsa {
    /// Its kind.
    #[must_use]
    pub fn combination(&self) -> Combination {
        (self.usage, self.selector, self.matching)
    }

    /// Whether OpenSSL can use it.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        let is_known = self.usage <= usage::DANE_EE && self.selector <= selector::KEY;
        is_known
            && match self.matching {
                matching::SHA256 => self.data.len() == 32,
                matching::SHA512 => self.data.len() == 64,
                matching::FULL if self.selector == selector::CERTIFICATE => {
                    Certificate::from_der(&self.data).is_ok_and(|one| one.der() == self.data)
                }
                matching::FULL => is_key(&self.data),
                _ => false,
            }
    }

    /// Whether it matches this certificate, regardless of the certificate's place in the chain.
    #[must_use]
    pub fn is_of(&self, certificate: &Certificate) -> bool {
        let whole = match self.selector {
            selector::CERTIFICATE => certificate.der(),
            _ => certificate.spki(),
        };
        match self.matching {
            matching::FULL => whole == self.data,
            matching::SHA256 => Sha256::digest(whole).as_slice() == self.data,
            _ => Sha512::digest(whole).as_slice() == self.data,
        }
    }

    /// The pin of the same key, if the record is the SHA-256 of a key.
    #[must_use]
    pub fn pin(&self) -> Option<Pin> {
        match (self.selector, self.matching) {
            (selector::KEY, matching::SHA256) => {
                self.data.as_slice().try_into().ok().map(Pin::from_bytes)
            }
            (selector::KEY, matching::FULL) => Some(Pin::of_spki(&self.data)),
            _ => None,
        }
    }

    /// The record of this kind for a certificate.
    #[must_use]
    pub fn of((usage, selector, matching): Combination, certificate: &Certificate) -> Self {
        let whole = match selector {
            selector::CERTIFICATE => certificate.der(),
            _ => certificate.spki(),
        };
        let data = match matching {
            matching::FULL => whole.to_vec(),
            matching::SHA256 => Sha256::digest(whole).to_vec(),
            _ => Sha512::digest(whole).to_vec(),
        };
        Self { usage, selector, matching, data }
    }

    /// Its data in hexadecimal digits.
    #[must_use]
    pub fn digits(&self) -> String {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let pair = |byte: &u8| [byte >> 4, byte & 15].map(|at| char::from(DIGITS[usize::from(at)]));
        self.data.iter().flat_map(pair).collect()
    }
}

/// In zone file format.
impl fmt::Display for Tlsa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { usage, selector, matching, .. } = self;
        write!(f, "{usage} {selector} {matching} {}", self.digits())
    }
}

fn is_key(bytes: &[u8]) -> bool {
    SubjectPublicKeyInfo::from_der(bytes).is_ok_and(|(rest, _)| rest.is_empty())
}

/// All TLSA records of one owner.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rrset {
    /// The transport; none if the owner is a wildcard for all transports.
    pub protocol: Option<Protocol>,
    /// How long a client may hold the records, in seconds.
    pub ttl: Option<u32>,
    /// For a wildcard for all ports, the ports that have records of their own, sorted.
    pub except_ports: Vec<u16>,
    records: Vec<Tlsa>,
}

impl Rrset {
    /// The records of an owner. `None` if there are no records or more than [`MAX_RECORDS`], or if their data exceed
    /// [`MAX_DATA`].
    #[must_use]
    pub fn new(protocol: Option<Protocol>, ttl: Option<u32>, records: Vec<Tlsa>) -> Option<Self> {
        let records = distinct(records);
        let bytes: usize = records.iter().map(|one| one.data.len()).sum();
        let fits = (1..=MAX_RECORDS).contains(&records.len()) && bytes <= MAX_DATA;
        fits.then_some(Self { protocol, ttl, except_ports: Vec::new(), records })
    }

    /// The same set without these ports, if the owner is a wildcard for all ports.
    #[must_use]
    pub fn without_ports(self, ports: Vec<u16>) -> Self {
        Self { except_ports: distinct(ports), ..self }
    }

    /// The records, sorted, each once; at least one.
    #[must_use]
    pub fn records(&self) -> &[Tlsa] {
        &self.records
    }

    /// Only the records of one kind.
    #[must_use]
    pub fn only(&self, combination: Combination) -> Option<Self> {
        self.those(|one| one.combination() == combination)
    }

    /// Only the records for which clients ignore names.
    #[must_use]
    pub fn without_names(&self) -> Option<Self> {
        self.those(|one| one.usage == usage::DANE_EE)
    }

    /// The records for which `is_one` is true; `None` if there are none.
    fn those(&self, is_one: impl Fn(&Tlsa) -> bool) -> Option<Self> {
        let records = self.records.iter().filter(|one| is_one(one));
        let only = Self::new(self.protocol, self.ttl, records.cloned().collect())?;
        Some(only.without_ports(self.except_ports.clone()))
    }

    /// The kinds of the records that OpenSSL can use.
    #[must_use]
    pub fn combinations(&self) -> BTreeSet<Combination> {
        self.usable().map(Tlsa::combination).collect()
    }

    fn usable(&self) -> impl Iterator<Item = &Tlsa> {
        self.records.iter().filter(|one| one.is_usable())
    }

    /// The records that clients compare: usable ones, and of the digests for one usage and selector
    /// only the strongest. Whole certificates and keys always count (RFC 7671 section 9).
    #[must_use]
    pub fn counted(&self) -> Vec<&Tlsa> {
        let usable: Vec<&Tlsa> = self.usable().collect();
        let is_beaten = |one: &Tlsa| {
            one.matching != matching::FULL
                && usable.iter().any(|other| {
                    (other.usage, other.selector) == (one.usage, one.selector)
                        && other.matching > one.matching
                })
        };
        usable.iter().copied().filter(|one| !is_beaten(one)).collect()
    }

    /// The scope of the pins, if the records are pins in another form: all have the same usage, and each has the
    /// SHA-256 of a key.
    #[must_use]
    pub fn scope(&self) -> Option<Scope> {
        let first = self.records.first()?;
        let is_pin = |one: &Tlsa| {
            one.combination() == (first.usage, selector::KEY, matching::SHA256)
                && one.data.len() == Pin::BYTES
        };
        let scope = scope_of(first.usage)?;
        self.records.iter().all(is_pin).then_some(scope)
    }

    /// The pins of the keys that the records name, sorted.
    #[must_use]
    pub fn pins(&self) -> Vec<Pin> {
        let pins: BTreeSet<Pin> = self.records.iter().filter_map(Tlsa::pin).collect();
        pins.into_iter().collect()
    }

    /// Whether a record that counts matches the whole leaf certificate, so that each renewal changes the result.
    #[must_use]
    pub fn names_leaf_certificate(&self) -> bool {
        let is_leaf = |one: &&Tlsa| matches!(one.usage, usage::PKIX_EE | usage::DANE_EE);
        let mut counted = self.counted().into_iter().filter(is_leaf);
        counted.any(|one| one.selector == selector::CERTIFICATE)
    }

    /// Whether some clients ignore names.
    #[must_use]
    pub fn ignores_names(&self) -> bool {
        self.counted().iter().any(|one| one.usage == usage::DANE_EE)
    }

    /// Whether a record that counts is for the leaf.
    #[must_use]
    pub fn names_leaf(&self) -> bool {
        let of_leaf = [usage::PKIX_EE, usage::DANE_EE];
        self.counted().iter().any(|one| of_leaf.contains(&one.usage))
    }

    /// Whether some clients compare names.
    #[must_use]
    pub fn looks_at_names(&self) -> bool {
        self.counted().iter().any(|one| one.usage != usage::DANE_EE)
    }

    /// How long to wait, in seconds, after a record was added: twice the TTL (RFC 7671 section 8.1), if the TTL is
    /// known.
    #[must_use]
    pub fn wait(&self) -> Option<i64> {
        self.ttl.map(|ttl| 2 * i64::from(ttl))
    }
}

/// The scope of pins that corresponds to a usage.
#[must_use]
pub fn scope_of(of: u8) -> Option<Scope> {
    match of {
        usage::PKIX_TA => Some(Scope::PathCa),
        usage::PKIX_EE | usage::DANE_EE => Some(Scope::Leaf),
        usage::DANE_TA => Some(Scope::SentCa),
        _ => None,
    }
}

/// The usage of records that corresponds to pins of this scope.
#[must_use]
pub fn usage_of(scope: Scope) -> Option<u8> {
    match scope {
        Scope::Leaf => Some(usage::DANE_EE),
        Scope::SentCa => Some(usage::DANE_TA),
        Scope::PathCa => Some(usage::PKIX_TA),
        Scope::Chain => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(usage: u8, selector: u8, matching: u8, bytes: usize) -> Tlsa {
        Tlsa { usage, selector, matching, data: vec![usage; bytes] }
    }

    fn counted(records: &[(u8, u8, u8, usize)]) -> Vec<Combination> {
        let all = records.iter().map(|(u, s, m, bytes)| record(*u, *s, *m, *bytes)).collect();
        let set = Rrset::new(Some(Protocol::Tcp), None, all).unwrap();
        set.counted().into_iter().map(Tlsa::combination).collect()
    }

    #[test]
    fn only_the_strongest_usable_digest_counts() {
        assert_eq!(counted(&[(3, 1, 1, 32), (3, 1, 2, 64)]), [(3, 1, 2)]);
        // A weaker digest counts if it has another selector or usage.
        assert_eq!(counted(&[(3, 1, 2, 64), (3, 0, 1, 32)]), [(3, 0, 1), (3, 1, 2)]);
        assert_eq!(counted(&[(3, 1, 2, 64), (2, 1, 1, 32)]), [(2, 1, 1), (3, 1, 2)]);
        // A record that no client can use replaces no other.
        assert_eq!(counted(&[(3, 1, 1, 32), (3, 1, 2, 63), (3, 1, 3, 64)]), [(3, 1, 1)]);
        assert_eq!(counted(&[(4, 1, 1, 32), (3, 2, 1, 32), (3, 1, 1, 31), (3, 1, 0, 9)]), []);
    }

    #[test]
    fn records_with_the_sha256_of_keys_are_pins() {
        let scope = |records: &[(u8, u8, u8, usize)]| {
            let all = records.iter().map(|(u, s, m, bytes)| record(*u, *s, *m, *bytes)).collect();
            Rrset::new(None, None, all).unwrap().scope()
        };
        assert_eq!(scope(&[(3, 1, 1, 32)]), Some(Scope::Leaf));
        assert_eq!(scope(&[(2, 1, 1, 32)]), Some(Scope::SentCa));
        assert_eq!(scope(&[(3, 1, 1, 32), (2, 1, 1, 32)]), None);
        assert_eq!(scope(&[(3, 0, 1, 32)]), None);
        assert_eq!(scope(&[(3, 1, 1, 31)]), None);
        assert_eq!(scope(&[(5, 1, 1, 32)]), None);
    }

    #[test]
    fn a_set_too_large_for_a_message_is_refused() {
        let many = |count: usize, bytes: usize| {
            let data = |at: usize| [&at.to_be_bytes()[..], &vec![0; bytes - 8]].concat();
            let one = |at| Tlsa { usage: 3, selector: 1, matching: 9, data: data(at) };
            Rrset::new(None, None, (0..count).map(one).collect())
        };
        assert!(many(0, 8).is_none());
        assert!(many(MAX_RECORDS, 32).is_some() && many(MAX_RECORDS + 1, 32).is_none());
        assert!(many(1, MAX_DATA).is_some() && many(1, MAX_DATA + 1).is_none());
    }
}
