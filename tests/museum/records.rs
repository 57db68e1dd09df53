//! What the servers write, and when.

use hpkp_tests::free_port;
use hpkp_tests::httpd::Httpd;
use hpkp_tests::instance::Reload;
use hpkp_tests::layout::{BLOCK, Block, LAYOUT, Layout, POLICY, Policy, Site};
use hpkp_tests::nginx::Nginx;
use hpkp_tests::site::{A, B};

/// The events in the file of `web-1`, by their kinds.
fn kinds(site: &impl Site) -> Vec<String> {
    let file = std::fs::read_to_string(site.path("records/web-1.jsonl")).unwrap_or_default();
    file.lines()
        .map(|line| {
            let (_, kind) = line.split_once("\"event\":\"").expect("an event");
            kind.split('"').next().expect("a kind").to_owned()
        })
        .collect()
}

fn written_and_ended<S: Site>() {
    let mut site = S::with_records();
    let (port, live) = (free_port(), site.pki().pin("live.pem"));
    let pins = [live.as_str(), B];
    let policies = [Policy { pins: &pins, ..POLICY }];
    let blocks = [Block { port, ..BLOCK }];
    let layout = Layout { policies: &policies, blocks: &blocks, ..LAYOUT };
    site.lay_out(&layout);
    site.test().accepted(&[]);
    assert_eq!(kinds(&site), [""; 0], "a test writes nothing");
    site.up();
    assert_eq!(kinds(&site), ["writer", "published", "presents"]);
    // Nothing new, nothing written.
    assert_eq!(site.reload_tested(), Reload::Accepted);
    assert_eq!(kinds(&site).len(), 3);
    let pins = [live.as_str(), B, A];
    site.lay_out(&Layout { policies: &[Policy { pins: &pins, ..POLICY }], ..layout.clone() });
    assert_eq!(site.reload_tested(), Reload::Accepted);
    assert_eq!(kinds(&site)[3..], ["ended", "published"]);
    site.down();
    assert_eq!(kinds(&site)[5..], ["ended"]);
}

#[test]
fn nginx_records_what_it_publishes() {
    written_and_ended::<Nginx>();
}

#[test]
fn httpd_records_what_it_publishes() {
    written_and_ended::<Httpd>();
}
