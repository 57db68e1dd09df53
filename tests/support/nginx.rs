//! nginx in a directory of its own, on loopback, with the module loaded: Debian's, or the one that
//! `HPKP_NGINX` names, with the modules in `HPKP_NGINX_MODULES`.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::pki::Pki;
use crate::{output, target_dir};

/// How long anything may take that a server does by itself.
const PATIENCE: Duration = Duration::from_secs(20);

/// Which build of the module to load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Module {
    Shipped,
    InjectPanic,
    /// nginx without the module.
    None,
}

/// One server: its directory, its configuration, and the process while it runs.
#[derive(Debug)]
pub struct Nginx {
    dir: tempfile::TempDir,
    module: Module,
    environment: Vec<(String, String)>,
    process: Option<Child>,
    /// Parts of lines that this test expects in the error log.
    expected: Vec<String>,
}

/// What a run of the nginx command said.
#[derive(Debug)]
pub struct Said {
    pub code: Option<i32>,
    pub text: String,
}

impl Said {
    /// The codes of our findings, in order, each once.
    pub fn codes(&self) -> Vec<&str> {
        codes(&self.text)
    }

    /// Fails unless the command refused with `code` and named the configuration's `line`.
    #[track_caller]
    pub fn refused(&self, code: &str, line: usize) {
        assert_eq!(self.code, Some(1), "{self:?}");
        let place = format!("nginx.conf:{line}");
        let prefix = format!("hpkp: [{code}]");
        let found = self.text.lines().any(|l| {
            l.contains("[emerg]") && l.contains(&prefix) && l.trim_end().ends_with(&place)
        });
        assert!(found, "no [emerg] {prefix} in {place}:\n{}", self.text);
        assert!(self.text.contains("test failed"), "{self:?}");
    }

    /// Fails unless `nginx -s reload` kept its signal to itself because of a finding.
    #[track_caller]
    pub fn refused_signal(&self) {
        assert_eq!(self.code, Some(1), "{}", self.text);
        assert!(self.text.contains("[emerg]"), "{}", self.text);
    }

    /// Fails unless the command accepted and said nothing but `codes`.
    #[track_caller]
    pub fn accepted(&self, codes: &[&str]) {
        assert_eq!(self.code, Some(0), "{}", self.text);
        assert!(!self.text.contains("[emerg]"), "{}", self.text);
        assert_eq!(self.codes(), codes, "{}", self.text);
    }
}

/// The codes of our findings in a log, in order, each once.
pub fn codes(log: &str) -> Vec<&str> {
    let mut codes = Vec::new();
    for line in log.lines() {
        let code = line.split_once("hpkp: [").and_then(|(_, rest)| rest.split_once(']'));
        if let Some((code, _)) = code.filter(|(code, _)| !codes.contains(code)) {
            codes.push(code);
        }
    }
    codes
}

/// What became of a reload.
#[derive(Debug, PartialEq, Eq)]
pub enum Reload {
    Accepted,
    /// The new lines of the error log.
    Refused(String),
}

impl Nginx {
    pub fn new() -> Self {
        Self::with_module(Module::Shipped)
    }

