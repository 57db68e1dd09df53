//! Findings about policies: no records, a pin that is not the hash of a key, a compromised key. Also unpinning with
//! `max-age=0`, and trust stores that cannot be read.

use hpkp_core::published::{Body, Compromised, Event};

use super::Server;
use super::configuration::{
    Part, Written, check, host, max_age, pin, policy, published_pins, trusts, uses,
    uses_report_only,
};
use crate::client::Curl;
use crate::free_port;
use crate::instance::{NO_WRITER, Reload, all_codes};
use crate::layout::Site;
use crate::pki::{P256, Pki, RSA, leaf_extensions, openssl};
use crate::site::{A, B};

/// Makes a test of each case for a server.
#[macro_export]
macro_rules! policies {
    ($server:ty) => {
        $crate::policies!($server:
            a_policy_without_records_is_reported_at_test_start_and_reload
            policies_that_are_report_only_or_have_max_age_0_need_no_records
            hashes_of_data_other_than_a_key_are_named_and_are_no_backup
            a_compromised_key_that_is_loaded_is_reported
            a_compromised_key_is_no_backup
            un_pinning_with_a_key_that_is_not_pinned_passes
            un_pinning_does_not_lift_what_clients_hold
            un_pinning_without_a_pin_reaches_every_client
            an_invalid_trusted_certificate_alone_is_skipped
            an_unreadable_store_is_reported
        );
    };
    ($server:ty: $($case:ident)*) => {
        $(
            #[test]
            fn $case() {
                $crate::cases::policies::$case::<$server>();
            }
        )*
    };
}

const PIN_OF_NO_KEY: &str = "pin-not-spki-hash";
const NO_BACKUP: &str = "no-backup-pin";
const LOADED: &str = "compromised-key-loaded";
const SKIPPED: &str = "trusted-certificate-skipped";

/// A host with the certificate `live` and a policy with these pins.
fn pinned(port: u16, pins: &[&str], age: &str) -> [Part; 2] {
    let settings = pins.iter().map(|one| pin(*one)).chain([max_age(age)]);
    [policy("site", settings), host("localhost", port, &["live"], [uses("site")])]
}

/// The directive for a directory with records, in which these keys are compromised.
fn compromised(pki: &Pki, pins: &[&str]) -> Part {
    pki.records("records");
    let lines: String = (1..)
        .zip(pins)
        .map(|(seq, pin)| {
            let body = Body::Compromised(Compromised {
                pin: pin.parse().expect("a pin"),
                why: "the laptop is gone".into(),
            });
            let event = Event::new(1_800_000_000, seq, "ops".parse().expect("a name"), body);
            format!("{}\n", event.line())
        })
        .collect();
    pki.write("records/ops.jsonl", lines);
    Part::All(published_pins(&["records", "writer=web-1"]))
}

/// The SHA-256 of these bytes in base64.
fn hash(pki: &Pki, bytes: &[u8]) -> String {
    let file = pki.write("hash.tmp", bytes);
    let hash = openssl(&["dgst", "-sha256", "-binary", file.to_str().expect("a path")]);
    let file = pki.write("hash.tmp", hash);
    let base64 = openssl(&["base64", "-in", file.to_str().expect("a path")]);
    String::from_utf8(base64).expect("base64").trim().to_owned()
}

