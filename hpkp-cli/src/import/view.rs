//! Converts a text to the form in which clients read it, without knowing its format: escapes in pins are
//! resolved, and concatenated literals are joined.

/// The bytes of a converted text, and the original position of each byte.
pub(super) struct View {
    bytes: Vec<u8>,
    from: Vec<usize>,
    /// The positions before which text was omitted.
    joints: Vec<usize>,
}

/// The place of a part of the converted text in the original.
pub(super) struct Place {
    /// The position of its first byte.
    pub(super) at: usize,
    /// Whether text was omitted within the part.
    pub(super) joined: bool,
    /// Whether text was omitted directly before the part.
    pub(super) apart: bool,
}

impl View {
    /// Resolves the escapes of the base64 characters other than letters and digits.
    pub(super) fn plain(text: &str) -> Self {
        Self::of(text.as_bytes(), false)
    }

    /// Also joins literals: `"a" + "b"`, a line that ends with a backslash, and white space within base64.
    pub(super) fn joined(text: &str) -> Self {
        Self::of(text.as_bytes(), true)
    }

    fn of(text: &[u8], joins: bool) -> Self {
        let mut view = Self {
            bytes: Vec::with_capacity(text.len()),
            from: Vec::with_capacity(text.len()),
            joints: Vec::new(),
        };
        let mut at = 0;
        while at < text.len() {
            if let Some((byte, length)) = escape(&text[at..]) {
                view.push(byte, at);
                at += length;
                continue;
            }
            if let Some(length) = joins.then(|| joint(text, at)).flatten() {
                view.joints.push(view.bytes.len());
                at += length;
                continue;
            }
            view.push(text[at], at);
            at += 1;
        }
        view
    }

    fn push(&mut self, byte: u8, at: usize) {
        self.bytes.push(byte);
        self.from.push(at);
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The pieces from which the bytes from `start` to `end` were joined.
    pub(super) fn pieces(&self, start: usize, end: usize) -> impl Iterator<Item = &[u8]> {
        let first = self.joints.partition_point(|joint| *joint <= start);
        let inner = self.joints[first..].iter().copied().take_while(move |joint| *joint < end);
        let mut begin = start;
        inner.chain([end]).filter_map(move |joint| {
            let piece = self.bytes.get(begin..joint);
            begin = joint;
            piece
        })
    }

    /// The place of the bytes from `start` to `end` in the original.
    pub(super) fn place(&self, start: usize, end: usize) -> Option<Place> {
        let next = self.joints.partition_point(|joint| *joint <= start);
        let joined = self.joints.get(next).is_some_and(|joint| *joint < end);
        let apart = next.checked_sub(1).is_some_and(|last| self.joints[last] == start);
        Some(Place { at: *self.from.get(start)?, joined, apart })
    }
}

/// The character of an escape, and its length: `%2F`, `\/`, `\u002f`, `\x2f`, `&#47;`, `&#x2f;`.
fn escape(text: &[u8]) -> Option<(u8, usize)> {
    let of = |digits: &[u8], radix: u32, length: usize| {
        let digits = std::str::from_utf8(digits).ok()?;
        let byte = u8::from_str_radix(digits, radix).ok()?;
        b"+/=".contains(&byte).then_some((byte, length))
    };
    match text {
        [b'%', a, b, ..] => of(&[*a, *b], 16, 3),
        [b'\\', b'/', ..] => Some((b'/', 2)),
        [b'\\', b'u', b'0', b'0', a, b, ..] => of(&[*a, *b], 16, 6),
        [b'\\', b'x', a, b, ..] => of(&[*a, *b], 16, 4),
        [b'&', b'#', b'x' | b'X', a, b, b';', ..] => of(&[*a, *b], 16, 6),
        [b'&', b'#', a, b, b';', ..] => of(&[*a, *b], 10, 5),
        _ => None,
    }
}

/// The number of bytes to omit at `at`, between two concatenated literals.
fn joint(text: &[u8], at: usize) -> Option<usize> {
    /// The longest separator of two literals, in bytes.
    const MAX: usize = 512;
    let rest = &text[at..text.len().min(at + MAX)];
    let is_digit = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=-_".contains(&byte);
    let blank = |from: usize| {
        rest.get(from..).unwrap_or_default().iter().take_while(|c| c.is_ascii_whitespace()).count()
    };
    let quote = |at: usize| rest.get(at).is_some_and(|c| b"\"'`".contains(c));
    let before = at.checked_sub(1).and_then(|before| text.get(before)).copied();
    match *rest.first()? {
        b'"' | b'\'' | b'`' if before.is_some_and(is_digit) => {
            let mut end = 1 + blank(1);
            // Operators of Java, Kotlin, Swift and PHP. C, Python and the shell have none.
            while rest.get(end).is_some_and(|c| b"+.@\\".contains(c)) {
                end += 1;
                end += blank(end);
            }
            (quote(end) && rest.get(end + 1).copied().is_some_and(is_digit)).then_some(end + 1)
        }
        b'\\' if matches!(rest.get(1), Some(b'\n')) => Some(1 + blank(1)),
        b'\\' if rest.get(1..3) == Some(b"\r\n") => Some(1 + blank(1)),
        // White space within an XML element.
        b' ' | b'\t' | b'\r' | b'\n' if before.is_some_and(is_digit) => {
            let end = blank(0);
            rest.get(end).copied().is_some_and(is_digit).then_some(end)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_resolved_and_literals_are_joined() {
        for (text, plain, joined) in [
            ("a%2Fb\\/c\\u003dd", "a/b/c=d", "a/b/c=d"),
            ("\"a\" +\n  \"b\"", "\"a\" +\n  \"b\"", "\"ab\""),
            ("x@\"a\" @\"b\"", "x@\"a\" @\"b\"", "x@\"ab\""),
            ("<a\n b>", "<a\n b>", "<ab>"),
            ("a\\\n  b", "a\\\n  b", "ab"),
            ("\"a\", \"b\"", "\"a\", \"b\"", "\"a\", \"b\""),
        ] {
            assert_eq!(View::plain(text).bytes(), plain.as_bytes(), "{text}");
            assert_eq!(View::joined(text).bytes(), joined.as_bytes(), "{text}");
        }
    }
}
