//! The `hpkp` command, end to end.

// clippy.toml allows these only inside test functions, not in their helpers.
#![allow(clippy::expect_used, clippy::panic)]

mod analyze;
mod ca;
mod check;
mod clients;
mod compact;
mod dane;
mod doctor;
mod export;
mod faults;
mod find;
mod freshness;
mod input;
mod install;
mod keys;
mod memory;
mod next_key;
mod outside;
mod parse;
mod pin;
mod plan;
mod published;
mod records;
mod sarif;
mod scans;
mod starttls;
mod status;
mod sync;
mod usage;
mod why;

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use hpkp_tests::output;
use serde_json::Value;

/// The exit code and the output of one run of the command.
#[derive(Debug)]
struct Outcome {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Outcome {
    /// Fails unless the command exited with 0 and printed nothing on standard error.
    #[track_caller]
    fn fine(self) -> String {
        assert_eq!((self.code, self.err.as_str()), (Some(0), ""), "{self:?}");
        self.out
    }

    /// Fails unless the command exited with `code` and printed `text` on standard error.
    #[track_caller]
    fn failed(&self, code: i32, text: &str) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(self.err.contains(text), "no {text:?}: {self:?}");
        assert!(self.err.lines().all(|line| line.starts_with("hpkp: ")), "{self:?}");
    }

    /// The line of JSON that was printed.
    #[track_caller]
    fn json(&self) -> Value {
        let value: Value = serde_json::from_str(&self.out).expect("JSON");
        assert_eq!(self.out.lines().count(), 1);
        assert_eq!(value["v"], 1);
        value
    }
}

fn hpkp() -> Command {
    Command::new(env!("CARGO_BIN_EXE_hpkp"))
}

fn outcome(output: std::process::Output) -> Outcome {
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Outcome { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// Runs the command in `directory`.
fn run(directory: &Path, arguments: &[&str]) -> Outcome {
    outcome(output(hpkp().current_dir(directory).args(arguments).stdin(Stdio::null())))
}

/// Runs the command with `input` on standard input.
fn run_with(input: &[u8], arguments: &[&str]) -> Outcome {
    let mut command = hpkp();
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the command");
    // The command may stop reading input that is too long, so a failed write is no error of the test.
    let _ = child.stdin.take().expect("a pipe").write_all(input);
    outcome(child.wait_with_output().expect("its output"))
}

#[test]
fn wrong_usage_ends_with_2() {
    let here = Path::new(".");
    for arguments in [
        &[][..],
        &["pin"],
        &["find"],
        &["frobnicate"],
        &["pin", "--timeout", "0", "x"],
        &["pin", "--servername", "a b", "localhost:1"],
        &["pin", "--servername", "127.0.0.1", "localhost:1"],
        &["pin", "-", "-"],
        &["find", "neither-a-file-nor-a-pin"],
        &["published"],
        &["published", "show", "no-id"],
        &["published", "add", "www.example.com"],
    ] {
        let outcome = run(here, arguments);
        assert_eq!(
            (outcome.code, outcome.out.as_str()),
            (Some(2), ""),
            "{arguments:?}: {outcome:?}"
        );
        assert!(!outcome.err.is_empty(), "{arguments:?}");
    }
    assert!(run(here, &["--version"]).fine().starts_with("hpkp "));
}

/// The commands that a help text lists.
fn listed(help: &str) -> Vec<&str> {
    let commands = help.split("Commands:\n").nth(1).unwrap_or_default();
    let lines = commands.lines().take_while(|line| line.starts_with("  "));
    let names = lines.filter_map(|line| line.split_ascii_whitespace().next());
    names.filter(|name| *name != "help").collect()
}

/// The options in the synopsis of an entry and in the first column of its tables.
fn options(entry: &str) -> impl Iterator<Item = &str> {
    let synopsis = entry.split("```").nth(1).unwrap_or_default();
    let rows = entry.lines().filter(|line| line.starts_with("| `-"));
    let cells = rows.filter_map(|line| line.split('|').nth(1));
    let words = std::iter::once(synopsis)
        .chain(cells)
        .flat_map(|text| text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-')));
    words.filter(|word| word.starts_with("--"))
}

/// The first paragraph of a help text, which says what the command does.
fn about(help: &str) -> String {
    let lines = help.lines().take_while(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join(" ")
}

/// Whether the first paragraph of an entry begins with that of the help: "Print the pins" in the help is
/// "Prints the pins" in the entry.
fn states(entry: &str, about: &str) -> bool {
    let paragraph = entry.split("```").nth(2).unwrap_or_default().trim_start();
    let paragraph = paragraph.replace('`', "");
    let words: Vec<&str> = paragraph.split_ascii_whitespace().collect();
    let (verb, rest) = about.split_once(' ').unwrap_or_default();
    words.join(" ").starts_with(&format!("{verb}s {rest}"))
}

#[test]
fn the_reference_has_every_command_and_option() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference/command.md");
    let page = std::fs::read_to_string(path).expect("the reference");
    let here = Path::new(".");
    let mut open: Vec<Vec<String>> = vec![vec![]];
    let (mut checked, mut groups) = (0, 0);
    while let Some(command) = open.pop() {
        let words: Vec<&str> = command.iter().map(String::as_str).collect();
        let help = run(here, &[&words[..], &["-h"]].concat()).fine();
        let below = listed(&help);
        if !below.is_empty() {
            groups += usize::from(!command.is_empty());
            open.extend(below.iter().map(|name| [&command[..], &[(*name).to_owned()]].concat()));
            continue;
        }
        checked += 1;
        let heading = format!("\n## hpkp {}\n", command.join(" "));
        let (_, entry) = page.split_once(&heading).unwrap_or_else(|| panic!("no {heading:?}"));
        let entry = entry.split("\n## ").next().unwrap_or_default();
        let about = about(&help);
        assert!(states(entry, &about), "{heading:?} does not begin with {about:?}");
        assert!(entry.contains("\nExit codes: "), "{heading:?}");
        assert!(entry.contains("\n```console\n"), "no example in {heading:?}");
        for option in options(entry) {
            assert!(help.contains(option), "{option} of {heading:?} is none");
        }
        let entry = match command.split_first() {
            // The entry of a group describes the options that all its commands share.
            Some((first, below)) if !below.is_empty() => {
                let shared = page.split_once(&format!("\n## hpkp {first}\n")).map(|(_, all)| all);
                let shared = shared.and_then(|all| all.split("\n## ").next()).expect("an entry");
                format!("{entry}{shared}")
            }
            _ => entry.to_owned(),
        };
        for option in help.split_ascii_whitespace().filter(|word| word.starts_with("--")) {
            let option = option.trim_end_matches([',', '.', ']']);
            assert!(option == "--help" || entry.contains(option), "no {option} in {heading:?}");
        }
    }
    let headings = page.lines().filter(|line| line.starts_with("## hpkp "));
    // Groups, such as `hpkp published`, have entries of their own.
    assert_eq!(headings.count(), checked + groups);
}
