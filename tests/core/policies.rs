//! Policies compared with real certificates: pins that are not the hash of a key, compromised keys, unpinning with
//! `max-age=0`, and policies without records.

use std::sync::Arc;

use hpkp_core::certificate::{Certificate, subject_of_unreadable};
use hpkp_core::check::{
    Certificates, Choice, Context, Deployment, Host, Listener, PolicyUse, Records, Skipped,
    TrustSetting, Verdict, check,
};
use hpkp_core::finding::{Check, Class, Code, Location, Text};
use hpkp_core::path::{Anchor, Anchors, Chain, Trust, VerifySignature};
use hpkp_core::pem;
use hpkp_core::pin::Pin;
use hpkp_core::policy::{PinSetting, PinSource, Policy, PolicySpec};
use hpkp_core::published::{Body, Compromised, Event, Matching, Scope, State};
use hpkp_tests::pki::{Pki, RSA, leaf_extensions, openssl};
use hpkp_tests::site::{A, B};

use crate::published::{BLOCK, Block, DAY, World};

/// Verifies no signature: in these tests, key identifiers decide.
struct Never;

impl VerifySignature for Never {
    fn is_signed_by(&self, _: &Certificate, _: &Certificate) -> bool {
        false
    }
}

fn at(line: usize) -> Location {
    Location { file: "test.conf".into(), line }
}

/// A server with the certificate `leaf`, issued by the CA `ca`.
struct Site {
    _dir: tempfile::TempDir,
    pki: Pki,
    /// The files of the chains that it loads.
    chains: Vec<Vec<&'static str>>,
    pins: Vec<PinSource>,
    max_age: &'static str,
    compromised: Vec<Pin>,
    /// Whether it writes records.
    records: bool,
}

impl Site {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let pki = Pki::new(dir.path());
        pki.ca("ca");
        pki.leaf("leaf", "localhost", "ca");
        let chains = vec![vec!["leaf.pem"]];
        let (compromised, records) = (vec![], true);
        Self { _dir: dir, pki, chains, pins: vec![], max_age: "1d", compromised, records }
    }

    fn certificate(&self, file: &str) -> Arc<Certificate> {
        let pem = self.pki.read(file);
        let block = pem::blocks(&pem).next().expect("a block").expect("a whole one");
        Arc::new(Certificate::from_der(&block.decode().expect("base64")).expect("a certificate"))
    }

    fn pin(&self, file: &str) -> Pin {
        self.pki.pin(file).parse().expect("a pin")
    }

    fn pinned(&mut self, pins: &[Pin]) -> &mut Self {
        self.pins = pins.iter().copied().map(PinSource::Literal).collect();
        self
    }

    fn policy(&self, name: &str) -> Policy {
        let mut spec = PolicySpec::new(name.into(), at(1));
        spec.max_age = Some(self.max_age.parse().expect("an age"));
        let settings = (2..).zip(&self.pins);
        spec.pins = settings
            .map(|(line, source)| PinSetting { source: source.clone(), at: at(line) })
            .collect();
        spec.resolve(|file| Ok(self.pki.read(file)))
    }

    fn deployment(&self) -> Deployment {
        let anchor = Anchor { certificate: self.certificate("ca.pem"), origin: "store".into() };
        let trust = Trust { system: Arc::new(Anchors::new([anchor])), added: None };
        let chain = |files: &Vec<&str>| {
            Chain::new(files.iter().map(|file| self.certificate(file)).collect()).expect("a chain")
        };
        let certificates = Certificates::Loaded(self.chains.iter().map(chain).collect());
        let mut state = State::default();
        for (seq, pin) in (1..).zip(&self.compromised) {
            let body = Body::Compromised(Compromised { pin: *pin, why: "stolen".into() });
            state.add(&Event::new(0, seq, "ops".parse().expect("a name"), body));
        }
        let records = Records {
            directories: vec!["/var/lib/hpkp".into()],
            state,
            writer: Some("web-1".parse().expect("a name")),
            at: at(9),
            problems: vec![],
            unrecorded: None,
            freshness: Vec::new(),
        };
        let host = |label: &str, check| Host {
            check,
            enforced: Some(PolicyUse { policy: "site".into(), at: at(8), own: true }),
            ..Host::new(label.to_owned(), vec![label.to_owned()], vec![0])
        };
        let listener = Listener::new(443, Choice::Nginx, vec![0, 1], 0);
        let mut deployment = Deployment {
            contexts: vec![Context {
                certificates,
                trust: Arc::new(TrustSetting { trust, ..TrustSetting::default() }),
            }],
            policies: vec![self.policy("site")],
            hosts: vec![host("localhost", Check::Refuse), host("b.example", Check::Warn)],
            listeners: vec![listener],
            records: self.records.then_some(records),
            ..Deployment::default()
        };
        deployment.bind_keywords();
        deployment
    }

    fn check(&self) -> Verdict {
        check(&self.deployment(), 0, &Never)
    }
}

