//! One event as one line of JSON (RFC 8259): read strictly, written in one form only.
//!
//! The form is the one that ids are hashes of: members sorted by name, no blanks.

use std::fmt;
use std::str::FromStr;

use serde_json::{Map, Number, Value};
use sha2::{Digest as _, Sha256};

use super::client::{CLIENTS, Exempt};
use super::event::{
    Again, Body, CertificateIdentity, Compromised, Configuration, Ended, Event, EventId, Gone,
    Identity, Lifetime, Matching, Origin, Presented, Presents, Published, Scope, Seen, Sight,
    Waived, Why, Withheld,
};
use super::keys::{KeyGraph, KeyNode};
use super::name::{HostName, WriterName};
use crate::date;
use crate::max_age::MaxAge;
use crate::pin::Pin;
use crate::text::Excerpt;

/// The version of the schema that is written, and the newest that is read.
pub const VERSION: u64 = 2;

/// The longest line, in octets, without its line feed.
pub const MAX_LINE: usize = 4 << 20;

/// How deep arrays and objects may be nested.
pub const MAX_DEPTH: usize = 16;

/// The most entries of one array.
pub const MAX_ENTRIES: usize = 4_096;

/// The most hosts that one pattern does not stand for. Each record of the pattern has to name them all,
/// and a server may have tens of thousands of blocks below one domain.
pub const MAX_EXCEPT: usize = 65_536;

/// The longest free text (an origin, a reason, a name), in octets.
pub const MAX_TEXT: usize = 1_024;

impl Event {
    /// An event of this content. Free texts are cut at [`MAX_TEXT`].
    #[must_use]
    pub fn new(at: i64, seq: u64, writer: WriterName, body: Body) -> Self {
        let mut members = Map::new();
        members.insert("v".into(), VERSION.into());
        members.insert("at".into(), date::format(at).into());
        members.insert("seq".into(), seq.into());
        members.insert("writer".into(), writer.as_str().into());
        write_body(&body, &mut members);
        let id = id_of(&members);
        members.insert("id".into(), id.to_string().into());
        let mut line = String::new();
        write_object(&members, &mut line);
        Self { id, at, seq, writer, body, line: line.into() }
    }

    /// Reads a line, without its line feed.
    ///
    /// # Errors
    /// See [`LineError`]. What a line may hold besides the members known here is no error.
    pub fn from_line(line: &[u8]) -> Result<Self, LineError> {
        if line.len() > MAX_LINE {
            return Err(LineError::TooLong);
        }
        let line = std::str::from_utf8(line).map_err(|_| LineError::NotUtf8)?;
        let outline = outline(line);
        if outline.depth > MAX_DEPTH {
            return Err(LineError::TooDeep);
        }
        let value = serde_json::from_str(line).map_err(|_| LineError::NotJson)?;
        // The parser keeps the last of two members of one name, and another reader may keep the first.
        if count(&value) != outline.members {
            return Err(LineError::Duplicate);
        }
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
        let writer = members.parsed("writer", "the name of a writer")?;
        let body = read_body(&mut members, version)?;
        Ok(Self { id, at, seq, writer, body, line: line.into() })
    }
}

