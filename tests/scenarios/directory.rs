//! Records that cannot be read: nothing is known then, and nothing is taken for safe.

use std::fs;

use hpkp_tests::layout::Site;
use hpkp_tests::site::B;

use crate::fixture::{Fixture, OWN};

super::scenarios! {
    the_directory_is_gone
}

fn the_directory_is_gone<S: Site>() {
    let mut fixture = Fixture::<S>::new();
    let live = fixture.pki.pin("live.pem");
    let pins = [live.as_str(), B];
    let unreadable = ["records-unreadable"];
    fixture.up(&["live"], &pins, &[]);
    let (there, away) = (fixture.site.path("records"), fixture.site.path("away"));
    fs::rename(&there, &away).expect("a directory moved");
    fixture.refuses(&["live"], &pins, &unreadable);
    // What is being served goes on.
    assert_eq!(fixture.get().pins().len(), 1);
    fs::rename(&away, &there).expect("a directory moved");
    fixture.takes(&["live"], &pins, &[]);
    fixture.site.down();

    // A stopped server would lock out everybody.
    fs::rename(&there, &away).expect("a directory moved");
    fixture.expect(&unreadable);
    fixture.site.up();
    assert!(!fs::exists(&there).expect("its parent"), "nobody makes it");
    assert_eq!(fixture.get().pins().len(), 0);
    fs::rename(&away, &there).expect("a directory moved");
    fixture.takes(&["live"], &pins, &[]);
    assert_eq!(fixture.get().pins().len(), 1);
    assert!(fs::exists(fixture.site.path(OWN)).expect("a directory"));
}
