//! An HTTP/1.1 request and the header section of its final response. The body is not read.

use std::io::{self, Read, Write};

use hpkp_core::ua::{FieldKind, MAX_FIELD};

use super::target::Target;
use crate::output;

/// The largest header section, in bytes: the limit of Chromium.
const MAX_SECTION: usize = MAX_FIELD;

/// The most header fields in one response.
const MAX_FIELDS: usize = 4_096;

/// The most interim responses (1xx) before the final one.
const MAX_INTERIM: usize = 16;

/// The parts of a response that are used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) location: Option<String>,
    pub(super) enforced: Vec<Vec<u8>>,
    pub(super) report_only: Vec<Vec<u8>>,
}

impl Response {
    pub(super) fn fields(&self, kind: FieldKind) -> &[Vec<u8>] {
        match kind {
            FieldKind::Enforced => &self.enforced,
            FieldKind::ReportOnly => &self.report_only,
        }
    }

    /// The target of a redirect.
    pub(super) fn redirect(&self) -> Option<&str> {
        let is_redirect = matches!(self.status, 301 | 302 | 303 | 307 | 308);
        self.location.as_deref().filter(|_| is_redirect)
    }
}

/// Why a request has no response.
#[derive(Debug, thiserror::Error)]
pub(super) enum HttpError {
    #[error("{}", not_read(.0))]
    Io(io::Error),
    #[error("the server closed the connection without an HTTP response")]
    Ended,
    #[error("the header section of the HTTP response is larger than {} KiB; browsers refuse it too", MAX_SECTION >> 10)]
    TooLarge,
    #[error("the HTTP response has more than {MAX_FIELDS} header fields")]
    TooManyFields,
    #[error("more than {MAX_INTERIM} interim responses (1xx) and no final one")]
    TooManyInterim,
    #[error("the answer is not HTTP/1.1: {0}")]
    NotHttp(httparse::Error),
}

/// The text of a read error.
fn not_read(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::TimedOut => "no HTTP response within the time limit (--timeout)".to_owned(),
        _ => format!("cannot read the HTTP response: {}", output::os(error)),
    }
}

