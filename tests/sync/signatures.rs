//! Signed records: which ones are copied, and which ones are refused, with the name of their writer.

use std::fs;
use std::process::Command;

use hpkp_core::published::{Body, Compromised, Event};

use crate::engine::{Directory, Engine};
use crate::machine::{Machine, Outcome};
use crate::{git, postgres, succeed};

/// Makes a key for each machine; returns the public keys.
fn keys(fleet: &[Machine]) -> Vec<String> {
    let key = |machine: &Machine| {
        let path = machine.at.path().join("key");
        let path = path.to_str().unwrap();
        succeed("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", path]);
        fs::read_to_string(format!("{path}.pub")).unwrap()
    };
    fleet.iter().map(key).collect()
}

fn know(machine: &Machine, lines: &[(&str, &str)]) {
    let text: String = lines.iter().map(|(writer, key)| format!("{writer} {key}")).collect();
    fs::write(machine.path().join("peers.keys"), text).unwrap();
}

/// A pass with the key of `signer`.
fn signed_by(machine: &Machine, signer: &Machine) -> Outcome {
    let key = signer.at.path().join("key");
    machine.run(&["--json", "--sign-key", key.to_str().unwrap()])
}

fn signed(machine: &Machine) -> Outcome {
    signed_by(machine, machine)
}

#[track_caller]
fn mentions(outcome: &Outcome, writer: &str) {
    assert!(outcome.err.contains(writer), "{outcome:?}");
}

fn only_signed_records_are_copied(engine: &mut dyn Engine) {
    let mut fleet = Machine::fleet(engine, 3);
    let keys = keys(&fleet);
    know(&fleet[0], &[("web-2", &keys[1])]);
    signed(&fleet[1]).fine();
    signed(&fleet[2]).fine();
    // No key of web-3 is known.
    let outcome = signed(&fleet[0]);
    outcome.found("peer-key-unknown");
    mentions(&outcome, "web-3");
    assert_eq!(fleet[0].copy_of("web-2"), fleet[1].records());
    assert_eq!(fleet[0].copy_of("web-3"), "");
    assert_eq!(fleet[0].heard().len(), 1);
    know(&fleet[0], &[("web-2", &keys[1]), ("web-3", &keys[2])]);
    signed(&fleet[0]).fine();
    assert_eq!(fleet[0].copy_of("web-3"), fleet[2].records());
    // A signed heartbeat counts without new records.
    let before = fleet[0].numbers();
    signed(&fleet[1]).fine();
    signed(&fleet[0]).fine();
    assert!(fleet[0].numbers()["web-2"] > before["web-2"]);

    // Records without a signature, and records signed with the key of another machine.
    let (copy, before) = (fleet[0].copy_of("web-2"), fleet[0].numbers());
    fleet[1].add(2);
    fleet[1].sync().fine();
    let outcome = signed(&fleet[0]);
    outcome.found("peer-records-unsigned");
    mentions(&outcome, "web-2");
    signed_by(&fleet[1], &fleet[2]).fine();
    signed(&fleet[0]).found("peer-signature-invalid");
    assert_eq!((fleet[0].copy_of("web-2"), fleet[0].numbers()), (copy, before));
    signed(&fleet[1]).fine();
    signed(&fleet[0]).fine();
    assert_eq!(fleet[0].copy_of("web-2"), fleet[1].records());
    // A heartbeat without a signature does not count.
    let before = fleet[0].numbers();
    fleet[1].sync().fine();
    signed(&fleet[0]).found("peer-records-unsigned");
    assert_eq!(fleet[0].numbers(), before);
    signed(&fleet[1]).fine();
    signed(&fleet[0]).fine();

    // An old state of the store, whose signature was valid.
    engine.back_up();
    fleet[1].add(1);
    signed(&fleet[1]).fine();
    signed(&fleet[0]).fine();
    let (copy, before) = (fleet[0].copy_of("web-2"), fleet[0].numbers());
    engine.restore();
    let outcome = signed(&fleet[0]);
    assert_eq!(outcome.code, Some(3), "{outcome:?}");
    assert!(outcome.codes().contains(&"peer-records-went-back".to_owned()), "{outcome:?}");
    assert_eq!((fleet[0].copy_of("web-2"), fleet[0].numbers()), (copy, before));
    // A machine that does not require signatures gets the records all the same.
    assert_eq!(signed(&fleet[1]).code, Some(0));
    assert_eq!(fleet[2].sync().code, Some(0));
    assert_eq!(fleet[2].copy_of("web-2"), fleet[1].records());
}

