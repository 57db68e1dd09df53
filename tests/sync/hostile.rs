//! Hostile and broken stores, and faults of one part that must not affect the others.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::engine::{Directory, Engine};
use crate::git;
use crate::machine::{Machine, outcome};
use crate::postgres::Postgres;
use crate::{succeed, wait_for};

/// Hooks and commands in the configuration of a repository that other machines mount must not run here.
#[test]
fn a_repository_runs_nothing_on_this_machine() {
    let engine = git::File::start();
    let fleet = Machine::fleet(&engine, 1);
    let traces = tempfile::tempdir().unwrap();
    let store = engine.path();
    let trace = |name: &str| traces.path().join(name).display().to_string();
    for hook in [
        "pre-receive",
        "update",
        "post-receive",
        "post-update",
        "reference-transaction",
        "proc-receive",
        "pre-auto-gc",
    ] {
        let path = store.join("hooks").join(hook);
        hpkp_tests::write_program(&path, format!("#!/bin/sh\necho > {}\n", trace(hook)));
    }
    let other = traces.path().join("other.git");
    succeed("git", &["init", "-q", "--bare", other.to_str().unwrap()]);
    fs::write(store.join("objects/info/alternates"), format!("{}/objects\n", other.display()))
        .unwrap();
    let at = store.to_str().unwrap();
    for (name, value) in [
        ("core.alternateRefsCommand", format!("echo > {} ;:", trace("alternates"))),
        ("core.hooksPath", store.join("hooks").display().to_string()),
        ("core.fsmonitor", format!("echo > {}", trace("fsmonitor"))),
        ("gc.recentObjectsHook", format!("echo > {}", trace("recent"))),
        ("gc.auto", "1".to_owned()),
        ("receive.autogc", "true".to_owned()),
    ] {
        succeed("git", &["-C", at, "config", name, &value]);
    }
    fleet[0].sync().fine();
    fleet[0].sync().fine();
    fleet[0].run(&["--json", "--settle", "1", "--lease", "a.example", "--then", "true"]).fine();
    let ran: Vec<_> = fs::read_dir(traces.path()).unwrap().map(|one| one.unwrap().path()).collect();
    assert_eq!(ran, [other]);
}

/// Machines continue after their store was replaced by another one.
#[test]
fn heartbeats_count_in_a_new_store() {
    let old = Directory::start();
    let mut fleet = Machine::fleet(&old, 2);
    for _ in 0..3 {
        fleet.iter().for_each(|machine| drop(machine.sync().fine()));
    }
    let before = fleet[0].numbers();
    let new = git::File::start();
    fleet.iter_mut().for_each(|machine| machine.url = new.url());
    fleet[0].run(&["--init", "--json"]).fine();
    // Numbers begin with the time; each of the passes above took one, however fast it was.
    std::thread::sleep(Duration::from_secs(5));
    fleet[1].sync().fine();
    fleet[0].sync().fine();
    assert!(fleet[0].numbers()["web-2"] > before["web-2"]);
    // A machine may use both stores, of which one falls behind.
    fleet[0].url = old.url();
    fleet[0].sync().fine();
}

/// Faults in the files of one writer affect only that writer.
#[test]
fn a_bad_file_of_one_writer_does_not_stop_the_others() {
    let engine = Directory::start();
    let mut fleet = Machine::fleet(&engine, 2);
    fleet.iter().for_each(|machine| drop(machine.sync().fine()));
    let store = engine.at.path().join("store");
    for directory in ["records", "heartbeats"] {
        let suffix = if directory == "records" { "jsonl" } else { "json" };
        let path = |name: &str| store.join(directory).join(format!("{name}.{suffix}"));
        std::os::unix::fs::symlink("/etc/passwd", path("a-link")).unwrap();
        succeed("mkfifo", &[path("a-pipe").to_str().unwrap()]);
        fs::create_dir(path("a-directory")).unwrap();
        fs::write(path("a-text"), [0; 70_000]).unwrap();
        fs::File::create(path("a-giant")).unwrap().set_len(1 << 30).unwrap();
        fs::write(store.join(directory).join("..evil.jsonl"), "x").unwrap();
    }
    fleet[1].add(1);
    fleet[1].sync().found("peer-records-damaged");
    fleet[0].sync().found("peer-records-damaged");
    assert_eq!(fleet[0].copy_of("web-2"), fleet[1].records());
    let peers = fs::read_dir(fleet[0].path().join("peers")).unwrap();
    let peers: Vec<_> = peers.map(|one| one.unwrap().file_name()).collect();
    assert_eq!(peers, ["web-2.jsonl"]);
}

