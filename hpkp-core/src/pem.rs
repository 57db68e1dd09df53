//! PEM files (RFC 7468): reads their objects, which may have text before and between them, and writes them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"-----END ";
const DASHES: &[u8] = b"-----";

/// One encapsulated object, still in base64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block<'a> {
    /// The text between `BEGIN ` and the dashes, such as `CERTIFICATE`.
    pub label: &'a [u8],
    body: &'a [u8],
    text: &'a [u8],
}

/// Why a PEM file cannot be read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PemError {
    /// A `BEGIN` line has no `END` line with the same label: the file is cut off.
    NoEnd,
    /// The text between the lines is not base64.
    NotBase64,
}

impl<'a> Block<'a> {
    /// The object's bytes.
    ///
    /// # Errors
    /// [`PemError::NotBase64`].
    pub fn decode(&self) -> Result<Vec<u8>, PemError> {
        let mut base64 = Vec::with_capacity(self.body.len());
        let mut rest = self.body;
        while let Some((line, after)) = split_line(rest) {
            base64.extend_from_slice(line.trim_ascii());
            rest = after;
        }
        match STANDARD.decode(&base64) {
            Ok(der) => Ok(der),
            // Blanks inside a line are rare, so they are removed only if decoding fails.
            Err(_) => {
                base64.retain(|byte| !byte.is_ascii_whitespace());
                STANDARD.decode(base64).map_err(|_| PemError::NotBase64)
            }
        }
    }

    /// The text between the lines: base64 with white space.
    #[must_use]
    pub fn body(&self) -> &'a [u8] {
        self.body
    }

    /// Whether it is a certificate, in OpenSSL's own form too.
    #[must_use]
    pub fn is_certificate(&self) -> bool {
        matches!(self.label, b"CERTIFICATE" | b"X509 CERTIFICATE" | b"TRUSTED CERTIFICATE")
    }

    /// Whether it is a private key, of whatever form.
    #[must_use]
    pub fn is_private_key(&self) -> bool {
        self.label.ends_with(b"PRIVATE KEY")
    }

    /// The block with its lines.
    #[must_use]
    pub fn text(&self) -> &'a [u8] {
        self.text
    }
}

/// How many characters a written line has (RFC 7468 section 2).
const LINE: usize = 64;

/// How many bytes [`append`] adds for this number of bytes of DER.
#[must_use]
pub fn length(label: &str, der: usize) -> usize {
    let base64 = der.div_ceil(3) * 4;
    let lines = BEGIN.len() + END.len() + 2 * (label.len() + DASHES.len() + 1);
    lines + base64 + base64.div_ceil(LINE)
}

/// Appends a block. If `text` has room for [`length`] bytes, no copy of the block is left elsewhere in memory: the DER
/// may be a private key.
pub fn append(text: &mut Vec<u8>, label: &str, der: &[u8]) {
    append_line(text, BEGIN, label);
    for piece in der.chunks(LINE / 4 * 3) {
        let at = text.len();
        text.resize(at + piece.len().div_ceil(3) * 4, b'=');
        // The slice has exactly the length of the base64.
        let _ = STANDARD.encode_slice(piece, &mut text[at..]);
        text.push(b'\n');
    }
    append_line(text, END, label);
}

fn append_line(text: &mut Vec<u8>, opening: &[u8], label: &str) {
    for part in [opening, label.as_bytes(), DASHES, b"\n"] {
        text.extend_from_slice(part);
    }
}

/// Whether `file` has a `BEGIN` line.
#[must_use]
pub fn is_pem(file: &[u8]) -> bool {
    blocks(file).next().is_some()
}

/// The objects of `file`, in order. After an error there is nothing more.
pub fn blocks(file: &[u8]) -> impl Iterator<Item = Result<Block<'_>, PemError>> {
    // Some editors begin a file with a byte order mark.
    let mut rest = file.strip_prefix(b"\xef\xbb\xbf").unwrap_or(file);
    std::iter::from_fn(move || {
        loop {
            let whole = rest;
            let (line, after) = split_line(rest)?;
            rest = after;
            if let Some(label) = label(line, BEGIN) {
                let block = read_body(whole, label, &mut rest);
                if block.is_none() {
                    rest = &[];
                }
                return Some(block.ok_or(PemError::NoEnd));
            }
        }
    })
}

/// The block with which `text` begins, whose `BEGIN` line was just read; `rest` moves behind its `END` line.
fn read_body<'a>(text: &'a [u8], label: &'a [u8], rest: &mut &'a [u8]) -> Option<Block<'a>> {
    let whole = *rest;
    let mut from = 0;
    loop {
        // A BEGIN or END line begins with a dash, which base64 does not contain.
        let at = from + memchr::memchr(b'-', &whole[from..])?;
        if at > 0 && !matches!(whole[at - 1], b'\n' | b'\r') {
            from = at + 1;
            continue;
        }
        let (line, after) = split_line(&whole[at..])?;
        if self::label(line, BEGIN).is_some() {
            return None;
        }
        if self::label(line, END) == Some(label) {
            *rest = after;
            let text = &text[..text.len() - after.len()];
            return Some(Block { label, body: &whole[..at], text });
        }
        from = whole.len() - after.len();
    }
}

