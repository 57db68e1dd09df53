//! Years of one server: renewals, rotations, mistakes, accidents; and the clients that visit meanwhile.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Output};

use hpkp_core::date;
use hpkp_core::pin::Pin;
use hpkp_tests::instance::Reload;
use hpkp_tests::{free_port, output};

use crate::clients::{
    Agent, HOST, Observation, Wget2, app_accepts, observe, pins_of, script_accepts,
};
use crate::issuer::{Issuer, Pair};
use crate::memory::Memory;
use crate::server::{Policy, Server};
use hpkp_tests::clock::{Clock, DAY};
use hpkp_tests::random::Random;

/// The length of a run, and the pace of its renewals.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Days of the whole run.
    pub whole: i64,
    /// Days between two renewals.
    pub interval: i64,
    /// Days for which a certificate is valid.
    pub validity: i64,
    /// The max-ages of which each published set has one, in days.
    pub max_ages: [i64; 3],
    /// Of a hundred renewals, how many begin a planned rotation.
    pub rotations: usize,
}

/// How a renewal gets into the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Test and reload.
    Reload,
    /// `hpkp install`, as the client's deploy hook.
    Install,
    /// The files are put in place, and a signal is sent without a test.
    Bare,
    /// The files are put in place, and the machine is rebooted.
    Reboot,
    /// The files are put in place, and the server is killed and started.
    Crash,
}

/// The state of a planned rotation.
#[derive(Clone, Copy, Debug)]
enum Rotation {
    None,
    /// The pin of the next key is published.
    Published(Pin),
}

/// A copy of the records, and what clients held when it was made.
struct Backup {
    directory: String,
    memory: Memory,
    ids: BTreeMap<usize, Vec<String>>,
}

pub struct Story<S> {
    server: S,
    port: u16,
    clock: Clock,
    issuer: Issuer,
    random: Random,
    pace: Pace,
    memory: Memory,
    policy: Policy,
    /// The key in use; the next field is the backup key.
    current: Pin,
    backup_key: Pin,
    rotation: Rotation,
    /// The pair that the server must present.
    good: Pair,
    /// Whether the pair on the disk would lock a client out.
    is_broken: bool,
    /// The ids of the records of each release.
    ids: BTreeMap<usize, Vec<String>>,
    backups: Vec<Backup>,
    /// The agent that visits each time; those of `seldom` visit now and then.
    faithful: Agent,
    seldom: Vec<Agent>,
    wget2: Wget2,
    counts: BTreeMap<String, usize>,
    diary: Vec<String>,
}

impl<S: Server> Story<S> {
    pub fn new(seed: u64, pace: Pace) -> Self {
        let mut server = S::with_records();
        let clock = Clock::new(&server.path(""));
        for (name, value) in clock.environment() {
            server.set_environment(name, &value);
        }
        // The log has findings about refused and kept pairs, and httpd's AH00098 about the PID file that a killed
        // parent left.
        server.expect_in_log(&["hpkp: [", "AH00098"]);
        let mut random = Random::new(seed);
        let mut issuer = Issuer::new(clock.now(), 2 + pace.whole / 365);
        fs::write(server.path("root.pem"), issuer.root().to_pem().expect("PEM")).expect("a file");
        for directory in ["tls", "kept"] {
            fs::create_dir(server.path(directory)).expect("a directory");
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
            fs::set_permissions(server.path(directory), mode).expect("a mode");
        }
        let (current, backup_key) = (issuer.key(), issuer.key());
        let good = issuer.issue(HOST, current, 0, clock.now(), pace.validity);
        let max_age = *random.one_of(&pace.max_ages);
        Self {
            server,
            port: free_port(),
            clock,
            issuer,
            random,
            pace,
            memory: Memory::default(),
            policy: Policy { pins: vec![current, backup_key], max_age },
            current,
            backup_key,
            rotation: Rotation::None,
            good,
            is_broken: false,
            ids: BTreeMap::new(),
            backups: Vec::new(),
            faithful: Agent::new(),
            seldom: (0..8).map(|_| Agent::new()).collect(),
            wget2: Wget2::default(),
            counts: BTreeMap::new(),
            diary: vec![format!("seed {seed}, {pace:?}")],
        }
    }

