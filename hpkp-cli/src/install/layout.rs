//! Assigns the new certificates and keys to file names. Existing files keep their names, because the
//! server's configuration contains them.

use std::collections::BTreeMap;

use openssl::pkey::{PKey, Private};

use super::pair::{Pair, Role, kind};
use super::pem_file::{Bytes, KeyState, PemFile};
use super::place::Entry;
use super::report::Stop;

/// A file to write.
#[derive(Debug)]
pub(crate) struct Written {
    /// The position of the pair to which the file belongs.
    pub(crate) pair: usize,
    pub(crate) role: Role,
    pub(crate) content: Bytes,
}

/// The files to write, by name.
///
/// # Errors
/// Two files would have one name, or a file would replace something else.
pub(crate) fn files(
    pairs: &[Pair],
    present: &BTreeMap<String, Entry>,
) -> Result<BTreeMap<String, Written>, Stop> {
    let mut all: BTreeMap<String, Written> = BTreeMap::new();
    for (place, pair) in pairs.iter().enumerate() {
        for (name, role) in names_of(pair, pairs.len(), present) {
            let name = match all.contains_key(&name) {
                true if pair.is_named => return Err(twice(&name)),
                true => with_kind(&name, pair.kind()),
                false => name,
            };
            let mut content = pair.text(role);
            if let (Role::Combined, Some(Entry::Pem(file))) = (role, present.get(&name)) {
                content.extend_from_slice(&file.other_text());
            }
            if content.is_empty() {
                // There is no chain to write. The existing file stays, since the server may need it.
                continue;
            }
            if all.insert(name.clone(), Written { pair: place, role, content }).is_some() {
                return Err(twice(&name));
            }
        }
    }
    Ok(all)
}

fn twice(name: &str) -> Stop {
    Stop::usage(format!(
        "two certificates would be written to {name}; give each a name of its own: --cert-name FILE=NAME"
    ))
}

/// Adds the kind of key to a file name: `fullchain-rsa.pem`.
fn with_kind(name: &str, kind: &str) -> String {
    match name.rsplit_once('.') {
        Some((stem, end)) => format!("{stem}-{kind}.{end}"),
        None => format!("{name}-{kind}"),
    }
}

/// The file names for one of `count` pairs: the names of the files that it replaces, or the client's names
/// if it replaces none.
fn names_of(
    pair: &Pair,
    count: usize,
    present: &BTreeMap<String, Entry>,
) -> BTreeMap<String, Role> {
    let pem = present.iter().filter_map(|(name, entry)| match entry {
        Entry::Pem(file) => Some((name.as_str(), file)),
        _ => None,
    });
    let old = Old::new(pair, count, pem.collect());
    let mut names = BTreeMap::new();
    for (name, file) in &old.files {
        let by_name = pair.names.get(*name).copied();
        if !old.is_replaced(name, file) {
            continue;
        }
        // A key in the file determines its role; the name does not.
        let by_name = by_name.filter(|one| file.has_key() == (*one == Role::Key));
        names.extend(by_name.or(old.role(file)).map(|role| ((*name).to_owned(), role)));
    }
    complete(names, pair)
}

/// The files in the server's directory, and the ones that a pair replaces.
struct Old<'a> {
    pair: &'a Pair,
    files: BTreeMap<&'a str, &'a PemFile>,
    keys: Vec<&'a PKey<Private>>,
    /// The files with a certificate that the pair replaces.
    leaves: Vec<&'a PemFile>,
}

impl<'a> Old<'a> {
    fn new(pair: &'a Pair, count: usize, files: BTreeMap<&'a str, &'a PemFile>) -> Self {
        let keys = keys_of(&files);
        let with_leaf = files.iter().filter(|(_, file)| kind_of_leaf(file, &keys).is_some());
        let with_leaf: Vec<(&str, &PemFile)> =
            with_leaf.map(|(name, file)| (*name, *file)).collect();
        let shares = |file: &PemFile| {
            let names =
                file.certificates.first().map(|leaf| leaf.accepted_names()).unwrap_or_default();
            names.iter().any(|name| pair.leaf().is_for(name))
        };
        let is_one = |files: &[&PemFile]| {
            files.windows(2).all(|two| two[0].certificates[0].pin() == two[1].certificates[0].pin())
        };
        let all: Vec<&PemFile> = with_leaf.iter().map(|(_, file)| *file).collect();
        let ours: Vec<&PemFile> = all.iter().filter(|file| shares(file)).copied().collect();
        // The certificate with the same name and kind is replaced. If there is none, one of any kind is: in
        // a file of the same name, the only one with the name, or the only one at all.
        let has_kind = ours.iter().any(|file| kind_of_leaf(file, &keys) == Some(pair.kind()));
        let is_single = count == 1 && !has_kind;
        let is_only = is_single && is_one(&ours);
        let is_alone = is_single && is_one(&all);
        let leaves = with_leaf.into_iter().filter(|(name, file)| {
            let is_of_kind = kind_of_leaf(file, &keys) == Some(pair.kind());
            pair.names.contains_key(*name) && (is_of_kind || is_single)
                || shares(file) && (is_of_kind || is_only)
                || is_alone
        });
        let leaves = leaves.map(|(_, file)| file).collect();
        Self { pair, files, keys, leaves }
    }

