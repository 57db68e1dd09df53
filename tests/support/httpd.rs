//! An httpd under test, in a directory of its own, on loopback, with the module loaded: Debian's Apache httpd or
//! the program that `HPKP_HTTPD` names, with the module from `ci/modules` or the folder that
//! `HPKP_HTTPD_MODULES` names.

use std::ffi::OsString;
use std::fs;
use std::ops::{Deref, DerefMut};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};

use crate::agreement::assert_agreement;
use crate::cases::Server;
use crate::cases::configuration::Written;
use crate::instance::Instance;
pub use crate::instance::{Module, Reload, codes, wait};
pub use crate::outcome::{Kind, Outcome};
use crate::site::furnish;

const MODULES: &str = "/usr/lib/apache2/modules";

/// The program.
pub fn binary() -> OsString {
    std::env::var_os("HPKP_HTTPD").unwrap_or_else(|| "/usr/sbin/apache2".into())
}

/// The modules that httpd always loads, besides its MPM and those that a test adds.
const ALWAYS: [&str; 7] =
    ["authn_core", "authz_core", "mime", "alias", "headers", "socache_shmcb", "ssl"];

/// How httpd spreads its work over processes and threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mpm {
    Event,
    Worker,
    Prefork,
}

impl Mpm {
    pub const ALL: [Self; 3] = [Self::Event, Self::Worker, Self::Prefork];

    const fn name(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::Worker => "worker",
            Self::Prefork => "prefork",
        }
    }

    /// HTTP/2 needs threads.
    pub fn has_http2(self) -> bool {
        self != Self::Prefork
    }
}

/// The position of the line that loads our module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    First,
    Last,
}

/// One server: its directory, its configuration, and the process while it runs.
#[derive(Debug)]
pub struct Httpd {
    instance: Instance,
    mpm: Mpm,
    order: Order,
    /// Modules loaded, by their names without `mod_`.
    modules: Vec<String>,
}

/// The result of a restart inside the running parent.
#[derive(Debug, PartialEq, Eq)]
pub enum Restart {
    /// The new configuration is in effect; with the new lines of the error log.
    Served(String),
    /// The parent has ended; with the new lines of the error log.
    Ended(String),
}

impl Httpd {
    pub fn new() -> Self {
        Self::with(Module::Shipped, Mpm::Event)
    }

    /// A server with the files that most tests need: a CA `ca`, a certificate `live` for localhost
    /// and a request `backup`.
    pub fn furnished(module: Module, mpm: Mpm) -> Self {
        let httpd = Self::with(module, mpm);
        furnish(&httpd.pki());
        httpd
    }

    pub fn with(module: Module, mpm: Mpm) -> Self {
        let instance = Instance::new(module);
        // If root starts httpd, its children run as another user.
        let readable = fs::Permissions::from_mode(0o755);
        fs::set_permissions(instance.path(""), readable).expect("a mode");
        fs::create_dir(instance.path("run")).expect("a directory");
        let types = "text/plain txt\ntext/html html shtml\n";
        fs::write(instance.path("mime.types"), types).expect("a file");
        let mut modules: Vec<String> = ALWAYS.iter().map(|name| (*name).to_owned()).collect();
        if mpm.has_http2() {
            modules.push("http2".to_owned());
        }
        Self { instance, mpm, order: Order::Last, modules }
    }

    /// Loads more modules, named without `mod_`.
    pub fn load(&mut self, modules: &[&str]) {
        self.modules.extend(modules.iter().map(|name| (*name).to_owned()));
    }

    /// Removes a module from those that are loaded.
    pub fn unload(&mut self, module: &str) {
        self.modules.retain(|name| name != module);
    }

    /// Loads our module before all others.
    pub fn load_ours_first(&mut self) {
        self.order = Order::First;
    }

    pub const FIRST_LINE: usize = 2;

    /// Writes the configuration; `text` begins on line [`Httpd::FIRST_LINE`].
    pub fn configure(&self, text: &str) {
        self.write_configuration(self.module, text);
    }

    /// As [`Httpd::configure`], with another build of the module from now on.
    pub fn replace_module(&mut self, module: Module, text: &str) {
        self.module = module;
        self.configure(text);
    }

    /// As [`Httpd::configure`], without the module.
    pub fn configure_without_module(&self, text: &str) {
        self.write_configuration(Module::None, text);
    }

