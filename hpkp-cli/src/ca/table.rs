//! The table of CA keys: two built-in files, and one file of the operator.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use hpkp_core::date;
use hpkp_core::pin::Pin;
use serde::{Deserialize, Serialize};

use crate::exit::Exit;
use crate::input::{self, InputError};
use crate::output;

/// The trusted roots of Debian and Mozilla; made by `ci/ca-roots`.
const ROOTS: &str = include_str!("../../data/ca-roots.json");

/// Intermediates, each with its source; maintained by hand.
const INTERMEDIATES: &str = include_str!("../../data/ca-intermediates.json");

/// The value of `format` in a table file.
const FORMAT: &str = "hpkp-ca-table";

/// The version of the format.
const VERSION: u32 = 1;

/// The largest table that is read, in bytes.
const MAX_TABLE: usize = 4 << 20;

/// A table file.
#[derive(Debug, Deserialize)]
struct TableFile {
    format: String,
    v: u32,
    date: String,
    #[serde(default)]
    rotations: Vec<Rotation>,
    keys: Vec<CaKey>,
}

/// A group of keys from which a CA chooses one for each certificate.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Rotation {
    pub(crate) id: String,
    pub(crate) ca: String,
    /// How the CA chooses.
    pub(crate) text: String,
    /// Whether the table contains all keys of the rotation.
    #[serde(default)]
    pub(crate) complete: bool,
    pub(crate) source: String,
}

/// A key of a CA.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct CaKey {
    /// `sha256/` and base64.
    pub(crate) pin: String,
    pub(crate) name: String,
    pub(crate) ca: String,
    pub(crate) role: CaRole,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rotation: Option<String>,
    pub(crate) status: CaStatus,
    /// The validity of the certificate, in RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) valid_from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) valid_to: Option<String>,
    /// The document that states the key and its properties.
    pub(crate) source: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) changes: Vec<CaChange>,
}

/// A change of a key's status.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct CaChange {
    /// The day, such as 2026-01-01.
    pub(crate) date: String,
    pub(crate) what: CaStatus,
    pub(crate) source: String,
}

/// The kind of certificate that has the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum CaRole {
    Root,
    Intermediate,
}

impl CaRole {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Intermediate => "intermediate",
        }
    }
}

/// Whether the CA issues certificates with the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum CaStatus {
    Active,
    /// The CA does not issue with the key now, but may begin without notice.
    Standby,
    /// The CA no longer issues with the key.
    Retired,
    /// The certificate was published. A key of this status may begin to issue.
    Published,
}

impl CaStatus {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Standby => "standby",
            Self::Retired => "retired",
            Self::Published => "published",
        }
    }

    /// Whether the next certificate may be issued with it.
    pub(crate) const fn may_issue(self) -> bool {
        matches!(self, Self::Active | Self::Standby)
    }
}

/// Why a table cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TableError {
    #[error("{0}: {1}")]
    Input(String, InputError),
    #[error("{}: not a valid table of CA keys: {}", .0, output::printable(.1))]
    Invalid(String, String),
}

impl TableError {
    pub(crate) const fn exit(&self) -> Exit {
        match self {
            Self::Input(_, error) => error.exit(),
            Self::Invalid(..) => Exit::No,
        }
    }
}

/// All known CA keys.
#[derive(Debug)]
pub(crate) struct CaTable {
    /// The review date of the newest part.
    date: String,
    keys: BTreeMap<String, CaKey>,
    rotations: BTreeMap<String, Rotation>,
}

impl CaTable {
    /// Reads the built-in table, and the table in a file.
    ///
    /// # Errors
    /// The file cannot be used.
    pub(crate) fn read(file: Option<&Path>) -> Result<Self, TableError> {
        let built_in = |text| TableFile::parse(text);
        let mut tables = Vec::new();
        for (name, text) in [("ca-roots.json", ROOTS), ("ca-intermediates.json", INTERMEDIATES)] {
            let table = built_in(text.as_bytes());
            tables.push(table.map_err(|error| TableError::Invalid(name.to_owned(), error))?);
        }
        if let Some(path) = file {
            let shown = output::path(path);
            let bytes = input::named(path, MAX_TABLE)
                .map_err(|error| TableError::Input(shown.clone(), error))?;
            let table = TableFile::parse(&bytes);
            tables.push(table.map_err(|error| TableError::Invalid(shown, error))?);
        }
        // A newer table replaces the keys of an older one. The sort is stable, so a file of the same day
        // replaces the built-in keys.
        tables.sort_by(|a, b| a.date.cmp(&b.date));
        let date = tables.last().map(|table| table.date.clone()).unwrap_or_default();
        let (mut keys, mut rotations) = (BTreeMap::new(), BTreeMap::new());
        for table in tables {
            keys.extend(table.keys.into_iter().map(|key| (key.pin.clone(), key)));
            rotations.extend(table.rotations.into_iter().map(|one| (one.id.clone(), one)));
        }
        Ok(Self { date, keys, rotations })
    }