fn codes(verdict: &Verdict) -> Vec<(&'static str, Class)> {
    verdict.findings.iter().map(|one| (one.code.as_str(), one.class)).collect()
}

fn value(verdict: &Verdict) -> Option<&str> {
    let sending = verdict.hosts[0].enforced.as_ref()?;
    sending.header.as_ref().map(|header| header.value())
}

const PINS: [&str; 2] = [A, B];

fn literals() -> [Pin; 2] {
    PINS.map(|pin| pin.parse().expect("a pin"))
}

#[test]
fn a_policy_without_records_is_reported_once() {
    let mut site = Site::new();
    let [backup, _] = literals();
    let live = site.pin("leaf.pem");
    site.pinned(&[live, backup]);
    assert_eq!(codes(&site.check()), []);
    site.records = false;
    // Two hosts with different `check` settings share the finding.
    let verdict = site.check();
    assert_eq!(codes(&verdict), [("published-pins-no-writer", Class::Warning)]);
    assert_eq!(verdict.findings[0].host_count, 2);
    assert!(value(&verdict).is_some());
    site.max_age = "0";
    assert_eq!(codes(&site.check()), []);
}

#[test]
fn the_hash_of_other_data_is_no_backup() {
    let mut site = Site::new();
    let pki = site.pki.clone();
    pki.key("rsa", RSA);
    pki.sign("rsa", "/CN=localhost", "ca", &leaf_extensions("localhost"));
    site.chains.push(vec!["rsa.pem", "ca.pem"]);
    let path = |file: &str| pki.path(file).to_str().expect("a path").to_owned();
    let spki = |file: &str| openssl(&["pkey", "-in", &path(file), "-pubout", "-outform", "der"]);
    let ec = spki("leaf.key");
    let bare = ["rsa", "-in", &path("rsa.key"), "-RSAPublicKey_out", "-outform", "der"];
    // ACME clients write the whole chain into one file.
    let whole = ["rsa.pem", "ca.pem"].map(|file| openssl(&["x509", "-in", &path(file)])).concat();
    let shapes = [
        openssl(&["x509", "-in", &path("leaf.pem"), "-outform", "der"]),
        openssl(&["x509", "-in", &path("ca.pem"), "-outform", "der"]),
        openssl(&["x509", "-in", &path("leaf.pem")]),
        openssl(&["x509", "-in", &path("leaf.pem")]).trim_ascii_end().to_vec(),
        openssl(&["pkey", "-in", &path("rsa.key"), "-pubout"]),
        openssl(&["x509", "-in", &path("rsa.pem"), "-noout", "-modulus"]),
        openssl(&bare),
        openssl(&bare[..4]),
        ec[ec.len() - 65..].to_vec(),
        whole.clone(),
        whole.trim_ascii_end().to_vec(),
    ];
    let [backup, _] = literals();
    let (leaf, rsa) = (site.pin("leaf.pem"), site.pin("rsa.pem"));
    for (number, bytes) in shapes.iter().enumerate() {
        let wrong = Pin::of_spki(bytes);
        let verdict = site.pinned(&[leaf, rsa, wrong]).check();
        let expected = [("no-backup-pin", Class::Withhold), ("pin-not-spki-hash", Class::Warning)];
        assert_eq!(codes(&verdict), expected, "{number}");
        assert_eq!(value(&verdict), None);
        let found = &verdict.findings[1];
        assert!(found.text.what.contains(&format!("sha256/{wrong}")), "{:?}", found.text);
        assert_eq!((found.at.line, found.host_count), (4, 2));
        let verdict = site.pinned(&[leaf, rsa, wrong, backup]).check();
        assert_eq!(codes(&verdict), expected[1..], "{number}");
        assert!(value(&verdict).is_some());
    }
}

