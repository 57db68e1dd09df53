//! Finds certificates and keys in an ACME client's directory: `fullchain.pem` and `privkey.pem` of certbot
//! and dehydrated, `fullchain.cer` and `NAME.key` of acme.sh, `NAME.crt` and `NAME.key` of lego,
//! `NAME/cert.pem` and `private/NAME/key.pem` of uacme, or any files whose certificate and key belong
//! together.

use std::collections::BTreeMap;
use std::path::Path;

use hpkp_core::text::Excerpt;

use super::pair::{Pair, Parts, Role};
use super::pem_file::{KeyState, PemFile};
use super::report::Stop;
use crate::arguments::InstallArguments;
use crate::output;

/// The most files in a client's directory.
const MAX_FILES: usize = 10_000;

/// The files of a directory, by name.
type Files = BTreeMap<String, PemFile>;

/// The pairs in the directories, one for each kind of key.
///
/// # Errors
/// There is no pair, or several are possible.
pub(crate) fn pairs(arguments: &InstallArguments) -> Result<Vec<Pair>, Stop> {
    let mut pairs = Vec::new();
    for directory in &arguments.from {
        let files = files(directory)?;
        let found = match (&arguments.cert_name[..], &arguments.key_name[..]) {
            ([], []) => found(directory, &files, arguments.name.as_deref())?,
            _ => named(directory, &files, arguments)?,
        };
        for parts in found {
            pairs.push(Pair::new(parts)?);
        }
    }
    one_of_each_kind(&pairs)?;
    Ok(pairs)
}

fn one_of_each_kind(pairs: &[Pair]) -> Result<(), Stop> {
    for (place, pair) in pairs.iter().enumerate() {
        if let Some(other) = pairs[..place].iter().find(|other| other.kind() == pair.kind()) {
            return Err(Stop::usage(format!(
                "{} and {} both have {} keys, and a server takes one certificate of each kind; choose one with \
                 --name, or with --cert-name and --key-name",
                output::path(&other.certificate),
                output::path(&pair.certificate),
                pair.kind()
            )));
        }
    }
    Ok(())
}

fn files(directory: &Path) -> Result<Files, Stop> {
    let shown = output::path(directory);
    let entries = std::fs::read_dir(directory).map_err(|error| {
        Stop::undetermined("source-unreadable", format!("{shown}: {}", output::os(&error)))
    })?;
    let mut files = Files::new();
    for (count, entry) in entries.enumerate() {
        if count == MAX_FILES {
            return Err(Stop::undetermined(
                "source-too-large",
                format!("{shown}: more than {MAX_FILES} files"),
            ));
        }
        let entry = entry.map_err(|error| Stop::io(&shown, &error))?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if name.starts_with('.') {
            continue;
        }
        if let Some(file) = PemFile::found(&entry.path())? {
            files.insert(name, file);
        }
    }
    if !files.values().any(PemFile::has_key) {
        files.extend(key_of_uacme(directory)?);
    }
    Ok(files)
}

/// Finds uacme's key: that of `CONFDIR/NAME/cert.pem` is `CONFDIR/private/NAME/key.pem`.
fn key_of_uacme(directory: &Path) -> Result<Option<(String, PemFile)>, Stop> {
    let Some((above, name)) = directory.parent().zip(directory.file_name()) else {
        return Ok(None);
    };
    let key = above.join("private").join(name).join("key.pem");
    match key.exists() {
        true => Ok(PemFile::found(&key)?.map(|file| ("key.pem".to_owned(), file))),
        false => Ok(None),
    }
}

