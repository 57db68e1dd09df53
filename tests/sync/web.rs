//! A server of the fleet: nginx or Apache httpd with the module, and a client that requests it.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use hpkp_tests::agreement::{checking, disagreement};
use hpkp_tests::instance::Module;
use hpkp_tests::outcome::{Kind, Outcome};
use openssl::ssl::{Ssl, SslContext, SslMethod};

use crate::fleet;
use crate::wait_for;

/// Every third server is Apache httpd; the others are nginx.
const HTTPD: usize = 3;

/// The directory of httpd's modules in Debian.
const HTTPD_MODULES: &str = "/usr/lib/apache2/modules";

/// A server.
pub struct Web {
    at: PathBuf,
    kind: Kind,
    writer: String,
    port: u16,
    process: Option<Child>,
}

/// The wanted configuration of a server.
pub struct Wanted<'a> {
    pub pins: Vec<&'a str>,
    pub max_age: u64,
    /// The certificate and the key, without `.pem` and `.key`.
    pub key: PathBuf,
    /// The number of the configuration, which is in each response.
    pub version: usize,
}

/// The content of a response.
#[derive(Debug)]
pub struct Response {
    /// The pin of the presented key, and the pins of the header.
    pub key: String,
    pub pins: BTreeSet<String>,
    /// The number of the configuration.
    pub version: usize,
}

impl Web {
    pub fn new(at: &Path, number: usize) -> Self {
        let at = at.join(format!("web-{number}"));
        fs::create_dir_all(at.join("tmp")).unwrap();
        let kind = if number % HTTPD == HTTPD - 1 { Kind::Httpd } else { Kind::Nginx };
        let (writer, port) = (format!("web-{number}"), hpkp_tests::free_port());
        Self { at, kind, writer, port, process: None }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.at.join(name)
    }

    pub fn writer(&self) -> &str {
        &self.writer
    }