#[test]
fn a_single_pin_with_max_age_0_is_refused() {
    let mut site = Site::new();
    let live = site.pin("leaf.pem");
    for (max_age, advice) in [("1d", "create a backup key"), ("0", "remove the pin")] {
        site.max_age = max_age;
        let verdict = site.pinned(&[live]).check();
        assert_eq!(codes(&verdict), [("too-few-pins", Class::Invalid)]);
        let lines: Vec<String> = verdict.findings[0].lines().collect();
        assert!(lines.join("\n").contains(advice), "{lines:?}");
    }
    assert_eq!(codes(&site.pinned(&[]).check()), []);
}

#[test]
fn the_hash_of_a_pin_s_file_is_no_backup() {
    let mut site = Site::new();
    site.pki.key("next", RSA);
    site.pki.request("next", "/CN=next");
    let path = site.pki.path("next.csr").to_str().expect("a path").to_owned();
    let request = openssl(&["req", "-in", &path, "-outform", "der"]);
    for bytes in [request, site.pki.read("next.csr")] {
        let live = site.pin("leaf.pem");
        site.pinned(&[live, Pin::of_spki(&bytes)]);
        // Without the file of the request, the hash cannot be recognised.
        assert_eq!(codes(&site.check()), []);
        site.pins.push(PinSource::File("next.csr".into()));
        assert_eq!(codes(&site.check()), [("pin-not-spki-hash", Class::Warning)]);
    }
}

#[test]
fn a_compromised_key_that_is_presented_is_reported() {
    let mut site = Site::new();
    site.pki.key("rsa", RSA);
    site.pki.sign("rsa", "/CN=localhost", "ca", &leaf_extensions("localhost"));
    site.chains = vec![vec!["leaf.pem"], vec!["rsa.pem", "ca.pem"]];
    let [backup, other] = literals();
    let (leaf, rsa, ca) = (site.pin("leaf.pem"), site.pin("rsa.pem"), site.pin("ca.pem"));
    site.pinned(&[leaf, rsa, backup]);
    assert_eq!(codes(&site.check()), []);
    for pin in [leaf, rsa, ca] {
        site.compromised = vec![pin, other];
        let verdict = site.check();
        assert_eq!(codes(&verdict), [("compromised-key-loaded", Class::Warning)]);
        let text: Vec<String> = verdict.findings[0].lines().collect();
        assert!(text.join("\n").contains(&format!("compromised: sha256/{pin}")), "{text:?}");
        assert!(value(&verdict).is_some());
        // The finding also appears without a policy.
        let mut deployment = site.deployment();
        deployment.hosts.iter_mut().for_each(|host| host.enforced = None);
        let verdict = check(&deployment, 0, &Never);
        assert_eq!(codes(&verdict), [("compromised-key-loaded", Class::Warning)]);
    }
}

#[test]
fn a_compromised_key_is_no_backup() {
    let mut site = Site::new();
    let live = site.pin("leaf.pem");
    let [stolen, backup] = literals();
    site.compromised = vec![stolen];
    let verdict = site.pinned(&[live, stolen]).check();
    let expected = [("no-backup-pin", Class::Withhold), ("compromised-key-pinned", Class::Warning)];
    assert_eq!(codes(&verdict), expected);
    assert_eq!(value(&verdict), None);
    let verdict = site.pinned(&[live, stolen, backup]).check();
    assert_eq!(codes(&verdict), expected[1..]);
    assert!(value(&verdict).is_some());
}

