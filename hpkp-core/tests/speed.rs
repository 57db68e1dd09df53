//! How long 100,000 records and 2,000 hosts take: read, folded, checked. It says the times and fails
//! above a second, so it is for a release build:
//! `cargo test --release -p hpkp-core --test speed -- --ignored --nocapture`

#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use hpkp_core::certificate::Certificate;
use hpkp_core::check::{
    Certificates, Choice, Context, Deployment, Host, Listener, PolicyUse, Records, TrustSetting,
    check,
};
use hpkp_core::finding::{Check, Location};
use hpkp_core::max_age::MaxAge;
use hpkp_core::path::{Anchor, Anchors, Chain, Trust, VerifySignature};
use hpkp_core::pin::Pin;
use hpkp_core::policy::{PinSetting, PinSource, PolicySpec};
use hpkp_core::published::accepted::accepted;
use hpkp_core::published::{State, file};

#[allow(dead_code, reason = "what the fuzz targets need beyond this")]
#[path = "../../tests/fuzz/src/der.rs"]
mod der;

use der::Shape;

const HOSTS: u32 = 2_000;
const LINES: usize = 100_000;
const START: i64 = 1_800_000_000;

struct Always;

impl VerifySignature for Always {
    fn is_signed_by(&self, _: &Certificate, _: &Certificate) -> bool {
        true
    }
}

fn certificate(subject: u32, issuer: u32) -> Arc<Certificate> {
    let id = |number: u32| Some(number.to_be_bytes()[3]);
    let (subject_key_id, authority_key_id) = (id(subject), id(issuer));
    let shape =
        Shape { subject, issuer, key: subject + 100, subject_key_id, authority_key_id, serial: 1 };
    Arc::new(Certificate::from_der(&shape.certificate()).unwrap())
}

/// Each host with a certificate and a policy of its own; the backup pin is that of `round`.
fn deployment(round: u32) -> Deployment {
    let at = Location { file: Arc::from("conf"), line: 1 };
    let anchor = Anchor { certificate: certificate(1, 1), origin: Arc::from("anchors") };
    let trust = Trust { system: Arc::new(Anchors::new([anchor])), added: None };
    let trust = Arc::new(TrustSetting { trust, problem: None });
    let intermediate = certificate(2, 1);
    let mut deployment = Deployment::default();
    for number in 0..HOSTS {
        let leaf = certificate(10 + number, 2);
        let mut backup = [0xf0; Pin::OCTETS];
        backup[..4].copy_from_slice(&round.to_be_bytes());
        let pins = [leaf.pin().unwrap(), Pin::from_octets(backup)];
        let chain = Chain::new(vec![leaf, intermediate.clone()]).unwrap();
        let certificates = Certificates::Loaded(vec![chain]);
        deployment.contexts.push(Context { certificates, trust: trust.clone() });
        let name = format!("host-{number}.example.com");
        let mut spec = PolicySpec::new(name.clone(), at.clone());
        spec.pins = pins
            .into_iter()
            .map(|pin| PinSetting { source: PinSource::Literal(pin), at: at.clone() })
            .collect();
        spec.max_age = MaxAge::from_seconds(30 * 86_400);
        deployment.policies.push(spec.resolve(|_| Err(String::new())));
        deployment.hosts.push(Host {
            label: name.clone(),
            names: vec![name.clone()],
            tls: true,
            contexts: vec![deployment.contexts.len() - 1],
            check: Check::Refuse,
            enforced: Some(PolicyUse { policy: name, at: at.clone(), own: true }),
            report_only: None,
            accepted: Vec::new(),
            serving: Vec::new(),
        });
    }
    for port in [443, 8443] {
        let hosts: Vec<usize> = (0..deployment.hosts.len()).collect();
        let (choice, patterns) = (Choice::Nginx, vec![]);
        deployment.listeners.push(Listener { port, choice, hosts, default: 0, patterns });
    }
    deployment.records = Some(Records {
        directory: "/var/lib/hpkp".to_owned(),
        state: State::default(),
        writer: Some("web-1".parse().unwrap()),
        at,
        problems: vec![],
    });
    deployment
}

#[test]
#[ignore = "it measures time, so it is for a release build"]
fn records_cost_less_than_a_second() {
    let mut text = String::new();
    let mut state = State::default();
    let mut round = 0;
    let mut now = START;
    while text.bytes().filter(|octet| *octet == b'\n').count() < LINES {
        let mut deployment = deployment(round);
        deployment.records.as_mut().unwrap().state = state.clone();
        let verdict = check(&deployment, now, &Always);
        assert_eq!(verdict.findings, []);
        for event in accepted(&deployment, &verdict, &state, &"web-1".parse().unwrap(), now) {
            state.add(&event);
            text.push_str(event.line());
            text.push('\n');
        }
        round += 1;
        now += 86_400;
    }
    let without = {
        let mut deployment = deployment(round);
        deployment.records = None;
        deployment.listeners.clear();
        let started = Instant::now();
        assert_eq!(check(&deployment, now, &Always).findings, []);
        started.elapsed()
    };

    let mut deployment = deployment(round);
    let started = Instant::now();
    let contents = file::read(text.as_bytes()).unwrap();
    let read = started.elapsed();
    let mut state = State::default();
    let count = contents.events.len();
    state.extend(contents.events);
    let folded = started.elapsed();
    deployment.records.as_mut().unwrap().state = state.clone();
    let verdict = check(&deployment, now, &Always);
    let checked = started.elapsed();
    assert_eq!(verdict.findings, []);
    let events = accepted(&deployment, &verdict, &state, &"web-1".parse().unwrap(), now);
    println!(
        "{} lines, {} octets, {} live: read {read:?}, folded after {folded:?}, checked after \
         {checked:?}, {} events after {:?}; the check without records {without:?}",
        count,
        text.len(),
        state.live(now).count(),
        events.len(),
        started.elapsed(),
    );
    assert!(checked - without < Duration::from_secs(1), "{checked:?}");
}