/// Why a line is no event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LineError {
    /// Longer than [`MAX_LINE`].
    TooLong,
    /// Nested deeper than [`MAX_DEPTH`].
    TooDeep,
    /// Not UTF-8.
    NotUtf8,
    /// Not a JSON object.
    NotJson,
    /// An object has two members of one name.
    Duplicate,
    /// Written by a later version of this software. To pass over it could hide a lock-out.
    Version(u64),
    /// An event that this version does not know; its name as it may be shown.
    Event(String),
    /// The id is not that of the content, which is held.
    Id(EventId),
    /// It is of another writer, held here, than the file.
    Writer(WriterName),
    /// A member is missing.
    Missing(&'static str),
    /// A member is not what is wanted, which is held too.
    Wrong(&'static str, &'static str),
    /// An array has more than [`MAX_ENTRIES`] or [`MAX_EXCEPT`], or a text more than [`MAX_TEXT`].
    TooMuch(&'static str),
}

impl fmt::Display for LineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(f, "it is longer than {MAX_LINE} octets"),
            Self::TooDeep => write!(f, "it is nested deeper than {MAX_DEPTH} levels"),
            Self::NotUtf8 => f.write_str("it is not UTF-8"),
            Self::NotJson => f.write_str("it is not a JSON object"),
            Self::Duplicate => f.write_str("one of its objects has two members of one name"),
            Self::Version(version) => write!(
                f,
                "it is of version {version} of the schema, this software reads version {VERSION}; \
                 update it"
            ),
            Self::Event(name) => write!(
                f,
                "its event \"{name}\" is not known to this software (schema version {VERSION}); \
                 update it"
            ),
            Self::Id(id) => write!(
                f,
                "its id is not {id}, that of its content, so it has been edited or damaged"
            ),
            Self::Writer(writer) => write!(
                f,
                "it is of the writer {writer}, and a file has the events of the writer that it is \
                 called after"
            ),
            Self::Missing(member) => write!(f, "it has no \"{member}\""),
            Self::Wrong(member, wanted) => write!(f, "its \"{member}\" is not {wanted}"),
            Self::TooMuch(member) => write!(
                f,
                "its \"{member}\" has more than a record has room for (docs/reference/records.md, Files)"
            ),
        }
    }
}

impl std::error::Error for LineError {}

/// What the brackets and colons of a JSON text tell. In what is no JSON it does not matter.
struct Outline {
    /// How deep it is nested.
    depth: usize,
    /// How many members its objects have.
    members: usize,
}

fn outline(text: &str) -> Outline {
    let mut outline = Outline { depth: 0, members: 0 };
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for octet in text.bytes() {
        match octet {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'[' | b'{' => {
                depth += 1;
                outline.depth = outline.depth.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b':' => outline.members += 1,
            _ => {}
        }
    }
    outline
}

/// How many members the objects of a value have, which is not nested deeper than [`MAX_DEPTH`].
fn count(value: &Value) -> usize {
    match value {
        Value::Array(values) => values.iter().map(count).sum(),
        Value::Object(members) => members.len() + members.values().map(count).sum::<usize>(),
        _ => 0,
    }
}

fn id_of(members: &Map<String, Value>) -> EventId {
    // Room for most records.
    let mut text = String::with_capacity(1_024);
    write_object(members, &mut text);
    let hash: [u8; 32] = Sha256::digest(text.as_bytes()).into();
    let mut id = [0; EventId::OCTETS];
    id.copy_from_slice(&hash[..EventId::OCTETS]);
    EventId::of_hash(id)
}

fn write_object(members: &Map<String, Value>, text: &mut String) {
    // serde_json sorts them itself, unless a feature that some other crate wants is on.
    let mut sorted: Vec<(&String, &Value)> = members.iter().collect();
    sorted.sort_unstable_by_key(|(name, _)| *name);
    text.push('{');
    for (index, (name, value)) in sorted.into_iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        write_string(name, text);
        text.push(':');
        write_value(value, text);
    }
    text.push('}');
}

fn write_value(value: &Value, text: &mut String) {
    match value {
        Value::Null => text.push_str("null"),
        Value::Bool(true) => text.push_str("true"),
        Value::Bool(false) => text.push_str("false"),
        Value::Number(number) => text.push_str(&number.to_string()),
        Value::String(string) => write_string(string, text),
        Value::Array(values) => {
            text.push('[');
            for (index, value) in values.iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                write_value(value, text);
            }
            text.push(']');
        }
        Value::Object(members) => write_object(members, text),
    }
}

