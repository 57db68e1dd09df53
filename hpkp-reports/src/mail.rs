//! Extracts reports from a mail message: RFC 8460 section 3 sends them as an attachment of a `multipart/report`.

use mail_parser::{MessageParser, MessagePart, MimeHeaders as _};

/// The deepest nesting of parts and of messages, such as a forwarded message.
///
/// The parser gets one entity at a time, without nested ones: it recurses into nested messages, and ten thousand of
/// them exhaust the stack.
const DEPTH: usize = 8;

/// The most reports in one message. A sender attaches one.
pub(crate) const MAX_REPORTS: usize = 20;

/// The first bytes of gzip (RFC 1952 section 2.3.1).
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// The reports in a mail message, or the input itself if it is a report. Reports stay packed if they are.
///
/// If the message has more than [`MAX_REPORTS`], one more than that is returned.
pub(crate) fn reports(input: &[u8]) -> Vec<Vec<u8>> {
    let text = input.strip_prefix(b"\xef\xbb\xbf").unwrap_or(input).trim_ascii_start();
    if input.starts_with(&GZIP) || text.starts_with(b"{") || text.starts_with(b"[") {
        return vec![input.to_vec()];
    }
    let mut found = Vec::new();
    collect(without_envelope(input), DEPTH, &mut found);
    found
}

/// Removes the line `From SENDER TIME` of the mbox format, which a mail server adds when it delivers to a command.
fn without_envelope(input: &[u8]) -> &[u8] {
    let end = input.iter().position(|byte| *byte == b'\n').map_or(input.len(), |end| end + 1);
    if input.starts_with(b"From ") { &input[end..] } else { input }
}

/// Adds the reports of an entity: fields, an empty line and a body (RFC 2045 section 2.4).
fn collect(entity: &[u8], depth: usize, found: &mut Vec<Vec<u8>>) {
    let Some(head) = MessageParser::default().parse_headers(entity) else { return };
    let Some(kind) = head.content_type() else { return };
    match (kind.ctype(), kind.subtype().unwrap_or_default()) {
        ("multipart", _) => {
            let boundary = kind.attribute("boundary").unwrap_or_default().as_bytes();
            if depth > 0 && !boundary.is_empty() {
                for part in parts(body(entity), boundary) {
                    if found.len() > MAX_REPORTS {
                        return;
                    }
                    collect(part, depth - 1, found);
                }
            }
        }
        ("message", _) if depth > 0 => collect(body(entity), depth - 1, found),
        _ if head.parts.first().is_some_and(is_report) => {
            let parsed = MessageParser::default().parse(entity);
            found.extend(parsed.and_then(|one| Some(one.parts.first()?.contents().to_vec())));
        }
        _ => {}
    }
}

/// The text after the first empty line.
fn body(entity: &[u8]) -> &[u8] {
    let mut rest = entity;
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        let line = &rest[..end];
        rest = &rest[end + 1..];
        if line.is_empty() || line == b"\r" {
            return rest;
        }
    }
    &[]
}

/// The parts between boundary lines (RFC 2046 section 5.1.1). The last part may lack its end.
fn parts<'a>(body: &'a [u8], boundary: &[u8]) -> Vec<&'a [u8]> {
    let mut parts = Vec::new();
    let mut begin = None;
    let mut at = 0;
    for line in body.split_inclusive(|byte| *byte == b'\n') {
        let end = at;
        at += line.len();
        let Some(rest) = line.strip_prefix(b"--").and_then(|line| line.strip_prefix(boundary))
        else {
            continue;
        };
        let is_last = rest.starts_with(b"--");
        if !is_last && !rest.trim_ascii().is_empty() {
            continue;
        }
        parts.extend(begin.map(|begin| without_line_break(&body[begin..end])));
        if is_last {
            return parts;
        }
        begin = Some(at);
    }
    parts.extend(begin.map(|begin| &body[begin..]));
    parts
}

/// Removes the last line break of a part, which belongs to the boundary.
fn without_line_break(part: &[u8]) -> &[u8] {
    let part = part.strip_suffix(b"\n").unwrap_or(part);
    part.strip_suffix(b"\r").unwrap_or(part)
}

