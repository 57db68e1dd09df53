//! The index of the copies: what a server reads with it, and what if the index is old, damaged or missing.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use hpkp_core::check::Concern;
use hpkp_core::published::EventId;
use hpkp_server::published::{self as records, Contents};

use crate::engine::Directory;
use crate::machine::Machine;

/// The records that a server of `host` reads from the copies.
fn read(machine: &Machine, host: &str) -> Contents {
    let mut concern = Concern::none();
    concern.add_name(host, false);
    let mut contents = Contents::default();
    let directory = records::Directory::open(machine.path().to_str().unwrap()).unwrap();
    let errors = directory.read_peers(&mut contents, &HashSet::new(), &concern);
    assert!(errors.is_empty(), "{errors:?}");
    contents
}

fn hosts(contents: &Contents) -> BTreeSet<String> {
    contents.state.published().map(|record| record.body.host.to_string()).collect()
}

/// Asserts that a server, with the index, reads the same records of a host as the command, which reads everything.
fn assert_same(machine: &Machine, host: &str) {
    let listed = read(machine, host);
    let mut all = Contents::default();
    let directory = records::Directory::open(machine.path().to_str().unwrap()).unwrap();
    assert!(directory.read_each(&mut all).is_empty());
    let ids = |contents: &Contents| -> Vec<(EventId, bool)> {
        let of_host = contents.state.published().filter(|record| {
            record.body.host.as_str() == host && record.writer.as_str() != machine.writer
        });
        of_host.map(|record| (record.id, contents.state.end(record.id).is_some())).collect()
    };
    assert_eq!(ids(&listed), ids(&all));
    let peers = |contents: &Contents| -> Vec<(String, u64, Option<i64>)> {
        let writers = contents.state.writers().map(|(name, _)| name.clone());
        let of = |name| {
            (format!("{name}"), contents.state.last_seq(&name), contents.state.newest(&name))
        };
        let mut all: Vec<_> = writers.map(of).collect();
        all.retain(|(name, ..)| *name != machine.writer);
        all
    };
    assert_eq!(peers(&listed), peers(&all));
}

fn index(machine: &Machine) -> PathBuf {
    machine.path().join("hpkp-index")
}

