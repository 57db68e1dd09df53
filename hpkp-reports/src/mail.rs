//! Reports in a mail message: RFC 8460 section 3 sends them as an attachment of a `multipart/report`.

use mail_parser::{Message, MessageParser, MessagePart, MimeHeaders as _, PartType};

/// How deep messages may be in messages, such as one that was forwarded.
const DEPTH: usize = 3;

/// The most reports of one message. Each sender has one.
const MAX_REPORTS: usize = 20;

/// How gzip begins (RFC 1952 section 2.3.1).
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// The reports in a mail message, or the one report that it is: packed or not, as they are there.
pub(crate) fn reports(input: &[u8]) -> Vec<Vec<u8>> {
    let text = input.strip_prefix(b"\xef\xbb\xbf").unwrap_or(input).trim_ascii_start();
    if input.starts_with(&GZIP) || text.starts_with(b"{") || text.starts_with(b"[") {
        return vec![input.to_vec()];
    }
    let mut found = Vec::new();
    if let Some(message) = MessageParser::default().parse(without_envelope(input)) {
        attached(&message, DEPTH, &mut found);
    }
    found.truncate(MAX_REPORTS);
    found
}

/// A message without the line of mailboxes, `From SENDER TIME`, which a delivery to a command puts before it.
fn without_envelope(input: &[u8]) -> &[u8] {
    let end = input.iter().position(|octet| *octet == b'\n').map_or(input.len(), |end| end + 1);
    if input.starts_with(b"From ") { &input[end..] } else { input }
}

fn attached(message: &Message<'_>, depth: usize, found: &mut Vec<Vec<u8>>) {
    for part in &message.parts {
        match &part.body {
            PartType::Message(inner) if depth > 0 => attached(inner, depth - 1, found),
            PartType::Message(_) | PartType::Multipart(_) => {}
            _ if is_report(part) => found.push(part.contents().to_vec()),
            _ => {}
        }
    }
}

/// Whether a part is a report by its type, or by its name: some senders and gateways give the type of any file.
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
            // As a delivery to a command has it.
            let text = format!("From a@example.net Fri Nov 27 00:00:00 2026\n{text}");
            assert_eq!(found(&text), expected, "{head}");
        }
    }

    #[test]
    fn a_message_in_a_message_is_looked_at_and_a_bomb_ends() {
        let inner = message(&part("application/tlsrpt+json", "{\"a\":1}"));
        let forwarded = message(&part(
            "message/rfc822",
            &inner.replace("\"b\"", "\"c\"").replace("--b", "--c"),
        ));
        assert_eq!(reports(forwarded.as_bytes()), [b"{\"a\":1}\r\n"]);
        let many = message(&part("application/tlsrpt+json", "{}").repeat(10_000));
        assert_eq!(reports(many.as_bytes()).len(), MAX_REPORTS);
        let mut deep = String::from("x");
        for level in 0..2000 {
            deep = format!(
                "Content-Type: multipart/mixed; boundary=\"{level}\"\r\n\r\n--{level}\r\n{deep}"
            );
        }
        assert!(reports(deep.as_bytes()).is_empty());
        let nested = "Content-Type: message/rfc822\r\n\r\n".repeat(10_000);
        assert!(reports(nested.as_bytes()).is_empty());
        for text in ["", "\0", "From ", "From x\n", "\n\n{}"] {
            assert!(reports(text.as_bytes()).len() < 2, "{text:?}");
        }
    }

    #[test]
    fn a_report_is_taken_as_it_is() {
        for text in ["{\"a\":1}", " \n[{}]", "\u{feff}{}"] {
            assert_eq!(reports(text.as_bytes()), [text.as_bytes()]);
        }
        assert_eq!(reports(b"\x1f\x8bx"), [b"\x1f\x8bx"]);
    }
}
