//! Warnings of the config test about the future: the next renewal, the next key, a CA whose key changes. Each test
//! runs on both servers, with configurations that get the warning and others that do not; all pass the config test.

use std::fs;

use hpkp_core::ca_table;
use hpkp_core::date;
use hpkp_core::pin::Pin;
use hpkp_tests::free_port;
use hpkp_tests::httpd::Httpd;
use hpkp_tests::instance::Reload;
use hpkp_tests::nginx::Nginx;

use crate::clients::HOST;
use crate::issuer::Issuer;
use crate::server::{Policy, Server};
use hpkp_tests::clock::{Clock, DAY};

const EXCEEDS: &str = "max-age-exceeds-renewal";
const EXPIRES: &str = "certificate-expires-before-new-key";
const ROTATION: &str = "intermediate-in-rotation";
const ROOT: &str = "pinned-root-not-in-all-stores";
const ONE_CA: &str = "pins-of-one-ca";

/// A server with a clock that the test moves; its certificates are made as they are needed.
struct Site<S> {
    server: S,
    clock: Clock,
    issuer: Issuer,
    port: u16,
    key: Pin,
    backup: Pin,
}

impl<S: Server> Site<S> {
    fn new() -> Self {
        let mut server = S::with_records();
        let clock = Clock::new(&server.path(""));
        for (name, value) in clock.environment() {
            server.set_environment(name, &value);
        }
        server.expect_in_log(&["hpkp: ["]);
        let mut issuer = Issuer::new(clock.now(), 3);
        fs::write(server.path("root.pem"), issuer.root().to_pem().expect("PEM")).expect("a file");
        for directory in ["tls", "kept"] {
            fs::create_dir(server.path(directory)).expect("a directory");
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
            fs::set_permissions(server.path(directory), mode).expect("a mode");
        }
        let (key, backup) = (issuer.key(), issuer.key());
        Self { server, clock, issuer, port: free_port(), key, backup }
    }

    /// Puts a certificate for the key in place, valid for so many days from now on; returns the pins of its path.
    fn certificate(&mut self, days: i64) -> Vec<Pin> {
        let pair = self.issuer.issue(HOST, self.key, 0, self.clock.now(), days);
        for (name, bytes) in [("site.pem", &pair.certificates), ("site.key", &pair.key)] {
            fs::write(self.server.path("tls").join(name), bytes).expect("a file");
        }
        pair.path
    }

    fn configure(&self, pins: &[Pin], max_age: i64, more: &[(&str, &str)]) {
        let policy = Policy { pins: pins.to_vec(), max_age };
        self.server.configure_years(self.port, &policy, more);
    }

    /// Fails unless the config test passes with exactly these codes; returns its output.
    #[track_caller]
    fn finds(&self, codes: &[&str]) -> String {
        let outcome = self.server.test();
        assert_eq!(outcome.code, Some(0), "{}", outcome.text);
        assert_eq!(outcome.codes(), codes, "{}", outcome.text);
        outcome.text
    }

    /// Fails unless the config test passes and has this code among others, or has not; returns its output.
    #[track_caller]
    fn has(&self, code: &str, is_there: bool) -> String {
        let outcome = self.server.test();
        assert_eq!(outcome.code, Some(0), "{}", outcome.text);
        assert_eq!(outcome.codes().contains(&code), is_there, "{}", outcome.text);
        outcome.text
    }
}

