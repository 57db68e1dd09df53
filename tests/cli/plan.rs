//! `hpkp plan`: each step passes the core's check on its date, and a step that could lock a client out does not
//! pass before.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use hpkp_core::accepted::accepted;
use hpkp_core::certificate::Certificate;
use hpkp_core::check::{
    Certificates, Choice, Context, Deployment, Host, Listener, PolicyUse, Records, TrustSetting,
    check,
};
use hpkp_core::date;
use hpkp_core::finding::{Class, Code, Finding, Location};
use hpkp_core::max_age::MaxAge;
use hpkp_core::path::{Anchor, Anchors, Chain, Trust, VerifySignature};
use hpkp_core::pem;
use hpkp_core::policy::{PinSetting, PinSource, PolicySpec};
use hpkp_core::published::{Body, Event, Identity, State, WriterName};
use hpkp_tests::pki::{Pki, leaf_extensions};
use proptest::prelude::*;
use serde_json::Value;

use crate::freshness::{heard, presents};
use crate::{Outcome, run};

const HOST: &str = "www.example.com";
const DAY: i64 = 86_400;

/// Accepts every certificate that names this issuer, because the CAs of the fixture have signed all of theirs.
struct Signed;

impl VerifySignature for Signed {
    fn is_signed_by(&self, certificate: &Certificate, issuer: &Certificate) -> bool {
        certificate.may_be_issued_by(issuer)
    }
}

/// Certificates: `a` is in use, and `o` is from another CA. Those whose names begin with `r` have RSA keys and come
/// from an intermediate of their own.
struct Site {
    directory: tempfile::TempDir,
    chains: HashMap<&'static str, Chain>,
    pins: HashMap<&'static str, String>,
    trust: Arc<TrustSetting>,
}

/// The configuration of a server: its certificates, joined by plus signs; then of its policy the pins, `max_age` in
/// seconds and whether it includes subdomains.
type Configured<'a> = (&'a str, Option<(Vec<String>, u64, bool)>);

