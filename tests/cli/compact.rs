//! `hpkp published compact`: smaller files, and nothing lost that anybody needs.

use std::path::Path;
use std::process::Stdio;

use hpkp_core::published::{Body, Compromised, Event, Identity};
use hpkp_tests::site::{A, B};
use serde_json::json;

use crate::records::{Records, id, pin};
use crate::{outcome, run};

/// A record of `writer` from the time `at`.
fn line(writer: &str, at: i64, body: Body) -> String {
    let event = Event::new(at, 1, writer.parse().expect("a name"), body);
    format!("{}\n", event.line())
}

fn file(records: &Records, name: &str) -> String {
    let path = records.0.path().join("records").join(name);
    std::fs::read_to_string(path).expect("records")
}

/// A header that ended long ago, one that ended lately, and an app; all of `web`.
fn history(records: &Records) -> [String; 3] {
    let header = |base64| format!("pin-sha256=\"{base64}\"; pin-sha256=\"{A}\"; max-age=86400");
    let ended = |header: &str, until| {
        let add = ["add", "www.example.com", "--writer", "web", "--header", header];
        let record = records.recorded(&[&add[..], &["--until", until]].concat());
        id(&record).to_owned()
    };
    let (old, late) = (ended(&header(B), "2020-01-01"), ended(&header(A), "now"));
    let app = ["add", "www.example.com", "--writer", "web", "--pin", &pin(A), "--origin", "app"];
    [old, late, id(&records.recorded(&app)).to_owned()]
}

#[test]
fn compact_removes_only_what_ended_more_than_a_year_ago() {
    let records = Records::new();
    let [old, late, app] = history(&records);
    let before = file(&records, "web.jsonl");
    let held = records.json(&["list"]);
    let dry = records.json(&["compact", "--dry-run"]);
    assert_eq!(dry["files"], json!([{ "writer": "web", "before": 6, "after": 5 }]));
    assert_eq!(file(&records, "web.jsonl"), before);

    let done = records.run(&["compact"]).fine();
    assert_eq!(done, "web: 1 of 6 lines removed\n");
    let after = file(&records, "web.jsonl");
    let ids = |text: &str| -> Vec<String> {
        let values = text.lines().map(|line| serde_json::from_str(line).expect("JSON"));
        values.map(|value: serde_json::Value| id(&value).to_owned()).collect()
    };
    assert!(ids(&before).contains(&old) && !ids(&after).contains(&old));
    assert!(ids(&after).contains(&late) && ids(&after).contains(&app));
    // The remaining lines are unchanged, among them the first line and the end of the removed record.
    let left: Vec<&str> = before.lines().filter(|line| after.contains(line)).collect();
    assert_eq!(left, after.lines().collect::<Vec<_>>());
    assert_eq!(after.lines().next(), before.lines().next());
    assert_eq!(after.lines().filter(|line| line.contains("\"event\":\"ended\"")).count(), 2);
    assert_eq!(records.json(&["list"]), held);

    // The file is valid and takes new records.
    records.json(&["verify"]);
    records.recorded(&[
        "add",
        "b.example.com",
        "--writer",
        "web",
        "--pin",
        &pin(B),
        "--origin",
        "x",
    ]);
    assert_eq!(records.run(&["compact", "web"]).fine(), "web: 0 of 6 lines removed\n");

    // An older copy of the file does not bring the removed record back.
    std::fs::write(records.0.path().join("records/peers/web.jsonl"), before).expect("a copy");
    assert_eq!(records.json(&["list"])["published"].as_array().map(Vec::len), Some(3));
}

#[test]
fn files_that_compact_must_not_change_are_unchanged() {
    let records = Records::new();
    history(&records);
    let path = records.0.path().join("records/web.jsonl");
    let text = file(&records, "web.jsonl");
    records.run(&["compact", "other"]).failed(3, "other.jsonl\": no such file");

    // A file of another machine is refused if it is named, and skipped otherwise.
    let machine = text.split("\"machine\":\"").nth(1).and_then(|rest| rest.get(..32));
    let copied = ["add", "c.example", "--pin", &pin(A), "--origin", "x", "--writer", "copy"];
    records.recorded(&copied);
    let copy = records.0.path().join("records/copy.jsonl");
    let identity = Identity { instance: "0".repeat(32), machine: "0".repeat(32) };
    assert_ne!(machine, Some(identity.machine.as_str()));
    std::fs::write(&copy, line("copy", 0, Body::Writer(identity))).expect("a copy");
    records
        .run(&["compact", "copy"])
        .failed(1, "copy: not changed: the file was made on another machine");
    assert_eq!(records.run(&["compact"]).fine(), "web: 1 of 6 lines removed\n");
    std::fs::remove_file(&copy).expect("removed");

    // If the clock is before the newest record, no record counts as old.
    std::fs::write(&path, &text).expect("a file");
    let future = records.0.path().join("records/later.jsonl");
    let compromised = Compromised { pin: A.parse().expect("a pin"), why: "x".to_owned() };
    let later = line("later", 32_000_000_000, Body::Compromised(compromised));
    std::fs::write(&future, later).expect("a copy");
    records.run(&["compact", "web"]).failed(3, "nothing was removed");
    assert_eq!(file(&records, "web.jsonl"), text);
    records.run(&["verify"]).failed(3, "before the newest record (29");
    std::fs::remove_file(&future).expect("removed");

    // A broken line is an error with its number, and nothing is written.
    std::fs::write(&path, text.replace("86400", "86401")).expect("a file");
    records.run(&["compact"]).failed(1, "web.jsonl\": line 2");
}

#[test]
fn records_written_during_compact_are_kept() {
    let records = Records::new();
    history(&records);
    let start = |arguments: &[&str]| {
        let mut command = crate::hpkp();
        command.current_dir(records.0.path()).stdout(Stdio::null()).stderr(Stdio::piped());
        command.args(["published", "-d", "records"]).args(arguments).spawn().expect("the command")
    };
    let mut children = Vec::new();
    for round in 0..3 {
        for writer in 0..4 {
            let host = format!("h{round}-{writer}.example");
            let add = ["add", &host, "--writer", "web", "--pin", &pin(A), "--origin", "x"];
            children.push(start(&add));
            // Something to take out each time.
            let header =
                format!("pin-sha256=\"{A}\"; pin-sha256=\"{B}\"; max-age={round}{writer}1");
            let ended = ["add", &host, "--writer", "web", "--header", &header];
            children.push(start(&[&ended[..], &["--until", "2020-01-01"]].concat()));
        }
        children.push(start(&["compact", "web"]));
    }
    for child in children {
        let ended = outcome(child.wait_with_output().expect("its end"));
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
    records.run(&["compact"]).fine();
    let list = run(Path::new(records.0.path()), &["published", "-d", "records", "list"]).fine();
    for host in (0..3).flat_map(|round| (0..4).map(move |writer| format!("h{round}-{writer}."))) {
        assert!(list.contains(&host), "{host}: {list}");
    }
}
