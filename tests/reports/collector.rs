//! A collector in a directory of its own, and a client for it.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use hpkp_tests::pki::Pki;
use hpkp_tests::{free_port, output};
use serde_json::Value;
use tempfile::TempDir;

/// The program.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_hpkp-reports");

pub struct Collector {
    child: Option<Child>,
    pub dir: TempDir,
    pub port: u16,
    pub pages: u16,
}

/// An HTTP response.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    /// A header field.
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines();
        lines.find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }
}

impl Collector {
    /// Starts one that accepts reports for `hosts`, with `more` lines of configuration: first for the top, then tables.
    pub fn start(hosts: &[&str], top: &str, tables: &str) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), hosts, top, tables)
    }

    /// As [`Collector::start`], in a directory that already has files for it.
    pub fn start_in(dir: TempDir, hosts: &[&str], top: &str, tables: &str) -> Self {
        let (port, pages) = (free_port(), free_port());
        let mut text = String::new();
        writeln!(text, "listen = \"127.0.0.1:{port}\"").unwrap();
        if !top.contains("store = ") {
            writeln!(text, "store = {:?}", dir.path().join("reports.sqlite")).unwrap();
        }
        writeln!(text, "hosts = {hosts:?}").unwrap();
        writeln!(text, "{top}").unwrap();
        let listen = format!("listen = \"127.0.0.1:{pages}\"");
        match tables.contains("[pages]") {
            true => text.push_str(&tables.replace("[pages]", &format!("[pages]\n{listen}"))),
            false => write!(text, "{tables}\n[pages]\n{listen}\n").unwrap(),
        }
        std::fs::write(dir.path().join("reports.toml"), text).unwrap();
        let mut collector = Self { child: None, dir, port, pages };
        collector.run();
        collector
    }

    pub fn config(&self) -> PathBuf {
        self.dir.path().join("reports.toml")
    }

    /// Starts it (again), and waits until it listens.
    pub fn run(&mut self) {
        self.run_with(&[]);
    }

    /// As [`Collector::run`], with more in its environment.
    pub fn run_with(&mut self, environment: &[(&str, &str)]) {
        let log = self.dir.path().join("log");
        let log = std::fs::File::options().create(true).append(true).open(log).unwrap();
        let mut command = Command::new(PROGRAM);
        command.arg("serve").arg("--config").arg(self.config());
        command.envs(environment.iter().copied());
        self.child = Some(command.stdin(Stdio::null()).stderr(log).spawn().unwrap());
        let begin = Instant::now();
        let listens = |port| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok();
        while !(listens(self.port) && listens(self.pages)) {
            if let Some(status) = self.child.as_mut().unwrap().try_wait().unwrap() {
                panic!("{status}: {}", self.log());
            }
            assert!(begin.elapsed() < Duration::from_secs(60), "{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// Sends a signal to it.
    pub fn signal(&self, signal: libc::c_int) {
        // SAFETY: kill takes only numbers; the process is a child of this test that has not been waited for.
        let done = unsafe { libc::kill(self.pid() as libc::pid_t, signal) };
        assert_eq!(done, 0);
    }

    /// Ends it at once, as a power cut would.
    pub fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Tells it to stop, and waits for that.
    pub fn stop(&mut self) -> std::process::ExitStatus {
        self.signal(libc::SIGTERM);
        self.child.take().unwrap().wait().unwrap()
    }

    /// Posts a report; returns the status.
    pub fn post(&self, body: impl AsRef<[u8]>) -> u16 {
        self.post_with(body, &[("content-type", "application/json")]).status
    }

    pub fn post_with(&self, body: impl AsRef<[u8]>, fields: &[(&str, &str)]) -> Answer {
        request(self.port, "POST", "/r/", fields, body.as_ref()).unwrap()
    }

    /// Gets a page.
    pub fn get(&self, path: &str) -> Answer {
        request(self.pages, "GET", path, &[], b"").unwrap()
    }

    /// The groups, by the command.
    pub fn export(&self, more: &[&str]) -> Output {
        let mut command = Command::new(PROGRAM);
        output(command.arg("export").arg("--config").arg(self.config()).args(more))
    }

    pub fn groups(&self) -> Vec<Value> {
        let output = self.export(&["--raw"]);
        assert!(output.status.success(), "{output:?}");
        let lines = String::from_utf8(output.stdout).unwrap();
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The findings of a host, each once.
    pub fn findings(&self, host: &str) -> Vec<String> {
        let groups = self.groups();
        let of_host = groups.iter().filter(|group| group["host"] == host);
        let mut all: Vec<String> =
            of_host.map(|group| group["finding"].as_str().unwrap().to_owned()).collect();
        all.sort();
        all.dedup();
        all
    }

    /// How many violations there are in all.
    pub fn total(&self) -> i64 {
        self.groups().iter().map(|group| group["count"].as_i64().unwrap()).sum()
    }

    /// A counter or gauge of the metrics.
    pub fn metric(&self, name: &str) -> u64 {
        let metrics = self.get("/metrics").body;
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {metrics}")).parse().unwrap()
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join(file)
    }

    pub fn pki(&self) -> Pki {
        Pki::new(self.dir.path())
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// One request on a connection of its own. An answer that comes before the whole body was sent counts.
pub fn request(
    port: u16,
    method: &str,
    path: &str,
    fields: &[(&str, &str)],
    body: &[u8],
) -> std::io::Result<Answer> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let mut head = format!("{method} {path} HTTP/1.1\r\nconnection: close\r\n");
    if !fields.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        write!(head, "host: 127.0.0.1:{port}\r\n").unwrap();
    }
    if method == "POST" {
        write!(head, "content-length: {}\r\n", body.len()).unwrap();
    }
    for (name, value) in fields {
        write!(head, "{name}: {value}\r\n").unwrap();
    }
    stream.write_all(format!("{head}\r\n").as_bytes())?;
    let _ = stream.write_all(body);
    read_answer(&mut stream)
}

/// Reads an answer up to the end of the connection.
pub fn read_answer(stream: &mut impl std::io::Read) -> std::io::Result<Answer> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            // A server that refuses a body closes the connection without reading it.
            Err(_) if !bytes.is_empty() => break,
            Err(error) => return Err(error),
        }
    }
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.ok_or_else(|| std::io::Error::other(format!("no answer: {text:?}")))?;
    Ok(Answer { status, head: head.to_owned(), body: body.to_owned() })
}

/// A report of RFC 7469 with these PEM files as its chain.
pub fn report(host: &str, date: &str, chain: &[String]) -> String {
    serde_json::json!({
        "date-time": date,
        "hostname": host,
        "port": 443,
        "effective-expiration-date": "2030-01-01T00:00:00Z",
        "include-subdomains": false,
        "noted-hostname": host,
        "served-certificate-chain": chain,
        "validated-certificate-chain": chain,
        "known-pins": ["pin-sha256=\"d6qzRu9zOECb90Uez27xWltNsj0e1Md7GkYYkVoZWmM=\""],
    })
    .to_string()
}

/// A small report without certificates; `n` makes it another group.
pub fn small(host: &str, n: u32) -> String {
    use hpkp_core::pin::Pin;
    let pin = Pin::of_spki(&n.to_be_bytes());
    format!(
        "{{\"hostname\":\"{host}\",\"enforced\":true,\"known-pins\":[],\"served-pins\":[\"sha256/{pin}\"],\
         \"message\":\"test\"}}"
    )
}

/// The time now, as RFC 3339 has it.
pub fn now() -> String {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    hpkp_core::date::format(since.as_secs() as i64)
}
