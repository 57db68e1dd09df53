//! `hpkp plan`: each step passes the core's check on its date, and none that could lock a client out does
//! before.

use std::collections::HashMap;
use std::sync::Arc;

use hpkp_core::accepted::accepted;
use hpkp_core::certificate::Certificate;
use hpkp_core::check::{
    Certificates, Choice, Context, Deployment, Host, Listener, PolicyUse, Records, TrustSetting,
    check,
};
use hpkp_core::date;
use hpkp_core::finding::{Check, Class, Code, Finding, Location};
use hpkp_core::max_age::MaxAge;
use hpkp_core::path::{Anchor, Anchors, Chain, Trust, VerifySignature};
use hpkp_core::pem;
use hpkp_core::policy::{PinSetting, PinSource, PolicySpec};
use hpkp_core::published::{Body, Event, Identity, State, WriterName};
use hpkp_tests::pki::Pki;
use proptest::prelude::*;
use serde_json::Value;

use crate::{Said, run};

const HOST: &str = "www.example.com";
const DAY: i64 = 86_400;

/// The fixture's authorities have signed what they are named in.
struct Signed;

impl VerifySignature for Signed {
    fn is_signed_by(&self, certificate: &Certificate, issuer: &Certificate) -> bool {
        certificate.may_be_issued_by(issuer)
    }
}

/// Certificates, of which `a` is in use, and `o` is of another CA.
struct Site {
    directory: tempfile::TempDir,
    chains: HashMap<&'static str, Chain>,
    pins: HashMap<&'static str, String>,
    trust: Arc<TrustSetting>,
}

/// What a server has: the certificate, and the pins, `max_age` in seconds and whether for the hosts below.
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
        let read = |name: &str| {
            let file = pki.read(&format!("{name}.pem"));
            let block = pem::blocks(&file).next().expect("PEM").expect("a block");
            Arc::new(Certificate::from_der(&block.decode().expect("DER")).expect("a certificate"))
        };
        let (mut chains, mut pins) = (HashMap::new(), HashMap::new());
        for (name, ca) in
            [("a", "ca"), ("b", "ca"), ("c", "ca"), ("d", "ca"), ("e", "ca"), ("o", "ca2")]
        {
            pki.leaf(name, HOST, ca);
            chains.insert(name, Chain::new(vec![read(name), read(ca)]).expect("a chain"));
            pki.bundle(&format!("{name}.chain"), &[&format!("{name}.pem"), &format!("{ca}.pem")]);
        }
        for name in ["a", "b", "c", "d", "e", "o", "ca", "root", "ca2"] {
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
        let certificates = Certificates::Loaded(vec![self.chains[key].clone()]);
        deployment.contexts.push(Context { certificates, trust: self.trust.clone() });
        deployment.hosts.push(Host {
            label: HOST.to_owned(),
            names: vec![HOST.to_owned()],
            tls: true,
            contexts: vec![0],
            check: Check::Refuse,
            enforced: policy.is_some().then(|| PolicyUse {
                policy: "site".to_owned(),
                at: at(),
                own: true,
            }),
            report_only: None,
            accepted: Vec::new(),
            serving: Vec::new(),
        });
        deployment.listeners.push(Listener {
            address: None,
            port: 443,
            choice: Choice::Nginx,
            hosts: vec![0],
            default: 0,
            patterns: Vec::new(),
            by_port_alone: false,
        });
        deployment.records = Some(Records {
            directory: "records".to_owned(),
            state: state.clone(),
            writer: Some(writer()),
            at: at(),
            problems: Vec::new(),
            unrecorded: None,
        });
        deployment
    }

    /// What a config test says at that time, and what the server writes once it serves.
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

    /// Serves one configuration after the other, and records it; the last one so many seconds ago.
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

    fn plan(&self, goal: &[&str]) -> Said {
        run(self.directory.path(), &[&["plan", HOST, "-d", "records", "--to"], goal].concat())
    }

    /// Takes the steps of a plan. Gives the names of the last key and of the last pins.
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
            // Where any key will do, one that nobody has heard of.
            let next = step["key"].as_str().map_or("e", |pin| self.named(pin));
            let policy = policy(step);
            let configured = (next, policy.clone());
            if next != key && at > now() + 60 {
                let (early, _) = self.test(&configured, &state, at - 1);
                let is_refused =
                    early.iter().any(|finding| finding.code == Code::PublishedPinsUnmet);
                assert!(is_refused, "a second before {step}: {early:?}");
            }
            let (findings, written) = self.test(&configured, &state, at);
            assert!(findings.is_empty(), "{step}: {findings:?}");
            state.extend(written);
            key = next.to_owned();
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
    assert!(ics.lines().all(|line| line.len() <= 75), "{ics}");
}

#[test]
fn what_cannot_be_safe_says_why() {
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
fn another_ca_is_not_safe_where_clients_compare_its_key() {
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
fn clients_that_were_given_up_are_named() {
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

#[test]
fn every_plan_passes_the_check_step_by_step() {
    let site = Site::new();
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
    // What was published before: whether it has the backup pin and that of `c`, for how many days, and
    // how long before the next it was.
    let past = (any::<bool>(), any::<bool>(), 1_u64..90, 0_i64..40);
    let past = prop::collection::vec(past, 0..4);
    let strategy = (past, 1_u64..90, 0_i64..40, prop::sample::select(goals.to_vec()));
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 24,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let result = runner.run(&strategy, |(past, days, ago, (goal, key, pins))| {
        let mut history =
            vec![(("a", Some((site.pins(&["a", "b"]), days * 86_400, false))), ago * DAY + 60)];
        for (has_backup, has_new, days, before) in past {
            let mut names = vec!["a"];
            names.push(if has_backup { "b" } else { "d" });
            names.extend(has_new.then_some("c"));
            let ago = history.last().map_or(0, |(_, ago)| *ago) + before * DAY + 60;
            history.push((("a", Some((site.pins(&names), days * 86_400, false))), ago));
        }
        history.reverse();
        let state = site.serve(&history);
        let plan = site.plan(&[goal, &["--json"]].concat());
        prop_assert_eq!(plan.code, Some(0), "{:?}", plan);
        let (last_key, last_pins) = site.follow(&plan.json(), state, "a");
        prop_assert_eq!(last_key.as_str(), key);
        prop_assert_eq!(last_pins.as_deref(), pins);
        Ok(())
    });
    assert!(result.is_ok(), "{result:?}");
}
