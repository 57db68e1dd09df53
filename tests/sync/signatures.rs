//! Signed records: which are copied, and which are refused with a finding.

use std::fs;
use std::process::Command;

use hpkp_core::published::{Body, Compromised, Event};

use crate::engine::{Directory, Engine};
use crate::machine::{Machine, Outcome};
use crate::{git, postgres, succeed};

/// Gives each machine a key. Returns the public keys.
fn keys(fleet: &[Machine]) -> Vec<String> {
    let key = |machine: &Machine| {
        let path = machine.at.path().join("key");
        let path = path.to_str().unwrap();
        succeed("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", path]);
        fs::read_to_string(format!("{path}.pub")).unwrap()
    };
    fleet.iter().map(key).collect()
}

/// Writes the file of allowed keys of a machine.
fn allow(machine: &Machine, lines: &[(&str, &str)]) {
    let text: String = lines.iter().map(|(writer, key)| format!("{writer} {key}")).collect();
    fs::write(machine.path().join("peers.keys"), text).unwrap();
}

/// Runs a pass of a machine that signs with the key of `signer`.
fn signed_by(machine: &Machine, signer: &Machine) -> Outcome {
    let key = signer.at.path().join("key");
    machine.run(&["--json", "--sign-key", key.to_str().unwrap()])
}

fn signed(machine: &Machine) -> Outcome {
    signed_by(machine, machine)
}

#[track_caller]
fn assert_stderr_has(outcome: &Outcome, writer: &str) {
    assert!(outcome.err.contains(writer), "{outcome:?}");
}

fn only_signed_records_are_taken_over(engine: &mut dyn Engine) {
    let mut fleet = Machine::fleet(engine, 3);
    let keys = keys(&fleet);
    allow(&fleet[0], &[("web-2", &keys[1])]);
    signed(&fleet[1]).fine();
    signed(&fleet[2]).fine();
    // web-3 has no key in the file.
    let outcome = signed(&fleet[0]);
    outcome.found("peer-key-unknown");
    assert_stderr_has(&outcome, "web-3");
    assert_eq!(fleet[0].copy_of("web-2"), fleet[1].records());
    assert_eq!(fleet[0].copy_of("web-3"), "");
    assert_eq!(fleet[0].heard().len(), 1);
    allow(&fleet[0], &[("web-2", &keys[1]), ("web-3", &keys[2])]);
    signed(&fleet[0]).fine();
    assert_eq!(fleet[0].copy_of("web-3"), fleet[2].records());
    // A new heartbeat without new records is accepted.
    let before = fleet[0].numbers();
    signed(&fleet[1]).fine();
    signed(&fleet[0]).fine();
    assert!(fleet[0].numbers()["web-2"] > before["web-2"]);

    // New records without a signature, then signed by the key of another machine of the fleet.
    let (copy, before) = (fleet[0].copy_of("web-2"), fleet[0].numbers());
    fleet[1].add(2);
    fleet[1].sync().fine();
    let outcome = signed(&fleet[0]);
    outcome.found("peer-records-unsigned");
    assert_stderr_has(&outcome, "web-2");
    signed_by(&fleet[1], &fleet[2]).fine();
    signed(&fleet[0]).found("peer-signature-invalid");
    assert_eq!((fleet[0].copy_of("web-2"), fleet[0].numbers()), (copy, before));
    signed(&fleet[1]).fine();
    signed(&fleet[0]).fine();
    assert_eq!(fleet[0].copy_of("web-2"), fleet[1].records());
    // An unsigned heartbeat without new records.
    let before = fleet[0].numbers();
    fleet[1].sync().fine();
    signed(&fleet[0]).found("peer-records-unsigned");
    assert_eq!(fleet[0].numbers(), before);
    signed(&fleet[1]).fine();
    signed(&fleet[0]).fine();

    // An old state of the store, with a valid signature.
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
    // A machine that requires no signatures gets the records.
    assert_eq!(signed(&fleet[1]).code, Some(0));
    assert_eq!(fleet[2].sync().code, Some(0));
    assert_eq!(fleet[2].copy_of("web-2"), fleet[1].records());
}

#[test]
fn over_a_directory() {
    only_signed_records_are_taken_over(&mut Directory::start());
}

