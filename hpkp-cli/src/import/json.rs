//! Reads and writes the lines of JSON of `hpkp published export --format json`.

use hpkp_core::date;
use hpkp_core::published::tlsa::Protocol;
use hpkp_core::published::{Client, Rrset, name_of, named};
use serde::{Deserialize, Serialize};

use super::{
    Certificates, Except, ImportError, Imported, Matching, PinSet, Problem, Scope, distinct, host,
    note_address, shown, text,
};

/// The version of the format.
const VERSION: u32 = 1;

/// A set of pins.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    hpkp_pins: u32,
    host: String,
    /// `exact`, `one-label` or `any-depth`.
    #[serde(rename = "match")]
    matching: String,
    include_subdomains: bool,
    scope: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    pins: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
    /// The max-age of the header, in seconds, if the pins come from a header.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_age: Option<u32>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    exempt: Vec<Exempt>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tlsa: Option<Records>,
    /// The kind of client, and the number of the configuration to which the set belongs.
    client: String,
    configuration: usize,
}

/// The TLSA records of one name.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Records {
    #[serde(skip_serializing_if = "Option::is_none")]
    protocol: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl: Option<u32>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    except_ports: Vec<u16>,
    /// The data of the records in zone file notation.
    records: Vec<String>,
}

impl Records {
    fn new(set: &Rrset) -> Self {
        Self {
            protocol: set.protocol.map(|protocol| protocol.as_str().to_owned()),
            ttl: set.ttl,
            except_ports: set.except_ports.clone(),
            records: set.records().iter().map(ToString::to_string).collect(),
        }
    }

    fn read(self, line: usize, certificates: &Certificates) -> Result<Rrset, ImportError> {
        let wanted = |found: &str| Problem::unexpected(found, "TLSA records").at(line);
        let protocol = self
            .protocol
            .map(|name| Protocol::of_label(&format!("_{name}")).ok_or_else(|| wanted(&name)));
        let mut records = Vec::new();
        for text in &self.records {
            let record = super::tlsa::record(text).ok_or_else(|| wanted(text))?;
            certificates.account(super::tlsa::spelled::stand_in(&record.data), line);
            records.push(record);
        }
        let set = Rrset::new(protocol.transpose()?, self.ttl, records);
        let set = set.ok_or_else(|| wanted("tlsa"))?;
        Ok(set.without_ports(self.except_ports))
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Exempt {
    host: String,
    include_subdomains: bool,
}

fn one_of<T: Copy>(
    names: &[(&str, T)],
    text: &str,
    wanted: &'static str,
    line: usize,
) -> Result<T, ImportError> {
    named(names, text).ok_or_else(|| Problem::unexpected(text, wanted).at(line))
}

impl Line {
    /// The line for `set`.
    #[must_use]
    pub fn new(set: &PinSet, max_age: Option<u32>, tlsa: Option<&Rrset>) -> Self {
        let exempt = |one: &Except| Exempt {
            host: one.host.as_str().to_owned(),
            include_subdomains: one.with_subdomains,
        };
        Self {
            hpkp_pins: VERSION,
            host: set.host.as_str().to_owned(),
            matching: name_of(Matching::NAMES, set.matching).to_owned(),
            include_subdomains: set.include_subdomains,
            scope: set.scope.to_string(),
            port: set.port,
            pins: set.pins.iter().map(|pin| format!("sha256/{pin}")).collect(),
            expires_at: set.expires_at.map(date::format),
            max_age,
            exempt: set.except.iter().map(exempt).collect(),
            tlsa: tlsa.map(Records::new),
            client: set.client.as_str().to_owned(),
            configuration: set.group,
        }
    }
}

/// Reads lines of JSON.
///
/// # Errors
/// See [`Problem`].
pub fn read(bytes: &[u8], certificates: &Certificates) -> Result<Imported, ImportError> {
    let mut imported = Imported::default();
    for (line, content) in (1..).zip(text(bytes)?.lines()) {
        if content.trim().is_empty() {
            continue;
        }
        let entry: Line = serde_json::from_str(content).map_err(|error| {
            Problem::Unexpected {
                found: shown::shown(&error.to_string()),
                wanted: "a line of hpkp published export --format json",
            }
            .at(line)
        })?;
        if entry.hpkp_pins != VERSION {
            return Err(Problem::unexpected(
                &entry.hpkp_pins.to_string(),
                "version 1 of these lines",
            )
            .at(line));
        }
        add(entry, line, certificates, &mut imported)?;
    }
    imported.or_nothing("a line with hpkp_pins")
}

fn add(
    entry: Line,
    line: usize,
    certificates: &Certificates,
    imported: &mut Imported,
) -> Result<(), ImportError> {
    let wanted_pin = || Problem::unexpected("pins", "at least one pin (sha256/...)").at(line);
    let mut pins = Vec::new();
    for pin in &entry.pins {
        let base64 = pin.strip_prefix("sha256/").ok_or_else(wanted_pin)?;
        pins.push(certificates.pin(base64, line)?);
    }
    if pins.is_empty() && entry.tlsa.is_none() {
        return Err(wanted_pin());
    }
    let Some(host_name) = host(&entry.host, line)? else {
        note_address(imported, line, &entry.host);
        return Ok(());
    };
    if entry.max_age.is_some() {
        imported.note(
            line,
            "max_age is of a header; the pins are recorded as held until they are ended",
        );
    }
    let mut except = Vec::new();
    for one in &entry.exempt {
        if let Some(host) = host(&one.host, line)? {
            except.push(Except { host, with_subdomains: one.include_subdomains });
        }
    }
    let expires_at = entry.expires_at.map(|text| {
        date::parse(&text).ok_or_else(|| Problem::unexpected(&text, "a time (RFC 3339)").at(line))
    });
    if entry.port == Some(0) {
        return Err(Problem::unexpected("0", "a port").at(line));
    }
    if let Some(records) = entry.tlsa {
        let set = records.read(line, certificates)?;
        imported.tlsa.insert(imported.sets.len(), set);
    }
    let set = PinSet {
        host: host_name,
        matching: one_of(Matching::NAMES, &entry.matching, "exact, one-label or any-depth", line)?,
        include_subdomains: entry.include_subdomains,
        except,
        scope: one_of(Scope::NAMES, &entry.scope, "chain, leaf, path-ca or sent-ca", line)?,
        port: entry.port,
        pins: distinct(pins),
        expires_at: expires_at.transpose()?,
        origin: format!("JSON, line {line}"),
        client: Client::named(&entry.client)
            .ok_or_else(|| Problem::unexpected(&entry.client, "a kind of client").at(line))?,
        group: entry.configuration,
    };
    imported.push(line, set)
}
