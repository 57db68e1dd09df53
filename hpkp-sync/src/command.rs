//! The command `hpkp sync`: opens the store and runs one pass, a pass before and after another command (`--then`), or
//! repeated passes (`--watch`).

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use hpkp_cli::Exit;
use hpkp_cli::sync::{SyncArguments, complain, ended, json, line, os, wrong_usage};
use hpkp_core::published::HostName;
use hpkp_core::sorted::distinct;
use hpkp_core::text::ShellWord;
use hpkp_server::published::Directory;

use crate::report::{Code, Report};
use crate::signed::Keys;
use crate::store::{self, Lease, Options, Place, Store, StoreError, Term};
use crate::{now, own, pass};

/// The environment variable that may name the store.
const VARIABLE: &str = "HPKP_STORE";

/// Runs the command.
#[must_use]
pub fn run(arguments: &SyncArguments) -> Exit {
    let (place, options) = match given(arguments) {
        Ok(given) => given,
        Err(text) => return wrong_usage(&text),
    };
    let run = Run { arguments, place, options };
    if arguments.init {
        return run.init();
    }
    let mut store = None;
    loop {
        let report = run.pass(&mut store);
        let exit = run.print(&report);
        let Some(every) = arguments.watch else { return exit };
        if exit == Exit::Usage {
            return exit;
        }
        let since = Instant::now();
        if !store.as_mut().is_some_and(|store| store.wait(every)) {
            // The store cannot wait, or its connection has ended: the next pass opens the store again.
            store = None;
            thread::sleep(every.saturating_sub(since.elapsed()));
        }
    }
}

/// The place of the store and the options to open it with.
fn given(arguments: &SyncArguments) -> Result<(Place, Options), String> {
    let (text, is_public) = match (&arguments.store, &arguments.store_file) {
        (Some(text), _) => (text.clone(), true),
        (None, Some(path)) => (first_line(path)?, false),
        (None, None) => match std::env::var(VARIABLE) {
            Ok(text) => (text, false),
            Err(_) => {
                return Err(format!(
                    "no STORE given, no --store-file, and no {VARIABLE} in the environment"
                ));
            }
        },
    };
    let place = Place::parse(&text, is_public).map_err(|error| error.to_string())?;
    for host in &arguments.lease {
        host.parse::<HostName>().map_err(|error| format!("--lease: {error}"))?;
    }
    let cache = arguments.cache.clone().unwrap_or_else(cache);
    Ok((place, Options { timeout: arguments.timeout, cache }))
}

/// The first line of a file that may contain a password.
fn first_line(path: &Path) -> Result<String, String> {
    let name = path.display();
    let file = fs::File::open(path).map_err(|error| format!("{name}: {}", os(&error)))?;
    let mode = file.metadata().map_err(|error| format!("{name}: {}", os(&error)))?.mode();
    let mut text = String::new();
    let read = file.take(64 << 10).read_to_string(&mut text);
    read.map_err(|error| format!("{name}: {}", os(&error)))?;
    let line = text.lines().next().unwrap_or_default().trim().to_owned();
    let is_secret = Place::parse(&line, true) == Err(store::PlaceError::Password);
    if is_secret && mode & 0o077 != 0 {
        return Err(format!(
            "{name}: contains a password, and other users may read the file (mode {:o}); to fix: chmod 600 {}",
            mode & 0o7777,
            ShellWord::new(path.to_string_lossy().as_bytes())
        ));
    }
    Ok(line)
}

fn cache() -> PathBuf {
    let home = std::env::var_os("XDG_CACHE_HOME").filter(|home| !home.is_empty());
    home.map_or_else(|| "/var/cache/hpkp".into(), |home| PathBuf::from(home).join("hpkp"))
}

/// The arguments of a run, and what was derived from them.
struct Run<'a> {
    arguments: &'a SyncArguments,
    place: Place,
    options: Options,
}