#[test]
fn over_a_directory() {
    only_signed_records_are_copied(&mut Directory::start());
}

#[test]
fn over_git() {
    only_signed_records_are_copied(&mut git::File::start());
}

#[test]
fn over_postgres() {
    only_signed_records_are_copied(&mut postgres::Postgres::start());
}

#[test]
#[ignore = "needs s3s-fs: ci/stores"]
fn over_s3() {
    only_signed_records_are_copied(&mut crate::s3::S3::start());
}

/// An attacker who may write into the store forges records.
#[test]
fn forged_records_are_refused() {
    let engine = Directory::start();
    let mut fleet = Machine::fleet(&engine, 2);
    let keys = keys(&fleet);
    know(&fleet[0], &[("web-2", &keys[1])]);
    fleet[1].add(2);
    signed(&fleet[1]).fine();
    let stored = engine.at.path().join("store/records/web-2.jsonl");
    let right = fs::read_to_string(&stored).unwrap();
    let last = Event::from_line(right.lines().last().unwrap().as_bytes()).unwrap();
    let forged = |seq| {
        let pin = [7; hpkp_core::pin::Pin::BYTES];
        let pin = hpkp_core::pin::Pin::from_bytes(pin);
        let body = Body::Compromised(Compromised { pin, why: "forged".to_owned() });
        format!("{}\n", Event::new(last.at(), seq, "web-2".parse().unwrap(), body).line())
    };
    // The last line is replaced, the last one is missing, the first one is missing; then a line is added.
    let lines: Vec<&str> = right.split_inclusive('\n').collect();
    let (most, end) = (lines[..lines.len() - 1].concat(), lines[lines.len() - 1]);
    for text in [format!("{most}{}", forged(last.seq())), most.clone(), lines[1..].concat()] {
        fs::write(&stored, text).unwrap();
        signed(&fleet[0]).found("peer-signature-of-other-records");
        assert_eq!(fleet[0].copy_of("web-2"), "");
    }
    fs::write(&stored, format!("{most}{end}{}", forged(last.seq() + 1))).unwrap();
    let outcome = signed(&fleet[0]);
    outcome.found("peer-records-unsigned");
    mentions(&outcome, "1 of its records are not signed");
    assert_eq!(fleet[0].copy_of("web-2"), right);
    // Each pass reports the forged record until it is removed.
    signed(&fleet[0]).found("peer-records-unsigned");
    fs::write(&stored, &right).unwrap();
    signed(&fleet[0]).fine();
}

/// A machine gets a new key: the others know both for a while, then the new one alone.
#[test]
fn a_key_is_rotated() {
    let engine = Directory::start();
    let mut fleet = Machine::fleet(&engine, 2);
    let old = keys(&fleet).remove(1);
    let path = fleet[1].at.path().join("new").display().to_string();
    succeed("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", &path]);
    let new = fs::read_to_string(format!("{path}.pub")).unwrap();
    let signed_anew = |machine: &Machine| machine.run(&["--json", "--sign-key", &path]).fine();
    know(&fleet[0], &[("web-2", &old)]);
    signed(&fleet[1]).fine();
    signed(&fleet[0]).fine();
    let (copy, before) = (fleet[0].copy_of("web-2"), fleet[0].numbers());
    // The machine signs with the new key before the others know it.
    fleet[1].add(1);
    signed_anew(&fleet[1]);
    signed(&fleet[0]).found("peer-signature-invalid");
    assert_eq!((fleet[0].copy_of("web-2"), fleet[0].numbers()), (copy, before.clone()));
    know(&fleet[0], &[("web-2", &old), ("web-2", &new)]);
    signed(&fleet[0]).fine();
    assert_eq!(fleet[0].copy_of("web-2"), fleet[1].records());
    assert!(fleet[0].numbers()["web-2"] > before["web-2"]);
    // The old key is no longer valid; records that it signed before stay.
    know(&fleet[0], &[("web-2 valid-before=\"20200101Z\"", &old), ("web-2", &new)]);
    signed(&fleet[0]).fine();
    fleet[1].add(1);
    signed(&fleet[1]).fine();
    let copy = fleet[0].copy_of("web-2");
    signed(&fleet[0]).found("peer-signature-invalid");
    assert_eq!(fleet[0].copy_of("web-2"), copy);
    signed_anew(&fleet[1]);
    signed(&fleet[0]).fine();
    assert_eq!(fleet[0].copy_of("web-2"), fleet[1].records());
}