/// Whether a part is a report, by its type or its name: some senders and gateways use the generic type for files.
fn is_report(part: &MessagePart<'_>) -> bool {
    let kind = part.content_type().map(|kind| {
        format!("{}/{}", kind.ctype(), kind.subtype().unwrap_or_default()).to_ascii_lowercase()
    });
    let name = part.attachment_name().unwrap_or_default().to_ascii_lowercase();
    match kind.as_deref().unwrap_or_default() {
        "application/tlsrpt+gzip" | "application/tlsrpt+json" => true,
        "application/json"
        | "application/gzip"
        | "application/x-gzip"
        | "application/octet-stream" => {
            [".json", ".json.gz", ".gz"].iter().any(|end| name.ends_with(end))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(parts: &str) -> String {
        format!(
            "From: a@example.net\r\nSubject: Report Domain: example.com\r\nMIME-Version: 1.0\r\n\
             Content-Type: multipart/report; report-type=\"tlsrpt\"; boundary=\"b\"\r\n\r\n{parts}\r\n--b--\r\n"
        )
    }

    fn part(head: &str, body: &str) -> String {
        format!("--b\r\nContent-Type: {head}\r\n\r\n{body}\r\n")
    }

    #[test]
    fn attachments_are_found_by_type_or_name() {
        let packed = "application/tlsrpt+gzip; name=\"x\"\r\nContent-Transfer-Encoding: base64";
        for (head, body, expected) in [
            (packed, "H4sIAA==", Some(&b"\x1f\x8b\x08\x00"[..])),
            ("Application/TLSRPT+JSON", "{\"a\":1}", Some(b"{\"a\":1}")),
            ("application/json; name=a.json", "{}", Some(b"{}")),
            (
                "application/octet-stream\r\nContent-Disposition: attachment; filename=\"A.JSON.GZ\"",
                "x",
                Some(b"x"),
            ),
            ("application/octet-stream; name=a.exe", "x", None),
            ("application/json", "{}", None),
            ("text/plain; name=a.json", "{}", None),
        ] {
            let text = message(&(part("text/plain", "A report.") + &part(head, body)));
            let expected: Vec<Vec<u8>> = expected.into_iter().map(<[u8]>::to_vec).collect();
            let found = |text: &str| -> Vec<Vec<u8>> {
                let found = reports(text.as_bytes());
                found.iter().map(|one| one.trim_ascii_end().to_vec()).collect()
            };
            assert_eq!(found(&text), expected, "{head}");
            // With the first line that a delivery to a command adds.
            let text = format!("From a@example.net Fri Nov 27 00:00:00 2026\n{text}");
            assert_eq!(found(&text), expected, "{head}");
        }
    }

    #[test]
    fn a_forwarded_message_is_read_and_deep_nesting_gives_nothing() {
        let inner = message(&part("application/tlsrpt+json", "{\"a\":1}"));
        let forwarded = message(&part(
            "message/rfc822",
            &inner.replace("\"b\"", "\"c\"").replace("--b", "--c"),
        ));
        assert_eq!(reports(forwarded.as_bytes()), [b"{\"a\":1}\r\n"]);
        let many = message(&part("application/tlsrpt+json", "{}").repeat(10_000));
        assert_eq!(reports(many.as_bytes()).len(), MAX_REPORTS + 1);
        let mut deep = String::from("x");
        for level in 0..2000 {
            deep = format!(
                "Content-Type: multipart/mixed; boundary=\"{level}\"\r\n\r\n--{level}\r\n{deep}"
            );
        }
        assert!(reports(deep.as_bytes()).is_empty());
        // As many as the largest message may contain; plain, and encoded, which is not allowed for a part with parts
        // (RFC 2045 section 6.4).
        let nested = "Content-Type: message/rfc822\r\n\r\n".repeat(100_000);
        assert!(reports(nested.as_bytes()).is_empty());
        let encoded = format!(
            "Content-Type: message/rfc822\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n{}",
            nested.replace(":", "=3A")
        );
        assert!(reports(encoded.as_bytes()).is_empty());
        for text in ["", "\0", "From ", "From x\n", "\n\n{}"] {
            assert!(reports(text.as_bytes()).len() < 2, "{text:?}");
        }
    }

    #[test]
    fn parts_are_split_only_at_complete_boundary_lines() {
        let body = b"before\n--b\none\r\n\r\n--b \t\r\n--bc\n--b\n\n--b-\n--b--x\nafter\n--b\nno";
        let found: [&[u8]; 3] = [b"one\r\n", b"--bc", b"\n--b-"];
        assert_eq!(parts(body, b"b"), found);
        assert_eq!(parts(b"--b\nA: cut", b"b"), [b"A: cut"]);
        assert!(parts(b"none", b"b").is_empty());
    }

    #[test]
    fn a_plain_report_is_returned_unchanged() {
        for text in ["{\"a\":1}", " \n[{}]", "\u{feff}{}"] {
            assert_eq!(reports(text.as_bytes()), [text.as_bytes()]);
        }
        assert_eq!(reports(b"\x1f\x8bx"), [b"\x1f\x8bx"]);
    }
}
