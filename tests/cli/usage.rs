//! Conventions of the command line: options anywhere, ids by prefix, hints, help, completions
//! and man pages, terminals.

use std::net::TcpListener;
use std::process::{Command, Stdio};

use hpkp_tests::output;
use hpkp_tests::pki::Pki;
use hpkp_tests::site::{A, B};
use serde_json::json;

use crate::records::{Records, id, pin};
use crate::{Outcome, hpkp, outcome, run};

fn at(records: &Records, arguments: &[&str]) -> Outcome {
    run(records.0.path(), arguments)
}

#[test]
fn options_may_come_before_and_after_a_command() {
    let records = Records::new();
    let record = records.recorded(&["add", "a.example", "--pin", &pin(A), "--origin", "x"]);
    let list = at(&records, &["published", "list", "-d", "records"]).fine();
    assert!(list.starts_with(id(&record)), "{list}");
    assert_eq!(at(&records, &["published", "-d", "records", "list"]).fine(), list);
    let json = at(&records, &["published", "list", "--json", "--directory", "records"]).json();
    assert_eq!(json["published"][0]["id"], record["id"]);
    for command in [
        &["verify"][..],
        &["show", id(&record)],
        &["why", "a.example"],
        &["export", "--format", "json"],
        &["compact", "--dry-run"],
    ] {
        let words = [&["published"], command, &["-d", "records"]].concat();
        assert_eq!(at(&records, &words).code, Some(0), "{command:?}");
    }
    // With the option before and after the command, both directories are read.
    at(&records, &["published", "init", "other"]).fine();
    let both = ["published", "-d", "other", "list", "-d", "records"];
    assert_eq!(at(&records, &both).fine(), list);
}

#[test]
fn an_id_may_be_abbreviated() {
    let records = Records::new();
    let add = |host| records.recorded(&["add", host, "--pin", &pin(A), "--origin", "x"]);
    let record = add("a.example");
    let whole = id(&record);
    for prefix in [&whole[..8], &whole.to_ascii_uppercase(), &whole[..5].to_ascii_uppercase()] {
        let shown = records.run(&["show", prefix]).fine();
        assert!(shown.starts_with(whole), "{prefix}: {shown}");
    }
    records.run(&["show", &whole[..3]]).failed(2, "32 hexadecimal digits");
    let unknown = if whole.starts_with("0000") { "1111" } else { "0000" };
    records.run(&["end", unknown, "--why", "x"]).failed(1, "no record has the id");
    // Four digits have 65,536 values: of a thousand records some share them.
    let text: String = (0..1_000).map(|n| format!("h{n}.example sha256/{A}\n")).collect();
    std::fs::write(records.0.path().join("pins"), text).expect("a file");
    let all = records.json(&["import", "--format", "lines", "--origin", "x", "pins"]);
    let mut ids: Vec<&str> = all["recorded"].as_array().expect("records").iter().map(id).collect();
    ids.sort_unstable();
    let twins = ids.windows(2).find(|two| two[0][..4] == two[1][..4]);
    if let Some([one, other]) = twins {
        let outcome = records.run(&["end", &one[..4], "--why", "x"]);
        outcome.failed(1, &format!("records have ids that begin with {}: ", &one[..4]));
        outcome.failed(1, other);
    }
    records.run(&["waive", &whole[..12], "--who", "me", "--why", "x"]).fine();
    assert_eq!(records.json(&["verify"])["waived"], 1);
    records.run(&["end", &whole[..12], "--why", "x"]).fine();
    assert!(records.run(&["export", "--format", "json", &ids[0][..12]]).fine().contains("h"));
}

