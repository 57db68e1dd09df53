//! The conformance corpus, by the running server.
//!
//! `HPKP_CONFORMANCE_DIR` names another directory of the same format, if set.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::collector::Collector;

#[test]
fn every_report_of_the_corpus_is_taken_or_refused_as_it_should_be() {
    let directory = std::env::var_os("HPKP_CONFORMANCE_DIR").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/conformance")),
        PathBuf::from,
    );
    let corpus = std::fs::read_to_string(directory.join("reports.jsonl")).unwrap();
    let cases: Vec<Value> =
        corpus.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(!cases.is_empty());
    let hosts = ["*.com", "*.net", "*.org", "*.example", "example.com", "*.de", "*.test"];
    let limits = "[limits]\nclient_per_minute = 100000\n";
    let collector = Collector::start(&hosts, "", limits);
    let mut accepted = 0;
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
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(accepted > 0);
    // Every acknowledged one is there, and nothing else.
    assert_eq!(collector.total(), accepted);
    for group in collector.groups() {
        assert!(!group["raw"].as_str().unwrap().is_empty());
        let page = collector.get(&format!("/group/{}", group["id"].as_str().unwrap()));
        assert_eq!(page.status, 200, "{}", page.body);
    }
}