    fn write_configuration(&self, module: Module, text: &str) {
        let file = module.file("HPKP_HTTPD_MODULES", "mod_hpkp.so");
        let ours = file.map(|file| format!("LoadModule hpkp_module {}\n", file.display()));
        let mpm = self.mpm.name();
        let others = [format!("LoadModule mpm_{mpm}_module {MODULES}/mod_mpm_{mpm}.so\n")]
            .into_iter()
            .chain(
                self.modules
                    .iter()
                    .map(|name| format!("LoadModule {name}_module {MODULES}/mod_{name}.so\n")),
            );
        let loads: String = match self.order {
            Order::First => ours.into_iter().chain(others).collect(),
            Order::Last => others.chain(ours).collect(),
        };
        let processes = match self.mpm {
            Mpm::Prefork => "StartServers 2\nMinSpareServers 1\nMaxRequestWorkers 60\n",
            _ => {
                "StartServers 1\nServerLimit 8\nThreadLimit 16\nThreadsPerChild 16\n\
                 MinSpareThreads 1\nMaxSpareThreads 128\nMaxRequestWorkers 128\n"
            }
        };
        // www-data is Debian's user for httpd. If an ordinary user starts httpd, it stays that user.
        let preamble = format!(
            "{loads}{processes}User www-data\nGroup www-data\nServerName server.invalid\n\
             ErrorLog error.log\nLogLevel notice\n\
             <IfModule http2_module>\nProtocols h2 http/1.1\n</IfModule>\n\
             <IfModule ssl_module>\nSSLSessionCache shmcb:run/sessions(512000)\n</IfModule>\n\
             <IfModule mime_module>\nTypesConfig mime.types\n</IfModule>\nDocumentRoot html\n\
             <Directory />\nAllowOverride None\nOptions None\nRequire all granted\n</Directory>\n"
        );
        self.pki().write("preamble.conf", preamble);
        self.pki().write(Kind::Httpd.file(), format!("Include preamble.conf\n{text}\n"));
    }

    /// The number of the first line of the configuration that is `text`.
    #[track_caller]
    pub fn line(&self, text: &str) -> usize {
        let configuration = fs::read_to_string(self.path(Kind::Httpd.file()));
        let configuration = configuration.expect("a configuration");
        let line = configuration.lines().position(|line| line == text);
        1 + line.unwrap_or_else(|| panic!("no line \"{text}\" in:\n{configuration}"))
    }

    /// The httpd command for this server.
    pub fn command(&self) -> Command {
        let mut command = Command::new(binary());
        // These directives are arguments and not in the preamble, so that they also hold if a test breaks the
        // configuration.
        for (directive, value) in [
            ("ServerRoot", self.path("")),
            ("DefaultRuntimeDir", self.path("run")),
            ("PidFile", self.path("httpd.pid")),
        ] {
            command.arg("-C").arg(format!("{directive} {}", value.display()));
        }
        command.arg("-f").arg(self.path(Kind::Httpd.file()));
        self.in_environment(command)
    }

    /// Runs the httpd command with more arguments.
    pub fn run(&self, arguments: &[&str]) -> Outcome {
        let (code, text) = self.errors_of(self.command().args(arguments));
        Outcome { kind: Kind::Httpd, code, text }
    }

