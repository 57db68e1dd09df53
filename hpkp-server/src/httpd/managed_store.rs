//! The certificates in mod_md's store (`MDStoreDir`) that the next start or reload will load.
//!
//! mod_md activates the certificates in `staging/NAME` if all of them are there: they replace those in `domains/NAME`.
//! It then loads one for each type of key that the configuration names, and no other file.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use hpkp_core::text::Excerpt;
use serde_json::Value;

use crate::file::{self, FileError};

/// The largest description of a domain (`md.json`), in bytes.
const MAX_DESCRIPTION: usize = 1 << 20;

/// The type of key of a domain without `MDPrivateKeys`.
const RSA: &str = "rsa";

/// mod_md's store.
#[derive(Debug)]
pub(super) struct ManagedStore {
    root: PathBuf,
    /// The domains whose certificates are in the directory of an earlier name, with that name.
    renamed: OnceCell<Result<HashMap<String, String>, String>>,
}

impl ManagedStore {
    /// The store in this directory.
    pub(super) fn new(root: String) -> Self {
        Self { root: root.into(), renamed: OnceCell::new() }
    }

    /// The files of certificates that mod_md will load for the domain `name` with these types of keys, each with the
    /// file of its key. `all` are the names of each domain of the configuration. The error says what could not be read.
    pub(super) fn pairs<'a>(
        &self,
        name: &str,
        types: &[String],
        all: impl Fn() -> Vec<&'a [String]>,
    ) -> Result<Vec<(String, String)>, String> {
        let own = self.root.join("domains").join(name);
        let mut earlier = None;
        if !is_there(&own)? {
            let renamed = self.renamed.get_or_init(|| self.renamed(&all()));
            earlier = renamed.as_ref().map_err(Clone::clone)?.get(name);
        }
        let at = earlier.map_or(name, String::as_str);
        let mut staging = self.root.join("staging").join(name);
        if !is_there(&staging)? {
            staging = self.root.join("staging").join(at);
        }
        if let Some(staged) = staged(&staging)? {
            let types = types.iter().filter(|wanted| staged.contains(wanted));
            return types.filter_map(|wanted| pair(&staging, wanted).transpose()).collect();
        }
        let domain = self.root.join("domains").join(at);
        types.iter().filter_map(|wanted| pair(&domain, wanted).transpose()).collect()
    }

    /// A configured domain without a directory is one that has another first name now, if a directory that no
    /// configured domain has is of a domain with the same names or some of them. mod_md renames the directory.
    fn renamed(&self, all: &[&[String]]) -> Result<HashMap<String, String>, String> {
        let domains = self.root.join("domains");
        let names = all.iter().map(|domain| domain[0].as_str());
        let unread = |error| unreadable(&domains, &file::reason(&error));
        let entries = file::if_there(fs::read_dir(&domains)).map_err(unread)?;
        let mut left: Vec<(String, Vec<String>)> = Vec::new();
        let mut present: Vec<String> = Vec::new();
        for entry in entries.into_iter().flatten() {
            let Ok(name) = entry.map_err(unread)?.file_name().into_string() else { continue };
            if names.clone().any(|configured| configured == name) {
                present.push(name);
            } else if let Some(found) = description(&domains.join(&name))? {
                left.push((string(&found, "name").unwrap_or(&name).to_owned(), domains_of(&found)));
            }
        }
        let mut renamed = HashMap::new();
        for domain in all.iter().filter(|domain| !present.contains(&domain[0])) {
            if let Some(at) = closest(&left, domain) {
                renamed.insert(domain[0].clone(), left.remove(at).0);
            }
        }
        Ok(renamed)
    }
}

/// The position of the domain that mod_md takes for the earlier form of one with these names.
fn closest(left: &[(String, Vec<String>)], names: &[String]) -> Option<usize> {
    let common = |(_, domains): &(String, Vec<String>)| {
        let is_in = |name: &&String| domains.iter().any(|domain| is_for(domain, name));
        names.iter().filter(is_in).count()
    };
    let named = left.iter().position(|(name, _)| *name == names[0]);
    let whole =
        || left.iter().position(|it| it.1.len() >= names.len() && common(it) == names.len());
    let best = || {
        // Of several with the same number of names, mod_md takes the first.
        let counted = left.iter().map(common).enumerate().rev();
        counted.filter(|(_, count)| *count > 0).max_by_key(|(_, count)| *count).map(|(at, _)| at)
    };
    named.or_else(whole).or_else(best)
}