    fn kind_of_leaf(&self, file: &PemFile) -> Option<&'static str> {
        kind_of_leaf(file, &self.keys)
    }

    fn is_replaced(&self, name: &str, file: &PemFile) -> bool {
        let is_damaged = file.damage.is_some() && !file.has_key();
        if self.kind_of_leaf(file).is_none() && is_damaged {
            return self.leaves.is_empty() || self.pair.names.contains_key(name);
        }
        if self.kind_of_leaf(file).is_some() {
            return self.leaves.iter().any(|one| std::ptr::eq(*one, file));
        }
        let is_named = self.pair.names.contains_key(name);
        match &file.key {
            KeyState::None => {
                self.leaves.iter().any(|leaf| is_chain_of(file, leaf))
                    || self.pair.names.get(name) == Some(&Role::Chain)
            }
            KeyState::One(key) => {
                let is_of_kind = kind(key) == self.pair.kind();
                self.leaves.iter().any(|leaf| leaf.leaf_of(key))
                    || self.is_orphan(file) && (is_named || is_of_kind)
            }
            KeyState::Encrypted | KeyState::Unusable => is_named || self.is_orphan(file),
        }
    }

    /// Whether a key is the only separate key in the directory, or belongs to no certificate there, because
    /// somebody has replaced one of two files.
    fn is_orphan(&self, file: &PemFile) -> bool {
        let fits = |one: &PemFile| match &file.key {
            KeyState::One(key) => one.leaf_of(key),
            _ => false,
        };
        let keys =
            self.files.values().filter(|file| file.has_key() && file.certificates.is_empty());
        keys.count() == 1 || !self.files.values().copied().any(fits)
    }

    fn role(&self, file: &PemFile) -> Option<Role> {
        let has_chain = || self.files.values().any(|other| is_chain_of(other, file));
        Some(match (file.has_key(), file.certificates.len()) {
            (false, 0) if file.damage.is_none() => return None,
            (false, _) if self.kind_of_leaf(file).is_none() && file.damage.is_none() => Role::Chain,
            (false, 1) if has_chain() => Role::Leaf,
            (false, _) => Role::Full,
            (true, 0) => Role::Key,
            (true, _) => Role::Combined,
        })
    }
}

/// Adds the names that the operator gave, and the roles that no file in the directory has.
fn complete(mut names: BTreeMap<String, Role>, pair: &Pair) -> BTreeMap<String, Role> {
    let is_new = names.is_empty();
    let has = |roles: &[Role]| names.values().any(|role| roles.contains(role));
    let lacks_key = !has(&[Role::Key, Role::Combined]);
    let lacks_certificate = !has(&[Role::Full, Role::Leaf, Role::Combined]);
    for (name, role) in &pair.names {
        let is_lacking = match role {
            Role::Key => lacks_key,
            Role::Full | Role::Combined => lacks_certificate,
            Role::Leaf | Role::Chain => false,
        };
        if is_new || pair.is_named || is_lacking {
            names.insert(name.clone(), *role);
        }
    }
    names
}

/// The keys that could be read.
fn keys_of<'a>(files: &BTreeMap<&'a str, &'a PemFile>) -> Vec<&'a PKey<Private>> {
    let keys = files.values().filter_map(|file| match &file.key {
        KeyState::One(key) => Some(key),
        _ => None,
    });
    keys.collect()
}

/// The kind of the first certificate in a file, if it is a server's certificate: it has a host name, or one
/// of the keys belongs to it. `None` for a file with CA certificates or a key alone.
fn kind_of_leaf(file: &PemFile, keys: &[&PKey<Private>]) -> Option<&'static str> {
    let leaf = file.certificates.first()?;
    let certificate = openssl::x509::X509::from_der(leaf.der()).ok()?;
    let has_names = || certificate.subject_alt_names().is_some_and(|names| !names.is_empty());
    let is_leaf = file.has_key()
        || !leaf.dns_names().is_empty()
        || has_names()
        || keys.iter().any(|key| file.leaf_of(key));
    is_leaf.then(|| super::pair::kind_of_public(&certificate))
}

/// Whether a file contains only the chain of another file's first certificate, beginning with its issuer.
fn is_chain_of(file: &PemFile, leaf: &PemFile) -> bool {
    let (Some(first), Some(leaf_certificate)) =
        (file.certificates.first(), leaf.certificates.first())
    else {
        return false;
    };
    let is_other = first.der() != leaf_certificate.der() && !file.has_key();
    let sent = leaf.certificates.get(1..).unwrap_or_default();
    let is_sent = sent.len() == file.certificates.len()
        && sent.iter().zip(&file.certificates).all(|(a, b)| a.der() == b.der());
    is_other && (is_sent || sent.is_empty() && leaf_certificate.may_be_issued_by(first))
}