    /// `apache2 -t`; `hpkp check` must say the same.
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
        let process = self.spawn(&["-D", "FOREGROUND"]);
        self.came_up(process, |httpd| {
            let log = httpd.log();
            log.get(before..).unwrap_or(&log).contains(RESUMING) && !httpd.workers().is_empty()
        });
        self.settle();
    }

    /// Starts the server, which must not come up; returns its exit code and its terminal output.
    #[track_caller]
    pub fn start_refused(&self) -> Outcome {
        let mut process = self.spawn(&["-D", "FOREGROUND"]);
        let mut code = None;
        let ended = wait(|| {
            code = process.try_wait().ok().flatten();
            code.is_some()
        });
        if !ended {
            // SIGKILL would leave the children running.
            // SAFETY: our own child, not yet waited for.
            unsafe { libc::kill(process.id() as libc::pid_t, libc::SIGTERM) };
            let _ = process.wait();
        }
        assert!(ended, "the server started:\n{}", self.log());
        let code = code.and_then(|status| status.code());
        Outcome { kind: Kind::Httpd, code, text: self.terminal_output() }
    }

    pub fn spawn(&self, arguments: &[&str]) -> Child {
        let mut command = self.command();
        // httpd with prefork ends its children by a signal to its process group.
        command.args(arguments).process_group(0);
        self.spawn_command(command)
    }

    /// Restarts as `apachectl graceful` does: tests, and sends the signal only where the test
    /// passes.
    #[track_caller]
    pub fn graceful(&mut self) -> Reload {
        let outcome = self.test();
        if outcome.code != Some(0) {
            return Reload::Refused(outcome.text);
        }
        let (log, old) = (self.log().len(), self.workers());
        let outcome = self.run(&["-k", "graceful"]);
        if outcome.code != Some(0) {
            return Reload::Refused(outcome.text);
        }
        match self.outcome(log, &old) {
            Restart::Served(_) => Reload::Accepted,
            Restart::Ended(log) => panic!("the server has ended:\n{log}"),
        }
    }

    /// Sends SIGUSR1 or SIGHUP without a config test before it, and waits for the result.
    #[track_caller]
    pub fn restart(&mut self, signal: libc::c_int) -> Restart {
        let (log, old) = (self.log().len(), self.workers());
        self.signal(signal);
        self.outcome(log, &old)
    }

    /// Waits for the result of a restart. Before it, the log had `before` bytes and the server had the workers `old`:
    /// the new configuration is in effect when those have ended.
    #[track_caller]
    fn outcome(&mut self, before: usize, old: &[libc::pid_t]) -> Restart {
        let mut running = true;
        let done = wait(|| {
            running = self.is_running();
            let resumed = self.log()[before..].contains(RESUMING);
            let replaced = || {
                let new = self.workers();
                !new.is_empty() && !old.iter().any(|pid| new.contains(pid))
            };
            !running || (resumed && replaced())
        });
        let new = self.log().split_off(before);
        assert!(done, "nothing became of the restart:\n{new}");
        if running {
            self.settle();
        }
        if running { Restart::Served(new) } else { Restart::Ended(new) }
    }

    /// Waits until the children wait for work. A child that gets a signal before then ends inside the signal handler
    /// (`just_die` of the event MPM and the like), in the middle of its start: in a child that was dropping its
    /// privileges the allocator found its own lists broken, `free(): corrupted unsorted chunks`. No function of our
    /// module is on its stack.
    fn settle(&self) {
        let waits = |pid: &libc::pid_t| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            // The state follows the name of the program, which is in parentheses.
            stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('S'))
        };
        wait(|| {
            self.workers().iter().all(waits) && {
                std::thread::sleep(std::time::Duration::from_millis(5));
                self.workers().iter().all(waits)
            }
        });
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
        let before = self.log().len();
        self.end(libc::SIGTERM);
        self.instance.check_log(|at, line| is_harmless(line) || at >= before && is_crash(line));
    }

    #[track_caller]
    fn check_log(&self) {
        self.instance.check_log(|_, line| is_harmless(line));
    }
}

/// Whether a line does not concern our module.
fn is_harmless(line: &str) -> bool {
    [
        ":notice] ",
        ":info] ",
        // mod_ssl logs that Debian has built it with a newer OpenSSL than is installed.
        "AH01882",
        // A child of the event MPM that ends passes a connection to its listener, which has already ended, and closes
        // its workers' sockets while the workers close them too.
        "AH03093",
        "AH03092",
        "AH00468",
    ]
    .iter()
    .any(|harmless| line.contains(harmless))
}

/// Whether a line reports a child that crashed. When a server is stopped at once, the main thread of a child of the
/// event MPM walks its workers' sockets while the workers free them; no function of our module is on its stack. The
/// parent's exit status is checked in `Instance::end`.
fn is_crash(line: &str) -> bool {
    let by_allocator = ["free(): ", "malloc(): ", "corrupted ", "double free", "munmap_chunk(): "];
    by_allocator.iter().any(|start| line.starts_with(start)) || line.contains("exit signal")
}

/// httpd logs this when a configuration has taken effect.
const RESUMING: &str = "resuming normal operations";

impl Deref for Httpd {
    type Target = Instance;

    fn deref(&self) -> &Instance {
        &self.instance
    }
}

impl DerefMut for Httpd {
    fn deref_mut(&mut self) -> &mut Instance {
        &mut self.instance
    }
}

impl Server for Httpd {
    const KIND: Kind = Kind::Httpd;

    fn prepared() -> Self {
        Self::furnished(Module::Shipped, Mpm::Event)
    }

    fn write(&self, written: Written) -> Option<usize> {
        self.configure(&written.lines.join("\n"));
        written.marked.map(|line| Self::FIRST_LINE + line)
    }

    fn test(&self) -> Outcome {
        self.test()
    }
}

impl Default for Httpd {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Httpd {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.abandon();
        } else {
            self.stop();
        }
    }
}

/// The directives that make httpd listen on ports.
pub fn listen(ports: &[u16]) -> String {
    ports.iter().map(|port| format!("Listen 127.0.0.1:{port}\n")).collect()
}

/// A vhost with TLS, with one directive on each line.
pub fn tls_vhost(port: u16, name: &str, certificate: &str, more: &str) -> String {
    format!(
        "<VirtualHost 127.0.0.1:{port}>\nServerName {name}\nSSLEngine on\n\
         SSLCertificateFile {certificate}.pem\nSSLCertificateKeyFile {certificate}.key\n\
         {more}\n</VirtualHost>\n"
    )
}