/// A server that runs as another user can read the copies, whatever the umask of the sync is.
#[test]
fn copies_can_be_read_by_the_server() {
    let engine = Directory::start();
    let fleet = Machine::fleet(&engine, 2);
    fleet[1].sync().fine();
    let at = fleet[0].path().display().to_string();
    let sync =
        format!("umask 077; exec '{}' -d {at} {}", env!("CARGO_BIN_EXE_hpkp-sync"), engine.url());
    succeed("sh", &["-c", &sync]);
    let mode =
        |name: &str| fs::metadata(fleet[0].path().join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("peers/web-2.jsonl"), mode("hpkp-heard")), (0o644, 0o644));
    let store = engine.at.path().join("store/records/web-1.jsonl");
    assert_eq!(fs::metadata(store).unwrap().permissions().mode() & 0o777, 0o644);
}

/// While a command runs, the timer syncs, and so may the command itself.
#[test]
fn a_command_may_sync() {
    let engine = git::File::start();
    let mut fleet = Machine::fleet(&engine, 2);
    let inner = format!(
        "'{}' -d {} {}",
        env!("CARGO_BIN_EXE_hpkp-sync"),
        fleet[0].path().display(),
        engine.url()
    );
    let started = Instant::now();
    let lease = ["--lease", "www.example.com"];
    let outcome =
        fleet[0].run(&[&["--json", "--settle", "1", "--then", &inner], &lease[..]].concat());
    assert_eq!((outcome.code, outcome.codes().len()), (Some(0), 0), "{outcome:?}");
    assert!(started.elapsed() < Duration::from_secs(20));
    // A long command of one pass does not keep other passes waiting.
    let mut slow = fleet[0]
        .command(&["--then", "sleep 3", "--settle", "1"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    fleet[1].add(1);
    fleet[1].sync().fine();
    wait_for("the copy", || {
        fleet[0].sync().fine();
        fleet[0].copy_of("web-2") == fleet[1].records()
    });
    assert!(slow.wait().unwrap().success());
}

#[test]
fn a_lock_that_is_never_released_ends_the_pass() {
    let engine = Directory::start();
    let mut fleet = Machine::fleet(&engine, 1);
    fleet[0].sync().fine();
    fleet[0].add(1);
    let lock = engine.at.path().join("store/records/.web-1.lock");
    let mut holder =
        Command::new("flock").args([lock.to_str().unwrap(), "sleep", "60"]).spawn().unwrap();
    wait_for("the lock", || {
        !Command::new("flock")
            .args(["-n", lock.to_str().unwrap(), "true"])
            .status()
            .unwrap()
            .success()
    });
    let outcome = fleet[0].run(&["--json", "--timeout", "1"]);
    // The `sleep` that `flock` has started holds the lock too.
    succeed("sh", &["-c", &format!("kill $(ps -o pid= --ppid {})", holder.id())]);
    let _ = holder.kill();
    holder.wait().unwrap();
    outcome.found("store-unavailable");
    assert!(outcome.err.contains("still running"), "{outcome:?}");
}

/// The process ids of a PostgreSQL server.
fn processes(postgres: &Postgres) -> Vec<String> {
    let pid = fs::read_to_string(postgres.directory().join("data/postmaster.pid")).unwrap();
    let pid = pid.lines().next().unwrap().to_owned();
    let children = Command::new("ps").args(["-o", "pid=", "--ppid", &pid]).output().unwrap();
    let children = String::from_utf8(children.stdout).unwrap();
    children.split_whitespace().map(str::to_owned).chain([pid]).collect()
}

/// A server that accepts connections and never answers.
#[test]
fn a_database_that_hangs_is_given_up() {
    let postgres = Postgres::start();
    let fleet = Machine::fleet(&postgres, 1);
    fleet[0].sync().fine();
    let processes = processes(&postgres);
    let signal = |name: &str| {
        let pids: Vec<&str> = processes.iter().map(String::as_str).collect();
        succeed("kill", &[&["-s", name][..], &pids].concat());
    };
    signal("STOP");
    let started = Instant::now();
    let outcome = fleet[0].run(&["--json", "--timeout", "2", "--then", "true"]);
    let elapsed = started.elapsed();
    signal("CONT");
    assert_eq!(
        (outcome.code, outcome.codes()),
        (Some(3), vec!["store-unavailable".to_owned(), "command-not-run".to_owned()]),
        "{outcome:?}"
    );
    assert!(elapsed < Duration::from_secs(10), "{elapsed:?}");
    fleet[0].sync().fine();
}

/// A machine that keeps running connects again after the database was restarted.
#[test]
fn a_database_that_is_restarted_is_connected_to_again() {
    let mut postgres = Postgres::start();
    let mut fleet = Machine::fleet(&postgres, 2);
    let mut waiting = fleet[0]
        .command(&["--watch", "2", "--timeout", "2"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_for("a first pass", || fleet[0].path().join("hpkp-heard").exists());
    std::thread::sleep(Duration::from_millis(700));
    postgres.stop();
    postgres.resume();
    fleet[1].add(1);
    fleet[1].sync().fine();
    wait_for("the copy", || fleet[0].copy_of("web-2") == fleet[1].records());
    // After the restart, notifications arrive again too.
    std::thread::sleep(Duration::from_millis(500));
    fleet[1].add(1);
    fleet[1].sync().fine();
    wait_for("the copy", || fleet[0].copy_of("web-2") == fleet[1].records());
    waiting.kill().unwrap();
    waiting.wait().unwrap();
}

/// A schema that the owner of the database has made is not taken for a store.
#[test]
fn a_database_is_prepared_once() {
    let postgres = Postgres::start();
    postgres.sql("hpkp", "CREATE SCHEMA hpkp");
    let mut machine = Machine::new(&postgres, "web-1");
    machine.add(1);
    machine.sync().found("store-not-initialised");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| machine.run(&["--init", "--json"]).fine());
        }
    });
    machine.sync().fine();
    // Tables of another program.
    postgres.sql(
        "hpkp",
        "DROP SCHEMA hpkp CASCADE; CREATE SCHEMA hpkp; CREATE TABLE hpkp.store (version text); \
                          INSERT INTO hpkp.store VALUES ('x')",
    );
    machine.sync().found("store-unavailable");
}