#[test]
fn an_argument_of_another_kind_gets_a_hint() {
    let records = Records::new();
    let pki = Pki::new(records.0.path());
    pki.ca("ca");
    let record = records.recorded(&["add", "a.example", "--pin", &pin(A), "--origin", "x"]);
    let a = pin(A);
    let ca = pki.path("ca.pem");
    let ca = ca.to_str().expect("UTF-8");
    let published = |words: &[&'static str]| [&["published", "-d", "records"][..], words].concat();
    for (words, code, text) in [
        (vec!["find", ".", &a], 2, "the pin comes before the directory: hpkp find PIN DIR"),
        (vec!["find", "www.example.com"], 2, "hpkp pin www.example.com"),
        (vec!["find", "records"], 2, "is a directory"),
        (vec!["pin", &a], 3, "this is a pin; to find its private key: hpkp find"),
        (vec!["pin", "http://a.example/"], 3, "only https://"),
        (vec!["pin", "backup"], 3, "no such file or directory; for a server: hpkp pin backup:443"),
        (vec!["pin", "cert.pem"], 3, "cert.pem: no such file or directory"),
        (published(&["show", "a.example"]), 2, "for a host: hpkp published why HOST"),
        (published(&["list", "a.example"]), 2, "for one host: hpkp published why a.example"),
        (vec!["published", "list", "records"], 2, "directory: hpkp published list -d records"),
        (vec!["-d", "x", "published", "list"], 2, "after the command: hpkp published list -d"),
        (published(&["why", "ca.pem"]), 2, "this is a file; give the host"),
        (published(&["why", "a.example:8443"]), 2, "a.example --port 8443"),
        (published(&["compromised", "a.example", "--why", "x"]), 2, "hpkp pin a.example"),
        (published(&["add", "a.example", "--origin", "x", "--pin", "ca.pem"]), 2, "file:ca.pem"),
    ] {
        at(&records, &words).failed(code, text);
    }
    records.run(&["why", &a]).failed(2, "this is a pin; give the host");
    records
        .run(&["why", "a.example", "--cert", &a])
        .failed(3, "this is a pin, and a file is expected");
    let absolute =
        format!("hpkp published -d {} show ", records.0.path().join("records").display());
    records.run(&["why", id(&record)]).failed(0, &absolute);
    assert!(records.run(&["why", "https://a.example/"]).fine().contains(id(&record)));
    // A host is a host even if a file has the same name.
    std::fs::write(records.0.path().join("a.example"), "x").expect("a file");
    assert!(records.run(&["why", "a.example"]).fine().contains(id(&record)));
    assert_eq!(run(std::path::Path::new("/"), &["pin", ca]).code, Some(0));
}

#[test]
fn wrong_usage_has_one_style() {
    let records = Records::new();
    for (arguments, text) in [
        (&["pin", "--frobnicate", "x"][..], "unexpected argument '--frobnicate'"),
        (&["pin"], "FILE|HOST[:PORT]|-"),
        (&["pin", "--timeout", "0", "x"], "expected a number of seconds from 1 to 3600"),
        (&["published", "end", "05b9"], "--why"),
        (&["published", "-d", "records", "why", "a b"], "invalid host name"),
        (&["published", "add", "a.example", "--expires", "soon", "--pin", "x"], "expected a day"),
    ] {
        let outcome = at(&records, arguments);
        outcome.failed(2, text);
        let last = outcome.err.lines().last().unwrap_or_default();
        assert!(last.starts_with("hpkp: for help: hpkp "), "{outcome:?}");
        assert!(last.ends_with(" --help"), "{outcome:?}");
    }
    // Control characters of an argument do not reach the terminal.
    let outcome = at(&records, &["pin", "--timeout", "\x1b[2J\x07\rz", "x"]);
    assert!(!outcome.err.contains(['\x1b', '\x07', '\r']), "{outcome:?}");
}

/// The subcommands that the help of a command lists.
fn below(words: &[String]) -> Vec<String> {
    let words: Vec<&str> = words.iter().map(String::as_str).chain(["-h"]).collect();
    let help = run(std::path::Path::new("."), &words).fine();
    crate::listed(&help).into_iter().map(str::to_owned).collect()
}

#[test]
fn every_help_has_examples_with_options_of_its_command() {
    let mut open: Vec<Vec<String>> = vec![vec![]];
    let mut examples = 0;
    while let Some(command) = open.pop() {
        open.extend(below(&command).into_iter().map(|name| [&command[..], &[name]].concat()));
        let words: Vec<&str> = command.iter().map(String::as_str).chain(["--help"]).collect();
        let help = run(std::path::Path::new("."), &words).fine();
        let (_, section) = help.split_once("Examples:\n").unwrap_or_else(|| panic!("{command:?}"));
        let lines = section.lines().take_while(|line| line.starts_with("  "));
        let of_command = format!("hpkp {}", command.join(" "));
        for line in lines {
            examples += 1;
            let (_, example) = line.split_once("hpkp ").unwrap_or_else(|| panic!("{line}"));
            assert!(format!("hpkp {example}").starts_with(of_command.trim()), "{line}");
            // Each option of the example is one of the command.
            for option in example.split(' ').filter(|word| word.starts_with("--")) {
                let page = match command.is_empty() {
                    true => {
                        let words = example.split(' ').take_while(|word| !word.starts_with('-'));
                        let words: Vec<&str> = words.take(2).chain(["-h"]).collect();
                        run(std::path::Path::new("."), &words).out
                    }
                    false => help.clone() + &published_help(example),
                };
                assert!(page.contains(option), "{line}");
            }
        }
    }
    assert!(examples > 30, "{examples}");
}

/// The help of the command that an example of `hpkp published` calls.
fn published_help(example: &str) -> String {
    match example.strip_prefix("published ").and_then(|rest| rest.split(' ').next()) {
        Some(name) => run(std::path::Path::new("."), &["published", name, "-h"]).out,
        None => String::new(),
    }
}

#[test]
fn completions_and_man_pages_have_every_command() {
    let dir = tempfile::tempdir().expect("a directory");
    run(dir.path(), &["generate", "man", "."]).fine();
    let mut open: Vec<Vec<String>> = vec![vec![]];
    let bash = run(dir.path(), &["generate", "completions", "bash"]).fine();
    while let Some(command) = open.pop() {
        let page = dir
            .path()
            .join(format!("{}.1", [&["hpkp".to_owned()], &command[..]].concat().join("-")));
        let page =
            std::fs::read_to_string(&page).unwrap_or_else(|error| panic!("{page:?}: {error}"));
        assert!(page.contains("hpkp") && page.contains(".SH"), "{command:?}");
        assert!(page.contains("Examples:"), "{command:?}");
        if let Some(name) = command.last() {
            assert!(bash.contains(name), "{command:?}");
        }
        open.extend(below(&command).into_iter().map(|name| [&command[..], &[name]].concat()));
    }
    for shell in ["zsh", "fish"] {
        let text = run(dir.path(), &["generate", "completions", shell]).fine();
        assert!(text.contains("compromised"), "{shell}");
    }
    run(dir.path(), &["generate", "man", "missing"]).failed(3, "no such file");
}

#[test]
fn compromised_takes_a_certificate_for_its_key() {
    let records = Records::new();
    let pki = Pki::new(records.0.path());
    pki.ca("ca");
    let of_ca = pin(&pki.pin("ca.pem"));
    records.recorded(&["add", "a.example", "--pin", &of_ca, "--pin", &pin(B), "--origin", "x"]);
    for file in ["ca.pem", "ca.key"] {
        let outcome = records.run(&["compromised", file, "--why", "stolen"]);
        outcome.failed(0, &format!("{file}: the pin of the first key is {of_ca}"));
        assert!(outcome.out.contains("a.example"), "{outcome:?}");
    }
    let list = records.json(&["list"]);
    assert_eq!(list["published"][0]["compromised"], json!([of_ca]));
    records.run(&["compromised", "missing", "--why", "x"]).failed(2, "no such file");
}

/// Runs the command on a terminal, with `more` in its environment.
fn on_a_terminal(records: &Records, arguments: &str, more: &[(&str, &str)]) -> String {
    shell_on_a_terminal(records, &format!("\"$HPKP\" {arguments}"), more)
}

/// Runs commands of a shell on a terminal, where `$HPKP` is the command.
fn shell_on_a_terminal(records: &Records, commands: &str, more: &[(&str, &str)]) -> String {
    let mut script = Command::new("script");
    script.args(["-qec", commands, "/dev/null"]).current_dir(records.0.path());
    script.env("HPKP", env!("CARGO_BIN_EXE_hpkp"));
    // If CI is set, the colours suit its log, whatever the terminal supports.
    script
        .env("TERM", "xterm")
        .env_remove("NO_COLOR")
        .env_remove("CI")
        .env_remove("COLUMNS")
        .envs(more.iter().copied());
    let output = output(script.stdin(Stdio::null()));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_terminal_has_colours_and_progress() {
    let records = Records::new();
    records.recorded(&["add", "a.example", "--pin", &pin(A), "--origin", "x"]);
    let list = "published -d records list";
    assert!(on_a_terminal(&records, list, &[]).contains("\x1b["));
    assert!(!on_a_terminal(&records, list, &[("NO_COLOR", "1")]).contains("\x1b["));
    assert!(!on_a_terminal(&records, list, &[("TERM", "dumb")]).contains("\x1b["));
    let wrong = on_a_terminal(&records, "published -d missing list", &[]);
    assert!(wrong.contains("\x1b["), "{wrong}");
    // Accepts connections and never answers, so the command takes longer than a second.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a socket");
    let address = silent.local_addr().expect("an address").to_string();
    let outcome = on_a_terminal(&records, &format!("pin --timeout 3 {address}"), &[]);
    assert!(outcome.contains("reading keys") || outcome.contains("asking"), "{outcome:?}");
    // In a pipe there is neither.
    let piped = at(&records, &["pin", "--timeout", "2", &address]);
    assert_eq!(piped.err.lines().count(), 1, "{piped:?}");
    assert!(!piped.err.contains('\x1b'));
}

/// Every HOST argument may have letters of any script, capitals and a final dot.
#[test]
fn a_host_may_be_written_in_any_form() {
    let records = Records::new();
    let (app, name) = (["--pin", &pin(A), "--origin", "app 1"], "xn--bcher-kva.example");
    records.recorded(&[&["add", "B\u{fc}cher.example"][..], &app].concat());
    for written in ["b\u{fc}cher.example", "XN--BCHER-KVA.Example."] {
        let plan = ["plan", written, "--to", "give-up", "-d", "records"];
        at(&records, &plan).failed(2, name);
        let next = ["key", "next", written, "-d", "records", "--forget"];
        at(&records, &next).failed(1, name);
    }
    for command in [&["plan", "", "--to", "give-up"][..], &["key", "next", "a..b"]] {
        at(&records, command).failed(2, "label of the host name is empty");
    }
    let install = ["install", "--from", "a", "--to", "b", "--reload", "true", "--test", " "];
    at(&records, &install).failed(2, "empty; to run nothing, say so: true");
    at(&records, &["pin", ""]).failed(3, "\"\": no such file");
}

/// In a narrow terminal, in the usual one of 80 columns, and in a wide one.
#[test]
fn a_timeline_is_no_wider_than_the_terminal() {
    let records = Records::new();
    let add =
        ["add", "www.example.com", "--pin", &pin(A), "--origin", "a header of the year before"];
    records.recorded(&[&add[..], &["--expires", "2999-01-01"]].concat());
    for columns in [40_usize, 80, 120] {
        let draw = format!("stty cols {columns}; \"$HPKP\" status -d records --offline --timeline");
        let outcome = shell_on_a_terminal(&records, &draw, &[("NO_COLOR", "1")]);
        let longest = |line: &&str| !line.contains("sha256/") && line.chars().count() > columns;
        assert_eq!(outcome.lines().find(longest), None, "{columns}: {outcome}");
        assert!(outcome.contains("until 2999-01-01T23:59:59Z"), "{columns}: {outcome}");
    }
}

#[test]
fn help_into_a_closed_pipe_is_no_failure() {
    let mut child = hpkp();
    child.args(["published", "why", "--help"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = child.spawn().expect("the command");
    drop(child.stdout.take());
    let ended = outcome(child.wait_with_output().expect("its end"));
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{ended:?}");
}