/// A goal, and the names of the key and of the pins at its end.
type Expected = (&'static [&'static str], &'static str, Option<&'static [&'static str]>);

impl Site {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let pki = Pki::new(directory.path());
        for (root, ca) in [("root", "ca"), ("root2", "ca2")] {
            pki.ca(root);
            pki.intermediate(ca, root);
        }
        pki.intermediate("ca3", "root");
        pki.bundle("roots.pem", &["root.pem", "root2.pem"]);
        let read = |name: &str| {
            let file = pki.read(&format!("{name}.pem"));
            let block = pem::blocks(&file).next().expect("PEM").expect("a block");
            Arc::new(Certificate::from_der(&block.decode().expect("DER")).expect("a certificate"))
        };
        let (mut chains, mut pins) = (HashMap::new(), HashMap::new());
        let mut certificates = Vec::new();
        for (name, ca) in
            [("a", "ca"), ("b", "ca"), ("c", "ca"), ("d", "ca"), ("e", "ca"), ("o", "ca2")]
        {
            pki.leaf(name, HOST, ca);
            certificates.push((name, ca));
        }
        for (name, ca) in
            [("ra", "ca3"), ("rb", "ca3"), ("rc", "ca3"), ("re", "ca3"), ("ro", "ca2")]
        {
            pki.key(name, &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]);
            pki.sign(name, &format!("/CN={HOST}"), ca, &leaf_extensions(HOST));
            certificates.push((name, ca));
        }
        for (name, ca) in certificates {
            chains.insert(name, Chain::new(vec![read(name), read(ca)]).expect("a chain"));
            pki.bundle(&format!("{name}.chain"), &[&format!("{name}.pem"), &format!("{ca}.pem")]);
        }
        let others = ["ca", "root", "ca2", "ca3"];
        let names: Vec<&'static str> = chains.keys().copied().chain(others).collect();
        for name in names {
            pins.insert(name, format!("sha256/{}", pki.pin(&format!("{name}.pem"))));
        }
        let anchors =
            ["root", "root2"].map(|name| Anchor { certificate: read(name), origin: name.into() });
        let trust = Trust { system: Arc::new(Anchors::new(anchors)), added: None };
        let trust = Arc::new(TrustSetting { trust, ..TrustSetting::default() });
        Self { directory, chains, pins, trust }
    }

    fn named(&self, pin: &str) -> &'static str {
        self.pins.iter().find(|(_, one)| *one == pin).map(|(name, _)| *name).expect("a pin")
    }

    fn deployment(&self, (key, policy): &Configured<'_>, state: &State) -> Deployment {
        let at = || Location { file: "plan".into(), line: 1 };
        let mut deployment = Deployment::default();
        if let Some((pins, max_age, below)) = policy {
            let mut spec = PolicySpec::new("site".to_owned(), at());
            let setting = |pin: &String| PinSetting {
                source: PinSource::Literal(pin.parse().expect("a pin")),
                at: at(),
            };
            spec.pins = pins.iter().map(setting).collect();
            spec.max_age = MaxAge::from_seconds(*max_age);
            spec.include_subdomains = Some(*below);
            deployment.policies.push(spec.resolve(|_| Err(String::new())));
        }
        let loaded = key.split('+').map(|name| self.chains[name].clone()).collect();
        let certificates = Certificates::Loaded(loaded);
        deployment.contexts.push(Context { certificates, trust: self.trust.clone() });
        deployment.hosts.push(Host {
            enforced: policy.is_some().then(|| PolicyUse {
                policy: "site".to_owned(),
                at: at(),
                own: true,
            }),
            ..Host::new(HOST.to_owned(), vec![HOST.to_owned()], vec![0])
        });
        deployment.listeners.push(Listener::new(443, Choice::Nginx, vec![0], 0));
        deployment.records = Some(Records {
            directories: vec!["records".to_owned()],
            state: state.clone(),
            writer: Some(writer()),
            at: at(),
            problems: Vec::new(),
            unrecorded: None,
            freshness: Vec::new(),
        });
        deployment
    }

    /// The findings of a config test at that time but for warnings, and the records that the server then writes.
    fn test(
        &self,
        configured: &Configured<'_>,
        state: &State,
        at: i64,
    ) -> (Vec<Finding>, Vec<Event>) {
        let deployment = self.deployment(configured, state);
        let verdict = check(&deployment, at, &Signed);
        let events = accepted(&deployment, &verdict, state, &writer(), at);
        let mut findings = verdict.findings;
        findings.retain(|finding| finding.class != Class::Warning);
        (findings, events)
    }

    /// Records a history: one configuration after the other was loaded, each so many seconds ago.
    fn serve(&self, history: &[(Configured<'_>, i64)]) -> State {
        let id = std::fs::read("/etc/machine-id").unwrap_or_default();
        let identity =
            Identity { instance: "0".to_owned(), machine: Identity::machine_of(id.trim_ascii()) };
        let now = now();
        let (first, rest) = (now - 4_000 * DAY, history.iter());
        let mut events = vec![Event::new(first, 0, writer(), Body::Writer(identity))];
        let mut state = State::default();
        for (configured, ago) in rest {
            let (findings, written) = self.test(configured, &state, now - ago);
            assert!(findings.is_empty(), "{findings:?}");
            state.extend(written.clone());
            events.extend(written);
        }
        let lines: String = events.iter().map(|event| format!("{}\n", event.line())).collect();
        let records = self.directory.path().join("records");
        let _ = std::fs::remove_dir_all(&records);
        run(self.directory.path(), &["published", "init", "records"]).fine();
        std::fs::write(records.join("web-1.jsonl"), lines).expect("records");
        state
    }

    fn plan(&self, goal: &[&str]) -> Outcome {
        run(self.directory.path(), &[&["plan", HOST, "-d", "records", "--to"], goal].concat())
    }

    /// Takes the steps of a plan. Returns the names of the last key and of the last pins.
    fn follow(
        &self,
        plan: &Value,
        mut state: State,
        first: &str,
    ) -> (String, Option<Vec<&'static str>>) {
        let mut key = first.to_owned();
        let mut last = None;
        for step in plan["steps"].as_array().expect("steps") {
            let at = date::parse(step["not_before"].as_str().expect("a time")).expect("a time");
            let keys = step["certificates"].as_array().expect("certificates").iter();
            let mut keys: Vec<&str> =
                keys.map(|one| self.named(one["key"].as_str().expect("a pin"))).collect();
            keys.sort_unstable();
            // A step without certificates allows any key, so the test takes keys that are in no record.
            let next = match (keys.is_empty(), first.contains('+')) {
                (true, true) => "e+re".to_owned(),
                (true, false) => "e".to_owned(),
                (false, _) => keys.join("+"),
            };
            let policy = policy(step);
            let configured = (next.as_str(), policy.clone());
            if next != key && at > now() + 60 {
                let (early, _) = self.test(&configured, &state, at - 1);
                let is_refused =
                    early.iter().any(|finding| finding.code == Code::PublishedPinsUnmet);
                assert!(is_refused, "a second before {step}: {early:?}");
            }
            let (findings, written) = self.test(&configured, &state, at);
            assert!(findings.is_empty(), "{step}: {findings:?}");
            state.extend(written);
            key = next;
            last = policy.map(|(pins, ..)| {
                let mut names: Vec<_> = pins.iter().map(|pin| self.named(pin)).collect();
                names.sort_unstable();
                names
            });
        }
        (key, last)
    }

    fn pins(&self, names: &[&str]) -> Vec<String> {
        names.iter().map(|name| self.pins[name].clone()).collect()
    }
}

fn policy(step: &Value) -> Option<(Vec<String>, u64, bool)> {
    let policy = step["policy"].as_object()?;
    let pins = policy["pins"].as_array().expect("pins");
    let pins = pins.iter().map(|pin| pin.as_str().expect("a pin").to_owned()).collect();
    let below = policy["include_subdomains"].as_bool().expect("a boolean");
    Some((pins, policy["max_age"].as_u64().expect("seconds"), below))
}

fn writer() -> WriterName {
    "web-1".parse().expect("a name")
}

fn now() -> i64 {
    let since = std::time::UNIX_EPOCH.elapsed().expect("a time after 1970");
    i64::try_from(since.as_secs()).expect("a time")
}

#[test]
fn a_plan_has_dates_configurations_and_commands() {
    let site = Site::new();
    site.serve(&[(("a", Some((site.pins(&["a", "b"]), 30 * 86_400, false))), 2 * DAY)]);
    let pin = site.pins["c"].clone();
    let json = site.plan(&["new-key", "--pin", "c.pem", "--json"]).json();
    let steps = json["steps"].as_array().expect("steps");
    assert_eq!(steps.len(), 3, "{json}");
    let time =
        |step: &Value| date::parse(step["not_before"].as_str().expect("a time")).expect("a time");
    assert_eq!(time(&steps[1]) - time(&steps[0]), 31 * DAY);
    let text = site.plan(&["new-key", "--pin", &pin]).fine();
    for part in [
        &format!("pin {pin};"),
        &format!("HPKPPin {pin}"),
        "max_age 30d;",
        "nginx -t",
        "not before ",
    ] {
        assert!(text.contains(part), "no {part:?}: {text}");
    }
    let ics = site.plan(&["new-key", "--pin", &pin, "--ics"]).fine();
    assert!(
        ics.starts_with("BEGIN:VCALENDAR\r\nVERSION:2.0\r\n") && ics.ends_with("END:VCALENDAR\r\n")
    );
    assert_eq!(ics.matches("\r\nDTSTART:").count(), 3);
    // A calendar replaces an event with the same UID.
    assert!(ics.contains("\r\nUID:www.example.com-new-key-1@hpkp\r\n"), "{ics}");
    assert!(ics.lines().all(|line| line.len() <= 75), "{ics}");
}

#[test]
fn a_plan_that_cannot_be_safe_has_a_reason() {
    let site = Site::new();
    site.serve(&[(("a", Some((site.pins(&["a", "b"]), 30 * 86_400, false))), 2 * DAY)]);
    site.plan(&["new-key"]).failed(2, "--pin");
    site.plan(&["backup"]).failed(2, "--backup");
    site.plan(&["max-age", "--max-age", "60d"]).failed(1, "no rotation yet");
    let add =
        ["published", "-d", "records", "add", HOST, "--origin", "app 4.2", "--writer", "apps"];
    run(site.directory.path(), &[&add[..], &["--pin", &site.pins["a"]]].concat()).fine();
    site.plan(&["new-key", "--pin", "c.pem"]).failed(1, "do not expire");
    site.plan(&["give-up"]).failed(1, "do not expire");
    let json = site.plan(&["give-up", "--json"]);
    assert_eq!((json.code, &json.json()["safe"]), (Some(1), &Value::Bool(false)));
}

#[test]
fn another_ca_is_not_safe_while_clients_pin_the_present_one() {
    let site = Site::new();
    site.serve(&[(("a", Some((site.pins(&["a", "b"]), 86_400, false))), 2 * DAY)]);
    site.plan(&["ca"]).fine();
    let add = ["published", "-d", "records", "add", HOST, "--origin", "iOS", "--writer", "apps"];
    let more = ["--scope", "path-ca", "--pin", &site.pins["ca"]];
    run(site.directory.path(), &[&add[..], &more].concat()).fine();
    site.plan(&["ca"]).failed(1, "do not expire");
    let same = site.plan(&["new-key", "--pin", "c.pem"]).fine();
    assert!(same.contains("must come from the present one"), "{same}");
}

#[test]
fn a_host_without_records() {
    let site = Site::new();
    site.serve(&[]);
    site.plan(&["backup"]).failed(2, "--cert");
    site.plan(&["backup", "--cert", "a.chain"]).failed(1, "no pin on record");
    let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let server = closed.local_addr().expect("an address").to_string();
    drop(closed);
    site.plan(&["backup", "--server", &server]).failed(3, "connection refused");
    let json = site.plan(&["new-key", "--pin", "c.pem", "--cert", "a.chain", "--json"]).json();
    assert_eq!(json["steps"].as_array().map(Vec::len), Some(1), "{json}");
    let note = json["notes"][0].as_str().expect("a note");
    assert!(note.starts_with("no pins on record bind www.example.com"), "{note}");
}

#[test]
fn a_plan_names_waived_clients() {
    let site = Site::new();
    site.serve(&[(("a", Some((site.pins(&["a", "b"]), 86_400, false))), 2 * DAY)]);
    let published = ["published", "-d", "records"];
    let add = ["add", HOST, "--origin", "app 4.2", "--writer", "apps", "--pin", &site.pins["a"]];
    run(site.directory.path(), &[&published[..], &add].concat()).fine();
    site.plan(&["backup", "--backup", "d.pem"]).failed(1, "do not expire");
    let waive = ["waive", "--host", HOST, "--who", "me", "--why", "old kiosks", "--writer", "apps"];
    run(site.directory.path(), &[&published[..], &waive].concat()).fine();
    let json = site.plan(&["backup", "--backup", "d.pem", "--json"]).json();
    let notes = json["notes"].as_array().expect("notes");
    let is_named = |note: &Value| note.as_str().is_some_and(|note| note.contains(", waived)"));
    assert!(notes.iter().any(is_named), "{json}");
}

#[test]
fn a_plan_names_a_certificate_that_expires_before_its_step() {
    let site = Site::new();
    site.serve(&[(("a", Some((site.pins(&["a", "b", "d"]), 40 * 86_400, false))), DAY)]);
    // The certificates of the site are valid for 20 days.
    let plan = |key: &str| site.plan(&["new-key", "--pin", key, "--cert", "a.chain"]).fine();
    let late = plan("c.pem");
    let renew = format!("the certificate with the key {} expires ", site.pins["a"]);
    assert!(late.contains(&renew) && late.contains("renew it with the same key"), "{late}");
    let at_once = plan("b.pem");
    assert!(!at_once.contains("expires"), "{at_once}");
}

#[test]
fn max_age_is_raised_after_a_rotation() {
    let site = Site::new();
    let pins = site.pins(&["a", "b", "c"]);
    let state = site.serve(&[
        (("b", Some((pins.clone(), 86_400, false))), 20 * DAY),
        (("a", Some((pins, 86_400, false))), 2 * DAY),
    ]);
    let json = site.plan(&["max-age", "--max-age", "60d", "--json"]).json();
    assert_eq!(site.follow(&json, state, "a").0, "a");
    assert_eq!(json["steps"][0]["policy"]["max_age"], 60 * 86_400);
}

/// Follows the plans for `goals` from these certificates and pins, after random histories. `past` names the keys
/// whose pins may have been published before.
fn every_plan(
    site: &Site,
    first: &str,
    fixed: [&'static str; 2],
    past: [&'static str; 3],
    goals: &[Expected],
) {
    // An earlier policy: whether it has the backup pin and each pin of `past`, its max-age in days, and how many
    // days before the next policy it was.
    let before = (any::<bool>(), any::<[bool; 3]>(), 1_u64..90, 0_i64..40);
    let before = prop::collection::vec(before, 0..4);
    let strategy = (before, 1_u64..90, 0_i64..40, prop::sample::select(goals.to_vec()));
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 24,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let result = runner.run(&strategy, |(before, days, ago, (goal, key, pins))| {
        let last = [&fixed[..], &["b"]].concat();
        let mut history =
            vec![((first, Some((site.pins(&last), days * 86_400, false))), ago * DAY + 60)];
        for (has_backup, has, days, before) in before {
            let mut names = fixed.to_vec();
            names.push(if has_backup { "b" } else { "d" });
            names.extend(past.iter().zip(has).filter_map(|(name, has)| has.then_some(*name)));
            names.sort_unstable();
            names.dedup();
            let ago = history.last().map_or(0, |(_, ago)| *ago) + before * DAY + 60;
            history.push(((first, Some((site.pins(&names), days * 86_400, false))), ago));
        }
        history.reverse();
        let state = site.serve(&history);
        let plan = site.plan(&[goal, &["--json"]].concat());
        prop_assert_eq!(plan.code, Some(0), "{:?}", plan);
        let (last_key, last_pins) = site.follow(&plan.json(), state, first);
        prop_assert_eq!(last_key.as_str(), key);
        prop_assert_eq!(last_pins.as_deref(), pins);
        Ok(())
    });
    assert!(result.is_ok(), "{result:?}");
}

#[test]
fn every_plan_passes_the_check_step_by_step() {
    let goals: [Expected; 7] = [
        (&["backup", "--backup", "d.pem"], "b", Some(&["b", "d"])),
        (&["new-key", "--pin", "c.pem"], "c", Some(&["b", "c"])),
        (&["ca", "--pin", "o.pem"], "o", Some(&["b", "o"])),
        (&["intermediate"], "a", Some(&["b", "ca"])),
        (
            &["root", "--cert", "a.chain", "--trusted-certificate", "root.pem"],
            "a",
            Some(&["b", "root"]),
        ),
        (&["subdomains"], "a", Some(&["a", "b"])),
        (&["give-up"], "e", None),
    ];
    every_plan(&Site::new(), "a", ["a", "a"], ["c", "c", "c"], &goals);
}

#[test]
fn every_plan_for_ecdsa_and_rsa_passes_the_check_step_by_step() {
    let goals: [Expected; 9] = [
        (&["new-key", "--pin", "c.pem"], "c+ra", Some(&["b", "c", "ra"])),
        (&["new-key", "--pin", "rc.key"], "a+rc", Some(&["a", "b", "rc"])),
        (&["new-key", "--pin", "rc.csr", "--pin", "c.pem"], "c+rc", Some(&["b", "c", "rc"])),
        (&["backup", "--pin", "rb.pem"], "a+rb", Some(&["a", "b", "rb"])),
        (
            &["backup", "--pin", "b.pem", "--pin", "rb.pem", "--backup", "d.pem"],
            "b+rb",
            Some(&["b", "d", "rb"]),
        ),
        (&["ca", "--pin", "o.pem", "--pin", "ro.pem"], "o+ro", Some(&["b", "o", "ro"])),
        (&["intermediate"], "a+ra", Some(&["b", "ca", "ca3"])),
        (&["subdomains"], "a+ra", Some(&["a", "b", "ra"])),
        (&["give-up"], "e+re", None),
    ];
    every_plan(&Site::new(), "a+ra", ["a", "ra"], ["c", "rb", "rc"], &goals);
}

#[test]
fn a_key_of_unknown_kind_needs_the_certificate_that_it_replaces() {
    let site = Site::new();
    let pins = site.pins(&["a", "b", "ra"]);
    site.serve(&[(("a+ra", Some((pins, 86_400, false))), 2 * DAY)]);
    let pin = site.pins["c"].clone();
    site.plan(&["new-key", "--pin", &pin]).failed(2, "does not tell which");
    site.plan(&["backup"]).failed(2, "--pin FILE");
    let named = site.plan(&["new-key", "--pin", &pin, "--cert", "a.chain", "--json"]).json();
    let last = named["steps"].as_array().and_then(|steps| steps.last()).expect("a step");
    let kinds: Vec<&Value> =
        last["certificates"].as_array().expect("all").iter().map(|one| &one["kind"]).collect();
    assert_eq!(kinds, ["ECDSA", "RSA"], "{named}");
    assert_eq!(last["certificates"][0]["key"], pin.as_str());
    site.plan(&["new-key", "--pin", "c.pem", "--pin", "d.pem"]).failed(2, "one certificate");
    site.plan(&["new-key", "--pin", "ra.pem"]).failed(2, "is a key in use");
    let text = site.plan(&["new-key", "--pin", "rc.pem"]).fine();
    assert!(text.contains("install the RSA certificate of the new key"), "{text}");
    assert!(text.contains("key of the ECDSA certificate: sha256/"), "{text}");
    // Two certificates that were never changed are no rotation.
    site.plan(&["max-age", "--max-age", "60d"]).failed(1, "no rotation yet");
}

/// A policy file with these certificates and pins.
fn policy_file(site: &Site, (key, policy): &Configured<'_>) {
    let chains: Vec<String> = key.split('+').map(|name| format!("\"{name}.chain\"")).collect();
    let mut text = String::from("published_pins = \"records writer=web-1\"\n");
    text.push_str("trusted_certificate = \"roots.pem\"\n");
    let server = format!("[[server]]\nname = \"{HOST}\"\ncertificate = [{}]\n", chains.join(", "));
    if let Some((pins, max_age, _)) = policy {
        let pins: Vec<String> = pins.iter().map(|pin| format!("\"{pin}\"")).collect();
        let pins = pins.join(", ");
        text.push_str(&format!(
            "[policy.web]\npin = [{pins}]\nmax_age = \"{max_age}\"\n{server}hpkp = \"web\"\n"
        ));
    } else {
        text.push_str(&server);
    }
    std::fs::write(site.directory.path().join("pins.toml"), text).expect("a policy file");
}

/// A plan names the silent machines that keep its first step from passing.
#[test]
fn a_plan_names_silent_machines() {
    let site = Site::new();
    let configured = ("a", Some((site.pins(&["a", "b", "c"]), 20 * 86_400, false)));
    site.serve(&[(configured.clone(), 60)]);
    policy_file(&site, &configured);
    let pki = Pki::new(site.directory.path());
    let noted = |staleness: &str| {
        let text = std::fs::read_to_string(pki.path("pins.toml")).expect("a policy file");
        pki.write("silent.toml", text.replace("writer=web-1", &format!("writer=web-1{staleness}")));
        let goal = ["new-key", "--pin", "e.pem", "--backup", "o.pem", "--config", "silent.toml"];
        let json = site.plan(&[&goal[..], &["--json"]].concat()).json();
        let notes = json["notes"].as_array().expect("notes").iter();
        let notes: Vec<&str> = notes.map(|note| note.as_str().expect("a note")).collect();
        let silent: Vec<&str> = notes.into_iter().filter(|note| note.starts_with('[')).collect();
        // The text output has the same notes.
        let out = site.plan(&goal).out.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(silent.iter().all(|note| out.contains(note)), "{silent:?}: {out}");
        let code = |note: &str| note[1..].split(']').next().expect("a code").to_owned();
        silent.into_iter().map(code).collect::<Vec<_>>()
    };
    let none: [&str; 0] = [];
    // Without any heartbeat the limit would refuse nothing, whether or not there are peers.
    assert_eq!(noted(" max_staleness=1h"), ["peer-never-heard"]);
    presents(&pki, HOST);
    assert_eq!(noted(" max_staleness=1h"), ["peer-never-heard"]);
    heard(&pki, now() - 7_000);
    assert_eq!(noted(" max_staleness=1h"), ["peer-silent"]);
    assert_eq!(noted(" max_staleness=2h"), none);
    assert_eq!(noted(""), none);
    pki.write("records/hpkp-heard", "x");
    assert_eq!(noted(" max_staleness=2h"), ["heartbeats-unreadable"]);
}

#[test]
fn a_plan_starts_from_the_configuration() {
    let site = Site::new();
    let keys = ["a", "b", "c"];
    let names = prop::sample::subsequence(vec!["a", "b", "c", "d", "o"], 2..5);
    let configured = (prop::sample::select(keys.to_vec()), names, 1_u64..90);
    let goals: [Expected; 4] = [
        (&["new-key", "--pin", "e.pem", "--backup", "o.pem"], "e", None),
        (&["backup", "--pin", "o.pem", "--backup", "d.pem"], "o", None),
        (&["intermediate", "--backup", "o.pem"], "", None),
        (&["give-up"], "e", None),
    ];
    let strategy = (configured, any::<bool>(), 1_u64..60, prop::sample::select(goals.to_vec()));
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 32,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let result = runner.run(&strategy, |((key, names, days), has_records, ago, (goal, end, _))| {
        let past = ("a", Some((site.pins(&["a", "b", "c"]), 20 * 86_400, false)));
        let history: &[_] = if has_records { &[(past, 60)] } else { &[] };
        let state = site.serve(history);
        let days = days + ago % 2;
        let configured = (key, Some((site.pins(&names), days * 86_400, false)));
        policy_file(&site, &configured);
        let (findings, _) = site.test(&configured, &state, now());
        let plan = site.plan(&[goal, &["--config", "pins.toml", "--json"]].concat());
        if findings.iter().any(|finding| finding.class == Class::Lockout) {
            prop_assert_eq!(plan.code, Some(1), "{:?} {:?}", plan, findings);
            prop_assert_eq!(&plan.json()["safe"], &Value::Bool(false));
            return Ok(());
        }
        // A policy without a backup pin is never sent, and the plan may report that.
        let is_sent = !findings.iter().any(|finding| finding.class == Class::Withhold);
        prop_assert!(plan.code == Some(0) || !is_sent, "{:?} {:?}", plan, findings);
        if !is_sent {
            return Ok(());
        }
        let json = plan.json();
        let first = json["steps"][0]["what"].as_str().unwrap_or_default();
        let on_record: HashSet<&str> = ["a", "b", "c"].into();
        let is_loaded = has_records
            && key == "a"
            && days == 20
            && names.iter().copied().collect::<HashSet<_>>() == on_record;
        prop_assert_eq!(
            first.starts_with("load the present configuration"),
            !is_loaded,
            "{}",
            json
        );
        let text = json["steps"][0]["policy"]["nginx"].as_str().unwrap_or_default();
        prop_assert_eq!(text.split(' ').nth(1), Some("web"), "{}", json);
        let (last, pins) = site.follow(&json, state, key);
        prop_assert_eq!(last.as_str(), if end.is_empty() { key } else { end });
        let is_gone = last == key || pins.is_none_or(|pins| !pins.contains(&key));
        prop_assert!(is_gone, "{}", json);
        Ok(())
    });
    assert!(result.is_ok(), "{result:?}");
}

#[test]
fn a_next_key_is_handed_over_exactly_when_the_check_accepts_it() {
    let site = Site::new();
    let past = (any::<bool>(), any::<bool>(), 1_u64..40, 0_i64..30);
    let strategy = (prop::collection::vec(past, 1..4), 0_i64..45);
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 40,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let result = runner.run(&strategy, |(past, ago)| {
        let mut history: Vec<(Configured<'_>, i64)> = Vec::new();
        for (has_next, has_backup, days, before) in past {
            let names = [&["a"][..], if has_next { &["c"] } else { &["d"] }];
            let more: &[&str] = if has_backup { &["b"] } else { &[] };
            let names = [&names.concat()[..], more].concat();
            let ago = history.last().map_or(ago * DAY, |(_, ago)| ago + before * DAY) + 60;
            history.push((("a", Some((site.pins(&names), days * 86_400, false))), ago));
        }
        history.reverse();
        let state = site.serve(&history);
        let (configured, _) = history.last().expect("a configuration");
        let (findings, _) = site.test(&("c", configured.1.clone()), &state, now());
        let is_refused = findings.iter().any(|one| one.code == Code::PublishedPinsUnmet);
        let key = |more: &[&str]| {
            let all = ["key", "next", HOST, "-d", "records"];
            run(site.directory.path(), &[&all, more].concat())
        };
        key(&["--take", "c.key"]).fine();
        let outcome = key(&["--csr", "-"]);
        prop_assert_eq!(outcome.code, Some(i32::from(is_refused)), "{:?} {:?}", outcome, findings);
        prop_assert_eq!(
            outcome.out.starts_with("-----BEGIN CERTIFICATE REQUEST-----"),
            !is_refused
        );
        Ok(())
    });
    assert!(result.is_ok(), "{result:?}");
}

/// A group of reports from `ago` days ago, as `hpkp-reports export` prints it.
fn group(ago: i64, finding: &str, class: &str, clients: u64) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock");
    let at = date::format(now.as_secs() as i64 - ago * DAY);
    let day = at.split('T').next().expect("a day");
    format!(
        "{{\"v\":1,\"id\":\"x\",\"host\":\"{HOST}\",\"port\":443,\"day\":\"{day}\",\"finding\":\"{finding}\",\
         \"class\":\"{class}\",\"mode\":\"report-only\",\"format\":\"rfc7469\",\"count\":5,\"clients\":{clients},\"first_seen\":\"{at}\",\
         \"last_seen\":\"{at}\"}}\n"
    )
}

#[test]
fn enforcing_needs_days_clients_and_an_explanation_for_each_report() {
    let directory = tempfile::tempdir().expect("a directory");
    let plan = |reports: &str, more: &[&str]| -> (Option<i32>, String) {
        std::fs::write(directory.path().join("r.jsonl"), reports).expect("a file");
        let arguments = ["plan", HOST, "--to", "enforce", "--reports", "r.jsonl", "--json"];
        let outcome = run(directory.path(), &[&arguments[..], more].concat());
        let json = outcome.json();
        assert_eq!(json["safe"], outcome.code == Some(0), "{outcome:?}");
        (outcome.code, json["reason"].as_str().unwrap_or_default().to_owned())
    };
    let noise = |ago, clients| group(ago, "report-known-interception", "noise", clients);
    assert_eq!(plan(&(noise(20, 3) + &noise(2, 12)), &[]).0, Some(0));
    for (reports, reason) in [
        (String::new(), "silence proves nothing"),
        (group(20, "report-test", "noise", 50), "silence proves nothing"),
        (noise(20, 30) + &noise(2, 9), "about 9 clients"),
        (noise(3, 30), "for 14 days"),
        (
            noise(20, 30)
                + &noise(2, 30)
                + &group(1, "report-unknown-private-root", "unexplained", 1),
            "report-unknown-private-root",
        ),
        (
            noise(20, 30) + &noise(1, 30) + &group(1, "report-own-key", "urgent", 1),
            "report-own-key",
        ),
    ] {
        let (code, outcome) = plan(&reports, &[]);
        assert_eq!(code, Some(1), "{outcome}");
        assert!(outcome.contains(reason), "{outcome}");
    }
    // Reports of mail servers, or of clients that enforce a policy already, say nothing about the report-only trial.
    let as_format = |groups: String| groups.replace("\"rfc7469\"", "\"smtp-tls\"");
    let as_enforced = |groups: String| groups.replace("\"report-only\"", "\"enforced\"");
    let (code, outcome) = plan(&as_format(noise(20, 30) + &noise(1, 30)), &[]);
    assert!(code == Some(1) && outcome.contains("silence proves nothing"), "{outcome}");
    let (code, outcome) = plan(&as_enforced(noise(20, 30) + &noise(1, 30)), &[]);
    assert!(code == Some(1) && outcome.contains("enforce a policy already"), "{outcome}");
    // An export of 9 days ago says nothing about the days since, unless it has a newer report for another host.
    let (code, outcome) = plan(&(noise(20, 30) + &noise(9, 30)), &[]);
    assert!(code == Some(1) && outcome.contains("export again"), "{outcome}");
    let test = group(1, "report-test", "noise", 1).replace(HOST, "other.example");
    assert_eq!(plan(&(noise(20, 30) + &noise(9, 30) + &test), &[]).0, Some(0));
    // An unexplained report of 39 days ago no longer counts.
    let past = noise(40, 1) + &group(39, "report-own-key", "urgent", 9) + &noise(3, 30);
    assert_eq!(plan(&past, &[]).0, Some(0));
    assert_eq!(plan(&noise(3, 3), &["--report-days", "2", "--report-clients", "3"]).0, Some(1));
    let enough = noise(4, 3) + &noise(1, 3);
    assert_eq!(plan(&enough, &["--report-days", "2", "--report-clients", "3"]).0, Some(0));
    // A report for a subdomain concerns only a policy with subdomains.
    let below = group(1, "report-own-key", "urgent", 1).replace(HOST, &format!("a.{HOST}"));
    std::fs::write(directory.path().join("r.jsonl"), past + &below).expect("a file");
    let outcome = run(directory.path(), &["plan", HOST, "--to", "enforce", "--reports", "r.jsonl"]);
    assert!(
        outcome.code == Some(0) && outcome.out.contains("do not include subdomains"),
        "{outcome:?}"
    );
}

#[test]
fn enforcing_needs_reports_that_can_be_read_and_nothing_else() {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("r.jsonl"), "{}").expect("a file");
    let outcome = run(directory.path(), &["plan", HOST, "--to", "enforce", "--reports", "r.jsonl"]);
    assert_eq!(outcome.code, Some(1));
    let outcome = run(directory.path(), &["plan", HOST, "--to", "enforce"]);
    assert_eq!(outcome.code, Some(2));
    // Options that this goal would ignore are refused.
    for option in ["--config", "--cert", "--server"] {
        let arguments = ["plan", HOST, "--to", "enforce", "--reports", "r.jsonl", option, "x"];
        run(directory.path(), &arguments).failed(2, "the reports alone");
    }
}