/// PostgreSQL's own programs do not use such a file either.
#[test]
fn a_password_file_that_others_may_read_is_not_used() {
    let postgres = Postgres::start();
    let mut machine = Machine::new(&postgres, "web-1");
    let file = machine.at.path().join("pgpass");
    fs::write(&file, "*:*:*:*:hunter2\n").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    machine.environment.push(("PGPASSFILE".to_owned(), file.display().to_string()));
    let outcome = machine.run(&["--json"]);
    outcome.found("store-unavailable");
    assert!(outcome.err.contains("chmod 600") && !outcome.err.contains("hunter2"), "{outcome:?}");
}

/// The check would not see records whose copy cannot be written, so no command is run.
#[test]
fn no_command_runs_without_the_copies() {
    let engine = Directory::start();
    let fleet = Machine::fleet(&engine, 2);
    fleet[1].sync().fine();
    fs::create_dir(fleet[0].path().join("peers/web-2.jsonl")).unwrap();
    let file = fleet[0].at.path().join("has-run");
    let outcome = fleet[0].run(&["--json", "--then", &format!("touch {}", file.display())]);
    let codes = outcome.codes();
    assert!(codes.contains(&"peer-records-unwritable".to_owned()), "{outcome:?}");
    assert!(codes.contains(&"command-not-run".to_owned()) && !file.exists(), "{outcome:?}");
}

#[test]
fn a_writer_that_was_ended_is_not_reported() {
    let engine = Directory::start();
    let mut fleet = Machine::fleet(&engine, 2);
    fleet.iter().for_each(|machine| drop(machine.sync().fine()));
    fleet[0].sync().fine();
    for name in ["records/web-2.jsonl", "heartbeats/web-2.json"] {
        fs::remove_file(engine.at.path().join("store").join(name)).unwrap();
    }
    fleet[0].sync().found("peer-records-went-back");
    fleet[0].end("web-2");
    fleet[0].sync().fine();
    assert_ne!(fleet[0].copy_of("web-2"), "");
}

