//! Reads trust anchors: the system's store, as OpenSSL finds it, and the files that a configuration adds.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hpkp_core::certificate::{Certificate, subject_of_unreadable};
use hpkp_core::check::Skipped;
use hpkp_core::finding::{Code, Location, Text};
use hpkp_core::path::{Anchor, Anchors};
use hpkp_core::pem;
use hpkp_core::text::Excerpt;

use crate::file::{self, reason};

/// The largest file of trusted certificates, in bytes. Mozilla's whole store has about 256 KiB.
const MAX_FILE: usize = 16 << 20;

/// The most certificates in one file, and in the system's store.
const MAX_ANCHORS: usize = 10_000;

/// Where OpenSSL looks for the system's trusted certificates.
#[derive(Debug, Default)]
pub struct SystemStore {
    /// A file with several certificates.
    pub file: Option<PathBuf>,
    /// Whether the environment names that file, so that it should exist.
    pub is_named: bool,
    /// Directories with one file for each certificate, named by the hash of the subject.
    pub directories: Vec<PathBuf>,
}

impl SystemStore {
    /// Reads the store, and returns the certificates that cannot be used. They are skipped, as in OpenSSL: errors in
    /// the system's store are no errors in the configuration.
    #[must_use]
    pub fn read(&self) -> (Anchors, Option<Skipped>) {
        let mut read = Read::default();
        let mut hashed: Vec<PathBuf> = Vec::new();
        for directory in &self.directories {
            match directory.read_dir() {
                Ok(entries) => {
                    let paths = entries.flatten().map(|entry| entry.path());
                    hashed.extend(paths.filter(|path| has_hash_name(path)));
                }
                Err(error) => read.absent(directory, &error, "the directory"),
            }
        }
        // A stable order, so that the same store gives the same messages.
        hashed.sort();
        let mut known = HashSet::new();
        let files = self.file.iter().map(|file| (file, false));
        for (named, is_listed) in files.chain(hashed.iter().map(|file| (file, true))) {
            // Several hashes may lead to one file.
            let path = match named.canonicalize() {
                Ok(path) => path,
                // The link leads nowhere.
                Err(error) if is_listed => {
                    read.skip(named, &reason(&error));
                    continue;
                }
                Err(error) if self.is_named => {
                    read.skip(named, &reason(&error));
                    continue;
                }
                Err(error) => {
                    read.absent(named, &error, "the file");
                    continue;
                }
            };
            if !known.insert(path.clone()) {
                continue;
            }
            if read.anchors.len() >= MAX_ANCHORS {
                read.skip(named, &format!("the store has more than {MAX_ANCHORS} certificates"));
                break;
            }
            let Some(path) = path.to_str() else {
                read.skip(named, "the path is not UTF-8");
                continue;
            };
            let (anchors, notes) = (read.anchors.len(), read.notes());
            // If no certificate of the file can be used, each of them has been reported already.
            let Err((_, text)) = read.file(path) else { continue };
            if read.anchors.len() > anchors || read.notes() == notes {
                read.skip(named, &text);
            }
        }
        if read.anchors.is_empty() {
            return (Anchors::default(), read.nothing(self.is_named));
        }
        let skipped = read
            .skipped(None, || "part of the system's trusted certificates cannot be used".into());
        (Anchors::new(read.anchors), skipped)
    }
}

/// The most skipped certificates and files that a finding names.
const MAX_NAMED: usize = 24;

/// The state of reading trust anchors.
#[derive(Default)]
struct Read {
    anchors: Vec<Anchor>,
    /// The skipped certificates and files, one line each.
    skipped: Vec<String>,
    /// The number of further ones.
    more: usize,
    /// Parts of the system's store that do not exist, which is common for one of them.
    absent: Vec<String>,
}

impl Read {
    fn note(&mut self, line: String) {
        if self.skipped.len() < MAX_NAMED {
            self.skipped.push(line);
        } else {
            self.more += 1;
        }
    }

    fn skip(&mut self, path: &Path, why: &str) {
        self.note(format!(
            "left out: \"{}\": {why}",
            Excerpt::new(path.as_os_str().as_encoded_bytes())
        ));
    }

    fn absent(&mut self, path: &Path, error: &std::io::Error, what: &str) {
        let line = format!(
            "left out: {what} \"{}\": {}",
            Excerpt::new(path.as_os_str().as_encoded_bytes()),
            reason(error)
        );
        match error.kind() {
            std::io::ErrorKind::NotFound => self.absent.push(line),
            _ => self.note(line),
        }
    }

