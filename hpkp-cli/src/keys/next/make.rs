//! Makes the next key, or takes an existing one.

use std::fs::DirBuilder;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use hpkp_core::pin::Pin;
use zeroize::Zeroizing;

use super::super::kind::{KeyKind, describe};
use super::super::next_keys::{self, Happened, NextKey, same_kind};
use super::super::pkcs8::KeyFile;
use super::super::{secret, secret_file};
use super::key_file;
use super::today::Today;
use crate::acme::OfHost;
use crate::arguments::NextKeyArguments;
use crate::failure::Failure;
use crate::input;
use crate::output;

/// The default directory for next keys.
const DIRECTORY: &str = "/etc/hpkp/next";

/// The largest file with a key, in bytes.
const MAX_KEY_FILE: usize = 1 << 20;

/// A generated key that is not yet on the disk.
struct Unwritten {
    pin: Pin,
    kind: KeyKind,
    pem: Zeroizing<String>,
}

pub(super) fn make(today: &Today, arguments: &NextKeyArguments) -> Result<NextKey, Failure> {
    let taken = match (&arguments.take, &arguments.key) {
        (Some(file), _) => Some(file.clone()),
        (None, Some(_)) => None,
        (None, None) => of_client(&today.clients)?,
    };
    let (key, unwritten) = match taken {
        Some(file) => (taken_from(today, &file)?, None),
        None => {
            let kind = arguments.kind.or_else(|| today.kind_in_use()).unwrap_or(KeyKind::P256);
            let (key, unwritten) = new(today, kind, arguments.key.as_deref())?;
            (key, Some(unwritten))
        }
    };
    if today.store.state.is_compromised(key.pin) {
        return Err(Failure::no(format!("the key sha256/{} is compromised", key.pin)));
    }
    // The record is written before the file. If the process is interrupted between them, the pin was never
    // printed, so that the key cannot be mistaken for a lost one.
    let directory = Path::new(&today.directory);
    let made = || {
        let is_there =
            |other: &NextKey| other.host == key.host && same_kind(&other.kind, &key.kind);
        if today.waiting()?.iter().any(is_there) {
            return Err(Failure::no(format!("{} has a next key already", key.host)));
        }
        Ok::<_, Failure>(Some((key.clone(), Happened::Made, today.store.now)))
    };
    let mut is_recorded = false;
    let write = || {
        is_recorded = true;
        unwritten.as_ref().map_or(Ok(()), |unwritten| write(&key, unwritten))
    };
    let written = next_keys::append(directory, made, write);
    if written.is_err() && is_recorded {
        let given_up = || Ok::<_, Failure>(Some((key.clone(), Happened::GivenUp, today.store.now)));
        next_keys::append(directory, given_up, || Ok(()))?;
    }
    written?;
    Ok(key)
}

/// The next key that the ACME client itself has made.
fn of_client(clients: &[OfHost]) -> Result<Option<PathBuf>, Failure> {
    let mut waiting = clients.iter().filter_map(|one| Some((one.client, one.waiting.clone()?)));
    let Some((client, file)) = waiting.next() else { return Ok(None) };
    if waiting.next().is_some() {
        return Err(Failure::usage(
            "several certificates of ACME clients have a next key; name the file with --take",
        ));
    }
    output::complain(&format!(
        "{client} has made the next key already; this command uses that key"
    ));
    Ok(Some(file))
}

fn taken_from(today: &Today, file: &Path) -> Result<NextKey, Failure> {
    let shown = output::path(file);
    let full = std::fs::canonicalize(file)
        .map_err(|error| Failure::undetermined(format!("{shown}: {}", output::os(&error))))?;
    let bytes =
        input::secret(&full, MAX_KEY_FILE).map_err(|error| Failure::unread(&shown, &error))?;
    let encrypted =
        "the key is encrypted, and nobody types a passphrase at a renewal; take a key without one";
    let mut ask = || Err(Failure::no(encrypted));
    let key =
        secret::open(&bytes, &mut ask).map_err(|error| Failure::no(format!("{shown}: {error}")))?;
    let spki = secret::proven(&key)
        .ok_or_else(|| Failure::no(format!("{shown}: the private key is damaged")))?;
    let mode = std::fs::metadata(&full).map(|metadata| metadata.mode()).unwrap_or_default();
    if mode & 0o077 != 0 {
        output::complain(&format!("{shown}: others than the owner may use the file; chmod 600 it"));
    }
    next_key(today, Pin::of_spki(&spki), describe(&key), full)
}

fn new(today: &Today, kind: KeyKind, file: Option<&Path>) -> Result<(NextKey, Unwritten), Failure> {
    let key = kind.generate().map_err(Failure::undetermined)?;
    let spki = secret::proven(&key)
        .ok_or_else(|| Failure::undetermined("the new key does not work; nothing was made"))?;
    let pin = Pin::of_spki(&spki);
    let file = match file {
        Some(file) => file.to_owned(),
        None => {
            let digits: String =
                pin.bytes()[..4].iter().map(|byte| format!("{byte:02x}")).collect();
            directory()?.join(format!("{}.{digits}.key", today.host))
        }
    };
    let shown = output::path(&file);
    let full = std::path::absolute(&file)
        .map_err(|error| Failure::undetermined(format!("{shown}: {}", output::os(&error))))?;
    super::super::files::must_be_new(&full)?;
    let pem = KeyFile::new(&key, None).map_err(Failure::undetermined)?.pem();
    Ok((next_key(today, pin, describe(&key), full)?, Unwritten { pin, kind, pem }))
}

/// The default directory, which only its owner may use.
fn directory() -> Result<PathBuf, Failure> {
    let path = Path::new(DIRECTORY);
    if !path.is_dir() {
        let parent = path.parent().map_or(Ok(()), std::fs::create_dir_all);
        let made = parent.and_then(|()| DirBuilder::new().mode(0o700).create(path));
        made.map_err(|error| {
            let why = output::os(&error);
            Failure::undetermined(format!(
                "{DIRECTORY}: cannot create the directory: {why}; name a file with --key"
            ))
        })?;
    }
    Ok(path.to_owned())
}

fn next_key(today: &Today, pin: Pin, kind: String, file: PathBuf) -> Result<NextKey, Failure> {
    if file.to_str().is_none() {
        return Err(Failure::usage(format!("{}: the path is not UTF-8", output::path(&file))));
    }
    let (host, made) = (today.host.clone(), today.store.now);
    Ok(NextKey { host, pin, kind, file, made, handed_over: None })
}

fn write(key: &NextKey, unwritten: &Unwritten) -> Result<(), Failure> {
    let Unwritten { pin, kind, pem } = unwritten;
    secret_file::create(&key.file, pem.as_bytes(), 0o600)?;
    match key_file::opened(key) {
        Ok(_) => Ok(()),
        Err(_) => Err(Failure::undetermined(format!(
            "{}: the file does not have the key that was written to it ({kind}, sha256/{pin}); do not publish \
             its pin",
            output::path(&key.file)
        ))),
    }
}
