//! Finds header values in the input: a value, a header line, or all lines of a response.

use hpkp_core::pin::Pin;
use hpkp_core::ua::FieldKind;

/// The values of one kind of header, in order.
pub(super) type Values = (FieldKind, Vec<Vec<u8>>);

/// The values of both kinds of header in a response.
pub(super) fn headers(text: &[u8]) -> Vec<Values> {
    let of_kind = |kind: FieldKind| {
        let lines = text.split(|byte| *byte == b'\n');
        let values = lines.filter_map(|line| value(line, kind.name().as_bytes()));
        (kind, values.map(<[u8]>::to_vec).collect())
    };
    vec![of_kind(FieldKind::Enforced), of_kind(FieldKind::ReportOnly)]
}

/// The value of a header line with this name, without surrounding blanks.
fn value<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let (before, value) = (&line[..colon], &line[colon + 1..]);
    let value = value.strip_suffix(b"\r").unwrap_or(value);
    before.eq_ignore_ascii_case(name).then(|| value.trim_ascii())
}

/// Removes the end of the last line.
pub(super) fn without_line_end(text: &[u8]) -> &[u8] {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    text.strip_suffix(b"\r").unwrap_or(text)
}

/// The first pin in a value, even if the value is invalid.
pub(super) fn first_pin(value: &[u8]) -> Option<Pin> {
    let text = std::str::from_utf8(value).ok()?;
    text.split('"').find_map(|part| Pin::from_base64(part).ok())
}

/// Converts bytes to a JSON string, each byte to one character.
pub(super) fn latin1(value: &[u8]) -> String {
    value.iter().copied().map(char::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_in_the_lines_of_a_response_are_found() {
        let text = b"HTTP/2 200\r\npublic-key-pins:  a \r\nX: y\r\nPublic-Key-Pins:b\nPublic-Key-Pins-Report-Only: c";
        let all = [
            (FieldKind::Enforced, vec![b"a".to_vec(), b"b".to_vec()]),
            (FieldKind::ReportOnly, vec![b"c".to_vec()]),
        ];
        assert_eq!(headers(text), all);
        assert!(
            headers(b"max-age=1; report-uri=\"http://x\"").iter().all(|(_, all)| all.is_empty())
        );
    }
}
