//! What has no place in the records.

use std::ops::RangeInclusive;

use hpkp_tests::free_port;
use hpkp_tests::nginx::{Nginx, Reload, codes, tls_server};
use hpkp_tests::recorded::{held_on_port, kinds};
use hpkp_tests::site::prepared;

const NOT_RECORDED: &str = "configuration-not-recorded";

/// More ports than a record has room for.
const PORTS: RangeInclusive<u16> = 1..=4_097;

fn configure(nginx: &Nginx, port: u16, public: RangeInclusive<u16>, certificate: &str) {
    let ports: String =
        public.map(|public| format!("hpkp_public_port {port} {public};\n")).collect();
    let server = tls_server(port, "localhost", certificate, "return 200 x;");
    nginx.configure(&format!("{ports}hpkp_published_pins records writer=web-1;\n{server}"));
}

/// The record before it is not the predecessor of what comes after it.
#[test]
fn a_host_that_no_record_has_room_for() {
    let mut nginx = prepared();
    let port = free_port();
    let pki = nginx.pki();
    pki.records("records");
    pki.leaf("old", "localhost", "ca");
    let own = nginx.path("records/web-1.jsonl");
    configure(&nginx, port, 443..=443, "old");
    nginx.start();
    assert_eq!(kinds(&own), ["writer", "presents"]);

    nginx.expect_in_log(&[NOT_RECORDED, "hpkp: [published-pins-unmet]"]);
    configure(&nginx, port, PORTS, "live");
    let before = nginx.log().len();
    assert_eq!(nginx.reload(), Reload::Accepted);
    let log = nginx.log();
    assert_eq!(codes(&log[before..]), [NOT_RECORDED]);
    assert!(log[before..].contains("exceeded by localhost"), "{log}");
    assert_eq!(kinds(&own), ["writer", "presents", "ended"]);

    // Clients note what is served now.
    held_on_port(&nginx.path("records/apps.jsonl"), "localhost", 443, &pki.pin("live.pem"));
    nginx.test().accepted(&[]);
    assert_eq!(nginx.reload(), Reload::Accepted);
    configure(&nginx, port, 443..=443, "old");
    let said = nginx.test();
    assert_eq!((said.code, said.codes()), (Some(1), vec!["published-pins-unmet"]), "{}", said.text);

    // What there is room for is recorded again.
    configure(&nginx, port, 443..=443, "live");
    let before = nginx.log().len();
    assert_eq!(nginx.reload(), Reload::Accepted);
    assert_eq!(codes(&nginx.log()[before..]), [""; 0]);
    assert_eq!(kinds(&own).last(), Some(&"presents"));
    nginx.stop();
}