    pub fn with_module(module: Module) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir(dir.path().join("tmp")).expect("a directory");
        fs::create_dir(dir.path().join("html")).expect("a directory");
        Self { dir, module, environment: Vec::new(), process: None, expected: Vec::new() }
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join(file)
    }

    pub fn pki(&self) -> Pki {
        Pki::new(self.dir.path())
    }

    pub fn set_environment(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// Lines with one of these texts may stand in the error log.
    pub fn expect_in_log(&mut self, texts: &[&str]) {
        self.expected.extend(texts.iter().map(|text| (*text).to_owned()));
    }

    /// Writes the configuration; `http` is what stands in the `http` block and begins on line
    /// [`Nginx::FIRST_LINE`].
    pub fn configure(&self, http: &str) {
        self.configure_with("worker_processes 1;", http);
    }

    pub const FIRST_LINE: usize = 8;

    /// As [`Nginx::configure`], without the module.
    pub fn configure_without_module(&self, http: &str) {
        self.write_configuration("", "worker_processes 1;", http);
    }

    /// As [`Nginx::configure`], with `main` in the main block, on one line.
    pub fn configure_with(&self, main: &str, http: &str) {
        let load = match self.module {
            Module::None => String::new(),
            module => format!("load_module {};", module_file(module).display()),
        };
        self.write_configuration(&load, main, http);
    }

    fn write_configuration(&self, load: &str, main: &str, http: &str) {
        // Workers of a server that root started would otherwise not get at the test's files.
        // SAFETY: takes nothing and cannot fail.
        let user = if unsafe { libc::geteuid() } == 0 { "user root;" } else { "" };
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .iter()
            .map(|name| format!("{name}_temp_path tmp/{name}; "))
            .collect();
        let text = format!(
            "{load}\n{user} {main}\npid nginx.pid; error_log error.log notice;\n\
             events {{ worker_connections 512; }}\nhttp {{\n{temporary}\naccess_log access.log;\n\
             {http}\n}}\n"
        );
        fs::write(self.path("nginx.conf"), text).expect("a configuration");
    }

    fn command(&self) -> Command {
        let mut command = Command::new(binary());
        command.arg("-p").arg(self.dir.path()).arg("-c").arg(self.path("nginx.conf"));
        // What the messages hold must not depend on the machine's own store being there.
        command.env_remove("HPKP_CHECK").envs(self.environment.iter().map(|(n, v)| (n, v)));
        command
    }

    /// Runs the nginx command with more arguments.
    pub fn run(&self, arguments: &[&str]) -> Said {
        let mut command = self.command();
        // A process that tests or sends a signal ends without giving its memory back, on purpose.
        command.envs(without_leaks());
        let output = output(command.args(arguments));
        Said {
            code: output.status.code(),
            text: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// `nginx -t`.
    pub fn test(&self) -> Said {
        self.run(&["-t"])
    }

    /// Starts the server, which must come up.
    #[track_caller]
    pub fn start(&mut self) {
        let process = self.spawn(&["-g", "daemon off;"]);
        self.process = Some(process);
        let came_up = wait(|| {
            (self.log().contains("start worker process") && !self.workers().is_empty())
                || self.process.as_mut().is_some_and(|p| p.try_wait().is_ok_and(|s| s.is_some()))
        });
        let running =
            self.process.as_mut().is_some_and(|p| p.try_wait().is_ok_and(|s| s.is_none()));
        assert!(came_up && running, "nginx did not start:\n{}", self.log());
    }

    pub fn spawn(&self, arguments: &[&str]) -> Child {
        let errors = fs::File::create(self.path("stderr.log")).expect("a file");
        let mut command = self.command();
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors);
        command.spawn().expect("nginx")
    }

    pub fn pid(&self) -> libc::pid_t {
        self.process.as_ref().map(|p| p.id() as libc::pid_t).expect("a running server")
    }

    pub fn is_running(&mut self) -> bool {
        self.process.as_mut().is_some_and(|process| process.try_wait().is_ok_and(|s| s.is_none()))
    }

    /// The pids of the workers.
    pub fn workers(&self) -> Vec<libc::pid_t> {
        let children = format!("/proc/{0}/task/{0}/children", self.pid());
        let children = fs::read_to_string(children).unwrap_or_default();
        children.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect()
    }

    /// Kills the workers, as a crash would, and waits until the master has replaced them.
    #[track_caller]
    pub fn replace_workers(&self) {
        let old = self.workers();
        for pid in &old {
            // SAFETY: the pids are those of our own server's workers, read just now.
            assert_eq!(unsafe { libc::kill(*pid, libc::SIGKILL) }, 0);
        }
        assert!(wait(|| {
            let new = self.workers();
            !new.is_empty() && new.iter().all(|pid| !old.contains(pid))
        }));
    }

    pub fn signal(&self, signal: libc::c_int) {
        // SAFETY: our own child, not yet waited for, so the pid is still its own.
        assert_eq!(unsafe { libc::kill(self.pid(), signal) }, 0);
    }

    /// Sends SIGHUP and waits for what becomes of it.
    #[track_caller]
    pub fn reload(&self) -> Reload {
        let before = self.log().len();
        self.signal(libc::SIGHUP);
        self.outcome(before)
    }

    /// Waits for what becomes of a reload that was asked for when the log had `before` octets.
    #[track_caller]
    pub fn outcome(&self, before: usize) -> Reload {
        let new = || self.log().split_off(before);
        let mut refused = false;
        let done = wait(|| {
            let new = new();
            refused = new.contains("[emerg]");
            refused || new.contains("exited with code 0")
        });
        assert!(done, "nothing became of the reload:\n{}", new());
        if refused {
            // The master writes several lines.
            std::thread::sleep(Duration::from_millis(100));
            return Reload::Refused(new());
        }
        Reload::Accepted
    }

    /// The server has been stopped by other means: looks through its error log.
    #[track_caller]
    pub fn stopped(&mut self) {
        self.process = None;
        self.check_log();
    }

    /// What the server wrote to standard error: before its error log was open.
    pub fn said_to_terminal(&self) -> String {
        std::fs::read_to_string(self.path("stderr.log")).unwrap_or_default()
    }

    pub fn log(&self) -> String {
        let log = fs::read(self.path("error.log")).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// Ends the server and looks through its error log for what nobody expected.
    #[track_caller]
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            // SAFETY: our own child, not yet waited for.
            unsafe { libc::kill(process.id() as libc::pid_t, libc::SIGQUIT) };
            let mut status = None;
            let ended = wait(|| {
                status = process.try_wait().ok().flatten();
                status.is_some()
            });
            if !ended {
                let _ = process.kill();
                let _ = process.wait();
            }
            assert!(ended, "nginx did not end:\n{}", self.log());
            assert!(status.is_some_and(|s| s.success()), "nginx ended with {status:?}");
        }
        self.check_log();
    }

    #[track_caller]
    fn check_log(&self) {
        let log = self.log();
        let unexpected: Vec<&str> = log
            .lines()
            .filter(|line| !line.contains(" [notice] ") && !line.contains(" [info] "))
            .filter(|line| !self.expected.iter().any(|text| line.contains(text)))
            .collect();
        assert!(unexpected.is_empty(), "unexpected in the error log:\n{}", unexpected.join("\n"));
    }
}

