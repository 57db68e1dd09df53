//! `hpkp find`: finds the file with the private key that belongs to a pin or a certificate.

use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use hpkp_core::certificate::Certificate;
use hpkp_core::pem;
use hpkp_core::pin::Pin;
use hpkp_core::spki::{self, Kind};
use hpkp_core::text::ShellWord;
use serde::Serialize;

use crate::arguments::FindArguments;
use crate::encoded;
use crate::exit::Exit;
use crate::input::{self, InputError};
use crate::key;
use crate::keys::{Passphrase, keep_out_of_core_dumps, wipe_stack};
use crate::output::{self, JSON_VERSION};
use crate::private_key::{self, KeyPin};
use crate::progress::Progress;
use crate::usage;
use crate::walk::{self, Reached};

/// The JSON output.
#[derive(Debug, Serialize)]
struct Report {
    v: u32,
    pin: String,
    found: Vec<Found>,
    /// Files with a certificate whose hash equals the given pin. The hash of a certificate is no pin.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    certificate_hash_of: Vec<String>,
    /// Files and directories that may contain the key and could not be searched.
    not_looked_into: Vec<Closed>,
    /// File systems of the kernel, which were not searched.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    skipped: Vec<String>,
}

/// A file that contains the key.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Found {
    path: String,
    holds: Holds,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Holds {
    PrivateKey,
    Certificate,
    CertificationRequest,
    PublicKey,
}

impl Holds {
    const fn as_str(self) -> &'static str {
        match self {
            Self::PrivateKey => "private key",
            Self::Certificate => "certificate",
            Self::CertificationRequest => "certificate signing request",
            Self::PublicKey => "public key",
        }
    }
}

impl From<Kind> for Holds {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Certificate => Self::Certificate,
            Kind::Request => Self::CertificationRequest,
            Kind::PublicKey => Self::PublicKey,
        }
    }
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Closed {
    path: String,
    why: String,
}

/// Runs the command.
pub(crate) fn run(arguments: &FindArguments) -> Exit {
    let FindArguments { key, directory, passphrase_file, json } = arguments;
    // `grep` has the reverse order of arguments, so users may give the directory first.
    if Path::new(key).is_dir() && directory.to_str().is_some_and(|text| text.parse::<Pin>().is_ok())
    {
        return usage::wrong("the pin comes before the directory: hpkp find PIN DIR");
    }
    let passphrase = match passphrase_file.as_deref().map(Passphrase::of_file).transpose() {
        Ok(passphrase) => passphrase,
        Err(failure) => return usage::end(failure),
    };
    let pin = match key::pin(key, passphrase.as_ref()) {
        Ok((pin, _)) => pin,
        Err(failure) => return usage::end(failure),
    };
    keep_out_of_core_dumps();
    let mut search = Search::new(pin, passphrase, *json, directory);
    let searched = match directory.is_file() {
        true => {
            let _ = search.file(directory);
            Ok(())
        }
        false => walk::files(directory, |path, reached| search.reached(path, reached)),
    };
    if let Err(error) = searched {
        output::complain(&format!("{}: {}", output::path(directory), output::os(&error)));
        return Exit::Undetermined;
    }
    search.end()
}

/// A search for a key. Results are printed immediately.
struct Search {
    pin: Pin,
    passphrase: Option<Passphrase>,
    json: bool,
    directory: PathBuf,
    progress: Progress,
    files: u64,
    written: io::Result<()>,
    found: Vec<Found>,
    /// Files with a certificate whose hash equals the pin.
    whole: Vec<PathBuf>,
    not_searched: Vec<Closed>,
    skipped: Vec<String>,
}

impl Search {
    fn new(pin: Pin, passphrase: Option<Passphrase>, json: bool, directory: &Path) -> Self {
        Self {
            pin,
            passphrase,
            json,
            directory: directory.to_owned(),
            progress: Progress::start(&format!("searching {}", output::path(directory))),
            files: 0,
            written: Ok(()),
            found: Vec::new(),
            whole: Vec::new(),
            not_searched: Vec::new(),
            skipped: Vec::new(),
        }
    }

