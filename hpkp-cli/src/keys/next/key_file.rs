//! Reads the file of a next key.

use hpkp_core::pin::Pin;
use openssl::pkey::{PKey, Private};
use zeroize::Zeroizing;

use super::super::next_keys::NextKey;
use super::super::secret;
use crate::failure::Failure;
use crate::{input, output};

/// The largest file with a key, in bytes.
const MAX_KEY_FILE: usize = 1 << 20;

/// The private key, if its file still contains it, and the content of the file.
pub(super) fn opened(key: &NextKey) -> Result<(PKey<Private>, Zeroizing<Vec<u8>>), Failure> {
    let shown = output::path(&key.file);
    let bytes =
        input::secret(&key.file, MAX_KEY_FILE).map_err(|error| Failure::unread(&shown, &error))?;
    let mut ask = || Err(Failure::no("the key is encrypted"));
    let private =
        secret::open(&bytes, &mut ask).map_err(|error| Failure::no(format!("{shown}: {error}")))?;
    match secret::proven(&private).map(|spki| Pin::of_spki(&spki)) {
        Some(pin) if pin == key.pin => Ok((private, bytes)),
        _ => Err(Failure::no(format!(
            "{shown}: does not have the next key of {} (sha256/{}) any more; restore it",
            key.host, key.pin
        ))),
    }
}