/// The pairs of files that the operator named.
fn named<'a>(
    directory: &Path,
    files: &'a Files,
    arguments: &InstallArguments,
) -> Result<Vec<Parts<'a>>, Stop> {
    let (certificates, keys) = (&arguments.cert_name, &arguments.key_name);
    if certificates.is_empty() || keys.len() != certificates.len() {
        return Err(Stop::usage(
            "--cert-name and --key-name belong together: give each as often as the other",
        ));
    }
    let get = |argument: &str| -> Result<(&'a PemFile, String), Stop> {
        let (name, target) = argument.split_once('=').unwrap_or((argument, argument));
        let file = files.get(name).ok_or_else(|| {
            Stop::refused(
                "source-missing",
                format!(
                    "{}: no PEM file of that name with a certificate or a key",
                    output::path(&directory.join(name))
                ),
            )
        })?;
        Ok((file, file_name(target)?))
    };
    let certificates = certificates.iter().map(|name| get(name)).collect::<Result<Vec<_>, _>>()?;
    let keys = keys.iter().map(|name| get(name)).collect::<Result<Vec<_>, _>>()?;
    let others: Vec<&PemFile> = files.values().filter(|file| !file.has_key()).collect();
    // Finds the key of each certificate, in any order of the arguments. A key without a certificate is
    // reported later.
    let pairs =
        certificates.into_iter().zip(keys.clone()).map(|((certificate, target), beside)| {
            let mut fitting = keys.iter().filter(
                |(key, _)| matches!(&key.key, KeyState::One(key) if certificate.leaf_of(key)),
            );
            let (key, key_target) = fitting.next().cloned().unwrap_or(beside);
            let is_one = std::ptr::eq(key, certificate);
            let names = match is_one {
                true => BTreeMap::from([(target, Role::Combined)]),
                false => BTreeMap::from([(target, Role::Full), (key_target, Role::Key)]),
            };
            Parts {
                certificate: Some(certificate),
                key: Some(key),
                others: others.clone(),
                names,
                is_named: true,
            }
        });
    Ok(pairs.collect())
}

/// Checks that an argument is the name of a file without a path.
fn file_name(name: &str) -> Result<String, Stop> {
    let is_plain = !name.is_empty() && !name.contains('/') && name != "." && name != "..";
    match is_plain {
        true => Ok(name.to_owned()),
        false => Err(Stop::usage(format!("\"{}\" is not the name of a file", Excerpt::new(name)))),
    }
}

/// The pairs in a client's directory.
fn found<'a>(
    directory: &Path,
    files: &'a Files,
    name: Option<&str>,
) -> Result<Vec<Parts<'a>>, Stop> {
    let is_it = |parts: &Parts<'_>| {
        name.is_none_or(|name| parts.certificate.is_some_and(|file| has_name(file, name)))
    };
    if let Some(parts) = known(files).filter(is_it) {
        return Ok(vec![parts]);
    }
    let mut pairs = by_keys(files, name);
    if pairs.is_empty() {
        pairs.extend(the_only_ones(files));
    }
    if pairs.is_empty() {
        return Err(Stop::refused("source-missing", nothing_found(directory, files, name)));
    }
    Ok(pairs)
}

/// The files of certbot, dehydrated and acme.sh, by their names. dehydrated keeps all earlier files in the
/// same directory, so the names must be compared before the contents.
fn known(files: &Files) -> Option<Parts<'_>> {
    if let (Some(full), Some(key)) = (files.get("fullchain.pem"), files.get("privkey.pem")) {
        let named = [
            ("fullchain.pem", Role::Full),
            ("privkey.pem", Role::Key),
            ("cert.pem", Role::Leaf),
            ("chain.pem", Role::Chain),
        ];
        return Some(parts(files, full, key, &named.map(|(name, role)| (name.to_owned(), role))));
    }
    let full = files.get("fullchain.cer")?;
    let mut stems = files.keys().filter_map(|name| name.strip_suffix(".key"));
    let stem = stems.next().filter(|_| stems.next().is_none())?;
    let named = [
        ("fullchain.cer".to_owned(), Role::Full),
        (format!("{stem}.key"), Role::Key),
        (format!("{stem}.cer"), Role::Leaf),
        ("ca.cer".to_owned(), Role::Chain),
    ];
    Some(parts(files, full, files.get(&named[1].0)?, &named))
}

