//! Faults of the machine: a full disk, and a reader that closes its pipe.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use hpkp_tests::output;
use hpkp_tests::site::A;

use crate::records::{Records, pin};
use crate::{Outcome, outcome};

/// Runs the command with a limit on the size of files: `blocks` of 512 bytes. A write beyond the limit
/// fails or, with `kill`, ends the process by a signal.
fn limited(records: &Records, blocks: u64, kill: bool, arguments: &[&str]) -> Outcome {
    let ignore = if kill { "" } else { "trap '' XFSZ; " };
    let script = format!("{ignore}ulimit -c 0; ulimit -f {blocks}; exec \"$0\" \"$@\"");
    let mut command = Command::new("sh");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_hpkp"), "published", "-d", "records"]);
    command.args(arguments);
    outcome(output(command.current_dir(records.0.path()).stdin(Stdio::null())))
}

/// Records pins, with a line of more than one block.
fn add(host: &str) -> Vec<String> {
    let origin = "x".repeat(600);
    let words = ["add", host, "--writer", "w", "--origin", &origin, "--pin"];
    words.iter().map(|word| (*word).to_owned()).chain([pin(A)]).collect()
}

fn words(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

#[test]
fn a_full_disk_loses_nothing_that_was_acknowledged() {
    let records = Records::new();
    let path = records.0.path().join("records/w.jsonl");
    let mut number = 0;
    let mut next = || {
        number += 1;
        format!("h{number}.example")
    };
    for kill in [false, true] {
        records.recorded(&words(&add(&next())));
        let before = std::fs::read(&path).expect("records");
        // Part of the next line still fits.
        let blocks = before.len() as u64 / 512 + 1;
        let outcome = limited(&records, blocks, kill, &words(&add(&next())));
        let after = std::fs::read(&path).expect("records");
        if kill {
            assert_eq!(outcome.code, None, "{outcome:?}");
            assert!(after.len() > before.len() && after.starts_with(&before));
            let list = records.run(&["list"]);
            assert!(list.err.contains("incomplete last line"), "{list:?}");
        } else {
            outcome.failed(3, "records/w.jsonl\": file too large");
            assert_eq!(after, before);
        }
        assert_eq!(outcome.out, "");
    }
    // Once there is room, writing works again, and every acknowledged record is there.
    records.recorded(&words(&add(&next())));
    let list = records.run(&["list"]).fine();
    let hosts: Vec<&str> =
        list.lines().filter_map(|line| line.split("  ").nth(1)?.split(':').next()).collect();
    assert_eq!(hosts, ["h1.example", "h3.example", "h5.example"]);
}

#[test]
fn a_failed_compact_leaves_the_file_unchanged() {
    let records = Records::new();
    let header = format!("pin-sha256=\"{A}\"; pin-sha256=\"{}\"; max-age=60", hpkp_tests::site::B);
    let old = ["add", "a.example", "--writer", "w", "--header", &header, "--until", "2020-01-01"];
    records.recorded(&old);
    for number in 0..8 {
        records.recorded(&words(&add(&format!("h{number}.example"))));
    }
    let path = records.0.path().join("records");
    let before = std::fs::read(path.join("w.jsonl")).expect("records");
    let compact = ["compact"];
    limited(&records, 2, false, &compact).failed(3, ": file too large");
    assert_eq!(std::fs::read(path.join("w.jsonl")).expect("records"), before);
    // No temporary file is left; after a signal one may be, and the next run removes it.
    let names = || std::fs::read_dir(&path).expect("a directory").count();
    assert_eq!(names(), 4);
    assert_eq!(limited(&records, 2, true, &compact).code, None);
    assert_eq!(std::fs::read(path.join("w.jsonl")).expect("records"), before);
    assert_eq!(names(), 5);
    assert_eq!(records.run(&["compact"]).fine(), "w: 1 of 11 lines removed\n");
    assert_eq!(names(), 4);
}

#[test]
fn a_directory_that_cannot_be_made_leaves_nothing_behind() {
    let records = Records::new();
    let outcome = limited(&records, 0, false, &["init", "new"]);
    outcome.failed(3, "new: file too large");
    let list =
        |records: &Records| crate::run(records.0.path(), &["published", "-d", "new", "list"]);
    assert_eq!(list(&records).code, Some(3));
    assert!(!records.0.path().join("new").exists());
    crate::run(records.0.path(), &["published", "init", "new"]).fine();
    assert_eq!(list(&records).code, Some(0));
}

#[test]
fn a_closed_pipe_ends_the_command_without_an_error() {
    let records = Records::new();
    // More than a pipe holds.
    let lines: Vec<String> = (0..2_000).map(|n| format!("h{n}.example {}\n", pin(A))).collect();
    std::fs::write(records.0.path().join("pins"), lines.concat()).expect("a file");
    records.run(&["import", "--format", "okhttp", "--origin", "x", "pins"]).fine();
    for json in [false, true] {
        let mut command = crate::hpkp();
        command.current_dir(records.0.path()).args(["published", "-d", "records"]);
        command.args(json.then_some("--json")).arg("list");
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the command");
        let mut out = BufReader::with_capacity(64, child.stdout.take().expect("a pipe"));
        assert!(!out.fill_buf().expect("output").is_empty());
        drop(out);
        let ended = outcome(child.wait_with_output().expect("its end"));
        assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{ended:?}");
    }
}

#[test]
fn a_failed_write_of_the_output_is_an_error() {
    let records = Records::new();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("a device");
    let mut command = crate::hpkp();
    command.current_dir(records.0.path()).args(["published", "-d", "records", "verify"]);
    let ended = outcome(command.stdout(full).output().expect("the command"));
    ended.failed(3, "cannot write the output: no space left");

    // The failed write stopped the search, so the command must not report that there is no key.
    let at = records.0.path();
    crate::run(at, &["key", "new", "--name", "www.example.com", "backup.key"]).fine();
    std::fs::remove_file(at.join("backup.key")).expect("a file");
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("a device");
    let mut command = crate::hpkp();
    command.current_dir(at).args(["find", "backup.csr"]);
    let ended = outcome(command.stdout(full).output().expect("the command"));
    ended.failed(3, "cannot write the output: no space left");
}
