//! `hpkp find`: the file with the private key that belongs to a pin or a certificate.

use std::io;
use std::path::Path;

use hpkp_core::certificate::Certificate;
use hpkp_core::pem;
use hpkp_core::pin::{Pin, PinError};
use hpkp_core::spki::{self, Kind, SpkiError};
use hpkp_core::text::Excerpt;
use serde::Serialize;

use crate::arguments::FindArguments;
use crate::encoded;
use crate::exit::Exit;
use crate::input::{self, InputError};
use crate::output::{self, JSON_VERSION};
use crate::private_key::{self, Told};
use crate::walk;

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Report {
    v: u32,
    pin: String,
    found: Vec<Found>,
    /// Files with a certificate whose hash as a whole is what was looked for: it is no pin.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    certificate_hash_of: Vec<String>,
    /// What might hold the key and could not be looked into.
    not_looked_into: Vec<Closed>,
}

/// A file with the key in it.
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
            Self::CertificationRequest => "certification request",
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
    let pin = match wanted(&arguments.key) {
        Ok(pin) => pin,
        Err((exit, text)) => {
            output::complain(&text);
            return exit;
        }
    };
    let mut found = Vec::new();
    let mut closed = Vec::new();
    let mut whole = Vec::new();
    let walked = walk::files(&arguments.directory, |path, reached| {
        let read = match reached {
            Ok(()) => input::found(path, spki::MAX_FILE).map_err(|error| match error {
                // No file with a key is that large.
                InputError::TooLarge { .. } | InputError::NotAFile => None,
                InputError::Io(error) => Some(error.to_string()),
            }),
            Err(trouble) => Err(Some(trouble.to_string())),
        };
        match read {
            Ok(octets) => {
                look(path, &octets, pin, &mut found, &mut closed);
                if is_whole_certificate(&octets, pin) {
                    whole.push(output::path(path));
                }
            }
            Err(Some(why)) => closed.push(Closed { path: output::path(path), why }),
            Err(None) => {}
        }
    });
    if let Err(error) = walked {
        let directory = arguments.directory.to_string_lossy();
        output::complain(&format!("{}: {error}", Excerpt::new(directory.as_ref())));
        return Exit::Undetermined;
    }
    let exit = if found.iter().any(|found| found.holds == Holds::PrivateKey) {
        Exit::Fine
    } else if closed.is_empty() || !whole.is_empty() {
        Exit::No
    } else {
        Exit::Undetermined
    };
    for Closed { path, why } in &closed {
        output::complain(&format!("{path}: {why}"));
    }
    for path in &whole {
        output::complain(&format!(
            "{path}: this is the hash of the whole certificate here, not of a key, and changes with \
             every renewal; the pin of its key is what hpkp pin prints"
        ));
    }
    let report = Report {
        v: JSON_VERSION,
        pin: format!("sha256/{pin}"),
        found,
        certificate_hash_of: whole,
        not_looked_into: closed,
    };
    let written = if arguments.json { output::json(&report) } else { print(&report, exit) };
    output::ended(exit, written)
}

fn print(report: &Report, exit: Exit) -> io::Result<()> {
    for found in &report.found {
        output::line(&format!("{}: {}", found.holds.as_str(), found.path))?;
    }
    if exit != Exit::Fine {
        output::complain(&format!("no file with the private key of {} was found", report.pin));
    }
    Ok(())
}

/// The pin that `text` is, or that of the first key in the file that it names.
fn wanted(text: &str) -> Result<Pin, (Exit, String)> {
    let shown = Excerpt::new(text);
    let not_a_pin = match text.parse() {
        Ok(pin) => return Ok(pin),
        Err(PinError::OfNothing) => {
            return Err((Exit::No, format!("\"{shown}\" is no pin: {}", PinError::OfNothing)));
        }
        Err(error) => error,
    };
    let octets = match input::named(Path::new(text), spki::MAX_FILE) {
        Ok(octets) => octets,
        Err(InputError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {
            let text = format!("\"{shown}\" is no file, and no pin: {not_a_pin}");
            return Err((Exit::Usage, text));
        }
        Err(error) => return Err((Exit::Undetermined, format!("{shown}: {error}"))),
    };
    match spki::read(&octets) {
        Ok(keys) => keys.first().map(|key| key.pin).ok_or((Exit::No, format!("{shown}: no key"))),
        Err(SpkiError::PrivateKey) => {
            let pins = private_keys(&octets).find_map(|told| match told {
                Told::Pin(pin) => Some(pin),
                _ => None,
            });
            pins.ok_or((Exit::No, format!("{shown}: its private key cannot be read")))
        }
        Err(error) => Err((Exit::No, format!("{shown}: {error}"))),
    }
}

/// Looks for the key `pin` in a file.
fn look(path: &Path, octets: &[u8], pin: Pin, found: &mut Vec<Found>, closed: &mut Vec<Closed>) {
    let path = output::path(path);
    let first = found.len();
    let mut add = |holds| {
        if found[first..].iter().all(|known| known.holds != holds) {
            found.push(Found { path: path.clone(), holds });
        }
    };
    for told in private_keys(octets) {
        let why = match told {
            Told::Pin(of_key) => {
                if of_key == pin {
                    add(Holds::PrivateKey);
                }
                continue;
            }
            Told::Encrypted => "its private key is encrypted and cannot be looked into",
            Told::Unreadable => "its private key cannot be read",
        };
        let new = Closed { path: path.clone(), why: why.to_owned() };
        if closed.last() != Some(&new) {
            closed.push(new);
        }
    }
    for key in public_keys(octets) {
        if key.pin == pin {
            add(key.kind.into());
        }
    }
}

/// Whether `hash` is that of a certificate in a file, of all its octets.
fn is_whole_certificate(octets: &[u8], hash: Pin) -> bool {
    encoded::certificates(octets).flatten().any(|certificate| encoded::is_whole(&certificate, hash))
}

fn is_private(label: &[u8]) -> bool {
    // OpenSSH's own format is none that a TLS server loads.
    label.ends_with(b"PRIVATE KEY") && label != b"OPENSSH PRIVATE KEY"
}

/// What each private key in a file tells.
fn private_keys(octets: &[u8]) -> impl Iterator<Item = Told> {
    let mut told = Vec::new();
    if octets.first() == Some(&0x30) {
        told.extend(private_key::from_der(octets));
    } else {
        for block in pem::blocks(octets).flatten().filter(|block| is_private(block.label)) {
            told.push(match block.decode() {
                Ok(der) => private_key::from_der(&der).unwrap_or(Told::Unreadable),
                // The old form of encryption has header lines before the base64.
                Err(_) if octets.windows(ENCRYPTED.len()).any(|part| part == ENCRYPTED) => {
                    Told::Encrypted
                }
                Err(_) => Told::Unreadable,
            });
        }
    }
    told.into_iter()
}

const ENCRYPTED: &[u8] = b"Proc-Type: 4,ENCRYPTED";

/// The public keys in a file: each object by itself, so that one that is damaged, or a private key
/// beside them, hides no other.
fn public_keys(octets: &[u8]) -> Vec<spki::Key> {
    if octets.first() == Some(&0x30) {
        return spki::read(octets).unwrap_or_default();
    }
    let blocks = pem::blocks(octets).flatten();
    let public = blocks.filter(|block| !block.label.ends_with(b"PRIVATE KEY"));
    public
        .filter_map(|block| {
            let der = block.decode().ok()?;
            match block.label {
                // What stands behind such a certificate is OpenSSL's own.
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
