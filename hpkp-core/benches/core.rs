//! Benchmarks of the core: reading keys from files, header fields, and the check of many hosts.
//!
//! `ci/bench core` compares the time for a pin with the time for the hash and the base64 alone. It finds the rows by
//! their names.

#![allow(missing_docs, clippy::unwrap_used, reason = "benches")]

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use hpkp_core::certificate::Certificate;
use hpkp_core::check::{Certificates, Context, Deployment, Host, PolicyUse, TrustSetting, check};
use hpkp_core::finding::Location;
use hpkp_core::header::{Header, Kind};
use hpkp_core::max_age::MaxAge;
use hpkp_core::path::{Anchor, Anchors, Chain, Trust, VerifySignature};
use hpkp_core::pin::Pin;
use hpkp_core::policy::{PinSetting, PinSource, Policy, PolicySpec};
use hpkp_core::spki;
use hpkp_core::ua::FieldKind;
use hpkp_core::ua::field::Reading;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

#[allow(dead_code, reason = "what the fuzz targets need beyond this")]
#[path = "../../tests/fuzz/src/der.rs"]
mod der;

use der::Shape;

const HOSTS: u32 = 10_000;

fn fixture(name: &str) -> Vec<u8> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/conformance/fixtures");
    std::fs::read(fixtures.join(name)).unwrap()
}

/// The largest bundle that a policy may name: the same certificate many times.
fn bundle(certificate: &[u8]) -> (Vec<u8>, u64) {
    let count = spki::MAX_FILE / certificate.len();
    (certificate.repeat(count), count.try_into().unwrap())
}

/// A pin from a certificate, beside the work that cannot be avoided: the hash, and for PEM the base64.
fn pins(c: &mut Criterion) {
    let mut group = c.benchmark_group("a pin");
    for (name, file) in [("ECDSA", "leaf.pem"), ("RSA", "mitm-leaf.pem")] {
        let pem = fixture(file);
        let base64: Vec<u8> = pem
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.starts_with(b"-----"))
            .flatten()
            .copied()
            .collect();
        let der = STANDARD.decode(&base64).unwrap();
        let (_, certificate) = X509Certificate::from_der(&der).unwrap();
        let spki = certificate.tbs_certificate.subject_pki.raw;
        let hash = || Pin::of_spki(black_box(spki));
        assert_eq!(spki::read(&pem).unwrap()[0].pin, hash());
        group.bench_function(format!("{name} hash alone"), |b| b.iter(hash));
        group.bench_function(format!("{name} from DER"), |b| {
            b.iter(|| spki::read(black_box(&der)).unwrap());
        });
        group.bench_function(format!("{name} base64 and hash alone"), |b| {
            b.iter(|| (STANDARD.decode(black_box(&base64)).unwrap(), hash()));
        });
        group.bench_function(format!("{name} from PEM"), |b| {
            b.iter(|| spki::read(black_box(&pem)).unwrap());
        });
    }
    group.finish();
}

fn pins_from_bundles(c: &mut Criterion) {
    let mut group = c.benchmark_group("pins from a PEM bundle");
    for (name, file) in [("ECDSA", "leaf.pem"), ("RSA", "mitm-leaf.pem")] {
        let (bundle, count) = bundle(&fixture(file));
        group.throughput(Throughput::Elements(count));
        group.bench_function(name, |b| b.iter(|| spki::read(black_box(&bundle)).unwrap()));
    }
    group.finish();
}

fn at() -> Location {
    Location { file: Arc::from("bench.conf"), line: 1 }
}

fn policy(name: String, pins: [Pin; 2]) -> Policy {
    let mut spec = PolicySpec::new(name, at());
    spec.pins = pins
        .into_iter()
        .map(|pin| PinSetting { source: PinSource::Literal(pin), at: at() })
        .collect();
    spec.max_age = MaxAge::from_seconds(5_184_000);
    spec.include_subdomains = Some(true);
    spec.report_uri = "https://reports.example.net/hpkp".parse().ok();
    spec.resolve(|_| Err(String::new()))
}

fn headers(c: &mut Criterion) {
    let policy = policy("bench".to_owned(), [1, 2].map(|n| Pin::from_bytes([n; Pin::BYTES])));
    let header = Header::render(&policy, Kind::Enforced).unwrap();
    c.bench_function("a header rendered", |b| {
        b.iter(|| Header::render(black_box(&policy), Kind::Enforced).unwrap());
    });
    c.bench_function("a header read", |b| {
        b.iter(|| Reading::of(FieldKind::Enforced, black_box(header.value().as_bytes())).unwrap());
    });
}

fn certificate(subject: u32, issuer: u32) -> Vec<u8> {
    let id = |number: u32| Some(number.to_be_bytes()[3]);
    let serial = subject.to_be_bytes()[3];
    Shape {
        subject,
        issuer,
        key: subject + 100,
        subject_key_id: id(subject),
        authority_key_id: id(issuer),
        serial,
    }
    .certificate()
}

struct Always;

impl VerifySignature for Always {
    fn is_signed_by(&self, _: &Certificate, _: &Certificate) -> bool {
        true
    }
}

/// Every host has a certificate, an intermediate and a policy of its own. Its chain ends with a second
/// intermediate that all hosts share; no host sends the anchor above that intermediate.
fn deployment() -> Deployment {
    let parse = |der: Vec<u8>| Arc::new(Certificate::from_der(&der).unwrap());
    let anchor = Anchor { certificate: parse(certificate(1, 1)), origin: Arc::from("anchors") };
    let trust = Trust { system: Arc::new(Anchors::new([anchor])), added: None };
    let trust = Arc::new(TrustSetting { trust, ..TrustSetting::default() });
    let shared = parse(certificate(2, 1));
    let mut deployment = Deployment::default();
    for number in 0..HOSTS {
        let (leaf, intermediate) = (10 + 2 * number, 11 + 2 * number);
        let leaf = parse(certificate(leaf, intermediate));
        let pins = [leaf.pin().unwrap(), Pin::from_bytes([0xf0; Pin::BYTES])];
        let chain =
            Chain::new(vec![leaf, parse(certificate(intermediate, 2)), shared.clone()]).unwrap();
        let name = format!("host-{number}.example.com");
        deployment.contexts.push(Context {
            certificates: Certificates::Loaded(vec![chain]),
            trust: trust.clone(),
        });
        deployment.policies.push(policy(name.clone(), pins));
        deployment.hosts.push(Host {
            enforced: Some(PolicyUse { policy: name.clone(), at: at(), own: true }),
            ..Host::new(name.clone(), vec![name], vec![deployment.contexts.len() - 1])
        });
    }
    deployment
}

fn checks(c: &mut Criterion) {
    let der = certificate(10, 11);
    c.bench_function("a certificate parsed", |b| {
        b.iter(|| Certificate::from_der(black_box(&der)).unwrap());
    });
    let deployment = deployment();
    let verdict = check(&deployment, 0, &Always);
    assert_eq!(verdict.findings, []);
    let mut group = c.benchmark_group("check");
    group.sample_size(10).throughput(Throughput::Elements(HOSTS.into()));
    group.bench_function("10,000 hosts", |b| b.iter(|| check(black_box(&deployment), 0, &Always)));
    group.finish();
}

criterion_group!(benches, pins, pins_from_bundles, headers, checks);
criterion_main!(benches);
