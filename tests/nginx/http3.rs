//! Responses, guarded certificates and resumed sessions over HTTP/3, which nginx has from 1.25 on.

use std::process::Command;

use hpkp_tests::cases::responses::{CASES, Case};
use hpkp_tests::client::parse;
use hpkp_tests::nginx::{Kind, Nginx, is_enough};
use hpkp_tests::site::{B, prepared};
use hpkp_tests::{free_port, succeed, target_dir};

use crate::responses::site;

#[test]
fn exactly_one_field_of_each_kind() {
    let (mut nginx, site) = site();
    // All cases without further arguments of curl, over one connection.
    let plain = |case: &Case| {
        let status = case.status(Kind::Nginx).filter(|_| case.arguments.is_empty())?;
        Some((case.path, status))
    };
    let cases: Vec<(&str, u16)> = CASES.iter().filter_map(plain).collect();
    assert!(cases.len() > 30);
    let mut client = Command::new(target_dir().join("http3/bin/python"));
    client.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/nginx/http3.py"));
    client.arg(&site.ca).args(["localhost", &site.https.to_string()]);
    let outcome = succeed(client.args(cases.iter().map(|(path, _)| path)));
    let responses = parse(&String::from_utf8(outcome).expect("UTF-8"));
    assert_eq!(responses.len(), cases.len());
    for ((path, status), response) in cases.into_iter().zip(responses) {
        assert_eq!(response.status, status, "{path}: {response:?}");
        assert_eq!(response.pins(), [&site.enforced], "{path}");
        assert_eq!(response.all("public-key-pins-report-only"), [&site.report_only], "{path}");
    }
    nginx.stop();
}

/// How many headers each of three new connections gets.
fn headers(nginx: &Nginx, port: u16) -> Vec<usize> {
    let ask = |_| {
        let mut client = Command::new(target_dir().join("http3/bin/python"));
        client.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/nginx/http3.py"));
        client.arg(nginx.path("ca.pem")).args(["localhost", &port.to_string(), "/"]);
        let outcome = succeed(&mut client);
        let responses = parse(&String::from_utf8(outcome).expect("UTF-8"));
        assert_eq!(responses[0].status, 200);
        responses[0].pins().len()
    };
    (0..3).map(ask).collect()
}

/// The last good certificate is presented with the header. With a certificate that fails the policy there would be
/// no header.
#[test]
fn a_guarded_certificate() {
    let mut nginx = prepared();
    nginx.expect_in_log(&["certificate-checked-at-handshake", "kept-certificate-served"]);
    nginx.pki().leaf("current", "localhost", "ca");
    nginx.pki().leaf("other", "localhost", "ca");
    let (pin, port) = (nginx.pki().pin("current.pem"), free_port());
    nginx.configure(&format!(
        "map $ssl_server_name $current {{ default current; }}
         hpkp_policy site {{ pin {pin}; pin {B}; max_age 1d; }}
         server {{ listen 127.0.0.1:{port} quic reuseport; listen 127.0.0.1:{port} ssl;
         server_name localhost; hpkp_guard $current.pem $current.key; hpkp site;
         ssl_certificate $hpkp_certificate; ssl_certificate_key $hpkp_certificate_key;
         return 200 x; }}"
    ));
    nginx.start();
    assert_eq!(headers(&nginx, port), [1, 1, 1]);
    for kind in ["pem", "key"] {
        let path = |name: &str| nginx.path(&format!("{name}.{kind}"));
        std::fs::copy(path("other"), path("current")).expect("a copy");
    }
    assert_eq!(headers(&nginx, port), [1, 1, 1]);
    let alerts =
        nginx.log().matches("[kept-certificate-served] localhost: the certificate").count();
    assert_eq!(alerts, 1, "{}", nginx.log());
    nginx.stop();
}

/// Replaces the certificate and the key that variables name.
fn present(nginx: &Nginx, name: &str) {
    for kind in ["pem", "key"] {
        let path = |name: &str| nginx.path(&format!("{name}.{kind}"));
        std::fs::copy(path(name), path("current")).expect("a copy");
    }
}

/// A resumed session over HTTP/3 counts with the certificate that its client saw at the full handshake: in both
/// workers, after a change of the certificate, and after a reload.
#[test]
fn resumed_sessions() {
    let mut nginx = prepared();
    nginx.expect_in_log(&["certificate-not-guarded"]);
    nginx.pki().leaf("one", "localhost", "ca");
    nginx.pki().leaf("two", "localhost", "ca");
    let (pin, port) = (nginx.pki().pin("one.pem"), free_port());
    nginx.configure_with(
        "worker_processes 2;",
        &format!(
            "map $ssl_server_name $current {{ default current; }} add_header Worker $pid always;
             hpkp_policy site {{ pin {pin}; pin {B}; max_age 1d; }}
             server {{ listen 127.0.0.1:{port} quic reuseport; listen 127.0.0.1:{port} ssl reuseport;
             server_name localhost; hpkp site unguarded;
             ssl_certificate $current.pem; ssl_certificate_key $current.key; return 200 x; }}"
        ),
    );
    let ask = |nginx: &Nginx, session: &str| {
        let mut client = Command::new(target_dir().join("http3/bin/python"));
        client.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/nginx/http3.py"));
        client.arg("--session").arg(nginx.path(session));
        client.arg(nginx.path("ca.pem")).args(["localhost", &port.to_string(), "/"]);
        let outcome = succeed(&mut client);
        let response =
            parse(&String::from_utf8(outcome).expect("UTF-8")).pop().expect("a response");
        let resumed = response.all("tls-session") == ["resumed"];
        (resumed, response.pins().len(), response.all("worker")[0].to_owned())
    };
    present(&nginx, "one");
    nginx.start();
    let mut workers = std::collections::HashSet::new();
    // The certificate, the number of headers sent with it, and the certificate when the session is resumed.
    for (name, sent, later) in [("one", 1, "two"), ("two", 0, "one")] {
        present(&nginx, name);
        let (resumed, first, _) = ask(&nginx, name);
        assert_eq!((resumed, first), (false, sent), "{name}");
        present(&nginx, later);
        for asked in 1.. {
            let (resumed, again, worker) = ask(&nginx, name);
            assert_eq!((resumed, again), (true, sent), "{name}");
            workers.insert(worker);
            if is_enough(asked, 10, workers.len()) {
                break;
            }
        }
    }
    assert_eq!(workers.len(), 2);
    assert_eq!(nginx.reload(), hpkp_tests::nginx::Reload::Accepted);
    for (name, before) in [("one", 1), ("two", 0)] {
        // The server presents `one` now.
        let (resumed, sent, _) = ask(&nginx, name);
        assert_eq!(sent, if resumed { before } else { 1 }, "{name}");
    }
    nginx.stop();
}
