//! An nginx under test, in a directory of its own, on loopback, with the module loaded: Debian's nginx, or the one
//! that `HPKP_NGINX` names with the modules in `HPKP_NGINX_MODULES`.

use std::ffi::OsString;
use std::fs;
use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::process::{Child, Command};

use crate::agreement::assert_agreement;
use crate::cases::Server;
use crate::cases::configuration::Written;
use crate::instance::Instance;
pub use crate::instance::{Module, Reload, codes, wait, without_leaks};
pub use crate::outcome::{Kind, Outcome};
use crate::site;
use crate::{output, succeed};

/// One server: its directory, its configuration, and the process while it runs.
#[derive(Debug)]
pub struct Nginx {
    instance: Instance,
}

impl Nginx {
    pub fn new() -> Self {
        Self::with_module(Module::Shipped)
    }

    pub fn with_module(module: Module) -> Self {
        let instance = Instance::new(module);
        fs::create_dir(instance.path("tmp")).expect("a directory");
        Self { instance }
    }

    /// Writes the configuration; `http` is the content of the `http` block and begins on line
    /// [`Nginx::FIRST_LINE`].
    pub fn configure(&self, http: &str) {
        self.configure_with("worker_processes 1;", http);
    }

    pub const FIRST_LINE: usize = 8;

    /// As [`Nginx::configure`], with another build of the module from now on.
    pub fn replace_module(&mut self, module: Module, http: &str) {
        self.module = module;
        self.configure(http);
    }

    /// As [`Nginx::configure`], without the module.
    pub fn configure_without_module(&self, http: &str) {
        self.write_configuration("", "worker_processes 1;", http, "");
    }

    /// As [`Nginx::configure`], with `main` in the main block, on one line.
    pub fn configure_with(&self, main: &str, http: &str) {
        self.configure_around(main, http, "");
    }

    /// As [`Nginx::configure_with`], with `behind` behind the block `http`.
    pub fn configure_around(&self, main: &str, http: &str, behind: &str) {
        let module = self.module.file("HPKP_NGINX_MODULES", "ngx_http_hpkp_module.so");
        let load =
            module.map_or_else(String::new, |file| format!("load_module {};", file.display()));
        self.write_configuration(&load, main, http, behind);
    }

    fn write_configuration(&self, load: &str, main: &str, http: &str, behind: &str) {
        // Without `user root`, workers of a server started by root could not read the test's files.
        // SAFETY: geteuid takes no argument and always succeeds.
        let user = if unsafe { libc::geteuid() } == 0 { "user root;" } else { "" };
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .iter()
            .map(|name| format!("{name}_temp_path tmp/{name}; "))
            .collect();
        let text = format!(
            "{load}\n{user} {main}\npid nginx.pid; error_log error.log notice;\n\
             events {{ worker_connections 512; }}\nhttp {{\n{temporary}\naccess_log access.log;\n\
             {http}\n}}\n{behind}\n"
        );
        fs::write(self.path("nginx.conf"), text).expect("a configuration");
    }

    /// The nginx command for this server.
    pub fn command(&self) -> Command {
        let mut command = Command::new(binary());
        command.arg("-p").arg(self.path("")).arg("-c").arg(self.path("nginx.conf"));
        self.in_environment(command)
    }

    /// Runs the nginx command with more arguments.
    pub fn run(&self, arguments: &[&str]) -> Outcome {
        let (code, text) = self.errors_of(self.command().args(arguments));
        Outcome { kind: Kind::Nginx, code, text }
    }

    /// `nginx -t`; `hpkp check` must say the same.
    #[track_caller]
    pub fn test(&self) -> Outcome {
        let outcome = self.run(&["-t"]);
        assert_agreement(self, &outcome);
        outcome
    }

    /// Starts the server, which must come up.
    #[track_caller]
    pub fn start(&mut self) {
        // The log may have lines of another start.
        let before = self.log().len();
        let process = self.spawn(&["-g", "daemon off;"]);
        self.came_up(process, |nginx| {
            let log = nginx.log();
            let log = log.get(before..).unwrap_or(&log);
            log.contains("start worker process") && !nginx.workers().is_empty()
        });
    }

    /// As [`Nginx::start`], without a master and workers.
    #[track_caller]
    pub fn up_in_one_process(&mut self) {
        let process = self.spawn(&["-g", "daemon off; master_process off;"]);
        // In this mode nginx logs nothing when it is ready.
        self.came_up(process, |nginx| nginx.path("nginx.pid").exists());
    }

    pub fn spawn(&self, arguments: &[&str]) -> Child {
        let mut command = self.command();
        command.args(arguments);
        self.spawn_command(command)
    }

    /// Sends SIGHUP and waits for the result.
    #[track_caller]
    pub fn reload(&self) -> Reload {
        let before = self.log().len();
        self.signal(libc::SIGHUP);
        self.outcome(self.pid(), before)
    }