#[test]
fn a_mismatch_with_max_age_0_refuses_nothing() {
    let mut site = Site::new();
    site.pinned(&literals());
    site.max_age = "1";
    assert_eq!(codes(&site.check())[0], ("no-pin-in-chain", Class::Lockout));
    site.max_age = "0";
    let verdict = site.check();
    assert_eq!(codes(&verdict), [("no-pin-in-chain", Class::Withhold)]);
    assert_eq!(value(&verdict), None);
}

#[test]
fn un_pinning_without_a_pin_reaches_every_client() {
    let mut site = Site::new();
    site.max_age = "0";
    for records in [true, false] {
        site.records = records;
        let verdict = site.check();
        assert_eq!(codes(&verdict), []);
        let value = value(&verdict).expect("a header");
        // The header has the key in use and a pin of no key, which every client accepts (see the core's own tests).
        let leaf = format!("pin-sha256=\"{}\"; pin-sha256=\"", site.pin("leaf.pem"));
        assert!(value.starts_with(&leaf) && value.ends_with("\"; max-age=0"), "{value}");
        assert_eq!(value.matches("pin-sha256=").count(), 2, "{value}");
        assert_eq!(verdict.hosts[0].enforced.as_ref().map(|one| one.contexts.len()), Some(1));
    }
}

/// With a wildcard certificate, thousands of hosts with a policy each present one key. A separate list for each of
/// 10,000 hosts took 80 kB per host.
#[test]
fn policies_with_the_same_matching_contexts_share_one_list() {
    let mut site = Site::new();
    let live = site.pin("leaf.pem");
    site.pinned(&[live, literals()[0]]);
    let mut deployment = site.deployment();
    let policy_use = PolicyUse { policy: "other".into(), at: at(8), own: true };
    deployment.hosts[1].enforced = Some(policy_use);
    let mut with = |pins: &[Pin]| {
        deployment.policies.truncate(1);
        deployment.policies.push(site.pinned(pins).policy("other"));
        let verdict = check(&deployment, 0, &Never);
        let enforced = verdict.hosts.into_iter().filter_map(|host| host.enforced);
        enforced.map(|one| one.contexts).collect::<Vec<_>>()
    };
    let alike = with(&[live, literals()[1]]);
    assert_eq!(*alike[0], [0]);
    assert!(Arc::ptr_eq(&alike[0], &alike[1]));
    let unmet = with(&literals());
    assert_eq!((&*unmet[0], &*unmet[1]), (&[0][..], &[][..]));
}

#[test]
fn certificates_skipped_in_a_store_are_reported() {
    let mut site = Site::new();
    let live = site.pin("leaf.pem");
    site.pinned(&[live, literals()[0]]);
    let skipped = |at| Skipped { text: Text::new("part").details(["one".to_owned()]), at };
    for (place, line) in [(None, 8), (Some(at(7)), 7)] {
        let mut deployment = site.deployment();
        let trust = deployment.contexts[0].trust.trust.clone();
        let skipped = vec![skipped(place)];
        deployment.contexts[0].trust = Arc::new(TrustSetting { trust, problem: None, skipped });
        let verdict = check(&deployment, 0, &Never);
        assert_eq!(codes(&verdict), [("trusted-certificate-skipped", Class::Warning)]);
        let found = &verdict.findings[0];
        assert_eq!((found.code, found.at.line), (Code::TrustedCertificateSkipped, line));
        assert_eq!((found.host_count, &found.text.details[..]), (2, &["one".to_owned()][..]));
    }
}

