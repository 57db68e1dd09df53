//! Pins published earlier bind until the max-age that was sent with them has passed.

use hpkp_core::date;
use hpkp_core::published::Body;
use hpkp_tests::layout::Site;
use hpkp_tests::site::B;

use crate::apps::published;
use crate::fixture::{Fixture, OWN, says};
use crate::history::{DAY, History, events, now};

super::scenarios! {
    a_policy_switched_off_and_the_certificate_changed
    max_age_shortened_while_the_old_one_binds
    waived_pins_that_are_still_sent
}

const UNMET: &[&str] = &["published-pins-unmet"];

/// When the server of a fixture recorded that something had ended.
fn ended<S: Site>(fixture: &Fixture<S>) -> i64 {
    let events = events(&fixture.site.path(OWN));
    let ends: Vec<i64> = events
        .iter()
        .filter(|event| matches!(event.body(), Body::Ended(_)))
        .map(|event| event.at())
        .collect();
    let [at] = ends[..] else { panic!("{ends:?}") };
    at
}

fn a_policy_switched_off_and_the_certificate_changed<S: Site>() {
    let mut fixture = Fixture::<S>::new();
    let (live, backup) = (fixture.pki.pin("live.pem"), fixture.pki.pin("backup.csr"));
    fixture.pki.leaf("renewed", "localhost", "ca");
    fixture.up(&["live"], &[&live, &backup], &[]);
    fixture.refuses(&["renewed"], &[], UNMET);

    fixture.takes(&["live"], &[], &[]);
    assert_eq!(fixture.get().pins().len(), 0);
    let outcome = fixture.refuses(&["renewed"], &[], UNMET);
    let until = date::format(ended(&fixture) + 2 * DAY);
    says(&outcome, &[&format!("would refuse the certificate, until {until}"), &until]);
    fixture.certify("backup", "backup", "localhost", "ca");
    fixture.takes(&["backup"], &[], &[]);
}

fn max_age_shortened_while_the_old_one_binds<S: Site>() {
    let mut fixture = Fixture::<S>::new();
    let live = fixture.pki.pin("live.pem");
    fixture.pki.leaf("renewed", "localhost", "ca");
    let renewed = fixture.pki.pin("renewed.pem");
    fixture.max_age = "60d";
    fixture.up(&["live"], &[&live, B], &[]);
    fixture.max_age = "1d";
    fixture.takes(&["live"], &[&live, B], &[]);
    // The pins are the same, but clients that noted the first header hold them for its longer max-age.
    let outcome = fixture.refuses(&["renewed"], &[&renewed, B], &["published-pins-unmet"]);
    let until = date::format(ended(&fixture) + 61 * DAY);
    says(&outcome, &[&format!("would refuse the certificate, until {until}"), &until]);

    // The same change, long ago: the pins published before it expire tomorrow, or have expired.
    fixture.forget();
    let now = now();
    for (days_ago, codes) in [(60, UNMET), (62, &[])] {
        let mut history = History::new("web-0");
        let shortened = now - days_ago * DAY;
        let long = history.published(shortened - 100 * DAY, &[&live, B], 60);
        let short = history.published(shortened, &[&live, B], 1);
        history.replaced(shortened, long);
        history.replaced(now - 3 * DAY, short);
        history.write(&fixture.site.path("records/peers/web-0.jsonl"));
        if codes.is_empty() {
            fixture.passes(&["renewed"], &[&renewed, B], &[]);
            fixture.up(&["renewed"], &[&renewed, B], &[]);
        } else {
            let outcome = fixture.refuses(&["renewed"], &[&renewed, B], codes);
            says(&outcome, &[&format!("until {}", date::format(now + DAY))]);
        }
    }
}

/// The operator waives pins and does not change the certificate: whoever visits now notes them, and the waiver covers
/// these clients too.
fn waived_pins_that_are_still_sent<S: Site>() {
    let mut fixture = Fixture::<S>::new();
    let live = fixture.pki.pin("live.pem");
    fixture.pki.leaf("renewed", "localhost", "ca");
    let renewed = fixture.pki.pin("renewed.pem");
    fixture.up(&["live"], &[&live, B], &[]);
    published(&fixture, &["waive", "--host", "localhost", "--who", "ops", "--why", "old kiosks"]);
    fixture.passes(&["live"], &[&live, B], &["waived"]);
    fixture.takes(&["live"], &[&live, B], &["waived"]);
    fixture.passes(&["renewed"], &[&renewed, B], &["waived"]);

    // Another policy is recorded anew, and protects whoever notes it.
    let other = fixture.pki.pin("backup.csr");
    fixture.takes(&["live"], &[&live, &other], &[]);
    fixture.refuses(&["renewed"], &[&renewed, B], &["published-pins-unmet", "waived"]);
}
