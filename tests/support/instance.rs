//! The common part of servers under test: a directory of their own, a process while they run, and an error log in
//! which every unexpected line fails the test.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::pki::Pki;
use crate::{output, target_dir};

/// The time after which a server counts as hanging. No step of a server takes as long, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(180);

/// Which build of the module to load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Module {
    Shipped,
    InjectPanic,
    /// The server without the module.
    None,
}

impl Module {
    /// The file of this build called `file`, in the folder that the variable `folder` names or in
    /// that of `ci/modules`.
    pub fn file(self, folder: &str, file: &str) -> Option<PathBuf> {
        let name = match self {
            Self::Shipped => "shipped",
            Self::InjectPanic => "inject-panic",
            Self::None => return None,
        };
        let modules =
            std::env::var_os(folder).map_or_else(|| target_dir().join("modules"), PathBuf::from);
        let file = modules.join(name).join(file);
        let file = file.canonicalize().unwrap_or(file);
        assert!(file.exists(), "{} is missing: run ci/modules", file.display());
        Some(file)
    }
}

/// One server, nginx or httpd.
#[derive(Debug)]
pub struct Instance {
    dir: tempfile::TempDir,
    pub(crate) module: Module,
    environment: Vec<(String, String)>,
    process: Option<Child>,
    /// Parts of lines that this test expects in the error log.
    expected: Vec<String>,
    /// Whether file permissions also apply to processes of root.
    heeds_permissions: bool,
    /// Limits of each process: bytes of memory, seconds of processor time.
    limits: Option<(libc::rlim_t, libc::rlim_t)>,
}

