//! The keys of well-known certificate authorities: between which keys a CA chooses, and which roots are missing from
//! some trust stores.
//!
//! Data flow: the table of the command (`hpkp-cli/data`) → `ci/ca-table` → `rows.txt` → [`find`]. The rows are
//! parsed once, and only where a policy is checked.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use crate::pin::Pin;

/// Made by `ci/ca-table`: the date, and a line for each key.
const ROWS: &str = include_str!("ca_table/rows.txt");

/// The trust stores in the table: the name in the table, and the name in findings.
const STORES: [(&str, &str); 2] = [("debian", "Debian"), ("mozilla", "Mozilla")];

/// A key of a certificate authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaKey {
    /// Whether the key is a root's. If not, it is an intermediate's.
    pub is_root: bool,
    /// Whether the CA issues certificates with the key, or may start to from one day to the next.
    pub may_issue: bool,
    /// The set of keys among which the CA chooses for each certificate.
    pub rotation: Option<&'static str>,
    /// For a root, the trust stores that contain it, separated by commas.
    pub stores: &'static str,
    /// The operator of the CA, which may have keys under several names.
    pub operator: &'static str,
    /// The name of the CA certificate, if its key is in a rotation or missing from a store.
    pub name: &'static str,
}

impl CaKey {
    /// The stores that do not have this root, by their names.
    pub fn missing_stores(&self) -> impl Iterator<Item = &'static str> {
        let has = |store: &str| self.stores.split(',').any(|one| one == store);
        let missing = STORES.into_iter().filter(move |(store, _)| self.is_root && !has(store));
        missing.map(|(_, name)| name)
    }
}

fn table() -> &'static BTreeMap<Pin, CaKey> {
    static TABLE: OnceLock<BTreeMap<Pin, CaKey>> = OnceLock::new();
    TABLE.get_or_init(|| ROWS.lines().skip(1).filter_map(row).collect())
}

fn row(line: &'static str) -> Option<(Pin, CaKey)> {
    let mut fields = line.split('\t');
    let mut field = || fields.next();
    let (pin, kind, rotation) = (Pin::from_base64(field()?).ok()?, field()?, field()?);
    let (stores, operator, name) = (field()?, field()?, field()?);
    let (role, status) = kind.split_once(' ')?;
    let key = CaKey {
        is_root: role == "root",
        may_issue: matches!(status, "active" | "standby"),
        rotation: Some(rotation).filter(|rotation| !rotation.is_empty()),
        stores,
        operator,
        name,
    };
    Some((pin, key))
}

/// The day on which the table was reviewed.
#[must_use]
pub fn date() -> &'static str {
    ROWS.lines().next().unwrap_or_default()
}

/// The row of a key.
#[must_use]
pub fn find(pin: Pin) -> Option<&'static CaKey> {
    table().get(&pin)
}

/// The keys of a rotation with which certificates may be issued.
pub fn in_rotation(rotation: &str) -> impl Iterator<Item = (Pin, &'static CaKey)> {
    let keys =
        table().iter().filter(move |(_, key)| key.rotation == Some(rotation) && key.may_issue);
    keys.map(|(pin, key)| (*pin, key))
}

/// All keys.
pub fn keys() -> impl Iterator<Item = (Pin, &'static CaKey)> {
    table().iter().map(|(pin, key)| (*pin, key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_read() {
        assert_eq!(table().len(), ROWS.lines().count() - 1);
        assert!(table().len() > 150);
        assert!(crate::date::parse(&format!("{}T00:00:00Z", date())).is_some());
        for (pin, key) in keys() {
            assert!(!key.operator.is_empty(), "{pin}");
            let needs_name = key.rotation.is_some() || key.missing_stores().next().is_some();
            assert!(!needs_name || !key.name.is_empty(), "{pin}");
        }
    }

    #[test]
    fn siblings_may_issue() {
        let names: Vec<&str> = in_rotation("letsencrypt-ecdsa").map(|(_, key)| key.name).collect();
        for name in ["YE1", "YE2", "YE3"] {
            assert!(names.contains(&name), "{names:?}");
        }
        assert!(!names.contains(&"E5"));
    }
}