impl Default for Nginx {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        if std::thread::panicking() {
            if let Some(mut process) = self.process.take() {
                // SAFETY: our own child, not yet waited for.
                unsafe { libc::kill(process.id() as libc::pid_t, libc::SIGTERM) };
                let _ = process.wait();
            }
        } else {
            self.stop();
        }
    }
}

/// What tells LeakSanitizer, where there is one (ci/sanitize), that a process may leak.
pub fn without_leaks() -> Option<(&'static str, String)> {
    let options = std::env::var("ASAN_OPTIONS").ok()?;
    Some(("ASAN_OPTIONS", options + ":detect_leaks=0"))
}

fn binary() -> OsString {
    std::env::var_os("HPKP_NGINX").unwrap_or_else(|| "nginx".into())
}

/// The version of the nginx under test: major, minor, patch.
pub fn version() -> (u32, u32, u32) {
    let said = output(Command::new(binary()).arg("-v"));
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    let number = said.trim().rsplit('/').next().unwrap_or_default();
    let mut parts = number.split('.').map(|part| part.parse().expect("a version"));
    let mut part = || parts.next().expect("three parts");
    (part(), part(), part())
}

/// Lets every TLS server of a configuration speak HTTP/2, as the version under test has it.
pub fn with_http2(http: &str) -> String {
    let new = if version() < (1, 25, 1) { " ssl http2;" } else { " ssl; http2 on;" };
    http.replace(" ssl;", new)
}

fn module_file(module: Module) -> PathBuf {
    let name = if module == Module::InjectPanic { "inject-panic" } else { "shipped" };
    let modules = std::env::var_os("HPKP_NGINX_MODULES")
        .map_or_else(|| target_dir().join("modules"), PathBuf::from);
    let file = modules.join(name).join("ngx_http_hpkp_module.so");
    let file = file.canonicalize().unwrap_or(file);
    assert!(file.exists(), "{} is missing: run ci/modules", file.display());
    file
}

/// Waits until `done`, or gives up.
pub fn wait(mut done: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if done() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    done()
}

/// Writes a server block on TLS.
pub fn tls_server(port: u16, name: &str, certificate: &str, more: &str) -> String {
    format!(
        "server {{ listen 127.0.0.1:{port} ssl; server_name {name}; \
         ssl_certificate {certificate}.pem; ssl_certificate_key {certificate}.key; {more} }}\n"
    )
}
