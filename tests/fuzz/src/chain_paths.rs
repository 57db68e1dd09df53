//! Fuzzes candidate paths through arbitrary certificates, and the check of policies against them.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use hpkp_core::certificate::Certificate;
use hpkp_core::check::{
    Certificates, Context, Deployment, Host, PolicyUse, Sending, TrustSetting, check,
};
use hpkp_core::finding::{Code, Location};
use hpkp_core::max_age::MaxAge;
use hpkp_core::path::{Anchor, Anchors, Chain, Trust, VerifySignature};
use hpkp_core::pin::Pin;
use hpkp_core::policy::{PinSetting, PinSource, Policy, PolicySpec};

use super::der::Shape;

/// The content of an input: certificates, and which of them are served and which are trusted.
///
/// An input that begins with `R` has two bytes of flags and then certificates in DER. Any other
/// input has a seed of two bytes and then four bytes for each certificate: names, key and flags,
/// key identifiers, serial number.
struct Scene {
    served: Vec<Arc<Certificate>>,
    trusted: Vec<Arc<Certificate>>,
    seed: u16,
}

/// More certificates than a chain may have, and not so many that a run takes long.
const MAX_MADE: usize = 96;

impl Scene {
    fn of(data: &[u8]) -> Option<Self> {
        let (raw, data) = match data {
            [b'R', rest @ ..] => (true, rest),
            _ => (false, data),
        };
        let (seed, rest) = data.split_first_chunk()?;
        let seed = u16::from_be_bytes(*seed);
        let mut scene = Self { served: Vec::new(), trusted: Vec::new(), seed };
        if raw {
            scene.read(rest)
        } else {
            scene.make(rest)
        }
        Some(scene)
    }

    /// Each certificate takes two bits of the seed: trusted and not served, if both are set.
    fn read(&mut self, mut rest: &[u8]) {
        let mut flags = self.seed;
        while let Ok(certificate) = Certificate::from_der(rest) {
            rest = &rest[certificate.der().len()..];
            self.add(certificate, flags & 3 != 3, flags & 1 != 0);
            flags = flags.rotate_right(2);
        }
    }

    fn make(&mut self, rest: &[u8]) {
        for chunk in rest.chunks_exact(4).take(MAX_MADE) {
            let &[names, key, ids, serial] = chunk else { continue };
            let shape = Shape {
                subject: (names & 7).into(),
                issuer: (names >> 4 & 7).into(),
                key: (key & 15).into(),
                subject_key_id: (key & 0x10 != 0).then_some(ids & 15),
                authority_key_id: (key & 0x20 != 0).then_some(ids >> 4),
                serial,
            };
            let certificate = Certificate::from_der(&shape.certificate());
            assert!(certificate.is_ok(), "a certificate made here can be parsed");
            if let Ok(certificate) = certificate {
                self.add(certificate, key & 0x80 == 0, key & 0x40 != 0);
            }
        }
    }

    fn add(&mut self, certificate: Certificate, served: bool, trusted: bool) {
        let certificate = Arc::new(certificate);
        if trusted {
            self.trusted.push(certificate.clone());
        }
        // The first one is the leaf.
        if served || self.served.is_empty() {
            self.served.push(certificate);
        }
    }

    fn pins(&self) -> impl Iterator<Item = Pin> {
        self.served.iter().chain(&self.trusted).filter_map(|certificate| certificate.pin())
    }
}

/// A hash decides whether a signature is valid, so the same signature always has the same result.
struct ByHash(u16);

impl VerifySignature for ByHash {
    fn is_signed_by(&self, certificate: &Certificate, issuer: &Certificate) -> bool {
        let mut hasher = DefaultHasher::new();
        (self.0, certificate.der(), issuer.der()).hash(&mut hasher);
        hasher.finish() % 4 != 0
    }
}

/// Pins that match no certificate.
const FOREIGN: [Pin; 2] = [Pin::from_bytes([0xf0; 32]), Pin::from_bytes([0xf1; 32])];