    pub(crate) fn date(&self) -> &str {
        &self.date
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &CaKey> {
        self.keys.values()
    }

    pub(crate) fn find(&self, pin: Pin) -> Option<&CaKey> {
        self.keys.get(&format!("sha256/{pin}"))
    }

    pub(crate) fn rotation(&self, key: &CaKey) -> Option<&Rotation> {
        self.rotations.get(key.rotation.as_ref()?)
    }

    /// The other keys of the same rotation with which the CA issues certificates or may begin to at any
    /// time.
    pub(crate) fn siblings<'a>(&'a self, key: &'a CaKey) -> impl Iterator<Item = &'a CaKey> {
        let is_sibling = |other: &&CaKey| {
            other.rotation.is_some() && other.rotation == key.rotation && other.pin != key.pin
        };
        self.keys.values().filter(is_sibling).filter(|other| other.status.may_issue())
    }
}

impl TableFile {
    fn parse(text: &[u8]) -> Result<Self, String> {
        let mut table: Self = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        if table.format != FORMAT || table.v != VERSION {
            return Err(format!("expected format \"{FORMAT}\", version {VERSION}"));
        }
        if !is_day(&table.date) {
            return Err(format!("invalid date \"{}\"", table.date));
        }
        let rotations: BTreeSet<&str> = table.rotations.iter().map(|one| one.id.as_str()).collect();
        for key in &table.keys {
            key.check(&rotations).map_err(|error| format!("key \"{}\": {error}", key.name))?;
        }
        for key in &mut table.keys {
            // Keys are looked up by the canonical form of the pin.
            if let Ok(pin) = key.pin.parse::<Pin>() {
                key.pin = format!("sha256/{pin}");
            }
        }
        Ok(table)
    }
}

impl CaKey {
    fn check(&self, rotations: &BTreeSet<&str>) -> Result<(), String> {
        self.pin.parse::<Pin>().map_err(|error| format!("invalid pin: {error}"))?;
        let times = self.valid_from.iter().chain(&self.valid_to);
        if let Some(time) = times.into_iter().find(|time| date::parse(time).is_none()) {
            return Err(format!("invalid time \"{time}\" (expected 2026-11-21T12:00:00Z)"));
        }
        if let Some(change) = self.changes.iter().find(|change| !is_day(&change.date)) {
            return Err(format!("invalid date \"{}\" (expected 2026-11-21)", change.date));
        }
        match &self.rotation {
            Some(id) if !rotations.contains(id.as_str()) => {
                Err(format!("unknown rotation \"{id}\""))
            }
            _ => Ok(()),
        }
    }
}

fn is_day(text: &str) -> bool {
    date::parse(&format!("{text}T00:00:00Z")).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_table_is_valid() {
        let table = CaTable::read(None).expect("a table");
        assert!(table.keys().filter(|key| key.role == CaRole::Root).count() > 100);
        for key in table.keys() {
            assert!(key.source.starts_with("https://"), "{key:?}");
            assert!(!key.name.is_empty() && !key.ca.is_empty(), "{key:?}");
            let last = key.changes.iter().max_by_key(|change| &change.date);
            let is_last =
                last.is_none_or(|last| last.what == key.status || last.what == CaStatus::Published);
            assert!(is_last, "{key:?}");
            assert!(key.changes.iter().all(|change| change.source.starts_with("https://")));
        }
    }

    /// The server modules contain an extract of the table.
    #[test]
    fn the_table_of_the_modules_is_up_to_date() {
        let table = CaTable::read(None).expect("a table");
        for key in table.keys() {
            let pin = key.pin.parse().expect("a pin");
            let known = hpkp_core::ca_table::find(pin).expect("run ci/ca-table");
            assert_eq!(known.is_root, key.role == CaRole::Root, "{key:?}");
            assert_eq!(known.may_issue, key.status.may_issue(), "{key:?}");
            assert_eq!(known.rotation, key.rotation.as_deref(), "{key:?}");
        }
        assert_eq!(hpkp_core::ca_table::keys().count(), table.keys().count());
        assert_eq!(hpkp_core::ca_table::date(), table.date());
    }

    #[test]
    fn siblings_are_those_that_may_issue() {
        let table = CaTable::read(None).expect("a table");
        let named = |name: &str| table.keys().find(|key| key.name == name).expect("a key");
        let siblings = |name| -> BTreeSet<&str> {
            table.siblings(named(name)).map(|key| key.name.as_str()).collect()
        };
        assert_eq!(siblings("YE1"), BTreeSet::from(["YE2", "YE3"]));
        assert_eq!(siblings("E7"), BTreeSet::from(["YE1", "YE2", "YE3"]));
        assert_eq!(siblings("R12"), BTreeSet::from(["YR1", "YR2", "YR3"]));
    }

    #[test]
    fn each_fault_of_a_table_is_reported() {
        let row = "{\"pin\":\"PIN\",\"name\":\"N\",\"ca\":\"C\",\"role\":\"root\",\
                   \"status\":\"active\",\"source\":\"https://x\"MORE}";
        let table = |pin: &str, more: &str| {
            let row = row.replace("PIN", pin).replace("MORE", more);
            let text = format!(
                "{{\"format\":\"hpkp-ca-table\",\"v\":1,\"date\":\"2026-01-01\",\"keys\":[{row}]}}"
            );
            TableFile::parse(text.as_bytes()).map(|_| ())
        };
        let good = format!("sha256/{}", Pin::from_bytes([7; 32]));
        assert_eq!(table(&good, ""), Ok(()));
        for (pin, more, error) in [
            ("sha256/AAAA", "", "invalid pin"),
            (&good, ",\"rotation\":\"x\"", "unknown rotation"),
            (&good, ",\"valid_to\":\"2026\"", "invalid time"),
            (
                &good,
                ",\"changes\":[{\"date\":\"x\",\"what\":\"active\",\"source\":\"\"}]",
                "invalid date",
            ),
        ] {
            assert!(table(pin, more).is_err_and(|text| text.contains(error)), "{error}");
        }
        for text in ["", "{}", "{\"format\":\"x\",\"v\":1,\"date\":\"2026-01-01\",\"keys\":[]}"] {
            assert!(TableFile::parse(text.as_bytes()).is_err(), "{text}");
        }
    }
}
