//! TLSA records: the check must accept the certificates that OpenSSL's client accepts in real handshakes.

use std::path::Path;
use std::process::{Command, Stdio};

use hpkp_tests::pki::{Pki, openssl};

use crate::clients::{HOST, Server, chain};
use crate::records::Records;

/// The data of a TLSA record in hexadecimal digits.
fn association(pki: &Pki, name: &str, selector: u8, matching: u8) -> String {
    let file = pki.path(&format!("{name}.pem"));
    let file = file.to_str().expect("UTF-8");
    let der = match selector {
        0 => openssl(&["x509", "-in", file, "-outform", "der"]),
        _ => {
            let key = pki.write("key.pub", openssl(&["x509", "-in", file, "-pubkey", "-noout"]));
            openssl(&["pkey", "-pubin", "-in", key.to_str().expect("UTF-8"), "-outform", "der"])
        }
    };
    let data = match matching {
        0 => der,
        1 => openssl_hash(pki, &der, "-sha256"),
        _ => openssl_hash(pki, &der, "-sha512"),
    };
    data.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn openssl_hash(pki: &Pki, der: &[u8], digest: &str) -> Vec<u8> {
    let file = pki.write("data.der", der);
    openssl(&["dgst", digest, "-binary", file.to_str().expect("UTF-8")])
}

fn record(pki: &Pki, usage: u8, selector: u8, matching: u8, name: &str) -> String {
    format!("{usage} {selector} {matching} {}", association(pki, name, selector, matching))
}

/// Whether OpenSSL's client accepts the server; `None` where it can use none of the records.
fn openssl_accepts(pki: &Pki, server: &Server, host: &str, records: &[String]) -> Option<bool> {
    let mut command = Command::new("openssl");
    command
        .args(["s_client", "-brief", "-connect", &format!("127.0.0.1:{}", server.1)])
        .args(["-servername", host, "-dane_tlsa_domain", host, "-dane_ee_no_namechecks"])
        .args(["-verify_return_error", "-no-CApath", "-no-CAstore", "-CAfile"])
        .arg(pki.path("root.pem"));
    for record in records {
        command.args(["-dane_tlsa_rrdata", record]);
    }
    let ran = command.stdin(Stdio::null()).output().expect("openssl");
    let outcome = String::from_utf8_lossy(&ran.stderr).into_owned();
    if outcome.contains("Failed to import any TLSA records") {
        return None;
    }
    Some(ran.status.success() && outcome.contains("Verification: OK"))
}

/// Whether the check accepts the certificates, after an import of these records from a zone.
fn check_accepts(directory: &Path, host: &str, records: &[String], sent: &str) -> bool {
    let place = Records::new();
    let zone: String =
        records.iter().map(|record| format!("_443._tcp.{host}. 300 IN TLSA {record}\n")).collect();
    std::fs::write(place.0.path().join("zone"), zone).expect("a zone");
    let outcome = place.run(&["import", "--format", "tlsa", "--origin", "zone", "zone"]);
    assert_eq!(outcome.code, Some(0), "{records:?}: {outcome:?}");
    let file = |name: &str| directory.join(name).to_str().expect("UTF-8").to_owned();
    let (root, sent) = (file("root.pem"), file(sent));
    let outcome = place.run(&["why", host, "--trusted-certificate", &root, "--cert", &sent]);
    assert!(matches!(outcome.code, Some(0 | 1)), "{records:?}: {outcome:?}");
    outcome.code == Some(0)
}

/// A server that sends the intermediate, and one that sends the root as well.
fn servers(pki: &Pki) -> [(Server, &'static str); 2] {
    pki.bundle("both.pem", &["inter.pem", "root.pem"]);
    pki.bundle("short.chain", &["leaf.pem", "inter.pem"]);
    pki.bundle("long.chain", &["leaf.pem", "inter.pem", "root.pem"]);
    [
        (Server::start(pki, "inter.pem"), "short.chain"),
        (Server::start(pki, "both.pem"), "long.chain"),
    ]
}

#[test]
fn each_combination_is_met_where_openssl_accepts_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let pki = chain(directory.path());
    pki.ca("other");
    let mut answers = [0; 2];
    for (server, sent) in servers(&pki) {
        for usage in 0..4_u8 {
            for selector in 0..2_u8 {
                for matching in 0..3_u8 {
                    for name in ["leaf", "inter", "root", "other"] {
                        let records = [record(&pki, usage, selector, matching, name)];
                        let accepted = openssl_accepts(&pki, &server, HOST, &records);
                        let accepted = accepted.expect("a usable record");
                        let passes = check_accepts(directory.path(), HOST, &records, sent);
                        assert_eq!(passes, accepted, "{sent} {usage} {selector} {matching} {name}");
                        answers[usize::from(passes)] += 1;
                    }
                }
            }
        }
    }
    assert!(answers.iter().all(|count| *count > 40), "{answers:?}");
}

#[test]
fn pairs_are_met_where_openssl_accepts_them() {
    let directory = tempfile::tempdir().expect("a directory");
    let pki = chain(directory.path());
    pki.ca("other");
    let kinds = [
        (3, 1, 1, "leaf"),
        (3, 1, 1, "other"),
        (3, 1, 2, "leaf"),
        (3, 1, 2, "other"),
        (3, 1, 0, "other"),
        (3, 0, 1, "leaf"),
        (3, 0, 1, "other"),
        (2, 1, 1, "inter"),
        (2, 1, 1, "root"),
        (2, 1, 2, "other"),
        (2, 0, 1, "root"),
        (2, 0, 0, "root"),
        (2, 1, 0, "root"),
        (1, 1, 1, "leaf"),
        (1, 1, 1, "other"),
        (0, 1, 1, "root"),
        (0, 1, 2, "other"),
    ];
    let mut all: Vec<String> =
        kinds.iter().map(|(u, s, m, name)| record(&pki, *u, *s, *m, name)).collect();
    let digits = association(&pki, "leaf", 1, 1);
    // Records that no client can use: a digest that is too short, an unknown usage and an unknown matching type.
    all.extend([format!("3 1 2 {digits}"), format!("7 1 1 {digits}"), format!("3 1 9 {digits}")]);
    let mut answers = [0; 2];
    for (server, sent) in servers(&pki) {
        for (at, one) in all.iter().enumerate() {
            for two in &all[at + 1..] {
                let records = [one.clone(), two.clone()];
                let Some(accepted) = openssl_accepts(&pki, &server, HOST, &records) else {
                    continue;
                };
                let passes = check_accepts(directory.path(), HOST, &records, sent);
                assert_eq!(passes, accepted, "{sent} {records:?}");
                answers[usize::from(passes)] += 1;
            }
        }
    }
    assert!(answers.iter().all(|count| *count > 60), "{answers:?}");
}

#[test]
fn usages_other_than_3_check_the_name() {
    let directory = tempfile::tempdir().expect("a directory");
    let pki = chain(directory.path());
    let [(server, sent), _] = servers(&pki);
    for (usage, name) in [(0, "inter"), (1, "leaf"), (2, "inter"), (3, "leaf")] {
        for host in [HOST, "mail.example.com"] {
            let records = [record(&pki, usage, 1, 1, name)];
            let accepted = openssl_accepts(&pki, &server, host, &records).expect("a record");
            assert_eq!(accepted, host == HOST || usage == 3, "{usage} {host}");
            let passes = check_accepts(directory.path(), host, &records, sent);
            assert_eq!(passes, accepted, "{usage} {host}");
        }
    }
}
