//! Certificate paths that clients may build, with real certificates whose signatures openssl verifies.

use std::cell::Cell;
use std::process::Command;
use std::sync::Arc;

use hpkp_core::certificate::Certificate;
use hpkp_core::check::{
    Certificates, Context, Deployment, Host, PolicyUse, TrustSetting, Verdict, check,
};
use hpkp_core::finding::Location;
use hpkp_core::path::{Anchor, Anchors, Chain, Trust, VerifySignature};
use hpkp_core::pem;
use hpkp_core::policy::{PinSetting, PinSource, PolicySpec};
use hpkp_tests::pki::{CA_EXTENSIONS, P256, Pki, openssl, pki};
use hpkp_tests::{output, site};

/// The time of the check: the certificates of these tests are valid for 20 or 30 days from now.
fn now() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.expect("a time").as_secs() as i64
}

/// Verifies signatures by the openssl command, and counts the calls.
struct OpenSsl<'a> {
    pki: &'a Pki,
    asked: Cell<usize>,
}

/// The first element of `der` with its header and without, and what comes after it.
fn element(der: &[u8]) -> (&[u8], &[u8], &[u8]) {
    let (header, length) = match der[1] {
        0x81 => (3, usize::from(der[2])),
        0x82 => (4, usize::from(u16::from_be_bytes([der[2], der[3]]))),
        length => (2, usize::from(length)),
    };
    let (whole, rest) = der.split_at(header + length);
    (whole, &whole[header..], rest)
}

/// The signature alone counts: `openssl verify` looks at key identifiers besides.
impl VerifySignature for OpenSsl<'_> {
    fn is_signed_by(&self, certificate: &Certificate, issuer: &Certificate) -> bool {
        self.asked.set(self.asked.get() + 1);
        let (_, inside, _) = element(certificate.der());
        let (signed, _, rest) = element(inside);
        let (_, _, rest) = element(rest);
        // Its first byte counts the bits that the last one leaves out.
        let (_, signature, _) = element(rest);
        let signed = self.pki.write("signed.tmp", signed);
        let signature = self.pki.write("signature.tmp", &signature[1..]);
        let issuer = self.pki.write("issuer.tmp.der", issuer.der());
        let key = self.pki.path("issuer.tmp.pub");
        let mut command = Command::new("openssl");
        command.args(["x509", "-inform", "der", "-pubkey", "-noout", "-in"]).arg(issuer);
        hpkp_tests::succeed(command.arg("-out").arg(&key));
        let mut command = Command::new("openssl");
        command.args(["dgst", "-sha256", "-verify"]).arg(key).arg("-signature").arg(signature);
        output(command.arg(signed)).status.success()
    }
}

fn certificates(pki: &Pki, files: &[&str]) -> Vec<Arc<Certificate>> {
    let read = |file: &&str| {
        let pem = pki.read(&format!("{file}.pem"));
        let block = pem::blocks(&pem).next().expect("a block").expect("a whole one");
        Arc::new(Certificate::from_der(&block.decode().expect("base64")).expect("a certificate"))
    };
    files.iter().map(read).collect()
}

/// Checks one host that sends `chain` to clients who trust `trusted`, with these pins.
fn judge(pki: &Pki, chain: &[&str], trusted: &[&str], pins: &[&str]) -> (Verdict, usize) {
    judge_after(0, pki, chain, trusted, pins)
}

/// The same check, `after` seconds later.
fn judge_after(
    after: i64,
    pki: &Pki,
    chain: &[&str],
    trusted: &[&str],
    pins: &[&str],
) -> (Verdict, usize) {
    let at = Location { file: "test".into(), line: 1 };
    let anchors = certificates(pki, trusted)
        .into_iter()
        .map(|certificate| Anchor { certificate, origin: "store".into() });
    let trust = Trust { system: Arc::new(Anchors::new(anchors)), added: None };
    let mut policy = PolicySpec::new("p".into(), at.clone());
    policy.max_age = Some("1d".parse().expect("a time"));
    for pin in pins {
        let source = PinSource::Literal(pki.pin(&format!("{pin}.pem")).parse().expect("a pin"));
        policy.pins.push(PinSetting { source, at: at.clone() });
    }
    let backup = PinSource::Literal(site::B.parse().expect("a pin"));
    policy.pins.push(PinSetting { source: backup, at: at.clone() });
    let chain = Chain::new(certificates(pki, chain)).expect("a chain");
    let deployment = Deployment {
        contexts: vec![Context {
            certificates: Certificates::Loaded(vec![chain]),
            trust: Arc::new(TrustSetting { trust, ..TrustSetting::default() }),
        }],
        policies: vec![policy.resolve(|_| Err("no file".to_owned()))],
        names: hpkp_core::check::Names::default(),
        hosts: vec![Host {
            enforced: Some(PolicyUse { policy: "p".into(), at, own: true }),
            ..Host::new("host".into(), vec!["host".into()], vec![0])
        }],
        ..Deployment::default()
    };
    let openssl = OpenSsl { pki, asked: Cell::new(0) };
    let verdict = check(&deployment, now() + after, &openssl);
    (verdict, openssl.asked.get())
}

