//! The findings for reports, with chains made by openssl and with records of published pins.

use std::path::PathBuf;
use std::process::Command;

use hpkp_core::published::{Body, Event, KeyGraph, KeyNode, Presented, Presents, WriterName};
use hpkp_core::ua::received;
use hpkp_tests::clock::{Clock, DAY};
use hpkp_tests::pki::{P256, Pki};
use hpkp_tests::recorded::held;
use hpkp_tests::succeed;
use tempfile::TempDir;

use crate::collector::{Collector, now, report, small};

const HOST: &str = "www.example.com";

/// A public CA with an intermediate, our keys, and leaves of all kinds.
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

    /// Starts a collector that trusts the public CA, with additional configuration.
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
fn assert_finding(collector: &Collector, body: &str, finding: &str) {
    let before = collector.findings(HOST);
    assert_eq!(collector.post(body), 204);
    let mut after = collector.findings(HOST);
    after.retain(|one| !before.contains(one));
    assert_eq!(after, [finding], "{before:?}");
}

#[test]
fn each_kind_of_chain_gets_its_finding() {
    let world = World::new();
    let pki = &world.pki;
    pki.key("fiddler", P256);
    pki.self_signed("fiddler", "/O=DO_NOT_TRUST/CN=DO_NOT_TRUST_FiddlerRoot", &[]);
    pki.leaf("debugged", HOST, "fiddler");
    pki.ca("Example Office Proxy");
    pki.leaf("proxied", HOST, "Example Office Proxy");
    pki.leaf("portal", "portal.example.net", "issuing");
    // A root with the name of the public CA, but another key.
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
        (report(HOST, &now(), &[]), "report-without-chain"),
    ];
    let forged = report(HOST, &now(), &world.chain(&["forged", "forger"]));
    let test = report(HOST, &now(), &full("theirs")).replacen('{', "{\"test-report\":true,", 1);
    let own = world.pinned("ours");
    let collector = world.collector("", &own);
    for (body, finding) in bodies {
        assert_finding(&collector, &body, finding);
    }
    assert_finding(&collector, &test, "report-test");
    // A chain to a root with the name of a public CA does not count as public.
    assert_eq!(collector.post(&forged), 204);
    let alarms = collector.log().matches("report-public-ca-unknown-key").count();
    assert_eq!(alarms, 1, "{}", collector.log());
}

