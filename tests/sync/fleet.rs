//! A fleet of real servers (nginx and Apache httpd with the modules) whose operators change keys and pins at will, over
//! each store, with clients that remember pins. Syncs are lost, delayed and killed, the store goes down and is restored
//! from a backup, a machine is restored from a backup, another one takes a name that is taken, and with `ci/fleet` the
//! network is cut.
//!
//! What must hold: no client is locked out by a server whose test could know of the pins; an unchanged
//! configuration is never refused; `hpkp check` agrees with the server's own test; and each record that was
//! reported as written arrives everywhere.
//!
//! `HPKP_FLEET_SERVERS`, `HPKP_FLEET_SECONDS` and `HPKP_FLEET_SEED` set how many, for how long, and what happens. With
//! `HPKP_FLEET_NETWORK` each machine is in a network namespace `hpkp-N` of its own, behind the interface `hpkpN`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use hpkp_server::published;
use hpkp_tests::pki::{P256, Pki};
use hpkp_tests::random::Random;
use serde_json::Value;
use tempfile::TempDir;

use crate::engine::Engine;
use crate::web::{Observation, Wanted, Web, observe};

/// How long clients remember pins, in seconds.
const MAX_AGE: u64 = 6;

/// A response may be under way while a server writes that it has changed.
const UNDER_WAY: Duration = Duration::from_secs(2);

/// How much longer a fleet runs if some needed event has not happened yet.
const PATIENCE: Duration = Duration::from_secs(180);

/// The number of keys.
const KEYS: usize = 8;

/// A configuration that a server has, had, or is to have.
#[derive(Clone, Debug)]
struct Version {
    key: usize,
    pins: BTreeSet<usize>,
    /// When the pass began whose records the config test of this version knew.
    knew: Instant,
    /// When a pass ended that has written the records of this version.
    written: Option<Instant>,
    /// The version since which the server has this key, and the one since which it has these pins.
    since: (usize, usize),
}

/// The test's knowledge of a server.
struct Known {
    /// All versions; the index is the number in the server's responses.
    versions: Vec<Version>,
    current: usize,
    /// When its last complete pass began.
    synced: Instant,
    /// The records that a pass reported as written.
    acknowledged: BTreeSet<String>,
    /// Whether its own file is replaced by an older state now.
    is_restored: bool,
}

/// How often each event happened.
#[derive(Debug, Default)]
struct Counts {
    visits: AtomicUsize,
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

    /// Whether each event has happened without which a run proves nothing.
    fn has_everything(&self) -> bool {
        let needed = [&self.accepted, &self.refused, &self.visits, &self.compared];
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
    /// Rings when all are to change something at the same moment.
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
            let random = Random::new(seed.wrapping_add(1 + at as u64));
            let fleet = &fleet;
            scope.spawn(move || fleet.operate(at, random));
        }
        for at in 0..servers.clamp(2, 8) {
            let random = Random::new(seed.wrapping_add(1_000 + at as u64));
            let fleet = &fleet;
            scope.spawn(move || fleet.browse(random));
        }
        fleet.disturb(engine, Random::new(seed));
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

    /// Starts all servers with the same configuration, and syncs until each has the records of the others.
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
                let done = self.passed(at, &[], Instant::now(), &mut Random::new(1), false);
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

    fn complain(&self, text: String) {
        println!("{text}");
        self.wrong.lock().unwrap().push(text);
    }