/// Sends a GET request for `target` over `stream`.
pub(super) fn get(stream: impl Read + Write, target: &Target) -> Result<Response, HttpError> {
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: hpkp/{}\r\nAccept: */*\r\nConnection: close\r\n\r\n",
        target.path,
        target.authority(),
        env!("CARGO_PKG_VERSION")
    );
    exchange(stream, &request)
}

/// Posts JSON to `target` over `stream`.
pub(super) fn post(
    stream: impl Read + Write,
    target: &Target,
    body: &str,
) -> Result<Response, HttpError> {
    let request = format!(
        "POST {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: hpkp/{}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        target.path,
        target.authority(),
        env!("CARGO_PKG_VERSION"),
        body.len()
    );
    exchange(stream, &request)
}

fn exchange(mut stream: impl Read + Write, request: &str) -> Result<Response, HttpError> {
    // A server may have answered and closed before it has read all.
    let written = stream.write_all(request.as_bytes()).and_then(|()| stream.flush());
    let mut bytes = Vec::new();
    for _ in 0..MAX_INTERIM {
        let end = match section(&mut stream, &mut bytes) {
            Ok(end) => end,
            Err(HttpError::Ended) => {
                return Err(written.err().map_or(HttpError::Ended, HttpError::Io));
            }
            Err(error) => return Err(error),
        };
        let response = parse(&bytes[..end])?;
        if !(100..200).contains(&response.status) {
            return Ok(response);
        }
        bytes.drain(..end);
    }
    Err(HttpError::TooManyInterim)
}

/// Reads until `bytes` contains a header section, and gives the position of its end.
fn section(stream: &mut impl Read, bytes: &mut Vec<u8>) -> Result<usize, HttpError> {
    let mut buffer = [0; 8_192];
    let mut seen = 0;
    loop {
        if let Some(end) = end_of_section(bytes, seen) {
            return Ok(end);
        }
        if bytes.len() >= MAX_SECTION {
            return Err(HttpError::TooLarge);
        }
        seen = bytes.len().saturating_sub(3);
        match stream.read(&mut buffer) {
            Ok(0) => return Err(HttpError::Ended),
            Ok(read) => bytes.extend_from_slice(&buffer[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(HttpError::Io(error)),
        }
        // If the first bytes are not those of a status line, waiting for the rest is useless.
        let begin = &bytes[..bytes.len().min(5)];
        if !b"HTTP/".starts_with(begin) {
            return Err(HttpError::NotHttp(httparse::Error::Version));
        }
    }
}

/// The position behind the empty line, which ends with LF or CR LF.
fn end_of_section(bytes: &[u8], from: usize) -> Option<usize> {
    let lines = bytes.iter().enumerate().skip(from).filter(|(_, byte)| **byte == b'\n');
    for (at, _) in lines {
        match bytes.get(at + 1..)? {
            [b'\n', ..] => return Some(at + 2),
            [b'\r', b'\n', ..] => return Some(at + 3),
            _ => {}
        }
    }
    None
}

fn parse(bytes: &[u8]) -> Result<Response, HttpError> {
    let mut config = httparse::ParserConfig::default();
    // Browsers accept such responses too.
    config
        .allow_obsolete_multiline_headers_in_responses(true)
        .allow_spaces_after_header_name_in_responses(true)
        .allow_multiple_spaces_in_response_status_delimiters(true)
        .ignore_invalid_headers_in_responses(true);
    let mut count = 64;
    loop {
        let mut fields = vec![httparse::EMPTY_HEADER; count];
        let mut response = httparse::Response::new(&mut fields);
        match config.parse_response(&mut response, bytes) {
            Ok(_) => {
                let location = values(bytes, "Location").into_iter().next();
                return Ok(Response {
                    status: response.code.unwrap_or_default(),
                    location: location.map(|value| String::from_utf8_lossy(&value).into_owned()),
                    enforced: values(bytes, FieldKind::Enforced.name()),
                    report_only: values(bytes, FieldKind::ReportOnly.name()),
                });
            }
            Err(httparse::Error::TooManyHeaders) if count < MAX_FIELDS => count *= 4,
            Err(httparse::Error::TooManyHeaders) => return Err(HttpError::TooManyFields),
            Err(error) => return Err(HttpError::NotHttp(error)),
        }
    }
}

/// The values of all fields with this name. The parser omits fields with bytes that RFC 9112 does not
/// allow, but browsers read them. A folded line counts as one (RFC 9112 section 5.2).
fn values(section: &[u8], name: &str) -> Vec<Vec<u8>> {
    let mut values: Vec<Vec<u8>> = Vec::new();
    let mut is_ours = false;
    for line in section.split(|byte| *byte == b'\n').skip(1) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if let [b' ' | b'\t', ..] = line {
            if let Some(value) = values.last_mut().filter(|_| is_ours) {
                value.push(b' ');
                value.extend_from_slice(line.trim_ascii());
            }
            continue;
        }
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let (before, value) = line.split_at(colon);
        is_ours = before.trim_ascii_end().eq_ignore_ascii_case(name.as_bytes());
        if is_ours {
            values.push(value.strip_prefix(b":").unwrap_or(value).trim_ascii().to_vec());
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::super::target::Protocol;
    use super::*;

    /// A stream that returns fixed bytes, in pieces.
    struct Fixed<'a>(&'a [u8], usize);

    impl Read for Fixed<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let length = self.1.min(self.0.len()).min(buffer.len());
            let (now, later) = self.0.split_at(length);
            buffer[..length].copy_from_slice(now);
            self.0 = later;
            Ok(length)
        }
    }

    impl Write for Fixed<'_> {
        fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
            Ok(buffer.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn answer(bytes: &[u8], piece: usize) -> Result<Response, HttpError> {
        let target = Target::parse("a.example", Protocol::Https).expect("a target");
        get(Fixed(bytes, piece), &target)
    }

    #[test]
    fn the_final_response_is_read_in_pieces_of_any_size() {
        let bytes = b"HTTP/1.1 103 Early Hints\r\nPublic-Key-Pins: early\r\n\r\n\
            HTTP/1.1 200 OK\r\npublic-key-pins: a\r\nPUBLIC-KEY-PINS:b \r\n\
            Public-Key-Pins-Report-Only: c\xff\r\n\r\nPublic-Key-Pins: body\r\n\r\n";
        for piece in [1, 2, 3, 7, 1_000] {
            let response = answer(bytes, piece).expect("a response");
            assert_eq!(response.enforced, [b"a", b"b"]);
            assert_eq!(response.report_only, [b"c\xff"]);
        }
        let odd = b"HTTP/1.1 200 OK\r\nPublic-Key-Pins: a\x01;\r\n  b\r\nX: y\r\n z\r\nPublic-Key-Pins : c\r\n\r\n";
        assert_eq!(answer(odd, 9).expect("a response").enforced, [&b"a\x01; b"[..], b"c"]);
        assert_eq!(answer(b"HTTP/1.0 204 x\n\n", 1).expect("a response").status, 204);
    }

    #[test]
    fn an_invalid_response_is_an_error() {
        assert!(matches!(answer(b"", 1), Err(HttpError::Ended)));
        assert!(matches!(answer(b"HTTP/1.1 200 OK\r\nA: b\r\n", 9), Err(HttpError::Ended)));
        assert!(matches!(answer(b"220 mail ready\r\n", 9), Err(HttpError::NotHttp(_))));
        assert!(matches!(answer(b"HTTP/x\r\n\r\n", 9), Err(HttpError::NotHttp(_))));
        let interim = b"HTTP/1.1 100 Continue\r\n\r\n".repeat(40);
        assert!(matches!(answer(&interim, 99), Err(HttpError::TooManyInterim)));
        let long = [b"HTTP/1.1 200 OK\r\nA: ".to_vec(), vec![b'x'; 1 << 20]].concat();
        assert!(matches!(answer(&long, 8_192), Err(HttpError::TooLarge)));
        let many = [b"HTTP/1.1 200 OK\r\n".to_vec(), b"A: b\r\n".repeat(5_000), b"\r\n".to_vec()];
        assert!(matches!(answer(&many.concat(), 8_192), Err(HttpError::TooManyFields)));
    }
}
