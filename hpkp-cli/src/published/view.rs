//! The output form of records, as text and as JSON.

use hpkp_core::date;
use hpkp_core::published::state::{Record, Retention};
use hpkp_core::published::{ANY_HOST, Lifetime, Presents, Published, Scope};
use hpkp_core::text::Excerpt;
use serde::Serialize;

use super::store::Store;
use crate::output::{self, counted};
use crate::time::duration;

/// A record of published pins, and its state.
#[derive(Debug, Serialize)]
pub(crate) struct PublishedView {
    id: String,
    /// When the record was written.
    at: String,
    writer: String,
    /// The host; a pattern begins with `*.` or `**.`.
    host: String,
    include_subdomains: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    except: Vec<String>,
    scope: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    pins: Vec<String>,
    /// The TLSA records, if the record contains them instead of pins, and their name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tlsa: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl: Option<u32>,
    /// The pins that are compromised.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    compromised: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_age: Option<u32>,
    origin: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<String>,
    /// When publication ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    ended: Option<String>,
    /// Whether clients may hold the pins.
    held: bool,
    /// When the pins expire, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<String>,
    /// The seconds that clients keep the pins after publication ends, if the pins are published now.
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    waived: Option<WaiverView>,
}

#[derive(Debug, Serialize)]
struct WaiverView {
    who: String,
    why: String,
}

/// A record of presented certificates.
#[derive(Debug, Serialize)]
pub(super) struct PresentsView {
    id: String,
    at: String,
    writer: String,
    host: String,
    ports: Vec<u16>,
    /// The pins of the sent certificates, for each chain with the leaf first; `null` if no pin can be
    /// computed.
    certificates: Vec<Vec<Option<String>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended: Option<String>,
}

/// The hosts to which a record applies, in words.
pub(super) fn whom(name: &str, include_subdomains: bool, port: Option<u16>) -> String {
    let below = if include_subdomains { " and all subdomains" } else { "" };
    let port = port.map_or_else(String::new, |port| format!(", port {port}"));
    format!("{name}{below}{port}")
}

/// The keys that clients compare, in words.
pub(super) const fn compared(scope: Scope) -> &'static str {
    match scope {
        Scope::Leaf => "the key of the leaf",
        Scope::PathCa => "the key of a CA in the validated chain",
        Scope::SentCa => "the key of a CA that the server sends",
        Scope::Chain => "any key in the validated chain",
    }
}

/// The data of TLSA records in zone file notation.
pub(crate) fn tlsa(body: &Published) -> Vec<String> {
    let records = body.tlsa.iter().flat_map(|set| set.records());
    records.map(ToString::to_string).collect()
}

impl PublishedView {
    pub(crate) fn new(store: &Store, record: &Record<Published>) -> Self {
        let body = &record.body;
        let retention = store.state.retention(record, &store.clock);
        let is_compromised = |pin: &&hpkp_core::pin::Pin| store.state.is_compromised(**pin);
        let text = |pin: &hpkp_core::pin::Pin| format!("sha256/{pin}");
        Self {
            id: record.id.to_string(),
            at: date::format(record.at),
            writer: record.writer.to_string(),
            host: body.matching.pattern(&body.host),
            include_subdomains: body.include_subdomains,
            except: body.except.iter().map(ToString::to_string).collect(),
            scope: body.scope.as_str(),
            port: body.port,
            pins: body.pins.iter().map(text).collect(),
            tlsa: tlsa(body),
            owner: body.owner(),
            ttl: body.tlsa.as_ref().and_then(|set| set.ttl),
            compromised: body.pins.iter().filter(is_compromised).map(text).collect(),
            max_age: match body.lifetime {
                Lifetime::MaxAge(age) => Some(age.seconds()),
                _ => None,
            },
            origin: body.origin.as_str().to_owned(),
            since: body.since.map(date::format),
            ended: store.state.end(record.id).map(|end| date::format(end.at)),
            held: retention.is_some_and(|retention| retention.holds(store.now)),
            until: match retention {
                Some(Retention::Until(time)) => Some(date::format(time)),
                _ => None,
            },
            after: match retention {
                Some(Retention::WhilePublished(after)) => Some(after),
                _ => None,
            },
            waived: store
                .state
                .waiver(record.id)
                .map(|waiver| WaiverView { who: waiver.who.clone(), why: waiver.why.clone() }),
        }
    }

    /// The record in one line that begins with the id.
    pub(crate) fn line(&self) -> String {
        let waived = if self.waived.is_some() { ", waived" } else { "" };
        let (whom, what) = match &self.owner {
            Some(owner) => (owner.clone(), self.kinds()),
            None => (
                whom(&self.host, self.include_subdomains, self.port),
                format!("{} ({})", counted(self.pins.len(), "pin"), self.scope),
            ),
        };
        format!(
            "{}  {whom}: {what}, {}{}{waived}; {}, recorded by {}",
            output::accent(output::NOTE, &self.id),
            self.how_long(),
            self.visit_period(),
            Excerpt::new(&self.origin),
            self.writer
        )
    }

