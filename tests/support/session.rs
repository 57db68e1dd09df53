//! A TLS client, `openssl s_client`, that keeps its session and resumes it.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::client::{Response, parse};

/// A client with one TLS session.
#[derive(Debug)]
pub struct SessionClient {
    file: PathBuf,
    arguments: Vec<String>,
}

/// The result of one request of such a client.
#[derive(Debug)]
pub struct Answer {
    /// Whether the session was resumed.
    pub resumed: bool,
    pub response: Response,
}

impl Answer {
    /// How many `Public-Key-Pins` fields the response has.
    pub fn sent(&self) -> usize {
        self.response.pins().len()
    }
}

impl SessionClient {
    /// `arguments` are those of `openssl s_client`: the version, the key that it prefers.
    pub fn new(file: &Path, arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        Self { file: file.to_owned(), arguments }
    }

    /// Makes a full handshake, and keeps the session.
    pub fn begin(&self, port: u16, sni: &str, host: &str) -> Answer {
        let _ = std::fs::remove_file(&self.file);
        self.ask(port, sni, host)
    }

    /// Offers the kept session, and keeps the new one from the server.
    pub fn ask(&self, port: u16, sni: &str, host: &str) -> Answer {
        let file = self.file.display().to_string();
        let mut client = Command::new("openssl");
        client.args(["s_client", "-ign_eof", "-servername", sni, "-sess_out", &file]);
        client.args(&self.arguments).arg("-connect").arg(format!("127.0.0.1:{port}"));
        if self.file.exists() {
            client.args(["-sess_in", &file]);
        }
        client.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut client = client.spawn().expect("openssl");
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let stdin = client.stdin.as_mut().expect("a pipe");
        stdin.write_all(request.as_bytes()).expect("a request");
        let output = client.wait_with_output().expect("openssl ends");
        let outcome = String::from_utf8_lossy(&output.stdout).into_owned();
        let head =
            outcome.split_once("HTTP/1.1 ").and_then(|(_, rest)| rest.split_once("\r\n\r\n"));
        let Some((head, _)) = head else { panic!("no response: {outcome}") };
        let response = parse(&format!("HTTP/1.1 {head}")).pop().expect("a response");
        let resumed = outcome.contains("Reused, ");
        assert!(resumed || outcome.contains("New, "), "{outcome}");
        Answer { resumed, response }
    }
}
