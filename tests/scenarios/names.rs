//! Another server block answers, for this name or one below it.

use hpkp_tests::client::Curl;
use hpkp_tests::free_port;
use hpkp_tests::layout::{BLOCK, Block, LAYOUT, Layout, POLICY, Policy, Site};
use hpkp_tests::outcome::Kind;
use hpkp_tests::recorded;
use hpkp_tests::site::B;

use crate::fixture::{Fixture, says};

super::scenarios! {
    a_new_subdomain_under_include_subdomains
    a_block_removed_so_that_the_default_answers
    a_name_that_the_default_server_had
    an_address_on_which_the_default_answers
    a_name_that_keeps_its_trailing_dot
    a_pattern_for_some_hosts_of_the_certificate
    two_ports_of_one_name
}

fn a_new_subdomain_under_include_subdomains<S: Site>() {
    let mut fixture = Fixture::<S>::new();
    let pki = fixture.pki.clone();
    pki.leaf("apex", "example.com", "ca");
    pki.leaf("shop", "shop.example.com", "ca");
    pki.leaf("other", "another-example.com", "ca");
    fixture.certify("shop-apex", "apex", "shop.example.com", "ca");
    let (apex_pin, shop_pin) = (pki.pin("apex.pem"), pki.pin("shop.pem"));

    let port = fixture.port;
    let apex = Block { port, names: &["example.com"], certificates: &["apex"], ..BLOCK };
    let below = |certificate| Block {
        port,
        names: &["shop.example.com"],
        certificates: certificate,
        policy: None,
        ..BLOCK
    };
    let pins = [apex_pin.as_str(), B];
    let policies = [Policy { pins: &pins, include_subdomains: true, ..POLICY }];
    let layout = Layout { policies: &policies, ..LAYOUT };
    fixture.up_with(&Layout { blocks: std::slice::from_ref(&apex), ..layout.clone() }, &[]);

    let unmet = ["superdomain-pins-unmet"];
    let blocks = [apex.clone(), below(&["shop"])];
    let outcome = fixture.refuses_all(&Layout { blocks: &blocks, ..layout.clone() }, &unmet);
    says(
        &outcome,
        &["hpkp: [superdomain-pins-unmet] shop.example.com: no key in the certificate chain"],
    );
    // Neither does it help to pin the new key now, nor to let the subdomains go.
    let more = [apex_pin.as_str(), &shop_pin, B];
    let both = [Policy { pins: &more, include_subdomains: true, ..POLICY }];
    fixture.refuses_all(&Layout { policies: &both, blocks: &blocks, ..LAYOUT }, &unmet);
    let neither = [Policy { pins: &pins, ..POLICY }];
    fixture.refuses_all(&Layout { policies: &neither, blocks: &blocks, ..LAYOUT }, &unmet);

    // A name that only ends in the same letters is not below it.
    let beside = Block {
        port,
        names: &["another-example.com"],
        certificates: &["other"],
        policy: None,
        ..BLOCK
    };
    let blocks = [apex, below(&["shop-apex"]), beside];
    fixture.takes_all(&Layout { blocks: &blocks, ..layout }, &[]);
}

fn a_block_removed_so_that_the_default_answers<S: Site>() {
    let mut fixture = Fixture::<S>::new();
    let pki = fixture.pki.clone();
    pki.leaf("default", "default.example,DNS:localhost", "ca");
    pki.leaf("plain", "default.example", "ca");
    fixture.certify("default-live", "live", "default.example,DNS:localhost", "ca");
    let live = pki.pin("live.pem");
    let port = fixture.port;
    let default = |certificates| Block {
        port,
        names: &["default.example"],
        certificates,
        policy: None,
        ..BLOCK
    };
    let pins = [live.as_str(), B];
    let policies = [Policy { pins: &pins, ..POLICY }];
    let layout = Layout { policies: &policies, ..LAYOUT };
    let site = Block { port, ..BLOCK };
    let blocks = [default(&["default"]), site.clone()];
    fixture.up_with(&Layout { blocks: &blocks, ..layout.clone() }, &[]);

    let outcome = fixture
        .refuses_all(&Layout { blocks: &blocks[..1], ..layout.clone() }, &["published-pins-unmet"]);
    says(&outcome, &["hpkp: [published-pins-unmet] default.example:", "visited localhost since"]);

    // Where no other server is on the port, nobody answers.
    let elsewhere = [Block { port: free_port(), ..default(&["plain"]) }];
    fixture.passes_all(&Layout { blocks: &elsewhere, ..layout.clone() }, &["pinned-port-closed"]);
    let blocks = [default(&["default-live"])];
    fixture.takes_all(&Layout { blocks: &blocks, ..layout }, &[]);
}

