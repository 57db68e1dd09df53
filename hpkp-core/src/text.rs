//! Foreign text made safe for a log line: printable ASCII, bounded.

use std::fmt;

/// Shows foreign text as printable ASCII, cut after [`Excerpt::MAX`] characters.
///
/// Control characters, backslashes and everything outside ASCII are escaped, so that a subject or
/// a path cannot forge a log line or upset a terminal.
#[derive(Clone, Copy, Debug)]
pub struct Excerpt<'a>(&'a [u8]);

impl<'a> Excerpt<'a> {
    /// The most characters shown of one text.
    pub const MAX: usize = 160;

    /// Shows `text`.
    #[must_use]
    pub fn new<T: AsRef<[u8]> + ?Sized>(text: &'a T) -> Self {
        Self(text.as_ref())
    }
}

impl fmt::Display for Excerpt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = 0;
        for &octet in self.0 {
            let escaped = octet.escape_ascii();
            // A quotation mark is escaped by `escape_ascii` to suit string literals; a log line
            // needs that only for the octets that are not printable, and for the backslash.
            let plain = (octet.is_ascii_graphic() || octet == b' ') && octet != b'\\';
            let width = if plain { 1 } else { escaped.len() };
            if shown + width > Self::MAX {
                return write!(f, "... ({} bytes)", self.0.len());
            }
            if plain {
                write!(f, "{}", char::from(octet))?;
            } else {
                write!(f, "{escaped}")?;
            }
            shown += width;
        }
        Ok(())
    }
}

/// A word of a command that can be pasted into a shell, and that fits a log line: quoted where it has
/// to be, and what is not printable ASCII as the shells escape it.
#[derive(Clone, Copy, Debug)]
pub struct ShellWord<'a>(&'a [u8]);

impl<'a> ShellWord<'a> {
    /// Shows `text`.
    #[must_use]
    pub fn new<T: AsRef<[u8]> + ?Sized>(text: &'a T) -> Self {
        Self(text.as_ref())
    }
}

impl fmt::Display for ShellWord<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_plain = |octet: &u8| octet.is_ascii_alphanumeric() || b"%+,-./:=@_".contains(octet);
        let is_printable = |octet: &u8| octet.is_ascii_graphic() || *octet == b' ';
        if !self.0.is_empty() && self.0.iter().all(is_plain) {
            return self.0.iter().try_for_each(|octet| write!(f, "{}", char::from(*octet)));
        }
        let escapes = !self.0.iter().all(is_printable);
        f.write_str(if escapes { "$'" } else { "'" })?;
        for octet in self.0 {
            match octet {
                b'\'' | b'\\' if escapes => write!(f, "\\{}", char::from(*octet))?,
                b'\'' => f.write_str("'\\''")?,
                octet if is_printable(octet) => write!(f, "{}", char::from(*octet))?,
                octet => write!(f, "\\x{octet:02x}")?,
            }
        }
        f.write_str("'")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_takes_the_word_that_is_shown() {
        for (text, shown) in [
            ("/var/lib/hpkp", "/var/lib/hpkp"),
            ("/srv/my pins", "'/srv/my pins'"),
            ("a'b$c", "'a'\\''b$c'"),
            ("*.example.com", "'*.example.com'"),
            ("", "''"),
            ("a\n'\\", "$'a\\x0a\\'\\\\'"),
        ] {
            assert_eq!(ShellWord::new(text).to_string(), shown);
        }
    }

    #[test]
    fn control_characters_and_other_scripts_are_escaped() {
        assert_eq!(Excerpt::new("a b\"c").to_string(), "a b\"c");
        assert_eq!(Excerpt::new("x\r\n\x1b[0m\\").to_string(), "x\\r\\n\\x1b[0m\\\\");
        assert_eq!(Excerpt::new("é").to_string(), "\\xc3\\xa9");
    }

    #[test]
    fn long_text_is_cut_and_says_how_long_it_was() {
        let shown = Excerpt::new(&[0_u8; 60_000]).to_string();
        assert!(shown.len() < Excerpt::MAX + 30, "{shown}");
        assert!(shown.ends_with("... (60000 bytes)"));
    }
}
