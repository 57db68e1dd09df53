use super::*;

const NOW: i64 = 1_500_000_000;
const LIVE: Pin = Pin::from_bytes([1; Pin::BYTES]);
const BACKUP: Pin = Pin::from_bytes([2; Pin::BYTES]);
const FOREIGN: Pin = Pin::from_bytes([3; Pin::BYTES]);

fn field(rest: &str) -> String {
    format!("pin-sha256=\"{LIVE}\"; pin-sha256=\"{BACKUP}\"; {rest}")
}

fn connect(
    hosts: &mut KnownPinnedHosts,
    host: &str,
    now: i64,
    transport: Transport<'_>,
    value: Option<&str>,
) -> (Outcome, Noting) {
    let host = Host::parse(host).unwrap();
    let connection = Connection { host: &host, transport, now };
    let validation = hosts.validate(&connection);
    let values: Vec<&[u8]> = value.iter().map(|value| value.as_bytes()).collect();
    let fields = Fields { enforced: &values, report_only: &[] };
    let received = hosts.receive(&connection, &validation, fields);
    (validation.outcome, received.noting)
}

const fn tls(chain: &[Pin], local_anchor: bool) -> Transport<'_> {
    Transport::Tls { chain, local_anchor }
}

#[test]
fn an_expiry_beyond_the_largest_time_saturates() {
    let mut hosts = KnownPinnedHosts::new(Options::default());
    let value = field("max-age=99999999999999999999");
    let transport = tls(&[LIVE], false);
    connect(&mut hosts, "a.example", NOW, transport, Some(&value));
    assert_eq!(hosts.iter().next().map(|(_, e)| e.expires), Some(i64::MAX));
}

#[test]
fn a_local_anchor_is_exempt_only_with_that_option() {
    for (skip_local_anchors, outcome) in [(false, Outcome::Fail), (true, Outcome::Skipped)] {
        let mut hosts = KnownPinnedHosts::new(Options { skip_local_anchors, ..Options::default() });
        let value = field("max-age=10");
        connect(&mut hosts, "a", NOW, tls(&[LIVE], false), Some(&value));
        let transport = tls(&[FOREIGN], true);
        assert_eq!(connect(&mut hosts, "a", NOW, transport, None).0, outcome);
    }
}

#[test]
fn a_field_on_an_unvalidated_connection_does_not_replace_an_entry() {
    let mut hosts =
        KnownPinnedHosts::new(Options { skip_local_anchors: true, ..Options::default() });
    let transport = tls(&[LIVE], true);
    let value = field("max-age=10");
    let first = connect(&mut hosts, "a", NOW, transport, Some(&value));
    assert_eq!(first, (Outcome::NotPinned, Noting::Noted));
    let second = connect(&mut hosts, "a", NOW, transport, Some(&value));
    assert_eq!(second, (Outcome::Skipped, Noting::Ignored));
}

#[test]
fn the_second_of_expiry_still_counts() {
    let mut hosts = KnownPinnedHosts::new(Options::default());
    let value = field("max-age=10");
    connect(&mut hosts, "a", NOW, tls(&[LIVE], false), Some(&value));
    let foreign = tls(&[FOREIGN], false);
    let at = connect(&mut hosts, "a", NOW + 10, foreign, None);
    assert_eq!(at.0, Outcome::Fail);
    let after = connect(&mut hosts, "a", NOW + 11, foreign, None);
    assert_eq!(after.0, Outcome::NotPinned);
    hosts.drop_expired(NOW + 11);
    assert_eq!(hosts.iter().count(), 0);
}

#[test]
fn reports_are_sent_only_to_http_and_https() {
    let mut hosts = KnownPinnedHosts::new(Options::default());
    let value = field("max-age=10; report-uri=\"ftp://a.example/\"");
    connect(&mut hosts, "a", NOW, tls(&[LIVE], false), Some(&value));
    let host = Host::parse("a").unwrap();
    let validation =
        hosts.validate(&Connection { host: &host, transport: tls(&[FOREIGN], false), now: NOW });
    assert_eq!(validation.outcome, Outcome::Fail);
    assert_eq!(validation.report, None);
}
