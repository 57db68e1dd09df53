//! Runs the conformance corpus against the core (tests/conformance/README.md describes the files).
//!
//! `HPKP_CONFORMANCE_DIR` names another directory of the same format, if set.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a corpus that is not in its format fails the test"
)]

#[path = "conformance/emit.rs"]
mod emit;
#[path = "conformance/headers.rs"]
mod headers;
#[path = "conformance/received.rs"]
mod received;
#[path = "conformance/reports.rs"]
mod reports;
#[path = "conformance/spki.rs"]
mod spki;
#[path = "conformance/store.rs"]
mod store;

use std::path::{Path, PathBuf};

use hpkp_core::pin::Pin;
use serde_json::Value;

/// Cases that may fail: suite, id and reason. Only a judged case may be excused.
const EXCEPTIONS: [(&str, &str, &str); 0] = [];

/// One way to check one file.
struct Suite {
    name: &'static str,
    file: &'static str,
    /// Whether the suite can check a case of the file.
    applies: fn(&Value) -> bool,
    /// Checks the core's result for the case; an error describes the difference.
    check: fn(&Path, &Value) -> Result<(), String>,
}

const SUITES: [Suite; 9] = [
    Suite {
        name: "headers",
        file: "headers.jsonl",
        applies: |_| true,
        check: headers::verdict_of_the_rfc,
    },
    Suite {
        name: "headers, Chromium",
        file: "headers.jsonl",
        applies: |_| true,
        check: headers::verdict_of_chromium,
    },
    Suite {
        name: "headers, Firefox",
        file: "headers.jsonl",
        applies: |_| true,
        check: headers::verdict_of_firefox,
    },
    Suite {
        name: "headers, wget2",
        file: "headers.jsonl",
        applies: |_| true,
        check: headers::verdict_of_wget2,
    },
    Suite {
        name: "emit, recommended",
        file: "emit.jsonl",
        applies: emit::applies,
        check: emit::check,
    },
    Suite {
        name: "emit, as received",
        file: "emit.jsonl",
        applies: received::applies,
        check: received::check,
    },
    Suite { name: "store", file: "store.jsonl", applies: |_| true, check: store::check },
    Suite { name: "reports", file: "reports.jsonl", applies: |_| true, check: reports::check },
    Suite { name: "spki", file: "spki.jsonl", applies: |_| true, check: spki::check },
];

#[test]
fn conformance() {
    let directory = std::env::var_os("HPKP_CONFORMANCE_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/conformance"),
        PathBuf::from,
    );
    let mut unexcused = 0;
    for suite in SUITES {
        let path = directory.join(suite.file);
        let text = std::fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let lines = text.lines().filter(|line| !line.trim().is_empty());
        let (mut passed, mut failed) = (0, Vec::new());
        for line in lines {
            let case: Value = serde_json::from_str(line).unwrap();
            if !(suite.applies)(&case) {
                continue;
            }
            match (suite.check)(&directory, &case) {
                Ok(()) => passed += 1,
                Err(why) => failed.push((string(&case["id"]).to_owned(), why, case)),
            }
        }
        println!("{}: {passed} of {} passed", suite.name, passed + failed.len());
        for (id, why, case) in failed {
            let excuse =
                EXCEPTIONS.iter().find(|(name, excused, _)| *name == suite.name && *excused == id);
            if let Some((_, _, reason)) = excuse {
                assert!(!case["judged"].is_null(), "{id} is excused, but not a judged case");
                println!("  excused: {id}: {reason}");
            } else {
                unexcused += 1;
                println!("  FAILED: {id}: {why}");
            }
        }
    }
    assert_eq!(unexcused, 0, "cases failed without an excuse");
}

fn string(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no string: {value}"))
}

/// The items of an array; empty if the array is left out.
fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// Code points 0 to 255 stand for bytes.
fn bytes(value: &Value) -> Vec<u8> {
    string(value).chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect()
}

fn pin(value: &Value) -> Pin {
    match Pin::from_base64(string(value)) {
        Ok(pin) => pin,
        Err(hpkp_core::pin::PinError::OfNothing) => Pin::OF_NOTHING,
        Err(error) => panic!("{value}: {error}"),
    }
}

fn pins(value: &Value) -> Vec<Pin> {
    items(value).iter().map(pin).collect()
}

/// Distinct pins as the corpus compares them.
fn pin_set(value: &Value) -> std::collections::BTreeSet<Pin> {
    pins(value).into_iter().collect()
}

/// Compares `actual[key]` with `expected[key]`, or any of `acceptable[key]`.
fn compare(key: &str, actual: &Value, expected: &Value, acceptable: &Value) -> Result<(), String> {
    if actual == expected || items(&acceptable[key]).contains(actual) {
        return Ok(());
    }
    Err(format!("{key}: {actual} where {expected} is expected"))
}
