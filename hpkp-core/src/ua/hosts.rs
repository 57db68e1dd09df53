//! The Known Pinned Hosts of a user agent: noting, expiry and Pin Validation (RFC 7469 sections 2.3
//! to 2.6).

use std::collections::BTreeMap;

use super::field::{Asks, Field, Reading};
use super::host::{Host, HostName};
use super::uri::ReceivedUri;
use super::{FieldKind, have_a_key_in_common};
use crate::pin::Pin;

/// The choices that RFC 7469 leaves to the user agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The longest time a policy is remembered, in seconds (section 4.1 suggests about 60 days).
    pub max_age_cap: Option<u64>,
    /// Whether chains that end in a locally installed anchor are exempt (section 2.6).
    pub skip_local_anchors: bool,
}

impl Options {
    /// 60 days, where Chromium and Firefox cut.
    pub const SIXTY_DAYS: u64 = 60 * 24 * 60 * 60;
}

/// How a connection was made secure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport<'a> {
    /// Not secured: http.
    Plain,
    /// TLS with an error or a warning, whatever the user does about it.
    FaultyTls,
    /// TLS without errors.
    Tls {
        /// The pins of the keys in the validated chain, from leaf to anchor. Certificates that were
        /// served but do not belong to it do not count (section 2.6).
        chain: &'a [Pin],
        /// Whether the anchor was installed locally rather than shipped with the UA.
        local_anchor: bool,
    },
}

/// A connection to a host. The port does not matter: a policy belongs to the name.
#[derive(Clone, Copy, Debug)]
pub struct Connection<'a> {
    /// The host that the UA asked for.
    pub host: &'a Host,
    /// How the connection is secured.
    pub transport: Transport<'a>,
    /// Seconds since 1970.
    pub now: i64,
}

/// What a UA remembers of one Known Pinned Host (section 2.3.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The pins.
    pub pins: Vec<Pin>,
    /// The effective expiration date: time of receipt and max-age, in seconds since 1970.
    pub expires: i64,
    /// Whether subdomains are covered.
    pub include_subdomains: bool,
    /// Where reports go.
    pub report_uri: Option<ReceivedUri>,
}

impl Entry {
    /// An entry that has expired counts as none (section 2.3.3). At the second of its expiry it is
    /// still valid.
    fn in_force(&self, now: i64) -> bool {
        self.expires >= now
    }
}

/// The outcome of Pin Validation (section 2.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// No TLS, so nothing to validate.
    NotApplicable,
    /// No entry covers the host.
    NotPinned,
    /// A pinned key is in the validated chain.
    Pass,
    /// No pinned key is in the validated chain.
    Fail,
    /// Local policy exempts the chain.
    Skipped,
    /// TLS failed before pin validation.
    TlsError,
}

/// What happens to the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fate {
    /// It continues.
    Proceed,
    /// It ends, and the user cannot override that (section 2.6).
    Abort,
    /// The user may override the TLS error, since the host is not pinned.
    UserDecides,
}

/// What a connection did to the entry of its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Noting {
    /// No `Public-Key-Pins` field was processed.
    None,
    /// The host has an entry now and had none.
    Noted,
    /// The host's entry was replaced.
    Updated,
    /// The host's entry was removed.
    Removed,
    /// A field was processed and changed nothing.
    Ignored,
}

/// A violation report that is due (sections 2.1.4 and 3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueReport {
    /// Which kind of policy was violated.
    pub kind: FieldKind,
    /// Where the report is sent.
    pub to: ReceivedUri,
    /// The host whose policy was violated; a superdomain if its policy applied.
    pub noted_hostname: String,
    /// Whether that policy covers subdomains.
    pub include_subdomains: bool,
    /// When that policy ends; a report-only one is not remembered and has no such date.
    pub expires: Option<i64>,
    /// The pins that the chain did not match.
    pub known_pins: Vec<Pin>,
}

/// The result of Pin Validation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Validation {
    /// The outcome.
    pub outcome: Outcome,
    /// The host whose entry applied.
    pub governing: Option<HostName>,
    /// What happens to the connection.
    pub fate: Fate,
    /// The report that this calls for.
    pub report: Option<DueReport>,
}

/// What the response of a host did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// The effect of the `Public-Key-Pins` fields.
    pub noting: Noting,
    /// The report that a report-only policy calls for.
    pub report: Option<DueReport>,
}

/// The fields of a response, in their order.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fields<'a> {
    /// The values of `Public-Key-Pins`.
    pub enforced: &'a [&'a [u8]],
    /// The values of `Public-Key-Pins-Report-Only`.
    pub report_only: &'a [&'a [u8]],
}

/// The Known Pinned Hosts.
#[derive(Clone, Debug, Default)]
pub struct KnownPinnedHosts {
    options: Options,
    entries: BTreeMap<HostName, Entry>,
}

impl KnownPinnedHosts {
    /// An empty store.
    #[must_use]
    pub const fn new(options: Options) -> Self {
        Self { options, entries: BTreeMap::new() }
    }

    /// The entry that applies to `host`: its own, or that of the nearest superdomain that covers its subdomains.
    ///
    /// The RFC does not rank several matches (section 2.6); this is the order that section 4.2
    /// implies. An entry in between that does not cover subdomains is ignored.
    #[must_use]
    pub fn governing(&self, host: &Host, now: i64) -> Option<(&HostName, &Entry)> {
        let Host::Name(name) = host else {
            return None;
        };
        name.with_superdomains().find_map(|candidate| {
            let (noted, entry) = self.entries.get_key_value(candidate)?;
            let covers = noted == name || entry.include_subdomains;
            (covers && entry.in_force(now)).then_some((noted, entry))
        })
    }