fn a_name_that_the_default_server_had<S: Site>() {
    let mut fixture = Fixture::<S>::new();
    let pki = fixture.pki.clone();
    pki.leaf("site", "example.com,DNS:www.example.com", "ca");
    pki.leaf("new", "www.example.com", "ca");
    fixture.certify("new-site", "site", "www.example.com", "ca");
    let site_pin = pki.pin("site.pem");
    let port = fixture.port;
    let site = Block { port, names: &["example.com"], certificates: &["site"], ..BLOCK };
    let www = |certificates| Block {
        port,
        names: &["www.example.com"],
        certificates,
        policy: None,
        ..BLOCK
    };
    let pins = [site_pin.as_str(), B];
    let policies = [Policy { pins: &pins, ..POLICY }];
    let layout = Layout { policies: &policies, ..LAYOUT };
    fixture.up_with(&Layout { blocks: std::slice::from_ref(&site), ..layout.clone() }, &[]);
    let curl = Curl::new(&fixture.site.path("ca.pem"));
    assert_eq!(curl.get(&format!("https://www.example.com:{port}/")).pins().len(), 1);

    let blocks = [site.clone(), www(&["new"])];
    let outcome = fixture
        .refuses_all(&Layout { blocks: &blocks, ..layout.clone() }, &["published-pins-unmet"]);
    says(&outcome, &["visited www.example.com since"]);
    fixture.takes_all(&Layout { blocks: &[site, www(&["new-site"])], ..layout }, &[]);
}

fn an_address_on_which_the_default_answers<S: Site>() {
    let fixture = Fixture::<S>::new();
    let pki = fixture.pki.clone();
    pki.leaf("www", "www.example.com", "ca");
    pki.leaf("wild", "*.example.com", "ca");
    let www_pin = pki.pin("www.pem");
    let [first, second] = [fixture.port, free_port()];
    let www = |port| Block { port, names: &["www.example.com"], certificates: &["www"], ..BLOCK };
    let default = Block {
        port: second,
        names: &["example.com"],
        certificates: &["wild"],
        policy: None,
        ..BLOCK
    };
    let pins = [www_pin.as_str(), B];
    let policies = [Policy { pins: &pins, ..POLICY }];
    let layout = Layout { policies: &policies, ..LAYOUT };
    let blocks = [www(first), default.clone(), www(second)];
    fixture.passes_all(&Layout { blocks: &blocks, ..layout.clone() }, &[]);
    let outcome = fixture
        .refuses_all(&Layout { blocks: &blocks[..2], ..layout }, &["same-host-pin-mismatch"]);
    says(&outcome, &["server \"example.com\" presents keys for"]);
}

/// The server takes the dot off what clients ask for, and not off its own name: nobody gets there.
fn a_name_that_keeps_its_trailing_dot<S: Site>() {
    let mut fixture = Fixture::<S>::new();
    let pki = fixture.pki.clone();
    pki.leaf("default", "default.example,DNS:www.example.com", "ca");
    pki.leaf("www", "www.example.com", "ca");
    pki.leaf("new", "www.example.com", "ca");
    let port = fixture.port;
    let block = |names, certificates| Block { port, names, certificates, policy: None, ..BLOCK };
    let default = || block(&["default.example"], &["default"]);
    let layout = Layout { policies: &[], ..LAYOUT };
    let named = [default(), block(&["www.example.com"], &["www"])];
    fixture.up_with(&Layout { blocks: &named, ..layout.clone() }, &[]);
    let apps = fixture.site.path("records/apps.jsonl");
    recorded::held_by_an_app(&apps, "www.example.com", &pki.pin("www.pem"));
    let dotted = |certificates| [default(), block(&["www.example.com."], certificates)];
    let outcome = fixture.refuses_all(
        &Layout { blocks: &dotted(&["www"]), ..layout.clone() },
        &["published-pins-unmet"],
    );
    says(&outcome, &["hpkp: [published-pins-unmet] default.example:"]);

    // Nor is a client locked out by what it presents.
    std::fs::remove_file(&apps).expect("a file");
    recorded::held_by_an_app(&apps, "www.example.com", &pki.pin("default.pem"));
    fixture.passes_all(&Layout { blocks: &dotted(&["www"]), ..layout.clone() }, &[]);
    fixture.passes_all(&Layout { blocks: &dotted(&["new"]), ..layout }, &[]);
}

