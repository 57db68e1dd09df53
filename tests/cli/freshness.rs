//! Silent machines: how the commands treat peers that have not been heard from for some time.

use std::os::unix::fs::PermissionsExt as _;

use hpkp_core::date;
use hpkp_core::max_age::MaxAge;
use hpkp_core::pin::Pin;
use hpkp_core::published::heard::{AllHeard, Heard, write};
use hpkp_core::published::{
    Body, Event, KeyGraph, KeyNode, Lifetime, Matching, Origin, Presented, Presents, Published,
};
use hpkp_tests::pki::Pki;
use hpkp_tests::recorded::held;
use serde_json::{Value, json};

use crate::records::Records;
use crate::{Outcome, run};

const HOST: &str = "www.example.com";

pub(crate) fn now() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.expect("a time").as_secs() as i64
}

/// Records of web-2, which publishes the pins of the certificates `old` and `new`.
fn site() -> (Records, Pki) {
    let records = Records::new();
    let pki = Pki::new(records.0.path());
    pki.ca("root");
    for name in ["old", "new", "third"] {
        pki.leaf(name, HOST, "root");
    }
    let pins = ["old", "new"].map(|name| pki.pin(&format!("{name}.pem")).parse().expect("a pin"));
    let body = Published {
        lifetime: Lifetime::MaxAge(MaxAge::from_seconds(86_400).expect("an age")),
        origin: Origin::Header,
        ..held(HOST, pins.into())
    };
    let writer = "web-2".parse().expect("a name");
    let event = Event::new(now() - 9_000, 1, writer, Body::Published(body));
    pki.write("records/peers/web-2.jsonl", format!("{}\n", event.line()));
    (records, pki)
}

/// Records that web-2 presents a certificate for a host.
pub(crate) fn presents(pki: &Pki, host: &str) {
    let pin = Some(Pin::from_bytes([3; Pin::BYTES]));
    let node = KeyNode { pin, served: true, end: true, issuers: vec![] };
    let keys = KeyGraph::new(vec![node]).expect("a graph");
    let body = Body::Presents(Presents {
        host: host.parse().expect("a host"),
        matching: Matching::Exact,
        ports: vec![443],
        certificates: vec![Presented { served: vec![pin], keys, identity: None }],
        aside: false,
        nameless: false,
        addresses: vec![],
    });
    let event = Event::new(now() - 9_000, 2, "web-2".parse().expect("a name"), body);
    let file = pki.path("records/peers/web-2.jsonl");
    let before = std::fs::read_to_string(&file).unwrap_or_default();
    pki.write("records/peers/web-2.jsonl", format!("{before}{}\n", event.line()));
}

/// Writes the heartbeat file: web-2 was last heard from at this time.
pub(crate) fn heard(pki: &Pki, at: i64) {
    let last = "00112233445566778899aabbccddeeff".parse().expect("an id");
    let all = AllHeard::from([("web-2".parse().expect("a name"), Heard { number: 3, at, last })]);
    pki.write("records/hpkp-heard", write(&all));
}

fn why(records: &Records, more: &[&str]) -> Outcome {
    records.run(&[&["why", HOST, "--trusted-certificate", "root.pem"], more].concat())
}

fn status(records: &Records, more: &[&str]) -> Outcome {
    let arguments = [&["status", "-d", "records", "--offline"], more].concat();
    run(records.0.path(), &arguments)
}

#[test]
fn why_warns_of_silent_peers_and_unreadable_heartbeats() {
    let (records, pki) = site();
    heard(&pki, now() - 7_000);
    let limit = |certificate, limit| {
        let outcome = why(&records, &["--cert", certificate, "--max-staleness", limit, "--json"]);
        let json = outcome.json();
        let found = json["findings"].as_array().expect("findings").iter();
        let codes: Vec<Value> = found.map(|one| json!([one["code"], one["class"]])).collect();
        (outcome.code, json["answer"].as_str().expect("an answer").to_owned(), json!(codes))
    };
    let yes = || "yes".to_owned();
    assert_eq!(limit("new.pem", "2h"), (Some(0), yes(), json!([])));
    // The certificate satisfies all recorded pins, so the silence is only a warning.
    assert_eq!(limit("new.pem", "1h"), (Some(0), yes(), json!([["peer-silent", "warning"]])));
    let third = limit("third.pem", "1h");
    assert_eq!((third.0, third.1.as_str()), (Some(1), "no"));
    for wrong in ["0", "1y", "x"] {
        let outcome = why(&records, &["--cert", "new.pem", "--max-staleness", wrong]);
        assert_eq!(outcome.code, Some(2), "{outcome:?}");
    }
    pki.write("records/hpkp-heard", "x");
    let damaged = json!([["heartbeats-unreadable", "warning"]]);
    assert_eq!(limit("new.pem", "1h"), (Some(0), yes(), damaged));
}

