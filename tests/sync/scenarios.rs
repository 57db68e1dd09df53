//! The scenarios that run over each store.

use std::process::Stdio;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use hpkp_tests::clock::{Clock, DAY};

use crate::engine::Engine;
use crate::machine::{Machine, Outcome};

/// Fails unless each machine has the newest records of all.
#[track_caller]
fn assert_complete(fleet: &[Machine]) {
    for one in fleet {
        for other in fleet.iter().filter(|other| other.writer != one.writer) {
            assert_eq!(
                one.copy_of(&other.writer),
                other.records(),
                "{} of {}",
                one.writer,
                other.writer
            );
        }
    }
}

pub fn records_arrive_and_heartbeats_count(engine: &mut dyn Engine) {
    let mut fleet = Machine::fleet(engine, 3);
    for machine in &fleet {
        machine.sync().fine();
    }
    let first = fleet[0].sync().fine();
    assert_eq!(first["received"].as_array().unwrap().len(), 2, "{first}");
    let second = fleet[1].sync().fine();
    assert_eq!(second["received"][0]["writer"], "web-3", "{second}");
    assert_complete(&fleet);

    // A second pass has nothing to copy, but heartbeats continue.
    let before = fleet[0].heard();
    assert_eq!(before.len(), 2);
    thread::sleep(Duration::from_millis(1_100));
    let quiet = fleet[0].sync().fine();
    assert_eq!(
        (quiet["received"].clone(), quiet["written"].clone()),
        (serde_json::json!([]), serde_json::json!([]))
    );
    let after = fleet[0].heard();
    for (writer, heard) in &before {
        let number = after[writer].number;
        // web-2 has synced since; web-3 has not, so its age grows.
        let is_newer = writer.as_str() == "web-2";
        assert_eq!(number > heard.number, is_newer, "{writer}: {heard:?} {after:?}");
        assert_eq!(after[writer].at > heard.at, is_newer, "{writer}");
    }

    // New records arrive as they were written.
    fleet[1].add(3);
    assert_eq!(fleet[1].sync().fine()["written"][0]["records"], 3);
    assert_eq!(fleet[2].sync().fine()["received"][0]["records"], 3);
    fleet[0].sync().fine();
    assert_complete(&fleet);

    // A removed copy is fetched again, and so is everything if the program's memory is lost.
    std::fs::remove_file(fleet[0].path().join("peers/web-2.jsonl")).unwrap();
    fleet[0].sync().fine();
    assert_complete(&fleet);
    for entry in std::fs::read_dir(fleet[0].path()).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_str().unwrap().starts_with("hpkp-sync-") {
            std::fs::remove_file(path).unwrap();
        }
    }
    fleet[0].add(1);
    fleet[0].sync().fine();
    fleet.iter().for_each(|machine| drop(machine.sync().fine()));
    assert_complete(&fleet);
}

pub fn a_second_server_with_a_taken_name_writes_nothing(engine: &mut dyn Engine) {
    let mut fleet = Machine::fleet(engine, 2);
    fleet[0].sync().fine();
    let mut twin = Machine::new(engine, "web-1");
    twin.add(5);
    twin.sync().found("writer-name-taken");
    twin.sync().found("writer-name-taken");
    assert_eq!(twin.copy_of("web-1"), "");
    fleet[0].add(1);
    fleet.iter().for_each(|machine| drop(machine.sync().fine()));
    fleet[0].sync().fine();
    assert_complete(&fleet);
    assert!(!fleet[1].heard().is_empty());

    // A clone, made from the image of a machine: both continue the same file.
    let image = std::fs::read(fleet[0].own()).unwrap();
    let clone = Machine::new(engine, "web-1");
    std::fs::write(clone.own(), image).unwrap();
    clone.sync().fine();
    fleet[0].add(1);
    fleet[0].sync().fine();
    clone.sync().found("own-records-older");
}

