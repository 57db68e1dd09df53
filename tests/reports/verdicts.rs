//! What reports come to, with chains that openssl makes and records of published pins.

use std::path::PathBuf;

use hpkp_core::published::{
    Body, Event, KeyGraph, KeyNode, Matching, Presented, Presents, WriterName,
};
use hpkp_core::ua::received;
use hpkp_tests::pki::{P256, Pki};
use hpkp_tests::recorded::held;
use tempfile::TempDir;

use crate::collector::{Collector, now, report};

const HOST: &str = "www.example.com";

/// A public CA with an intermediate, the keys that are ours, and leaves of all kinds.
struct World {
    dir: TempDir,
    pki: Pki,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let pki = Pki::new(dir.path());
        pki.ca("public");
        pki.intermediate("issuing", "public");
        pki.leaf("ours", HOST, "issuing");
        pki.leaf("theirs", HOST, "issuing");
        Self { dir, pki }
    }

    fn chain(&self, names: &[&str]) -> Vec<String> {
        let text = |name: &&str| String::from_utf8(self.pki.read(&format!("{name}.pem"))).unwrap();
        names.iter().map(text).collect()
    }

    /// A collector that knows the public CA, and this besides.
    fn collector(self, top: &str, tables: &str) -> Collector {
        let trusted = format!("trusted_certificates = {:?}\n{top}", self.pki.path("public.pem"));
        Collector::start_in(self.dir, &[HOST, "mail.example.com"], &trusted, tables)
    }

    fn pinned(&self, name: &str) -> String {
        let pin = self.pki.pin(&format!("{name}.pem"));
        format!("[policies.\"{HOST}\"]\npins = [\"sha256/{pin}\"]\nmode = \"report-only\"\n")
    }
}

#[track_caller]
fn comes_to(collector: &Collector, body: &str, finding: &str) {
    let before = collector.findings(HOST);
    assert_eq!(collector.post(body), 204);
    let mut after = collector.findings(HOST);
    after.retain(|one| !before.contains(one));
    assert_eq!(after, [finding], "{before:?}");
}

#[test]
fn chains_are_judged() {
    let world = World::new();
    let pki = &world.pki;
    pki.key("fiddler", P256);
    pki.self_signed("fiddler", "/O=DO_NOT_TRUST/CN=DO_NOT_TRUST_FiddlerRoot", &[]);
    pki.leaf("debugged", HOST, "fiddler");
    pki.ca("Example Office Proxy");
    pki.leaf("proxied", HOST, "Example Office Proxy");
    pki.leaf("portal", "portal.example.net", "issuing");
    // In the name of the public CA, with another key.
    pki.key("forger", P256);
    pki.self_signed("forger", "/CN=public", &[]);
    pki.leaf("forged", HOST, "forger");
    let full = |leaf| world.chain(&[leaf, "issuing"]);
    let bodies = [
        (report(HOST, &now(), &full("ours")), "report-own-key"),
        (report(HOST, &now(), &full("theirs")), "report-public-ca-unknown-key"),
        (report(HOST, &now(), &world.chain(&["debugged", "fiddler"])), "report-known-interception"),
        (
            report(HOST, &now(), &world.chain(&["proxied", "Example Office Proxy"])),
            "report-unknown-private-root",
        ),
        (report(HOST, &now(), &full("portal")), "report-other-name"),
        // At that time the certificates were not there yet.
        (report(HOST, "2020-01-01T00:00:00Z", &full("theirs")), "report-not-valid-then"),
        (report(HOST, &now(), &[]), "report-without-chain"),
    ];
    let forged = report(HOST, &now(), &world.chain(&["forged", "forger"]));
    let test = report(HOST, &now(), &full("theirs")).replacen('{', "{\"test-report\":true,", 1);
    let own = world.pinned("ours");
    let collector = world.collector("", &own);
    for (body, finding) in bodies {
        comes_to(&collector, &body, finding);
    }
    comes_to(&collector, &test, "report-test");
    // A chain to a root in a public CA's name is no public one.
    assert_eq!(collector.post(&forged), 204);
    let alarms = collector.log().matches("report-public-ca-unknown-key").count();
    assert_eq!(alarms, 1, "{}", collector.log());
}

#[test]
fn a_pinned_ca_is_ours_only_where_nobody_knows_our_leaves() {
    // Pins alone: a chain through the pinned CA most likely is ours.
    let world = World::new();
    let body = report(HOST, &now(), &world.chain(&["theirs", "issuing"]));
    let own = world.pinned("issuing");
    let collector = world.collector("", &own);
    comes_to(&collector, &body, "report-own-key");
}

#[test]
fn records_say_which_keys_are_ours() {
    let world = World::new();
    world.pki.records("records");
    // What a server would record: pins of the CA, and that it presents the leaf "ours".
    let (issuing, ours) = (world.pki.pin("issuing.pem"), world.pki.pin("ours.pem"));
    let records = write_records(&world.pki, &issuing, &ours);
    let (mine, others) = (world.chain(&["ours", "issuing"]), world.chain(&["theirs", "issuing"]));
    let collector = world.collector(&format!("records = [{records:?}]"), "");
    assert!(!collector.log().contains("warning"), "{}", collector.log());
    comes_to(&collector, &report(HOST, &now(), &mine), "report-own-key");
    comes_to(&collector, &report(HOST, &now(), &others), "report-pinned-ca-unknown-leaf");
    let page = collector.get(&format!("/host/{HOST}")).body;
    assert!(page.contains("enforced"), "{page}");
    let groups = collector.groups();
    let group = groups.iter().find(|group| group["finding"] == "report-own-key").unwrap();
    let page = collector.get(&format!("/group/{}", group["id"].as_str().unwrap())).body;
    assert!(page.contains("recorded by web-1") && page.contains(&issuing), "{page}");
}

