//! One event as one line of JSON (RFC 8259): read strictly, written in one form only.
//!
//! An id is the hash of this form: members sorted by name, no blanks.

use std::borrow::Cow;
use std::str::FromStr;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::client::{CLIENTS, Exempt};
use super::event::{
    Again, Body, CertificateIdentity, Compromised, Configuration, Ended, Event, Gone, Identity,
    Lifetime, Matching, Origin, Presented, Presents, Published, Seen, Sight, Waived, Why, Withheld,
};
use super::id::EventId;
use super::json::{JsonError, Map, Value, write_object};
use super::keys::{KeyGraph, KeyNode, Scope, Slot};
use super::name::{HostName, WriterName};
use super::tlsa::{self, PROTOCOLS, Protocol, Rrset, Tlsa};
use crate::date;
use crate::max_age::MaxAge;
use crate::pin::Pin;
use crate::sorted::distinct;
use crate::text::Excerpt;

pub use super::json::MAX_DEPTH;

/// The version of the schema that this software writes, and the newest that it reads.
pub const VERSION: u64 = 2;

/// The longest line, in bytes, without its line feed.
pub const MAX_LINE: usize = 4 << 20;

/// The most entries of one array.
pub const MAX_ENTRIES: usize = 4_096;

/// The most hosts that one pattern excludes. Each record of the pattern has to name them all, and a
/// server may have tens of thousands of blocks below one domain.
pub const MAX_EXCEPT: usize = 65_536;

/// The longest free text (an origin, a reason, a name), in bytes.
pub const MAX_TEXT: usize = 1_024;

impl Event {
    /// An event with this content. Free texts are cut at [`MAX_TEXT`].
    #[must_use]
    pub fn new(at: i64, seq: u64, writer: WriterName, body: Body) -> Self {
        let mut members = Map::default();
        members.insert("v", VERSION.into());
        members.insert("at", date::format(at).into());
        members.insert("seq", seq.into());
        members.insert("writer", writer.as_str().into());
        write_body(&body, &mut members);
        let id = id_of(&members);
        members.insert("id", id.to_string().into());
        let mut line = String::new();
        write_object(&members, &mut line);
        Self { id, at, seq, writer, body, line: line.into() }
    }

    /// Reads a line, without its line feed.
    ///
    /// # Errors
    /// See [`LineError`]. Members that are not known here are no error.
    pub fn from_line(line: &[u8]) -> Result<Self, LineError> {
        Self::from_line_of(line, None)
    }

    /// The same for a line of `writer`'s file. The events share the text of the writer's name.
    pub(super) fn from_line_of(
        line: &[u8],
        writer: Option<&WriterName>,
    ) -> Result<Self, LineError> {
        if line.len() > MAX_LINE {
            return Err(LineError::TooLong);
        }
        let line = std::str::from_utf8(line).map_err(|_| LineError::NotUtf8)?;
        let value = Value::read(line)?;
        let Value::Object(mut members) = value else { return Err(LineError::NotJson) };
        let version = match members.get("v").and_then(Value::as_u64) {
            Some(version @ 1..=VERSION) => version,
            Some(newer) if newer > VERSION => return Err(LineError::Version(newer)),
            _ => return Err(LineError::Wrong("v", "the number of a version")),
        };
        let stated = members.remove("id");
        let id = id_of(&members);
        if stated.as_ref().and_then(Value::as_str).and_then(|id| id.parse().ok()) != Some(id) {
            return Err(LineError::Id(id));
        }
        let mut members = Members(members);
        let at = members.time("at")?.ok_or(LineError::Missing("at"))?;
        let seq = members.number("seq")?;
        let name = members.string("writer")?.ok_or(LineError::Missing("writer"))?;
        let writer = match writer.filter(|writer| writer.as_str() == name) {
            Some(writer) => writer.clone(),
            None => name.parse().map_err(|_| LineError::Wrong("writer", "the name of a writer"))?,
        };
        let body = read_body(&mut members, version)?;
        Ok(Self { id, at, seq, writer, body, line: line.into() })
    }
}

