//! The events that the servers record, and when.

use hpkp_core::published::Body;
use hpkp_tests::client::Curl;
use hpkp_tests::free_port;
use hpkp_tests::httpd::Httpd;
use hpkp_tests::instance::Reload;
use hpkp_tests::layout::{BLOCK, Block, LAYOUT, Layout, POLICY, Policy, Site};
use hpkp_tests::nginx::Nginx;
use hpkp_tests::recorded;
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
    // A reload without a change writes nothing.
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

#[test]
fn nginx_records_what_it_presents_on_a_unix_socket() {
    let mut nginx = Nginx::with_records();
    let pki = nginx.pki();
    pki.leaf("other", "localhost", "ca");
    let live = pki.pin("live.pem");
    let socket = nginx.path("socket");
    let lay_out = |nginx: &Nginx, certificate: &str, listen: &str| {
        nginx.configure(&format!(
            "hpkp_published_pins records writer=web-1;\n\
             hpkp_policy site {{ pin {live}; pin {B}; max_age 1d; }}\n\
             server {{ listen unix:{} ssl; {listen} server_name localhost; return 200 x;\n\
             ssl_certificate {certificate}.pem; ssl_certificate_key {certificate}.key;\n\
             hpkp site; }}",
            socket.display()
        ));
    };
    let own = nginx.path("records/web-1.jsonl");
    let ports = || -> Vec<Vec<u16>> {
        let events = recorded::events(&own);
        let all = events.iter().filter_map(|event| match event.body() {
            Body::Presents(presents) => Some(presents.ports.clone()),
            _ => None,
        });
        all.collect()
    };
    lay_out(&nginx, "live", "");
    nginx.start();
    let curl = Curl::new(&nginx.path("ca.pem"));
    let curl = curl.with(&["--unix-socket", &socket.display().to_string()]);
    assert_eq!(curl.get("https://localhost/").pins().len(), 1);
    assert_eq!(ports(), [Vec::<u16>::new()]);
    // The records can be read, and bind the next configuration.
    lay_out(&nginx, "other", "");
    let outcome = nginx.test();
    assert_eq!(outcome.code, Some(1), "{}", outcome.text);
    assert_eq!(outcome.codes(), ["no-pin-in-chain", "published-pins-unmet"]);
    let port = free_port();
    lay_out(&nginx, "live", &format!("listen 127.0.0.1:{port} ssl;"));
    nginx.test().accepted(&[]);
    assert_eq!(nginx.reload(), Reload::Accepted);
    assert_eq!(ports(), [vec![], vec![port]]);
    nginx.stop();
}
