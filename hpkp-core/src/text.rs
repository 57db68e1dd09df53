//! Makes foreign text safe for a log line (printable ASCII, bounded) and for a shell, and matches glob patterns.

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
        for &byte in self.0 {
            let escaped = byte.escape_ascii();
            // A quotation mark is escaped by `escape_ascii` to suit string literals; a log line
            // needs that only for the bytes that are not printable, and for the backslash.
            let plain = (byte.is_ascii_graphic() || byte == b' ') && byte != b'\\';
            let width = if plain { 1 } else { escaped.len() };
            if shown + width > Self::MAX {
                return write!(f, "... ({} bytes)", self.0.len());
            }
            if plain {
                write!(f, "{}", char::from(byte))?;
            } else {
                write!(f, "{escaped}")?;
            }
            shown += width;
        }
        Ok(())
    }
}

/// A word of a command that can be pasted into a shell and is safe in a log line. It is quoted if necessary, and bytes
/// that are not printable ASCII have the escapes of the shells. Other words have no backslash, which httpd doubles in its
/// error log.
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
        let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"%+,-./:=@_".contains(byte);
        let is_printable = |byte: &u8| byte.is_ascii_graphic() || *byte == b' ';
        if !self.0.is_empty() && self.0.iter().all(is_plain) {
            return self.0.iter().try_for_each(|byte| write!(f, "{}", char::from(*byte)));
        }
        let escapes = !self.0.iter().all(is_printable);
        f.write_str(if escapes { "$'" } else { "'" })?;
        for byte in self.0 {
            match byte {
                b'\'' | b'\\' if escapes => write!(f, "\\{}", char::from(*byte))?,
                b'\'' => f.write_str(r#"'"'"'"#)?,
                byte if is_printable(byte) => write!(f, "{}", char::from(*byte))?,
                byte => write!(f, "\\x{byte:02x}")?,
            }
        }
        f.write_str("'")
    }
}

/// How many items of a list a text names.
pub const NAMED: usize = 6;

/// The first items of a list, and the number of the others: `a, b and 3 more`.
pub fn listed<T: fmt::Display>(all: impl IntoIterator<Item = T>) -> String {
    let mut all = all.into_iter();
    let named: Vec<String> = all.by_ref().take(NAMED).map(|one| one.to_string()).collect();
    match all.count() {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

/// Whether `text` matches `glob`, in which `*` stands for any bytes and `?` for one.
#[must_use]
pub fn glob_fits(glob: &str, text: &str) -> bool {
    let (glob, text) = (glob.as_bytes(), text.as_bytes());
    // The position of the last `*`, and how much of the text it has matched.
    let (mut at, mut pos, mut star) = (0, 0, None);
    while pos < text.len() {
        match (glob.get(at), star) {
            (Some(b'*'), _) => {
                star = Some((at, pos));
                at += 1;
            }
            (Some(byte), _) if *byte == b'?' || *byte == text[pos] => {
                at += 1;
                pos += 1;
            }
            (_, Some((star_at, taken))) => {
                star = Some((star_at, taken + 1));
                at = star_at + 1;
                pos = taken + 1;
            }
            (_, None) => return false,
        }
    }
    glob[at..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_the_quoted_word_as_the_text() {
        for (text, shown) in [
            ("/var/lib/hpkp", "/var/lib/hpkp"),
            ("/srv/my pins", "'/srv/my pins'"),
            ("a'b$c", r#"'a'"'"'b$c'"#),
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
    fn long_text_is_cut_with_its_length() {
        let shown = Excerpt::new(&[0_u8; 60_000]).to_string();
        assert!(shown.len() < Excerpt::MAX + 30, "{shown}");
        assert!(shown.ends_with("... (60000 bytes)"));
    }

    #[test]
    fn the_first_of_several_are_named() {
        assert_eq!(listed(["a", "b"]), "a, b");
        assert_eq!(listed(1..=9), "1, 2, 3, 4, 5, 6 and 3 more");
    }

    #[test]
    fn a_glob_matches_any_bytes_and_single_bytes() {
        for (glob, text, fits) in [
            ("*", "a", true),
            ("a*b", "ab", true),
            ("a*b", "axxb", true),
            ("a*b*c", "a.b.b.c", true),
            ("a*b", "abx", false),
            ("a?", "a", false),
            ("", "a", false),
            ("", "", true),
            ("a", "a", true),
            ("a", "A", false),
        ] {
            assert_eq!(glob_fits(glob, text), fits, "{glob} {text}");
        }
    }
}