#[track_caller]
fn expect(pki: &Pki, chain: &[&str], trusted: &[&str], pins: &[&str], codes: &[&str]) {
    let (verdict, _) = judge(pki, chain, trusted, pins);
    let found: Vec<&str> = verdict.findings.iter().map(|f| f.code.as_str()).collect();
    assert_eq!(found, codes, "{chain:?} {trusted:?} {pins:?}: {:#?}", verdict.findings);
    let sent = verdict.hosts[0].enforced.as_ref().is_some_and(|sending| sending.header.is_some());
    assert_eq!(sent, !codes.contains(&"no-pin-in-chain"));
}

/// `leaf` issued by `middle`, which is issued by the root `one` and cross-signed by the root `two` (`middle-two`).
fn cross_signed() -> (tempfile::TempDir, Pki) {
    let (dir, pki) = pki();
    pki.ca("one");
    pki.ca("two");
    pki.intermediate("middle", "one");
    pki.sign_as("middle-two", "middle", "/CN=middle", "two", CA_EXTENSIONS);
    pki.leaf("leaf", "host", "middle");
    (dir, pki)
}

#[test]
fn one_path() {
    let (_dir, pki) = cross_signed();
    let chain = ["leaf", "middle"];
    expect(&pki, &chain, &["one"], &["leaf"], &[]);
    expect(&pki, &chain, &["one"], &["middle"], &[]);
    expect(&pki, &chain, &["one"], &["one"], &["root-only-match"]);
    expect(&pki, &chain, &["one"], &["two"], &["no-pin-in-chain"]);
    expect(&pki, &["leaf", "middle", "one"], &["one"], &["one"], &[]);
    // No root is trusted, so the sent chain is the path.
    expect(&pki, &chain, &[], &["middle"], &[]);
    expect(&pki, &chain, &[], &["one"], &["no-pin-in-chain"]);
    // An intermediate that is not sent is not known.
    expect(&pki, &["leaf"], &["one"], &["leaf"], &[]);
    expect(&pki, &["leaf"], &["one"], &["middle"], &["no-pin-in-chain"]);
}

#[test]
fn two_paths() {
    let (_dir, pki) = cross_signed();
    let chain = ["leaf", "middle", "middle-two"];
    let both = ["one", "two"];
    expect(&pki, &chain, &both, &["leaf"], &[]);
    expect(&pki, &chain, &both, &["middle"], &[]);
    expect(&pki, &chain, &both, &["one"], &["partial-path-match", "root-only-match"]);
    expect(&pki, &chain, &both, &["one", "two"], &["root-only-match"]);
    // Only a chain that ends at a trust anchor makes a match.
    expect(&pki, &chain, &["two"], &["one"], &["no-pin-in-chain"]);
    expect(&pki, &chain, &["two"], &["two"], &["partial-path-match", "root-only-match"]);
    // The order of the sent certificates does not matter.
    expect(&pki, &["leaf", "middle-two", "middle"], &["two"], &["one"], &["no-pin-in-chain"]);
}

#[test]
fn a_path_may_end_at_an_intermediate_that_is_trusted() {
    let (_dir, pki) = cross_signed();
    let chain = ["leaf", "middle"];
    let found = ["partial-path-match", "root-only-match"];
    expect(&pki, &chain, &["one", "middle"], &["one"], &found);
    expect(&pki, &chain, &["one", "middle"], &["middle"], &[]);
    // The trust anchor is another certificate with the same subject and key.
    expect(&pki, &chain, &["one", "middle-two"], &["one"], &found);
}

/// A certificate is sent whose issuer this machine does not trust. Clients that do may take that path, so it can make a
/// match uncertain; it never makes one.
#[test]
fn a_path_to_a_root_that_is_not_known_here() {
    let (_dir, pki) = cross_signed();
    let found = ["partial-path-match", "root-only-match"];
    for chain in [&["leaf", "middle", "middle-two"][..], &["leaf", "middle-two", "two", "middle"]] {
        expect(&pki, chain, &["one"], &["one"], &found);
        expect(&pki, chain, &["one"], &["two"], &["no-pin-in-chain"]);
        expect(&pki, chain, &["one"], &["leaf"], &[]);
        expect(&pki, chain, &["one"], &["middle"], &[]);
    }
    expect(&pki, &["leaf", "middle"], &["one"], &["one"], &["root-only-match"]);
    // The other certificate of the key of the root leads elsewhere as well, but every client passes that key.
    pki.sign_as("one-two", "one", "/CN=one", "two", CA_EXTENSIONS);
    expect(&pki, &["leaf", "middle", "one-two"], &["one"], &["one"], &[]);
    // Another leaf's path says nothing.
    pki.intermediate("beside", "two");
    expect(&pki, &["leaf", "middle", "beside"], &["one"], &["one"], &["root-only-match"]);
}