/// Why a line is not an event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// Longer than [`MAX_LINE`].
    #[error("longer than {MAX_LINE} bytes")]
    TooLong,
    /// Nested deeper than [`MAX_DEPTH`].
    #[error("nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// Not UTF-8.
    #[error("not UTF-8")]
    NotUtf8,
    /// Not a JSON object.
    #[error("not a JSON object")]
    NotJson,
    /// An object has two members of one name.
    #[error("an object has two members of one name")]
    Duplicate,
    /// Written by a later version of this software. Ignoring the event could hide a lock-out.
    #[error(
        "written in version {0} of the schema, and this software reads versions up to {VERSION}; update this \
        software"
    )]
    Version(u64),
    /// An event that this version does not know; its printable name.
    #[error(
        "unknown event \"{0}\" (this software reads schema version {VERSION}); update this software"
    )]
    Event(String),
    /// The id does not match the content; the id of the content.
    #[error("the id does not match the content ({0}), so the record was edited or damaged")]
    Id(EventId),
    /// The event is of another writer than the file; that writer.
    #[error(
        "recorded by writer {0}, but a file may have only the records of the writer that it is named after"
    )]
    Writer(WriterName),
    /// A member is missing.
    #[error("missing \"{0}\"")]
    Missing(&'static str),
    /// A member is invalid; its name, and what it should be.
    #[error("\"{0}\" is not {1}")]
    Wrong(&'static str, &'static str),
    /// An array has more than [`MAX_ENTRIES`] or [`MAX_EXCEPT`], or a text more than [`MAX_TEXT`].
    #[error("\"{0}\" is too large for a record (docs/reference/records.md, Files)")]
    TooMuch(&'static str),
}

impl From<JsonError> for LineError {
    fn from(error: JsonError) -> Self {
        match error {
            JsonError::NotJson => Self::NotJson,
            JsonError::TooDeep => Self::TooDeep,
            JsonError::Duplicate => Self::Duplicate,
        }
    }
}

fn id_of(members: &Map<'_>) -> EventId {
    // Room for most records.
    let mut text = String::with_capacity(1_024);
    write_object(members, &mut text);
    let hash: [u8; 32] = Sha256::digest(text.as_bytes()).into();
    let mut id = [0; EventId::BYTES];
    id.copy_from_slice(&hash[..EventId::BYTES]);
    EventId::of_hash(id)
}

fn write_body<'a>(body: &'a Body, members: &mut Map<'a>) {
    match body {
        Body::Writer(identity) => {
            members.insert("event", "writer".into());
            members.insert("instance", cut(&identity.instance));
            members.insert("machine", cut(&identity.machine));
        }
        Body::Published(published) => write_published(published, members),
        Body::Presents(presents) => write_presents(presents, members),
        Body::Ended(ended) => {
            members.insert("event", "ended".into());
            members.insert("ids", ended.ids.iter().map(ToString::to_string).collect());
            members.insert("why", cut(ended.why.as_str()));
            if let Some(when) = ended.when {
                members.insert("when", date::format(when).into());
            }
        }
        Body::Waived(waived) => {
            members.insert("event", "waived".into());
            members.insert("ids", waived.ids.iter().map(ToString::to_string).collect());
            members.insert("who", cut(&waived.who));
            members.insert("why", cut(&waived.why));
        }
        Body::Compromised(compromised) => {
            members.insert("event", "compromised".into());
            members.insert("pin", pin_text(compromised.pin).into());
            members.insert("why", cut(&compromised.why));
        }
        Body::Withheld(withheld) => write_withheld(withheld, members),
        Body::Gone(gone) => write_gone(gone, members),
        Body::Again(again) => {
            members.insert("event", "again".into());
            members.insert("ids", again.ids.iter().map(ToString::to_string).collect());
            if !again.except.is_empty() {
                members.insert("except", again.except.iter().map(ToString::to_string).collect());
            }
        }
        Body::Seen(seen) => {
            members.insert("event", "seen".into());
            members.insert("of", seen.of.iter().map(sight).collect());
            if !seen.succeeded.is_empty() {
                let succeeded = seen.succeeded.iter().map(ToString::to_string);
                members.insert("succeeded", succeeded.collect());
            }
        }
    }
}

