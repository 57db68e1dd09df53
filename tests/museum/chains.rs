//! What stands above the server's own key changes.

use hpkp_tests::layout::Site;
use hpkp_tests::pki::CA_EXTENSIONS;
use hpkp_tests::site::B;

use crate::stage::Stage;

super::exhibits! {
    the_intermediate_replaced_under_its_pin
    an_extra_intermediate
    a_path_that_ends_below_the_pinned_root
    a_root_that_is_no_longer_trusted
    a_cross_sign_removed
}

const UNMET: &[&str] = &["no-pin-in-chain", "published-pins-unmet"];

fn the_intermediate_replaced_under_its_pin<S: Site>() {
    let mut stage = Stage::<S>::new();
    let pki = stage.pki.clone();
    pki.intermediate("first", "ca");
    pki.leaf("leaf", "localhost", "first");
    stage.chain("before", &["leaf", "first"]);
    let first = pki.pin("first.pem");
    stage.up(&["before"], &[&first, B], &[]);

    // The CA signs with another key from now on; the server's own is the same.
    pki.intermediate("second", "ca");
    stage.certify("after-leaf", "leaf", "localhost", "second");
    stage.chain("after", &["after-leaf", "second"]);
    let second = pki.pin("second.pem");
    stage.refuses(&["after"], &[&first, B], UNMET);
    stage.refuses(&["after"], &[&second, B], &["published-pins-unmet"]);

    // Another certificate for the key of the intermediate, and a new key below it.
    pki.sign_as("first-again", "first", "/CN=first", "ca", CA_EXTENSIONS);
    pki.leaf("renewed", "localhost", "first");
    stage.chain("again", &["renewed", "first-again"]);
    stage.takes(&["again"], &[&first, B], &[]);

    // Pinned before it comes.
    stage.forget();
    stage.up(&["before"], &[&first, &second, B], &[]);
    stage.takes(&["after"], &[&first, &second, B], &[]);
}

fn an_extra_intermediate<S: Site>() {
    let mut stage = Stage::<S>::new();
    let pki = stage.pki.clone();
    pki.intermediate("first", "ca");
    pki.leaf("leaf", "localhost", "first");
    stage.chain("before", &["leaf", "first"]);
    let first = pki.pin("first.pem");
    stage.up(&["before"], &[&first, B], &[]);

    // Beside the pinned one, which is sent on but certifies nothing any more.
    pki.intermediate("beside", "ca");
    stage.certify("beside-leaf", "leaf", "localhost", "beside");
    stage.chain("beside-chain", &["beside-leaf", "beside"]);
    stage.refuses(&["beside-chain"], &[&first, B], UNMET);
    stage.chain("stray", &["beside-leaf", "beside", "first"]);
    stage.refuses(&["stray"], &[&first, B], UNMET);

    // Below the pinned one.
    pki.intermediate("below", "first");
    stage.certify("below-leaf", "leaf", "localhost", "below");
    stage.chain("below-chain", &["below-leaf", "below", "first"]);
    stage.takes(&["below-chain"], &[&first, B], &[]);
}

fn a_path_that_ends_below_the_pinned_root<S: Site>() {
    let mut stage = Stage::<S>::new();
    let pki = stage.pki.clone();
    pki.intermediate("between", "ca");
    pki.leaf("leaf", "localhost", "between");
    stage.chain("chain", &["leaf", "between"]);
    pki.bundle("both.pem", &["ca.pem", "between.pem"]);
    let (root, between) = (pki.pin("ca.pem"), pki.pin("between.pem"));

    // Clients that trust the intermediate itself never come to the root.
    stage.trusted = Some("between.pem");
    stage.refuses(&["chain"], &[&root, B], &["no-pin-in-chain"]);
    stage.passes(&["chain"], &[&root, &between, B], &[]);

    stage.trusted = Some("ca.pem");
    stage.up(&["chain"], &[&root, B], &["root-only-match"]);
    pki.leaf("renewed", "localhost", "between");
    stage.chain("renewed-chain", &["renewed", "between"]);
    stage.passes(&["renewed-chain"], &[&root, B], &["root-only-match"]);

    // Some clients have come to trust it. With what they have seen, each takes the path that it
    // took; of anything else that cannot be said.
    stage.trusted = Some("both.pem");
    let partly = ["partial-path-match", "root-only-match"];
    let codes = ["published-pins-unmet", partly[0], partly[1]];
    stage.refuses(&["renewed-chain"], &[&root, B], &codes);
    let codes = [partly[0], partly[1], "published-pins-partly-met"];
    stage.takes(&["chain"], &[&root, B], &codes);
}

fn a_root_that_is_no_longer_trusted<S: Site>() {
    let mut stage = Stage::<S>::new();
    let pki = stage.pki.clone();
    pki.ca("other");
    pki.leaf("leaf", "localhost", "ca");
    pki.leaf("renewed", "localhost", "ca");
    let root = pki.pin("ca.pem");
    stage.trusted = Some("ca.pem");
    stage.up(&["leaf"], &[&root, B], &["root-only-match"]);
    assert_eq!(stage.get().pins().len(), 1);

    // Nothing but this machine's own view has changed, so nothing is refused; no header is sent that
    // it can no longer vouch for.
    stage.trusted = Some("other.pem");
    stage.takes(&["leaf"], &[&root, B], UNMET);
    assert_eq!(stage.get().pins().len(), 0);
    stage.passes(&["leaf"], &[&root, B], UNMET);
    stage.refuses(&["renewed"], &[&root, B], UNMET);

    stage.trusted = Some("ca.pem");
    stage.takes(&["leaf"], &[&root, B], &["root-only-match"]);
    assert_eq!(stage.get().pins().len(), 1);
}

fn a_cross_sign_removed<S: Site>() {
    let mut stage = Stage::<S>::new();
    let pki = stage.pki.clone();
    // A new root, certified by an old one too.
    pki.ca("old");
    pki.ca("new");
    pki.sign_as("cross", "new", "/CN=new", "old", CA_EXTENSIONS);
    pki.intermediate("between", "new");
    pki.leaf("leaf", "localhost", "between");
    stage.chain("crossed", &["leaf", "between", "cross"]);
    stage.chain("plain", &["leaf", "between"]);
    pki.bundle("roots.pem", &["old.pem", "new.pem"]);
    stage.trusted = Some("roots.pem");
    let (old, new) = (pki.pin("old.pem"), pki.pin("new.pem"));

    stage.up(&["crossed"], &[&old, B], &["partial-path-match", "root-only-match"]);
    stage.refuses(&["plain"], &[&old, B], UNMET);
    stage.refuses(&["plain"], &[&new, B], &["published-pins-unmet", "root-only-match"]);

    // The key of the new root is on both paths.
    stage.forget();
    stage.up(&["crossed"], &[&old, &new, B], &[]);
    stage.takes(&["plain"], &[&old, &new, B], &["root-only-match"]);
}