pub fn a_machine_restored_from_a_backup_runs_no_command(engine: &mut dyn Engine) {
    let mut fleet = Machine::fleet(engine, 2);
    let early = fleet[0].records();
    fleet[0].add(2);
    let late = fleet[0].records();
    fleet.iter().for_each(|machine| drop(machine.sync().fine()));
    std::fs::write(fleet[0].own(), &early).unwrap();
    fleet[0].sync().found("own-records-older");
    // The pins that were published since are not known here, so the command is not run.
    let file = fleet[0].at.path().join("has-run");
    let outcome = fleet[0].run(&["--json", "--then", &format!("touch {}", file.display())]);
    assert_eq!(outcome.codes(), ["own-records-older", "command-not-run"], "{outcome:?}");
    assert!(!file.exists());
    // No record is lost, and those of other machines still arrive.
    fleet[1].add(1);
    fleet[1].sync().fine();
    assert_eq!(fleet[1].copy_of("web-1"), late);
    fleet[0].sync().found("own-records-older");
    assert_eq!(fleet[0].copy_of("web-2"), fleet[1].records());
    // With the newest state the machine can sync again.
    std::fs::write(fleet[0].own(), &late).unwrap();
    fleet[0].sync().fine();
    // A missing file is an error, and not a machine without records.
    std::fs::remove_file(fleet[0].own()).unwrap();
    fleet[0].sync().found("own-records-older");
    assert_eq!(fleet[0].copy_of("web-1"), "");
}

pub fn a_store_restored_from_a_backup_gets_all_records_again(engine: &mut dyn Engine) {
    let mut fleet = Machine::fleet(engine, 2);
    fleet.iter().for_each(|machine| drop(machine.sync().fine()));
    engine.back_up();
    fleet[0].add(2);
    fleet[0].sync().fine();
    fleet[1].sync().fine();
    assert_complete(&fleet[..]);
    let (copy, heard) = (fleet[1].copy_of("web-1"), fleet[1].numbers());
    engine.restore();
    // The copy stays, and the old heartbeat is not taken for a new one.
    fleet[1].sync().found("peer-records-went-back");
    fleet[1].sync().found("peer-records-went-back");
    assert_eq!(fleet[1].copy_of("web-1"), copy);
    assert_eq!(fleet[1].numbers(), heard);
    // The writer's next pass writes the lost records again, and reports that.
    let outcome = fleet[0].sync();
    assert_eq!(
        (outcome.code, outcome.codes()),
        (Some(0), vec!["store-went-back".to_owned()]),
        "{outcome:?}"
    );
    fleet[1].sync().fine();
    fleet[0].sync().fine();
    assert_complete(&fleet);
    assert!(fleet[1].numbers()["web-1"] > heard["web-1"]);
}

pub fn damaged_lines_are_reported_and_not_copied(engine: &mut dyn Engine) {
    let mut fleet = Machine::fleet(engine, 3);
    fleet.iter().for_each(|machine| drop(machine.sync().fine()));
    fleet.iter().for_each(|machine| drop(machine.sync().fine()));
    let copy = fleet[1].copy_of("web-1");
    engine.damage("web-1");
    fleet[2].add(1);
    fleet[2].sync().found("peer-records-damaged");
    let outcome = fleet[1].sync();
    outcome.found("peer-records-damaged");
    assert!(
        outcome.out.contains("\"writer\":\"web-1\"") && outcome.err.contains("web-1"),
        "{outcome:?}"
    );
    assert_eq!(fleet[1].copy_of("web-1"), copy);
    // Valid records of other writers arrive all the same.
    assert_eq!(fleet[1].copy_of("web-3"), fleet[2].records());
    fleet[0].sync().found("writer-name-taken");
}

