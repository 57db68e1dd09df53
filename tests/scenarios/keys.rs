//! The server's own key changes.

use hpkp_tests::instance::Reload;
use hpkp_tests::layout::{Layout, Site};
use hpkp_tests::pki::{RSA, leaf_extensions};
use hpkp_tests::site::{A, B};

use crate::fixture::{Fixture, OWN, says};

super::scenarios! {
    pins_and_certificate_replaced_together
    renewed_with_a_new_key
    rsa_beside_ecdsa_with_one_of_them_pinned
    the_compromised_key_in_use_and_the_backup_deployed
}

fn pins_and_certificate_replaced_together<S: Site>() {
    let mut fixture = Fixture::<S>::new();
    let live = fixture.pki.pin("live.pem");
    fixture.pki.leaf("renewed", "localhost", "ca");
    let renewed = fixture.pki.pin("renewed.pem");
    fixture.up(&["live"], &[&live, B], &[]);

    let unmet = ["published-pins-unmet"];
    let outcome = fixture.refuses(&["renewed"], &[&renewed, A], &unmet);
    says(
        &outcome,
        &[
            "matches the pins that clients hold; these clients would refuse the certificate, until 2 \
             days after this server stops sending these pins",
            "nothing was changed; the running server keeps its certificate",
            "to fix: load a certificate for a key that these clients accept",
            "the certificate may change 2 days after that",
            "held by: clients that visited localhost since 20",
            "recorded by web-1",
            &format!("sha256/{live}"),
            &format!("sha256/{B}"),
            "last resort, locks out those clients: hpkp published -d ",
        ],
    );
    let mut held = outcome.lines().filter(|line| line.contains("held by: "));
    assert!(!held.any(|line| line.contains(&renewed.to_string())), "{outcome}");

    // The policy may change to any pins that match the key in use. Clients with the old pins still validate
    // the certificate against those.
    fixture.takes(&["live"], &[&live, &renewed], &[]);
    fixture.refuses(&["renewed"], &[&renewed, A], &unmet);

    // A reload without a test before it: nginx refuses, httpd cannot, and sends no header.
    fixture.expect(&unmet);
    let sent = match fixture.site.reload_forced() {
        Reload::Refused(_) => 1,
        Reload::Accepted => 0,
    };
    assert_eq!(fixture.get().pins().len(), sent);

    // With `check warn` the operator lets it pass; the mismatch then does not refuse later reloads.
    fixture.one(&["renewed"], &[&renewed, A], |layout| {
        fixture.passes_all(&Layout { check: "warn", ..layout.clone() }, &unmet);
    });
    fixture.reload(&unmet);
    fixture.passes(&["renewed"], &[&renewed, A], &unmet);
}

fn renewed_with_a_new_key<S: Site>() {
    let mut fixture = Fixture::<S>::new();
    let (live, backup) = (fixture.pki.pin("live.pem"), fixture.pki.pin("backup.csr"));
    let pins = [live.as_str(), &backup];
    fixture.up(&["live"], &pins, &[]);

    fixture.pki.leaf("renewed", "localhost", "ca");
    fixture.refuses(&["renewed"], &pins, &["no-pin-in-chain", "published-pins-unmet"]);

    fixture.certify("same-key", "live", "localhost", "ca");
    fixture.passes(&["same-key"], &pins, &[]);
    fixture.certify("backup", "backup", "localhost", "ca");
    fixture.takes(&["backup"], &pins, &[]);
    assert_eq!(fixture.get().pins().len(), 1);
}

fn rsa_beside_ecdsa_with_one_of_them_pinned<S: Site>() {
    let mut fixture = Fixture::<S>::new();
    let live = fixture.pki.pin("live.pem");
    fixture.pki.key("rsa", RSA);
    fixture.pki.sign("rsa", "/CN=localhost", "ca", &leaf_extensions("localhost"));
    let rsa = fixture.pki.pin("rsa.pem");
    fixture.up(&["live"], &[&live, B], &[]);

    let both = ["live", "rsa"];
    let outcome = fixture.refuses(&both, &[&live, B], &["no-pin-in-chain", "published-pins-unmet"]);
    says(&outcome, &["one of the certificates", &format!("sha256/{rsa}, expires")]);
    // Pinning the RSA key now is too late for clients that hold the earlier pins.
    fixture.refuses(&both, &[&live, &rsa, B], &["published-pins-unmet"]);

    fixture.forget();
    fixture.up(&["live"], &[&live, &rsa, B], &[]);
    fixture.takes(&both, &[&live, &rsa, B], &[]);
    assert_eq!(fixture.get().pins().len(), 1);
}

fn the_compromised_key_in_use_and_the_backup_deployed<S: Site>() {
    let mut fixture = Fixture::<S>::new();
    let (live, backup) = (fixture.pki.pin("live.pem"), fixture.pki.pin("backup.csr"));
    fixture.up(&["live"], &[&live, &backup], &[]);
    crate::apps::published(
        &fixture,
        &["compromised", &format!("sha256/{live}"), "--why", "the laptop is gone"],
    );

    // A new key locks clients out also in an emergency; the only safe replacement is the backup key.
    fixture.pki.leaf("renewed", "localhost", "ca");
    let renewed = fixture.pki.pin("renewed.pem");
    for (pins, codes) in [
        ([renewed.as_str(), A], &["published-pins-unmet"][..]),
        (
            [live.as_str(), &backup],
            &["no-pin-in-chain", "published-pins-unmet", "compromised-key-pinned"],
        ),
    ] {
        let outcome = fixture.refuses(&["renewed"], &pins, codes);
        says(
            &outcome,
            &[
                &format!("sha256/{live} (compromised, do not use it)"),
                &format!("sha256/{backup}"),
                "not compromised",
            ],
        );
        assert!(!outcome.contains("the previous certificate"), "{outcome}");
    }

    fixture.certify("backup", "backup", "localhost", "ca");
    fixture.pki.key("next", hpkp_tests::pki::P256);
    let next = fixture.pki.pin("next.key");
    // The compromised key does not count as a backup pin.
    fixture.passes(&["backup"], &[&live, &backup], &["no-backup-pin", "compromised-key-pinned"]);
    fixture.takes(&["backup"], &[&backup, &next], &[]);
    assert_eq!(fixture.get().pins().len(), 1);
    assert!(std::fs::exists(fixture.site.path(OWN)).expect("a directory"));
}