/// Runs the target; [`Scene`] describes its input.
pub fn run(data: &[u8]) {
    let Some(scene) = Scene::of(data) else {
        return;
    };
    let count = scene.served.len();
    let Some(chain) = Chain::new(scene.served.clone()) else {
        assert!(count == 0 || count > Chain::MAX);
        return;
    };
    let some: Vec<Pin> = scene
        .pins()
        .enumerate()
        .filter_map(|(at, pin)| (scene.seed >> (at % 16) & 1 == 1).then_some(pin))
        .collect();
    // The pins of each policy, and whether the chain is known to satisfy it.
    let policies = [
        ("leaf", chain.leaf().pin().into_iter().collect(), chain.leaf().pin().map(|_| true)),
        ("none", Vec::new(), Some(false)),
        ("some", some, None),
        ("all", scene.pins().collect(), None),
    ];
    let deployment = deployment(&scene, chain, &policies);
    // A time from 1970 to long after the certificates expire.
    let now = i64::from(scene.seed) << 16;
    let verdict = check(&deployment, now, &ByHash(scene.seed));
    for finding in &verdict.findings {
        for line in finding.lines() {
            assert!(line.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{line:?}");
        }
    }
    let sent = |sending: &Option<Sending>| {
        sending.as_ref().is_some_and(|sending| sending.contexts.contains(&0))
    };
    let met: Vec<bool> = verdict.hosts.iter().map(|host| sent(&host.enforced)).collect();
    for ((name, _, known), (host, met)) in policies.iter().zip(verdict.hosts.iter().zip(&met)) {
        assert_eq!(
            host.alarms.iter().any(|alarm| alarm.code == Code::NoPinInChain),
            !met,
            "{name}"
        );
        assert!(known.is_none_or(|known| known == *met), "{name}");
        let header = host.enforced.as_ref().and_then(|sending| sending.header.as_ref());
        assert!(*met || header.is_none(), "{name}");
        // A report-only policy is evaluated on every connection of its host.
        assert!(sent(&host.report_only), "{name}");
    }
    // More pins never make a chain fail.
    assert!(!met[0] || met[3]);
    assert!(!met[2] || met[3]);
}

fn deployment(
    scene: &Scene,
    chain: Chain,
    policies: &[(&str, Vec<Pin>, Option<bool>)],
) -> Deployment {
    let at = Location { file: Arc::from("fuzz"), line: 1 };
    let anchors = |trusted: &[Arc<Certificate>]| {
        Arc::new(Anchors::new(trusted.iter().map(|certificate| Anchor {
            certificate: certificate.clone(),
            origin: Arc::from("anchors"),
        })))
    };
    let (system, added) = scene.trusted.split_at(scene.trusted.len() / 2);
    let trust = Trust { system: anchors(system), added: Some(anchors(added)) };
    let hosts = policies.iter().map(|(name, ..)| {
        let policy_use =
            || Some(PolicyUse { policy: (*name).to_owned(), at: at.clone(), own: true });
        Host {
            enforced: policy_use(),
            report_only: policy_use(),
            ..Host::new((*name).to_owned(), vec![format!("{name}.example.com")], vec![0])
        }
    });
    Deployment {
        names: hpkp_core::check::Names::default(),
        hosts: hosts.collect(),
        policies: policies.iter().map(|(name, pins, _)| policy(name, pins, &at)).collect(),
        contexts: vec![Context {
            certificates: Certificates::Loaded(vec![chain]),
            trust: Arc::new(TrustSetting { trust, ..TrustSetting::default() }),
        }],
        ..Deployment::default()
    }
}

fn policy(name: &str, pins: &[Pin], at: &Location) -> Policy {
    let mut spec = PolicySpec::new(name.to_owned(), at.clone());
    spec.pins = pins
        .iter()
        .chain(&FOREIGN)
        .map(|pin| PinSetting { source: PinSource::Literal(*pin), at: at.clone() })
        .collect();
    spec.max_age = MaxAge::from_seconds(60);
    spec.report_uri = "https://reports.example.net/".parse().ok();
    spec.resolve(|_| Err(String::new()))
}