    /// Runs the whole story; returns how often each event happened.
    pub fn run(mut self) -> BTreeMap<String, usize> {
        let end = self.clock.now() + self.pace.whole * DAY;
        let good = self.good.clone();
        self.put_on_disk(&good);
        self.server.configure_years(self.port, &self.policy, &[]);
        self.release();
        self.server.up();
        self.published();
        self.visit();
        while self.clock.now() < end {
            self.pass_time();
            self.step();
            self.accident();
            self.visit();
        }
        self.server.down();
        self.counts
    }

    /// From one renewal to the next, with visits in between.
    fn pass_time(&mut self) {
        let hours = 24 * self.pace.interval / 2;
        for _ in 0..2 {
            let jitter = self.random.below(2 * 12) as i64 - 12;
            // Up to 12 hours more or less, but not more than an eighth of a short interval.
            let jitter = jitter.clamp(-hours / 8, hours / 8);
            self.clock.advance((hours + jitter) * 3600);
            self.visit();
        }
    }

    fn step(&mut self) {
        let before = self.good.serial;
        self.choose_step();
        // A certificate with a short validity does not last until the next renewal.
        let is_short = self.pace.validity < 3 * self.pace.interval;
        if is_short && self.good.serial == before {
            self.renew("renewal once more");
        }
    }

    fn choose_step(&mut self) {
        if self.is_broken {
            self.renew("repair");
        }
        match self.rotation {
            Rotation::None => match self.random.below(100) {
                chance if chance < self.pace.rotations => self.publish_next(),
                chance if chance < self.pace.rotations + 2 => self.change_to_backup(),
                chance if chance < 30 => self.renew_with_new_key(),
                _ => self.renew("renewal"),
            },
            Rotation::Published(next) => {
                let path = self.pair(next).path;
                let of_headers = Memory { releases: Vec::new(), ..self.memory.clone() };
                if of_headers.accepts(&path, self.clock.now()) {
                    self.change_to_next(next);
                } else if self.random.chance(25) {
                    self.change_too_early(next);
                } else {
                    self.renew("renewal while waiting");
                }
            }
        }
        if self.is_broken && self.random.chance(50) {
            self.renew("repair");
        }
    }

    fn pair(&mut self, leaf: Pin) -> Pair {
        let by = self.random.below(2);
        self.issuer.issue(HOST, leaf, by, self.clock.now(), self.pace.validity)
    }

    fn way(&mut self, is_policy_changed: bool) -> Way {
        match self.random.below(100) {
            0..45 => Way::Reload,
            45..60 if !is_policy_changed => Way::Install,
            45..72 => Way::Bare,
            72..87 => Way::Reboot,
            _ => Way::Crash,
        }
    }

    fn renew(&mut self, what: &str) {
        let pair = self.pair(self.current);
        let (way, policy) = (self.way(false), self.policy.clone());
        self.deploy(what, &pair, policy, way);
    }

    /// Most ACME clients do this by default.
    fn renew_with_new_key(&mut self) {
        let key = self.issuer.key();
        let pair = self.pair(key);
        let (way, policy) = (self.way(false), self.policy.clone());
        self.deploy("renewal with a new key", &pair, policy, way);
    }

    fn new_policy(&mut self, pins: Vec<Pin>) -> Policy {
        Policy { pins, max_age: *self.random.one_of(&self.pace.max_ages) }
    }

    fn publish_next(&mut self) {
        let next = self.issuer.key();
        let policy = self.new_policy(vec![self.current, next, self.backup_key]);
        let (pair, way) = (self.pair(self.current), self.way(true));
        self.deploy("next pin published", &pair, policy, way);
        self.release();
        self.rotation = Rotation::Published(next);
    }

    fn change_too_early(&mut self, next: Pin) {
        let pair = self.pair(next);
        let (way, policy) = (self.way(false), self.policy.clone());
        self.deploy("change too early", &pair, policy, way);
    }

    fn change_to_next(&mut self, next: Pin) {
        self.withdraw_old_releases();
        let pins = match self.random.chance(50) {
            true => vec![next, self.backup_key],
            false => self.policy.pins.clone(),
        };
        let policy = match pins == self.policy.pins {
            true => self.policy.clone(),
            false => self.new_policy(pins),
        };
        self.current = next;
        let (pair, way) = (self.pair(next), self.way(true));
        self.deploy("change to the next key", &pair, policy, way);
        self.rotation = Rotation::None;
        self.release();
    }