pub fn a_store_that_is_down_runs_no_command(engine: &mut dyn Engine) {
    let mut fleet = Machine::fleet(engine, 2);
    fleet.iter().for_each(|machine| drop(machine.sync().fine()));
    fleet[0].sync().fine();
    let (copy, heard) = (fleet[0].copy_of("web-2"), fleet[0].heard());
    engine.stop();
    fleet[0].add(1);
    let outcome = fleet[0].sync();
    assert_eq!(outcome.code, Some(3), "{outcome:?}");
    assert!(
        ["store-unavailable", "store-not-initialised"].contains(&outcome.codes()[0].as_str()),
        "{outcome:?}"
    );
    assert!(!outcome.err.contains("os error"), "{outcome:?}");
    let file = fleet[0].at.path().join("has-run");
    for lease in [&[][..], &["--lease", "www.example.com"]] {
        let touch = format!("touch {}", file.display());
        let then = [&["--json", "--then", &touch], lease].concat();
        let outcome = fleet[0].run(&then);
        assert_eq!(
            (outcome.code, outcome.codes()[1].as_str()),
            (Some(3), "command-not-run"),
            "{outcome:?}"
        );
    }
    assert!(!file.exists());
    // The last good copy stays, and its age grows.
    assert_eq!((fleet[0].copy_of("web-2"), fleet[0].heard()), (copy, heard));
    engine.resume();
    fleet.iter().for_each(|machine| drop(machine.sync().fine()));
    assert_complete(&fleet);
}

/// The store fails while a command runs: the operator learns that the command has run, and that no other machine
/// knows of its change.
pub fn a_store_that_goes_down_during_a_command_is_reported(engine: &mut dyn Engine) {
    let mut fleet = Machine::fleet(engine, 2);
    fleet.iter().for_each(|machine| drop(machine.sync().fine()));
    fleet[0].sync().fine();
    let at = fleet[0].at.path().display().to_string();
    let then = format!(
        "touch {at}/begun; for _ in $(seq 300); do [ -e {at}/go ] && break; sleep 0.1; done"
    );
    let lease = ["--json", "--timeout", "3", "--settle", "1", "--lease", "www.example.com"];
    let changed = [&lease[..], &["--lease-time", "20", "--then", &then]].concat();
    let begun = std::time::Instant::now();
    let outcome = thread::scope(|scope| {
        let running = scope.spawn(|| fleet[0].run(&changed));
        crate::wait_for("the command", || fleet[0].at.path().join("begun").exists());
        engine.stop();
        std::fs::write(fleet[0].at.path().join("go"), "").unwrap();
        running.join().unwrap()
    });
    let codes = outcome.codes();
    let down = ["store-unavailable", "store-not-initialised", "store-denied"];
    assert_eq!(outcome.code, Some(3), "{outcome:?}");
    assert!(down.contains(&codes[0].as_str()), "{outcome:?}");
    for code in ["change-not-written", "lease-not-returned"] {
        assert!(codes.iter().any(|one| one == code), "{outcome:?}");
    }
    assert!(
        outcome.err.contains("for at most 20 seconds") && outcome.out.contains("\"command\":0"),
        "{outcome:?}"
    );
    engine.resume();
    // The change arrives with the next pass, and the lease expires.
    fleet[0].add(1);
    fleet[0].sync().fine();
    fleet[1].sync().fine();
    assert_complete(&fleet);
    let next = [&lease[..], &["--then", "true"]].concat();
    if begun.elapsed() < Duration::from_secs(15) {
        assert_eq!(fleet[1].run(&next).codes(), ["lease-held", "command-not-run"]);
    }
    thread::sleep(Duration::from_millis(20_500).saturating_sub(begun.elapsed()));
    fleet[1].run(&next).fine();
}

/// The holder of a lease is killed: the lease keeps other machines out until it expires, and not longer.
pub fn the_lease_of_a_killed_machine_expires(engine: &mut dyn Engine) {
    let fleet = Machine::fleet(engine, 2);
    let at = fleet[0].at.path().display().to_string();
    let then = format!("touch {at}/begun; sleep 60 & echo $! > {at}/pid; wait");
    let lease = ["--json", "--settle", "1", "--lease", "www.example.com"];
    let held = [&lease[..], &["--lease-time", "15", "--then", &then]].concat();
    let mut holder =
        fleet[0].command(&held).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let begun = std::time::Instant::now();
    crate::wait_for("the command", || fleet[0].at.path().join("pid").exists());
    holder.kill().unwrap();
    holder.wait().unwrap();
    // The command that it has started runs on, so the test ends it.
    let pid = std::fs::read_to_string(fleet[0].at.path().join("pid")).unwrap();
    crate::succeed("kill", &[pid.trim()]);
    let next = [&lease[..], &["--then", "true"]].concat();
    let outcome = fleet[1].run(&next);
    if begun.elapsed() < Duration::from_secs(15) {
        assert_eq!(outcome.codes(), ["lease-held", "command-not-run"], "{outcome:?}");
        assert!(outcome.err.contains(" has the lease, for at most "), "{outcome:?}");
    }
    thread::sleep(Duration::from_millis(15_500).saturating_sub(begun.elapsed()));
    fleet[1].run(&next).fine();
}