    /// The line, and the details below it.
    pub(super) fn in_full(&self) -> Vec<String> {
        let details = self.details().into_iter().map(|detail| format!("    {detail}"));
        std::iter::once(self.line()).chain(details).collect()
    }

    /// The number of TLSA records, and their kinds.
    fn kinds(&self) -> String {
        let kind = |record: &String| record.splitn(4, ' ').take(3).collect::<Vec<_>>().join(" ");
        let mut kinds: Vec<String> = self.tlsa.iter().map(kind).collect();
        kinds.dedup();
        format!("{} ({})", counted(self.tlsa.len(), "TLSA record"), kinds.join(", "))
    }

    /// The period in which clients noted the pins, if clients note them at a visit. For other pins, the
    /// origin is enough.
    fn visit_period(&self) -> String {
        if self.max_age.is_none() {
            return String::new();
        }
        let since = self.since.as_ref().unwrap_or(&self.at);
        match &self.ended {
            Some(ended) => format!(", for visits from {since} to {ended}"),
            None => format!(", for visits since {since}"),
        }
    }

    fn how_long(&self) -> String {
        match (&self.until, self.after) {
            (Some(until), _) if self.held => format!("expires {until}"),
            (Some(until), _) => format!("expired {until}"),
            (None, Some(after)) => {
                format!("published now, expires {} after publication ends", duration(after))
            }
            (None, None) if self.held => "does not expire".to_owned(),
            (None, None) => "expired".to_owned(),
        }
    }

    /// The pins and further details, one per line.
    pub(super) fn details(&self) -> Vec<String> {
        let mut lines: Vec<String> = self
            .pins
            .iter()
            .filter(|_| self.tlsa.is_empty())
            .map(|pin| match self.compromised.contains(pin) {
                true => format!("{pin} (compromised)"),
                false => pin.clone(),
            })
            .collect();
        lines.extend(self.tlsa.iter().map(|record| format!("TLSA {}", Excerpt::new(record))));
        lines.extend(self.ttl.map(|ttl| format!("time to live {}", duration(ttl.into()))));
        lines.push(match &self.since {
            Some(since) => format!("published since {since}, recorded {}", self.at),
            None => format!("recorded {}", self.at),
        });
        lines.extend(self.max_age.map(|age| format!("max-age {}", duration(age.into()))));
        lines.extend(self.ended.as_ref().map(|ended| format!("ended {ended}")));
        if !self.except.is_empty() {
            lines.push(format!("does not apply to {}", self.except.join(", ")));
        }
        lines.extend(self.waived.as_ref().map(|WaiverView { who, why }| {
            format!("waived by {}: {}", Excerpt::new(who), Excerpt::new(why))
        }));
        lines
    }
}

impl PresentsView {
    pub(super) fn new(store: &Store, record: &Record<Presents>) -> Self {
        let body = &record.body;
        let pins = |served: &[Option<hpkp_core::pin::Pin>]| {
            served.iter().map(|pin| pin.map(|pin| format!("sha256/{pin}"))).collect()
        };
        Self {
            id: record.id.to_string(),
            at: date::format(record.at),
            writer: record.writer.to_string(),
            host: body.matching.pattern(&body.host),
            ports: body.ports.clone(),
            certificates: body.certificates.iter().map(|one| pins(&one.served)).collect(),
            ended: store.state.end(record.id).map(|end| date::format(end.at)),
        }
    }

    pub(super) fn line(&self) -> String {
        let ports: Vec<String> = self.ports.iter().map(ToString::to_string).collect();
        let place = match ports.is_empty() {
            true => "a Unix socket".to_owned(),
            false => format!("port {}", ports.join(", ")),
        };
        let ended =
            self.ended.as_ref().map_or_else(String::new, |ended| format!(", ended {ended}"));
        let host = if self.host == ANY_HOST { "any other name" } else { &self.host };
        format!(
            "{}  {host} on {place}: {}{ended}; presented by {} since {}",
            output::accent(output::NOTE, &self.id),
            counted(self.certificates.len(), "certificate"),
            self.writer,
            self.at
        )
    }

    pub(super) fn details(&self) -> Vec<String> {
        let pin = |pin: &Option<String>| pin.clone().unwrap_or_else(|| "no pin".to_owned());
        let chain = |served: &Vec<Option<String>>| served.iter().map(pin).collect::<Vec<_>>();
        self.certificates.iter().map(|served| chain(served).join(" <- ")).collect()
    }
}