pub fn a_policy_without_records_is_reported_at_test_start_and_reload<S: Site>() {
    let mut site = S::with_records();
    let live = site.pki().pin("live.pem");
    let port = free_port();
    let mut parts = Vec::from(pinned(port, &[&live, B], "1d"));
    // Several hosts share a policy; their `check` does not matter for this finding.
    parts.push(host("a.example.com", port, &["live"], [uses("site")]));
    parts.push(host("b.example.com", port, &["live"], [uses("site"), check("warn")]));
    parts.push(policy("other", [pin(&live), pin(A), max_age("1h")]));
    parts.push(host("c.example.com", port, &["live"], [uses("other")]));
    let outcome = site.accepts(&parts, &[NO_WRITER]);
    let named = |text: &str, name: &str| {
        let first = format!("the pins of policy \"{name}\" are sent and not recorded");
        text.lines().filter(|line| line.contains(&first)).count()
    };
    assert_eq!(
        (named(&outcome.text, "site"), named(&outcome.text, "other")),
        (1, 1),
        "{}",
        outcome.text
    );
    // httpd warns of names that the certificate does not have.
    site.expect_in_log(&["AH01909"]);
    site.up();
    let started = || format!("{}{}", site.terminal_output(), site.log());
    assert!(all_codes(&started()).contains(&NO_WRITER), "{}", started());
    let before = site.log().len();
    assert_eq!(site.reload_forced(), Reload::Accepted);
    assert!(all_codes(&site.log()[before..]).contains(&NO_WRITER), "{}", site.log());
    let recorded = [&parts[..], &[Part::All(published_pins(&["records"]))]].concat();
    let outcome = site.accepts(&recorded, &[]);
    assert!(!outcome.text.contains(NO_WRITER), "{}", outcome.text);
    site.down();
}

pub fn policies_that_are_report_only_or_have_max_age_0_need_no_records<S: Server>() {
    let server = S::prepared();
    let live = server.pki().pin("live.pem");
    let report = super::configuration::report_uri("https://reports.example.net/");
    let report_only = [
        policy("site", [pin(&live), report]),
        host("localhost", free_port(), &["live"], [uses_report_only("site")]),
    ];
    for parts in [report_only, pinned(free_port(), &[&live, B], "0")] {
        let outcome = server.says(&parts);
        assert_eq!((outcome.code, all_codes(&outcome.text)), (Some(0), vec![]), "{}", outcome.text);
    }
}

