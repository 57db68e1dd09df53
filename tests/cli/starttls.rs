//! Servers that begin in plain text (STARTTLS), and servers that do not reveal all their certificates.

use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};

use hpkp_tests::pki::{P256, Pki, leaf_extensions};
use serde_json::json;

use crate::outside::{acceptor, script, starttls};
use crate::records::{Records, pin};
use crate::{Outcome, run};

const HOST: &str = "mx.example.com";
const SMTP: &[&str] = &["220 ready\r\n", "250-mx\r\n250-SIZE 1\r\n250 STARTTLS\r\n", "220 go\r\n"];

/// Records, and a CA with certificates `old` and `next` for the host.
fn site() -> (Records, Pki) {
    let records = Records::new();
    let pki = Pki::new(records.0.path());
    pki.ca("ca");
    for name in ["old", "next"] {
        pki.key(name, P256);
        pki.sign(name, &format!("/CN={HOST}"), "ca", &leaf_extensions(HOST));
    }
    (records, pki)
}

/// A server with TLS at once that answers only the first of three connections: the command gets the certificate of
/// most clients, but not those of others.
fn reticent(pki: &Pki, name: &str) -> u16 {
    let (acceptor, count) = (acceptor(pki, name), AtomicUsize::new(0));
    script(move |stream: TcpStream| {
        if count.fetch_add(1, Ordering::Relaxed) % 3 == 0 {
            let _ = acceptor.accept(stream);
        } else {
            hold(stream);
        }
    })
}

/// Keeps a connection open and never answers.
fn hold(stream: TcpStream) {
    std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_secs(30));
        drop(stream);
    });
}

/// Writes the files of an ACME client: the certificate `next` and its key.
fn renewed(pki: &Pki) {
    std::fs::create_dir(pki.path("new")).expect("a directory");
    for (from, to) in [("next.pem", "new/fullchain.pem"), ("next.key", "new/privkey.pem")] {
        std::fs::copy(pki.path(from), pki.path(to)).expect("a copy");
    }
}

/// Installs that certificate, and has the command check what a port of this machine serves then.
fn install_from(records: &Records, port: u16, more: &[&str]) -> Outcome {
    let server = format!("127.0.0.1:{port}");
    let words = "install --from new --to live --test true --reload true -d records --trusted-certificate ca.pem \
                 --timeout 1 --json --served";
    let arguments: Vec<&str> = words.split_ascii_whitespace().chain([&*server]).collect();
    run(records.0.path(), &[&arguments[..], more].concat())
}

#[test]
fn status_reads_the_certificate_of_a_mail_server() {
    let (records, pki) = site();
    let port = starttls(&pki, "old", SMTP).to_string();
    let old = pin(&pki.pin("old.pem"));
    records.recorded(&["add", HOST, "--origin", "app", "--port", &port, "--pin", &old]);
    let status = |more: &[&str]| {
        let usual = ["status", "-d", "records", "--connect", "127.0.0.1", "--timeout", "2"];
        run(records.0.path(), &[&usual, more, &["--json"]].concat())
    };
    let outcome = status(&["--starttls", &format!("{port}=smtp")]);
    assert_eq!(
        (outcome.code, outcome.json()["answer"].as_str()),
        (Some(0), Some("yes")),
        "{outcome:?}"
    );
    let served = &outcome.json()["hosts"][0]["served"][0];
    assert_eq!(served["chains"][0][0]["pin"], old.as_str());
    // Without the option the command expects TLS at once, and with another protocol it fails too.
    for more in [&[][..], &["--starttls", &format!("{port}=imap")]] {
        let outcome = status(more);
        assert_eq!(
            (outcome.code, outcome.json()["answer"].as_str()),
            (Some(3), Some("unknown")),
            "{outcome:?}"
        );
    }
    for wrong in ["smtp", "25", "25=ftp", "0=smtp"] {
        assert_eq!(status(&["--starttls", wrong]).code, Some(2), "{wrong}");
    }
}

#[test]
fn install_checks_the_certificate_of_a_mail_server() {
    let (records, pki) = site();
    renewed(&pki);
    let port = starttls(&pki, "next", SMTP);
    let install = |starttls: &str| install_from(&records, port, &["--starttls", starttls]);
    let outcome = install(&format!("{port}=none"));
    assert_eq!(outcome.json()["outcome"], "rolled-back", "{outcome:?}");
    let outcome = install(&format!("{port}=smtp"));
    assert_eq!(
        (outcome.code, &outcome.json()["outcome"]),
        (Some(0), &json!("installed")),
        "{outcome:?}"
    );
    assert_eq!(outcome.json()["served"][0]["presents"], "new");
}

/// A server may have a certificate for each kind of key. A command that cannot find out reports that.
#[test]
fn unknown_other_certificates_of_a_server_are_reported() {
    let (records, pki) = site();
    let message = "cannot tell whether the server has a certificate with an RSA key too";
    // Answers the first connection, and listens no more.
    let closing = |pki: &Pki| {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a socket");
        let address = listener.local_addr().expect("an address").to_string();
        let acceptor = acceptor(pki, "old");
        std::thread::spawn(move || {
            let (stream, _) = listener.accept().expect("a connection");
            drop(listener);
            let _ = acceptor.accept(stream);
        });
        address
    };
    let check =
        ["renew-check", "-d", "records", "--trusted-certificate", "ca.pem", HOST, "--server"];
    let outcome = run(records.0.path(), &[&check[..], &[&closing(&pki)]].concat());
    outcome.failed(3, message);
    assert!(outcome.out.starts_with("unknown: "), "{outcome:?}");
    let outcome = run(records.0.path(), &[&check[..], &[&closing(&pki), "--json"]].concat());
    assert!(
        outcome.json()["unknown"][0].as_str().is_some_and(|text| text.contains(message)),
        "{outcome:?}"
    );
    let plan = ["plan", HOST, "-d", "records", "--to", "new-key", "--pin", "next.pem", "--server"];
    run(records.0.path(), &[&plan[..], &[&closing(&pki)]].concat()).failed(3, message);
}

#[test]
fn an_install_reports_unknown_other_certificates() {
    let (records, pki) = site();
    renewed(&pki);
    let outcome = install_from(&records, reticent(&pki, "next"), &[]);
    assert_eq!(
        (outcome.code, &outcome.json()["outcome"]),
        (Some(0), &json!("installed")),
        "{outcome:?}"
    );
    assert_eq!(outcome.json()["warnings"][0]["code"], "other-certificates-unknown", "{outcome:?}");
    let unknown = &outcome.json()["served"][0]["unknown"];
    assert!(unknown[0].as_str().is_some_and(|text| text.contains("RSA")), "{outcome:?}");
}
