//! Which block answers for a name has changed, or what it answers with.

use hpkp_tests::client::Curl;
use hpkp_tests::free_port;
use hpkp_tests::instance::{Reload, codes};
use hpkp_tests::layout::{BLOCK, Block, LAYOUT, Layout, POLICY, Policy, Site};
use hpkp_tests::nginx::Nginx;
use hpkp_tests::outcome::Kind;
use hpkp_tests::pki::CA_EXTENSIONS;
use hpkp_tests::site::B;

use crate::apps::published;
use crate::fixture::{Fixture, says};

super::scenarios! {
    a_block_removed_so_that_a_pattern_answers
    a_catch_all_with_a_wildcard_certificate
    a_host_before_a_pattern_that_has_it_too
    a_host_several_labels_below_a_pattern
    a_host_that_has_moved_to_another_machine
    a_port_behind_a_mapping
    a_wildcard_in_the_certificate_of_the_default_server
    an_unchanged_block_beside_a_new_one
    another_certificate_of_the_intermediate
}

const UNMET: &[&str] = &["published-pins-unmet"];

/// Pins that an app has for a host.
fn app<S: Site>(fixture: &Fixture<S>, host: &str, pin: &str) {
    published(fixture, &["add", host, "--pin", pin, "--origin", "app 1", "--writer", "apps"]);
}

/// The names of a block for all hosts below a domain: httpd takes a pattern as an alias alone.
fn pattern<S: Site>() -> &'static [&'static str] {
    match S::KIND {
        Kind::Nginx => &["*.example.com"],
        Kind::Httpd => &["pattern.example", "*.example.com"],
    }
}