fn write_presents<'a>(presents: &'a Presents, members: &mut Map<'a>) {
    members.insert("event", "presents".into());
    members.insert("host", presents.host.as_str().into());
    members.insert("match", super::name_of(Matching::NAMES, presents.matching).into());
    members.insert("ports", presents.ports.iter().copied().collect());
    members.insert("certificates", presents.certificates.iter().map(certificate).collect());
    if presents.aside {
        members.insert("aside", true.into());
    }
    if presents.nameless {
        members.insert("nameless", true.into());
    }
    if !presents.addresses.is_empty() {
        members.insert("addresses", presents.addresses.iter().map(String::as_str).collect());
    }
}

fn write_withheld<'a>(withheld: &'a Withheld, members: &mut Map<'a>) {
    members.insert("event", "withheld".into());
    members.insert("host", withheld.host.as_str().into());
    members.insert("match", super::name_of(Matching::NAMES, withheld.matching).into());
    members.insert("include_subdomains", withheld.include_subdomains.into());
    members.insert("pins", withheld.pins.iter().map(|pin| pin_text(*pin)).collect());
}

fn write_gone<'a>(gone: &'a Gone, members: &mut Map<'a>) {
    members.insert("event", "gone".into());
    members.insert("of", gone.of.as_str().into());
    if let Some(instance) = &gone.instance {
        members.insert("instance", cut(instance));
    }
    members.insert("upto", gone.upto.into());
    members.insert("why", cut(&gone.why));
    if let Some(when) = gone.when {
        members.insert("when", date::format(when).into());
    }
}

fn write_published<'a>(published: &'a Published, members: &mut Map<'a>) {
    let mut put = |name: &'static str, value: Value<'a>| members.insert(name, value);
    // TLSA records that are pins in another form are written as pins, for readers that know only pins.
    let set = published.tlsa.as_deref();
    let is_pins = set.is_none_or(|set| set.scope().is_some());
    put("event", if is_pins { "published" } else { "tlsa" }.into());
    put("host", published.host.as_str().into());
    put("match", super::name_of(Matching::NAMES, published.matching).into());
    if let Some(set) = set {
        let (name, value) = write_rrset(set, is_pins);
        put(name, value);
    }
    if !published.except.is_empty() {
        put("except", published.except.iter().map(HostName::as_str).collect());
    }
    if is_pins {
        put("include_subdomains", published.include_subdomains.into());
        put("scope", super::name_of(Scope::NAMES, published.scope).into());
        put("pins", published.pins.iter().map(|pin| pin_text(*pin)).collect());
    }
    if let Some(port) = published.port {
        put("port", port.into());
    }
    match published.lifetime {
        Lifetime::MaxAge(age) => put("max_age", age.seconds().into()),
        Lifetime::ExpiresAt(time) => put("expires_at", date::format(time).into()),
        Lifetime::Open => {}
    }
    put("origin", cut(published.origin.as_str()));
    if let Some(since) = published.since {
        put("since", date::format(since).into());
    }
    if let Some(configuration) = published.configuration {
        put("client", configuration.client.as_str().into());
        put("configuration", configuration.id.to_string().into());
    }
    if !published.exempt.is_empty() {
        put("exempt", published.exempt.iter().map(write_exempt).collect());
    }
}

fn sight(sight: &Sight) -> Value<'_> {
    let mut members = Map::default();
    members.insert("writer", sight.writer.as_str().into());
    if let Some(instance) = &sight.instance {
        members.insert("instance", cut(instance));
    }
    members.insert("seq", sight.seq.into());
    Value::Object(members)
}

/// A free text, cut to the length that readers accept.
fn cut(text: &str) -> Value<'_> {
    let end = (0..=text.len().min(MAX_TEXT)).rev().find(|end| text.is_char_boundary(*end));
    text[..end.unwrap_or(0)].into()
}

