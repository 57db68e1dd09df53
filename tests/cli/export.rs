//! `hpkp published export`: recorded pins in the formats of other software, and pins that a format cannot express.

use hpkp_tests::site::{A, B};
use serde_json::json;

use crate::records::{Records, id};

const HEADER_AGE: &str = "max-age=5184000; includeSubDomains";

#[test]
fn every_format_has_all_recorded_pins() {
    let records = Records::new();
    let header = format!("pin-sha256=\"{A}\"; pin-sha256=\"{B}\"; {HEADER_AGE}");
    records.recorded(&["add", "www.example.com", "--header", &header]);
    for format in ["okhttp", "android", "trustkit", "nginx", "httpd", "haproxy", "json"] {
        let is_of_apps = ["okhttp", "android", "trustkit"].contains(&format);
        if is_of_apps {
            records.run(&["export", "--format", format]).failed(1, "a max-age");
        }
        let more: &[&str] = if is_of_apps { &["--without-max-age"] } else { &[] };
        let outcome = records.run(&[&["export", "--format", format], more].concat());
        assert_eq!(outcome.code, Some(0), "{format} {outcome:?}");
        assert!(outcome.out.contains("www.example.com"), "{format} {outcome:?}");
        for pin in [A, B] {
            assert!(outcome.out.contains(pin), "{format} {outcome:?}");
        }
        let export = ["export", "--format", format, "WWW.example.com."];
        let printed = records.json(&[&export[..], more].concat());
        assert_eq!(
            (&printed["format"], printed["text"].as_str().map(str::trim_end)),
            (&json!(format), Some(outcome.out.trim_end()))
        );
        // The command can read its own export.
        let read = match format {
            "nginx" | "httpd" | "haproxy" => {
                let line = outcome.out.lines().nth(1).expect("a line");
                let other = Records::new();
                let record = other.recorded(&["add", "www.example.com", "--header", line]);
                assert_eq!(record["max_age"], 5_184_000);
                record
            }
            _ => {
                std::fs::write(records.0.path().join("out"), &outcome.out).expect("a file");
                let import = ["import", "--dry-run", "--format", format, "--origin", "x", "out"];
                let outcome = records.run(&[&["--json"], &import[..]].concat());
                let dry: serde_json::Value = serde_json::from_str(&outcome.out).expect("JSON");
                dry["would_record"][0].clone()
            }
        };
        assert_eq!(read["pins"].as_array().map(Vec::len), Some(2), "{format} {read}");
    }
}

#[test]
fn a_record_that_a_format_cannot_express_is_refused_with_its_host() {
    let records = Records::new();
    let add = |host: &str, more: &[&str]| {
        let pins = [&format!("sha256/{A}")[..], &format!("sha256/{B}")[..]];
        let base = ["add", host, "--origin", "app", "--pin", pins[0], "--pin", pins[1]];
        records.recorded(&[&base[..], more].concat())
    };
    let leaf = add("leaf.example.com", &["--scope", "leaf", "--port", "8443"]);
    add("age.example.com", &["--expires", "2999-01-01T00:00:00Z"]);
    add("*.one.example.com", &[]);
    for (format, name, what) in [
        ("okhttp", "leaf.example.com", "a port"),
        ("android", "leaf.example.com", "a port"),
        ("ios", "leaf.example.com", "a port"),
        ("okhttp", "age.example.com", "an expiry"),
        ("trustkit", "age.example.com", "an expiry within a day"),
        ("tlsa", "age.example.com", "an expiry"),
        ("android", "*.one.example.com", "a pattern of one label"),
        ("curl", "*.one.example.com", "a pattern of one label"),
        ("nginx", "*.one.example.com", "a pattern of hosts"),
    ] {
        let outcome = records.run(&["export", "--format", format, name]);
        assert_eq!(
            (outcome.code, outcome.out.as_str()),
            (Some(1), ""),
            "{format} {name} {outcome:?}"
        );
        outcome.failed(1, name);
        outcome.failed(1, what);
    }
    let curl = records.run(&["export", "--format", "curl", id(&leaf)]).fine();
    assert!(curl.contains("https://leaf.example.com:8443/"), "{curl}");
    let tlsa = records.run(&["export", "--format", "tlsa", "leaf.example.com"]).fine();
    assert!(tlsa.starts_with("_8443._tcp.leaf.example.com. IN TLSA 3 1 1 "), "{tlsa}");
    records.run(&["export", "--format", "json"]).fine();

    // Two records that must both be satisfied cannot become one pin set.
    let one = format!("sha256/{A}");
    records.recorded(&["add", "age.example.com", "--origin", "other app", "--pin", &one]);
    let both = ["export", "--format", "android", "age.example.com"];
    records.run(&both).failed(1, "age.example.com");
    records.run(&["export", "--format", "json", "none.example.com"]).failed(1, "none.example.com");
    // Pins that have ended are not exported.
    records.run(&["end", id(&leaf), "--why", "gone"]);
    records.run(&["export", "--format", "curl", "leaf.example.com"]).failed(1, "leaf.example.com");
}