fn a_pattern_for_some_hosts_of_the_certificate<S: Site>() {
    let mut fixture = Fixture::<S>::new();
    let pki = fixture.pki.clone();
    pki.leaf("first", "first.example", "ca");
    pki.leaf("old", "*.example.com,DNS:api.example.org", "ca");
    pki.leaf("new", "*.example.com,DNS:api.example.org", "ca");
    let (old, new) = (pki.pin("old.pem"), pki.pin("new.pem"));
    let port = fixture.port;
    let names: &[&str] = match S::KIND {
        Kind::Nginx => &["~^api\\d+\\.example\\.com$"],
        Kind::Httpd => &["api.example.org", "api*.example.com"],
    };
    let first =
        Block { port, names: &["first.example"], certificates: &["first"], policy: None, ..BLOCK };
    let api = |certificates| Block { port, names, certificates, ..BLOCK };
    let pins = [old.as_str(), B];
    let policies = [Policy { pins: &pins, ..POLICY }];
    let layout = Layout { policies: &policies, ..LAYOUT };
    let blocks = [first.clone(), api(&["old"])];
    fixture.up_with(&Layout { blocks: &blocks, ..layout.clone() }, &[]);
    let curl = Curl::new(&fixture.site.path("ca.pem"));
    assert_eq!(curl.get(&format!("https://api7.example.com:{port}/")).pins().len(), 1);

    let pins = [new.as_str(), B];
    let policies = [Policy { pins: &pins, ..POLICY }];
    let swapped = Layout { policies: &policies, blocks: &[first, api(&["new"])], ..LAYOUT };
    let outcome = fixture.refuses_all(&swapped, &["published-pins-unmet"]);
    says(&outcome, &["*.example.com"]);
    let pins = [old.as_str(), &new];
    let policies = [Policy { pins: &pins, ..POLICY }];
    fixture.takes_all(&Layout { policies: &policies, blocks: &blocks, ..LAYOUT }, &[]);
}

fn two_ports_of_one_name<S: Site>() {
    let mut fixture = Fixture::<S>::new();
    let pki = fixture.pki.clone();
    pki.leaf("other", "localhost", "ca");
    let (live, other) = (pki.pin("live.pem"), pki.pin("other.pem"));
    let blocks = [
        Block { port: fixture.port, ..BLOCK },
        Block { port: free_port(), certificates: &["other"], policy: None, ..BLOCK },
    ];
    let pins = [live.as_str(), B];
    let policies = [Policy { pins: &pins, ..POLICY }];
    let layout = Layout { policies: &policies, blocks: &blocks, ..LAYOUT };
    let outcome = fixture.refuses_all(&layout, &["same-host-pin-mismatch"]);
    says(&outcome, &["presents keys for localhost that policy"]);

    let pins = [live.as_str(), &other, B];
    fixture
        .up_with(&Layout { policies: &[Policy { pins: &pins, ..POLICY }], ..layout.clone() }, &[]);
    assert_eq!(fixture.get().pins().len(), 1);

    // And where clients hold them already, the other port may not come with a key of its own.
    fixture.forget();
    fixture.up_with(&Layout { blocks: &blocks[..1], ..layout.clone() }, &[]);
    let codes = ["published-pins-unmet", "same-host-pin-mismatch"];
    fixture.refuses_all(&layout, &codes);
    let same = [blocks[0].clone(), Block { certificates: &["live"], ..blocks[1].clone() }];
    fixture.takes_all(&Layout { blocks: &same, ..layout }, &[]);
}
