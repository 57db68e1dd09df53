//! Pins of an app, imported with `hpkp published import`.

use std::process::Command;

use hpkp_tests::layout::Site;
use hpkp_tests::site::B;
use hpkp_tests::succeed;

use crate::fixture::{Fixture, says};

super::scenarios! {
    the_pins_of_an_app_imported_and_the_key_changed
}

/// Runs `hpkp published` on the records of a fixture; returns its output.
pub fn published<S: Site>(fixture: &Fixture<S>, arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hpkp"));
    command.arg("published").arg("-d").arg(fixture.site.path("records")).args(arguments);
    String::from_utf8(succeed(&mut command)).expect("UTF-8")
}

fn the_pins_of_an_app_imported_and_the_key_changed<S: Site>() {
    let mut fixture = Fixture::<S>::new();
    let live = fixture.pki.pin("live.pem");
    let source = format!(
        "new CertificatePinner.Builder().add(\"localhost\", \"sha256/{live}\", \"sha256/{B}\").build();"
    );
    let file = fixture.pki.write("Pins.java", source);
    let file = file.to_str().expect("UTF-8");
    let import = ["import", "--format", "okhttp", "--origin", "app 4.2", file];
    let recorded = published(&fixture, &import);
    let id = recorded.split(' ').next().expect("an id");

    // The server has no policy and sends no header, but clients of the app hold the key.
    fixture.up(&["live"], &[], &[]);
    assert_eq!(fixture.get().pins().len(), 0);
    fixture.pki.leaf("renewed", "localhost", "ca");
    let outcome = fixture.refuses(&["renewed"], &[], &["published-pins-unmet"]);
    says(
        &outcome,
        &[
            "would refuse the certificate, and these pins do not expire",
            "held by: clients of \"app 4.2 (OkHttp CertificatePinner, line 1)\" for localhost",
            "when no old release is in use any more, run: hpkp published -d ",
            &format!(" end {id} --why REASON"),
            "last resort, locks out those clients: hpkp published -d ",
            &format!(" waive {id} --who NAME --why REASON"),
        ],
    );

    fixture.certify("same-key", "live", "localhost", "ca");
    fixture.takes(&["same-key"], &[], &[]);
    // Once nobody uses the app any more, the key may change.
    published(&fixture, &["end", id, "--why", "app 4.2 is no longer used"]);
    fixture.takes(&["renewed"], &[], &[]);
}
