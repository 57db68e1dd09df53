//! A server of the fleet: nginx with the module, and what a client sees of it.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use openssl::ssl::{Ssl, SslContext, SslMethod};

use crate::fleet;
use crate::wait_for;

/// A server.
pub struct Web {
    at: PathBuf,
    writer: String,
    port: u16,
    process: Option<Child>,
}

/// What a client sees.
#[derive(Debug)]
pub struct Seen {
    /// The pin of the key, and those of the header.
    pub key: String,
    pub pins: BTreeSet<String>,
    /// Which configuration.
    pub version: usize,
}

impl Web {
    pub fn new(at: &Path, number: usize) -> Self {
        let at = at.join(format!("web-{number}"));
        fs::create_dir_all(at.join("tmp")).unwrap();
        Self { at, writer: format!("web-{number}"), port: hpkp_tests::free_port(), process: None }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.at.join(name)
    }

    pub fn writer(&self) -> &str {
        &self.writer
    }

    pub const fn port(&self) -> u16 {
        self.port
    }

    pub fn records(&self) -> PathBuf {
        self.path("records")
    }

    pub fn own(&self) -> PathBuf {
        self.records().join(format!("{}.jsonl", self.writer))
    }

    /// Writes the configuration.
    pub fn configure(&self, policy: &str, key: &Path, version: usize) {
        let (key, port, module) = (key.display(), self.port, fleet::module());
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .iter()
            .map(|name| format!("{name}_temp_path tmp/{name}; "))
            .collect();
        let user = if crate::succeed("id", &["-u"]).trim() == "0" { "user root;" } else { "" };
        let text = format!(
            "load_module {};\n{user} worker_processes 1; daemon off; pid nginx.pid; error_log error.log notice;\n\
             events {{ worker_connections 256; }}\nhttp {{\n{temporary} access_log off;\n\
             hpkp_published_pins {} writer={} max_staleness=1h;\nhpkp_policy site {{ {policy} }}\n\
             server {{ listen 127.0.0.1:{port} ssl; server_name www.example.com; hpkp site;\n\
             ssl_certificate {key}.pem; ssl_certificate_key {key}.key;\n\
             add_header X-Version {version} always; return 200 x; }}\n}}\n",
            module.display(),
            self.records().display(),
            self.writer
        );
        let new = self.path("nginx.conf.new");
        fs::write(&new, text).unwrap();
        fs::rename(new, self.path("nginx.conf")).unwrap();
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program());
        command
            .arg("-p")
            .arg(&self.at)
            .args(["-e", "error.log", "-c", "nginx.conf"])
            .args(arguments);
        command.env_remove("HPKP_CHECK").stdin(Stdio::null());
        command
    }

    /// What an operator gives to `--then`.
    pub fn then(&self) -> String {
        let nginx = format!("{} -p {} -e error.log -c nginx.conf", program(), self.at.display());
        let (lock, reloaded) = (self.path("then"), self.path("reloaded"));
        format!(
            "exec 9>{}; flock 9; {nginx} -t 2>/dev/null && {nginx} -s reload 2>/dev/null && touch {}",
            lock.display(),
            reloaded.display()
        )
    }

    /// Waits for a command that goes on without its parent.
    pub fn wait_for_orphans(&self) {
        let then = self.path("then");
        // One that has just been started has not locked it yet.
        std::thread::sleep(Duration::from_millis(100));
        crate::succeed("flock", &[then.to_str().unwrap(), "true"]);
    }

    /// Whether a reload has been asked for since this was asked last.
    pub fn has_reloaded(&self) -> bool {
        fs::remove_file(self.path("reloaded")).is_ok()
    }

    pub fn start(&mut self) {
        let process = self.command(&[]).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        self.process = Some(process.unwrap());
        wait_for("nginx", || visit(self.port).is_some());
    }

    /// Whether it serves a configuration. A reload that was asked for takes a moment.
    pub fn serves(&self, version: usize, is_asked: bool) -> bool {
        for _ in 0..if is_asked { 100 } else { 4 } {
            if visit(self.port).is_some_and(|seen| seen.version == version) {
                // And no worker of before serves any more.
                std::thread::sleep(Duration::from_millis(100));
                return true;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        false
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            // Its workers end with it.
            let _ = Command::new("kill").args(["-s", "TERM", &process.id().to_string()]).status();
            for _ in 0..100 {
                if matches!(process.try_wait(), Ok(Some(_))) {
                    return;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            fleet::end(process);
        }
    }
}

/// The nginx that the module was built for.
fn program() -> String {
    std::env::var("HPKP_NGINX").unwrap_or_else(|_| "/usr/sbin/nginx".to_owned())
}

/// A request; none where there is no answer.
pub fn visit(port: u16) -> Option<Seen> {
    // Without the authorities that a connector reads each time.
    let mut ssl = Ssl::new(&SslContext::builder(SslMethod::tls_client()).ok()?.build()).ok()?;
    ssl.set_hostname("www.example.com").ok()?;
    let stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
    let mut stream = ssl.connect(stream).ok()?;
    let key = stream.ssl().peer_certificate()?.public_key().ok()?.public_key_to_der().ok()?;
    let key = openssl::base64::encode_block(&openssl::sha::sha256(&key));
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: www.example.com\r\nConnection: close\r\n\r\n")
        .ok()?;
    let mut text = Vec::new();
    let _ = stream.read_to_end(&mut text);
    let text = String::from_utf8_lossy(&text).into_owned();
    let field = |name: &str| {
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ").map(str::to_owned))
    };
    let pins = field("Public-Key-Pins").unwrap_or_default();
    let pins = pins.split(';').filter_map(|part| {
        Some(part.trim().strip_prefix("pin-sha256=\"")?.strip_suffix('"')?.to_owned())
    });
    Some(Seen { key, pins: pins.collect(), version: field("X-Version")?.trim().parse().ok()? })
}
