//! The same over HTTP/3, which nginx speaks from 1.25 on.

use std::process::Command;

use hpkp_tests::client::parse;
use hpkp_tests::{succeed, target_dir};

use crate::responses::{CASES, Case, site};

#[test]
fn exactly_one_field_of_each_kind() {
    let mut site = site();
    // Plain requests, in one connection.
    let plain = |case: &&Case| case.1.is_empty();
    let cases: Vec<&Case> = CASES.iter().filter(plain).collect();
    assert!(cases.len() > 30);
    let mut client = Command::new(target_dir().join("http3/bin/python"));
    client.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/nginx/http3.py"));
    client.arg(site.nginx.path("ca.pem")).args(["localhost", &site.https.to_string()]);
    let said = succeed(client.args(cases.iter().map(|case| case.0)));
    let responses = parse(&String::from_utf8(said).expect("UTF-8"));
    assert_eq!(responses.len(), cases.len());
    for ((path, _, status), response) in cases.into_iter().zip(responses) {
        assert_eq!(response.status, *status, "{path}: {response:?}");
        assert_eq!(response.pins(), [&site.enforced], "{path}");
        assert_eq!(response.all("public-key-pins-report-only"), [&site.report_only], "{path}");
    }
    site.nginx.stop();
}
