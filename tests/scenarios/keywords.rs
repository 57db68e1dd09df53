//! Keywords in place of pins: they follow the loaded certificate, and the records decide whether that is safe.

use hpkp_tests::cases::Server;
use hpkp_tests::client::Curl;
use hpkp_tests::free_port;
use hpkp_tests::httpd::Httpd;
use hpkp_tests::instance::{Reload, codes};
use hpkp_tests::layout::{BLOCK, Block, LAYOUT, Layout, POLICY, Policy, Site};
use hpkp_tests::nginx::Nginx;
use hpkp_tests::pki::{P256, leaf_extensions};

/// The header field that a server sends.
fn field(site: &impl Site, port: u16) -> Option<String> {
    let response = Curl::new(&site.path("ca.pem")).get(&format!("https://localhost:{port}/"));
    response.pins().first().map(|field| (*field).to_owned())
}

fn follow_what_is_loaded<S: Site>() {
    let mut site = S::with_records();
    let (port, pki) = (free_port(), site.pki());
    pki.intermediate("above", "ca");
    for name in ["one", "two"] {
        pki.leaf(name, "localhost", "above");
        pki.bundle(&format!("{name}.pem"), &[&format!("{name}.pem"), "above.pem"]);
    }
    pki.sign("backup", "/CN=localhost", "above", &leaf_extensions("localhost"));
    pki.bundle("backup.pem", &["backup.pem", "above.pem"]);
    pki.key("spare", P256);
    pki.request("spare", "/CN=spare");
    let [one, two, backup, spare, above] =
        ["one.pem", "two.pem", "backup.csr", "spare.csr", "above.pem"].map(|file| pki.pin(file));
    let with = |site: &S, pins: &[&str], certificate: &str| {
        let policies = [Policy { pins, ..POLICY }];
        let blocks = [Block { port, certificates: &[certificate], ..BLOCK }];
        site.lay_out(&Layout { policies: &policies, blocks: &blocks, ..LAYOUT });
    };
    let files = ["leaf", "file:backup.csr", "file:spare.csr"];
    with(&site, &files, "one");
    site.up();
    let sent = field(&site, port).expect("a header");
    assert!(sent.starts_with(&format!("pin-sha256=\"{one}\"; pin-sha256=\"{backup}\"")), "{sent}");

    // The keyword would pin the new key, but no client holds its pin.
    with(&site, &files, "two");
    let Reload::Refused(outcome) = site.reload_tested() else { panic!("accepted: {two}") };
    assert_eq!(codes(&outcome), ["published-pins-unmet"], "{outcome}");
    // Clients hold the pin of the backup key.
    with(&site, &files, "backup");
    assert_eq!(site.reload_tested(), Reload::Accepted);
    let sent = field(&site, port).expect("a header");
    assert!(sent.contains(&backup) && sent.contains(&spare) && !sent.contains(&one), "{sent}");
    // Clients also hold the issuer's pin once it has been published.
    let issuer = ["leaf", "intermediate", "file:spare.csr"];
    with(&site, &issuer, "backup");
    assert_eq!(site.reload_tested(), Reload::Accepted);
    assert!(field(&site, port).expect("a header").contains(&above));
    site.down();
}

#[test]
fn keywords_follow_what_is_loaded() {
    follow_what_is_loaded::<Nginx>();
    follow_what_is_loaded::<Httpd>();
}

fn need_records<S: Site>() {
    let site = S::with_records();
    let blocks = [Block { port: free_port(), ..BLOCK }];
    for (keyword, published, code) in [
        ("leaf", &[][..], "keyword-pin-without-published-pins"),
        ("leaf", &["records read_only"][..], "keyword-pin-without-published-pins"),
        // Not a fault of the configuration's text.
        ("leaf", &["missing"][..], "records-unreadable"),
        // The server sends the leaf alone, so there is no intermediate to pin.
        ("intermediate", &["records"][..], "unreadable-pin-source"),
    ] {
        let pins = [keyword, "file:backup.csr"];
        let policies = [Policy { pins: &pins, ..POLICY }];
        site.lay_out(&Layout { published, policies: &policies, blocks: &blocks, ..LAYOUT });
        let outcome = Server::test(&site);
        assert_eq!((outcome.code, outcome.codes()[0]), (Some(1), code), "{outcome:?}");
    }
}

#[test]
fn keywords_need_records() {
    need_records::<Nginx>();
    need_records::<Httpd>();
}
