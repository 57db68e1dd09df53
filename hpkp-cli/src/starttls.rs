//! The plain-text part of protocols that switch to TLS.

use std::io::{self, Read, Write};

use hpkp_core::text::Excerpt;

use crate::arguments::Starttls;
use crate::output;

/// The longest line or piece of XML, in bytes.
const MAX_LINE: usize = 16 << 10;

/// The most lines of one response.
const MAX_LINES: usize = 256;

/// Why a server does not switch to TLS.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StarttlsError {
    #[error("{}", not_read(.0))]
    Io(#[from] io::Error),
    #[error("the server closed the connection before TLS")]
    Ended,
    #[error("the server's answer is too long")]
    TooLong,
    /// The server refuses to switch, or its response is invalid.
    #[error("unexpected answer: {}", Excerpt::new(.0))]
    Unexpected(String),
    #[error("the server does not offer STARTTLS")]
    NotOffered,
}

/// The text of a read error.
fn not_read(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::TimedOut => "no answer within the time limit (--timeout)".to_owned(),
        _ => format!("cannot read the answer: {}", output::os(error)),
    }
}

/// Speaks `protocol` with a server for `host` until TLS begins.
///
/// # Errors
/// See [`StarttlsError`].
pub(crate) fn begin(
    stream: &mut (impl Read + Write),
    protocol: Starttls,
    host: &str,
) -> Result<(), StarttlsError> {
    let mut talk = Talk { stream };
    match protocol {
        Starttls::Smtp => talk.smtp(),
        Starttls::Imap => talk.imap(),
        Starttls::Pop3 => talk.pop3(),
        Starttls::Xmpp => talk.xmpp("jabber:client", host),
        Starttls::XmppServer => talk.xmpp("jabber:server", host),
    }
}

struct Talk<'a, S> {
    stream: &'a mut S,
}

impl<S: Read + Write> Talk<'_, S> {
    fn say(&mut self, text: &str) -> Result<(), StarttlsError> {
        self.stream.write_all(text.as_bytes())?;
        Ok(self.stream.flush()?)
    }

    /// Reads to the end of a line, one byte at a time, because TLS data may follow.
    fn line(&mut self) -> Result<String, StarttlsError> {
        self.read_until(|bytes| bytes.last() == Some(&b'\n'))
    }

    fn read_until(&mut self, is_done: impl Fn(&[u8]) -> bool) -> Result<String, StarttlsError> {
        let mut bytes = Vec::new();
        let mut byte = [0];
        while !is_done(&bytes) {
            match self.stream.read(&mut byte) {
                Ok(0) => return Err(StarttlsError::Ended),
                Ok(_) if bytes.len() >= MAX_LINE => return Err(StarttlsError::TooLong),
                Ok(_) => bytes.push(byte[0]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(String::from_utf8_lossy(&bytes).trim_end().to_owned())
    }

    /// Reads an SMTP response with this code, which may have several lines.
    fn smtp_answer(&mut self, code: &str) -> Result<Vec<String>, StarttlsError> {
        let mut lines = Vec::new();
        while lines.len() < MAX_LINES {
            let line = self.line()?;
            if !line.starts_with(code) {
                return Err(StarttlsError::Unexpected(line));
            }
            let is_last = line.as_bytes().get(3) != Some(&b'-');
            lines.push(line);
            if is_last {
                return Ok(lines);
            }
        }
        Err(StarttlsError::TooLong)
    }

    fn smtp(&mut self) -> Result<(), StarttlsError> {
        self.smtp_answer("220")?;
        self.say("EHLO localhost\r\n")?;
        let offered = self.smtp_answer("250")?;
        let is_it = |line: &String| {
            line.get(4..).is_some_and(|word| word.trim().eq_ignore_ascii_case("STARTTLS"))
        };
        if !offered.iter().any(is_it) {
            return Err(StarttlsError::NotOffered);
        }
        self.say("STARTTLS\r\n")?;
        self.smtp_answer("220").map(|_| ())
    }

    fn imap(&mut self) -> Result<(), StarttlsError> {
        let greeting = self.line()?;
        if !greeting.to_ascii_uppercase().starts_with("* OK") {
            return Err(StarttlsError::Unexpected(greeting));
        }
        self.say("a STARTTLS\r\n")?;
        for _ in 0..MAX_LINES {
            let line = self.line()?;
            match line.to_ascii_uppercase() {
                upper if upper.starts_with("A OK") => return Ok(()),
                upper if upper.starts_with("A ") => return Err(StarttlsError::Unexpected(line)),
                _ => {}
            }
        }
        Err(StarttlsError::TooLong)
    }

    fn pop3(&mut self) -> Result<(), StarttlsError> {
        for command in [None, Some("STLS\r\n")] {
            if let Some(command) = command {
                self.say(command)?;
            }
            let line = self.line()?;
            if !line.starts_with("+OK") {
                return Err(StarttlsError::Unexpected(line));
            }
        }
        Ok(())
    }

    fn xmpp(&mut self, namespace: &str, host: &str) -> Result<(), StarttlsError> {
        self.say(&format!(
            "<?xml version='1.0'?><stream:stream to='{host}' xmlns='{namespace}' \
             xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>"
        ))?;
        let ends = |bytes: &[u8], ends: &[&[u8]]| ends.iter().any(|end| bytes.ends_with(end));
        let features = self.read_until(|bytes| {
            ends(bytes, &[b"</stream:features>", b"<stream:features/>", b"</stream:stream>"])
        })?;
        if !features.contains("urn:ietf:params:xml:ns:xmpp-tls") {
            return Err(StarttlsError::NotOffered);
        }
        self.say("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")?;
        let answer = self.read_until(|bytes| bytes.last() == Some(&b'>'))?;
        match answer.contains("<proceed") {
            true => {
                // The closing tag may be a separate element; TLS begins after it.
                if !answer.ends_with("/>") {
                    self.read_until(|bytes| bytes.ends_with(b"</proceed>"))?;
                }
                Ok(())
            }
            false => Err(StarttlsError::Unexpected(answer)),
        }
    }
}