/// TLSA records as a member of their event, either with their data or, if the event has them as pins, without.
fn write_rrset(set: &Rrset, is_pins: bool) -> (&'static str, Value<'_>) {
    let mut members = Map::default();
    if let Some(protocol) = set.protocol {
        members.insert("protocol", protocol.as_str().into());
    }
    if let Some(ttl) = set.ttl {
        members.insert("ttl", ttl.into());
    }
    if !set.except_ports.is_empty() {
        members.insert("except_ports", set.except_ports.iter().copied().collect());
    }
    if is_pins {
        let usage = set.records().first().map_or(0, |record| record.usage);
        members.insert("usage", u64::from(usage).into());
    } else {
        let record = |record: &Tlsa| {
            let mut members = Map::default();
            members.insert("usage", u64::from(record.usage).into());
            members.insert("selector", u64::from(record.selector).into());
            members.insert("matching", u64::from(record.matching).into());
            members.insert("data", record.digits().into());
            Value::Object(members)
        };
        members.insert("records", set.records().iter().map(record).collect());
    }
    ("tlsa", Value::Object(members))
}

fn pin_text(pin: Pin) -> String {
    format!("sha256/{pin}")
}

fn certificate(presented: &Presented) -> Value<'_> {
    let pin = |pin: &Option<Pin>| pin.map_or(Value::Null, |pin| pin_text(pin).into());
    let node = |node: &KeyNode| {
        let mut members = Map::default();
        members.insert("pin", pin(&node.pin));
        members.insert("served", node.served.into());
        members.insert("end", node.end.into());
        members.insert("issuers", node.issuers.iter().copied().collect());
        Value::Object(members)
    };
    let mut members = Map::default();
    members.insert("served", presented.served.iter().map(pin).collect());
    members.insert("keys", presented.keys.nodes().iter().map(node).collect());
    if let Some(identity) = &presented.identity {
        members.insert("issuer", identity.issuer.to_string().into());
        if let Some((name, _)) = SLOTS.iter().find(|(_, slot)| Some(*slot) == identity.slot) {
            members.insert("slot", (*name).into());
        }
        let authorities = identity.authorities.iter().map(ToString::to_string);
        members.insert("authorities", authorities.collect());
        if let Some(leaf) = &identity.leaf {
            members.insert("leaf", leaf.to_string().into());
        }
    }
    Value::Object(members)
}

fn write_exempt(exempt: &Exempt) -> Value<'_> {
    let mut members = Map::default();
    members.insert("host", exempt.host.as_str().into());
    members.insert("include_subdomains", exempt.include_subdomains.into());
    Value::Object(members)
}

const SLOTS: &[(&str, Slot)] = &[
    ("rsa", Slot::Rsa),
    ("rsa-pss", Slot::RsaPss),
    ("dsa", Slot::Dsa),
    ("ec", Slot::Ec),
    ("ed25519", Slot::Ed25519),
    ("ed448", Slot::Ed448),
];

/// The members of a line that have not been read yet.
struct Members<'a>(Map<'a>);

