//! `hpkp ca`: the table of CA keys, built in and from a file.

use std::path::Path;

use hpkp_tests::site::A;
use serde_json::{Value, json};

use crate::run;

const YE1: &str = "sha256/brzvtCELCIZUo4sD/qPX0ccRtPsd3DY6RfmxpOU9oB4=";
const X1: &str = "sha256/C5+lpZ7tcVwmwQIMcRtPbsQtWLABXhQzejna0wHFr8M=";

fn ca(arguments: &[&str]) -> crate::Outcome {
    run(Path::new("/"), &[&["ca"], arguments].concat())
}

#[test]
fn a_key_is_listed_with_its_possible_successors() {
    let json = ca(&["show", "--json", YE1]).json();
    assert_eq!(json["known"], true);
    let key = &json["key"];
    assert_eq!((&key["name"], &key["ca"]), (&"YE1".into(), &"Let's Encrypt".into()));
    assert_eq!(key["siblings"].as_array().map(Vec::len), Some(2));
    assert!(key["source"].as_str().is_some_and(|source| source.starts_with("https://")));
    let text = ca(&["show", YE1]).fine();
    assert!(text.starts_with(YE1) && text.contains("\nsibling: ") && text.contains("\nsource: "));
    assert_eq!(ca(&["show", "--json", X1]).json()["key"]["role"], "root");
    let unknown = ca(&["show", &format!("sha256/{A}")]);
    unknown.failed(1, "not in the table");
    assert_eq!(ca(&["show", "--json", &format!("sha256/{A}")]).json()["known"], false);
    assert_eq!(ca(&["show", "x"]).code, Some(2));
}

#[test]
fn keys_are_listed() {
    let lines = |arguments: &[&str]| ca(arguments).fine().lines().count();
    let (all, ours) = (lines(&["list"]), lines(&["list", "--ca", "let's encrypt"]));
    assert!(ours >= 20 && all > ours);
    assert!(lines(&["list", "--roots"]) > all + 100);
    assert_eq!(lines(&["list", "--ca", "nobody"]), 0);
    let json = ca(&["list", "--json", "--ca", "let's encrypt"]).json();
    assert_eq!(json["keys"].as_array().map(Vec::len), Some(ours));
}

#[test]
fn ca_updates_lists_the_changes_since_a_date() {
    let changes =
        |since: &str| ca(&["updates", "--json", "--since", since]).json()["changes"].clone();
    let all = ca(&["updates", "--json"]).json()["changes"].clone();
    let all = all.as_array().expect("changes");
    let dates: Vec<&str> = all.iter().filter_map(|one| one["date"].as_str()).collect();
    assert!(dates.is_sorted() && dates.len() > 20, "{dates:?}");
    let new = changes("2026-07-01");
    let new = new.as_array().expect("changes");
    assert!(!new.is_empty() && new.len() < all.len());
    assert!(new.iter().all(|one| one["date"].as_str().is_some_and(|date| date >= "2026-07-01")));
    assert_eq!(changes("2100-01-01"), json!([]));
    assert_eq!(ca(&["updates", "--since", "soon"]).code, Some(2));
}

#[test]
fn a_file_adds_to_the_table() {
    let dir = tempfile::tempdir().expect("a directory");
    let write = |text: &str| {
        let path = dir.path().join("table.json");
        std::fs::write(&path, text).expect("a file");
        path.to_str().expect("UTF-8").to_owned()
    };
    let table = |date: &str, status: &str| {
        json!({
            "format": "hpkp-ca-table", "v": 1, "date": date,
            "rotations": [{ "id": "ours", "ca": "Ours", "text": "by turns", "source": "https://x/" }],
            "keys": [
                { "pin": YE1, "name": "YE1", "ca": "Let's Encrypt", "role": "intermediate",
                  "status": status, "source": "https://x/" },
                { "pin": format!("sha256/{A}"), "name": "One", "ca": "Ours", "role": "intermediate",
                  "rotation": "ours", "status": "active", "source": "https://x/",
                  "changes": [{ "date": "2099-01-01", "what": "active", "source": "https://x/" }] },
            ],
        })
        .to_string()
    };
    let show = |path: &str, pin: &str| -> Value {
        ca(&["show", "--json", "--table", path, pin]).json()["key"].clone()
    };
    let path = write(&table("2099-01-01", "retired"));
    assert_eq!(show(&path, &format!("sha256/{A}"))["name"], "One");
    assert_eq!(show(&path, YE1)["status"], "retired");
    let changes = ca(&["updates", "--json", "--since", "2099-01-01", "--table", &path]).json();
    assert_eq!(changes["changes"].as_array().map(Vec::len), Some(1));
    // The rows of an older file do not replace those of the release.
    let path = write(&table("2020-01-01", "retired"));
    assert_eq!(show(&path, YE1)["status"], "active");
    assert_eq!(show(&path, &format!("sha256/{A}"))["name"], "One");
    for (text, code, error) in [
        ("", 1, "not a valid table"),
        ("{}", 1, "not a valid table"),
        (&table("soon", "active"), 1, "invalid date"),
        (&table("2099-01-01", "perhaps"), 1, "unknown variant"),
        (&table("2099-01-01", "active").replace("\"v\":1", "\"v\":2"), 1, "version 1"),
        (
            &table("2099-01-01", "active").replace("\"rotation\":\"ours\"", "\"rotation\":\"x\""),
            1,
            "unknown rotation",
        ),
    ] {
        ca(&["list", "--table", &write(text)]).failed(code, error);
    }
    ca(&["list", "--table", "/nowhere"]).failed(3, "/nowhere");
}

#[test]
fn the_example_table_of_the_reference_is_valid() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference/ca-table.md");
    let page = std::fs::read_to_string(path).expect("the page");
    let example = page.split("```json\n").nth(1).and_then(|rest| rest.split("```").next());
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("table.json");
    std::fs::write(&path, example.expect("an example")).expect("a file");
    let path = path.to_str().expect("UTF-8");
    let keys = ca(&["list", "--json", "--ca", "example", "--table", path]).json()["keys"].clone();
    assert_eq!(keys[0]["name"], "Example CA 1");
    let read = |path: &str| -> Value {
        let path = format!("{}/{path}", env!("CARGO_MANIFEST_DIR"));
        serde_json::from_str(&std::fs::read_to_string(path).expect("a file")).expect("JSON")
    };
    let schema = read("../docs/reference/ca-table.schema.json");
    let row = &schema["properties"]["keys"]["items"];
    for table in ["data/ca-roots.json", "data/ca-intermediates.json"] {
        for key in read(table)["keys"].as_array().expect("keys") {
            let members = key.as_object().expect("a row");
            assert!(members.keys().all(|name| row["properties"][name].is_object()), "{key}");
            let required = row["required"].as_array().expect("a list");
            let is_there = |name: &Value| members.contains_key(name.as_str().expect("a name"));
            assert!(required.iter().all(is_there), "{key}");
        }
    }
}
