//! A host served by several machines: the records of one bind the others.

use std::fs;

use hpkp_tests::layout::{BLOCK, Block, LAYOUT, Layout, POLICY, Policy, Site};
use hpkp_tests::pki::P256;
use hpkp_tests::site::B;

use crate::fixture::{Fixture, OWN, says};

super::scenarios! {
    a_proxy_with_another_certificate_in_front
    one_server_publishes_what_another_does_not_present
    the_record_made_on_one_machine_and_the_refusal_on_another
}

/// Copies the records of one machine to another.
fn copy<S: Site>(from: &Fixture<S>, to: &Fixture<S>, file: &str) {
    fs::copy(from.site.path(OWN), to.site.path(file)).expect("a copy");
}

/// Gives a certificate and its key to another machine.
fn hand_over<S: Site>(from: &Fixture<S>, to: &Fixture<S>, name: &str, new_name: &str) {
    for kind in ["pem", "key"] {
        to.pki.write(&format!("{new_name}.{kind}"), from.pki.read(&format!("{name}.{kind}")));
    }
}

fn a_proxy_with_another_certificate_in_front<S: Site>() {
    let mut behind = Fixture::<S>::new();
    let (live, backup) = (behind.pki.pin("live.pem"), behind.pki.pin("backup.csr"));
    behind.up(&["live"], &[&live, &backup], &[]);

    let mut proxy = Fixture::<S>::new();
    let own = proxy.pki.pin("live.pem");
    let block = Block { port: proxy.port, policy: None, proxied: Some(behind.port), ..BLOCK };
    let layout = |block| Layout {
        published: &["records writer=proxy"],
        blocks: std::slice::from_ref(block),
        ..LAYOUT
    };
    // Without the records of the server behind it, the proxy cannot know which pins clients hold.
    proxy.passes_all(&layout(&block), &[]);
    copy(&behind, &proxy, "records/peers/web-1.jsonl");
    let outcome = proxy.refuses_all(&layout(&block), &["published-pins-unmet"]);
    says(&outcome, &["recorded by web-1", &format!("sha256/{live}")]);
    let pins = [own.as_str(), B];
    let policies = [Policy { pins: &pins, ..POLICY }];
    let pinned = Block { policy: Some("site"), ..block.clone() };
    let with_policy = Layout { policies: &policies, ..layout(&pinned) };
    proxy.refuses_all(&with_policy, &["published-pins-unmet"]);

    // A proxy with a certificate for the backup key passes.
    behind.certify("backup", "backup", "localhost", "ca");
    hand_over(&behind, &proxy, "backup", "held");
    fs::copy(behind.site.path("ca.pem"), proxy.site.path("ca.pem")).expect("a copy");
    let block = Block { certificates: &["held"], ..block };
    proxy.up_with(&layout(&block), &[]);
    assert_eq!(proxy.get().pins(), behind.get().pins());
    let pins = [live.as_str(), &backup];
    let policies = [Policy { pins: &pins, ..POLICY }];
    let pinned = Block { policy: Some("site"), ..block };
    proxy.takes_all(&Layout { policies: &policies, ..layout(&pinned) }, &[]);
    assert_eq!(proxy.get().pins().len(), 1);
}

fn one_server_publishes_what_another_does_not_present<S: Site>() {
    let mut other = Fixture::<S>::new();
    other.published = &["records writer=web-4"];
    other.pki.key("b", P256);
    other.certify("b", "b", "localhost", "ca");
    let (a, b) = (other.pki.pin("live.pem"), other.pki.pin("b.pem"));
    other.up(&["live"], &[&a, &b], &[]);

    let mut fixture = Fixture::<S>::new();
    hand_over(&other, &fixture, "b", "b");
    hand_over(&other, &fixture, "live", "a");
    let fetch = |other: &Fixture<S>, fixture: &Fixture<S>| {
        let file = other.site.path("records/web-4.jsonl");
        fs::copy(file, fixture.site.path("records/peers/web-4.jsonl")).expect("a copy");
    };
    fetch(&other, &fixture);
    // No server has a certificate for the third key B.
    let outcome = fixture.refuses(&["b"], &[&b, B], &["peer-server-pin-mismatch"]);
    says(
        &outcome,
        &[
            "web-4 presents keys for localhost that policy",
            &format!("presented by web-4 for localhost: sha256/{a}"),
            "if web-4 is gone for good: hpkp published -d ",
            "end --writer web-4 --why REASON",
        ],
    );

    // The finding is the same while the other server reboots.
    other.site.down();
    fetch(&other, &fixture);
    let outcome = fixture.refuses(&["b"], &[&b, B], &["peer-server-pin-mismatch"]);
    says(&outcome, &["may start again"]);
    other.site.up();
    fetch(&other, &fixture);

    // The policy pins both keys first, whichever of the two this server presents.
    fixture.passes(&["a"], &[&a, &b], &[]);
    fixture.up(&["b"], &[&a, &b, B], &[]);
    // Now the other server may change its key; then this server may drop the first pin.
    let back = fixture.site.path(OWN);
    fs::copy(back, other.site.path("records/peers/web-1.jsonl")).expect("a copy");
    other.takes(&["b"], &[&a, &b, B], &[]);
    fetch(&other, &fixture);
    fixture.takes(&["b"], &[&b, B], &[]);
}

fn the_record_made_on_one_machine_and_the_refusal_on_another<S: Site>() {
    let mut first = Fixture::<S>::new();
    let (live, backup) = (first.pki.pin("live.pem"), first.pki.pin("backup.csr"));
    first.up(&["live"], &[&live, &backup], &[]);
    first.certify("backup", "backup", "localhost", "ca");

    for (published, file) in [
        (&["records writer=web-2"][..], "records/peers/web-1.jsonl"),
        (&["records writer=web-2", "shared read_only"], "shared/peers/web-1.jsonl"),
        // The second server writes no records.
        (&["shared read_only"], "shared/peers/web-1.jsonl"),
    ] {
        let mut second = Fixture::<S>::new();
        second.published = published;
        second.pki.records("shared");
        copy(&first, &second, file);
        // Clients of the first server do not hold the pin of the second server's own key.
        let outcome = second.refuses(&["live"], &[], &["published-pins-unmet"]);
        says(&outcome, &["recorded by web-1"]);
        hand_over(&first, &second, "backup", "held");
        second.up(&["held"], &[], &[]);
        let written = fs::exists(second.site.path("records/web-2.jsonl")).expect("a directory");
        assert_eq!(written, published.len() + usize::from(file.starts_with("records")) > 1);
    }
}