    /// The finding that the system has no trusted certificates. Clients have trust stores of their own.
    fn nothing(mut self, is_named: bool) -> Option<Skipped> {
        std::mem::take(&mut self.absent).into_iter().for_each(|line| self.note(line));
        if self.skipped.is_empty() {
            return None;
        }
        let text = Text::new(
            "the system has no trusted certificates that can be used; certificate paths above the chain that the \
             server sends are not compared with pins",
        );
        let text = match is_named {
            true => text.fix("correct the path in SSL_CERT_FILE, or unset the variable"),
            false => text,
        };
        let text = text
            .fix("install the trusted certificates of the system; on Debian: apt install ca-certificates")
            .details(self.details());
        Some(Skipped { text, at: None })
    }

    /// The skipped certificates and files, one line each.
    fn details(&self) -> Vec<String> {
        let mut details = self.skipped.clone();
        if self.more > 0 {
            details.push(format!("left out: {} more", self.more));
        }
        details
    }

    /// The number of skipped certificates and files so far.
    fn notes(&self) -> usize {
        self.skipped.len() + self.more
    }

    /// The finding about skipped certificates and files.
    fn skipped(&self, at: Option<&Location>, text: impl FnOnce() -> String) -> Option<Skipped> {
        if self.skipped.is_empty() {
            return None;
        }
        let text = Text::new(format!(
            "{}; certificate paths that clients build through it are not compared with pins",
            text()
        ))
        .fix("replace what is left out by valid certificates, or remove it")
        .details(self.details());
        Some(Skipped { text, at: at.cloned() })
    }
}

/// Eight hexadecimal digits, a dot and a number, as `openssl rehash` names them.
fn has_hash_name(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
    name.split_once('.').is_some_and(|(hash, number)| {
        hash.len() == 8
            && hash.bytes().all(|b| b.is_ascii_hexdigit())
            && !number.is_empty()
            && number.bytes().all(|b| b.is_ascii_digit())
    })
}

/// The anchors in the file that the configuration adds, and the finding about skipped ones. `at` is the place of the
/// directive.
///
/// # Errors
/// The code of the finding and what is wrong.
pub fn read_added(
    path: &str,
    at: Option<&Location>,
) -> Result<(Anchors, Option<Skipped>), (Code, Text)> {
    let mut read = Read::default();
    let excerpt = Excerpt::new(path);
    read.file(path).map_err(|(code, text)| {
        (code, Text::new(format!("cannot use the trusted certificates in \"{excerpt}\": {text}")))
    })?;
    let skipped = read.skipped(at, || {
        format!("part of the trusted certificates in \"{excerpt}\" cannot be used")
    });
    Ok((Anchors::new(read.anchors), skipped))
}

