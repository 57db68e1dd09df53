//! Reads passphrases: from a file, or from a terminal without echo.

use std::io;
use std::path::Path;

use zeroize::Zeroizing;

use crate::failure::Failure;
use crate::input::{self, InputError};
use crate::output;

/// The longest passphrase, in bytes, which is the size of OpenSSL's own buffer.
const MAX: usize = 1024;

/// A passphrase. It is wiped when it is dropped.
#[derive(Clone)]
pub(crate) struct Passphrase(Zeroizing<Vec<u8>>);

impl Passphrase {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Reads the first line of a file.
    pub(crate) fn of_file(path: &Path) -> Result<Self, Failure> {
        let shown = output::path(path);
        let failure =
            |error: InputError| Failure { exit: error.exit(), text: format!("{shown}: {error}") };
        let bytes = input::secret(path, 1 << 20).map_err(failure)?;
        let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        Self::new(line).map_err(|why| Failure::no(format!("{shown}: the first line is {why}")))
    }

    /// Asks once, to open a key.
    pub(crate) fn ask(what: &str) -> Result<Self, Failure> {
        let typed = typed(&format!("Passphrase of {what}: "))?;
        Self::new(&typed).map_err(|why| Failure::no(format!("the passphrase is {why}")))
    }

    /// Asks twice, to encrypt a key.
    pub(super) fn ask_twice() -> Result<Self, Failure> {
        let first = typed("New passphrase: ")?;
        let passphrase =
            Self::new(&first).map_err(|why| Failure::no(format!("the passphrase is {why}")))?;
        if *typed("The same passphrase again: ")? != *first {
            return Err(Failure::no("the passphrases differ; nothing was made"));
        }
        Ok(passphrase)
    }

    fn new(bytes: &[u8]) -> Result<Self, String> {
        match bytes.len() {
            0 => Err("empty".to_owned()),
            1..=MAX => Ok(Self(Zeroizing::new(bytes.to_vec()))),
            _ => Err(format!("longer than {MAX} bytes")),
        }
    }
}

fn typed(prompt: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
    match rpassword::prompt_password(prompt) {
        Ok(text) => Ok(Zeroizing::new(text.into_bytes())),
        // The input ended before the line did, as with Ctrl-D.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Err(Failure::no("no passphrase was typed; nothing was done"))
        }
        Err(_) => Err(Failure::usage(
            "there is no terminal on which to ask for the passphrase; use --passphrase-file FILE",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_passphrase_is_bounded() {
        assert!(Passphrase::new(b"").is_err() && Passphrase::new(&[b'x'; MAX + 1]).is_err());
        assert!(Passphrase::new(b"x").is_ok() && Passphrase::new(&[b'x'; MAX]).is_ok());
    }
}