/// Warnings about certificates that expire before a new key may be used. They depend on the max-age, and on whether
/// renewals make new keys.
fn the_next_key<S: Server>() {
    let mut site = Site::<S>::new();
    let pins = [site.key, site.backup];
    site.certificate(20);
    site.configure(&pins, 30, &[("renewal_key", "new")]);
    let outcome = site.finds(&[EXCEEDS, EXPIRES]);
    let (expires, allowed) =
        (date::format(site.clock.now() + 20 * DAY), date::format(site.clock.now() + 31 * DAY));
    for day in [&expires[..10], &allowed[..10]] {
        assert!(outcome.contains(day), "{day}: {outcome}");
    }
    // Renewals with the same key need not wait.
    site.configure(&pins, 30, &[("renewal_key", "same")]);
    site.finds(&[]);
    // Without the directive it is not known whether renewals keep the key.
    site.configure(&pins, 30, &[]);
    site.finds(&[]);
    // A new key could be used before the certificate expires, but the next renewal would be too early for it.
    site.configure(&pins, 18, &[("renewal_key", "new")]);
    site.finds(&[EXCEEDS]);

    // A certificate of 60 days is renewed after 40.
    site.certificate(60);
    site.configure(&pins, 45, &[]);
    site.finds(&[]);
    site.configure(&pins, 45, &[("renewal_key", "new")]);
    let outcome = site.finds(&[EXCEEDS]);
    assert!(outcome.contains("about every 40 days"), "{outcome}");
    site.configure(&pins, 38, &[("renewal_key", "new")]);
    site.finds(&[]);
    // If a CA is pinned, renewals may have any key.
    let root = crate::issuer::pin(&site.issuer.root().public_key().expect("a key"));
    for pins in [&[root, site.backup][..], &[site.key, root, site.backup]] {
        site.configure(pins, 90, &[("renewal_key", "new")]);
        site.has(EXCEEDS, false);
        site.has(EXPIRES, false);
    }
    // With a max-age of 0 clients forget the pins.
    site.configure(&pins, 0, &[("renewal_key", "new")]);
    site.has(EXCEEDS, false);
    site.has(EXPIRES, false);
}

/// Without the directive, the records of this server show whether renewals make new keys.
fn the_keys_on_record<S: Server>() {
    let mut site = Site::<S>::new();
    site.certificate(100);
    site.configure(&[], 0, &[]);
    site.server.up();
    for number in 0..3 {
        let pins = [site.key, site.backup];
        site.configure(&pins, 30, &[]);
        let codes: &[&str] = if number < 2 { &[] } else { &[EXCEEDS] };
        let outcome = site.finds(codes);
        assert!(number < 2 || outcome.contains("2 new keys"), "{outcome}");
        if number < 2 {
            site.clock.advance(20 * DAY);
            site.key = site.issuer.key();
            site.certificate(100);
            site.configure(&[], 0, &[]);
            assert_eq!(site.server.reload_tested(), Reload::Accepted);
        }
    }
    // The next renewal keeps the key.
    site.clock.advance(20 * DAY);
    site.certificate(20);
    site.configure(&[site.key, site.backup], 30, &[]);
    site.finds(&[]);
    // The directive takes precedence over the records.
    site.configure(&[site.key, site.backup], 30, &[("renewal_key", "new")]);
    site.finds(&[EXCEEDS, EXPIRES]);
    site.server.down();
}

/// New keys in the records that are no evidence about renewals.
fn keys_that_are_no_evidence<S: Server>() {
    // These keys were published before they were used.
    let mut site = Site::<S>::new();
    site.certificate(100);
    site.configure(&[site.key, site.backup], 5, &[]);
    site.server.up();
    for _ in 0..2 {
        site.clock.advance(10 * DAY);
        (site.key, site.backup) = (site.backup, site.issuer.key());
        site.certificate(100);
        site.configure(&[site.key, site.backup], 5, &[]);
        assert_eq!(site.server.reload_tested(), Reload::Accepted);
    }
    site.configure(&[site.key, site.backup], 30, &[]);
    site.finds(&[]);
    site.server.down();
    // These keys were tried out, each for an hour.
    let mut site = Site::<S>::new();
    site.certificate(100);
    site.configure(&[], 0, &[]);
    site.server.up();
    for _ in 0..3 {
        site.clock.advance(3600);
        site.key = site.issuer.key();
        site.certificate(100);
        assert_eq!(site.server.reload_tested(), Reload::Accepted);
    }
    site.configure(&[site.key, site.backup], 30, &[]);
    site.finds(&[]);
    site.server.down();
}

/// The longer max-age of an earlier header counts, while the header is sent and afterwards.
fn a_longer_time_before<S: Server>() {
    let mut site = Site::<S>::new();
    let pins = [site.key, site.backup];
    site.certificate(60);
    site.configure(&pins, 90, &[]);
    site.server.up();
    site.configure(&pins, 30, &[("renewal_key", "new")]);
    for _ in 0..2 {
        let outcome = site.finds(&[EXPIRES]);
        let allowed = date::format(site.clock.now() + 91 * DAY);
        assert!(outcome.contains(&allowed[..10]), "{allowed}: {outcome}");
        assert_eq!(site.server.reload_tested(), Reload::Accepted);
    }
    site.server.down();
}