#[test]
fn a_certificate_without_a_subject_is_named_by_its_first_san() {
    let site = Site::new();
    for (extensions, label) in [
        (leaf_extensions("www.example.com,DNS:example.com"), "(no subject) SAN www.example.com"),
        ("subjectAltName=IP:2001:db8::1\n".to_owned(), "(no subject) SAN 2001:db8::1"),
        ("basicConstraints=CA:FALSE\n".to_owned(), "(no subject)"),
    ] {
        site.pki.leaf("bare", "localhost", "ca");
        site.pki.sign("bare", "/", "ca", &extensions);
        let path = site.pki.path("bare.pem").to_str().expect("a path").to_owned();
        let der = openssl(&["x509", "-in", &path, "-outform", "der"]);
        let certificate = Certificate::from_der(&der).expect("a certificate");
        assert_eq!(certificate.subject(), label);
        let until = certificate.not_after_text();
        assert_eq!(hpkp_core::date::parse(until), Some(certificate.not_after()), "{until}");
    }
    // An issuer without a name also gets a label.
    let path = site.pki.self_signed("bare", "/", &[]);
    let path = path.to_str().expect("a path");
    let der = openssl(&["x509", "-in", path, "-outform", "der"]);
    assert_eq!(Certificate::from_der(&der).expect("a certificate").issuer(), "(no name)");
}

#[test]
fn the_subject_of_a_certificate_that_cannot_be_parsed() {
    let site = Site::new();
    let path = site.pki.path("ca.pem").to_str().expect("a path").to_owned();
    let mut der = openssl(&["x509", "-in", &path, "-outform", "der"]);
    let time = der.windows(2).position(|pair| pair == [0x17, 0x0d]).expect("a time");
    der[time + 14] = b'0';
    assert!(Certificate::from_der(&der).is_err());
    assert_eq!(subject_of_unreadable(&der).as_deref(), Some("CN=ca"));
    for length in 0..der.len() {
        let _ = subject_of_unreadable(&der[..length]);
    }
    assert_eq!(subject_of_unreadable(b"nonsense"), None);
}

/// Reports may not arrive if the receiving host is pinned: by the policy itself, by another server's policy, or by a
/// recorded header. Pins of apps do not count, because browsers send the reports.
#[test]
fn reports_to_a_pinned_host() {
    const HOST: &str = "www.example.com";
    let mut world = World::new(&[("www", HOST), ("next", HOST), ("reports", "reports.test")]);
    let finding = |world: &World, blocks: &[Block<'_>], to: &str| {
        let mut deployment = world.deployment(blocks);
        let mut spec = PolicySpec::new("policy-0".into(), at(1));
        spec.report_uri = Some(format!("https://{to}/r").parse().expect("a URI"));
        spec.max_age = Some("1d".parse().expect("a time"));
        spec.include_subdomains = Some(blocks[0].include_subdomains);
        let pins = blocks[0].pins.iter().map(|name| PinSource::Literal(world.pin(name)));
        spec.pins = pins.map(|source| PinSetting { source, at: at(2) }).collect();
        deployment.policies[0] = spec.resolve(|_| Err(String::new()));
        let verdict = check(&deployment, world.now, &Never);
        let mut found = verdict.findings.into_iter();
        found.find(|one| one.code == Code::ReportUriOnPinnedHost).map(|one| {
            assert_eq!(one.class, Class::Warning);
            one.text.what
        })
    };
    let own = Block { names: &[HOST], certificate: "www", pins: &["www", "next"], ..BLOCK };
    let reports = Block { names: &["reports.test"], certificate: "reports", ..BLOCK };
    let pinned = Block { pins: &["reports", "next"], ..reports };
    let is_own = |text: Option<String>| text.is_some_and(|text| text.contains("the same pins"));
    assert!(is_own(finding(&world, &[own], HOST)));
    assert_eq!(finding(&world, &[own, reports], "reports.test"), None);
    let text = finding(&world, &[own, pinned], "reports.test").expect("a finding");
    assert!(text.contains("(of server \"reports.test\")"), "{text}");
    // The receiving host is below a pinned domain.
    assert!(!is_own(finding(&world, &[own], "r.www.example.com")));
    let below = Block { include_subdomains: true, ..own };
    assert!(is_own(finding(&world, &[below], "r.www.example.com")));
    // The receiving host has recorded pins, of an app and then of a header.
    world.import("reports.test", Matching::Exact, Scope::Chain, "reports");
    assert_eq!(finding(&world, &[own], "reports.test"), None);
    world.header("reports.test", "reports", 10 * DAY as u64);
    let text = finding(&world, &[own], "reports.test").expect("a finding");
    assert!(text.contains("by the records"), "{text}");
}
