//! The same over HTTP/3, which nginx speaks from 1.25 on.

use std::process::Command;

use hpkp_tests::cases::responses::{CASES, Case};
use hpkp_tests::client::parse;
use hpkp_tests::nginx::Kind;
use hpkp_tests::{succeed, target_dir};

use crate::responses::site;

#[test]
fn exactly_one_field_of_each_kind() {
    let (mut nginx, site) = site();
    // Plain requests, in one connection.
    let plain = |case: &Case| {
        let status = case.status(Kind::Nginx).filter(|_| case.arguments.is_empty())?;
        Some((case.path, status))
    };
    let cases: Vec<(&str, u16)> = CASES.iter().filter_map(plain).collect();
    assert!(cases.len() > 30);
    let mut client = Command::new(target_dir().join("http3/bin/python"));
    client.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/nginx/http3.py"));
    client.arg(&site.ca).args(["localhost", &site.https.to_string()]);
    let said = succeed(client.args(cases.iter().map(|(path, _)| path)));
    let responses = parse(&String::from_utf8(said).expect("UTF-8"));
    assert_eq!(responses.len(), cases.len());
    for ((path, status), response) in cases.into_iter().zip(responses) {
        assert_eq!(response.status, status, "{path}: {response:?}");
        assert_eq!(response.pins(), [&site.enforced], "{path}");
        assert_eq!(response.all("public-key-pins-report-only"), [&site.report_only], "{path}");
    }
    nginx.stop();
}
