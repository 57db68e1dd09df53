//! Interim responses (RFC 9110 section 15.2): removes the header fields that only the server itself may send, from the
//! bytes on their way to the client.

/// The longest field name that is removed, in bytes.
const LONGEST: usize = b"public-key-pins-report-only".len();

/// How many bytes of a status line are needed: `HTTP/1.1 103`.
const STATUS: usize = 12;

/// Reads the bytes before a final response: header blocks of interim responses, and after the last of them any data of
/// a tunnel. Pieces may be cut anywhere.
#[derive(Debug)]
pub struct InterimHeaders {
    state: State,
    /// The bytes of a name or status line that were read and not passed on yet.
    begun: Vec<u8>,
    /// Whether the field being read, or the last one, is left out.
    leaves_out: bool,
    /// Whether no header block follows this one.
    is_last: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    StatusLine,
    Name,
    /// The rest of a line.
    Rest,
    /// No header block follows.
    Through,
}

impl Default for InterimHeaders {
    fn default() -> Self {
        let (state, begun) = (State::StatusLine, Vec::new());
        Self { state, begun, leaves_out: false, is_last: false }
    }
}

impl InterimHeaders {
    /// Whether all that follows is passed on as it is.
    #[must_use]
    pub fn is_through(&self) -> bool {
        self.state == State::Through
    }

    /// Appends to `out` the bytes that can be sent now, from `bytes` and from earlier pieces.
    pub fn pass(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        for (at, byte) in bytes.iter().copied().enumerate() {
            match self.state {
                State::StatusLine => self.status_line(byte, out),
                State::Name => self.name(byte, out),
                State::Rest => {
                    if !self.leaves_out {
                        out.push(byte);
                    }
                    if byte == b'\n' {
                        self.state = State::Name;
                    }
                }
                State::Through => {
                    out.extend_from_slice(&bytes[at..]);
                    return;
                }
            }
        }
    }

    fn status_line(&mut self, byte: u8, out: &mut Vec<u8>) {
        self.begun.push(byte);
        let begin = &b"HTTP/"[..self.begun.len().min(5)];
        if !self.begun.starts_with(begin) {
            // The data are not a header block but, for example, those of a tunnel.
            self.state = State::Through;
        } else if self.begun.len() == STATUS {
            // After status 101 the connection is no longer HTTP.
            let status = &self.begun[STATUS - 3..];
            self.is_last = status == b"101" || status[0] != b'1';
            self.leaves_out = false;
            self.state = State::Rest;
        } else {
            return;
        }
        out.append(&mut self.begun);
    }

    fn name(&mut self, byte: u8, out: &mut Vec<u8>) {
        self.begun.push(byte);
        match byte {
            // The line continues the field before it.
            b' ' | b'\t' if self.begun.len() == 1 => self.state = State::Rest,
            b':' => {
                let name = self.begun[..self.begun.len() - 1].trim_ascii_end();
                self.leaves_out = is_ours(name);
                self.state = State::Rest;
            }
            b'\n' if self.begun.trim_ascii().is_empty() => {
                self.leaves_out = false;
                self.state = if self.is_last { State::Through } else { State::StatusLine };
            }
            b'\n' => self.leaves_out = false,
            // Blanks before the colon do not hide a name.
            _ if self.begun.trim_ascii_end().len() > LONGEST => {
                self.leaves_out = false;
                self.state = State::Rest;
            }
            _ => return,
        }
        if self.leaves_out {
            self.begun.clear();
        } else {
            out.append(&mut self.begun);
        }
    }
}

fn is_ours(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"public-key-pins")
        || name.eq_ignore_ascii_case(b"public-key-pins-report-only")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asserts that `expected` is passed on for `bytes`: as a whole, byte by byte, and in two pieces cut anywhere.
    #[track_caller]
    fn passed(bytes: &str, expected: &str) {
        let bytes = bytes.as_bytes();
        let of = |pieces: &[&[u8]]| {
            let (mut headers, mut out) = (InterimHeaders::default(), Vec::new());
            pieces.iter().for_each(|piece| headers.pass(piece, &mut out));
            String::from_utf8(out).unwrap()
        };
        assert_eq!(of(&[bytes]), expected);
        assert_eq!(of(&bytes.chunks(1).collect::<Vec<_>>()), expected);
        for at in 0..bytes.len() {
            assert_eq!(of(&[&bytes[..at], &bytes[at..]]), expected, "cut at {at}");
        }
    }

    #[test]
    fn only_the_two_fields_are_removed() {
        passed(
            "HTTP/1.1 103 Early Hints\r\nLink: </s.css>\r\nPublic-Key-Pins: x\r\n\
             PUBLIC-KEY-PINS-REPORT-ONLY : y\r\n z\r\nPublic-Key-Pins-Report-Only-2: 1\r\n\
             Public-Key: 2\r\n more\r\n\r\n",
            "HTTP/1.1 103 Early Hints\r\nLink: </s.css>\r\nPublic-Key-Pins-Report-Only-2: 1\r\n\
             Public-Key: 2\r\n more\r\n\r\n",
        );
    }

    #[test]
    fn several_blocks_are_filtered_and_tunnel_data_are_not() {
        let pins = "Public-Key-Pins: x\r\n";
        passed(
            &format!(
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\n{pins}\nHTTP/1.1 101 \
                 Switching Protocols\r\n{pins}Upgrade: websocket\r\n\r\n{pins}HTTP/1.1 103 x\r\n{pins}"
            ),
            &format!(
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\n\nHTTP/1.1 101 \
                 Switching Protocols\r\nUpgrade: websocket\r\n\r\n{pins}HTTP/1.1 103 x\r\n{pins}"
            ),
        );
        // The final response of a tunnel.
        passed(
            &format!("HTTP/1.0 200 OK\r\n{pins}\r\n{pins}"),
            &format!("HTTP/1.0 200 OK\r\n\r\n{pins}"),
        );
    }

    #[test]
    fn data_without_a_header_block_are_passed_on() {
        for bytes in ["", "HTTX\r\nPublic-Key-Pins: x\r\n\r\n", "\r\nPublic-Key-Pins: x\r\n"] {
            passed(bytes, bytes);
        }
    }
}