/// An expired root is on no path if there is another path. If all certificates have expired, that is not an error of
/// the pins.
#[test]
fn expired_certificates() {
    let (_dir, pki) = cross_signed();
    // Roots are valid for 30 days and issued certificates for 20; this root only for 10.
    let root = pki.path("one.pem");
    let root = root.to_str().expect("a path in UTF-8");
    let key = pki.path("one.key");
    let key = key.to_str().expect("a path in UTF-8");
    openssl(&["x509", "-in", root, "-signkey", key, "-days", "10", "-out", root]);
    let chain = ["leaf", "middle", "middle-two"];
    let codes = |days: i64, pins: &[&str]| -> Vec<&'static str> {
        let (verdict, _) = judge_after(days * 86_400, &pki, &chain, &["one", "two"], pins);
        verdict.findings.iter().map(|finding| finding.code.as_str()).collect()
    };
    assert_eq!(codes(0, &["one"]), ["partial-path-match", "root-only-match"]);
    assert_eq!(codes(15, &["one"]), ["no-pin-in-chain"]);
    assert_eq!(codes(15, &["two"]), ["root-only-match"]);
    assert_eq!(codes(15, &["leaf"]), [""; 0]);
    // All certificates except one root have expired.
    assert_eq!(codes(25, &["leaf"]), [""; 0]);
    assert_eq!(codes(25, &["one"]), ["partial-path-match", "root-only-match"]);
    assert_eq!(codes(400, &["middle"]), [""; 0]);
}

#[test]
fn a_sent_certificate_on_no_path_satisfies_no_pin() {
    let (_dir, pki) = cross_signed();
    pki.leaf("stray", "stray", "one");
    let chain = ["leaf", "middle", "stray", "two"];
    expect(&pki, &chain, &["one"], &["stray"], &["no-pin-in-chain"]);
    expect(&pki, &chain, &["one"], &["two"], &["no-pin-in-chain"]);
    expect(&pki, &chain, &["one"], &["leaf", "two"], &["superfluous-certificate-match"]);
    // A wrong order of an otherwise valid chain does not matter.
    expect(&pki, &["leaf", "one", "middle"], &["one"], &["middle"], &[]);
}

#[test]
fn two_issuers_of_one_name() {
    let (_dir, pki) = pki();
    // The certificates have no key identifiers, so only the signature distinguishes the two issuers.
    for name in ["old", "new"] {
        pki.key(name, P256);
        let none = ["subjectKeyIdentifier=none", "authorityKeyIdentifier=none"];
        pki.self_signed(name, "/CN=authority", &none);
    }
    pki.key("leaf", P256);
    pki.sign("leaf", "/CN=host", "new", "subjectAltName=DNS:host\n");
    for trusted in [["old", "new"], ["new", "old"]] {
        expect(&pki, &["leaf"], &trusted, &["new"], &["root-only-match"]);
        expect(&pki, &["leaf"], &trusted, &["old"], &["no-pin-in-chain"]);
    }
    // The only issuer with that name did not sign the leaf.
    expect(&pki, &["leaf"], &["old"], &["old"], &["no-pin-in-chain"]);
    let (_, asked) = judge(&pki, &["leaf"], &["old", "new"], &["leaf"]);
    // Either issuer may have signed the leaf, and that issuer may be signed by the other.
    assert_eq!(asked, 3, "each pair is verified once");
}

#[test]
fn key_identifiers_spare_the_signature() {
    let (_dir, pki) = cross_signed();
    // All certificates of this test have both key identifiers.
    let (_, asked) = judge(&pki, &["leaf", "middle"], &["one", "two"], &["leaf"]);
    assert_eq!(asked, 0);
}

/// Two CAs certified one key, each with an identifier of its own for it. Java's clients and Chromium take
/// the certificate with the identifier that the leaf does not have, too.
#[test]
fn key_identifiers_that_differ() {
    let (_dir, pki) = cross_signed();
    let other = CA_EXTENSIONS.replace("subjectKeyIdentifier=hash", "subjectKeyIdentifier=01020304");
    assert_ne!(other, CA_EXTENSIONS);
    pki.sign_as("middle-other", "middle", "/CN=middle", "two", &other);
    let found = ["partial-path-match", "root-only-match"];
    let chain = ["leaf", "middle", "middle-other"];
    expect(&pki, &chain, &["one", "two"], &["one"], &found);
    expect(&pki, &chain, &["one", "two"], &["two"], &found);
    expect(&pki, &chain, &["one", "two"], &["middle"], &[]);
    let chain = ["leaf", "middle-other"];
    expect(&pki, &chain, &["two"], &["middle"], &[]);
    expect(&pki, &chain, &["two"], &["two"], &["root-only-match"]);
    // Another key of the same name did not sign.
    pki.key("stranger", P256);
    pki.sign_as("stranger", "stranger", "/CN=middle", "two", &other);
    expect(&pki, &["leaf", "stranger"], &["two"], &["two"], &["no-pin-in-chain"]);
}