/// Data that people have hashed instead of an SPKI, with the name that a finding gives it. The server sends `live` and
/// its CA; the root is only trusted; the request is the file of a pin.
fn shapes(pki: &Pki) -> [(&'static str, Vec<u8>); 10] {
    pki.ca("root");
    pki.intermediate("middle", "root");
    pki.key("live", RSA);
    pki.sign("live", "/CN=localhost", "middle", &leaf_extensions("localhost"));
    pki.bundle("chain.pem", &["live.pem", "middle.pem"]);
    std::fs::copy(pki.path("chain.pem"), pki.path("live.pem")).expect("a copy");
    let path = |file: &str| pki.path(file).to_str().expect("a path").to_owned();
    let der = |file: &str| openssl(&["x509", "-in", &path(file), "-outform", "der"]);
    let public = openssl(&["x509", "-in", &path("live.pem"), "-noout", "-pubkey"]);
    pki.write("live.pub", &public);
    let bare = openssl(&[
        "rsa",
        "-pubin",
        "-in",
        &path("live.pub"),
        "-RSAPublicKey_out",
        "-outform",
        "der",
    ]);
    let modulus = openssl(&["x509", "-in", &path("live.pem"), "-noout", "-modulus"]);
    let text = openssl(&["x509", "-in", &path("live.pem")]);
    let point = openssl(&["pkey", "-in", &path("middle.key"), "-pubout", "-outform", "der"]);
    let request = openssl(&["req", "-in", &path("backup.csr"), "-outform", "der"]);
    [
        ("the whole certificate, CN=localhost", der("live.pem")),
        ("the whole certificate, CN=middle", der("middle.pem")),
        ("the whole certificate, CN=root", der("root.pem")),
        ("the PEM text of the certificate", text),
        ("the PEM text of the public key", public),
        ("the public key without its algorithm", bare),
        ("the public key without its algorithm", point[point.len() - 65..].to_vec()),
        ("the modulus", modulus),
        ("the whole certificate signing request", request),
        ("the PEM text of the certificate signing request", pki.read("backup.csr")),
    ]
}

pub fn hashes_of_data_other_than_a_key_are_named_and_are_no_backup<S: Server>() {
    let server = S::prepared();
    let pki = server.pki();
    let shapes = shapes(&pki);
    let live = pki.pin("live.pem");
    for (name, bytes) in shapes {
        let wrong = hash(&pki, &bytes);
        let with = |others: &[&str]| {
            let pins = [&[live.as_str(), wrong.as_str()], others].concat();
            let mut parts = Vec::from(pinned(free_port(), &pins, "1d"));
            parts.push(Part::All(trusts("root.pem")));
            // The files of another policy's pins are compared too.
            let settings = [pin(A), pin("file:backup.csr"), max_age("1d")];
            parts.push(policy("other", settings));
            parts
        };
        let outcome = server.accepts(&with(&[]), &[NO_BACKUP, PIN_OF_NO_KEY]);
        assert!(
            outcome.text.contains(&format!("is the SHA-256 hash of {name}")),
            "{name}: {}",
            outcome.text
        );
        assert!(outcome.text.contains("no key has this pin"), "{}", outcome.text);
        server.accepts(&with(&[B]), &[PIN_OF_NO_KEY]);
    }
    // A pin that is the hash of no known data may be the backup.
    server.accepts(&pinned(free_port(), &[&live, &hash(&pki, b"x")], "1d"), &[]);
}

pub fn a_compromised_key_that_is_loaded_is_reported<S: Site>() {
    let mut site = S::with_records();
    let pki = site.pki();
    pki.intermediate("middle", "ca");
    pki.leaf("low", "low.example.com", "middle");
    pki.bundle("chain.pem", &["low.pem", "middle.pem"]);
    std::fs::copy(pki.path("chain.pem"), pki.path("low.pem")).expect("a copy");
    pki.key("second", RSA);
    pki.sign("second", "/CN=localhost", "ca", &leaf_extensions("localhost"));
    let pins = ["live.pem", "second.pem", "middle.pem"].map(|file| pki.pin(file));
    let [live, second, middle] = pins.each_ref().map(String::as_str);
    let port = free_port();
    let low = host("low.example.com", port, &["low"], []);
    let pair = host("localhost", port, &["live", "second"], []);
    for (stolen, parts, who) in [
        // With a policy that pins the key, and without a policy; for each certificate of a host.
        (live, Vec::from(pinned(port, &[live, B], "1d")), "localhost"),
        (live, vec![pair.clone()], "localhost"),
        (second, vec![pair], "localhost"),
        (middle, vec![low], "low.example.com"),
    ] {
        let parts = [&parts[..], &[compromised(&pki, &[stolen])]].concat();
        let outcome = site.accepts(&parts, &[LOADED]);
        for text in [
            format!("hpkp: [{LOADED}] {who}: "),
            "recorded as compromised (\"the laptop is gone\")".to_owned(),
            format!("compromised: sha256/{stolen}"),
        ] {
            assert!(outcome.text.contains(&text), "{text}: {}", outcome.text);
        }
    }
    let parts = [&pinned(port, &[live, B], "1d")[..], &[compromised(&pki, &[live])]].concat();
    let outcome = site.accepts(&parts, &[LOADED]);
    assert!(outcome.text.contains(&format!("pinned: sha256/{B}")), "{}", outcome.text);
    site.expect_in_log(&[&format!("[{LOADED}]")]);
    site.up();
    let started = format!("{}{}", site.terminal_output(), site.log());
    assert!(all_codes(&started).contains(&LOADED), "{started}");
    // A compromised key does not withhold the header.
    pki.write("html/index.html", "x");
    let curl = Curl::new(&pki.path("ca.pem"));
    assert_eq!(curl.get(&format!("https://localhost:{port}/")).pins().len(), 1);
    site.down();
}

pub fn a_compromised_key_is_no_backup<S: Server>() {
    const PINNED: &str = "compromised-key-pinned";
    let server = S::prepared();
    let pki = server.pki();
    let live = pki.pin("live.pem");
    let with = |pins: &[&str]| {
        let stolen = compromised(&pki, &[B]);
        [&pinned(free_port(), pins, "1d")[..], &[stolen]].concat()
    };
    let outcome = server.accepts(&with(&[&live, B]), &[NO_BACKUP, PINNED]);
    assert!(outcome.text.contains("key is compromised"), "{}", outcome.text);
    server.accepts(&with(&[&live, B, A]), &[PINNED]);
    server.accepts(&with(&[&live, A]), &[]);
}

pub fn un_pinning_with_a_key_that_is_not_pinned_passes<S: Site>() {
    let mut site = S::with_records();
    let pki = site.pki();
    let port = free_port();
    let records = [Part::All(published_pins(&["records", "writer=web-1"]))];
    for more in [&records[..], &[]] {
        let parts = [&pinned(port, &[A, B], "0")[..], more].concat();
        let outcome = site.accepts(&parts, &["no-pin-in-chain"]);
        assert!(outcome.text.contains("so it is not sent"), "{}", outcome.text);
        site.refuses(
            &[
                policy("site", [pin(A), pin(B), max_age("1")]),
                host("localhost", port, &["live"], [uses("site").here()]),
            ],
            "no-pin-in-chain",
        );
    }
    site.write(Written::new(&[&pinned(port, &[A, B], "0")[..], &records].concat(), S::KIND));
    site.expect_in_log(&["[no-pin-in-chain]"]);
    site.up();
    pki.write("html/index.html", "x");
    let curl = Curl::new(&pki.path("ca.pem"));
    assert_eq!(curl.get(&format!("https://localhost:{port}/")).pins(), [""; 0]);
    site.down();
}

pub fn un_pinning_does_not_lift_what_clients_hold<S: Site>() {
    let mut site = S::with_records();
    let pki = site.pki();
    pki.leaf("new", "localhost", "ca");
    let port = free_port();
    let records = Part::All(published_pins(&["records", "writer=web-1"]));
    let live = pki.pin("live.pem");
    let before = [&pinned(port, &[&live, B], "1d")[..], std::slice::from_ref(&records)].concat();
    site.write(Written::new(&before, S::KIND));
    site.up();
    for pins in [&[][..], &[A, B]] {
        let settings = pins.iter().map(|one| pin(*one)).chain([max_age("0")]);
        let parts = [
            records.clone(),
            policy("site", settings),
            host("localhost", port, &["new"], [uses("site")]),
        ];
        let outcome = site.says(&parts);
        assert_eq!(outcome.code, Some(1), "{}", outcome.text);
        assert!(outcome.codes().contains(&"published-pins-unmet"), "{}", outcome.text);
    }
    site.down();
}

pub fn un_pinning_without_a_pin_reaches_every_client<S: Site>() {
    let mut site = S::with_records();
    let pki = site.pki();
    pki.key("second", RSA);
    pki.sign("second", "/CN=localhost", "ca", &leaf_extensions("localhost"));
    let port = free_port();
    let parts = [
        policy("site", [max_age("0")]),
        host("localhost", port, &["live", "second"], [uses("site")]),
    ];
    let outcome = site.accepts(&parts, &[]);
    assert!(!outcome.text.contains(NO_WRITER), "{}", outcome.text);
    site.up();
    pki.write("html/index.html", "x");
    let curl = Curl::new(&pki.path("ca.pem"));
    let response = curl.get(&format!("https://localhost:{port}/"));
    let [value] = response.pins()[..] else { panic!("{response:?}") };
    for part in ["live.pem", "second.pem"].map(|file| format!("pin-sha256=\"{}\"", pki.pin(file))) {
        assert!(value.contains(&part), "{value}");
    }
    // The third pin is a backup, without which Chromium ignores the header.
    assert_eq!(value.matches("pin-sha256=").count(), 3, "{value}");
    assert!(value.ends_with("; max-age=0"), "{value}");
    site.down();
    // In a report-only policy `max-age=0` has no meaning, so the pins are missing.
    let report = super::configuration::report_uri("https://reports.example.net/");
    let parts = [
        policy("site", [max_age("0"), report]),
        host("localhost", port, &["live"], [uses_report_only("site")]),
    ];
    let outcome = site.says(&parts);
    assert_eq!(
        (outcome.code, outcome.codes()),
        (Some(1), vec!["too-few-pins"]),
        "{}",
        outcome.text
    );
}

/// Makes `odd.pem`, a root certificate in which a time lacks its `Z`. OpenSSL accepts it.
fn odd_root(pki: &Pki) {
    pki.key("odd", P256);
    pki.self_signed("odd", "/CN=odd", &[]);
    let path = |file: &str| pki.path(file).to_str().expect("a path").to_owned();
    let mut der = openssl(&["x509", "-in", &path("odd.pem"), "-outform", "der"]);
    let time = der.windows(2).position(|pair| pair == [0x17, 0x0d]).expect("a time");
    assert_eq!(std::mem::replace(&mut der[time + 14], b'0'), b'Z');
    pki.write("odd.der", der);
    let base64 = openssl(&["base64", "-in", &path("odd.der")]);
    let base64 = String::from_utf8(base64).expect("base64");
    let pem = format!("-----BEGIN CERTIFICATE-----\n{base64}-----END CERTIFICATE-----\n");
    pki.write("odd.pem", pem);
}

pub fn an_invalid_trusted_certificate_alone_is_skipped<S: Server>() {
    let mut server = S::prepared();
    let pki = server.pki();
    odd_root(&pki);
    pki.ca("good");
    pki.leaf("live", "localhost", "good");
    pki.bundle("both.pem", &["odd.pem", "good.pem", "odd.pem"]);
    let good = pki.pin("good.pem");
    let parts = pinned(free_port(), &[&good, B], "1d");
    // First the certificate is in a file that the configuration names, then in the system's store.
    let added = [&parts[..], &[Part::All(trusts("both.pem"))]].concat();
    let reports = |text: &str| {
        for part in
            ["left out: certificate 1 in ", "left out: certificate 3 in ", "both.pem", "CN=odd"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
    };
    reports(&server.accepts(&added, &["root-only-match", SKIPPED]).text);
    server.refuses(
        &[
            Part::All(trusts("odd.pem").here()),
            parts[0].clone(),
            host("localhost", free_port(), &["live"], [uses("site")]),
        ],
        "unreadable-trusted-certificate",
    );
    let both = server.path("both.pem").display().to_string();
    server.set_environment("SSL_CERT_FILE", &both);
    reports(&server.accepts(&parts, &["root-only-match", SKIPPED]).text);
    // The finding also appears without a policy, when only recorded pins are compared.
    pki.records("records");
    let bare = [
        Part::All(published_pins(&["records", "writer=web-1"])),
        host("localhost", free_port(), &["live"], []),
    ];
    reports(&server.accepts(&bare, &[SKIPPED]).text);
}

pub fn an_unreadable_store_is_reported<S: Server>() {
    let mut server = S::prepared();
    let pki = server.pki();
    let live = pki.pin("live.pem");
    let parts = pinned(free_port(), &[&live, B], "1d");
    server.accepts(&parts, &[]);
    std::fs::create_dir(pki.path("store")).expect("a directory");
    std::os::unix::fs::symlink("nowhere.pem", pki.path("store/0123abcd.0")).expect("a link");
    pki.write("store/0123abcd.1", "no certificate");
    std::fs::copy(pki.path("ca.pem"), pki.path("store/0123abcd.2")).expect("a copy");
    let store = server.path("store").display().to_string();
    let missing = server.path("missing.pem").display().to_string();
    server.set_environment("SSL_CERT_DIR", &store);
    server.set_environment("SSL_CERT_FILE", &missing);
    let outcome = server.accepts(&parts, &[SKIPPED]);
    for text in ["0123abcd.0", "0123abcd.1", "missing.pem"] {
        assert!(outcome.text.contains(text), "{text}: {}", outcome.text);
    }
    assert!(!outcome.text.contains("0123abcd.2"), "{}", outcome.text);
    // If neither the directory nor the file exists, there are no trusted certificates.
    server.set_environment("SSL_CERT_DIR", &missing);
    let outcome = server.accepts(&parts, &[SKIPPED]);
    for text in ["no trusted certificates", "missing.pem", "apt install ca-certificates"] {
        assert!(outcome.text.contains(text), "{text}: {}", outcome.text);
    }
}
