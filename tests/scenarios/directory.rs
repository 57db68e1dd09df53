//! Records that cannot be read: the server does not know which pins clients hold, so it takes no change for safe.

use std::fs;

use hpkp_tests::layout::Site;
use hpkp_tests::site::{A, B};

use crate::apps::published;
use crate::fixture::{Fixture, OWN};

super::scenarios! {
    a_start_without_its_directory_sends_no_header
    a_key_served_while_the_own_file_is_damaged_is_recorded_later
    an_unchanged_configuration_passes_while_the_own_file_is_damaged
}

fn a_start_without_its_directory_sends_no_header<S: Site>() {
    let mut fixture = Fixture::<S>::new();
    let live = fixture.pki.pin("live.pem");
    let pins = [live.as_str(), B];
    let unreadable = ["records-unreadable"];
    fixture.up(&["live"], &pins, &[]);
    let (there, away) = (fixture.site.path("records"), fixture.site.path("away"));
    fs::rename(&there, &away).expect("a directory moved");
    fixture.refuses(&["live"], &pins, &unreadable);
    // The running server continues with its header.
    assert_eq!(fixture.get().pins().len(), 1);
    fs::rename(&away, &there).expect("a directory moved");
    fixture.takes(&["live"], &pins, &[]);
    fixture.site.down();

    // A start continues without the header: a server that is down would lock out everybody.
    fs::rename(&there, &away).expect("a directory moved");
    fixture.expect(&["records-unreadable", "configuration-not-recorded"]);
    fixture.site.up();
    assert!(!fs::exists(&there).expect("its parent"), "nobody makes it");
    assert_eq!(fixture.get().pins().len(), 0);
    fs::rename(&away, &there).expect("a directory moved");
    fixture.takes(&["live"], &pins, &[]);
    assert_eq!(fixture.get().pins().len(), 1);
    assert!(fs::exists(fixture.site.path(OWN)).expect("a directory"));
}

/// A key served while the file was damaged counts as served once the file is whole again.
fn a_key_served_while_the_own_file_is_damaged_is_recorded_later<S: Site>() {
    let mut fixture = Fixture::<S>::new();
    fixture.up(&["live"], &[], &[]);
    fixture.pki.leaf("renewed", "localhost", "ca");
    let renewed = fixture.pki.pin("renewed.pem");
    let own = fixture.site.path(OWN);
    let records = fs::read(&own).expect("records");
    fs::write(&own, [&records[..], b"broken\n"].concat()).expect("records");
    fixture.refuses(&["renewed"], &[], &["records-unreadable"]);
    fixture.expect(&["records-unreadable", "configuration-not-recorded"]);
    fixture.site.expect_in_log(&["hpkp: cannot record that this server has stopped"]);
    fixture.site.down();
    fixture.one(&["renewed"], &[], |layout| fixture.site.lay_out(layout));
    fixture.site.up();

    // An app pins the key that is served.
    fs::write(&own, records).expect("records");
    published(&fixture, &["add", "localhost", "--origin", "app", "--pin", &renewed]);
    fixture.refuses(&["live"], &[], &["published-pins-unmet"]);
    fixture.takes(&["renewed"], &[], &[]);
    fixture.refuses(&["live"], &[], &["published-pins-unmet"]);
}

/// An unchanged configuration passes; the server sends no pins that may not be on record.
fn an_unchanged_configuration_passes_while_the_own_file_is_damaged<S: Site>() {
    let mut fixture = Fixture::<S>::new();
    let live = fixture.pki.pin("live.pem");
    let pins = [live.as_str(), B];
    fixture.up(&["live"], &pins, &[]);
    assert_eq!(fixture.get().pins().len(), 1);
    let own = fixture.site.path(OWN);
    let records = fs::read(&own).expect("records");
    fs::write(&own, [&records[..], b"\n"].concat()).expect("records");
    fixture.refuses(&["live"], &[&live, B, A], &["records-unreadable"]);
    fixture.passes(&["live"], &pins, &["records-unreadable"]);
    let passed = fixture.site.test();
    let why = "not refused: the last accepted configuration presents and publishes the same; the header is not sent";
    assert!(passed.text.contains(why), "{}", passed.text);
    fixture.reload(&["records-unreadable", "configuration-not-recorded"]);
    assert_eq!(fixture.get().pins().len(), 0);
    fixture.passes(&["live"], &pins, &["records-unreadable"]);
    fs::write(&own, records).expect("records");
    fixture.takes(&["live"], &pins, &[]);
    assert_eq!(fixture.get().pins().len(), 1);
}