/// The types of keys in `MDPrivateKeys`, as they are in the names of files.
pub(super) fn types_of(words: &[String]) -> Vec<String> {
    let mut types: Vec<String> = Vec::new();
    for word in words {
        let word = word.to_ascii_lowercase();
        match word.strip_prefix(RSA) {
            // The length of the key may be a word of its own.
            _ if word.starts_with(|first: char| first.is_ascii_digit()) => {}
            Some(bits) if bits.bytes().all(|byte| byte.is_ascii_digit()) => {
                types.push(RSA.to_owned());
            }
            _ if word == "default" => types.push(RSA.to_owned()),
            _ => types.push(word),
        }
    }
    if types.is_empty() {
        types.push(RSA.to_owned());
    }
    types
}

/// The types of keys of a set of staged certificates that mod_md will activate; `None` if nothing is staged or the set
/// is not complete, in which case mod_md removes it.
fn staged(directory: &Path) -> Result<Option<Vec<String>>, String> {
    let Some(found) = description(directory)? else { return Ok(None) };
    if found.get("ca").and_then(|ca| string(ca, "url")).is_none() {
        return Ok(None);
    }
    let type_of = |key: &Value| match (string(key, "type"), string(key, "curve")) {
        (Some(kind), Some(curve)) if kind.eq_ignore_ascii_case("ec") => curve.to_ascii_lowercase(),
        _ => RSA.to_owned(),
    };
    let types: Vec<String> = match found.get("privkey") {
        Some(Value::Array(keys)) => keys.iter().map(type_of).collect(),
        Some(key) => vec![type_of(key)],
        None => types_of(&[]),
    };
    for wanted in &types {
        if pair(directory, wanted)?.is_none() {
            return Ok(None);
        }
    }
    Ok(Some(types))
}

/// The files of a certificate and its key in a directory, if both are there.
fn pair(directory: &Path, wanted: &str) -> Result<Option<(String, String)>, String> {
    let file = |base: &str| {
        directory.join(match wanted {
            RSA => format!("{base}.pem"),
            _ => format!("{base}.{wanted}.pem"),
        })
    };
    let (certificate, key) = (file("pubcert"), file("privkey"));
    if !is_there(&certificate)? || !is_there(&key)? {
        return Ok(None);
    }
    let text = |path: PathBuf| path.into_os_string().into_string().ok();
    Ok(text(certificate).zip(text(key)))
}

/// The description of the domain in a directory of the store; `None` if there is none that mod_md can read.
fn description(directory: &Path) -> Result<Option<Value>, String> {
    let path = directory.join("md.json");
    match file::read(&path.to_string_lossy(), MAX_DESCRIPTION) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
        Err(FileError::Io(error))
            if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
        {
            Ok(None)
        }
        Err(error) => Err(unreadable(&path, &error.to_string())),
    }
}

/// Whether a domain, in which `*.` stands for one label, is for a name.
pub(super) fn is_for(domain: &str, name: &str) -> bool {
    let parent = || Some(name.split_once('.')?.1.eq_ignore_ascii_case(domain.strip_prefix("*.")?));
    domain.eq_ignore_ascii_case(name) || parent() == Some(true)
}

fn string<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object.get(key)?.as_str()
}

fn domains_of(description: &Value) -> Vec<String> {
    let all = description.get("domains").and_then(Value::as_array);
    all.into_iter().flatten().filter_map(|name| Some(name.as_str()?.to_owned())).collect()
}

fn is_there(path: &Path) -> Result<bool, String> {
    let found = file::if_there(fs::metadata(path));
    found.map(|it| it.is_some()).map_err(|error| unreadable(path, &file::reason(&error)))
}

fn unreadable(path: &Path, why: &str) -> String {
    format!("cannot read \"{}\" of mod_md: {why}", Excerpt::new(path.to_string_lossy().as_bytes()))
}
