//! Unusable input: each kind of it gives each command a message and an exit code.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::process::Stdio;

use hpkp_tests::output;
use hpkp_tests::pki::Pki;
use hpkp_tests::site::A;

use crate::records::{Records, pin};
use crate::{Outcome, hpkp, outcome};

/// Runs the command with arguments that need not be UTF-8.
fn run(records: &Records, arguments: &[&OsStr]) -> Outcome {
    let output = output(hpkp().current_dir(records.0.path()).args(arguments).stdin(Stdio::null()));
    Outcome {
        code: output.status.code(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Each way to give a command a file.
fn commands(file: &[u8]) -> Vec<Vec<&OsStr>> {
    let file = OsStr::from_bytes(file);
    let words = |text: &'static str| text.split(' ').map(OsStr::new).collect::<Vec<_>>();
    let mut all = vec![
        [words("pin"), vec![file]].concat(),
        [words("find"), vec![file]].concat(),
        [words("parse x --chain"), vec![file]].concat(),
        [words("published -d records why a.example --cert"), vec![file]].concat(),
        [words("published -d records compromised --why x"), vec![file]].concat(),
        [words("published -d records import --origin x"), vec![file]].concat(),
    ];
    all.push(
        [words("published -d records why a.example --cert good.pem --chain"), vec![file]].concat(),
    );
    all
}

fn records() -> Records {
    let records = Records::new();
    let pki = Pki::new(records.0.path());
    pki.ca("good");
    records
}

#[test]
fn unusable_files_are_an_error_of_every_command() {
    let records = records();
    let path = |name: &str| records.0.path().join(name);
    std::fs::write(path("empty"), "").expect("a file");
    std::fs::write(path("binary"), [0_u8, 0xff, 0x30, 0x80].repeat(200)).expect("a file");
    std::fs::write(path("der"), [0x30, 0x84, 0xff, 0xff, 0xff, 0xff, 2, 1]).expect("a file");
    std::fs::write(path("escape"), "\x1b[2J\x1b]0;title\x07 \x7f\u{9b}").expect("a file");
    let sparse = std::fs::File::create(path("sparse")).expect("a file");
    sparse.set_len(1 << 30).expect("a hole");
    for (file, codes) in [
        ("missing", &[2, 3][..]),
        ("records", &[2, 3]),
        ("empty", &[1]),
        ("binary", &[1]),
        ("der", &[1]),
        ("escape", &[1]),
        ("sparse", &[1]),
    ] {
        for command in commands(file.as_bytes()) {
            let outcome = run(&records, &command);
            let code = outcome.code.expect("a code");
            assert!(codes.contains(&code), "{command:?}: {outcome:?}");
            assert!(outcome.err.lines().count() >= 1, "{command:?}: {outcome:?}");
            assert!(
                outcome.err.lines().all(|line| line.starts_with("hpkp: ")),
                "{command:?}: {outcome:?}"
            );
            assert!(!outcome.err.contains("(os error"), "{command:?}: {outcome:?}");
            let all = format!("{}{}", outcome.out, outcome.err);
            let is_control = |c: char| c.is_control() && c != '\n';
            assert!(!all.contains(is_control), "{command:?}: {outcome:?}");
        }
    }
    assert_eq!(records.lines().len(), 0);
}

#[test]
fn names_of_files_may_be_any_bytes() {
    let records = records();
    let name = b"k\xff\x1b[2J.pem";
    let path = records.0.path().join(OsStr::from_bytes(name));
    std::fs::copy(records.0.path().join("good.pem"), &path).expect("a copy");
    let outcome = run(&records, &[OsStr::new("pin"), OsStr::from_bytes(name)]);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    let outcome = run(&records, &[OsStr::new("find"), OsStr::from_bytes(name)]);
    assert!(outcome.out.contains("certificate: ./k\u{fffd}\\u{1b}[2J.pem\n"), "{outcome:?}");
    assert!(!outcome.out.contains('\x1b'));
    // Other arguments must be UTF-8; anything else is wrong usage, never a panic.
    for command in ["published", "parse"] {
        let outcome = run(&records, &[OsStr::new(command), OsStr::from_bytes(b"\xff")]);
        assert_eq!(outcome.code, Some(2), "{outcome:?}");
        assert!(outcome.err.lines().all(|line| line.starts_with("hpkp: ")), "{outcome:?}");
    }
}

#[test]
fn standard_input_that_is_closed_is_empty() {
    let records = records();
    for words in ["pin -", "parse -", "published -d records import --origin x -"] {
        let mut shell = std::process::Command::new("sh");
        let script = format!("exec \"$0\" {words} <&-");
        shell.args(["-c", &script, env!("CARGO_BIN_EXE_hpkp")]).current_dir(records.0.path());
        let outcome = outcome(output(&mut shell));
        assert!(matches!(outcome.code, Some(1 | 3)), "{words}: {outcome:?}");
        assert_eq!(
            (outcome.out.as_str(), outcome.err.lines().count()),
            ("", 1),
            "{words}: {outcome:?}"
        );
    }
}

#[test]
fn control_characters_of_a_file_do_not_reach_the_terminal() {
    let records = records();
    let evil = "\u{1b}[2J\u{7}app";
    let pki = Pki::new(records.0.path());
    pki.key("evil", hpkp_tests::pki::P256);
    pki.self_signed("evil", "/CN=a\x1b[31mb", &[]);
    records.recorded(&["add", "a.example", "--pin", &pin(A), "--origin", evil]);
    let id = records.json(&["list"])["published"][0]["id"].as_str().expect("an id").to_owned();
    let waive = ["waive", &id, "--who", evil, "--why", evil];
    for arguments in [&["list"][..], &["show", &id], &waive, &["why", "a.example"]] {
        let outcome = records.run(arguments);
        assert!(!outcome.out.contains('\x1b') && !outcome.err.contains('\x1b'), "{outcome:?}");
    }
    let why = records.run(&["why", "a.example", "--cert", "evil.pem", "--log"]);
    assert!(!why.out.contains('\x1b'), "{why:?}");
    let outcome = crate::run(records.0.path(), &["pin", "evil.pem"]).fine();
    assert!(!outcome.contains('\x1b'), "{outcome:?}");
    let outcome =
        crate::run(records.0.path(), &["parse", "max-age=1\x1b[2J; pin-sha256=\"\u{9b}\""]);
    assert!(!outcome.out.contains(['\x1b', '\u{9b}']), "{outcome:?}");
}