fn copy(machine: &Machine, writer: &str) -> PathBuf {
    machine.path().join(format!("peers/{writer}.jsonl"))
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// Three machines, each with a host of its own and one common host.
fn fleet(engine: &Directory) -> Vec<Machine> {
    let mut fleet = Machine::fleet(engine, 3);
    for (machine, own) in fleet.iter_mut().zip(["a.example", "b.example", "c.example"]) {
        machine.deploy(own, 1, &[1, 2]);
        machine.deploy("all.example", 1, &[1, 2]);
        machine.sync().fine();
    }
    fleet[0].sync().fine();
    fleet
}

#[test]
fn a_server_reads_only_records_of_its_hosts_and_their_parents() {
    let engine = Directory::start();
    let fleet = fleet(&engine);
    let here = &fleet[0];
    assert_eq!(hosts(&read(here, "b.example")), set(&["b.example"]));
    assert_eq!(hosts(&read(here, "www.b.example")), set(&["b.example"]), "what is above");
    assert_eq!(read(here, "all.example").state.published().count(), 2);
    assert_eq!(hosts(&read(here, "other.example")), set(&[]));
    for host in ["b.example", "all.example", "other.example"] {
        assert_same(here, host);
    }
    // Compromised keys concern the servers of all hosts.
    assert!(read(here, "other.example").state.is_compromised(first_compromised()));
}

fn first_compromised() -> hpkp_core::pin::Pin {
    let mut pin = [0; hpkp_core::pin::Pin::BYTES];
    pin[..8].copy_from_slice(&1_u64.to_be_bytes());
    hpkp_core::pin::Pin::from_bytes(pin)
}

#[test]
fn a_changed_copy_is_read_as_a_whole() {
    let engine = Directory::start();
    let mut fleet = fleet(&engine);
    let before = fs::read(index(&fleet[0])).unwrap();
    let path = copy(&fleet[0], "web-2");
    // The file keeps the length and the modification time that the index has.
    let times = fs::metadata(&path).unwrap().modified().unwrap();
    fs::write(&path, fs::read(&path).unwrap()).unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_modified(times).unwrap();
    assert_eq!(hosts(&read(&fleet[0], "other.example")), set(&["b.example", "all.example"]));
    // Another program writes copies too.
    let text = fs::read(fleet[1].own()).unwrap();
    fs::write(copy(&fleet[0], "web-2"), &text).unwrap();
    fleet[2].deploy("b.example", 3, &[3]);
    fs::copy(fleet[2].own(), copy(&fleet[0], "web-3")).unwrap();
    assert_eq!(
        hosts(&read(&fleet[0], "b.example")),
        set(&["a.example", "b.example", "c.example", "all.example"])
            .into_iter()
            .filter(|host| host != "a.example")
            .collect()
    );
    assert_same(&fleet[0], "b.example");
    assert_eq!(
        hosts(&read(&fleet[0], "other.example")),
        set(&["b.example", "c.example", "all.example"])
    );
    // The next pass adds the changed copies to the index.
    fleet[0].sync();
    assert_ne!(fs::read(index(&fleet[0])).unwrap(), before);
    assert_eq!(hosts(&read(&fleet[0], "b.example")), set(&["b.example"]));
    assert_same(&fleet[0], "b.example");
    // A copy that has vanished is not used, although the index lists it.
    fs::remove_file(copy(&fleet[0], "web-3")).unwrap();
    assert_same(&fleet[0], "b.example");
}

#[test]
fn a_changed_index_is_reported_and_not_used() {
    let engine = Directory::start();
    let fleet = fleet(&engine);
    let here = &fleet[0];
    let right = fs::read_to_string(index(here)).unwrap();
    let without = right
        .lines()
        .filter(|line| !line.starts_with("[\"b.example\""))
        .map(|line| format!("{line}\n"));
    let other: [(String, &str); 6] = [
        (without.collect(), "its content was changed"),
        (right[..right.len() / 2].to_owned(), "incomplete"),
        (String::new(), "incomplete"),
        (right.replacen("{\"v\":1}", "{\"v\":9}", 1), "version 9"),
        (right.replacen("b.example", "x.example", 1), "its content was changed"),
        (format!("{right}{right}"), "its content was changed"),
    ];
    for (text, why) in other {
        fs::write(index(here), text).unwrap();
        let contents = read(here, "b.example");
        let unusable = &contents.unusable_indexes;
        assert!(unusable.len() == 1 && unusable[0].1.contains(why), "{why}: {unusable:?}");
        assert_same(here, "b.example");
        // No part of a changed index is used.
        assert_eq!(hosts(&contents).len(), 3);
    }
    let mode = |mode| {
        fs::set_permissions(index(here), std::os::unix::fs::PermissionsExt::from_mode(mode))
            .unwrap()
    };
    fs::write(index(here), &right).unwrap();
    mode(0o666);
    assert!(read(here, "b.example").unusable_indexes[0].1.contains("other users can write"));
    // The next pass writes the index again.
    fs::remove_file(index(here)).unwrap();
    assert!(read(here, "b.example").unusable_indexes.is_empty());
    assert_same(here, "b.example");
    here.sync().fine();
    assert_eq!(fs::read_to_string(index(here)).unwrap(), right);
}

#[test]
fn a_damaged_copy_has_no_section() {
    let engine = Directory::start();
    let fleet = fleet(&engine);
    let here = &fleet[0];
    // rsync has brought one damaged copy, which the store does not have; the other one is repaired from the store.
    fs::write(copy(here, "web-9"), "{\"torn").unwrap();
    let mut file = fs::File::options().append(true).open(copy(here, "web-2")).unwrap();
    file.write_all(b"{\"torn").unwrap();
    assert_eq!(read(here, "other.example").torn.len(), 2);
    here.sync();
    let contents = read(here, "other.example");
    assert!(matches!(&contents.torn[..], [(path, _)] if path.contains("web-9")), "{contents:?}");
    let index = fs::read_to_string(index(here)).unwrap();
    assert!(index.contains("\"web-2\"") && !index.contains("\"web-9\""), "{index}");
}

#[test]
fn an_unwritable_index_is_reported() {
    let engine = Directory::start();
    let fleet = fleet(&engine);
    let here = &fleet[0];
    fs::remove_file(index(here)).unwrap();
    fs::create_dir(index(here)).unwrap();
    here.sync().found("peer-records-unwritable");
    assert_same(here, "b.example");
    assert_eq!(read(here, "b.example").unusable_indexes.len(), 1);
}

#[test]
fn a_killed_pass_leaves_a_valid_or_unused_index() {
    let engine = Directory::start();
    let mut fleet = fleet(&engine);
    for round in 0..25_u64 {
        fleet[1].deploy("b.example", 1, &[u8::try_from(round).unwrap(), 2]);
        fleet[1].sync();
        let mut child = fleet[0].start();
        std::thread::sleep(Duration::from_millis(2 * round));
        let _ = child.kill();
        child.wait().unwrap();
        assert_same(&fleet[0], "b.example");
        assert!(read(&fleet[0], "b.example").unusable_indexes.is_empty());
    }
    fleet[0].sync();
    assert_same(&fleet[0], "b.example");
}