impl Read {
    /// Adds the certificates of a file. A certificate that cannot be parsed is skipped. It is an error if the file is
    /// truncated or has no usable certificate.
    fn file(&mut self, path: &str) -> Result<(), (Code, String)> {
        let unreadable = |text: &str| (Code::UnreadableTrustedCertificate, text.to_owned());
        let bytes = file::read(path, MAX_FILE).map_err(|error| unreadable(&error.to_string()))?;
        if bytes.len() > MAX_FILE {
            return Err((Code::OversizedInput, format!("larger than {MAX_FILE} bytes")));
        }
        let origin: Arc<str> = Excerpt::new(path).to_string().into();
        let (mut count, mut used, mut first) = (0, 0, None);
        for block in pem::blocks(&bytes) {
            let block = block.map_err(|_| unreadable("truncated"))?;
            if !block.is_certificate() {
                continue;
            }
            count += 1;
            if count > MAX_ANCHORS {
                let text = format!("more than {MAX_ANCHORS} certificates");
                return Err((Code::OversizedInput, text));
            }
            let der = block.decode().map_err(|_| "invalid base64".to_owned());
            let parsed = der.and_then(|der| {
                Certificate::from_der(&der).map_err(|error| match subject_of_unreadable(&der) {
                    Some(subject) => format!("{error} with the subject {subject}"),
                    None => error.to_string(),
                })
            });
            match parsed {
                Ok(certificate) => {
                    used += 1;
                    let certificate = Arc::new(certificate);
                    self.anchors.push(Anchor { certificate, origin: origin.clone() });
                }
                Err(why) => {
                    let place = format!("left out: certificate {count} in \"{origin}\": {why}");
                    self.note(place);
                    first.get_or_insert(why);
                }
            }
        }
        match first {
            _ if used > 0 => Ok(()),
            Some(why) => Err(unreadable(&why)),
            None => Err(unreadable("contains no certificate in PEM")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::fs;
    use std::os::unix::fs::symlink;

    const ROOT: &str = include_str!("../../tests/conformance/fixtures/root.pem");
    const OTHER: &str = include_str!("../../tests/conformance/fixtures/root-b.pem");

    /// A PEM block that is not a valid certificate.
    fn odd() -> String {
        ROOT.replacen("\nMII", "\nAII", 1)
    }

    fn count(anchors: &Anchors) -> usize {
        // The debug text is enough to count the anchors.
        format!("{anchors:?}").matches("Anchor {").count()
    }

    #[test]
    fn a_certificate_that_cannot_be_parsed_is_skipped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("both.pem");
        fs::write(&path, odd() + ROOT + &odd() + OTHER).unwrap();
        let (anchors, skipped) = read_added(path.to_str().unwrap(), None).unwrap();
        assert_eq!(count(&anchors), 2);
        let details = skipped.unwrap().text.details;
        assert_eq!(details.len(), 2, "{details:?}");
        for (line, number) in details.iter().zip([1, 3]) {
            assert!(line.contains(&format!("certificate {number} in ")), "{line}");
        }
        let store = SystemStore { file: Some(path), ..SystemStore::default() };
        let (anchors, skipped) = store.read();
        assert_eq!((count(&anchors), skipped.unwrap().text.details.len()), (2, 2));
    }

    #[test]
    fn a_file_without_a_usable_certificate_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("odd.pem");
        for text in [odd(), String::new(), ROOT[..ROOT.len() / 2].to_owned()] {
            fs::write(&path, text).unwrap();
            let (code, _) = read_added(path.to_str().unwrap(), None).unwrap_err();
            assert_eq!(code, Code::UnreadableTrustedCertificate);
        }
    }

    #[test]
    fn unreadable_parts_of_the_system_s_store_are_reported() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::create_dir(path("store")).unwrap();
        fs::write(path("store/0123abcd.0"), ROOT).unwrap();
        let read = |file: Option<&str>, is_named, directory: &str| {
            let file = file.map(path);
            let (anchors, skipped) =
                SystemStore { file, is_named, directories: vec![path(directory)] }.read();
            (count(&anchors), skipped.map(|skipped| skipped.text.details).unwrap_or_default())
        };
        // A missing part is common and not reported, unless the environment names it.
        assert_eq!(read(Some("none.pem"), false, "store"), (1, vec![]));
        assert_eq!(read(Some("none.pem"), true, "store").1.len(), 1);
        assert_eq!(read(None, false, "nowhere").1.len(), 1);
        symlink("nowhere.pem", path("store/0123abcd.1")).unwrap();
        fs::write(path("store/0123abcd.2"), odd()).unwrap();
        fs::write(path("store/0123abcd.3"), "no certificate").unwrap();
        // The certificates before the end of a truncated file are used.
        fs::write(path("store/0123abcd.4"), OTHER.to_owned() + &ROOT[..40]).unwrap();
        let (anchors, details) = read(None, false, "store");
        assert_eq!((anchors, details.len()), (2, 4), "{details:?}");
        for (line, name) in details.iter().zip([".1", ".2", ".3", ".4"]) {
            assert!(line.contains(&format!("0123abcd{name}\"")), "{line}");
        }
        for number in 100..200 {
            symlink("nowhere.pem", path(&format!("store/0123abcd.{number}"))).unwrap();
        }
        let details = read(None, false, "store").1;
        assert_eq!(details.len(), MAX_NAMED + 1);
        assert!(details.last().unwrap().ends_with("80 more"), "{details:?}");
    }

    #[test]
    fn a_system_without_trusted_certificates_is_reported_with_a_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::create_dir(path("store")).unwrap();
        let fixes = |file: &str, is_named, directory: &str| {
            let store = SystemStore {
                file: Some(path(file)),
                is_named,
                directories: vec![path(directory)],
            };
            let text = store.read().1.unwrap().text;
            assert!(text.what.contains("no trusted certificates"), "{text:?}");
            assert!(!text.details.is_empty());
            text.fix.len()
        };
        // Debian without the package ca-certificates: the directory is empty.
        assert_eq!(fixes("none.pem", false, "store"), 1);
        assert_eq!(fixes("none.pem", false, "nowhere"), 1);
        // Either the environment variable is wrong, or its file.
        assert_eq!(fixes("none.pem", true, "store"), 2);
        fs::write(path("odd.pem"), odd()).unwrap();
        assert_eq!(fixes("odd.pem", true, "store"), 2);
    }
}