/// A copy that another tool has truncated is repaired, and heartbeats count.
#[test]
fn a_truncated_copy_is_repaired() {
    let engine = Directory::start();
    let mut fleet = Machine::fleet(&engine, 2);
    fleet.iter().for_each(|machine| drop(machine.sync().fine()));
    fleet[0].sync().fine();
    let copy = fleet[0].path().join("peers/web-2.jsonl");
    for text in [format!("{}{{\"v\":1,\"se", fleet[1].records()), "{".to_owned(), String::new()] {
        fs::write(&copy, text).unwrap();
        fleet[1].add(1);
        fleet[1].sync().fine();
        let before = fleet[0].numbers();
        fleet[0].sync().fine();
        assert_eq!(fleet[0].copy_of("web-2"), fleet[1].records());
        assert!(fleet[0].numbers()["web-2"] > before["web-2"]);
        fs::write(&copy, format!("{}{{\"v\"", fleet[1].records())).unwrap();
        fleet[0].sync().fine();
        assert_eq!(fleet[0].copy_of("web-2"), fleet[1].records());
    }
}

#[test]
fn a_damaged_file_of_heartbeats_is_no_fault_of_the_store() {
    let engine = Directory::start();
    let fleet = Machine::fleet(&engine, 2);
    fleet.iter().for_each(|machine| drop(machine.sync().fine()));
    fs::write(fleet[0].path().join("hpkp-heard"), "nonsense").unwrap();
    let outcome = fleet[0].sync();
    outcome.found("heartbeats-unreadable");
    // Its own heartbeat is sent all the same.
    let before = fleet[1].numbers();
    fleet[1].sync().fine();
    assert!(fleet[1].numbers().get("web-1") > before.get("web-1"));
}