/// The details of all groups with a finding.
fn details(collector: &Collector, finding: &str) -> Vec<String> {
    let groups = collector.groups();
    let those = groups.iter().filter(|group| group["finding"] == finding);
    those.map(|group| group["detail"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn no_date_in_a_report_hides_a_certificate_that_is_valid_now() {
    for date in ["1970-01-01T00:00:00Z", "2020-01-01T00:00:00Z", "2100-01-01T00:00:00Z"] {
        let world = World::new();
        let body = report(HOST, date, &world.chain(&["theirs", "issuing"]));
        let own = world.pinned("ours");
        let collector = world.collector("", &own);
        assert_finding(&collector, &body, "report-public-ca-unknown-key");
    }
}

#[test]
fn an_expired_certificate_is_judged_at_the_time_of_the_report() {
    let world = World::new();
    let past = Clock::ahead(world.dir.path(), -100 * DAY);
    world.pki.key("old", P256);
    let request = world.pki.request("old", "/CN=x");
    let extensions = world.pki.write("old.ext", format!("subjectAltName=DNS:{HOST}\n"));
    let mut openssl = Command::new("openssl");
    openssl.envs(past.environment()).args(["x509", "-req", "-days", "20", "-set_serial", "77"]);
    openssl.arg("-in").arg(request).arg("-extfile").arg(extensions);
    openssl.arg("-CA").arg(world.pki.path("public.pem"));
    openssl.arg("-CAkey").arg(world.pki.path("public.key"));
    succeed(openssl.arg("-out").arg(world.pki.path("old.pem")));
    let chain = world.chain(&["old"]);
    let then = hpkp_core::date::format(past.now() + DAY);
    let bodies = [
        (report(HOST, &now(), &chain), "report-not-valid-then"),
        (report(HOST, &then, &chain), "report-public-ca-unknown-key"),
    ];
    let own = world.pinned("ours");
    let collector = world.collector("", &own);
    for (body, finding) in bodies {
        assert_finding(&collector, &body, finding);
    }
}

/// The report, with these pins as the known pins of the client.
fn holding(body: &str, pins: &[&str]) -> String {
    let mut body: serde_json::Value = serde_json::from_str(body).unwrap();
    body["known-pins"] = pins.iter().map(|pin| format!("pin-sha256=\"{pin}\"")).collect();
    body.to_string()
}

#[test]
fn our_chain_with_unpublished_pins_is_reported_as_on_no_record() {
    let world = World::new();
    world.pki.records("records");
    let (issuing, ours) = (world.pki.pin("issuing.pem"), world.pki.pin("ours.pem"));
    // Clients hold the pin of a key that none of our servers presents.
    let theirs = world.pki.pin("theirs.pem");
    let records = write_records(&world.pki, &theirs, &ours);
    let body = report(HOST, &now(), &world.chain(&["ours", "issuing"]));
    let collector = world.collector(&format!("records = [{records:?}]"), "");
    // The chain matches the pins in the report, so there was no violation.
    for pin in [&ours, &issuing] {
        assert_eq!(collector.post(holding(&body, &[pin])), 204);
    }
    assert_eq!(collector.findings(HOST), ["report-pins-match"]);
    // The report has pins that we never published.
    assert_finding(&collector, &body, "report-own-key");
    let detail = details(&collector, "report-own-key").remove(0);
    assert!(detail.contains(&ours) && detail.contains("on no record"), "{detail}");
}

#[test]
fn our_chain_with_published_pins_is_reported_as_on_record() {
    let world = World::new();
    world.pki.records("records");
    let (ours, theirs) = (world.pki.pin("ours.pem"), world.pki.pin("theirs.pem"));
    let records = write_records(&world.pki, &theirs, &ours);
    let body = report(HOST, &now(), &world.chain(&["ours", "issuing"]));
    let collector = world.collector(&format!("records = [{records:?}]"), "");
    assert_finding(&collector, &holding(&body, &[&theirs]), "report-own-key");
    let detail = details(&collector, "report-own-key").remove(0);
    assert!(detail.contains("on record") && detail.contains("web-1"), "{detail}");
}

#[test]
fn a_pinned_ca_matches_only_if_signatures_lead_to_it() {
    let world = World::new();
    let pki = &world.pki;
    // A CA with the name of the pinned CA but another key, with the real CA in the same chain.
    pki.key("forger", P256);
    pki.self_signed("forger", "/CN=issuing", &[]);
    pki.leaf("forged", HOST, "forger");
    // A real certificate of the pinned CA, but for a stranger's host.
    pki.leaf("stranger", "stranger.example", "issuing");
    // A private CA of ours, which is not in the list of trusted CAs.
    pki.ca("private");
    pki.leaf("inside", HOST, "private");
    let bodies = [
        (report(HOST, &now(), &world.chain(&["forged", "issuing"])), "report-unverifiable-chain"),
        (report(HOST, &now(), &world.chain(&["stranger", "issuing"])), "report-other-name"),
        (report(HOST, &now(), &world.chain(&["inside", "private"])), "report-own-key"),
    ];
    let (issuing, private) = (pki.pin("issuing.pem"), pki.pin("private.pem"));
    let own =
        format!("[policies.\"{HOST}\"]\npins = [\"sha256/{issuing}\", \"sha256/{private}\"]\n");
    let collector = world.collector("", &own);
    for (body, finding) in bodies {
        assert_finding(&collector, &body, finding);
    }
}

#[test]
fn incomplete_and_contradictory_chains_are_unverifiable() {
    let world = World::new();
    let pki = &world.pki;
    pki.key("R99", P256);
    pki.self_signed("R99", "/O=Let's Encrypt/CN=R99", &[]);
    pki.leaf("alone", HOST, "R99");
    let alone = report(HOST, &now(), &world.chain(&["alone"]));
    // The served chain lacks the intermediate, which is in the validated chain.
    let edit = |body: &str, key: &str, chain: &[String]| {
        let mut body: serde_json::Value = serde_json::from_str(body).unwrap();
        body[key] = chain.to_vec().into();
        body.to_string()
    };
    let whole = report(HOST, &now(), &world.chain(&["theirs", "issuing"]));
    let short = edit(&whole, "served-certificate-chain", &world.chain(&["theirs"]));
    let two = edit(&whole, "served-certificate-chain", &world.chain(&["ours", "issuing"]));
    let own = world.pinned("ours");
    let collector = world.collector("", &own);
    assert_finding(&collector, &alone, "report-unverifiable-chain");
    assert_finding(&collector, &short, "report-public-ca-unknown-key");
    assert_eq!(collector.post(&two), 204);
    let details = details(&collector, "report-unverifiable-chain");
    assert!(details.iter().any(|detail| detail.contains("not of one connection")), "{details:?}");
}

#[test]
fn pins_without_certificates_are_an_unknown_key() {
    let world = World::new();
    let own = world.pinned("ours");
    let collector = world.collector("", &own);
    // The second pin is that of YE1 of Let's Encrypt.
    let body = small(HOST, 1).replace(
        "\"served-pins\":[",
        "\"served-pins\":[\"sha256/MMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMM=\",\"sha256/brzvtCELCIZUo4sD/qPX0ccRtPsd3DY6RfmxpOU9oB4=\",",
    );
    assert_finding(&collector, &body, "report-unknown-key");
    assert_eq!(details(&collector, "report-unknown-key"), ["a key of Let's Encrypt is with it"]);
}

#[test]
fn forged_reports_do_not_push_out_urgent_groups() {
    let world = World::new();
    let urgent = report(HOST, &now(), &world.chain(&["theirs", "issuing"]));
    let own = format!("[limits]\ngroups_per_day = 2\n{}", world.pinned("ours"));
    let collector = world.collector("", &own);
    for n in 0..5 {
        assert_eq!(collector.post(small(HOST, n)), 204);
    }
    assert_eq!(collector.post(&urgent), 204);
    let findings = collector.findings(HOST);
    assert!(findings.contains(&"report-overflow".to_owned()), "{findings:?}");
    assert!(findings.contains(&"report-public-ca-unknown-key".to_owned()), "{findings:?}");
}

#[test]
fn our_keys_stay_known_while_the_records_are_unavailable() {
    let world = World::new();
    world.pki.records("records");
    let (issuing, ours) = (world.pki.pin("issuing.pem"), world.pki.pin("ours.pem"));
    let records = write_records(&world.pki, &issuing, &ours);
    let list =
        world.pki.write("roots.json", include_str!("../../hpkp-reports/data/private-roots.json"));
    let body = report(HOST, &now(), &world.chain(&["ours", "issuing"]));
    let top = format!("records = [{records:?}]\nprivate_roots = {list:?}");
    let collector = world.collector(&top, "");
    std::fs::rename(&records, records.with_extension("away")).unwrap();
    std::fs::write(&list, "broken").unwrap();
    std::fs::rename(collector.path("public.pem"), collector.path("public.away")).unwrap();
    collector.signal(libc::SIGHUP);
    let begin = std::time::Instant::now();
    while collector.metric("hpkp_reports_problems") < 3 {
        assert!(begin.elapsed().as_secs() < 30, "{}", collector.log());
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert!(collector.log().contains("the old list of private roots stays"), "{}", collector.log());
    assert_finding(&collector, &body, "report-own-key");
}

#[test]
fn without_known_leaves_a_chain_through_a_pinned_ca_is_ours() {
    // Only pins are configured, so a chain through the pinned CA is most likely ours.
    let world = World::new();
    let body = report(HOST, &now(), &world.chain(&["theirs", "issuing"]));
    let own = world.pinned("issuing");
    let collector = world.collector("", &own);
    assert_finding(&collector, &body, "report-own-key");
}

#[test]
fn keys_on_record_are_ours() {
    let world = World::new();
    world.pki.records("records");
    // Records as a server writes them: it publishes the pin of the CA and presents the leaf "ours".
    let (issuing, ours) = (world.pki.pin("issuing.pem"), world.pki.pin("ours.pem"));
    let records = write_records(&world.pki, &issuing, &ours);
    let (mine, others) = (world.chain(&["ours", "issuing"]), world.chain(&["theirs", "issuing"]));
    let collector = world.collector(&format!("records = [{records:?}]"), "");
    assert!(!collector.log().contains("warning"), "{}", collector.log());
    assert_finding(&collector, &report(HOST, &now(), &mine), "report-own-key");
    assert_finding(&collector, &report(HOST, &now(), &others), "report-pinned-ca-unknown-leaf");
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
    let presents = Presents::of_one(
        HOST.parse().unwrap(),
        443,
        vec![Presented {
            served: vec![Some(leaf)],
            keys: KeyGraph::new(vec![node]).unwrap(),
            identity: None,
        }],
    );
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
fn unreadable_records_are_reported() {
    let world = World::new();
    let body = report(HOST, &now(), &world.chain(&["theirs", "issuing"]));
    let collector = world.collector("records = [\"/nonexistent/records\"]", "");
    assert!(collector.log().contains("warning: "), "{}", collector.log());
    assert_eq!(collector.post(&body), 204);
    assert_eq!(collector.metric("hpkp_reports_problems"), 1);
    assert!(collector.get("/").body.contains("/nonexistent/records"));
}

#[test]
fn reports_of_trustkit_react_native_and_mail_servers_are_judged() {
    let world = World::new();
    world.pki.ca("Home");
    world.pki.leaf("homemade", HOST, "Home");
    let chain = world.chain(&["homemade", "Home"]);
    let (ours, theirs) = (world.pki.pin("ours.pem"), world.pki.pin("theirs.pem"));
    let held = world.pki.pin("issuing.pem");
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
    assert_finding(&collector, &trustkit, "report-user-trust-anchor");
    let group = &collector.groups()[0];
    assert_eq!(group["client"], "TrustKit, Android");
    assert_eq!(group["mode"], "report-only");
    // Data that identifies a device is not stored.
    assert!(!group["raw"].as_str().unwrap().contains("599F9C00"), "{group}");
    let react = |pin: &str| {
        format!(
            "{{\"hostname\":\"{HOST}\",\"enforced\":true,\"known-pins\":[\"sha256/{held}\"],\
             \"served-pins\":[\"sha256/{pin}\"],\"message\":\"<b>x</b>\",\"date-time\":\"{}\"}}",
            now()
        )
    };
    assert_finding(&collector, &react(&ours), "report-own-key");
    assert_finding(&collector, &react(&theirs), "report-unknown-key");
    assert_finding(&collector, &react(&held), "report-pins-match");
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
    assert_eq!(received::read(tlsrpt.as_bytes()).unwrap().reports.len(), 2);
    let kind = [("content-type", "application/tlsrpt+json")];
    assert_eq!(collector.post_with(&tlsrpt, &kind).status, 204);
    let groups = collector.groups();
    let mail: Vec<_> = groups.iter().filter(|group| group["format"] == "smtp-tls").collect();
    assert_eq!(mail.len(), 1, "nothing is stored for others");
    assert_eq!((&mail[0]["finding"], &mail[0]["count"]), (&"report-smtp-dane".into(), &300.into()));
    assert!(!mail[0]["raw"].as_str().unwrap().contains("192.0.2.33"));
}