    /// The key is lost: the backup key replaces it, and a new key becomes the backup. If clients do not hold the pin
    /// of the backup key yet, the present key is renewed instead.
    fn change_to_backup(&mut self) {
        let path = self.pair(self.backup_key).path;
        if !self.memory.accepts(&path, self.clock.now()) {
            return self.renew("renewal");
        }
        let lost = self.current;
        (self.current, self.backup_key) = (self.backup_key, self.issuer.key());
        let policy = self.new_policy(vec![self.current, lost, self.backup_key]);
        let (pair, way) = (self.pair(self.current), self.way(true));
        self.deploy("change to the backup key", &pair, policy, way);
        self.release();
    }

    /// Deploys a certificate and a policy, and compares the server's decision with the pins that clients
    /// hold.
    fn deploy(&mut self, what: &str, pair: &Pair, policy: Policy, way: Way) {
        let now = self.clock.now();
        let is_safe = self.memory.accepts(&pair.path, now)
            && pair.path.iter().any(|key| policy.pins.contains(key));
        self.note(&format!("{what} by {way:?}, safe: {is_safe}, serial {}", pair.serial));
        *self
            .counts
            .entry(format!("{what}, {}", if is_safe { "safe" } else { "not" }))
            .or_default() += 1;
        *self.counts.entry(format!("{way:?}")).or_default() += 1;
        self.server.configure_years(self.port, &policy, &[]);
        if way == Way::Install {
            self.install(pair, is_safe);
        } else {
            self.put_on_disk(pair);
            self.is_broken = !is_safe;
        }
        match way {
            Way::Install => {}
            Way::Reload => match (self.server.reload_tested(), is_safe) {
                (Reload::Accepted, true) | (Reload::Refused(_), false) => {}
                (Reload::Accepted, false) => self.fail("a lock-out was let through"),
                (Reload::Refused(why), true) => {
                    self.fail(&format!("what is safe was refused:\n{why}"))
                }
            },
            Way::Bare => self.server.bare_signal(&mut self.random),
            Way::Reboot => {
                self.server.down();
                self.server.up();
            }
            Way::Crash => {
                self.server.crash(self.port);
                self.server.up();
            }
        }
        if is_safe {
            self.good = pair.clone();
            self.policy = policy;
            self.published();
        }
        self.visit();
    }

    /// The header of the policy is sent from now on.
    fn published(&mut self) {
        let Policy { pins, max_age } = &self.policy;
        self.memory.publish(pins, max_age * DAY, self.clock.now());
    }

    /// Replaces each file by a rename, as ACME clients do.
    fn put_on_disk(&self, pair: &Pair) {
        for (name, bytes) in [("site.pem", &pair.certificates), ("site.key", &pair.key)] {
            let new = self.server.path("tls").join("new");
            fs::write(&new, bytes).expect("a file");
            fs::rename(new, self.server.path("tls").join(name)).expect("a file put in place");
        }
    }

    fn install(&mut self, pair: &Pair, is_safe: bool) {
        let new = self.server.path("new");
        fs::create_dir_all(&new).expect("a directory");
        fs::write(new.join("fullchain.pem"), &pair.certificates).expect("a file");
        fs::write(new.join("privkey.pem"), &pair.key).expect("a file");
        let (test, reload) = (self.line("-t"), self.line(S::RELOAD));
        let served = format!("{HOST}:{}", self.port);
        let outcome = self.hpkp(&[
            "install",
            "--from",
            "new",
            "--to",
            "tls",
            "-d",
            "records",
            "--trusted-certificate",
            "root.pem",
            "--test",
            &test,
            "--reload",
            &reload,
            "--served",
            &served,
            "--timeout",
            "120",
        ]);
        let expected = if is_safe { Some(0) } else { Some(1) };
        if outcome.status.code() != expected {
            self.fail(&format!(
                "hpkp install ended with {:?}:\n{}",
                outcome.status.code(),
                text(&outcome)
            ));
        }
        self.is_broken &= !is_safe;
    }

    /// A line for `sh -c` with the server's command.
    fn line(&self, arguments: &str) -> String {
        let command = self.server.server_command();
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let words: Vec<String> =
            words.map(|word| format!("'{}'", word.to_str().expect("UTF-8"))).collect();
        format!("{} {arguments}", words.join(" "))
    }