impl<'a> Members<'a> {
    fn take(&mut self, name: &str) -> Option<Value<'a>> {
        self.0.remove(name)
    }

    fn string(&mut self, name: &'static str) -> Result<Option<Cow<'a, str>>, LineError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(LineError::Wrong(name, "a string")),
        }
    }

    /// A free text.
    fn text(&mut self, name: &'static str) -> Result<String, LineError> {
        let text = self.string(name)?.ok_or(LineError::Missing(name))?;
        if text.len() > MAX_TEXT { Err(LineError::TooMuch(name)) } else { Ok(text.into_owned()) }
    }

    fn optional_text(&mut self, name: &'static str) -> Result<Option<String>, LineError> {
        let text = self.string(name)?;
        if text.as_ref().is_some_and(|text| text.len() > MAX_TEXT) {
            return Err(LineError::TooMuch(name));
        }
        Ok(text.map(Cow::into_owned))
    }

    fn number(&mut self, name: &'static str) -> Result<u64, LineError> {
        let number = self.take(name).ok_or(LineError::Missing(name))?;
        number.as_u64().ok_or(LineError::Wrong(name, "a number"))
    }

    fn flag(&mut self, name: &'static str) -> Result<bool, LineError> {
        let flag = self.take(name).ok_or(LineError::Missing(name))?;
        flag.as_bool().ok_or(LineError::Wrong(name, "true or false"))
    }

    fn parsed<T: FromStr>(
        &mut self,
        name: &'static str,
        wanted: &'static str,
    ) -> Result<T, LineError> {
        let text = self.string(name)?.ok_or(LineError::Missing(name))?;
        text.parse().map_err(|_| LineError::Wrong(name, wanted))
    }

    fn host(&mut self, name: &'static str) -> Result<HostName, LineError> {
        let text = self.string(name)?.ok_or(LineError::Missing(name))?;
        host(&text, name)
    }

    fn time(&mut self, name: &'static str) -> Result<Option<i64>, LineError> {
        self.string(name)?
            .map(|text| date::parse(&text).ok_or(LineError::Wrong(name, "a time (RFC 3339)")))
            .transpose()
    }

    fn one_of<T: Copy>(
        &mut self,
        name: &'static str,
        names: &[(&'static str, T)],
        wanted: &'static str,
    ) -> Result<T, LineError> {
        let text = self.string(name)?.ok_or(LineError::Missing(name))?;
        let found = names.iter().find(|(name, _)| *name == text);
        found.map(|(_, value)| *value).ok_or(LineError::Wrong(name, wanted))
    }

    /// An array of entries that `read` can read.
    fn array<T>(
        &mut self,
        name: &'static str,
        read: impl FnMut(Value<'a>) -> Result<T, LineError>,
    ) -> Result<Option<Vec<T>>, LineError> {
        self.array_of(name, MAX_ENTRIES, read)
    }

    /// An array of at most `most` entries that `read` can read.
    fn array_of<T>(
        &mut self,
        name: &'static str,
        most: usize,
        read: impl FnMut(Value<'a>) -> Result<T, LineError>,
    ) -> Result<Option<Vec<T>>, LineError> {
        self.take(name).map(|value| array(value, name, most, read)).transpose()
    }
}

fn array<'a, T>(
    value: Value<'a>,
    name: &'static str,
    most: usize,
    read: impl FnMut(Value<'a>) -> Result<T, LineError>,
) -> Result<Vec<T>, LineError> {
    let Value::Array(values) = value else { return Err(LineError::Wrong(name, "an array")) };
    if values.len() > most {
        return Err(LineError::TooMuch(name));
    }
    values.into_iter().map(read).collect()
}

/// Reads a host name, which must be in canonical form: names are compared as bytes, so another form would never match.
fn host(text: &str, name: &'static str) -> Result<HostName, LineError> {
    let host: Option<HostName> = text.parse().ok();
    host.filter(|host| host.as_str() == text)
        .ok_or(LineError::Wrong(name, "a host name in A-labels and lower case, without a last dot"))
}

fn pin(value: &Value<'_>, name: &'static str) -> Result<Pin, LineError> {
    let base64 = value.as_str().and_then(|text| text.strip_prefix("sha256/"));
    base64
        .and_then(|base64| Pin::from_base64(base64).ok())
        .ok_or(LineError::Wrong(name, "sha256/ and the base64 of a SHA-256"))
}

fn pin_or_null(value: &Value<'_>, name: &'static str) -> Result<Option<Pin>, LineError> {
    if value.is_null() { Ok(None) } else { pin(value, name).map(Some) }
}

/// Reads the body of an event of this `version`.
fn read_body(members: &mut Members<'_>, version: u64) -> Result<Body, LineError> {
    let event = members.string("event")?.ok_or(LineError::Missing("event"))?;
    Ok(match &*event {
        "writer" => Body::Writer(Identity {
            instance: members.text("instance")?,
            machine: members.text("machine")?,
        }),
        "published" => Body::Published(read_published(members, version)?),
        "tlsa" if version >= 2 => Body::Published(read_tlsa(members)?),
        "presents" => Body::Presents(read_presents(members)?),
        "ended" => Body::Ended(Ended {
            ids: read_ids(members, "ids")?.ok_or(LineError::Missing("ids"))?,
            why: match members.text("why")? {
                why if why == Why::REPLACED => Why::Replaced,
                why if why == Why::STOPPED => Why::Stopped,
                why => Why::Other(why),
            },
            when: members.time("when")?,
        }),
        "waived" => Body::Waived(Waived {
            ids: read_ids(members, "ids")?.ok_or(LineError::Missing("ids"))?,
            who: members.text("who")?,
            why: members.text("why")?,
        }),
        "compromised" => Body::Compromised(Compromised {
            pin: pin(&members.take("pin").ok_or(LineError::Missing("pin"))?, "pin")?,
            why: members.text("why")?,
        }),
        "withheld" if version >= 2 => Body::Withheld(Withheld {
            host: members.host("host")?,
            matching: read_matching(members)?,
            include_subdomains: members.flag("include_subdomains")?,
            pins: read_pins(members)?,
        }),
        "gone" if version >= 2 => Body::Gone(Gone {
            of: members.parsed("of", "the name of a writer")?,
            instance: members.optional_text("instance")?,
            upto: members.number("upto")?,
            why: members.text("why")?,
            when: members.time("when")?,
        }),
        "again" if version >= 2 => Body::Again(Again {
            ids: read_ids(members, "ids")?.ok_or(LineError::Missing("ids"))?,
            except: read_ids(members, "except")?.unwrap_or_default(),
        }),
        "seen" if version >= 2 => Body::Seen(Seen {
            of: read_sights(members)?,
            succeeded: read_ids(members, "succeeded")?.unwrap_or_default(),
        }),
        other => return Err(LineError::Event(Excerpt::new(other).to_string())),
    })
}

fn read_sights(members: &mut Members<'_>) -> Result<Vec<Sight>, LineError> {
    const WRONG: LineError = LineError::Wrong("of", "an array of writers and numbers");
    let sights = members.array("of", |value| {
        let Value::Object(members) = value else { return Err(WRONG) };
        let mut members = Members(members);
        Ok(Sight {
            writer: members.parsed("writer", "the name of a writer")?,
            instance: members.optional_text("instance")?,
            seq: members.number("seq")?,
        })
    })?;
    sights.ok_or(LineError::Missing("of"))
}

/// Reads pins, at least one, and returns them sorted, each once.
fn read_pins(members: &mut Members<'_>) -> Result<Vec<Pin>, LineError> {
    let pins = members.array("pins", |value| pin(&value, "pins"))?;
    let pins = pins.filter(|pins| !pins.is_empty()).ok_or(LineError::Missing("pins"))?;
    Ok(distinct(pins))
}

fn read_ids(
    members: &mut Members<'_>,
    name: &'static str,
) -> Result<Option<Vec<EventId>>, LineError> {
    members.array(name, |value| {
        let id = value.as_str().and_then(|text| text.parse().ok());
        id.ok_or(LineError::Wrong(name, "an array of ids"))
    })
}

fn read_published(members: &mut Members<'_>, version: u64) -> Result<Published, LineError> {
    let pins = read_pins(members)?;
    let set = members.take("tlsa").filter(|_| version >= 2);
    let set = set.map(|set| read_rrset(set, Some(&pins))).transpose()?;
    let scope = members.one_of("scope", Scope::NAMES, "chain, leaf, path-ca or sent-ca")?;
    if set.as_ref().is_some_and(|set| set.scope() != Some(scope)) {
        return Err(LineError::Wrong("tlsa", "of the same scope"));
    }
    let lifetime = read_lifetime(members)?;
    let except = members.array_of("except", MAX_EXCEPT, |value| {
        value.as_str().map_or(Err(LineError::Wrong("except", "an array of host names")), |text| {
            host(text, "except")
        })
    })?;
    Ok(Published {
        except: except.unwrap_or_default(),
        include_subdomains: members.flag("include_subdomains")?,
        scope,
        pins,
        lifetime,
        tlsa: set.map(Arc::new),
        ..read_common(members)?
    })
}

/// Reads a `tlsa` event: the TLSA records of an owner.
fn read_tlsa(members: &mut Members) -> Result<Published, LineError> {
    let set = members.take("tlsa").ok_or(LineError::Missing("tlsa"))?;
    let set = read_rrset(set, None)?;
    let lifetime = read_lifetime(members)?;
    if matches!(lifetime, Lifetime::MaxAge(_)) {
        return Err(LineError::Wrong("max_age", "absent: DNS has a time to live"));
    }
    let common = read_common(members)?;
    Ok(Published { lifetime, ..common }.with_tlsa(set))
}

/// Reads the members that `published` and `tlsa` events have in common. The others get the values of a plain name.
fn read_common(members: &mut Members) -> Result<Published, LineError> {
    Ok(Published {
        host: members.host("host")?,
        matching: read_matching(members)?,
        except: Vec::new(),
        include_subdomains: false,
        scope: Scope::Chain,
        port: members.take("port").map(|value| port(&value, "port")).transpose()?,
        pins: Vec::new(),
        lifetime: Lifetime::Open,
        origin: match members.text("origin")? {
            origin if origin == Origin::HEADER => Origin::Header,
            origin => Origin::Other(origin),
        },
        since: members.time("since")?,
        configuration: read_configuration(members)?,
        exempt: members.array("exempt", read_exempt)?.unwrap_or_default(),
        tlsa: None,
    })
}

/// Reads TLSA records. Their data may be in `pins`.
fn read_rrset(value: Value<'_>, pins: Option<&[Pin]>) -> Result<Rrset, LineError> {
    const WRONG: LineError = LineError::Wrong("tlsa", "the TLSA records of an owner");
    let Value::Object(members) = value else { return Err(WRONG) };
    let mut members = Members(members);
    let protocol = match members.0.contains_key("protocol") {
        true => Some(members.one_of::<Protocol>("protocol", PROTOCOLS, "tcp, udp or sctp")?),
        false => None,
    };
    let ttl = members.take("ttl").map(|ttl| small(Some(ttl)).ok_or(WRONG)).transpose()?;
    let except_ports = members.array("except_ports", |value| port(&value, "except_ports"))?;
    let records = match pins {
        Some(pins) => {
            let usage = small(members.take("usage")).ok_or(WRONG)?;
            let record =
                |pin: &Pin| Tlsa { usage, selector: 1, matching: 1, data: pin.bytes().to_vec() };
            pins.iter().map(record).collect()
        }
        None => {
            let most = tlsa::MAX_RECORDS;
            members.array_of("records", most, read_record)?.ok_or(LineError::Missing("records"))?
        }
    };
    let set = Rrset::new(protocol, ttl, records).ok_or(LineError::TooMuch("tlsa"))?;
    Ok(set.without_ports(except_ports.unwrap_or_default()))
}

fn read_record(value: Value<'_>) -> Result<Tlsa, LineError> {
    const WRONG: LineError = LineError::Wrong("tlsa", "the TLSA records of an owner");
    let Value::Object(members) = value else { return Err(WRONG) };
    let mut members = Members(members);
    let mut number = |name: &str| small(members.take(name)).ok_or(WRONG);
    let (usage, selector, matching) = (number("usage")?, number("selector")?, number("matching")?);
    let digits = members.string("data")?.ok_or(WRONG)?;
    let data = bytes(&digits).filter(|data| data.len() <= tlsa::MAX_DATA).ok_or(WRONG)?;
    Ok(Tlsa { usage, selector, matching, data })
}

/// A number that fits the type.
fn small<T: TryFrom<u64>>(value: Option<Value<'_>>) -> Option<T> {
    value?.as_u64()?.try_into().ok()
}

fn bytes(digits: &str) -> Option<Vec<u8>> {
    let value = |digit: u8| char::from(digit).to_digit(16).and_then(|one| u8::try_from(one).ok());
    let pairs = digits.as_bytes().chunks(2);
    pairs.map(|pair| Some(value(pair[0])? << 4 | value(*pair.get(1)?)?)).collect()
}

fn read_lifetime(members: &mut Members<'_>) -> Result<Lifetime, LineError> {
    let max_age = members
        .take("max_age")
        .map(|value| value.as_u64().and_then(MaxAge::from_seconds))
        .map(|age| age.ok_or(LineError::Wrong("max_age", "a number of seconds below 2^31")))
        .transpose()?;
    match (max_age, members.time("expires_at")?) {
        (Some(age), None) => Ok(Lifetime::MaxAge(age)),
        (None, Some(time)) => Ok(Lifetime::ExpiresAt(time)),
        (None, None) => Ok(Lifetime::Open),
        (Some(_), Some(_)) => Err(LineError::Wrong("expires_at", "absent beside max_age")),
    }
}

fn read_configuration(members: &mut Members<'_>) -> Result<Option<Configuration>, LineError> {
    let wanted = LineError::Wrong("configuration", "32 hexadecimal digits, beside a \"client\"");
    let id = members.string("configuration")?;
    let id = id.map(|id| id.parse().map_err(|_| wanted.clone())).transpose()?;
    if !members.0.contains_key("client") {
        return if id.is_none() { Ok(None) } else { Err(wanted) };
    }
    let client = members.one_of("client", CLIENTS, "a kind of client known to this software")?;
    Ok(Some(Configuration { client, id: id.ok_or(wanted)? }))
}

fn read_exempt(value: Value<'_>) -> Result<Exempt, LineError> {
    const WRONG: LineError = LineError::Wrong("exempt", "an array of hosts");
    let Value::Object(members) = value else { return Err(WRONG) };
    let mut members = Members(members);
    let include_subdomains = members.take("include_subdomains").as_ref().and_then(Value::as_bool);
    Ok(Exempt { host: members.host("host")?, include_subdomains: include_subdomains.ok_or(WRONG)? })
}

fn read_matching(members: &mut Members<'_>) -> Result<Matching, LineError> {
    members.one_of("match", Matching::NAMES, "exact, one-label or any-depth")
}

fn port(value: &Value<'_>, name: &'static str) -> Result<u16, LineError> {
    let port = value.as_u64().and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
    port.ok_or(LineError::Wrong(name, "a port"))
}

fn read_presents(members: &mut Members<'_>) -> Result<Presents, LineError> {
    let ports = members.array("ports", |value| port(&value, "ports"))?;
    let certificates = members.array("certificates", read_certificate)?;
    let addresses = members.array("addresses", |value| {
        let address = value.as_str().filter(|text| text.len() <= MAX_TEXT);
        address.map(str::to_owned).ok_or(LineError::Wrong("addresses", "an array of addresses"))
    })?;
    let is = |flag: Option<Value<'_>>| flag.is_some_and(|flag| flag.as_bool() == Some(true));
    Ok(Presents {
        host: members.host("host")?,
        matching: read_matching(members)?,
        ports: ports.ok_or(LineError::Missing("ports"))?,
        certificates: certificates.ok_or(LineError::Missing("certificates"))?,
        aside: is(members.take("aside")),
        nameless: is(members.take("nameless")),
        addresses: addresses.unwrap_or_default(),
    })
}

fn read_certificate(value: Value<'_>) -> Result<Presented, LineError> {
    const WRONG: LineError = LineError::Wrong("certificates", "an array of certificates");
    let Value::Object(members) = value else { return Err(WRONG) };
    let mut members = Members(members);
    let served = members.array("served", |value| pin_or_null(&value, "served"))?;
    let nodes = members.array("keys", |value| {
        let Value::Object(members) = value else { return Err(WRONG) };
        let mut members = Members(members);
        let is = |value: Option<Value<'_>>| value.as_ref().and_then(Value::as_bool).ok_or(WRONG);
        let index = |value: Value<'_>| value.as_u64().and_then(|i| i.try_into().ok()).ok_or(WRONG);
        Ok(KeyNode {
            pin: pin_or_null(&members.take("pin").unwrap_or_default(), "certificates")?,
            served: is(members.take("served"))?,
            end: is(members.take("end"))?,
            issuers: members.array("issuers", index)?.ok_or(WRONG)?,
        })
    })?;
    let keys = nodes.and_then(KeyGraph::new).ok_or(WRONG)?;
    let fingerprint = |value: Value<'_>| value.as_str().and_then(|t| t.parse().ok()).ok_or(WRONG);
    let issuer = members.take("issuer").map(fingerprint).transpose()?;
    let authorities = members.array("authorities", fingerprint)?;
    let leaf = members.take("leaf").map(fingerprint).transpose()?;
    // A kind of key from a later version, which this one does not know, counts as no kind.
    let slot = members.take("slot");
    let slot = slot.as_ref().and_then(Value::as_str);
    let slot = SLOTS.iter().find(|(name, _)| slot == Some(name)).map(|(_, slot)| *slot);
    let identity = match (issuer, authorities) {
        (Some(issuer), Some(authorities)) => {
            Some(CertificateIdentity { slot, issuer, authorities, leaf })
        }
        (None, None) => None,
        _ => return Err(WRONG),
    };
    Ok(Presented { served: served.ok_or(WRONG)?, keys, identity })
}
