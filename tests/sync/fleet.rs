//! A fleet of real servers (nginx and Apache httpd with the modules) whose operators change keys and pins at random,
//! with each kind of store and with clients that remember pins. Syncs are lost, delayed and killed; the store fails
//! and is restored from a backup; a machine is restored from a backup; another machine takes a name that is in use; and
//! `ci/fleet` cuts the network.
//!
//! Requirements: no server locks out a client whose pins its config test could know; a config test never refuses an
//! unchanged configuration; `hpkp check` and the server's config test agree; and each record that was reported as
//! written arrives on every machine.
//!
//! `HPKP_FLEET_SERVERS`, `HPKP_FLEET_SECONDS` and `HPKP_FLEET_SEED` set the number of servers, the duration, and the
//! random seed. With `HPKP_FLEET_NETWORK` each machine is in a network namespace `hpkp-N` of its own, behind the
//! interface `hpkpN`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use hpkp_server::published;
use hpkp_tests::pki::{P256, Pki};
use serde_json::Value;
use tempfile::TempDir;

use crate::engine::Engine;
use crate::web::{Response, Wanted, Web, request};

/// How long clients remember pins, in seconds.
const MAX_AGE: u64 = 6;

/// How long a response of the old configuration may still arrive after a server has recorded a change.
const UNDER_WAY: Duration = Duration::from_secs(2);

/// How much longer a run takes at most if some kind of event has not happened yet.
const PATIENCE: Duration = Duration::from_secs(180);

/// The number of keys.
const KEYS: usize = 8;

/// A pseudo-random number generator: the same numbers for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, count: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % count
    }

    /// Returns true with this probability in percent.
    fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

/// A past, present or future configuration of a server.
#[derive(Clone, Debug)]
struct Version {
    key: usize,
    pins: BTreeSet<usize>,
    /// When the last pass before the config test began: the config test knows the records written before that.
    knew: Instant,
    /// When the first pass ended that wrote the records of this version.
    written: Option<Instant>,
    /// The version that introduced this key, and the one that introduced these pins.
    since: (usize, usize),
}

/// What the test knows of a server.
struct Known {
    /// The versions, indexed by the number in each response.
    versions: Vec<Version>,
    current: usize,
    /// When the last complete pass began.
    synced: Instant,
    /// The records that a pass reported as written.
    acknowledged: BTreeSet<String>,
    /// Whether the file of its writer is an older state now.
    is_restored: bool,
}

/// The numbers of events of each kind.
#[derive(Debug, Default)]
struct Counts {
    requests: AtomicUsize,
    accepted: AtomicUsize,
    refused: AtomicUsize,
    not_run: AtomicUsize,
    unchanged: AtomicUsize,
    compared: AtomicUsize,
    killed: AtomicUsize,
    failed: AtomicUsize,
    excused: AtomicUsize,
    cut: AtomicUsize,
}

impl Counts {
    fn add(one: &AtomicUsize) {
        one.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether every kind of event that the test needs has happened.
    fn has_everything(&self) -> bool {
        let needed = [&self.accepted, &self.refused, &self.requests, &self.compared];
        needed.iter().all(|count| count.load(Ordering::Relaxed) > 0)
    }
}

struct Fleet<'a> {
    at: TempDir,
    webs: Vec<Web>,
    known: Vec<Mutex<Known>>,
    pins: Vec<String>,
    url: String,
    environment: Vec<(String, String)>,
    ends: Instant,
    is_over: AtomicBool,
    /// Wakes all operators, so that they change something at the same moment.
    bell: (Mutex<u64>, Condvar),
    wrong: Mutex<Vec<String>>,
    goal: AtomicUsize,
    counts: &'a Counts,
    network: bool,
}