/// Writes records as a server does: clients hold `pinned`, and the server presents `leaf`.
fn write_records(pki: &Pki, pinned: &str, leaf: &str) -> PathBuf {
    let writer: WriterName = "web-1".parse().unwrap();
    let leaf = leaf.parse().unwrap();
    let node = KeyNode { pin: Some(leaf), served: true, end: true, issuers: vec![] };
    let presents = Presents {
        host: HOST.parse().unwrap(),
        matching: Matching::Exact,
        ports: vec![443],
        certificates: vec![Presented {
            served: vec![Some(leaf)],
            keys: KeyGraph::new(vec![node]).unwrap(),
            identity: None,
        }],
        aside: false,
        nameless: false,
        addresses: vec![],
    };
    let published = held(HOST, vec![pinned.parse().unwrap()]);
    let bodies = [Body::Published(published), Body::Presents(presents)];
    let lines: Vec<String> = (1..)
        .zip(bodies)
        .map(|(seq, body)| Event::new(1_790_000_000, seq, writer.clone(), body))
        .map(|event| format!("{}\n", event.line()))
        .collect();
    pki.write("records/web-1.jsonl", lines.concat());
    pki.path("records")
}

#[test]
fn records_that_cannot_be_read_are_told() {
    let world = World::new();
    let body = report(HOST, &now(), &world.chain(&["theirs", "issuing"]));
    let collector = world.collector("records = [\"/nonexistent/records\"]", "");
    assert!(collector.log().contains("warning: "), "{}", collector.log());
    assert_eq!(collector.post(&body), 204);
    assert_eq!(collector.metric("hpkp_reports_problems"), 1);
    assert!(collector.get("/").body.contains("/nonexistent/records"));
}

#[test]
fn trustkit_react_native_and_mail_servers() {
    let world = World::new();
    world.pki.ca("Home");
    world.pki.leaf("homemade", HOST, "Home");
    let chain = world.chain(&["homemade", "Home"]);
    let (ours, theirs) = (world.pki.pin("ours.pem"), world.pki.pin("theirs.pem"));
    let own = world.pinned("ours");
    let collector = world.collector("", &own);
    let plain = report(HOST, &now(), &chain);
    let trustkit = plain.replacen(
        '{',
        "{\"app-bundle-id\":\"com.example.app\",\"app-vendor-id\":\"599F9C00-92DC-4B5C-9464-7971F01F8370\",\
          \"trustkit-version\":\"3\",\"app-platform\":\"ANDROID\",\"enforce-pinning\":false,\
          \"validation-result\":4,",
        1,
    );
    comes_to(&collector, &trustkit, "report-user-trust-anchor");
    let group = &collector.groups()[0];
    assert_eq!(group["client"], "TrustKit, Android");
    assert_eq!(group["mode"], "report-only");
    // What tells of one device is not kept.
    assert!(!group["raw"].as_str().unwrap().contains("599F9C00"), "{group}");
    let react = |pin: &str| {
        format!(
            "{{\"hostname\":\"{HOST}\",\"enforced\":true,\"known-pins\":[\"sha256/{theirs}\"],\
             \"served-pins\":[\"sha256/{pin}\"],\"message\":\"<b>x</b>\",\"date-time\":\"{}\"}}",
            now()
        )
    };
    comes_to(&collector, &react(&ours), "report-own-key");
    comes_to(&collector, &react(&theirs), "report-unknown-key");
    let tlsrpt = format!(
        r#"{{"organization-name":"Example Mail","date-range":{{"start-datetime":"{0}","end-datetime":"{0}"}},
        "contact-info":"x@example.net","report-id":"1","policies":[
        {{"policy":{{"policy-type":"tlsa","policy-domain":"mail.example.com"}},
          "summary":{{"total-successful-session-count":1,"total-failure-session-count":300}},
          "failure-details":[{{"result-type":"validation-failure","sending-mta-ip":"192.0.2.33",
            "receiving-mx-hostname":"mx.example.com","failed-session-count":300}}]}},
        {{"policy":{{"policy-type":"sts","policy-domain":"stranger.example"}},
          "summary":{{"total-successful-session-count":9,"total-failure-session-count":0}}}}]}}"#,
        now()
    );
    assert_eq!(received::read(tlsrpt.as_bytes()).unwrap().len(), 2);
    let kind = [("content-type", "application/tlsrpt+json")];
    assert_eq!(collector.post_with(&tlsrpt, &kind).status, 204);
    let groups = collector.groups();
    let mail: Vec<_> = groups.iter().filter(|group| group["format"] == "smtp-tls").collect();
    assert_eq!(mail.len(), 1, "nothing is stored for others");
    assert_eq!((&mail[0]["finding"], &mail[0]["count"]), (&"report-smtp-dane".into(), &300.into()));
    assert!(!mail[0]["raw"].as_str().unwrap().contains("192.0.2.33"));
}
