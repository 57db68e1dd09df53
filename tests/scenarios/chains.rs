//! The certificate chain above the server's own key changes: intermediates, roots, cross-signs.

use hpkp_tests::layout::Site;
use hpkp_tests::pki::{CA_EXTENSIONS, Pki};
use hpkp_tests::site::B;

use crate::fixture::Fixture;

super::scenarios! {
    the_intermediate_replaced_under_its_pin
    an_extra_intermediate
    a_path_that_ends_below_the_pinned_root
    a_root_that_is_no_longer_trusted
    a_cross_sign_removed
    a_cross_sign_of_a_root_that_is_not_known_here
}

const UNMET: &[&str] = &["no-pin-in-chain", "published-pins-unmet"];

/// A server with the chain `before`, whose leaf was issued by the intermediate `first`; and the pin of `first`.
fn below_an_intermediate<S: Site>() -> (Fixture<S>, Pki, String) {
    let fixture = Fixture::<S>::new();
    let pki = fixture.pki.clone();
    pki.intermediate("first", "ca");
    pki.leaf("leaf", "localhost", "first");
    fixture.chain("before", &["leaf", "first"]);
    let first = pki.pin("first.pem").to_string();
    (fixture, pki, first)
}

fn the_intermediate_replaced_under_its_pin<S: Site>() {
    let (mut fixture, pki, first) = below_an_intermediate::<S>();
    fixture.up(&["before"], &[&first, B], &[]);

    // From now on the CA issues with another intermediate; the server's own key is unchanged.
    pki.intermediate("second", "ca");
    fixture.certify("after-leaf", "leaf", "localhost", "second");
    fixture.chain("after", &["after-leaf", "second"]);
    let second = pki.pin("second.pem");
    fixture.refuses(&["after"], &[&first, B], UNMET);
    fixture.refuses(&["after"], &[&second, B], &["published-pins-unmet"]);

    // A new certificate for the key of the intermediate, and a new leaf key below it.
    pki.sign_as("first-again", "first", "/CN=first", "ca", CA_EXTENSIONS);
    pki.leaf("renewed", "localhost", "first");
    fixture.chain("again", &["renewed", "first-again"]);
    fixture.takes(&["again"], &[&first, B], &[]);

    // The new intermediate is pinned before it comes into use.
    fixture.forget();
    fixture.up(&["before"], &[&first, &second, B], &[]);
    fixture.takes(&["after"], &[&first, &second, B], &[]);
}

fn an_extra_intermediate<S: Site>() {
    let (mut fixture, pki, first) = below_an_intermediate::<S>();
    fixture.up(&["before"], &[&first, B], &[]);

    // Beside the pinned intermediate, which the server still sends but which certifies nothing any more.
    pki.intermediate("beside", "ca");
    fixture.certify("beside-leaf", "leaf", "localhost", "beside");
    fixture.chain("beside-chain", &["beside-leaf", "beside"]);
    fixture.refuses(&["beside-chain"], &[&first, B], UNMET);
    fixture.chain("stray", &["beside-leaf", "beside", "first"]);
    fixture.refuses(&["stray"], &[&first, B], UNMET);

    // Below the pinned intermediate.
    pki.intermediate("below", "first");
    fixture.certify("below-leaf", "leaf", "localhost", "below");
    fixture.chain("below-chain", &["below-leaf", "below", "first"]);
    fixture.takes(&["below-chain"], &[&first, B], &[]);
}

fn a_path_that_ends_below_the_pinned_root<S: Site>() {
    let (mut fixture, pki, first) = below_an_intermediate::<S>();
    pki.bundle("both.pem", &["ca.pem", "first.pem"]);
    let root = pki.pin("ca.pem");

    // Clients that trust the intermediate itself never come to the root.
    fixture.trusted = Some("first.pem");
    fixture.refuses(&["before"], &[&root, B], &["no-pin-in-chain"]);
    fixture.passes(&["before"], &[&root, &first, B], &[]);

    fixture.trusted = Some("ca.pem");
    fixture.up(&["before"], &[&root, B], &["root-only-match"]);
    pki.leaf("renewed", "localhost", "first");
    fixture.chain("renewed-chain", &["renewed", "first"]);
    fixture.passes(&["renewed-chain"], &[&root, B], &["root-only-match"]);

    // Some clients now trust the intermediate as well. For the chain that they know, each client takes the same
    // path as before; for another chain the path depends on the client.
    fixture.trusted = Some("both.pem");
    let partly = ["partial-path-match", "root-only-match"];
    let codes = ["published-pins-unmet", partly[0], partly[1]];
    fixture.refuses(&["renewed-chain"], &[&root, B], &codes);
    let codes = [partly[0], partly[1], "published-pins-partly-met"];
    fixture.takes(&["before"], &[&root, B], &codes);
}