    pub const fn kind(&self) -> Kind {
        self.kind
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
    pub fn configure(&self, wanted: &Wanted<'_>) {
        let text = match self.kind {
            Kind::Nginx => self.nginx_configuration(wanted),
            Kind::Httpd => self.httpd_configuration(wanted),
        };
        let new = self.path("new.conf");
        fs::write(&new, text).unwrap();
        fs::rename(new, self.path(self.kind.file())).unwrap();
    }

    fn nginx_configuration(&self, wanted: &Wanted<'_>) -> String {
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .iter()
            .map(|name| format!("{name}_temp_path tmp/{name}; "))
            .collect();
        let user = if crate::succeed("id", &["-u"]).trim() == "0" { "user root;" } else { "" };
        let pins: String = wanted.pins.iter().map(|pin| format!("pin sha256/{pin}; ")).collect();
        let (key, version, port) = (wanted.key.display(), wanted.version, self.port);
        format!(
            "load_module {};\n{user} worker_processes 1; daemon off; pid nginx.pid; error_log error.log notice;\n\
             events {{ worker_connections 256; }}\nhttp {{\n{temporary} access_log off;\n\
             hpkp_published_pins {} writer={} max_staleness=1h;\nhpkp_policy site {{ {pins} max_age {}; }}\n\
             server {{ listen 127.0.0.1:{port} ssl; server_name www.example.com; hpkp site;\n\
             ssl_certificate {key}.pem; ssl_certificate_key {key}.key;\n\
             add_header X-Version {version} always; return 200 x; }}\n}}\n",
            self.module(),
            self.records().display(),
            self.writer,
            wanted.max_age,
        )
    }

    fn httpd_configuration(&self, wanted: &Wanted<'_>) -> String {
        let modules: String = ["mpm_event", "authz_core", "headers", "ssl"]
            .iter()
            .map(|name| format!("LoadModule {name}_module {HTTPD_MODULES}/mod_{name}.so\n"))
            .collect();
        let pins: String =
            wanted.pins.iter().map(|pin| format!("HPKPPin sha256/{pin}\n")).collect();
        let (key, version, port) = (wanted.key.display(), wanted.version, self.port);
        format!(
            "{modules}LoadModule hpkp_module {}\nServerName server.invalid\nUser www-data\nGroup www-data\n\
             DefaultRuntimeDir tmp\nPidFile httpd.pid\nErrorLog error.log\nLogLevel notice\n\
             StartServers 1\nServerLimit 3\nThreadsPerChild 16\nMinSpareThreads 1\nMaxSpareThreads 48\n\
             MaxRequestWorkers 48\nGracefulShutdownTimeout 1\nListen 127.0.0.1:{port}\n\
             HPKPPublishedPins {} writer={} max_staleness=1h\n<HPKPPolicy site>\n{pins}HPKPMaxAge {}\n</HPKPPolicy>\n\
             <VirtualHost 127.0.0.1:{port}>\nServerName www.example.com\nSSLEngine on\nHPKPUse site\n\
             SSLCertificateFile {key}.pem\nSSLCertificateKeyFile {key}.key\n\
             Header always set X-Version {version}\n</VirtualHost>\n",
            self.module(),
            self.records().display(),
            self.writer,
            wanted.max_age,
        )
    }

    fn module(&self) -> String {
        let (folder, file) = match self.kind {
            Kind::Nginx => ("HPKP_NGINX_MODULES", "ngx_http_hpkp_module.so"),
            Kind::Httpd => ("HPKP_HTTPD_MODULES", "mod_hpkp.so"),
        };
        Module::Shipped.file(folder, file).unwrap().display().to_string()
    }

    /// The server's program, with its directory and its configuration.
    fn words(&self) -> Vec<OsString> {
        let (file, at) = (self.kind.file().into(), self.at.clone().into());
        match self.kind {
            Kind::Nginx => {
                vec![nginx(), "-p".into(), at, "-e".into(), "error.log".into(), "-c".into(), file]
            }
            Kind::Httpd => vec![hpkp_tests::httpd::binary(), "-d".into(), at, "-f".into(), file],
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let words = self.words();
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).args(arguments).env_remove("HPKP_CHECK").stdin(Stdio::null());
        command
    }

    const fn reload_arguments(&self) -> [&'static str; 2] {
        match self.kind {
            Kind::Nginx => ["-s", "reload"],
            Kind::Httpd => ["-k", "graceful"],
        }
    }

    /// The result of the server's config test.
    pub fn test(&self) -> Outcome {
        let output = hpkp_tests::output(&mut self.command(&["-t"]));
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        Outcome { kind: self.kind, code: output.status.code(), text }
    }

    /// The difference between `hpkp check` and the server's config test; none if they agree.
    pub fn disagreement(&self, outcome: &Outcome) -> Option<String> {
        let mut command = checking(&self.at, outcome)?;
        command.env_remove("HPKP_CHECK");
        disagreement(command, outcome)
    }

    pub fn reload(&self) {
        drop(hpkp_tests::output(&mut self.command(&self.reload_arguments())));
    }

    /// The command for `--then`.
    pub fn then(&self) -> String {
        let words: Vec<_> =
            self.words().iter().map(|word| word.to_string_lossy().into_owned()).collect();
        let (server, reload) = (words.join(" "), self.reload_arguments().join(" "));
        let (lock, reloaded) = (self.path("then"), self.path("reloaded"));
        format!(
            "exec 9>{}; flock 9; {server} -t 2>/dev/null && {server} {reload} 2>/dev/null && touch {}",
            lock.display(),
            reloaded.display()
        )
    }

    /// Waits for a command whose parent was killed.
    pub fn wait_for_orphans(&self) {
        let then = self.path("then");
        // A command that has just started has not taken the lock yet.
        std::thread::sleep(Duration::from_millis(100));
        crate::succeed("flock", &[then.to_str().unwrap(), "true"]);
    }

    /// Whether a reload was requested since the last call.
    pub fn has_reloaded(&self) -> bool {
        fs::remove_file(self.path("reloaded")).is_ok()
    }

    pub fn start(&mut self) {
        let foreground: &[&str] = match self.kind {
            Kind::Nginx => &[],
            Kind::Httpd => &["-D", "FOREGROUND"],
        };
        let mut command = self.command(foreground);
        // httpd kills its whole process group when it stops.
        command.stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        self.process = Some(command.spawn().unwrap());
        wait_for("the server", || request(self.port).is_some());
    }

    /// Whether the server serves a configuration. With `is_asked` a reload was requested, which takes a moment.
    pub fn serves(&self, version: usize, is_asked: bool) -> bool {
        for _ in 0..if is_asked { 100 } else { 4 } {
            if request(self.port).is_some_and(|response| response.version == version) {
                // No worker of the previous configuration serves any more.
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
            // The workers stop with the server.
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

/// The program of the nginx that the module was built for.
fn nginx() -> OsString {
    std::env::var_os("HPKP_NGINX").unwrap_or_else(|| "/usr/sbin/nginx".into())
}

/// Sends a request; none without an answer.
pub fn request(port: u16) -> Option<Response> {
    // No default trust anchors: a connector would read them for each request.
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
    Some(Response { key, pins: pins.collect(), version: field("X-Version")?.trim().parse().ok()? })
}