    /// Runs a pass, which may be killed. Returns the codes of its findings, if it came to an end.
    fn passed(
        &self,
        at: usize,
        arguments: &[&str],
        begun: Instant,
        random: &mut Random,
        may_die: bool,
    ) -> Option<Vec<String>> {
        let mut child = self.sync(at, arguments).spawn().unwrap();
        if may_die && random.chance(10) {
            thread::sleep(Duration::from_millis(random.below(1_500) as u64));
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

    /// Notes the records that, by its own memory, the program has written to the store.
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

    /// Whether the run continues: until its end, and on a busy machine until each needed event has happened.
    fn goes_on(&self) -> bool {
        let now = Instant::now();
        now < self.ends || now < self.ends + PATIENCE && !self.counts.has_everything()
    }

    /// What the operator of a server does until the end.
    fn operate(&self, at: usize, mut random: Random) {
        let mut heard = 0;
        while self.goes_on() {
            let pause = Duration::from_millis(100 + random.below(100 * self.webs.len()) as u64);
            let (bell, ring) = (&self.bell.0, &self.bell.1);
            let (rung, _) = ring
                .wait_timeout_while(bell.lock().unwrap(), pause, |rung| *rung == heard)
                .unwrap();
            heard = *rung;
            drop(rung);
            match random.below(10) {
                0..=1 => drop(self.passed(at, &[], Instant::now(), &mut random, true)),
                2..=3 => self.deploy_unchanged(at),
                _ => self.change(at, &mut random),
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
            self.complain(format!(
                "web-{at}: an unchanged configuration is refused: {}",
                outcome.text
            ));
        }
        self.compare(at);
    }

    /// Complains if `hpkp check` and the server's own test disagree about the present configuration. Pins expire and
    /// records change meanwhile, so only a disagreement that stays counts.
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
        self.complain(format!("web-{at} ({:?}): {found}", self.webs[at].kind()));
    }

    /// The key that all servers are to have next; when all have it, the key after it.
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

    /// A new key and new pins: mostly one step of a rotation, sometimes a mistake.
    fn wish(&self, now: &Version, random: &mut Random) -> (usize, BTreeSet<usize>) {
        let mut pins = now.pins.clone();
        let mut key = now.key;
        let next = self.goal() % KEYS;
        match random.below(10) {
            // The rotation: the next key is published, used, and the old one forgotten.
            0..=6 if now.key == next => {
                pins = (0..3).map(|later| (next + later) % KEYS).collect();
            }
            0..=6 if pins.contains(&next) => key = next,
            0..=6 => drop(pins.insert(next)),
            // Mistakes.
            7 => drop(pins.insert(random.below(KEYS))),
            8 => pins = [key, random.below(KEYS), (key + 1) % KEYS].into(),
            _ => {
                key = random.below(KEYS);
                pins = [key, random.below(KEYS), random.below(KEYS), (key + 1) % KEYS].into();
            }
        }
        (key, pins)
    }

    fn change(&self, at: usize, random: &mut Random) {
        // A copy, because `wish` takes the lock again.
        let now = {
            let known = self.known[at].lock().unwrap();
            known.versions[known.current].clone()
        };
        let (key, pins) = self.wish(&now, random);
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
        if random.chance(30) {
            self.compare(at);
        }
        let begun = Instant::now();
        let how = random.below(10);
        if how == 0 {
            // The server is reloaded without a pass: the pass is late, or lost.
            if self.webs[at].test().code == Some(0) {
                self.webs[at].reload();
            }
        } else {
            self.known[at].lock().unwrap().versions[number].knew = begun;
            let then = self.webs[at].then();
            let lease = ["--lease", "www.example.com", "--lease-time", "60"];
            let lease = if how < 8 { &lease[..] } else { &[] };
            let codes = self.passed(
                at,
                &[&["--settle", "1", "--then", &then], lease].concat(),
                begun,
                random,
                true,
            );
            if codes.is_some_and(|codes| codes.contains(&"command-not-run".to_owned())) {
                Counts::add(&self.counts.not_run);
            }
        }
        // A command whose parent was killed runs on.
        self.webs[at].wait_for_orphans();
        let is_new = self.webs[at].serves(number, self.webs[at].has_reloaded());
        if is_new {
            Counts::add(&self.counts.accepted);
            self.known[at].lock().unwrap().current = number;
        } else {
            Counts::add(&self.counts.refused);
            self.configure(at, old);
        }
        // The pass above ended before this version was the current one, so another pass marks it as written.
        if is_new && how != 0 {
            drop(self.passed(at, &[], Instant::now(), random, true));
        }
    }

    /// What a client does: it visits one server after another.
    fn browse(&self, mut random: Random) {
        let mut held: Option<(Instant, usize, Observation)> = None;
        while !self.is_over.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(20));
            let at = random.below(self.webs.len());
            let Some(observed) = observe(self.webs[at].port()) else { continue };
            Counts::add(&self.counts.visits);
            let lasts = Duration::from_secs(MAX_AGE) - UNDER_WAY;
            let locked_out = held.as_ref().filter(|(when, _, held)| {
                when.elapsed() < lasts && !held.pins.contains(&observed.key)
            });
            match locked_out {
                Some((when, from, before)) => {
                    if self.is_excused((*from, before.version), (at, observed.version)) {
                        Counts::add(&self.counts.excused);
                    } else {
                        self.complain(format!(
                            "a client is locked out of web-{at} ({:?}) by the pins of web-{from} ({:?}), {:?} old",
                            self.known[at].lock().unwrap().versions[observed.version],
                            self.known[*from].lock().unwrap().versions[before.version],
                            when.elapsed()
                        ));
                    }
                    held = None;
                }
                None if observed.pins.contains(&observed.key) => {
                    held = Some((Instant::now(), at, observed))
                }
                None => {}
            }
        }
    }