#[test]
fn names_of_issuers_are_compared_without_case_and_extra_spaces() {
    let (_dir, pki) = pki();
    pki.key("root", P256);
    pki.self_signed("root", "/O=Some  Authority/CN=Root", &[]);
    pki.key("renamed", P256);
    // The same key and, by RFC 5280 section 7.1, the same name.
    std::fs::copy(pki.path("root.key"), pki.path("renamed.key")).expect("a copy");
    pki.self_signed("renamed", "/O=some authority/CN=ROOT", &[]);
    pki.leaf("leaf", "host", "renamed");
    expect(&pki, &["leaf"], &["root"], &["root"], &["root-only-match"]);
}

#[test]
fn certificates_that_issued_each_other() {
    let (_dir, pki) = pki();
    pki.ca("a");
    pki.ca("b");
    pki.sign_as("a-by-b", "a", "/CN=a", "b", CA_EXTENSIONS);
    pki.sign_as("b-by-a", "b", "/CN=b", "a", CA_EXTENSIONS);
    pki.leaf("leaf", "host", "a");
    let chain = ["leaf", "a-by-b", "b-by-a"];
    expect(&pki, &chain, &[], &["b"], &["partial-path-match"]);
    expect(&pki, &chain, &[], &["a"], &[]);
    expect(&pki, &chain, &["a", "b"], &["a"], &[]);
    expect(&pki, &chain, &["b"], &["b"], &[]);
    // Beside the circle there is a root that nobody here trusts.
    pki.ca("c");
    pki.intermediate("middle", "a");
    pki.sign_as("middle-by-c", "middle", "/CN=middle", "c", CA_EXTENSIONS);
    pki.leaf("leaf", "host", "middle");
    let chain = ["leaf", "middle", "a-by-b", "b-by-a", "middle-by-c", "c"];
    expect(&pki, &chain, &[], &["c"], &["partial-path-match"]);
    expect(&pki, &chain, &[], &["middle"], &[]);
}

/// By its name, every certificate may have issued every other. The number of verifications must grow with the number of
/// pairs, and not with the number of paths, which is astronomical.
#[test]
fn many_certificates_of_one_name() {
    let (_dir, pki) = pki();
    let names: Vec<String> = (0..8).map(|n| format!("n{n}")).collect();
    for name in &names {
        pki.key(name, P256);
        pki.self_signed(
            name,
            "/CN=same",
            &["subjectKeyIdentifier=none", "authorityKeyIdentifier=none"],
        );
    }
    pki.key("leaf", P256);
    pki.sign("leaf", "/CN=same", "n0", "subjectAltName=DNS:host\n");
    let mut chain = vec!["leaf"];
    chain.extend(names.iter().map(String::as_str));
    let (verdict, asked) = judge(&pki, &chain, &[], &["leaf"]);
    assert!(verdict.findings.is_empty(), "{:#?}", verdict.findings);
    assert!(asked <= chain.len() * chain.len(), "{asked}");
}

/// A signature is of a key: another certificate of the key needs no other look.
#[test]
fn many_certificates_of_one_key() {
    let (_dir, pki) = pki();
    let none = "basicConstraints=critical,CA:TRUE\nsubjectKeyIdentifier=none\n";
    let none = none.to_owned() + "authorityKeyIdentifier=none\n";
    for name in ["one", "two"] {
        pki.key(name, P256);
        pki.self_signed(name, "/CN=same", &["subjectKeyIdentifier=none"]);
    }
    let mut chain = vec!["leaf".to_owned()];
    for number in 0..4 {
        for (name, issuer) in [("one", "two"), ("two", "one")] {
            chain.push(format!("{name}-{number}"));
            pki.sign_as(&chain[chain.len() - 1], name, "/CN=same", issuer, &none);
        }
    }
    pki.key("leaf", P256);
    pki.sign("leaf", "/CN=host", "one", "subjectAltName=DNS:host\nauthorityKeyIdentifier=none\n");
    let chain: Vec<&str> = chain.iter().map(String::as_str).collect();
    let (_, asked) = judge(&pki, &chain, &["one", "two"], &["leaf"]);
    assert!(asked <= 2 * (chain.len() + 2), "{asked}");
}
