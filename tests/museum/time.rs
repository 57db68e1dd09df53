//! What was published before binds for as long as it said then.

use hpkp_core::date;
use hpkp_core::published::Body;
use hpkp_tests::layout::Site;
use hpkp_tests::site::B;

use crate::history::{DAY, History, events, now};
use crate::stage::{OWN, Stage, says};

super::exhibits! {
    a_policy_switched_off_and_the_certificate_changed
    max_age_shortened_while_the_old_one_binds
}

const UNMET: &[&str] = &["published-pins-unmet"];

/// When the server of a stage recorded that something had ended.
fn ended<S: Site>(stage: &Stage<S>) -> i64 {
    let events = events(&stage.site.path(OWN));
    let ends: Vec<i64> = events
        .iter()
        .filter(|event| matches!(event.body(), Body::Ended(_)))
        .map(|event| event.at())
        .collect();
    let [at] = ends[..] else { panic!("{ends:?}") };
    at
}

fn a_policy_switched_off_and_the_certificate_changed<S: Site>() {
    let mut stage = Stage::<S>::new();
    let (live, backup) = (stage.pki.pin("live.pem"), stage.pki.pin("backup.csr"));
    stage.pki.leaf("renewed", "localhost", "ca");
    stage.up(&["live"], &[&live, &backup], &[]);
    stage.refuses(&["renewed"], &[], UNMET);

    stage.takes(&["live"], &[], &[]);
    assert_eq!(stage.get().pins().len(), 0);
    let said = stage.refuses(&["renewed"], &[], UNMET);
    let until = date::format(ended(&stage) + 2 * DAY);
    says(&said, &[&format!("would refuse the certificate, until {until}"), &until]);
    stage.certify("backup", "backup", "localhost", "ca");
    stage.takes(&["backup"], &[], &[]);
}

fn max_age_shortened_while_the_old_one_binds<S: Site>() {
    let mut stage = Stage::<S>::new();
    let live = stage.pki.pin("live.pem");
    stage.pki.leaf("renewed", "localhost", "ca");
    let renewed = stage.pki.pin("renewed.pem");
    stage.max_age = "60d";
    stage.up(&["live"], &[&live, B], &[]);
    stage.max_age = "1d";
    stage.takes(&["live"], &[&live, B], &[]);
    // The pins are the same, and so are those who hold them for as long as they were first told.
    let said = stage.refuses(&["renewed"], &[&renewed, B], &["published-pins-unmet"]);
    let until = date::format(ended(&stage) + 61 * DAY);
    says(&said, &[&format!("would refuse the certificate, until {until}"), &until]);

    // The same, long ago: what was published before the age was shortened has run out, or will
    // tomorrow.
    stage.forget();
    let now = now();
    for (days_ago, codes) in [(60, UNMET), (62, &[])] {
        let mut history = History::new("web-0");
        let shortened = now - days_ago * DAY;
        let long = history.published(shortened - 100 * DAY, &[&live, B], 60);
        let short = history.published(shortened, &[&live, B], 1);
        history.replaced(shortened, long);
        history.replaced(now - 3 * DAY, short);
        history.write(&stage.site.path("records/peers/web-0.jsonl"));
        if codes.is_empty() {
            stage.passes(&["renewed"], &[&renewed, B], &[]);
            stage.up(&["renewed"], &[&renewed, B], &[]);
        } else {
            let said = stage.refuses(&["renewed"], &[&renewed, B], codes);
            says(&said, &[&format!("until {}", date::format(now + DAY))]);
        }
    }
}
