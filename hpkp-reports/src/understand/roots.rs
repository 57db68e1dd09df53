//! Known private roots: antivirus programs, proxies of companies, debugging tools.
//!
//! Most of these products create a root on each machine, so that only the name of the root identifies the product. A
//! name proves nothing, but it is used only for chains that lead to no public CA anyway.

use std::path::Path;

use serde::Deserialize;

/// The list that is built into the program.
const BUILT_IN: &str = include_str!("../../data/private-roots.json");

/// The largest list, in bytes.
const MAX_FILE: u64 = 4 << 20;

/// The list.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrivateRoots {
    format: String,
    v: u32,
    /// The day of its last review.
    pub date: String,
    roots: Vec<PrivateRoot>,
}

/// One product.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrivateRoot {
    /// The product.
    pub product: String,
    /// The kind of product.
    pub kind: String,
    /// Texts, each of which identifies the product if it is in the name of the root or of an issuer below it.
    names: Vec<String>,
    /// Pins of roots that are the same on all machines.
    #[serde(default)]
    pins: Vec<String>,
    /// The web page with this information.
    pub source: String,
}

impl PrivateRoots {
    /// Reads the built-in list, with the entries of the file before it.
    ///
    /// # Errors
    /// The file cannot be used.
    pub fn read(file: Option<&Path>) -> Result<Self, String> {
        let mut list = Self::parse(BUILT_IN)?;
        if let Some(path) = file {
            let name = path.display();
            let size = std::fs::metadata(path)
                .map_err(|error| format!("{name}: {}", crate::output::os(&error)))?
                .len();
            if size > MAX_FILE {
                return Err(format!("{name}: larger than {MAX_FILE} bytes"));
            }
            let text = std::fs::read_to_string(path)
                .map_err(|error| format!("{name}: {}", crate::output::os(&error)))?;
            let mut own = Self::parse(&text).map_err(|error| format!("{name}: {error}"))?;
            own.roots.append(&mut list.roots);
            list = own;
        }
        Ok(list)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let list: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if list.format != "hpkp-private-roots" || list.v != 1 {
            return Err("expected format \"hpkp-private-roots\", version 1".to_owned());
        }
        if list.roots.iter().flat_map(|root| &root.names).any(|name| name.trim().len() < 4) {
            return Err("a name is shorter than 4 characters: it would match everything".to_owned());
        }
        Ok(list)
    }

    /// The product whose root is in the chain. `names` are the names in the chain, `pins` the pins of its keys.
    #[must_use]
    pub fn find(&self, names: &[&str], pins: &[String]) -> Option<&PrivateRoot> {
        self.roots.iter().find(|root| {
            root.names.iter().any(|part| names.iter().any(|name| name.contains(part.as_str())))
                || root.pins.iter().any(|pin| pins.contains(pin))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_list_is_valid_and_finds_mitmproxy() {
        let list = PrivateRoots::read(None).expect("valid");
        assert!(list.roots.len() > 15);
        assert!(list.roots.iter().all(|root| root.source.starts_with("https://")));
        let found = list.find(&["CN=mitmproxy, O=mitmproxy"], &[]).expect("mitmproxy");
        assert_eq!(found.kind, "debugging tool");
        assert!(list.find(&["CN=ISRG Root X1"], &[]).is_none());
    }
}