    /// Runs `hpkp` with the clock of the test.
    fn hpkp(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hpkp"));
        command.current_dir(self.server.path("")).env_remove("HPKP_CHECK");
        command.envs(self.clock.environment());
        output(command.args(arguments))
    }

    fn succeeds(&self, arguments: &[&str]) -> String {
        let outcome = self.hpkp(arguments);
        if !outcome.status.success() {
            self.fail(&format!("{arguments:?}: {}", text(&outcome)));
        }
        String::from_utf8_lossy(&outcome.stdout).into_owned()
    }

    /// `hpkp published` with the records of the server.
    fn records(&self, arguments: &[&str]) -> String {
        self.succeeds(&[&["published", "-d", "records"], arguments].concat())
    }

    /// A new release of the app and the script, with the pins of the policy.
    fn release(&mut self) {
        let pins = self.policy.pins.clone();
        let number = self.memory.release(&pins);
        self.record_release(number);
        self.note(&format!("release {number}"));
    }

    fn record_release(&mut self, number: usize) {
        let pins = &self.memory.releases[number - 1].pins;
        let pins: Vec<String> = pins.iter().map(|pin| format!("sha256/{pin}")).collect();
        let ids = [("app", "chain"), ("script", "leaf")].map(|(client, scope)| {
            let origin = format!("{client} {number}");
            let mut arguments = vec!["add", HOST, "--origin", &origin];
            arguments.extend(["--scope", scope, "--writer", "apps"]);
            arguments.extend(pins.iter().flat_map(|pin| ["--pin", pin.as_str()]));
            let outcome = self.records(&arguments);
            outcome.split_whitespace().next().expect("an id").to_owned()
        });
        self.ids.insert(number, ids.to_vec());
    }

    fn withdraw_old_releases(&mut self) {
        let last = self.memory.releases.len();
        for number in 1..last {
            if !self.memory.releases[number - 1].withdrawn {
                self.record_withdrawn(number);
                self.memory.releases[number - 1].withdrawn = true;
                self.note(&format!("release {number} withdrawn"));
            }
        }
    }

    fn record_withdrawn(&self, number: usize) {
        for id in &self.ids[&number] {
            self.records(&["end", id, "--why", "withdrawn", "--record-as", "apps"]);
        }
    }

    /// An unplanned event.
    fn accident(&mut self) {
        match self.random.below(100) {
            0..10 => self.back_up(),
            10..16 => self.restore(),
            16..20 => {
                self.note("reboot");
                self.server.down();
                self.clock.advance(3600);
                self.server.up();
            }
            20..24 => {
                self.note("crash");
                self.server.crash(self.port);
                self.server.up();
            }
            24..28 => {
                self.note("signal");
                self.server.bare_signal(&mut self.random);
            }
            28..32 => self.server.reopen(),
            _ => return,
        }
        self.visit();
    }

    fn copy_records(&self, from: &str, to: &str) {
        let mut copy = Command::new("cp");
        copy.arg("-a").arg(self.server.path(from)).arg(self.server.path(to));
        assert!(output(&mut copy).status.success());
    }

    fn back_up(&mut self) {
        let directory = format!("backup-{}", self.diary.len());
        self.copy_records("records", &directory);
        self.note(&directory);
        let (memory, ids) = (self.memory.clone(), self.ids.clone());
        self.backups.push(Backup { directory, memory, ids });
        if self.backups.len() > 3 {
            let oldest = self.backups.remove(0);
            fs::remove_dir_all(self.server.path(&oldest.directory)).expect("removed");
        }
    }