impl Run<'_> {
    fn init(&self) -> Exit {
        let done = store::open(&self.place, &self.options).and_then(|mut store| store.init());
        if let Err(error) = done {
            complain(&format!("[{}] {error}", error.code()));
            return Exit::Undetermined;
        }
        let store = self.place.to_string();
        let written = if self.arguments.json {
            json(&serde_json::json!({ "v": hpkp_cli::sync::JSON_VERSION, "store": store }))
        } else {
            line(&format!("store ready: {store}"))
        };
        ended(Exit::Fine, written)
    }

    fn print(&self, report: &Report) -> Exit {
        report.complain();
        let exit = report.exit();
        let written = match () {
            () if self.arguments.json => json(&report.json(&self.place.to_string())),
            () if report.is_quiet() && self.arguments.watch.is_some() => Ok(()),
            () if !report.has_looked => Ok(()),
            () => line(&report.line()),
        };
        ended(exit, written)
    }

    /// Runs one pass or, with `--then`, a pass before and a pass after the command.
    fn pass(&self, open: &mut Option<Box<dyn Store>>) -> Report {
        let mut report = Report::default();
        let directory = match Directory::open(&self.arguments.directory) {
            Ok(directory) => directory,
            Err(error) => {
                let text = error.text(&self.arguments.directory);
                let fix =
                    text.fix.first().map_or_else(String::new, |fix| format!("; to fix: {fix}"));
                report.add(Code::OwnUnreadable, format!("{}{fix}", text.what));
                self.not_run(&mut report);
                return report;
            }
        };
        let keys = match Keys::read(Path::new(directory.path()), self.arguments.sign_key.as_deref())
        {
            Ok(keys) => keys,
            Err(error) => {
                report.add(Code::KeysUnusable, error.to_string());
                self.not_run(&mut report);
                return report;
            }
        };
        let opened = open.take().map_or_else(|| store::open(&self.place, &self.options), Ok);
        let mut store = match opened {
            Ok(store) => store,
            Err(error) => {
                report.store(&error);
                self.not_run(&mut report);
                return report;
            }
        };
        match &self.arguments.then {
            None => {
                let is_complete =
                    pass::run(&directory, &self.place, &mut *store, &keys, &mut report);
                if is_complete && store.stays_open() {
                    *open = Some(store);
                }
            }
            Some(command) => {
                // This machine counts the lease time from before the request, and the store from later. So the lease
                // is not over in the store before this machine treats it as expired.
                let started = Instant::now();
                match self.leases(&mut *store) {
                    Ok(leases) => {
                        let kept =
                            self.around(command, (&directory, &keys), store, &mut report, started);
                        self.release(kept, leases, &mut report);
                    }
                    Err(error) => {
                        report.store(&error);
                        self.not_run(&mut report);
                    }
                }
            }
        }
        report
    }

    fn is_expired(&self, started: Instant) -> bool {
        !self.arguments.lease.is_empty() && started.elapsed() > self.arguments.lease_time
    }

    /// Runs a pass, the command, and a second pass that writes the records that the command caused. Returns the store
    /// if it is open at the end.
    fn around(
        &self,
        command: &str,
        (directory, keys): (&Directory, &Keys),
        mut store: Box<dyn Store>,
        report: &mut Report,
        started: Instant,
    ) -> Option<Box<dyn Store>> {
        let is_complete = pass::run(directory, &self.place, &mut *store, keys, report);
        // Checks that the command runs need all records: a restored backup, for instance, lacks what was published
        // after it was made.
        if !is_complete || report.hides_records() {
            self.not_run(report);
            return Some(store);
        }
        if self.is_expired(started) {
            let text =
                "the lease expired before the command could run; to fix: a longer --lease-time";
            report.add(Code::LeaseExpired, text);
            self.not_run(report);
            return Some(store);
        }
        // The command may take long and may run hpkp sync itself, so the local copy of the repository must not stay
        // locked.
        drop(store);
        let before = own::state(directory);
        self.execute(command, report);
        if self.is_expired(started) {
            report.add(
                Code::LeaseExpired,
                "the lease expired before the command ended, so another machine may have changed something at the \
                 same time; compare with: hpkp published list",
            );
        }
        // A server writes its records a moment after a reload was requested.
        self.settle(directory, &before);
        let mut after = Report::default();
        let store = match store::open(&self.place, &self.options) {
            Ok(mut store) => {
                pass::run(directory, &self.place, &mut *store, keys, &mut after);
                Some(store)
            }
            Err(error) => {
                after.store(&error);
                None
            }
        };
        if !after.has_looked {
            let text = "the command has run, and other machines do not know its changes; to fix: hpkp sync";
            after.add(Code::NotWritten, text);
        }
        report.then(after);
        store
    }

    /// Runs the command.
    fn execute(&self, command: &str, report: &mut Report) {
        let mut shell = Command::new("/bin/sh");
        shell.arg("-c").arg(command).stdin(Stdio::null());
        if self.arguments.json {
            // Standard output must contain only the JSON.
            shell.stdout(std::io::stderr());
        }
        match shell.status() {
            Ok(status) => {
                report.command = Some(status.code().unwrap_or(-1));
                if !status.success() {
                    report.add(
                        Code::Command,
                        format!("the command failed ({status}): {}", excerpt(command)),
                    );
                }
            }
            Err(error) => report.add(Code::Command, format!("cannot run /bin/sh: {}", os(&error))),
        }
    }

    /// Waits until the files of this machine have changed and then have not changed for a moment.
    fn settle(&self, directory: &Directory, before: &[(String, u64, i64, i64)]) {
        const MOMENT: Duration = Duration::from_millis(200);
        let started = Instant::now();
        let mut last = own::state(directory);
        while started.elapsed() < self.arguments.settle {
            thread::sleep(MOMENT);
            let state = own::state(directory);
            if state != before && state == last {
                return;
            }
            last = state;
        }
    }

    /// Reports that the command of `--then` did not run.
    fn not_run(&self, report: &mut Report) {
        if let Some(command) = &self.arguments.then {
            report.add(
                Code::NotRun,
                format!("the command did not run, so nothing was changed: {}", excerpt(command)),
            );
        }
    }

    /// Takes the leases, in the same order on all machines. If one cannot be taken, all are given back.
    fn leases(&self, store: &mut dyn Store) -> Result<Vec<Lease>, StoreError> {
        let names = self.arguments.lease.iter().filter_map(|name| name.parse::<HostName>().ok());
        let names: Vec<HostName> = distinct(names);
        let token: String = crate::random(16).iter().map(|byte| format!("{byte:02x}")).collect();
        let host = hpkp_server::host_name::host_name();
        let term = Term {
            holder: format!("{host}, process {}", std::process::id()),
            token: format!("{}-{token}", now()),
            seconds: i64::try_from(self.arguments.lease_time.as_secs()).unwrap_or(i64::MAX),
        };
        let mut leases = Vec::new();
        for name in names {
            match store.lease(name.as_str(), &term) {
                Ok(lease) => leases.push(lease),
                Err(error) => {
                    for lease in &leases {
                        // A lease that cannot be given back expires.
                        let _ = store.release(lease);
                    }
                    return Err(error);
                }
            }
        }
        Ok(leases)
    }

    /// Gives leases back. Those that cannot be given back expire later and are reported.
    fn release(&self, store: Option<Box<dyn Store>>, leases: Vec<Lease>, report: &mut Report) {
        let Some(mut store) = store else {
            return leases.iter().for_each(|lease| self.not_returned(lease, report));
        };
        for lease in leases {
            match store.release(&lease) {
                Ok(()) => {}
                Err(StoreError::Leased { name, .. }) => {
                    report.store(&StoreError::LeaseLost(name));
                }
                Err(error @ StoreError::LeaseLost(_)) => report.store(&error),
                Err(error) => {
                    report.store(&error);
                    self.not_returned(&lease, report);
                }
            }
        }
    }

    fn not_returned(&self, lease: &Lease, report: &mut Report) {
        let text = format!(
            "{}: the lease could not be given back, so it keeps other machines out for at most {} seconds",
            lease.name,
            self.arguments.lease_time.as_secs()
        );
        report.add(Code::LeaseNotReturned, text);
    }
}

fn excerpt(command: &str) -> String {
    hpkp_core::text::Excerpt::new(command).to_string()
}