fn named(name: &str) -> Pin {
    let mut keys = ca_table::keys().filter(|(_, key)| key.name == name);
    keys.next().unwrap_or_else(|| panic!("no {name}")).0
}

/// A root of Let's Encrypt that every store has.
fn usual_root() -> Pin {
    let is_usual = |key: &ca_table::CaKey| {
        key.is_root && key.operator == "Let's Encrypt" && key.missing_stores().next().is_none()
    };
    ca_table::keys().find(|(_, key)| is_usual(key)).expect("a root").0
}

/// Pins of CA keys in the built-in table. The chain has none of these keys, so the config test passes only with
/// `warn`.
fn the_table_of_ca_keys<S: Server>() {
    let mut site = Site::<S>::new();
    site.certificate(60);
    let warn = [("check", "warn")];
    let intermediates = ["YE1", "YE2", "YE3"].map(named);
    site.configure(&[intermediates[0], site.backup], 30, &warn);
    let outcome = site.has(ROTATION, true);
    assert!(outcome.contains("YE2, YE3") || outcome.contains("YE3, YE2"), "{outcome}");
    assert!(outcome.contains(&format!("CA table of {}", ca_table::date())), "{outcome}");
    site.has(ONE_CA, false);
    // With a max-age of 0 clients forget the pins.
    site.configure(&[intermediates[0], site.backup], 0, &warn);
    site.has(ROTATION, false);
    // The pins of all the intermediates, or also the pin of the certificate.
    site.configure(&[&intermediates[..], &[site.backup]].concat(), 30, &warn);
    site.has(ROTATION, false);
    site.configure(&[intermediates[0], site.key, site.backup], 30, &[]);
    site.finds(&[]);

    site.configure(&[intermediates[0], usual_root()], 30, &warn);
    let outcome = site.has(ONE_CA, true);
    assert!(outcome.contains("one CA, Let's Encrypt"), "{outcome}");
    site.has(ROOT, false);
    site.configure(&[intermediates[0], usual_root(), site.backup], 30, &warn);
    site.has(ONE_CA, false);

    // The CA of the certificate, which is not in the table.
    let path = site.certificate(60);
    site.configure(&path[1..], 30, &warn);
    site.has(ONE_CA, true);
    site.configure(&[path[1], site.backup], 30, &warn);
    site.has(ONE_CA, false);

    // A root that Mozilla's store lacks, and one that is in no store yet.
    let (dropped, key) =
        ca_table::keys().find(|(_, key)| key.missing_stores().eq(["Mozilla"])).expect("a root");
    for (root, name) in [(dropped, key.name), (named("ISRG Root YE"), "ISRG Root YE")] {
        site.configure(&[site.key, site.backup, root], 30, &[]);
        let outcome = site.finds(&[ROOT]);
        assert!(outcome.contains(name) && outcome.contains("not in the store of"), "{outcome}");
    }
    site.configure(&[site.key, site.backup, usual_root()], 30, &[]);
    site.finds(&[]);
}

#[test]
fn nginx_warns_about_the_next_key() {
    the_next_key::<Nginx>();
}

#[test]
fn httpd_warns_about_the_next_key() {
    the_next_key::<Httpd>();
}

#[test]
fn nginx_knows_from_its_records_that_renewals_make_new_keys() {
    the_keys_on_record::<Nginx>();
}

#[test]
fn httpd_knows_from_its_records_that_renewals_make_new_keys() {
    the_keys_on_record::<Httpd>();
}

#[test]
fn nginx_ignores_new_keys_that_were_planned_or_tried_out() {
    keys_that_are_no_evidence::<Nginx>();
}

#[test]
fn httpd_ignores_new_keys_that_were_planned_or_tried_out() {
    keys_that_are_no_evidence::<Httpd>();
}

#[test]
fn nginx_counts_the_longer_max_age_of_an_earlier_header() {
    a_longer_time_before::<Nginx>();
}

#[test]
fn httpd_counts_the_longer_max_age_of_an_earlier_header() {
    a_longer_time_before::<Httpd>();
}

#[test]
fn nginx_warns_about_keys_of_cas() {
    the_table_of_ca_keys::<Nginx>();
}

#[test]
fn httpd_warns_about_keys_of_cas() {
    the_table_of_ca_keys::<Httpd>();
}