    /// Follows docs/how-to/restore.md: restore the copy, add the pins that were published after it, test, reload.
    fn restore(&mut self) {
        if self.backups.is_empty() || self.is_broken {
            return;
        }
        let backup = self.random.below(self.backups.len());
        // Copies that are newer than the restored one are no copies of the records any more.
        self.backups.truncate(backup + 1);
        let Backup { directory, memory: then, ids } = self.backups.pop().expect("a backup");
        self.note(&format!("restore {directory}"));
        *self.counts.entry("restore".to_owned()).or_default() += 1;
        fs::remove_dir_all(self.server.path("records")).expect("removed");
        self.copy_records(&directory, "records");
        let now = self.clock.now();
        let since = then.published.len();
        let newer: Vec<_> = self.memory.published.iter().skip(since).cloned().collect();
        for set in newer {
            let Some(until) = set.replaced.filter(|_| set.is_held(now)) else { continue };
            let mut header: String =
                set.pins.iter().map(|pin| format!("pin-sha256=\"{pin}\"; ")).collect();
            header.push_str(&format!("max-age={}", set.max_age));
            self.records(&[
                "add",
                HOST,
                "--header",
                &header,
                "--since",
                &date::format(set.since),
                "--until",
                &date::format(until),
                "--writer",
                "apps",
            ]);
        }
        self.ids.retain(|number, _| !ids.contains_key(number));
        self.ids.extend(ids);
        for number in 1..=self.memory.releases.len() {
            let release = self.memory.releases[number - 1].clone();
            let before = then.releases.get(number - 1);
            match (before.map(|one| one.withdrawn), release.withdrawn) {
                (Some(false), true) => self.record_withdrawn(number),
                (None, false) => self.record_release(number),
                _ => {}
            }
        }
        self.end_replaced_header(&then);
        match self.server.reload_tested() {
            Reload::Accepted => {}
            Reload::Refused(why) => self.fail(&format!("refused after a restore:\n{why}")),
        }
    }

    /// In the restored records the header of that day is still sent, so its end is recorded again.
    fn end_replaced_header(&self, then: &Memory) {
        let last = then.published.len() - 1;
        let Some(replaced) = self.memory.published[last].replaced else { return };
        let list = self.records(&["list"]);
        for line in list.lines().filter(|line| line.contains("published now")) {
            let (id, at) = (line.split_whitespace().next().expect("an id"), date::format(replaced));
            self.records(&[
                "end",
                id,
                "--at",
                &at,
                "--why",
                "replaced before the restore",
                "--record-as",
                "apps",
            ]);
        }
    }

    /// The clients of this day visit. None of them may be locked out, and the server must send the pins.
    fn visit(&mut self) {
        let now = self.clock.now();
        let observed = match observe(self.port, self.issuer.root(), now) {
            Ok(observed) => observed,
            Err(error) => self.fail(&format!("no client gets in: {error}")),
        };
        if observed.serial != self.good.serial {
            let Pair { serial, .. } = self.good;
            self.fail(&format!("presents the certificate {}, not {serial}", observed.serial));
        }
        if (observed.date - now).abs() > 600 {
            self.fail(&format!("the clock of the server shows {}", date::format(observed.date)));
        }
        let pins = self.policy.pins.iter().copied().collect();
        if observed.fields.len() != 1 || pins_of(&observed.fields[0]) != pins {
            self.fail(&format!("{} fields, or other pins", observed.fields.len()));
        }
        self.check_clients(&observed, now);
        *self.counts.entry("visits".to_owned()).or_default() += 1;
    }

    fn check_clients(&mut self, observed: &Observation, now: i64) {
        if !self.faithful.visit(observed, now) {
            self.fail("the faithful user agent is locked out");
        }
        if !self.wget2.visit(observed, now) {
            self.fail("wget2 is locked out");
        }
        for number in 0..self.seldom.len() {
            if self.random.chance(6) && !self.seldom[number].visit(observed, now) {
                self.fail(&format!("the user agent {number}, which comes seldom, is locked out"));
            }
        }
        for release in self.memory.releases.iter().filter(|release| !release.withdrawn) {
            if !app_accepts(&release.pins, observed) || !script_accepts(&release.pins, observed) {
                self.fail(&format!("release {} is locked out", release.number));
            }
        }
    }

    fn note(&mut self, what: &str) {
        self.diary.push(format!("{} {what}", date::format(self.clock.now())));
    }

    fn fail(&self, what: &str) -> ! {
        let recent = self.diary.len().saturating_sub(40);
        let log = self.server.log();
        let lines: Vec<&str> = log.lines().collect();
        let lines = lines[lines.len().saturating_sub(40)..].join("\n");
        panic!(
            "{}\n{}\n{what}, at {}\nthe log:\n{lines}",
            self.diary[0],
            self.diary[recent.max(1)..].join("\n"),
            date::format(self.clock.now())
        )
    }
}

fn text(outcome: &Output) -> String {
    let both = [outcome.stdout.as_slice(), &outcome.stderr].concat();
    String::from_utf8_lossy(&both).into_owned()
}
