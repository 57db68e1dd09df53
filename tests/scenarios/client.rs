//! A key rotation as a real client sees it: wget2, with one pin store for each time that it connected.

use std::fs;
use std::path::PathBuf;

use hpkp_tests::client::Wget2;
use hpkp_tests::free_port;
use hpkp_tests::httpd::Httpd;
use hpkp_tests::instance::{Reload, codes};
use hpkp_tests::layout::{BLOCK, Block, LAYOUT, Layout, POLICY, Policy, Site};
use hpkp_tests::nginx::Nginx;
use hpkp_tests::outcome::Kind;
use hpkp_tests::site::B;

/// Clients that connected once each, one after every step, and keep the pins that they noted then.
struct Clients {
    url: String,
    ca: PathBuf,
    stores: Vec<PathBuf>,
}

impl Clients {
    /// A new client connects; the server must answer it and send it `pins`.
    #[track_caller]
    fn connect(&mut self, pins: &[&str]) {
        let store = self.ca.with_file_name(format!("visitor-{}", self.stores.len()));
        let wget2 = Wget2::new(&self.ca, store.clone());
        assert_eq!(wget2.get(&self.url), Some(0));
        assert_eq!(wget2.pins(), pins);
        self.stores.push(store);
    }

    /// wget2's exit code for each client, as if it came back only now: what it notes goes into a copy of its store.
    fn reconnect(&self) -> Vec<Option<i32>> {
        let copy = self.ca.with_file_name("again");
        let again = |store| {
            fs::copy(store, &copy).expect("a store");
            Wget2::new(&self.ca, copy.clone()).get(&self.url)
        };
        self.stores.iter().map(again).collect()
    }
}

fn rotation<S: Site>() {
    let mut site = S::with_records();
    let (pki, port) = (site.pki(), free_port());
    pki.leaf("second", "localhost", "ca");
    pki.leaf("third", "localhost", "ca");
    let [first, second, third] = ["live.pem", "second.pem", "third.pem"].map(|file| pki.pin(file));
    let (first, second, third) = (first.as_str(), second.as_str(), third.as_str());
    let lay_out = |site: &S, certificate: &str, pins: &[&str], check: &str| {
        site.lay_out(&Layout {
            policies: &[Policy { pins, ..POLICY }],
            blocks: &[Block { port, certificates: &[certificate], ..BLOCK }],
            check,
            ..LAYOUT
        });
    };

    // A correct rotation: a client that noted the pins at any step is served at every later step.
    let steps: [(&str, &[&str]); 4] = [
        ("live", &[first, second]),
        ("live", &[first, second, third]),
        ("second", &[first, second, third]),
        ("second", &[second, third, B]),
    ];
    let url = format!("https://localhost:{port}/");
    let mut clients = Clients { url, ca: site.path("ca.pem"), stores: Vec::new() };
    for (step, (certificate, pins)) in steps.into_iter().enumerate() {
        lay_out(&site, certificate, pins, "refuse");
        if step == 0 {
            site.up();
        } else {
            assert_eq!(site.reload_tested(), Reload::Accepted, "step {step}");
        }
        assert_eq!(clients.reconnect(), vec![Some(0); step]);
        clients.connect(pins);
    }
    let all_served = [Some(0); 4];

    // A wrong rotation: the first client never noted the pin of the third key.
    let wrong: &[&str] = &[second, third, B];
    lay_out(&site, "third", wrong, "refuse");
    let Reload::Refused(outcome) = site.reload_tested() else { panic!("accepted") };
    assert_eq!(codes(&outcome), ["published-pins-unmet"], "{outcome}");
    assert_eq!(clients.reconnect(), all_served);
    // The operator forces it: nginx refuses a reload without a test before it as well, httpd cannot.
    let check = match S::KIND {
        Kind::Nginx => "warn",
        Kind::Httpd => "refuse",
    };
    site.expect_in_log(&["hpkp: [published-pins-unmet]"]);
    lay_out(&site, "third", wrong, check);
    assert_eq!(site.reload_forced(), Reload::Accepted);
    assert_eq!(clients.reconnect(), [Some(5), Some(0), Some(0), Some(0)]);

    // The second key again: all clients are served again.
    lay_out(&site, "second", wrong, "refuse");
    assert_eq!(site.reload_tested(), Reload::Accepted);
    assert_eq!(clients.reconnect(), all_served);
    site.down();
}

#[test]
fn wget2_goes_through_a_rotation_of_nginx() {
    rotation::<Nginx>();
}

#[test]
fn wget2_goes_through_a_rotation_of_httpd() {
    rotation::<Httpd>();
}