/// While a machine that presents the host is silent, a renewal is safe only with the present key.
#[test]
fn a_renewal_with_a_new_key_is_undetermined_while_a_peer_is_silent() {
    let (records, pki) = site();
    pki.leaf("b", "b.example.com", "root");
    presents(&pki, "b.example.com");
    heard(&pki, now() - 7_000);
    let renewed = |certificate: &str, more: &[&str]| {
        let arguments = [
            "renew-check",
            "-d",
            "records",
            "--trusted-certificate",
            "root.pem",
            "--json",
            "--cert",
        ];
        run(records.0.path(), &[&arguments[..], &[certificate], more].concat()).code
    };
    assert_eq!(renewed("b.pem", &[]), Some(0));
    assert_eq!(renewed("b.pem", &["--max-staleness", "2h"]), Some(0));
    assert_eq!(renewed("b.pem", &["--max-staleness", "1h"]), Some(3));
    assert_eq!(renewed("b.pem", &["--max-staleness", "1h", "--key", "b.key"]), Some(0));
    // A certificate that satisfies every recorded pin passes.
    assert_eq!(renewed("old.pem", &["--max-staleness", "1h", "--key", "new.key"]), Some(0));
}

#[test]
fn status_prints_how_long_a_machine_has_been_silent() {
    let (records, pki) = site();
    let at = now() - 7_300;
    heard(&pki, at);
    let report = status(&records, &["--json"]).json();
    let writer = &report["writers"][0];
    assert_eq!(writer["heard"], date::format(at));
    assert!((7_300..7_400).contains(&writer["silent_for"].as_i64().expect("seconds")), "{writer}");
    let out = status(&records, &[]).fine();
    assert!(
        out.contains("web-2 (copy): last accepted configuration")
            && out.contains("last heard from 2 hours ago"),
        "{out}"
    );
    let metrics = status(&records, &["--prometheus"]).fine();
    assert!(
        metrics.contains(&format!("hpkp_last_heard_timestamp_seconds{{writer=\"web-2\"}} {at}\n")),
        "{metrics}"
    );
    assert!(metrics.contains("hpkp_peer_silence_seconds{writer=\"web-2\"} 73"), "{metrics}");
    // A heartbeat in the future has no age.
    heard(&pki, now() + 9_000);
    let report = status(&records, &["--json"]).json();
    assert_eq!(report["writers"][0].get("silent_for"), None, "{report}");
    assert!(!status(&records, &["--prometheus"]).fine().contains("hpkp_peer_silence_seconds{"));
    assert!(status(&records, &[]).fine().contains("which is in the future by this machine"));
}

#[test]
fn a_damaged_heartbeat_file_is_reported() {
    let (records, pki) = site();
    heard(&pki, now());
    records.run(&["list"]).fine();
    records.run(&["verify"]).fine();
    let path = pki.write("records/hpkp-heard", "{\"v\":1}\nx\n");
    let outcome = records.run(&["verify", "--json"]);
    outcome.failed(3, "line 2 is invalid");
    assert_eq!(outcome.json()["unusable_heard"].as_array().expect("files").len(), 1);
    status(&records, &[]).failed(3, "line 2 is invalid");
    // The file contains no records, so `list` still works.
    records.run(&["list"]).fine();
    heard(&pki, now());
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o622)).expect("a file");
    records.run(&["verify"]).failed(3, "other users can write to the file");
}