    /// Whether neither of two servers could know of the other's configuration when it took these pins, or this key.
    fn is_excused(&self, (from, pins): (usize, usize), (at, key): (usize, usize)) -> bool {
        if from == at {
            return false;
        }
        // An unchanged key or set of pins is never refused, so the change that introduced it counts.
        let [pins, key] = [(from, pins), (at, key)].map(|(web, number)| {
            let versions = &self.known[web].lock().unwrap().versions;
            let (key, pins) = versions[number].since;
            versions[if web == from { pins } else { key }].clone()
        });
        let knew =
            |one: &Version, other: &Version| other.written.is_some_and(|when| when < one.knew);
        !knew(&pins, &key) && !knew(&key, &pins)
    }

    /// Disturbs the store, the machines and the network until the end.
    fn disturb(&self, engine: &mut dyn Engine, mut random: Random) {
        // Ends the clients even if something panics.
        let _over = Over(&self.is_over);
        let mut backup: Option<Instant> = None;
        let servers = self.webs.len();
        while self.goes_on() {
            thread::sleep(Duration::from_millis(500 + random.below(2_000) as u64));
            match random.below(if self.network { 14 } else { 10 }) {
                0..=4 => {
                    *self.bell.0.lock().unwrap() += 1;
                    self.bell.1.notify_all();
                }
                5 => {
                    engine.stop();
                    thread::sleep(Duration::from_millis(random.below(1_500) as u64));
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
                8 => self.restore_machine(random.below(servers)),
                9 => self.twin(random.below(servers)),
                _ => self.cut(random.below(servers), &mut random),
            }
        }
    }

    /// The store has lost what was written since then.
    fn went_back(&self, since: Instant) {
        for known in &self.known {
            for version in &mut known.lock().unwrap().versions {
                version.written = version.written.filter(|when| *when < since);
            }
        }
    }

    /// Restores an earlier state of a machine's own file, which a pass must notice, and then the newest state.
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
        // Not while a pass reads it.
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
            // Records that the server has written meanwhile are kept.
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
                self.complain(format!("web-{at}: a command ran with an earlier state: {outcome}"));
            }
            let _ = fs::remove_file(self.webs[at].path("has-run"));
        }
        self.known[at].lock().unwrap().is_restored = false;
    }

    /// Another machine syncs with the name of this one, and must not write.
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
            self.complain(format!("web-{at}: another one writes under its name: {outcome}"));
        }
        assert_eq!(fs::read(&own).unwrap(), before);
    }

    /// Cuts the network of a machine for a while, whatever it is doing.
    fn cut(&self, at: usize, random: &mut Random) {
        Counts::add(&self.counts.cut);
        let link = |state: &str| {
            crate::succeed("ip", &["link", "set", &format!("hpkp{at}"), state]);
        };
        link("down");
        thread::sleep(Duration::from_millis(random.below(3_000) as u64));
        link("up");
    }

    /// After all disturbances, every record must arrive everywhere.
    fn settle(&self) {
        let mut last = BTreeMap::new();
        for round in 0..6 {
            last.clear();
            for at in 0..self.webs.len() {
                let codes = self.passed(at, &[], Instant::now(), &mut Random::new(1), false);
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
                self.complain(format!("something is wrong to the end: {last:?}"));
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
                    self.complain(format!("web-{other} lacks a record of web-{at}: {line}"));
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

/// Kills a child and waits for its end.
pub fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}