/// A lease from a clock that is far ahead is reported, with the clock as its reason.
#[test]
fn a_lease_of_a_wrong_clock_is_reported() {
    let engine = Directory::start();
    let fleet = Machine::fleet(&engine, 1);
    let path = engine.at.path().join("store/leases/a.example.json");
    let run =
        || fleet[0].run(&["--json", "--settle", "1", "--lease", "a.example", "--then", "true"]);
    fs::write(&path, r#"{"holder":"web-9","token":"x","until":4000000000,"term":300}"#).unwrap();
    let outcome = run();
    assert_eq!(outcome.codes(), ["lease-held", "command-not-run"], "{outcome:?}");
    assert!(outcome.err.contains("clock"), "{outcome:?}");
    // If the lease is removed while the command runs, the only finding is that it has expired.
    fs::remove_file(&path).unwrap();
    let then = format!("rm {}", path.display());
    let outcome =
        fleet[0].run(&["--json", "--settle", "1", "--lease", "a.example", "--then", &then]);
    outcome.found("lease-expired");
}

/// A copy of the repository that a crash has damaged is made anew.
#[test]
fn a_damaged_copy_of_the_repository_is_made_anew() {
    let engine = git::File::start();
    let mut fleet = Machine::fleet(&engine, 2);
    fleet.iter().for_each(|machine| drop(machine.sync().fine()));
    fleet[0].sync().fine();
    let cache = fleet[0].at.path().join("cache/hpkp");
    let copy = fs::read_dir(&cache).unwrap().map(|one| one.unwrap().path());
    let copy =
        copy.into_iter().find(|path| path.extension().is_some_and(|end| end == "git")).unwrap();
    let truncate: fn(&Path) = |at| {
        succeed(
            "sh",
            &[
                "-c",
                &format!(
                    "find {0}/objects -type f -exec chmod u+w {{}} + -exec truncate -s 0 {{}} +",
                    at.display()
                ),
            ],
        );
    };
    let damages: [fn(&Path); 4] = [
        truncate,
        |at| fs::remove_dir_all(at.join("refs")).unwrap(),
        |at| fs::write(at.join("HEAD"), "").unwrap(),
        |at| fs::write(at.join("config"), "[").unwrap(),
    ];
    for damage in damages {
        damage(&copy);
        fleet[1].add(1);
        fleet[1].sync().fine();
        fleet[0].add(1);
        // The first pass may fail, because it finds the damage.
        let first = fleet[0].sync();
        assert!([Some(0), Some(3)].contains(&first.code), "{first:?}");
        fleet[0].sync().fine();
        assert_eq!(fleet[0].copy_of("web-2"), fleet[1].records());
    }
}

/// A refused push is reported at once, and not repeated thirty times.
#[test]
fn a_repository_that_refuses_a_push_is_reported() {
    let engine = git::Ssh::start();
    let mut fleet = Machine::fleet(&engine, 1);
    fleet[0].sync().fine();
    let hook = engine.path().join("hooks/pre-receive");
    hpkp_tests::write_program(&hook, "#!/bin/sh\necho 'No space left on device' >&2; exit 1\n");
    fleet[0].add(1);
    let started = Instant::now();
    let outcome = fleet[0].sync();
    outcome.found("store-denied");
    assert!(started.elapsed() < Duration::from_secs(10), "{outcome:?}");
}

/// A persistent connection of ssh does not keep a pass waiting.
#[test]
fn a_persistent_ssh_connection_does_not_delay_a_pass() {
    let engine = git::Ssh::start();
    let mut fleet = Machine::fleet(&engine, 1);
    let socket = fleet[0].at.path().join("mux").display().to_string();
    for (name, value) in &mut fleet[0].environment {
        if name == "GIT_SSH_COMMAND" {
            value.push_str(&format!(
                " -o ControlMaster=auto -o ControlPath={socket} -o ControlPersist=60"
            ));
        }
    }
    let started = Instant::now();
    fleet[0].sync().fine();
    let elapsed = started.elapsed();
    let _ = Command::new("ssh")
        .args(["-O", "exit", "-o", &format!("ControlPath={socket}"), "x"])
        .output();
    assert!(elapsed < Duration::from_secs(30), "{elapsed:?}");
}

/// If ssh fails, git's own message has no reason; that of ssh has one.
#[test]
fn the_message_has_the_reason_of_ssh() {
    let engine = git::Ssh::start();
    let mut fleet = Machine::fleet(&engine, 1);
    for (name, value) in &mut fleet[0].environment {
        if name == "GIT_SSH_COMMAND" {
            value.push_str(" -o GlobalKnownHostsFile=none");
            *value = value.replace("/known ", "/unknown ");
        }
    }
    let outcome = fleet[0].sync();
    outcome.found("store-unavailable");
    assert!(outcome.err.contains("Host key verification failed"), "{outcome:?}");
}

/// No part of a URL becomes an option of `git` or `ssh`; this needs no network.
#[test]
fn no_part_of_a_url_becomes_an_option() {
    let engine = Directory::start();
    let mut machine = Machine::new(&engine, "web-1");
    machine.add(1);
    let trace = machine.at.path().join("trace");
    for url in [
        format!("git+ssh://-oProxyCommand=touch%20{}/x", trace.display()),
        format!("git+ssh://-oProxyCommand=touch$IFS{}@localhost/x", trace.display()),
        "git+ssh://localhost:1/--upload-pack=touch".to_owned(),
        "git+file:///--upload-pack=touch".to_owned(),
        "git+file:///tmp/a%00b".to_owned(),
        "file:///tmp/a%00b".to_owned(),
        "postgres://u@localhost:1/hpkp?options=-c%20x".to_owned(),
    ] {
        machine.url = url;
        let refused = machine.run(&["--timeout", "2", "--json"]);
        assert!([Some(2), Some(3)].contains(&refused.code), "{refused:?}");
    }
    assert!(!trace.exists());
}

/// Servers compact their files while machines sync.
#[test]
fn compacted_records_are_the_same_records() {
    let engine = Directory::start();
    let mut fleet = Machine::fleet(&engine, 2);
    fleet[0].deploy("www.example.com", 1, &[1, 2]);
    fleet[0].deploy("www.example.com", 1, &[1, 2, 3]);
    fleet[0].deploy("www.example.com", 1, &[1, 2, 3]);
    fleet.iter().for_each(|machine| drop(machine.sync().fine()));
    let directory =
        hpkp_server::published::Directory::open(fleet[0].path().to_str().unwrap()).unwrap();
    hpkp_server::published::compact(&directory, &"web-1".parse().unwrap(), false, |events| {
        (0..events.len()).map(|at| at != 1).collect()
    })
    .unwrap();
    fleet[0].sync().fine();
    fleet[0].add(1);
    fleet.iter().for_each(|machine| drop(machine.sync().fine()));
    fleet[0].sync().fine();
    assert!(fleet[1].copy_of("web-1").contains(fleet[0].records().lines().last().unwrap()));
    let image = outcome(
        Command::new(env!("CARGO_BIN_EXE_hpkp-sync"))
            .arg("-d")
            .arg(fleet[1].path())
            .arg(&fleet[1].url),
    );
    assert_eq!(image.code, Some(0), "{image:?}");
}
