//! Posts the conformance corpus to a running collector.
//!
//! `HPKP_CONFORMANCE_DIR` may name another directory of the same format.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::collector::Collector;

fn directory() -> PathBuf {
    std::env::var_os("HPKP_CONFORMANCE_DIR").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/conformance")),
        PathBuf::from,
    )
}

#[test]
fn every_report_of_the_corpus_gets_the_expected_status() {
    check(&directory().join("reports.jsonl"));
}

#[test]
fn every_supported_format_is_accepted() {
    check(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/conformance/collector.jsonl")));
}

fn check(corpus: &Path) {
    let corpus = std::fs::read_to_string(corpus).unwrap();
    let cases: Vec<Value> =
        corpus.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(!cases.is_empty());
    let hosts = [
        "*.com",
        "*.net",
        "*.org",
        "*.example",
        "example.com",
        "example.org",
        "*.de",
        "*.test",
        "2001:db8::1",
    ];
    let collector = Collector::start(&hosts, "", "[limits]\nclient_per_minute = 100000\n");
    let (mut accepted, mut before) = (0, 0);
    let mut wrong = Vec::new();
    for case in &cases {
        let body = match case.get("body_base64").and_then(Value::as_str) {
            Some(base64) => STANDARD.decode(base64).unwrap(),
            None => case["body"].as_str().unwrap().as_bytes().to_vec(),
        };
        let kind = case["content_type"].as_str().unwrap_or("application/json");
        let status = collector.post_with(&body, &[("content-type", kind)]).status;
        let verdict = if status == 204 { "accept" } else { "reject" };
        accepted += i64::from(status == 204);
        let others = case["acceptable"]["collector"].as_array();
        let is_right = case["expect"]["collector"] == verdict
            || others.is_some_and(|others| others.iter().any(|other| other == verdict));
        if !is_right || !matches!(status, 204 | 400) {
            wrong.push(format!("{}: {status}", case["id"]));
        }
        // The number of stored reports, if the case has it.
        let stored = collector.metric("hpkp_reports_accepted_total");
        let reports = stored - before;
        before = stored;
        if case["expect"]["reports"].as_u64().is_some_and(|expected| expected != reports) {
            wrong.push(format!("{}: {reports} reports", case["id"]));
        }
        if case["expect"].get("reports").is_none() && reports != u64::from(status == 204) {
            wrong.push(format!("{}: {status} and {reports} reports", case["id"]));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(accepted > 0);
    for group in collector.groups() {
        assert!(!group["raw"].as_str().unwrap().is_empty());
        let page = collector.get(&format!("/group/{}", group["id"].as_str().unwrap()));
        assert_eq!(page.status, 200, "{}", page.body);
    }
}
