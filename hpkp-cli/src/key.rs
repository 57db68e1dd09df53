//! Parses a key on the command line: a pin, or a file with a key.

use std::ffi::OsStr;
use std::io;
use std::path::Path;

use hpkp_core::pin::{Pin, PinError};
use hpkp_core::spki::{self, SpkiError};
use hpkp_core::ua::host::Host;

use crate::failure::Failure;
use crate::input::{self, InputError};
use crate::keys::Passphrase;
use crate::output;
use crate::private_key::{self, KeyPin};

/// The source of a pin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The argument is the pin itself.
    Argument,
    /// The pin belongs to the first key in a file.
    File,
}

/// The pin in `text`, or the pin of the first key in the file with this name. A private key is accepted if
/// it is not encrypted or `passphrase` opens it.
///
/// # Errors
/// The text is neither a pin nor a file with a key, or the file cannot be read.
pub(crate) fn pin(text: &OsStr, passphrase: Option<&Passphrase>) -> Result<(Pin, Origin), Failure> {
    let shown = output::path(Path::new(text));
    let not_a_pin = match text.to_str().map(str::parse::<Pin>) {
        Some(Ok(pin)) => return Ok((pin, Origin::Argument)),
        Some(Err(PinError::OfNothing)) => {
            return Err(Failure::no(format!("invalid pin \"{shown}\": {}", PinError::OfNothing)));
        }
        Some(Err(error)) => error.to_string(),
        None => "not UTF-8".to_owned(),
    };
    let bytes = match input::secret(Path::new(text), spki::MAX_FILE) {
        Ok(bytes) => bytes,
        Err(InputError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {
            let hint = match text.to_str() {
                Some(text) if is_host(text) => {
                    format!("to print the pins of a server: hpkp pin {text}")
                }
                _ => format!("not a pin either: {not_a_pin}"),
            };
            return Err(Failure::usage(format!("{shown}: no such file; {hint}")));
        }
        Err(InputError::Io(error)) if error.kind() == io::ErrorKind::IsADirectory => {
            let text =
                format!("{shown} is a directory; a pin or a file with a key is expected here");
            return Err(Failure::usage(text));
        }
        Err(error) => return Err(Failure::unread(&shown, &error)),
    };
    first(&bytes, passphrase)
        .map_err(|why| Failure::no(format!("{shown}: {why}")))
        .map(|pin| (pin, Origin::File))
}

/// The pin of the first key in a file.
fn first(bytes: &[u8], passphrase: Option<&Passphrase>) -> Result<Pin, String> {
    match spki::read(bytes) {
        Ok(keys) => keys.first().map(|key| key.pin).ok_or_else(|| "contains no key".to_owned()),
        Err(SpkiError::PrivateKey) => {
            let keys = private_key::in_file(bytes, passphrase);
            let pin = keys.iter().find_map(|key| match key {
                KeyPin::Pin(pin) => Some(*pin),
                _ => None,
            });
            pin.ok_or_else(|| match (keys.contains(&KeyPin::Encrypted), passphrase) {
                (true, None) => {
                    "the private key is encrypted; give its public key instead".to_owned()
                }
                (true, Some(_)) => "the passphrase does not open the private key".to_owned(),
                (false, _) => "cannot read the private key".to_owned(),
            })
        }
        Err(error) => Err(error.to_string()),
    }
}

/// Whether a text looks like a host: a domain name with a dot, or an IP address.
pub(crate) fn is_host(text: &str) -> bool {
    const FILES: [&str; 9] =
        [".pem", ".crt", ".cer", ".der", ".key", ".csr", ".pub", ".p12", ".txt"];
    let is_file = FILES.iter().any(|end| text.to_ascii_lowercase().ends_with(end));
    !is_file
        && match Host::parse(text) {
            Ok(Host::Name(name)) => name.as_str().contains('.') || text == "localhost",
            Ok(Host::Address(_)) => true,
            Err(_) => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_name_is_not_taken_for_a_host() {
        for text in ["www.example.com", "localhost", "192.0.2.1", "::1"] {
            assert!(is_host(text), "{text}");
        }
        for text in ["backup", "cert.pem", "./x", "05b91aaa", "sha256/x", "a b"] {
            assert!(!is_host(text), "{text}");
        }
    }
}