fn variable(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

pub fn servers_change_at_will(engine: &mut dyn Engine) {
    let servers = variable("HPKP_FLEET_SERVERS", 4) as usize;
    let seconds = variable("HPKP_FLEET_SECONDS", 12);
    let seed = variable("HPKP_FLEET_SEED", u64::from(std::process::id()) << 16 | seconds);
    println!("HPKP_FLEET_SEED={seed} HPKP_FLEET_SERVERS={servers} HPKP_FLEET_SECONDS={seconds}");
    let counts = Counts::default();
    let mut fleet = Fleet::new(engine, servers, &counts);
    fleet.begin(Duration::from_secs(seconds));
    let fleet = fleet;
    thread::scope(|scope| {
        for at in 0..servers {
            let dice =
                Dice(seed.wrapping_add(1 + at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
            let fleet = &fleet;
            scope.spawn(move || fleet.operate(at, dice));
        }
        for at in 0..servers.clamp(2, 8) {
            let dice =
                Dice(seed.wrapping_add(1_000 + at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
            let fleet = &fleet;
            scope.spawn(move || fleet.browse(dice));
        }
        fleet.disturb(engine, Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1));
    });
    fleet.settle();
    println!("{servers} servers, {seconds} s: {counts:?}");
    let wrong = fleet.wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "HPKP_FLEET_SEED={seed}: {}", wrong.join("\n"));
    assert!(counts.has_everything(), "{counts:?}");
}

impl<'a> Fleet<'a> {
    fn new(engine: &dyn Engine, servers: usize, counts: &'a Counts) -> Self {
        let at = tempfile::tempdir().unwrap();
        let pki = Pki::new(at.path());
        let pins = (0..KEYS).map(|key| {
            let name = format!("key-{key}");
            pki.key(&name, P256);
            pki.self_signed(&name, "/CN=www.example.com", &["subjectAltName=DNS:www.example.com"]);
            pki.pin(&format!("{name}.pem"))
        });
        let pins: Vec<String> = pins.collect();
        let now = Instant::now();
        let webs = (0..servers).map(|number| Web::new(at.path(), number)).collect();
        let initial = [0, 1, 2].into();
        let first = Version { key: 0, pins: initial, knew: now, written: None, since: (0, 0) };
        let known = (0..servers).map(|_| {
            Mutex::new(Known {
                versions: vec![first.clone()],
                current: 0,
                synced: now,
                acknowledged: BTreeSet::new(),
                is_restored: false,
            })
        });
        Self {
            known: known.collect(),
            at,
            webs,
            pins,
            url: engine.url(),
            environment: engine.environment(),
            ends: now,
            is_over: AtomicBool::new(false),
            bell: (Mutex::new(0), Condvar::new()),
            wrong: Mutex::new(Vec::new()),
            goal: AtomicUsize::new(1),
            counts,
            network: std::env::var_os("HPKP_FLEET_NETWORK").is_some(),
        }
    }

    /// Starts all servers with the same configuration, and syncs each with all others.
    fn begin(&mut self, time: Duration) {
        for at in 0..self.webs.len() {
            published::init(self.webs[at].records().to_str().unwrap()).unwrap();
            self.configure(at, 0);
        }
        let init = self.sync(0, &["--init"]).output().unwrap();
        assert!(init.status.success(), "{init:?}");
        for at in 0..self.webs.len() {
            self.webs[at].start();
        }
        for _ in 0..2 {
            for at in 0..self.webs.len() {
                let done = self.pass(at, &[], Instant::now(), &mut Dice(1), false);
                assert_eq!(done, Some(Vec::new()));
            }
        }
        self.ends = Instant::now() + time;
    }

    fn configure(&self, at: usize, number: usize) {
        let version = self.known[at].lock().unwrap().versions[number].clone();
        self.webs[at].configure(&Wanted {
            pins: version.pins.iter().map(|pin| self.pins[*pin].as_str()).collect(),
            max_age: MAX_AGE,
            key: self.at.path().join(format!("key-{}", version.key)),
            version: number,
        });
    }

    fn sync(&self, at: usize, arguments: &[&str]) -> Command {
        let program = env!("CARGO_BIN_EXE_hpkp-sync");
        let mut command = if self.network && arguments != ["--init"] {
            let mut command = Command::new("ip");
            command.args(["netns", "exec", &format!("hpkp-{at}"), program]);
            command
        } else {
            Command::new(program)
        };
        command
            .args(["--json", "--timeout", "10", "-d"])
            .arg(self.webs[at].records())
            .args(arguments)
            .arg(&self.url)
            .env("XDG_CACHE_HOME", self.webs[at].path("cache"))
            .env_remove("HPKP_STORE")
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        command
    }

    fn fail(&self, text: String) {
        println!("{text}");
        self.wrong.lock().unwrap().push(text);
    }

    /// Runs a pass, which may be killed. Returns the codes of its findings, if it has ended.
    fn pass(
        &self,
        at: usize,
        arguments: &[&str],
        begun: Instant,
        dice: &mut Dice,
        may_die: bool,
    ) -> Option<Vec<String>> {
        let mut child = self.sync(at, arguments).spawn().unwrap();
        if may_die && dice.percent(10) {
            thread::sleep(Duration::from_millis(dice.below(1_500) as u64));
            if child.try_wait().unwrap().is_none() {
                Counts::add(&self.counts.killed);
            }
            let _ = child.kill();
            child.wait().unwrap();
            return None;
        }
        let output = child.wait_with_output().unwrap();
        let outcome: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let findings = outcome["findings"].as_array()?;
        let mut codes: Vec<String> =
            findings.iter().map(|one| one["code"].as_str().unwrap().to_owned()).collect();
        codes.retain(|code| code != "store-went-back");
        let bad = ["store", "own", "writer", "peer-records"];
        let is_whole = codes.iter().all(|code| !bad.iter().any(|bad| code.starts_with(bad)))
            && !codes.contains(&"command-not-run".to_owned());
        if is_whole {
            self.acknowledge(at, begun);
        } else {
            Counts::add(&self.counts.failed);
        }
        Some(codes)
    }

    /// Notes the records that the program has written according to its memory.
    fn acknowledge(&self, at: usize, begun: Instant) {
        let records = self.webs[at].records();
        let memory = fs::read_dir(&records).unwrap().map(|one| one.unwrap().path()).find(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            name.starts_with("hpkp-sync-") && name != "hpkp-sync-lock"
        });
        let Some(memory) = memory else { return };
        let memory: Value = serde_json::from_slice(&fs::read(memory).unwrap()).unwrap();
        let seq = memory["own"][self.webs[at].writer()]["seq"].as_u64().unwrap_or(0);
        let text = fs::read_to_string(self.webs[at].own()).unwrap();
        let number =
            |line: &str| serde_json::from_str::<Value>(line).unwrap()["seq"].as_u64().unwrap();
        let (there, rest): (Vec<&str>, Vec<&str>) =
            text.lines().partition(|line| number(line) <= seq);
        let mut known = self.known[at].lock().unwrap();
        known.acknowledged.extend(there.into_iter().map(str::to_owned));
        known.synced = begun;
        if rest.is_empty() {
            let current = known.current;
            for version in &mut known.versions[..=current] {
                version.written.get_or_insert_with(Instant::now);
            }
        }
    }

    /// Whether the run continues: until the end or, on a slow machine, until every kind of event has happened.
    fn goes_on(&self) -> bool {
        let now = Instant::now();
        now < self.ends || now < self.ends + PATIENCE && !self.counts.has_everything()
    }

    /// Acts as the operator of a server until the end.
    fn operate(&self, at: usize, mut dice: Dice) {
        let mut heard = 0;
        while self.goes_on() {
            let pause = Duration::from_millis(100 + dice.below(100 * self.webs.len()) as u64);
            let (bell, ring) = (&self.bell.0, &self.bell.1);
            let (rung, _) = ring
                .wait_timeout_while(bell.lock().unwrap(), pause, |rung| *rung == heard)
                .unwrap();
            heard = *rung;
            drop(rung);
            match dice.below(10) {
                0..=1 => drop(self.pass(at, &[], Instant::now(), &mut dice, true)),
                2..=3 => self.deploy_unchanged(at),
                _ => self.change(at, &mut dice),
            }
        }
    }

    fn deploy_unchanged(&self, at: usize) {
        if self.known[at].lock().unwrap().is_restored {
            return;
        }
        Counts::add(&self.counts.unchanged);
        let outcome = self.webs[at].test();
        if outcome.code != Some(0) {
            self.fail(format!("web-{at}: an unchanged configuration is refused: {}", outcome.text));
        }
        self.compare(at);
    }

    /// Checks that `hpkp check` and the server's config test agree. Pins expire and records change meanwhile, so only a
    /// lasting difference is an error.
    fn compare(&self, at: usize) {
        let mut found = String::new();
        for _ in 0..5 {
            let outcome = self.webs[at].test();
            match self.webs[at].disagreement(&outcome) {
                None => return Counts::add(&self.counts.compared),
                Some(text) => found = text,
            }
            thread::sleep(Duration::from_millis(100));
        }
        self.fail(format!("web-{at} ({:?}): {found}", self.webs[at].kind()));
    }

    /// The next key of the rotation. When all servers have it, the one after it.
    fn goal(&self) -> usize {
        let goal = self.goal.load(Ordering::Relaxed);
        let has = |known: &Mutex<Known>| {
            let known = known.lock().unwrap();
            known.versions[known.current].key == goal % KEYS
        };
        if self.known.iter().all(has) {
            let next = goal + 1;
            let _ = self.goal.compare_exchange(goal, next, Ordering::Relaxed, Ordering::Relaxed);
        }
        self.goal.load(Ordering::Relaxed)
    }

    /// A new configuration: one step of the rotation, or a mistake.
    fn wish(&self, now: &Version, dice: &mut Dice) -> (usize, BTreeSet<usize>) {
        let mut pins = now.pins.clone();
        let mut key = now.key;
        let next = self.goal() % KEYS;
        match dice.below(10) {
            // The rotation: publish the next key, use it, and drop the pin of the old one.
            0..=6 if now.key == next => {
                pins = (0..3).map(|later| (next + later) % KEYS).collect();
            }
            0..=6 if pins.contains(&next) => key = next,
            0..=6 => drop(pins.insert(next)),
            // Mistakes of operators.
            7 => drop(pins.insert(dice.below(KEYS))),
            8 => pins = [key, dice.below(KEYS), (key + 1) % KEYS].into(),
            _ => {
                key = dice.below(KEYS);
                pins = [key, dice.below(KEYS), dice.below(KEYS), (key + 1) % KEYS].into();
            }
        }
        (key, pins)
    }

    fn change(&self, at: usize, dice: &mut Dice) {
        // Releases the lock before `wish`, whose `goal` takes it too.
        let now = {
            let known = self.known[at].lock().unwrap();
            known.versions[known.current].clone()
        };
        let (key, pins) = self.wish(&now, dice);
        let (old, number) = {
            let mut known = self.known[at].lock().unwrap();
            let old = known.current;
            if known.is_restored || (key == now.key && pins == now.pins) {
                return;
            }
            let number = known.versions.len();
            let since = (
                if key == now.key { now.since.0 } else { number },
                if pins == now.pins { now.since.1 } else { number },
            );
            let knew = known.synced;
            known.versions.push(Version { key, pins, knew, written: None, since });
            (old, number)
        };
        self.configure(at, number);
        if dice.percent(30) {
            self.compare(at);
        }
        let begun = Instant::now();
        let how = dice.below(10);
        if how == 0 {
            // Reload without a sync, as if the sync were late or lost.
            if self.webs[at].test().code == Some(0) {
                self.webs[at].reload();
            }
        } else {
            self.known[at].lock().unwrap().versions[number].knew = begun;
            let then = self.webs[at].then();
            let lease = ["--lease", "www.example.com", "--lease-time", "60"];
            let lease = if how < 8 { &lease[..] } else { &[] };
            let codes = self.pass(
                at,
                &[&["--settle", "1", "--then", &then], lease].concat(),
                begun,
                dice,
                true,
            );
            if codes.is_some_and(|codes| codes.contains(&"command-not-run".to_owned())) {
                Counts::add(&self.counts.not_run);
            }
        }
        // The command of a killed sync continues.
        self.webs[at].wait_for_orphans();
        let is_new = self.webs[at].serves(number, self.webs[at].has_reloaded());
        if is_new {
            Counts::add(&self.counts.accepted);
            self.known[at].lock().unwrap().current = number;
        } else {
            Counts::add(&self.counts.refused);
            self.configure(at, old);
        }
        // Syncs the records that the server wrote before the test knew that it serves this version.
        if is_new && how != 0 {
            drop(self.pass(at, &[], Instant::now(), dice, true));
        }
    }

    /// Acts as a client: requests random servers and remembers their pins.
    fn browse(&self, mut dice: Dice) {
        let mut held: Option<(Instant, usize, Response)> = None;
        while !self.is_over.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(20));
            let at = dice.below(self.webs.len());
            let Some(response) = request(self.webs[at].port()) else { continue };
            Counts::add(&self.counts.requests);
            let lasts = Duration::from_secs(MAX_AGE) - UNDER_WAY;
            let locked_out = held.as_ref().filter(|(when, _, held)| {
                when.elapsed() < lasts && !held.pins.contains(&response.key)
            });
            match locked_out {
                Some((when, from, before)) => {
                    if self.is_excused((*from, before.version), (at, response.version)) {
                        Counts::add(&self.counts.excused);
                    } else {
                        self.fail(format!(
                            "a client is locked out of web-{at} ({:?}) by the pins of web-{from} ({:?}), {:?} old",
                            self.known[at].lock().unwrap().versions[response.version],
                            self.known[*from].lock().unwrap().versions[before.version],
                            when.elapsed()
                        ));
                    }
                    held = None;
                }
                None if response.pins.contains(&response.key) => {
                    held = Some((Instant::now(), at, response))
                }
                None => {}
            }
        }
    }

    /// Whether a lockout is excused: when each server introduced its pins or its key, it could not know the change of
    /// the other.
    fn is_excused(&self, (from, pins): (usize, usize), (at, key): (usize, usize)) -> bool {
        if from == at {
            return false;
        }
        // An unchanged key or pin set is never refused, so the versions that introduced them are compared.
        let [pins, key] = [(from, pins), (at, key)].map(|(web, number)| {
            let versions = &self.known[web].lock().unwrap().versions;
            let (key, pins) = versions[number].since;
            versions[if web == from { pins } else { key }].clone()
        });
        let knew =
            |one: &Version, other: &Version| other.written.is_some_and(|when| when < one.knew);
        !knew(&pins, &key) && !knew(&key, &pins)
    }

    /// Disturbs the store, machines and the network until the end.
    fn disturb(&self, engine: &mut dyn Engine, mut dice: Dice) {
        // Ends the clients even after a panic.
        let _over = Over(&self.is_over);
        let mut backup: Option<Instant> = None;
        let servers = self.webs.len();
        while self.goes_on() {
            thread::sleep(Duration::from_millis(500 + dice.below(2_000) as u64));
            match dice.below(if self.network { 14 } else { 10 }) {
                0..=4 => {
                    *self.bell.0.lock().unwrap() += 1;
                    self.bell.1.notify_all();
                }
                5 => {
                    engine.stop();
                    thread::sleep(Duration::from_millis(dice.below(1_500) as u64));
                    engine.resume();
                }
                6 | 7 => match backup.take() {
                    Some(when) => {
                        engine.restore();
                        self.went_back(when);
                    }
                    None => {
                        backup = Some(Instant::now());
                        engine.back_up();
                    }
                },
                8 => self.restore_machine(dice.below(servers)),
                9 => self.twin(dice.below(servers)),
                _ => self.cut(dice.below(servers), &mut dice),
            }
        }
    }

    /// Notes that the store has lost all records written since then.
    fn went_back(&self, since: Instant) {
        for known in &self.known {
            for version in &mut known.lock().unwrap().versions {
                version.written = version.written.filter(|when| *when < since);
            }
        }
    }

    /// Restores an earlier state of a machine's own file. The sync must report it. Then puts the newest state back.
    fn restore_machine(&self, at: usize) {
        {
            let mut known = self.known[at].lock().unwrap();
            if known.current != known.versions.len() - 1 {
                return;
            }
            known.is_restored = true;
        }
        let own = self.webs[at].own();
        let newest = fs::read_to_string(&own).unwrap();
        let lines: Vec<&str> = newest.split_inclusive('\n').collect();
        let lock = self.webs[at].records().join("hpkp-sync-lock");
        // Waits until no pass reads the file.
        let is_older = lines.len() > 2
            && Command::new("flock")
                .args(["-w", "5"])
                .arg(&lock)
                .arg("true")
                .status()
                .unwrap()
                .success();
        if is_older {
            fs::write(&own, lines[..lines.len() / 2 + 1].concat()).unwrap();
            let output = self
                .sync(at, &["--then", "touch has-run"])
                .current_dir(self.webs[at].path(""))
                .output();
            let outcome = String::from_utf8(output.unwrap().stdout).unwrap();
            // Keeps what the server has written meanwhile.
            let now = fs::read_to_string(&own).unwrap();
            let rest = now.strip_prefix(&lines[..lines.len() / 2 + 1].concat()).unwrap_or_default();
            fs::write(&own, format!("{newest}{rest}")).unwrap();
            if self.webs[at].path("has-run").exists()
                && self.known[at]
                    .lock()
                    .unwrap()
                    .acknowledged
                    .contains(lines[lines.len() - 1].trim_end())
            {
                self.fail(format!("web-{at}: a command ran with an earlier state: {outcome}"));
            }
            let _ = fs::remove_file(self.webs[at].path("has-run"));
        }
        self.known[at].lock().unwrap().is_restored = false;
    }

    /// Syncs another machine with the writer name of this one, which must write nothing.
    fn twin(&self, at: usize) {
        let directory = tempfile::tempdir().unwrap();
        let records = directory.path().join("records");
        published::init(records.to_str().unwrap()).unwrap();
        let own = records.join(format!("{}.jsonl", self.webs[at].writer()));
        crate::machine::strangers_file(&records, self.webs[at].writer());
        let before = fs::read(&own).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_hpkp-sync"))
            .args(["--json", "--timeout", "10", "-d"])
            .arg(&records)
            .arg(&self.url)
            .env("XDG_CACHE_HOME", directory.path())
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .output()
            .unwrap();
        let outcome: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        if output.status.code() != Some(3) || outcome["written"] != serde_json::json!([]) {
            self.fail(format!("web-{at}: another one writes under its name: {outcome}"));
        }
        assert_eq!(fs::read(&own).unwrap(), before);
    }

    /// Cuts the network of a machine for a while, whatever it is doing.
    fn cut(&self, at: usize, dice: &mut Dice) {
        Counts::add(&self.counts.cut);
        let link = |state: &str| {
            crate::succeed("ip", &["link", "set", &format!("hpkp{at}"), state]);
        };
        link("down");
        thread::sleep(Duration::from_millis(dice.below(3_000) as u64));
        link("up");
    }

    /// After all disturbances: checks that all records arrive.
    fn settle(&self) {
        let mut last = BTreeMap::new();
        for round in 0..6 {
            last.clear();
            for at in 0..self.webs.len() {
                let codes = self.pass(at, &[], Instant::now(), &mut Dice(1), false);
                last.insert(at, codes);
            }
            let is_quiet = |codes: &Option<Vec<String>>| {
                codes.as_ref().is_some_and(|codes| {
                    codes.iter().all(|code| code == "peer-server-pin-mismatch")
                })
            };
            if round > 0 && last.values().all(is_quiet) {
                break;
            }
            if round == 5 {
                self.fail(format!("something is wrong to the end: {last:?}"));
            }
        }
        for (at, known) in self.known.iter().enumerate() {
            self.deploy_unchanged(at);
            let known = known.lock().unwrap();
            for (other, web) in self.webs.iter().enumerate().filter(|(other, _)| *other != at) {
                let copy = web.records().join(format!("peers/{}.jsonl", self.webs[at].writer()));
                let copy = fs::read_to_string(copy).unwrap_or_default();
                let copy: BTreeSet<&str> = copy.lines().collect();
                let lost = known.acknowledged.iter().filter(|line| !copy.contains(line.as_str()));
                if let Some(line) = lost.into_iter().next() {
                    self.fail(format!("web-{other} lacks a record of web-{at}: {line}"));
                }
            }
        }
    }
}

struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Kills a process that the test has started.
pub fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}
