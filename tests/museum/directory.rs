//! Records that cannot be read: nothing is known then, and nothing is taken for safe.

use std::fs;

use hpkp_tests::layout::Site;
use hpkp_tests::site::B;

use crate::stage::{OWN, Stage};

super::exhibits! {
    the_directory_is_gone
}

fn the_directory_is_gone<S: Site>() {
    let mut stage = Stage::<S>::new();
    let live = stage.pki.pin("live.pem");
    let pins = [live.as_str(), B];
    let unreadable = ["records-unreadable"];
    stage.up(&["live"], &pins, &[]);
    let (there, away) = (stage.site.path("records"), stage.site.path("away"));
    fs::rename(&there, &away).expect("a directory moved");
    stage.refuses(&["live"], &pins, &unreadable);
    // What is being served goes on.
    assert_eq!(stage.get().pins().len(), 1);
    fs::rename(&away, &there).expect("a directory moved");
    stage.takes(&["live"], &pins, &[]);
    stage.site.down();

    // A stopped server would lock out everybody.
    fs::rename(&there, &away).expect("a directory moved");
    stage.expect(&unreadable);
    stage.site.up();
    assert!(!fs::exists(&there).expect("its parent"), "nobody makes it");
    assert_eq!(stage.get().pins().len(), 0);
    fs::rename(&away, &there).expect("a directory moved");
    stage.takes(&["live"], &pins, &[]);
    assert_eq!(stage.get().pins().len(), 1);
    assert!(fs::exists(stage.site.path(OWN)).expect("a directory"));
}