impl Instance {
    pub(crate) fn new(module: Module) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir(dir.path().join("html")).expect("a directory");
        Self {
            dir,
            module,
            environment: Vec::new(),
            process: None,
            expected: Vec::new(),
            heeds_permissions: false,
            limits: None,
        }
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join(file)
    }

    pub fn pki(&self) -> Pki {
        Pki::new(self.dir.path())
    }

    /// Replaces the certificate and the key of `live` by those of these names, as new files: from 1.27.4 on nginx
    /// treats a file with the same inode and modification time as unchanged.
    pub fn install(&self, certificate: &str, key: &str) {
        for (from, to) in
            [(format!("{certificate}.pem"), "live.pem"), (format!("{key}.key"), "live.key")]
        {
            let new = self.path("new");
            fs::copy(self.path(&from), &new).expect("a copy");
            fs::rename(new, self.path(to)).expect("a file put in place");
        }
    }

    pub fn set_environment(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// Whether the module panics on purpose.
    pub(crate) fn injects_panics(&self) -> bool {
        self.environment.iter().any(|(name, _)| name == "HPKP_INJECT_PANIC")
    }

    /// File permissions apply to processes started from now on, also if root starts them.
    pub fn heed_permissions(&mut self) {
        self.heeds_permissions = true;
    }

    /// Limits the memory and the processor time of each process that is started from now on. The limits do not depend
    /// on the load of the machine.
    pub fn limit(&mut self, bytes: libc::rlim_t, seconds: libc::rlim_t) {
        self.limits = Some((bytes, seconds));
    }

    /// Processes started from now on have no limits.
    pub fn lift_limits(&mut self) {
        self.limits = None;
    }

    /// Allows lines with one of these texts in the error log.
    pub fn expect_in_log(&mut self, texts: &[&str]) {
        self.expected.extend(texts.iter().map(|text| (*text).to_owned()));
    }

    /// A command in the environment of this server.
    pub(crate) fn in_environment(&self, mut command: Command) -> Command {
        command.env_remove("HPKP_CHECK").envs(self.environment.iter().map(|(n, v)| (n, v)));
        // SAFETY: geteuid takes no argument and always succeeds.
        if self.heeds_permissions && unsafe { libc::geteuid() } == 0 {
            // SAFETY: the child calls only prctl between fork and exec, which allocates nothing and takes no lock.
            unsafe { command.pre_exec(give_up_override) };
        }
        // AddressSanitizer reserves more memory than any limit allows.
        if let Some((bytes, seconds)) = self.limits.filter(|_| without_leaks().is_none()) {
            // SAFETY: the child calls only setrlimit between fork and exec, which allocates nothing and takes no lock.
            unsafe { command.pre_exec(move || set_limits(bytes, seconds)) };
        }
        command
    }

    /// The exit code of a command and its standard error.
    pub(crate) fn errors_of(&self, command: &mut Command) -> (Option<i32>, String) {
        // A process that runs a config test or sends a signal ends without freeing its memory, on purpose.
        command.envs(without_leaks());
        let output = output(command);
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// Starts a process whose standard error goes to a file.
    pub(crate) fn spawn_command(&self, mut command: Command) -> Child {
        let errors = fs::File::create(self.path("stderr.log")).expect("a file");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors);
        // httpd in the foreground ends its whole process group when it ends.
        command.process_group(0);
        command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"))
    }

    /// Stores the server's process and waits until `came_up`; fails if the process ends before.
    #[track_caller]
    pub(crate) fn came_up(&mut self, process: Child, came_up: impl Fn(&Self) -> bool) {
        self.process = Some(process);
        let done = wait(|| came_up(self) || !self.is_running());
        assert!(
            done && self.is_running(),
            "the server did not start:\n{}{}",
            self.terminal_output(),
            self.log()
        );
    }

    pub fn pid(&self) -> libc::pid_t {
        self.process.as_ref().map(|p| p.id() as libc::pid_t).expect("a running server")
    }

    pub fn is_running(&mut self) -> bool {
        self.process.as_mut().is_some_and(|process| process.try_wait().is_ok_and(|s| s.is_none()))
    }

    /// The pids of the children, nginx's workers and httpd's.
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

    /// Passes the process to the caller, who must wait for it; another one may be started beside it.
    pub fn hand_over(&mut self) -> Child {
        self.process.take().expect("a running server")
    }

    /// The server has been stopped by other means and need not be waited for.
    pub(crate) fn forget(&mut self) {
        self.process = None;
    }

    /// The server's standard error, to which it writes before its error log is open.
    pub fn terminal_output(&self) -> String {
        fs::read_to_string(self.path("stderr.log")).unwrap_or_default()
    }

    pub fn log(&self) -> String {
        let log = fs::read(self.path("error.log")).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// Ends the server by `signal`, if it runs; its exit status must be a success.
    #[track_caller]
    pub(crate) fn end(&mut self, signal: libc::c_int) {
        let Some(mut process) = self.process.take() else { return };
        // SAFETY: our own child, not yet waited for.
        unsafe { libc::kill(process.id() as libc::pid_t, signal) };
        let mut status = None;
        let ended = wait(|| {
            status = process.try_wait().ok().flatten();
            status.is_some()
        });
        if !ended {
            let _ = process.kill();
            let _ = process.wait();
        }
        assert!(ended, "the server did not end:\n{}", self.log());
        assert!(status.is_some_and(|s| s.success()), "the server ended with {status:?}");
    }

    /// Kills all processes of the server at once, as a failing machine would.
    pub fn kill_all(&mut self) {
        let mut process = self.process.take().expect("a running server");
        // SAFETY: the process group of our own child, not yet waited for; the group was created with the child.
        assert_eq!(unsafe { libc::kill(-(process.id() as libc::pid_t), libc::SIGKILL) }, 0);
        process.wait().expect("an end");
    }

    /// Ends the server, if it runs, when its test has failed.
    pub(crate) fn abandon(&mut self) {
        if let Some(mut process) = self.process.take() {
            // SAFETY: our own child, not yet waited for.
            unsafe { libc::kill(process.id() as libc::pid_t, libc::SIGTERM) };
            let _ = process.wait();
        }
    }

    /// Fails if the error log has a line that is neither `harmless` nor expected. `harmless` gets the position of the
    /// line in the log, and the line.
    #[track_caller]
    pub(crate) fn check_log(&self, harmless: impl Fn(usize, &str) -> bool) {
        let log = self.log();
        let mut end = 0;
        let lines = log.split_inclusive('\n').map(|line| {
            end += line.len();
            (end - line.len(), line.trim_end_matches('\n'))
        });
        let unexpected: Vec<&str> = lines
            .filter(|(at, line)| !harmless(*at, line))
            .map(|(_, line)| line)
            .filter(|line| !line.contains(NO_WRITER))
            .filter(|line| !self.expected.iter().any(|text| line.contains(text)))
            .collect();
        assert!(unexpected.is_empty(), "unexpected in the error log:\n{}", unexpected.join("\n"));
    }
}

/// Drops CAP_DAC_OVERRIDE: without this capability, file permissions apply to root.
fn give_up_override() -> std::io::Result<()> {
    const CAP_DAC_OVERRIDE: libc::c_ulong = 1;
    // SAFETY: prctl with PR_CAPBSET_DROP takes only numbers.
    match unsafe { libc::prctl(libc::PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, 0, 0, 0) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

fn set_limits(bytes: libc::rlim_t, seconds: libc::rlim_t) -> std::io::Result<()> {
    for (resource, limit) in [(libc::RLIMIT_DATA, bytes), (libc::RLIMIT_CPU, seconds)] {
        let limits = libc::rlimit { rlim_cur: limit, rlim_max: limit };
        // SAFETY: setrlimit only reads `limits`.
        if unsafe { libc::setrlimit(resource, &raw const limits) } != 0 {
            return Err(std::io::Error::last_os_error());
        }
    }
    Ok(())
}

/// The environment variable that turns leak detection off, in a run under LeakSanitizer (ci/sanitize).
pub fn without_leaks() -> Option<(&'static str, String)> {
    let options = std::env::var("ASAN_OPTIONS").ok()?;
    Some(("ASAN_OPTIONS", options + ":detect_leaks=0"))
}

/// The code of a policy without records. Most configurations of tests have no records, so only some tests check it.
pub const NO_WRITER: &str = "published-pins-no-writer";

/// The codes of our findings in a log except [`NO_WRITER`], in order, each once.
pub fn codes(log: &str) -> Vec<&str> {
    let mut codes = all_codes(log);
    codes.retain(|code| *code != NO_WRITER);
    codes
}

/// The codes of our findings in a log, in order, each once.
pub fn all_codes(log: &str) -> Vec<&str> {
    let mut codes = Vec::new();
    for line in log.lines() {
        let code = line.split_once("hpkp: [").and_then(|(_, rest)| rest.split_once(']'));
        if let Some((code, _)) = code.filter(|(code, _)| !codes.contains(code)) {
            codes.push(code);
        }
    }
    codes
}

/// The result of a reload.
#[derive(Debug, PartialEq, Eq)]
pub enum Reload {
    Accepted,
    /// The messages: nginx writes them to its error log, httpd to the terminal.
    Refused(String),
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