    /// Waits for the result of a reload of the master `pid`. Before it, the log had `before` bytes.
    #[track_caller]
    pub fn outcome(&self, pid: libc::pid_t, before: usize) -> Reload {
        let new = || self.log().split_off(before);
        let mut refused = false;
        let done = wait(|| {
            let new = new();
            refused = new.contains("[emerg]");
            refused || new.contains("exited with code 0")
        });
        assert!(done, "nothing became of the reload:\n{}", new());
        if refused {
            // The master writes several lines, and reopens its log only after the reload has ended.
            // SAFETY: the pid is that of our own server's master, which has just refused a reload.
            assert_eq!(unsafe { libc::kill(pid, libc::SIGUSR1) }, 0);
            assert!(wait(|| new().contains("reopening logs")), "{}", new());
            return Reload::Refused(new());
        }
        Reload::Accepted
    }

    /// Checks the error log of a server that has been stopped by other means.
    #[track_caller]
    pub fn stopped(&mut self) {
        self.forget();
        self.check_log();
    }

    /// Ends the server and fails if its error log has an unexpected line.
    #[track_caller]
    pub fn stop(&mut self) {
        self.end(libc::SIGQUIT);
        self.check_log();
    }

    #[track_caller]
    fn check_log(&self) {
        self.instance.check_log(|_, line| line.contains(" [notice] ") || line.contains(" [info] "));
    }
}

impl Deref for Nginx {
    type Target = Instance;

    fn deref(&self) -> &Instance {
        &self.instance
    }
}

impl DerefMut for Nginx {
    fn deref_mut(&mut self) -> &mut Instance {
        &mut self.instance
    }
}

impl Server for Nginx {
    const KIND: Kind = Kind::Nginx;

    fn prepared() -> Self {
        site::prepared()
    }

    fn write(&self, written: Written) -> Option<usize> {
        self.configure(&written.lines.join("\n"));
        written.marked.map(|line| Self::FIRST_LINE + line)
    }

    fn test(&self) -> Outcome {
        self.test()
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
            self.abandon();
        } else {
            self.stop();
        }
    }
}

fn binary() -> OsString {
    std::env::var_os("HPKP_NGINX").unwrap_or_else(|| "/usr/sbin/nginx".into())
}

/// Whether two workers have had enough requests: at least `least`, and each of them one. The system chooses which
/// worker accepts a connection, and may choose the same one many times.
pub fn is_enough(asked: usize, least: usize, workers: usize) -> bool {
    asked >= least && workers == 2 || asked == 500
}

/// Directives that load nginx's own modules of these names. The nginx of `ci/nginx-1.28` has them built in and needs
/// none.
pub fn load_modules(names: &[&str]) -> String {
    if std::env::var_os("HPKP_NGINX").is_some() {
        return String::new();
    }
    let load = |name: &&str| format!("load_module /usr/lib/nginx/modules/ngx_{name}_module.so; ");
    names.iter().map(load).collect()
}

/// The version of the nginx under test: major, minor, patch.
pub fn version() -> (u32, u32, u32) {
    let outcome = output(Command::new(binary()).arg("-v"));
    let outcome = String::from_utf8_lossy(&outcome.stderr).into_owned();
    let number = outcome.trim().rsplit('/').next().unwrap_or_default();
    let mut parts = number.split('.').map(|part| part.parse().expect("a version"));
    let mut part = || parts.next().expect("three parts");
    (part(), part(), part())
}

/// Enables HTTP/2 for every TLS server of a configuration, in the syntax of the version under test.
pub fn with_http2(http: &str) -> String {
    let new = if version() < (1, 25, 1) { " ssl http2;" } else { " ssl; http2 on;" };
    http.replace(" ssl;", new)
}

/// A server block with TLS.
pub fn tls_server(port: u16, name: &str, certificate: &str, more: &str) -> String {
    format!(
        "server {{ listen 127.0.0.1:{port} ssl; server_name {name}; \
         ssl_certificate {certificate}.pem; ssl_certificate_key {certificate}.key; {more} }}\n"
    )
}

/// Compiles the source of a module against the headers of Debian's nginx, with `folders` of nginx's source in the
/// include path besides the usual ones; returns the module's path.
pub fn compile_module(nginx: &Nginx, name: &str, source: &str, folders: &[&str]) -> String {
    let source = nginx.pki().write(&format!("{name}.c"), source);
    let module = nginx.path(&format!("{name}.so"));
    let nginx_source = Path::new("/usr/share/nginx/src/src");
    let mut compiler = Command::new("gcc");
    compiler.args(["-shared", "-fPIC", "-w", "-O1"]);
    // Debian's nginx has HTTP/3 from 1.26 on; gcc ignores a folder that does not exist.
    let usual = ["core", "event", "event/modules", "event/quic", "http/v3", "os/unix"];
    for folder in usual.iter().chain(folders) {
        compiler.arg("-I").arg(nginx_source.join(folder));
    }
    // The headers that nginx's configure script generates come from a build of our module.
    compiler.arg("-I").arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/nginx-debian"));
    succeed(compiler.arg("-o").arg(&module).arg(source));
    module.display().to_string()
}