fn block<'a>(port: u16, names: &'a [&'a str], certificates: &'a [&'a str]) -> Block<'a> {
    Block { port, names, certificates, policy: None, ..BLOCK }
}

fn another_certificate_of_the_intermediate<S: Site>() {
    let mut fixture = Fixture::<S>::new();
    let pki = fixture.pki.clone();
    pki.ca("other");
    pki.intermediate("between", "ca");
    pki.sign_as("crossed", "between", "/CN=between", "other", CA_EXTENSIONS);
    pki.leaf("leaf", "localhost", "between");
    fixture.certify("again", "leaf", "localhost", "between");
    fixture.chain("old", &["leaf", "crossed"]);
    fixture.chain("renewed", &["again", "crossed"]);
    fixture.chain("new", &["leaf", "between"]);
    fixture.chain("both", &["leaf", "crossed", "between"]);
    pki.bundle("roots.pem", &["ca.pem", "other.pem"]);
    fixture.trusted = Some("roots.pem");
    let (root, other) = (pki.pin("ca.pem"), pki.pin("other.pem"));

    // The same keys, and the path ends at another root.
    fixture.up(&["old"], &[&other, B], &["root-only-match"]);
    let unmet = ["published-pins-unmet", "root-only-match"];
    fixture.refuses(&["new"], &[&root, B], &unmet);
    fixture.refuses(&["new"], &[], UNMET);
    fixture.takes(&["renewed"], &[&other, B], &["root-only-match"]);

    // Pins of an app, which nobody has seen being published.
    fixture.forget();
    app(&fixture, "localhost", &other);
    fixture.up(&["old"], &[], &[]);
    fixture.refuses(&["new"], &[], UNMET);
    fixture.refuses(&["both"], &[], UNMET);
    fixture.takes(&["renewed"], &[], &[]);
}

fn a_block_removed_so_that_a_pattern_answers<S: Site>() {
    let mut fixture = Fixture::<S>::new();
    let pki = fixture.pki.clone();
    pki.leaf("first", "first.example", "ca");
    pki.leaf("a", "a.example.com", "ca");
    pki.leaf("wild", "pattern.example,DNS:*.example.com", "ca");
    fixture.certify("wild-a", "a", "pattern.example,DNS:*.example.com", "ca");
    let port = fixture.port;
    let first = block(port, &["first.example"], &["first"]);
    let wild = |certificates| block(port, pattern::<S>(), certificates);
    let a = block(port, &["a.example.com"], &["a"]);
    let blocks = [first.clone(), a, wild(&["wild"])];
    let layout = Layout { blocks: &blocks, ..LAYOUT };
    fixture.up_with(&layout, &[]);
    // What the app pins, the pattern's own hosts have never met; that is known, and passes.
    app(&fixture, "**.example.com", &pki.pin("a.pem"));
    fixture.passes_all(&layout, UNMET);
    let fallen = [first.clone(), wild(&["wild"])];
    fixture.refuses_all(&Layout { blocks: &fallen, ..LAYOUT }, UNMET);
    fixture.takes_all(&Layout { blocks: &[first, wild(&["wild-a"])], ..LAYOUT }, &[]);
}

/// httpd asks the first block that has a name, and nginx the one that has it in full.
fn a_host_before_a_pattern_that_has_it_too<S: Site>() {
    let mut fixture = Fixture::<S>::new();
    let pki = fixture.pki.clone();
    pki.leaf("first", "first.example", "ca");
    pki.leaf("a", "a.example.com", "ca");
    pki.leaf("other", "a.example.com", "ca");
    pki.leaf("wild", "pattern.example,DNS:*.example.com", "ca");
    let port = fixture.port;
    let with = |certificate| {
        let a = block(port, &["a.example.com"], certificate);
        let wild = block(port, pattern::<S>(), &["wild"]);
        [block(port, &["first.example"], &["first"]), a, wild]
    };
    let before = with(&["a"]);
    fixture.up_with(&Layout { blocks: &before, ..LAYOUT }, &[]);
    app(&fixture, "a.example.com", &pki.pin("a.pem"));
    fixture.refuses_all(&Layout { blocks: &with(&["other"]), ..LAYOUT }, UNMET);
    fixture.takes_all(&Layout { blocks: &before, ..LAYOUT }, &[]);
}

fn a_wildcard_in_the_certificate_of_the_default_server<S: Site>() {
    let mut fixture = Fixture::<S>::new();
    let pki = fixture.pki.clone();
    pki.leaf("wild", "www.example.com,DNS:*.example.com", "ca");
    pki.leaf("new", "www.example.com,DNS:*.example.com", "ca");
    pki.leaf("d", "d.example.com", "ca");
    let pin = pki.pin("wild.pem");
    let port = fixture.port;
    let www = |certificates| Block {
        port,
        names: &["www.example.com"],
        certificates,
        policy: Some("site"),
        ..BLOCK
    };
    let pins = [pin.as_str(), B];
    let policies = [Policy { pins: &pins, ..POLICY }];
    let layout = Layout { policies: &policies, ..LAYOUT };
    let blocks = [www(&["wild"])];
    fixture.up_with(&Layout { blocks: &blocks, ..layout.clone() }, &[]);
    // A client is told nothing of which there is no record.
    let curl = Curl::new(&fixture.site.path("ca.pem"));
    let told = |host: &str| curl.get(&format!("https://{host}:{port}/")).pins().len();
    assert_eq!(
        (told("www.example.com"), told("WWW.example.com"), told("d.example.com")),
        (1, 1, 0)
    );
    let d = block(port, &["d.example.com"], &["d"]);
    fixture.passes_all(&Layout { blocks: &[www(&["wild"]), d.clone()], ..layout.clone() }, &[]);

    // Another machine's host, for which this one would never do.
    app(&fixture, "api.example.com", B);
    let warned = ["wildcard-host-pins-unmet"];
    fixture.passes_all(&Layout { blocks: &blocks, ..layout.clone() }, &warned);
    // A host whose clients have been let in here.
    app(&fixture, "e.example.com", &pin);
    fixture.passes_all(&Layout { blocks: &blocks, ..layout.clone() }, &warned);
    let new = pki.pin("new.pem");
    let pins = [pin.as_str(), &new];
    let policies = [Policy { pins: &pins, ..POLICY }];
    let layout = Layout { policies: &policies, ..LAYOUT };
    fixture.takes_all(&Layout { blocks: &blocks, ..layout.clone() }, &warned);
    let outcome = fixture.refuses_all(
        &Layout { blocks: &[www(&["new"])], ..layout.clone() },
        &[UNMET[0], warned[0]],
    );
    says(&outcome, &["no server there has e.example.com", "*.example.com in its certificate"]);
}

fn a_catch_all_with_a_wildcard_certificate<S: Site>() {
    let fixture = Fixture::<S>::new();
    let pki = fixture.pki.clone();
    pki.leaf("wild", "*.example.com", "ca");
    pki.leaf("api", "api.example.com", "ca");
    app(&fixture, "api.example.com", &pki.pin("api.pem"));
    let port = fixture.port;
    if S::KIND == Kind::Nginx {
        let blocks = [block(port, &["_"], &["wild"])];
        let outcome = fixture.refuses_all(&Layout { blocks: &blocks, ..LAYOUT }, UNMET);
        let why = "no server there has api.example.com, so it answers for it through the name \
                   *.example.com in its certificate";
        let way_out = "hpkp_not_served_here api.example.com;";
        says(&outcome, &[why, "ssl_reject_handshake on", way_out]);
    }
    // With a name of its own it is another matter.
    let blocks = [block(port, &["www.example.com"], &["wild"])];
    fixture.passes_all(&Layout { blocks: &blocks, ..LAYOUT }, &["wildcard-host-pins-unmet"]);
}

fn a_host_several_labels_below_a_pattern<S: Site>() {
    let fixture = Fixture::<S>::new();
    let pki = fixture.pki.clone();
    pki.leaf("first", "first.example", "ca");
    pki.leaf("wild", "pattern.example,DNS:*.example.com", "ca");
    pki.leaf("deep", "z.c.example.com", "ca");
    let pin = pki.pin("wild.pem");
    let port = fixture.port;
    let pins = [pin.as_str(), B];
    let policies = [Policy { pins: &pins, ..POLICY }];
    let first = block(port, &["first.example"], &["first"]);
    let wild = Block { policy: Some("site"), ..block(port, pattern::<S>(), &["wild"]) };
    // No client of the pattern's accepts its certificate there, so none notes its pins.
    let deep = block(free_port(), &["z.c.example.com"], &["deep"]);
    let blocks = [first, wild, deep];
    let layout = Layout { policies: &policies, blocks: &blocks, ..LAYOUT };
    fixture.passes_all(&layout, &[]);
    app(&fixture, "x.a.example.com", B);
    fixture.passes_all(&layout, &[]);
    app(&fixture, "x.example.com", B);
    fixture.refuses_all(&layout, UNMET);
}

fn an_unchanged_block_beside_a_new_one<S: Site>() {
    let mut fixture = Fixture::<S>::new();
    let pki = fixture.pki.clone();
    pki.leaf("wild", "pattern.example,DNS:*.example.com", "ca");
    pki.leaf("b", "b.example.com", "ca");
    pki.leaf("c", "c.example.com", "ca");
    let (first, second) = (fixture.port, free_port());
    let b = block(first, &["b.example.com"], &["b"]);
    let wild = block(second, pattern::<S>(), &["wild"]);
    let blocks = [b.clone(), wild.clone()];
    fixture.up_with(&Layout { blocks: &blocks, ..LAYOUT }, &[]);
    app(&fixture, "x.example.com", B);
    app(&fixture, "x.b.example.com", B);
    fixture.passes_all(&Layout { blocks: &blocks, ..LAYOUT }, UNMET);
    for names in [&["c.example.com"][..], &["y.a.example.com"], &["y.x.example.com"]] {
        let blocks = [b.clone(), wild.clone(), block(first, names, &["c"])];
        fixture.passes_all(&Layout { blocks: &blocks, ..LAYOUT }, UNMET);
    }
    // On another port the name is another one.
    let blocks = [b, wild, block(first, &["x.example.com"], &["c"])];
    fixture.refuses_all(&Layout { blocks: &blocks, ..LAYOUT }, UNMET);
}

fn a_host_that_has_moved_to_another_machine<S: Site>() {
    let mut fixture = Fixture::<S>::new();
    let pki = fixture.pki.clone();
    pki.leaf("a", "a.example.com", "ca");
    pki.leaf("b", "b.example.com", "ca");
    let pin = pki.pin("b.pem");
    let port = fixture.port;
    let pins = [pin.as_str(), B];
    let policies = [Policy { pins: &pins, ..POLICY }];
    let layout = Layout { policies: &policies, ..LAYOUT };
    let a = block(port, &["a.example.com"], &["a"]);
    let b = Block { policy: Some("site"), ..block(port, &["b.example.com"], &["b"]) };
    fixture.up_with(&Layout { blocks: &[a.clone(), b], ..layout.clone() }, &[]);
    // Whoever still comes is turned away for the name.
    let removed = ["removed-host-pins-unmet"];
    fixture.takes_all(&Layout { blocks: std::slice::from_ref(&a), ..layout.clone() }, &removed);
    fixture.passes_all(&Layout { blocks: &[a], ..layout }, &removed);
}

fn a_port_behind_a_mapping<S: Site>() {
    let fixture = Fixture::<S>::new();
    let source = fixture
        .pki
        .write("agent.sh", format!("curl --pinnedpubkey sha256//{B} https://localhost/\n"));
    let file = source.to_str().expect("UTF-8");
    published(
        &fixture,
        &["import", "--format", "curl", "--origin", "agent", "--writer", "apps", file],
    );
    let blocks = [Block { port: fixture.port, policy: None, ..BLOCK }];
    let layout = Layout { blocks: &blocks, ..LAYOUT };
    fixture.site.lay_out(&layout);
    let outcome = fixture.site.test();
    outcome.accepted(&["published-pins-port-not-served"]);
    says(&outcome.text, &["localhost:443"]);
}

#[test]
fn what_nginx_goes_on_with_is_the_same_certificates_not_the_same_keys() {
    let mut fixture = Fixture::<Nginx>::new();
    let pki = fixture.pki.clone();
    pki.ca("other");
    pki.intermediate("between", "ca");
    pki.sign_as("crossed", "between", "/CN=between", "other", CA_EXTENSIONS);
    pki.leaf("leaf", "localhost", "between");
    fixture.chain("old", &["leaf", "crossed"]);
    fixture.chain("new", &["leaf", "between"]);
    // Nothing is written, so the running configuration is all that there is to compare with.
    fixture.published = &["records read_only"];
    app(&fixture, "localhost", B);
    fixture.expect(UNMET);
    fixture.one(&["old"], &[], |layout| fixture.site.lay_out(layout));
    fixture.site.up();
    assert_eq!(fixture.site.reload_forced(), Reload::Accepted);
    fixture.one(&["new"], &[], |layout| fixture.site.lay_out(layout));
    let Reload::Refused(outcome) = fixture.site.reload_forced() else { panic!("accepted") };
    assert_eq!(codes(&outcome), UNMET, "{outcome}");
}