fn parts<'a>(
    files: &'a Files,
    full: &'a PemFile,
    key: &'a PemFile,
    named: &[(String, Role)],
) -> Parts<'a> {
    let there = named.iter().filter(|(name, _)| files.contains_key(name)).cloned();
    let names: BTreeMap<String, Role> = there.collect();
    let others = names.keys().filter_map(|name| files.get(name)).filter(|file| !file.has_key());
    Parts {
        certificate: Some(full),
        key: Some(key),
        others: others.collect(),
        names,
        is_named: false,
    }
}

/// The only certificate and the only key, even if they do not belong together.
fn the_only_ones(files: &Files) -> Option<Parts<'_>> {
    let mut keys = files.iter().filter(|(_, file)| file.has_key());
    let key = keys.next().filter(|_| keys.next().is_none())?;
    let mut certificates = files.iter().filter(|(_, file)| {
        file.damage.is_some()
            || file.certificates.first().is_some_and(|one| !one.dns_names().is_empty())
    });
    let certificate = certificates.next().filter(|_| certificates.next().is_none())?;
    let names = [(certificate.0.clone(), Role::Full), (key.0.clone(), Role::Key)];
    Some(parts(files, certificate.1, key.1, &names))
}

/// Certificates and keys that belong together. If several certificates have one key, the newest one.
fn by_keys<'a>(files: &'a Files, wanted: Option<&str>) -> Vec<Parts<'a>> {
    let stem =
        |name: &String| name.rsplit_once('.').map_or(name.clone(), |(stem, _)| stem.to_owned());
    let is_stem = wanted.is_some_and(|wanted| files.keys().any(|name| stem(name) == wanted));
    let is_wanted = |name: &String, file: &PemFile| match wanted {
        None => true,
        Some(wanted) if is_stem => stem(name) == wanted,
        Some(wanted) => has_name(file, wanted),
    };
    let mut pairs: Vec<Parts<'a>> = Vec::new();
    let mut seen: Vec<Vec<u8>> = Vec::new();
    for (key_name, key_file) in files {
        let KeyState::One(key) = &key_file.key else { continue };
        let public = key.public_key_to_der().unwrap_or_default();
        if seen.contains(&public) {
            continue;
        }
        let fitting = files.iter().filter(|(_, file)| file.damage.is_none() && file.leaf_of(key));
        let fitting = fitting.filter(|(name, file)| is_wanted(name, file));
        // The newest certificate, and the file with its longest chain.
        let best = fitting.max_by_key(|(_, file)| {
            (file.certificates.first().map(|leaf| leaf.not_after()), file.certificates.len())
        });
        let Some((name, certificate)) = best else { continue };
        seen.push(public);
        let names = match std::ptr::eq(certificate, key_file) {
            true => vec![(name.clone(), Role::Combined)],
            false => vec![(name.clone(), Role::Full), (key_name.clone(), Role::Key)],
        };
        let others = files.values().filter(|file| !file.has_key()).collect();
        pairs.push(Parts { others, ..parts(files, certificate, key_file, &names) });
    }
    pairs
}

/// Whether the first certificate of a file contains a DNS name.
fn has_name(file: &PemFile, wanted: &str) -> bool {
    let names = file.certificates.first().map(|leaf| leaf.dns_names()).unwrap_or_default();
    names.iter().any(|name| name.eq_ignore_ascii_case(wanted))
}

/// The message about a directory without a pair.
fn nothing_found(directory: &Path, files: &Files, name: Option<&str>) -> String {
    let shown = output::path(directory);
    let keys = files.values().filter(|file| file.has_key()).count();
    let certificates = files.values().filter(|file| !file.certificates.is_empty()).count();
    let of = name.map(|name| format!(" of {}", Excerpt::new(name))).unwrap_or_default();
    match (certificates, keys) {
        (0, 0) => format!("{shown}: contains neither a certificate nor a private key in PEM"),
        (0, _) => format!("{shown}: contains no certificate"),
        (_, 0) => format!("{shown}: contains no private key"),
        _ => format!(
            "{shown}: no certificate{of} fits a private key there ({}, {}); name them with --cert-name and --key-name",
            output::counted(certificates, "file with certificates"),
            output::counted(keys, "file with a key")
        ),
    }
}