fn write_string(string: &str, text: &mut String) {
    text.push('"');
    let is_plain = |octet: u8| octet >= b' ' && octet != b'"' && octet != b'\\';
    let mut rest = string;
    while let Some(at) = rest.bytes().position(|octet| !is_plain(octet)) {
        let (plain, escaped) = rest.split_at(at);
        text.push_str(plain);
        match escaped.as_bytes()[0] {
            b'"' => text.push_str("\\\""),
            b'\\' => text.push_str("\\\\"),
            control => text.push_str(&format!("\\u{control:04x}")),
        }
        rest = &escaped[1..];
    }
    text.push_str(rest);
    text.push('"');
}

fn write_body(body: &Body, members: &mut Map<String, Value>) {
    let mut put = |name: &str, value: Value| {
        members.insert(name.to_owned(), value);
    };
    match body {
        Body::Writer(identity) => {
            put("event", "writer".into());
            put("instance", cut(&identity.instance));
            put("machine", cut(&identity.machine));
        }
        Body::Published(published) => {
            put("event", "published".into());
            put("host", published.host.as_str().into());
            put("match", name_of(MATCHINGS, published.matching).into());
            if !published.except.is_empty() {
                put("except", published.except.iter().map(HostName::as_str).collect());
            }
            put("include_subdomains", published.include_subdomains.into());
            put("scope", name_of(SCOPES, published.scope).into());
            if let Some(port) = published.port {
                put("port", port.into());
            }
            put("pins", published.pins.iter().map(|pin| pin_text(*pin)).collect());
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
        Body::Presents(presents) => {
            put("event", "presents".into());
            put("host", presents.host.as_str().into());
            put("match", name_of(MATCHINGS, presents.matching).into());
            put("ports", presents.ports.iter().copied().collect());
            put("certificates", presents.certificates.iter().map(certificate).collect());
            if presents.aside {
                put("aside", true.into());
            }
        }
        Body::Ended(ended) => {
            put("event", "ended".into());
            put("ids", ended.ids.iter().map(ToString::to_string).collect());
            put("why", cut(ended.why.as_str()));
            if let Some(when) = ended.when {
                put("when", date::format(when).into());
            }
        }
        Body::Waived(waived) => {
            put("event", "waived".into());
            put("ids", waived.ids.iter().map(ToString::to_string).collect());
            put("who", cut(&waived.who));
            put("why", cut(&waived.why));
        }
        Body::Compromised(compromised) => {
            put("event", "compromised".into());
            put("pin", pin_text(compromised.pin).into());
            put("why", cut(&compromised.why));
        }
        Body::Withheld(withheld) => {
            put("event", "withheld".into());
            put("host", withheld.host.as_str().into());
            put("match", name_of(MATCHINGS, withheld.matching).into());
            put("include_subdomains", withheld.include_subdomains.into());
            put("pins", withheld.pins.iter().map(|pin| pin_text(*pin)).collect());
        }
        Body::Gone(gone) => {
            put("event", "gone".into());
            put("of", gone.of.as_str().into());
            if let Some(instance) = &gone.instance {
                put("instance", cut(instance));
            }
            put("upto", gone.upto.into());
            put("why", cut(&gone.why));
            if let Some(when) = gone.when {
                put("when", date::format(when).into());
            }
        }
        Body::Again(again) => {
            put("event", "again".into());
            put("ids", again.ids.iter().map(ToString::to_string).collect());
            if !again.except.is_empty() {
                put("except", again.except.iter().map(ToString::to_string).collect());
            }
        }
        Body::Seen(seen) => {
            put("event", "seen".into());
            put("of", seen.of.iter().map(sight).collect());
        }
    }
}

fn sight(sight: &Sight) -> Value {
    let mut members = Map::new();
    members.insert("writer".into(), sight.writer.as_str().into());
    if let Some(instance) = &sight.instance {
        members.insert("instance".into(), cut(instance));
    }
    members.insert("seq".into(), sight.seq.into());
    Value::Object(members)
}

/// A free text, of which no more is written than is read.
fn cut(text: &str) -> Value {
    let end = (0..=text.len().min(MAX_TEXT)).rev().find(|end| text.is_char_boundary(*end));
    text[..end.unwrap_or(0)].into()
}

fn pin_text(pin: Pin) -> String {
    format!("sha256/{pin}")
}

fn certificate(presented: &Presented) -> Value {
    let pin = |pin: &Option<Pin>| pin.map_or(Value::Null, |pin| pin_text(pin).into());
    let node = |node: &KeyNode| {
        let mut members = Map::new();
        members.insert("pin".into(), pin(&node.pin));
        members.insert("served".into(), node.served.into());
        members.insert("end".into(), node.end.into());
        members.insert("issuers".into(), node.issuers.iter().copied().collect());
        Value::Object(members)
    };
    let mut members = Map::new();
    members.insert("served".into(), presented.served.iter().map(pin).collect());
    members.insert("keys".into(), presented.keys.nodes().iter().map(node).collect());
    if let Some(identity) = &presented.identity {
        members.insert("issuer".into(), identity.issuer.to_string().into());
        let authorities = identity.authorities.iter().map(ToString::to_string);
        members.insert("authorities".into(), authorities.collect());
    }
    Value::Object(members)
}

fn write_exempt(exempt: &Exempt) -> Value {
    let mut members = Map::new();
    members.insert("host".into(), exempt.host.as_str().into());
    members.insert("include_subdomains".into(), exempt.include_subdomains.into());
    Value::Object(members)
}

const MATCHINGS: &[(&str, Matching)] = &[
    ("exact", Matching::Exact),
    ("one-label", Matching::OneLabel),
    ("any-depth", Matching::AnyDepth),
];

const SCOPES: &[(&str, Scope)] = &[
    ("chain", Scope::Chain),
    ("leaf", Scope::Leaf),
    ("path-ca", Scope::PathCa),
    ("sent-ca", Scope::SentCa),
];

fn name_of<T: Copy + PartialEq>(names: &[(&'static str, T)], value: T) -> &'static str {
    names.iter().find(|(_, other)| *other == value).map_or("", |(name, _)| name)
}

/// The members of a line that have not been read yet.
struct Members(Map<String, Value>);

impl Members {
    fn take(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name)
    }

    fn string(&mut self, name: &'static str) -> Result<Option<String>, LineError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(LineError::Wrong(name, "a string")),
        }
    }

    /// A free text.
    fn text(&mut self, name: &'static str) -> Result<String, LineError> {
        let text = self.string(name)?.ok_or(LineError::Missing(name))?;
        if text.len() > MAX_TEXT { Err(LineError::TooMuch(name)) } else { Ok(text) }
    }

    fn optional_text(&mut self, name: &'static str) -> Result<Option<String>, LineError> {
        let text = self.string(name)?;
        if text.as_ref().is_some_and(|text| text.len() > MAX_TEXT) {
            return Err(LineError::TooMuch(name));
        }
        Ok(text)
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

    /// An array, each of whose entries `read` takes.
    fn array<T>(
        &mut self,
        name: &'static str,
        read: impl FnMut(Value) -> Result<T, LineError>,
    ) -> Result<Option<Vec<T>>, LineError> {
        self.array_of(name, MAX_ENTRIES, read)
    }

    /// The same, of at most `most` entries.
    fn array_of<T>(
        &mut self,
        name: &'static str,
        most: usize,
        read: impl FnMut(Value) -> Result<T, LineError>,
    ) -> Result<Option<Vec<T>>, LineError> {
        self.take(name).map(|value| array(value, name, most, read)).transpose()
    }
}

fn array<T>(
    value: Value,
    name: &'static str,
    most: usize,
    read: impl FnMut(Value) -> Result<T, LineError>,
) -> Result<Vec<T>, LineError> {
    let Value::Array(values) = value else { return Err(LineError::Wrong(name, "an array")) };
    if values.len() > most {
        return Err(LineError::TooMuch(name));
    }
    values.into_iter().map(read).collect()
}

/// Host names are compared as octets, so one in another form would be met by nothing.
fn host(text: &str, name: &'static str) -> Result<HostName, LineError> {
    let host: Option<HostName> = text.parse().ok();
    host.filter(|host| host.as_str() == text)
        .ok_or(LineError::Wrong(name, "a host name in A-labels and lower case, without a last dot"))
}

fn pin(value: &Value, name: &'static str) -> Result<Pin, LineError> {
    let base64 = value.as_str().and_then(|text| text.strip_prefix("sha256/"));
    base64
        .and_then(|base64| Pin::from_base64(base64).ok())
        .ok_or(LineError::Wrong(name, "sha256/ and the base64 of a SHA-256"))
}

fn pin_or_null(value: &Value, name: &'static str) -> Result<Option<Pin>, LineError> {
    if value.is_null() { Ok(None) } else { pin(value, name).map(Some) }
}

/// Reads what an event of this `version` says.
fn read_body(members: &mut Members, version: u64) -> Result<Body, LineError> {
    let event = members.string("event")?.ok_or(LineError::Missing("event"))?;
    Ok(match event.as_str() {
        "writer" => Body::Writer(Identity {
            instance: members.text("instance")?,
            machine: members.text("machine")?,
        }),
        "published" => Body::Published(read_published(members)?),
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
        "seen" if version >= 2 => Body::Seen(Seen { of: read_sights(members)? }),
        other => return Err(LineError::Event(Excerpt::new(other).to_string())),
    })
}

fn read_sights(members: &mut Members) -> Result<Vec<Sight>, LineError> {
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

/// Pins, sorted, each once; at least one.
fn read_pins(members: &mut Members) -> Result<Vec<Pin>, LineError> {
    let mut pins = members
        .array("pins", |value| pin(&value, "pins"))?
        .filter(|pins| !pins.is_empty())
        .ok_or(LineError::Missing("pins"))?;
    pins.sort_unstable();
    pins.dedup();
    Ok(pins)
}

fn read_ids(members: &mut Members, name: &'static str) -> Result<Option<Vec<EventId>>, LineError> {
    members.array(name, |value| {
        let id = value.as_str().and_then(|text| text.parse().ok());
        id.ok_or(LineError::Wrong(name, "an array of ids"))
    })
}

fn read_published(members: &mut Members) -> Result<Published, LineError> {
    let pins = read_pins(members)?;
    let max_age = members
        .take("max_age")
        .map(|value| value.as_u64().and_then(MaxAge::from_seconds))
        .map(|age| age.ok_or(LineError::Wrong("max_age", "a number of seconds below 2^31")))
        .transpose()?;
    let lifetime = match (max_age, members.time("expires_at")?) {
        (Some(age), None) => Lifetime::MaxAge(age),
        (None, Some(time)) => Lifetime::ExpiresAt(time),
        (None, None) => Lifetime::Open,
        (Some(_), Some(_)) => return Err(LineError::Wrong("expires_at", "absent beside max_age")),
    };
    let except = members.array_of("except", MAX_EXCEPT, |value| {
        value.as_str().map_or(Err(LineError::Wrong("except", "an array of host names")), |text| {
            host(text, "except")
        })
    })?;
    Ok(Published {
        host: members.host("host")?,
        matching: read_matching(members)?,
        except: except.unwrap_or_default(),
        include_subdomains: members.flag("include_subdomains")?,
        scope: members.one_of("scope", SCOPES, "chain, leaf, path-ca or sent-ca")?,
        port: members.take("port").map(|value| port(&value, "port")).transpose()?,
        pins,
        lifetime,
        origin: match members.text("origin")? {
            origin if origin == Origin::HEADER => Origin::Header,
            origin => Origin::Other(origin),
        },
        since: members.time("since")?,
        configuration: read_configuration(members)?,
        exempt: members.array("exempt", read_exempt)?.unwrap_or_default(),
    })
}

fn read_configuration(members: &mut Members) -> Result<Option<Configuration>, LineError> {
    let wanted = LineError::Wrong("configuration", "32 hexadecimal digits, beside a \"client\"");
    let id = members.string("configuration")?;
    let id = id.map(|id| id.parse().map_err(|_| wanted.clone())).transpose()?;
    if !members.0.contains_key("client") {
        return if id.is_none() { Ok(None) } else { Err(wanted) };
    }
    let client = members.one_of("client", CLIENTS, "a kind of client known to this software")?;
    Ok(Some(Configuration { client, id: id.ok_or(wanted)? }))
}

fn read_exempt(value: Value) -> Result<Exempt, LineError> {
    const WRONG: LineError = LineError::Wrong("exempt", "an array of hosts");
    let Value::Object(members) = value else { return Err(WRONG) };
    let mut members = Members(members);
    let include_subdomains = members.take("include_subdomains").as_ref().and_then(Value::as_bool);
    Ok(Exempt { host: members.host("host")?, include_subdomains: include_subdomains.ok_or(WRONG)? })
}

fn read_matching(members: &mut Members) -> Result<Matching, LineError> {
    members.one_of("match", MATCHINGS, "exact, one-label or any-depth")
}

fn port(value: &Value, name: &'static str) -> Result<u16, LineError> {
    let port = value.as_u64().and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
    port.ok_or(LineError::Wrong(name, "a port"))
}

fn read_presents(members: &mut Members) -> Result<Presents, LineError> {
    let ports = members.array("ports", |value| port(&value, "ports"))?;
    let certificates = members.array("certificates", read_certificate)?;
    Ok(Presents {
        host: members.host("host")?,
        matching: read_matching(members)?,
        ports: ports.ok_or(LineError::Missing("ports"))?,
        certificates: certificates.ok_or(LineError::Missing("certificates"))?,
        aside: members.take("aside").is_some_and(|aside| aside.as_bool() == Some(true)),
    })
}

fn read_certificate(value: Value) -> Result<Presented, LineError> {
    const WRONG: LineError = LineError::Wrong("certificates", "an array of certificates");
    let Value::Object(members) = value else { return Err(WRONG) };
    let mut members = Members(members);
    let served = members.array("served", |value| pin_or_null(&value, "served"))?;
    let nodes = members.array("keys", |value| {
        let Value::Object(members) = value else { return Err(WRONG) };
        let mut members = Members(members);
        let is = |value: Option<Value>| value.as_ref().and_then(Value::as_bool).ok_or(WRONG);
        let index = |value: Value| {
            value.as_number().and_then(Number::as_u64).and_then(|i| i.try_into().ok()).ok_or(WRONG)
        };
        Ok(KeyNode {
            pin: pin_or_null(&members.take("pin").unwrap_or_default(), "certificates")?,
            served: is(members.take("served"))?,
            end: is(members.take("end"))?,
            issuers: members.array("issuers", index)?.ok_or(WRONG)?,
        })
    })?;
    let keys = nodes.and_then(KeyGraph::new).ok_or(WRONG)?;
    let fingerprint = |value: Value| value.as_str().and_then(|t| t.parse().ok()).ok_or(WRONG);
    let issuer = members.take("issuer").map(fingerprint).transpose()?;
    let authorities = members.array("authorities", fingerprint)?;
    let identity = match (issuer, authorities) {
        (Some(issuer), Some(authorities)) => Some(CertificateIdentity { issuer, authorities }),
        (None, None) => None,
        _ => return Err(WRONG),
    };
    Ok(Presented { served: served.ok_or(WRONG)?, keys, identity })
}