    fn reached(&mut self, path: &Path, reached: Reached) -> ControlFlow<()> {
        match reached {
            Reached::File => return self.file(path),
            Reached::OfKernel => self.skipped.push(output::path(path)),
            Reached::Trouble(trouble) => self.closed(path, trouble.to_string()),
        }
        ControlFlow::Continue(())
    }

    fn closed(&mut self, path: &Path, why: String) {
        self.not_searched.push(Closed { path: output::path(path), why });
    }

    fn file(&mut self, path: &Path) -> ControlFlow<()> {
        self.files += 1;
        let (files, found) = (self.files, self.found.len());
        self.progress
            .set(|| format!("{files} files searched, {found} found: {}", output::path(path)));
        let bytes = match input::found(path, spki::MAX_FILE) {
            Ok(bytes) => bytes,
            // Hardly any file with a key is that large, but one that the user named is not passed over in silence.
            Err(InputError::TooLarge { .. } | InputError::NotAFile)
                if path != self.directory.as_path() =>
            {
                return ControlFlow::Continue(());
            }
            Err(error) => {
                self.closed(path, error.to_string());
                return ControlFlow::Continue(());
            }
        };
        let first = self.found.len();
        let keys = private_key::in_file(&bytes, self.passphrase.as_ref());
        look(path, &bytes, keys, self.pin, &mut self.found, &mut self.not_searched);
        if is_whole_certificate(&bytes, self.pin) {
            self.whole.push(path.to_owned());
        }
        drop(bytes);
        if !self.json && self.found.len() > first {
            wipe_stack();
            let found = &self.found[first..];
            self.written = self.progress.suspend(|| found.iter().try_for_each(Found::print));
        }
        if self.written.is_err() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// Prints the summary, and determines the exit code.
    fn end(mut self) -> Exit {
        self.progress = Progress::default();
        self.passphrase = None;
        wipe_stack();
        let exit = if self.found.iter().any(|found| found.holds == Holds::PrivateKey) {
            Exit::Fine
        } else if self.not_searched.is_empty() || !self.whole.is_empty() {
            Exit::No
        } else {
            Exit::Undetermined
        };
        // The search stopped when its output failed, so the rest was not searched. If the reader of the
        // output has gone, this is no error.
        if self.written.is_err() {
            return output::ended(Exit::Fine, self.written);
        }
        for line in summarised(&self.not_searched) {
            output::complain(&line);
        }
        if !self.skipped.is_empty() {
            output::complain(&format!(
                "skipped (file systems of the kernel): {}",
                self.skipped.join(", ")
            ));
        }
        for path in &self.whole {
            output::complain(&format!(
                "{}: the hash is that of the whole certificate in this file, not of its key, so no client \
                 can match it as a pin; for the pin: hpkp pin {}",
                output::path(path),
                ShellWord::new(path.as_os_str().as_encoded_bytes())
            ));
        }
        if exit != Exit::Fine && !self.json {
            output::complain(&self.nothing_found());
        }
        if !self.json {
            return exit;
        }
        let report = Report {
            v: JSON_VERSION,
            pin: format!("sha256/{}", self.pin),
            found: self.found,
            certificate_hash_of: self.whole.iter().map(|path| output::path(path)).collect(),
            not_looked_into: self.not_searched,
            skipped: self.skipped,
        };
        output::ended(exit, output::json(&report))
    }

    /// A hint where to search next.
    fn nothing_found(&self) -> String {
        let Self { pin, files, .. } = self;
        let files = output::counted(usize::try_from(*files).unwrap_or(usize::MAX), "file");
        let directory = output::path(&self.directory);
        let next = match self.directory.parent() {
            None => "look in your backups, and where the backup key is kept".to_owned(),
            Some(_) => format!("to search the whole machine: hpkp find sha256/{pin} /"),
        };
        format!("no private key found for sha256/{pin} in {directory} ({files}); {next}")
    }
}

impl Found {
    fn print(&self) -> io::Result<()> {
        let holds = self.holds.as_str();
        let holds = match self.holds {
            Holds::PrivateKey => output::accent(output::GOOD, holds),
            _ => holds.to_owned(),
        };
        output::line(&format!("{holds}: {}", self.path))
    }
}

/// The paths that could not be searched, grouped by reason, with the first paths of each group.
fn summarised(closed: &[Closed]) -> Vec<String> {
    /// The most paths in a line.
    const NAMED: usize = 5;
    let mut by_reason: Vec<(&str, Vec<&str>)> = Vec::new();
    for Closed { path, why } in closed {
        match by_reason.iter_mut().find(|(reason, _)| reason == why) {
            Some((_, paths)) => paths.push(path),
            None => by_reason.push((why, vec![path])),
        }
    }
    let lines = by_reason.into_iter().map(|(why, paths)| match paths.as_slice() {
        [path] => format!("{path}: {why}"),
        paths => {
            let named = paths.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
            let more = match paths.len().saturating_sub(NAMED) {
                0 => String::new(),
                more => format!(" and {more} more (--json lists all)"),
            };
            format!("{} places not searched: {why}: {named}{more}", paths.len())
        }
    });
    lines.collect()
}

/// Searches a file for the key `pin`.
fn look(
    path: &Path,
    bytes: &[u8],
    private: Vec<KeyPin>,
    pin: Pin,
    found: &mut Vec<Found>,
    closed: &mut Vec<Closed>,
) {
    let path = output::path(path);
    let first = found.len();
    let mut add = |holds| {
        if found[first..].iter().all(|known| known.holds != holds) {
            found.push(Found { path: path.clone(), holds });
        }
    };
    for read in private {
        let why = match read {
            KeyPin::Pin(of_key) => {
                if of_key == pin {
                    add(Holds::PrivateKey);
                }
                continue;
            }
            KeyPin::Encrypted => "the private key is encrypted",
            KeyPin::Unreadable => "cannot read the private key",
        };
        let new = Closed { path: path.clone(), why: why.to_owned() };
        if closed.last() != Some(&new) {
            closed.push(new);
        }
    }
    for key in public_keys(bytes) {
        if key.pin == pin {
            add(key.kind.into());
        }
    }
}

/// Whether `hash` is the hash of a whole certificate in a file.
fn is_whole_certificate(bytes: &[u8], hash: Pin) -> bool {
    encoded::certificates(bytes).flatten().any(|certificate| encoded::is_whole(&certificate, hash))
}

/// The public keys in a file. Each object is parsed by itself, so that a damaged object, or a private key,
/// does not hide the others.
fn public_keys(bytes: &[u8]) -> Vec<spki::Key> {
    if bytes.first() == Some(&0x30) {
        return spki::read(bytes).unwrap_or_default();
    }
    let blocks = pem::blocks(bytes).flatten();
    let public = blocks.filter(|block| !block.is_private_key());
    public
        .filter_map(|block| {
            let der = block.decode().ok()?;
            match block.label {
                // OpenSSL's own trust settings follow the certificate.
                b"TRUSTED CERTIFICATE" => {
                    let certificate = Certificate::from_der(&der).ok()?;
                    Some(vec![spki::Key { kind: Kind::Certificate, pin: certificate.pin()? }])
                }
                _ => spki::read(&der).ok(),
            }
        })
        .flatten()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_is_reported_once() {
        let closed = |path: String, why: &str| Closed { path, why: why.to_owned() };
        let mut all: Vec<Closed> = (0..7).map(|n| closed(format!("/d{n}"), "denied")).collect();
        all.push(closed("/k".to_owned(), "encrypted"));
        let lines = summarised(&all);
        assert_eq!(
            lines,
            [
                "7 places not searched: denied: /d0, /d1, /d2, /d3, /d4 and 2 more (--json lists all)",
                "/k: encrypted"
            ]
        );
    }
}