pub fn a_killed_sync_loses_no_record(engine: &mut dyn Engine) {
    let mut fleet = Machine::fleet(engine, 2);
    fleet.iter().for_each(|machine| drop(machine.sync().fine()));
    for round in 0..24 {
        let machine = &mut fleet[round % 2];
        machine.add(50);
        let mut child = machine.start();
        thread::sleep(Duration::from_millis(round as u64 * 7 % 97));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    for machine in fleet.iter().chain(&fleet) {
        machine.sync().fine();
    }
    assert_complete(&fleet);
    let peers = std::fs::read_dir(fleet[0].path().join("peers")).unwrap().count();
    assert_eq!(peers, 1);
}

pub fn concurrent_syncs_lose_no_record(engine: &mut dyn Engine) {
    let mut fleet = Machine::fleet(engine, 6);
    for _ in 0..2 {
        fleet.iter_mut().for_each(|machine| machine.add(2));
        thread::scope(|scope| {
            for machine in &fleet {
                // The timer and a hook of one machine may also sync at once.
                scope.spawn(|| machine.sync().fine());
                scope.spawn(|| machine.sync().fine());
            }
        });
    }
    fleet.iter().for_each(|machine| drop(machine.sync().fine()));
    assert_complete(&fleet);
    assert_eq!(fleet[0].heard().len(), 5);
}

pub fn of_two_concurrent_syncs_one_gets_the_records_of_the_other(engine: &mut dyn Engine) {
    let mut fleet = Machine::fleet(engine, 2);
    fleet.iter().for_each(|machine| drop(machine.sync().fine()));
    for _ in 0..5 {
        fleet.iter_mut().for_each(|machine| machine.add(1));
        let barrier = Barrier::new(2);
        thread::scope(|scope| {
            for machine in &fleet {
                scope.spawn(|| {
                    barrier.wait();
                    machine.sync().fine()
                });
            }
        });
        let sees = |one: usize, other: usize| {
            fleet[one].copy_of(&fleet[other].writer) == fleet[other].records()
        };
        assert!(sees(0, 1) || sees(1, 0));
    }
}

pub fn only_one_machine_has_a_lease(engine: &mut dyn Engine) {
    let fleet = Machine::fleet(engine, 4);
    let shared = tempfile::tempdir().unwrap();
    let shared = shared.path().display();
    // `mkdir` fails if two commands run at once.
    let then = format!(
        "mkdir {shared}/in || exit 9; sleep 0.2; echo x >> {shared}/done; rmdir {shared}/in"
    );
    thread::scope(|scope| {
        for machine in &fleet {
            scope.spawn(|| {
                for _ in 0..200 {
                    let outcome = machine.run(&[
                        "--json",
                        "--settle",
                        "1",
                        "--lease",
                        "www.example.com",
                        "--lease",
                        "b.example.com",
                        "--then",
                        &then,
                    ]);
                    match outcome.code {
                        Some(0) => return,
                        Some(3) => {
                            assert_eq!(
                                outcome.codes(),
                                ["lease-held", "command-not-run"],
                                "{outcome:?}"
                            )
                        }
                        _ => panic!("{outcome:?}"),
                    }
                    thread::sleep(Duration::from_millis(50));
                }
                panic!("never had the lease");
            });
        }
    });
    assert_eq!(std::fs::read_to_string(format!("{shared}/done")).unwrap(), "x\n".repeat(4));
}

pub fn a_lease_expires(engine: &mut dyn Engine) {
    let fleet = Machine::fleet(engine, 2);
    let with = |then: &str, time: &str, machine: &Machine| {
        machine.run(&[
            "--json",
            "--lease",
            "www.example.com",
            "--lease-time",
            time,
            "--settle",
            "1",
            "--then",
            then,
        ])
    };
    let at = fleet[0].at.path().display().to_string();
    // The loop has an end, in case the test fails meanwhile.
    let wait = format!(
        "touch {at}/begun; for _ in $(seq 300); do [ -e {at}/go ] && break; sleep 0.1; done"
    );
    thread::scope(|scope| {
        let slow = scope.spawn(|| with(&wait, "15", &fleet[0]));
        crate::wait_for("the command", || fleet[0].at.path().join("begun").exists());
        let begun = std::time::Instant::now();
        let refused = with("true", "15", &fleet[1]);
        assert_eq!(refused.codes(), ["lease-held", "command-not-run"], "{refused:?}");
        thread::sleep(Duration::from_millis(15_500).saturating_sub(begun.elapsed()));
        with("true", "60", &fleet[1]).fine();
        std::fs::write(fleet[0].at.path().join("go"), "").unwrap();
        let slow: Outcome = slow.join().unwrap();
        assert_eq!(slow.code, Some(3), "{slow:?}");
        assert!(slow.codes().contains(&"lease-expired".to_owned()), "{slow:?}");
    });
    // A command that fails gives the lease back.
    let failed = with("exit 7", "60", &fleet[0]);
    assert_eq!(
        (failed.code, failed.codes()),
        (Some(1), vec!["command-failed".to_owned()]),
        "{failed:?}"
    );
    with("true", "60", &fleet[1]).fine();
}

/// Two servers that make conflicting changes at the same moment learn of the conflict at the next pass.
pub fn conflicting_changes_are_reported_at_the_next_sync(engine: &mut dyn Engine) {
    let mut fleet = Machine::fleet(engine, 2);
    fleet[0].deploy("www.example.com", 1, &[1, 9]);
    fleet[0].sync().fine();
    fleet[1].deploy("www.example.com", 2, &[2, 9]);
    let outcome = fleet[1].sync();
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert_eq!(outcome.codes(), ["peer-server-pin-mismatch"; 2], "{outcome:?}");
    assert!(
        outcome.err.contains("web-1") && outcome.err.contains("www.example.com"),
        "{outcome:?}"
    );
    let outcome = fleet[0].sync();
    assert_eq!((outcome.code, outcome.codes().len()), (Some(1), 2), "{outcome:?}");
    // Keys whose pins both servers publish cause no finding.
    let other = crate::engine::Directory::start();
    let mut fleet = Machine::fleet(&other, 2);
    fleet[0].deploy("www.example.com", 1, &[1, 2]);
    fleet[0].sync().fine();
    fleet[1].deploy("www.example.com", 2, &[1, 2]);
    fleet[1].sync().fine();
    fleet[0].sync().fine();
}

pub fn a_clock_that_is_behind_is_reported(engine: &mut dyn Engine) {
    let mut fleet = Machine::fleet(engine, 2);
    let real = fleet[1].environment.clone();
    for (ahead, is_reported) in
        [(40 * DAY, false), (-DAY / 2, false), (-40 * DAY, true), (0, false)]
    {
        fleet.iter().for_each(|machine| drop(machine.sync().fine()));
        let clock = Clock::ahead(fleet[1].at.path(), ahead);
        fleet[1]
            .environment
            .extend(clock.environment().into_iter().map(|(name, value)| (name.to_owned(), value)));
        fleet[1].add(1);
        fleet[1].sync().fine();
        fleet[1].environment.clone_from(&real);
        let outcome = fleet[0].sync();
        match is_reported {
            true => outcome.found("peer-clock-behind"),
            false => drop(outcome.fine()),
        }
        assert_eq!(fleet[0].copy_of("web-2"), fleet[1].records());
    }
}
