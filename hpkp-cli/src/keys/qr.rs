//! Converts the PEM text of a key to QR codes, several if the key is long.
//!
//! A single code contains the file unchanged, so that any QR code reader gives a file that OpenSSL can
//! read. Each of several codes begins with a line that names the part: `hpkp key 2/3 0123abcd`.

use std::collections::BTreeMap;

use fast_qr::qr::{QRBuilder, QRCode};
use fast_qr::{ECL, Mode};
use openssl::sha::Sha256;
use zeroize::Zeroizing;

/// The first words of a part.
const HEADER: &str = "hpkp key ";
/// The longest header of a part, in bytes.
const HEADER_MAX: usize = 32;
/// The most parts of a key.
const MAX_PARTS: usize = 99;

/// The texts of the codes for a key file, each with at most `limit` bytes.
pub(super) fn parts(pem: &str, limit: usize) -> Vec<Zeroizing<String>> {
    if pem.len() <= limit {
        return vec![Zeroizing::new(pem.to_owned())];
    }
    let id = id(pem.as_bytes());
    let of_each = limit.saturating_sub(HEADER_MAX).max(1);
    // The text is ASCII, so it can be split at any byte.
    let chunks: Vec<&str> = (0..pem.len())
        .step_by(of_each)
        .filter_map(|start| pem.get(start..(start + of_each).min(pem.len())))
        .collect();
    let count = chunks.len();
    let part = |(number, chunk): (usize, &&str)| {
        let mut part = Zeroizing::new(String::with_capacity(limit + HEADER_MAX));
        part.push_str(&format!("{HEADER}{number}/{count} {id}\n"));
        part.push_str(chunk);
        part
    };
    (1..).zip(&chunks).map(part).collect()
}

/// The id that distinguishes the parts of one key from those of another.
fn id(pem: &[u8]) -> String {
    let mut hash = Sha256::new();
    hash.update(b"hpkp key parts");
    hash.update(pem);
    hash.finish()[..4].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Encodes a QR code with error correction level M, which tolerates slight damage of the paper.
pub(super) fn code(text: &str) -> Result<QRCode, String> {
    QRBuilder::new(text.as_bytes())
        .ecl(ECL::M)
        .mode(Mode::Byte)
        .build()
        .map_err(|_| "the key is too long for a QR code".to_owned())
}

/// Why parts do not give a key.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PartsError {
    #[error("the QR codes are parts of different keys")]
    Mixed,
    /// Some parts were not read; the second number is the number of all parts.
    #[error("missing: QR {} of {}; scan all of them, in one picture or several", numbered(.0), .1)]
    Missing(Vec<usize>, usize),
    #[error("the parts in the QR codes do not belong together")]
    Damaged,
}

/// The numbers of some codes.
fn numbered(parts: &[usize]) -> String {
    let numbers: Vec<String> = parts.iter().map(ToString::to_string).collect();
    let plural = if parts.len() == 1 { "code" } else { "codes" };
    format!("{plural} {}", numbers.join(", "))
}

/// The parts that were read so far.
#[derive(Default)]
pub(super) struct Parts {
    of_key: Option<(String, usize)>,
    read: BTreeMap<usize, Zeroizing<Vec<u8>>>,
    is_mixed: bool,
}

impl Parts {
    pub(super) fn is_empty(&self) -> bool {
        self.read.is_empty()
    }

    /// Adds the text of a code, and says whether it is a part.
    pub(super) fn push(&mut self, text: &[u8]) -> bool {
        let Some((number, count, id, body)) = part(text) else { return false };
        let of_key = self.of_key.get_or_insert_with(|| (id.clone(), count));
        self.is_mixed |= *of_key != (id, count);
        self.read.insert(number, Zeroizing::new(body.to_vec()));
        true
    }

    /// Joins the parts to the key file.
    pub(super) fn join(&self) -> Result<Zeroizing<Vec<u8>>, PartsError> {
        let Some((of_key, count)) = self.of_key.as_ref().filter(|_| !self.is_mixed) else {
            return Err(PartsError::Mixed);
        };
        let missing: Vec<usize> =
            (1..=*count).filter(|number| !self.read.contains_key(number)).collect();
        if !missing.is_empty() {
            return Err(PartsError::Missing(missing, *count));
        }
        let length = self.read.values().map(|part| part.len()).sum();
        let mut pem = Zeroizing::new(Vec::with_capacity(length));
        self.read.values().for_each(|part| pem.extend_from_slice(part));
        if id(&pem) == *of_key { Ok(pem) } else { Err(PartsError::Damaged) }
    }
}

/// Parses a part: its number, the number of parts, the id of the key, and the data.
fn part(text: &[u8]) -> Option<(usize, usize, String, &[u8])> {
    let rest = text.strip_prefix(HEADER.as_bytes())?;
    let end = rest.iter().take(HEADER_MAX).position(|byte| *byte == b'\n')?;
    let (header, body) = (std::str::from_utf8(&rest[..end]).ok()?, &rest[end + 1..]);
    let (place, id) = header.trim_end().split_once(' ')?;
    let (number, count) = place.split_once('/')?;
    let (number, count) = (number.parse().ok()?, count.parse().ok()?);
    let is_sound = (1..=MAX_PARTS).contains(&count) && (1..=count).contains(&number);
    is_sound.then(|| (number, count, id.to_owned(), body))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn parts_come_in_any_order_and_none_may_be_missing() {
        let pem = "0123456789\n".repeat(100);
        let parts = parts(&pem, 200);
        assert!(parts.len() > 5 && parts.iter().all(|part| part.len() <= 200));
        let mut read = Parts::default();
        for part in parts.iter().rev().take(parts.len() - 1) {
            assert!(read.push(part.as_bytes()));
        }
        assert_eq!(read.join(), Err(PartsError::Missing(vec![1], parts.len())));
        assert!(read.push(parts[0].as_bytes()));
        assert_eq!(**read.join().as_ref().unwrap(), *pem.as_bytes());
        let mut damaged = parts[1].as_bytes().to_vec();
        *damaged.last_mut().unwrap() ^= 1;
        assert!(read.push(&damaged));
        assert_eq!(read.join(), Err(PartsError::Damaged));
        assert!(read.push(b"hpkp key 1/2 00000000\nx"));
        assert_eq!(read.join(), Err(PartsError::Mixed));
        for wrong in [
            "",
            "hpkp key",
            "hpkp key 1/2",
            "hpkp key 0/2 a\n",
            "hpkp key 3/2 a\n",
            "hpkp key 1/100 a\n",
            "-----BEGIN",
        ] {
            assert!(!Parts::default().push(wrong.as_bytes()), "{wrong}");
        }
    }
}
