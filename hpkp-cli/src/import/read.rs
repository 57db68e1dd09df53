//! Runs the reader of a format, and verifies that it accounts for every pin in the text.

use std::borrow::Cow;

use super::{
    Certificates, ImportError, Imported, MAX_TEXT, Problem, binary_plist, foreign, residue, text,
};

/// Reads a text with `reader`, and verifies that the reader accounts for every pin in it.
///
/// # Errors
/// See [`Problem`].
pub fn read_with(
    reader: fn(&[u8], &Certificates) -> Result<Imported, ImportError>,
    bytes: &[u8],
    certificates: &Certificates,
) -> Result<Imported, ImportError> {
    let bytes = &*utf8(bytes);
    certificates.read.borrow_mut().clear();
    let read = reader(bytes, certificates);
    let taken = certificates.read.take();
    match read {
        Ok(mut imported) => {
            let text = text(bytes)?;
            residue::check(text, &taken, &mut imported)?;
            foreign::check(text, &mut imported)?;
            Ok(imported)
        }
        // If the text contains nothing in the format, an error about the first pin is more useful.
        Err(error) if matches!(error.problem, Problem::Nothing { .. }) => {
            let text = text(bytes)?;
            let mut others = Imported::default();
            residue::check(text, &taken, &mut others)?;
            let line = others.notes.first().map_or(error.line, |note| note.line);
            Err(foreign::of(text).unwrap_or(ImportError { line, ..error }))
        }
        // Replaced variables may add lines to a text, so the line of the error is limited to the lines of
        // the original.
        Err(error) => {
            let lines = 1 + bytes.iter().filter(|byte| **byte == b'\n').count();
            let error = ImportError { line: error.line.clamp(1, lines), ..error };
            Err(text(bytes).map_or(error.clone(), |text| error.located(text)))
        }
    }
}

/// A reader that recognises no format.
fn of_no_format(_: &[u8], _: &Certificates) -> Result<Imported, ImportError> {
    Err(Problem::Nothing { wanted: "pins in a known format" }.at(1))
}

/// Why a text without a known format cannot be read: the first pin in it, or the method of pinning that it
/// seems to use.
#[must_use]
pub fn unread(bytes: &[u8]) -> ImportError {
    let read = read_with(of_no_format, bytes, &Certificates::default());
    read.err().unwrap_or_else(|| Problem::Nothing { wanted: "pins in a known format" }.at(1))
}

/// Converts a text to UTF-8 if it is a binary property list, UTF-16 (by its byte order mark) or Latin-1 (by
/// its XML declaration). Other text is unchanged.
#[must_use]
pub fn utf8(bytes: &[u8]) -> Cow<'_, [u8]> {
    let units = |rest: &[u8], order: fn([u8; 2]) -> u16| {
        let units = rest.chunks(2).map(|pair| order([pair[0], *pair.get(1).unwrap_or(&0)]));
        let text = char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER));
        Cow::Owned(text.collect::<String>().into_bytes())
    };
    let is_binary = bytes.starts_with(binary_plist::MARK) && bytes.len() <= MAX_TEXT;
    if let Some(text) = is_binary.then(|| binary_plist::xml(bytes)).flatten() {
        return Cow::Owned(text.into_bytes());
    }
    match bytes {
        [0xff, 0xfe, rest @ ..] => return units(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => return units(rest, u16::from_be_bytes),
        [b'<', 0, ..] => return units(bytes, u16::from_le_bytes),
        [0, b'<', ..] => return units(bytes, u16::from_be_bytes),
        _ => {}
    }
    let head = &bytes[..bytes.len().min(200)];
    let declaration = String::from_utf8_lossy(head).to_ascii_lowercase();
    let end = declaration.find("?>").unwrap_or(0);
    let is_latin = declaration.starts_with("<?xml")
        && ["iso-8859-1", "latin1", "windows-1252"].iter().any(|e| declaration[..end].contains(e));
    if is_latin && std::str::from_utf8(bytes).is_err() {
        let text: String = bytes.iter().copied().map(char::from).collect();
        return Cow::Owned(text.into_bytes());
    }
    Cow::Borrowed(bytes)
}