    /// All hosts with an entry, including expired ones.
    pub fn iter(&self) -> impl Iterator<Item = (&HostName, &Entry)> {
        self.entries.iter()
    }

    /// Drops expired entries.
    pub fn drop_expired(&mut self, now: i64) {
        self.entries.retain(|_, entry| entry.in_force(now));
    }

    /// Forgets a host's own entry, as a user may ask for.
    pub fn forget(&mut self, host: &HostName) -> Option<Entry> {
        self.entries.remove(host)
    }

    /// Forgets all hosts.
    pub fn clear(&mut self) {
        self.entries.clear();
    }

    /// Pin Validation, once TLS has been set up and before any HTTP (section 2.6).
    #[must_use]
    pub fn validate(&self, connection: &Connection<'_>) -> Validation {
        let without_report =
            |outcome, governing, fate| Validation { outcome, governing, fate, report: None };
        if connection.transport == Transport::Plain {
            return without_report(Outcome::NotApplicable, None, Fate::Proceed);
        }
        let governing = self.governing(connection.host, connection.now);
        let (chain, local_anchor) = match connection.transport {
            Transport::Tls { chain, local_anchor } => (chain, local_anchor),
            Transport::Plain | Transport::FaultyTls => {
                let fate = match governing {
                    Some(_) => Fate::Abort,
                    None => Fate::UserDecides,
                };
                let noted = governing.map(|(name, _)| name.clone());
                return without_report(Outcome::TlsError, noted, fate);
            }
        };
        let Some((name, entry)) = governing else {
            return without_report(Outcome::NotPinned, None, Fate::Proceed);
        };
        let noted = Some(name.clone());
        if local_anchor && self.options.skip_local_anchors {
            return without_report(Outcome::Skipped, noted, Fate::Proceed);
        }
        if have_a_key_in_common(&entry.pins, chain) {
            return without_report(Outcome::Pass, noted, Fate::Proceed);
        }
        let to = entry.report_uri.as_ref().filter(|uri| uri.is_http());
        Validation {
            outcome: Outcome::Fail,
            governing: noted,
            fate: Fate::Abort,
            report: to.map(|to| DueReport {
                kind: FieldKind::Enforced,
                to: to.clone(),
                noted_hostname: name.to_string(),
                include_subdomains: entry.include_subdomains,
                expires: Some(entry.expires),
                known_pins: entry.pins.clone(),
            }),
        }
    }

    /// Processes the fields of a response (sections 2.3 and 2.5).
    ///
    /// `validation` is the result of [`KnownPinnedHosts::validate`] for the same connection. An aborted connection has
    /// no response, so nothing is processed.
    pub fn receive(
        &mut self,
        connection: &Connection<'_>,
        validation: &Validation,
        fields: Fields<'_>,
    ) -> Received {
        let aborted = validation.fate == Fate::Abort;
        let Transport::Tls { chain, local_anchor } = connection.transport else {
            let ignored = !aborted && !fields.enforced.is_empty();
            return Received {
                noting: if ignored { Noting::Ignored } else { Noting::None },
                report: None,
            };
        };
        if aborted {
            return Received { noting: Noting::None, report: None };
        }
        // Only the first field of each name counts; no later field replaces an invalid first one (section 2.3.1).
        let noting = match fields.enforced.first() {
            None => Noting::None,
            // A pinned host must also have passed Pin Validation (section 2.5).
            Some(_) if validation.outcome == Outcome::Skipped => Noting::Ignored,
            Some(value) => self.note(connection, chain, value),
        };
        let exempt = local_anchor && self.options.skip_local_anchors;
        let report = match fields.report_only.first() {
            Some(value) if !exempt => report_only(connection.host, chain, value),
            _ => None,
        };
        Received { noting, report }
    }

    fn note(&mut self, connection: &Connection<'_>, chain: &[Pin], value: &[u8]) -> Noting {
        let Host::Name(name) = connection.host else {
            return Noting::Ignored;
        };
        let reading = Reading::of(FieldKind::Enforced, value).ok();
        let Some(field) = reading.as_ref().and_then(Reading::strict) else {
            return Noting::Ignored;
        };
        let known = |entry: &Entry| entry.in_force(connection.now);
        match field.asks(chain) {
            Asks::NothingNoLivePin | Asks::NothingNoBackupPin => Noting::Ignored,
            Asks::Forget => match self.entries.remove(name) {
                Some(entry) if known(&entry) => Noting::Removed,
                _ => Noting::Ignored,
            },
            Asks::Note => {
                let entry = self.entry(field, connection.now);
                match self.entries.insert(name.clone(), entry) {
                    Some(entry) if known(&entry) => Noting::Updated,
                    _ => Noting::Noted,
                }
            }
        }
    }

    fn entry(&self, field: &Field, now: i64) -> Entry {
        let max_age = field.max_age.unwrap_or(0);
        let max_age = max_age.min(self.options.max_age_cap.unwrap_or(u64::MAX));
        Entry {
            pins: field.pins.clone(),
            expires: now.saturating_add_unsigned(max_age),
            include_subdomains: field.include_subdomains,
            report_uri: field.report_uri.clone(),
        }
    }
}

/// Compares a report-only policy with this connection only; it is not remembered (section 2.3.2).
fn report_only(host: &Host, chain: &[Pin], value: &[u8]) -> Option<DueReport> {
    let reading = Reading::of(FieldKind::ReportOnly, value).ok()?;
    let field = reading.strict().filter(|field| field.report_due(chain))?;
    Some(DueReport {
        kind: FieldKind::ReportOnly,
        to: field.report_uri.clone()?,
        noted_hostname: host.to_string(),
        include_subdomains: field.include_subdomains,
        expires: None,
        known_pins: field.pins.clone(),
    })
}

#[cfg(test)]
mod tests;
