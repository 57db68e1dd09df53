//! `hpkp sync` executes the program `hpkp-sync`, which has tests of its own.

use std::path::Path;
use std::process::Command;

/// A copy of the command, which has no other program beside it.
fn alone(directory: &Path) -> Command {
    let path = directory.join("hpkp");
    hpkp_tests::write_program(
        &path,
        std::fs::read(env!("CARGO_BIN_EXE_hpkp")).expect("the command"),
    );
    Command::new(path)
}

#[test]
fn a_missing_program_is_reported() {
    let dir = tempfile::tempdir().expect("a directory");
    let output = alone(dir.path())
        .args(["sync", "file:///srv"])
        .env("PATH", dir.path())
        .output()
        .expect("hpkp");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{text}");
    assert!(
        text.contains("hpkp-sync is not installed") && text.contains("apt install hpkp-sync"),
        "{text}"
    );
    // Wrong arguments are reported without that program.
    let output =
        alone(dir.path()).args(["sync", "--lease", "x", "file:///srv"]).output().expect("hpkp");
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn the_program_gets_the_arguments_and_gives_the_exit_code() {
    let dir = tempfile::tempdir().expect("a directory");
    let bin = dir.path().join("bin");
    std::fs::create_dir(&bin).expect("a directory");
    let program = bin.join("hpkp-sync");
    hpkp_tests::write_program(&program, "#!/bin/sh\nprintf '<%s>' \"$@\"\nexit 7\n");
    let arguments = ["sync", "file:///srv", "--then", "a b", "--json"];
    let output = alone(dir.path()).args(arguments).env("PATH", &bin).output().expect("hpkp");
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "<sync><file:///srv><--then><a b><--json>");
}