/// The label of a `BEGIN` or `END` line, where `line` is one.
fn label<'a>(line: &'a [u8], opening: &[u8]) -> Option<&'a [u8]> {
    // Nearly all lines are base64, so the first byte decides.
    if line.first() != Some(&b'-') {
        return None;
    }
    line.trim_ascii_end().strip_prefix(opening)?.strip_suffix(DASHES)
}

/// The first line, without its line feed, and what follows it. Old Mac files end lines with CR.
fn split_line(text: &[u8]) -> Option<(&[u8], &[u8])> {
    if text.is_empty() {
        return None;
    }
    let end = memchr::memchr2(b'\n', b'\r', text);
    Some(end.map_or((text, &[][..]), |end| (&text[..end], &text[end + 1..])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_block_has_the_length_and_is_read_back() {
        for size in [0, 1, 2, 3, 47, 48, 49, 96, 1_000] {
            let der: Vec<u8> = (0..size).map(|at| at as u8).collect();
            let mut text = Vec::new();
            append(&mut text, "PRIVATE KEY", &der);
            assert_eq!(text.len(), length("PRIVATE KEY", der.len()), "{size}");
            assert!(text.split(|byte| *byte == b'\n').all(|line| line.len() <= LINE), "{size}");
            let block = blocks(&text).next().unwrap().unwrap();
            assert_eq!((block.label, block.decode()), (&b"PRIVATE KEY"[..], Ok(der)), "{size}");
        }
    }

    type Object = (Vec<u8>, Vec<u8>);

    fn decoded(file: &[u8]) -> Vec<Result<Object, PemError>> {
        blocks(file).map(|block| block.and_then(|b| Ok((b.label.to_vec(), b.decode()?)))).collect()
    }

    #[test]
    fn text_before_between_and_after_blocks_is_ignored() {
        let file = b"\xef\xbb\xbfsubject=x\n-----BEGIN A-----\nAQID\n-----END A-----\nnote\r\n\
            -----BEGIN B C-----\r\nBA\r\nUG\r\n-----END B C-----  \r\nend";
        assert_eq!(
            decoded(file),
            [Ok((b"A".to_vec(), vec![1, 2, 3])), Ok((b"B C".to_vec(), vec![4, 5, 6])),]
        );
    }

    #[test]
    fn the_text_of_a_block_has_only_its_own_lines() {
        let file = b"x\n-----BEGIN A-----\r\nkey-----END A-----\n-\nAQID\n-----END A-----\n-----BEGIN B-----\n-----END B-----";
        let blocks: Vec<_> = blocks(file).flatten().collect();
        assert_eq!(blocks[0].body(), b"\nkey-----END A-----\n-\nAQID\n");
        assert_eq!(blocks[1].text(), b"-----BEGIN B-----\n-----END B-----");
        assert_eq!(blocks.len(), 2);
    }

    #[test]
    fn blanks_inside_the_base64_are_ignored() {
        let file = b"-----BEGIN A-----\n A Q\tI\x0cD\n\n BA==\t\n-----END A-----\n";
        assert_eq!(decoded(file), [Ok((b"A".to_vec(), vec![1, 2, 3, 4]))]);
        let file = b"-----BEGIN A-----\nA Q*D\n-----END A-----\n";
        assert_eq!(decoded(file), [Err(PemError::NotBase64)]);
    }

    #[test]
    fn a_truncated_block_is_an_error() {
        assert_eq!(decoded(b"-----BEGIN A-----\nAQID\n"), [Err(PemError::NoEnd)]);
        assert_eq!(decoded(b"-----BEGIN A-----\nAQID\n-----END B-----\n"), [Err(PemError::NoEnd)]);
        assert_eq!(
            decoded(b"-----BEGIN A-----\nAQ\n-----BEGIN A-----\nAQID\n-----END A-----\n"),
            [Err(PemError::NoEnd)]
        );
        assert_eq!(
            decoded(b"-----BEGIN A-----\nA*ID\n-----END A-----\n"),
            [Err(PemError::NotBase64)]
        );
    }

    #[test]
    fn a_file_without_a_begin_line_is_not_pem() {
        assert!(!is_pem(b""));
        assert!(!is_pem(b"\x30\x03\x02\x01\x00"));
        assert!(!is_pem(b"see -----BEGIN A----- above"));
        assert!(is_pem(b"-----BEGIN A-----"));
    }
}