#[test]
fn over_git() {
    only_signed_records_are_taken_over(&mut git::File::start());
}

#[test]
fn over_postgres() {
    only_signed_records_are_taken_over(&mut postgres::Postgres::start());
}

#[test]
#[ignore = "needs s3s-fs: ci/stores"]
fn over_s3() {
    only_signed_records_are_taken_over(&mut crate::s3::S3::start());
}

/// A machine that may write into the store forges records.
#[test]
fn forged_records_are_refused_and_the_copy_is_kept() {
    let engine = Directory::start();
    let mut fleet = Machine::fleet(&engine, 2);
    let keys = keys(&fleet);
    allow(&fleet[0], &[("web-2", &keys[1])]);
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
    // The last line is changed; the last line is missing; the first line is missing. After the loop: one line more.
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
    assert_stderr_has(&outcome, "1 of its records are not signed");
    assert_eq!(fleet[0].copy_of("web-2"), right);
    // Each pass reports the unsigned record until it is removed from the store.
    signed(&fleet[0]).found("peer-records-unsigned");
    fs::write(&stored, &right).unwrap();
    signed(&fleet[0]).fine();
}

/// A machine gets a new key: the others allow both keys for a while, then only the new one.
#[test]
fn a_rotated_key_is_accepted_while_both_are_allowed() {
    let engine = Directory::start();
    let mut fleet = Machine::fleet(&engine, 2);
    let old = keys(&fleet).remove(1);
    let path = fleet[1].at.path().join("new").display().to_string();
    succeed("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", &path]);
    let new = fs::read_to_string(format!("{path}.pub")).unwrap();
    let signed_anew = |machine: &Machine| machine.run(&["--json", "--sign-key", &path]).fine();
    allow(&fleet[0], &[("web-2", &old)]);
    signed(&fleet[1]).fine();
    signed(&fleet[0]).fine();
    let (copy, before) = (fleet[0].copy_of("web-2"), fleet[0].numbers());
    // The new key signs before the other machine allows it.
    fleet[1].add(1);
    signed_anew(&fleet[1]);
    signed(&fleet[0]).found("peer-signature-invalid");
    assert_eq!((fleet[0].copy_of("web-2"), fleet[0].numbers()), (copy, before.clone()));
    allow(&fleet[0], &[("web-2", &old), ("web-2", &new)]);
    signed(&fleet[0]).fine();
    assert_eq!(fleet[0].copy_of("web-2"), fleet[1].records());
    assert!(fleet[0].numbers()["web-2"] > before["web-2"]);
    // The old key is no longer valid. Records that it has signed before are kept.
    allow(&fleet[0], &[("web-2 valid-before=\"20200101Z\"", &old), ("web-2", &new)]);
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

/// Incomplete lines, in the file of keys and in the store.
#[test]
fn incomplete_lines_change_no_copy() {
    let engine = Directory::start();
    let mut fleet = Machine::fleet(&engine, 2);
    let keys = keys(&fleet);
    allow(&fleet[0], &[("web-2", &keys[1])]);
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
    // The last record is incomplete, then an incomplete unsigned record follows the complete ones.
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
fn unusable_keys_are_reported_and_no_command_runs() {
    let engine = Directory::start();
    let fleet = Machine::fleet(&engine, 2);
    keys(&fleet);
    signed(&fleet[1]).fine();
    let unusable = "signature-keys-unusable";
    allow(&fleet[0], &[("web-2", "ssh-ed25519 nonsense\n")]);
    signed(&fleet[0]).found(unusable);
    let out = fleet[0].run(&["--json", "--then", "touch never"]);
    assert_eq!(out.code, Some(3), "{out:?}");
    assert_eq!(out.codes(), [unusable, "command-not-run"]);
    assert_eq!(fleet[0].copy_of("web-2"), "");
    fs::remove_file(fleet[0].path().join("peers.keys")).unwrap();
    let missing = fleet[0].at.path().join("nothing");
    fleet[0].run(&["--json", "--sign-key", missing.to_str().unwrap()]).found(unusable);
    fleet[0].sync().fine();
    // ssh-keygen verifies the signature of a heartbeat, with the text built by hand.
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