fn a_root_that_is_no_longer_trusted<S: Site>() {
    let mut fixture = Fixture::<S>::new();
    let pki = fixture.pki.clone();
    pki.ca("other");
    pki.leaf("leaf", "localhost", "ca");
    pki.leaf("renewed", "localhost", "ca");
    let root = pki.pin("ca.pem");
    fixture.trusted = Some("ca.pem");
    fixture.up(&["leaf"], &[&root, B], &["root-only-match"]);
    assert_eq!(fixture.get().pins().len(), 1);

    // Only the trust anchors on this machine have changed, so the configuration is not refused. The server
    // sends no header whose pins it cannot validate any more.
    fixture.trusted = Some("other.pem");
    fixture.takes(&["leaf"], &[&root, B], UNMET);
    assert_eq!(fixture.get().pins().len(), 0);
    fixture.passes(&["leaf"], &[&root, B], UNMET);
    fixture.refuses(&["renewed"], &[&root, B], UNMET);

    fixture.trusted = Some("ca.pem");
    fixture.takes(&["leaf"], &[&root, B], &["root-only-match"]);
    assert_eq!(fixture.get().pins().len(), 1);
}

fn a_cross_sign_removed<S: Site>() {
    let mut fixture = Fixture::<S>::new();
    let pki = fixture.pki.clone();
    // A new root, cross-signed by an old root.
    pki.ca("old");
    pki.ca("new");
    pki.sign_as("cross", "new", "/CN=new", "old", CA_EXTENSIONS);
    pki.intermediate("between", "new");
    pki.leaf("leaf", "localhost", "between");
    fixture.chain("crossed", &["leaf", "between", "cross"]);
    fixture.chain("plain", &["leaf", "between"]);
    pki.bundle("roots.pem", &["old.pem", "new.pem"]);
    fixture.trusted = Some("roots.pem");
    let (old, new) = (pki.pin("old.pem"), pki.pin("new.pem"));

    fixture.up(&["crossed"], &[&old, B], &["partial-path-match", "root-only-match"]);
    fixture.refuses(&["plain"], &[&old, B], UNMET);
    fixture.refuses(&["plain"], &[&new, B], &["published-pins-unmet", "root-only-match"]);

    // The key of the new root is on both paths.
    fixture.forget();
    fixture.up(&["crossed"], &[&old, &new, B], &[]);
    fixture.takes(&["plain"], &[&old, &new, B], &["root-only-match"]);
}

/// A certificate is added whose root this machine does not trust and some clients do: they may leave the pinned path.
fn a_cross_sign_of_a_root_that_is_not_known_here<S: Site>() {
    let (mut fixture, pki, _) = below_an_intermediate::<S>();
    pki.ca("unknown");
    pki.sign_as("cross", "first", "/CN=first", "unknown", CA_EXTENSIONS);
    fixture.chain("crossed", &["leaf", "cross", "first"]);
    fixture.chain("rooted", &["leaf", "cross", "unknown", "first"]);
    fixture.trusted = Some("ca.pem");
    let root = pki.pin("ca.pem");
    fixture.up(&["before"], &[&root, B], &["root-only-match"]);
    let codes = ["published-pins-unmet", "partial-path-match", "root-only-match"];
    for chain in ["crossed", "rooted"] {
        fixture.refuses(&[chain], &[&root, B], &codes);
    }

    // The key that both certificates have is on every path.
    fixture.forget();
    let first = pki.pin("first.pem");
    fixture.up(&["before"], &[&root, &first, B], &[]);
    fixture.takes(&["crossed"], &[&root, &first, B], &[]);
}