/// Truncated lines, in the file of keys and in the store.
#[test]
fn truncated_keys_and_signed_records_are_refused() {
    let engine = Directory::start();
    let mut fleet = Machine::fleet(&engine, 2);
    let keys = keys(&fleet);
    know(&fleet[0], &[("web-2", &keys[1])]);
    signed(&fleet[1]).fine();
    signed(&fleet[0]).fine();
    fleet[1].add(2);
    signed(&fleet[1]).fine();
    let path = fleet[0].path().join("peers.keys");
    let text = fs::read_to_string(&path).unwrap();
    let copy = fleet[0].copy_of("web-2");
    fs::write(&path, &text[..text.find("AAAA").unwrap() + 50]).unwrap();
    signed(&fleet[0]).found("signature-keys-unusable");
    assert_eq!(fleet[0].copy_of("web-2"), copy);
    fs::write(&path, &text).unwrap();
    // Half of the last record, and half of a record that is not signed.
    let stored = engine.at.path().join("store/records/web-2.jsonl");
    let right = fs::read_to_string(&stored).unwrap();
    fs::write(&stored, &right[..right.len() - 20]).unwrap();
    signed(&fleet[0]).found("peer-signature-of-other-records");
    assert_eq!(fleet[0].copy_of("web-2"), copy);
    fs::write(&stored, format!("{right}{{\"v\":2,\"at\"")).unwrap();
    signed(&fleet[0]).fine();
    assert_eq!(fleet[0].copy_of("web-2"), right);
}

#[test]
fn unusable_keys_are_reported() {
    let engine = Directory::start();
    let fleet = Machine::fleet(&engine, 2);
    keys(&fleet);
    signed(&fleet[1]).fine();
    let unusable = "signature-keys-unusable";
    know(&fleet[0], &[("web-2", "ssh-ed25519 nonsense\n")]);
    signed(&fleet[0]).found(unusable);
    let out = fleet[0].run(&["--json", "--then", "touch never"]);
    assert_eq!(out.code, Some(3), "{out:?}");
    assert_eq!(out.codes(), [unusable, "command-not-run"]);
    assert_eq!(fleet[0].copy_of("web-2"), "");
    fs::remove_file(fleet[0].path().join("peers.keys")).unwrap();
    let missing = fleet[0].at.path().join("nothing");
    fleet[0].run(&["--json", "--sign-key", missing.to_str().unwrap()]).found(unusable);
    fleet[0].sync().fine();
    // The signed text can be verified by hand with `ssh-keygen`.
    let beat = fs::read_to_string(engine.at.path().join("store/heartbeats/web-2.json")).unwrap();
    let beat: serde_json::Value = serde_json::from_str(&beat).unwrap();
    let part = |name: &str| beat["signed"][name].as_str().unwrap().to_owned();
    let lines = [
        "hpkp-records 1".to_owned(),
        "writer web-2".to_owned(),
        format!("number {}", beat["number"]),
        format!("events {}", part("events")),
        format!("sha256 {}", part("sha256")),
    ];
    let text = lines.map(|line| line + "\n").concat();
    let at = fleet[1].at.path();
    fs::write(at.join("text"), text).unwrap();
    fs::write(at.join("sig"), part("signature")).unwrap();
    let public = fs::read_to_string(at.join("key.pub")).unwrap();
    fs::write(at.join("allowed"), format!("web-2 {public}")).unwrap();
    let verified = Command::new("ssh-keygen")
        .args(["-Y", "verify", "-I", "web-2", "-n", "hpkp-records", "-f"])
        .arg(at.join("allowed"))
        .arg("-s")
        .arg(at.join("sig"))
        .stdin(fs::File::open(at.join("text")).unwrap())
        .stdout(std::process::Stdio::null())
        .status();
    assert!(verified.unwrap().success());
}
