//! Real clients: curl and wget2.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::output;

/// curl's exit code for a stream of HTTP/2 that was reset.
const STREAM_ERROR: i32 = 92;

/// A response as curl printed it.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    /// Names in lower case, in order.
    pub fields: Vec<(String, String)>,
}

impl Response {
    /// The values of all fields of this name.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let name = name.to_ascii_lowercase();
        self.fields.iter().filter(|(n, _)| *n == name).map(|(_, v)| v.as_str()).collect()
    }

    /// The values of `Public-Key-Pins`.
    pub fn pins(&self) -> Vec<&str> {
        self.all("public-key-pins")
    }
}

/// A curl command that trusts one CA and finds every host on loopback.
#[derive(Clone, Debug)]
pub struct Curl {
    ca: PathBuf,
    arguments: Vec<String>,
}

impl Curl {
    pub fn new(ca: &Path) -> Self {
        Self { ca: ca.to_owned(), arguments: Vec::new() }
    }

    /// The same with more arguments.
    pub fn with(&self, arguments: &[&str]) -> Self {
        let mut this = self.clone();
        this.arguments.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        this
    }

    fn command(&self, url: &str) -> Command {
        let mut command = Command::new("curl");
        command.args(["-s", "--max-time", "180", "--connect-to", "::127.0.0.1:", "--cacert"]);
        command.arg(&self.ca).args(&self.arguments).arg(url);
        command
    }

    /// The last response to a request for `url`.
    pub fn get(&self, url: &str) -> Response {
        self.responses(url).pop().expect("a response")
    }

    /// As [`Curl::get`], from a server that may end meanwhile.
    pub fn try_get(&self, url: &str) -> Option<Response> {
        let dump = tempfile::NamedTempFile::new().expect("a file");
        let mut command = self.command(url);
        let output = output(command.arg("-D").arg(dump.path()).args(["-o", "/dev/null"]));
        output.status.success().then(|| {
            let dump = std::fs::read_to_string(dump.path()).expect("headers");
            parse(&dump).pop().expect("a response")
        })
    }

    /// All responses, if one connection or redirects have several.
    pub fn responses(&self, url: &str) -> Vec<Response> {
        let dump = tempfile::NamedTempFile::new().expect("a file");
        let mut command = self.command(url);
        let output = output(command.arg("-D").arg(dump.path()).args(["-o", "/dev/null"]));
        let responses = parse(&std::fs::read_to_string(dump.path()).expect("headers"));
        // A server that has answered need not read the rest of a body. In HTTP/2 it then resets the stream after the
        // whole response (RFC 9113 section 8.1), and curl reports that if it is still sending.
        let is_answered = self.arguments.iter().any(|argument| argument == "-d")
            && output.status.code() == Some(STREAM_ERROR)
            && !responses.is_empty();
        let outcome = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() || is_answered,
            "{command:?}: {}\n{outcome}",
            output.status
        );
        responses
    }

    /// curl's exit code.
    pub fn exit_code(&self, url: &str) -> Option<i32> {
        output(self.command(url).args(["-o", "/dev/null"])).status.code()
    }
}

/// The responses in a dump of status lines and fields.
pub fn parse(dump: &str) -> Vec<Response> {
    let mut responses = Vec::new();
    for line in dump.lines() {
        if line.starts_with("HTTP/") {
            let status = line.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status");
            responses.push(Response { status, fields: Vec::new() });
        } else if let (Some(response), Some((name, value))) =
            (responses.last_mut(), line.split_once(':'))
        {
            response.fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
    responses
}

/// wget2 with a store of known pinned hosts of its own.
#[derive(Debug)]
pub struct Wget2 {
    ca: PathBuf,
    store: PathBuf,
}

impl Wget2 {
    pub fn new(ca: &Path, store: PathBuf) -> Self {
        Self { ca: ca.to_owned(), store }
    }

    /// wget2's exit code: 0, or 5 if pin validation fails.
    pub fn get(&self, url: &str) -> Option<i32> {
        let mut command = Command::new("wget2");
        command.args(["-q", "-O", "/dev/null", "--tries=1", "--no-hsts", "--hpkp"]);
        command.arg(format!("--hpkp-file={}", self.store.display()));
        command.arg(format!("--ca-certificate={}", self.ca.display()));
        output(command.arg(url)).status.code()
    }

    /// The pins in the store.
    pub fn pins(&self) -> Vec<String> {
        let store = std::fs::read_to_string(&self.store).unwrap_or_default();
        store.lines().filter_map(|line| line.strip_prefix("*sha256 ")).map(str::to_owned).collect()
    }
}
