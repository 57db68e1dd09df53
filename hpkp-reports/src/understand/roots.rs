//! Private roots that are known: antivirus programs, proxies of companies, debugging tools.
//!
//! Most of them make a root of their own on each machine, so that only its name tells what it is. A name proves
//! nothing; what it explains is a chain that leads to no public CA anyway.

use std::path::Path;

use serde::Deserialize;

/// The list that comes with the program.
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
    /// What kind of product it is.
    pub kind: String,
    /// Texts of which each is in the name of the root or of an issuer below it.
    names: Vec<String>,
    /// Pins of roots that are the same everywhere.
    #[serde(default)]
    pins: Vec<String>,
    /// Where that is to be found.
    pub source: String,
}

impl PrivateRoots {
    /// The built-in list, and before it that in a file.
    ///
    /// # Errors
    /// The file cannot be used.
    pub fn read(file: Option<&Path>) -> Result<Self, String> {
        let mut list = Self::parse(BUILT_IN)?;
        if let Some(path) = file {
            let shown = path.display();
            let size = std::fs::metadata(path)
                .map_err(|error| format!("{shown}: {}", crate::output::os(&error)))?
                .len();
            if size > MAX_FILE {
                return Err(format!("{shown}: larger than {MAX_FILE} bytes"));
            }
            let text = std::fs::read_to_string(path)
                .map_err(|error| format!("{shown}: {}", crate::output::os(&error)))?;
            let mut own = Self::parse(&text).map_err(|error| format!("{shown}: {error}"))?;
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

    /// The product whose root is in the chain: `names` are issuers and subjects, `pins` of its keys.
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
    fn the_built_in_list_is_sound() {
        let list = PrivateRoots::read(None).expect("valid");
        assert!(list.roots.len() > 15);
        assert!(list.roots.iter().all(|root| root.source.starts_with("https://")));
        let found = list.find(&["CN=mitmproxy, O=mitmproxy"], &[]).expect("mitmproxy");
        assert_eq!(found.kind, "debugging tool");
        assert!(list.find(&["CN=ISRG Root X1"], &[]).is_none());
    }
}
