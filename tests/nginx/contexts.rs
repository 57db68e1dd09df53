//! nginx sends the header only if the certificates of the connection satisfy the policy of the host that answers
//! the request.

use std::process::Command;

use hpkp_tests::client::{Curl, Response};
use hpkp_tests::free_port;
use hpkp_tests::nginx::{Nginx, Reload, tls_server, with_http2};

use hpkp_tests::recorded::{held_by_an_app, held_on_port};
use hpkp_tests::site::{A, B, prepared};

/// A server with certificates `a` and `b` for hosts of these names, besides `live`.
fn two_hosts() -> Nginx {
    let nginx = prepared();
    let pki = nginx.pki();
    pki.leaf("a", "a.example", "ca");
    pki.leaf("b", "b.example", "ca");
    nginx
}

fn policy(name: &str, pin: &str) -> String {
    format!("hpkp_policy {name} {{ pin {pin}; pin {B}; max_age 1d; }}\n")
}

/// Names `sni` in the handshake and `host` in the request.
fn ask(nginx: &Nginx, port: u16, sni: &str, host: &str, version: &str) -> Response {
    let host = format!("Host: {host}");
    // The tests do not concern the certificate's name, so curl does not verify it.
    let curl = Curl::new(&nginx.path("ca.pem")).with(&["-k", version, "-H", &host]);
    curl.get(&format!("https://{sni}:{port}/"))
}

const VERSIONS: [&str; 2] = ["--http1.1", "--http2"];

#[test]
fn a_host_other_than_the_one_named_in_the_handshake() {
    let mut nginx = two_hosts();
    let pki = nginx.pki();
    let (pin_a, pin_b, port) = (pki.pin("a.pem"), pki.pin("b.pem"), free_port());
    nginx.configure(&with_http2(&format!(
        "log_format told '$host $hpkp_status'; access_log told.log told;\n{}{}{}{}",
        policy("a", &pin_a),
        policy("b", &pin_b),
        tls_server(port, "a.example", "a", "hpkp a; return 200 a;"),
        tls_server(port, "b.example", "b", "hpkp b; return 200 b;"),
    )));
    nginx.start();
    for version in VERSIONS {
        assert!(ask(&nginx, port, "a.example", "a.example", version).pins()[0].contains(&pin_a));
        assert!(ask(&nginx, port, "b.example", "b.example", version).pins()[0].contains(&pin_b));
        for (sni, host) in [("a.example", "b.example"), ("b.example", "a.example")] {
            let response = ask(&nginx, port, sni, host, version);
            assert_eq!((response.status, response.pins().len()), (200, 0), "{version}");
        }
    }
    let log = || std::fs::read_to_string(nginx.path("told.log")).unwrap_or_default();
    assert!(hpkp_tests::nginx::wait(|| log().lines().count() >= 8));
    assert!(log().contains("b.example withheld\n") && log().contains("b.example sent\n"));
    nginx.stop();
}

#[test]
fn hosts_that_share_a_certificate() {
    let mut nginx = two_hosts();
    let (pin, port) = (nginx.pki().pin("a.pem"), free_port());
    // Each host has its own SSL_CTX, with the same certificate.
    nginx.configure(&with_http2(&format!(
        "{}{}{}",
        policy("site", &pin),
        tls_server(port, "a.example", "a", "hpkp site; return 200 a;"),
        tls_server(port, "b.example", "a", "hpkp site; return 200 b;"),
    )));
    nginx.start();
    for version in VERSIONS {
        for (sni, host) in [("a.example", "b.example"), ("b.example", "a.example")] {
            assert_eq!(ask(&nginx, port, sni, host, version).pins().len(), 1);
        }
    }
    nginx.stop();
}

#[test]
fn one_of_two_certificates_of_the_connection_is_pinned() {
    let mut nginx = two_hosts();
    let pki = nginx.pki();
    pki.key("rsa", hpkp_tests::pki::RSA);
    pki.sign("rsa", "/CN=a.example", "ca", &hpkp_tests::pki::leaf_extensions("a.example"));
    let (pin_a, port) = (pki.pin("a.pem"), free_port());
    // The default server has both keys; the other server's policy pins only the first.
    nginx.configure(&format!(
        "{}{}{}",
        policy("site", &pin_a),
        tls_server(
            port,
            "a.example",
            "a",
            "ssl_certificate rsa.pem; ssl_certificate_key rsa.key; return 200 a;"
        ),
        tls_server(port, "b.example", "a", "hpkp site; return 200 b;"),
    ));
    nginx.start();
    assert_eq!(ask(&nginx, port, "b.example", "b.example", "--http1.1").pins().len(), 1);
    for (cipher, expected) in
        [("ECDHE-ECDSA-AES128-GCM-SHA256", 1), ("ECDHE-RSA-AES128-GCM-SHA256", 0)]
    {
        let curl = Curl::new(&nginx.path("ca.pem")).with(&["-k", "--tls-max", "1.2"]);
        let curl = curl.with(&["--ciphers", cipher, "-H", "Host: b.example"]);
        let response = curl.get(&format!("https://a.example:{port}/"));
        assert_eq!(response.pins().len(), expected, "{cipher}");
    }
    nginx.stop();
}

#[test]
fn a_server_without_a_certificate_presents_that_of_the_default() {
    let mut nginx = two_hosts();
    let (pin, port) = (nginx.pki().pin("a.pem"), free_port());
    let servers = |b: &str| {
        format!(
            "{}{}{}server {{ listen 127.0.0.1:{port} ssl; server_name b.example; {b} return 200 b; }}
             server {{ listen 127.0.0.1:{port}; server_name c.example; {b} return 200 c; }}",
            policy("site", &pin),
            policy("other", A),
            tls_server(port, "a.example", "a", "return 200 a;"),
        )
    };
    nginx.configure(&servers("hpkp other;"));
    let outcome = nginx.test();
    outcome.refused("no-pin-in-chain", Nginx::FIRST_LINE + 3);
    assert!(outcome.text.contains("affects 2 hosts: b.example, c.example"), "{}", outcome.text);

    nginx.configure(&servers("hpkp site;"));
    nginx.test().accepted(&[]);
    nginx.start();
    for host in ["b.example", "c.example"] {
        assert_eq!(ask(&nginx, port, host, host, "--http1.1").pins().len(), 1, "{host}");
    }
    assert_eq!(ask(&nginx, port, "a.example", "a.example", "--http1.1").pins().len(), 0);
    nginx.stop();
}

#[test]
fn certificates_with_variables_are_not_known() {
    let mut nginx = two_hosts();
    let (pin, port) = (nginx.pki().pin("a.pem"), free_port());
    nginx.configure(&format!(
        "{}hpkp_policy tried {{ pin {pin}; report_uri https://r.example/; }}
         map $ssl_server_name $name {{ default a; }}
         server {{ listen 127.0.0.1:{port} ssl; server_name a.example;
                   ssl_certificate $name.pem; ssl_certificate_key $name.key;
                   hpkp site; hpkp_report_only tried; return 200 a; }}",
        policy("site", &pin)
    ));
    nginx.test().accepted(&["certificate-not-known-at-load"]);
    nginx.expect_in_log(&["hpkp: [certificate-not-known-at-load] a.example:"]);
    nginx.start();
    let response = ask(&nginx, port, "a.example", "a.example", "--http1.1");
    assert_eq!((response.status, response.pins().len()), (200, 0));
    assert_eq!(response.all("public-key-pins-report-only").len(), 1);
    nginx.stop();
}

#[test]
fn handshakes_that_are_rejected_present_nothing() {
    let mut nginx = two_hosts();
    let (pin, port) = (nginx.pki().pin("a.pem"), free_port());
    nginx.configure(&format!(
        "{}server {{ listen 127.0.0.1:{port} ssl default_server; ssl_reject_handshake on; hpkp site; }}
         server {{ listen 127.0.0.1:{port} ssl; server_name x.example; ssl_reject_handshake on;
                   ssl_certificate b.pem; ssl_certificate_key b.key; hpkp site; return 200 x; }}
         {}",
        policy("site", &pin),
        tls_server(port, "a.example", "a", "hpkp site; return 200 a;")
    ));
    nginx.test().accepted(&[]);
    nginx.start();
    assert_eq!(ask(&nginx, port, "a.example", "a.example", "--http1.1").pins().len(), 1);
    let curl = Curl::new(&nginx.path("ca.pem")).with(&["-k"]);
    assert_eq!(curl.exit_code(&format!("https://x.example:{port}/")), Some(35));
    // The connection has a's certificate, and host x, which rejects handshakes, has none to compare.
    let response = ask(&nginx, port, "a.example", "x.example", "--http1.1");
    assert_eq!(response.pins().len(), 1, "a's certificate satisfies the policy of x");
    nginx.stop();
}

/// A host with held pins that now rejects handshakes is reported like a port that was closed.
#[test]
fn a_pinned_host_that_rejects_handshakes_is_closed() {
    let mut nginx = two_hosts();
    let (pki, port) = (nginx.pki(), free_port());
    pki.records("records");
    held_by_an_app(&nginx.path("records/apps.jsonl"), "a.example", &pki.pin("a.pem"));
    let server = |host, file| tls_server(port, host, file, "return 200 x;");
    let configure = |nginx: &Nginx, a: &str| {
        let b = server("b.example", "b");
        nginx.configure(&format!("hpkp_published_pins records writer=web-1;\n{b}{a}"));
    };
    configure(&nginx, &server("a.example", "a"));
    nginx.test().accepted(&[]);
    nginx.start();
    configure(
        &nginx,
        &format!(
            "server {{ listen 127.0.0.1:{port} ssl; server_name a.example; ssl_reject_handshake on; }}"
        ),
    );
    let outcome = nginx.test();
    outcome.accepted(&["pinned-port-closed"]);
    assert!(
        outcome.text.contains(&format!("served a.example:{port} with TLS")),
        "{}",
        outcome.text
    );
    nginx.expect_in_log(&["hpkp: [pinned-port-closed]"]);
    assert_eq!(nginx.reload(), Reload::Accepted);
    nginx.test().accepted(&[]);
    nginx.stop();
}

#[test]
fn certificates_inherited_from_http() {
    let mut nginx = two_hosts();
    let (pin, port) = (nginx.pki().pin("a.pem"), free_port());
    let configuration = |pin: &str| {
        format!(
            "{}ssl_certificate a.pem; ssl_certificate_key a.key; hpkp site;
             server {{ listen 127.0.0.1:{port} ssl; server_name a.example; return 200 a; }}
             server {{ listen 127.0.0.1:{port} ssl; server_name b.example; return 200 b; }}",
            policy("site", pin)
        )
    };
    nginx.configure(&configuration(A));
    nginx.test().refused("no-pin-in-chain", Nginx::FIRST_LINE + 1);
    nginx.configure(&configuration(&pin));
    nginx.start();
    for host in ["a.example", "b.example"] {
        assert_eq!(ask(&nginx, port, host, host, "--http1.1").pins().len(), 1, "{host}");
    }
    nginx.stop();
}

#[test]
fn one_server_warns_where_another_refuses() {
    let mut nginx = two_hosts();
    let (pin, port) = (nginx.pki().pin("a.pem"), free_port());
    let configuration = |a: &str| {
        format!(
            "{}{}{}{}",
            policy("good", &pin),
            policy("bad", A),
            tls_server(port, "a.example", "a", &format!("hpkp {a}; return 200 a;")),
            tls_server(port, "b.example", "b", "hpkp bad; hpkp_check warn; return 200 b;"),
        )
    };
    nginx.configure(&configuration("bad"));
    nginx.test().refused("no-pin-in-chain", Nginx::FIRST_LINE + 2);
    nginx.configure(&configuration("good"));
    nginx.expect_in_log(&["[alert]"]);
    nginx.start();
    assert_eq!(ask(&nginx, port, "a.example", "a.example", "--http1.1").pins().len(), 1);
    assert_eq!(ask(&nginx, port, "b.example", "b.example", "--http1.1").pins().len(), 0);
    nginx.stop();
}

#[test]
fn a_block_that_nginx_never_asks_is_not_compared() {
    let mut nginx = two_hosts();
    let (pin, port) = (nginx.pki().pin("a.pem"), free_port());
    // nginx ignores the second block of the same name and logs that, so its certificate is not compared.
    for [first, second] in [
        ["*.a.example a.example", ".a.example"],
        ["*.a.example", ".a.example"],
        [".a.example", "a.example *.a.example"],
        ["a.example", ".a.example"],
        ["a.example", "a.example"],
    ] {
        nginx.configure(&format!(
            "{}{}{}",
            policy("site", &pin),
            tls_server(port, first, "a", "hpkp site; return 200 a;"),
            tls_server(port, second, "b", "hpkp site; return 200 b;"),
        ));
        let outcome = nginx.test();
        outcome.accepted(&[]);
        assert!(outcome.text.contains("conflicting server name"), "{}", outcome.text);
    }
    nginx.start();
    assert_eq!(ask(&nginx, port, "a.example", "a.example", "--http1.1").pins().len(), 1);
    nginx.stop();
    // With a second name of its own, the block answers requests and is compared.
    nginx.configure(&format!(
        "{}{}{}",
        policy("site", &pin),
        tls_server(port, "a.example", "a", "hpkp site; return 200 a;"),
        tls_server(port, "a.example b.example", "b", "hpkp site; return 200 b;"),
    ));
    nginx.test().refused("no-pin-in-chain", Nginx::FIRST_LINE + 2);
}

/// nginx ignores `.a.example` where a block before it has `a.example`, but leaves the wildcard to a block behind it. If
/// the block before has `*.a.example`, no block behind it gets `a.example`.
#[test]
fn a_block_behind_an_ignored_name_is_compared_if_nginx_asks_it() {
    for ([first, third], host, other, is_asked) in [
        (["a.example", "*.a.example"], "www.a.example", "b", true),
        (["*.a.example", "a.example"], "a.example", "a", false),
    ] {
        let mut nginx = prepared();
        let (pki, port) = (nginx.pki(), free_port());
        for name in ["a", "b", "new"] {
            pki.leaf(name, host, "ca");
        }
        pki.records("records");
        held_by_an_app(&nginx.path("records/apps.jsonl"), host, &pki.pin(&format!("{other}.pem")));
        let text = |certificate: &str| {
            format!(
                "hpkp_published_pins records writer=web-1;\n{}{}{}",
                tls_server(port, first, "a", "add_header block 1; return 200;"),
                tls_server(port, ".a.example", "live", "add_header block 2; return 200;"),
                tls_server(port, third, certificate, "add_header block 3; return 200;"),
            )
        };
        nginx.configure(&text("b"));
        nginx.start();
        let response = ask(&nginx, port, host, host, "--http1.1");
        assert_eq!(response.all("block"), [if is_asked { "3" } else { "1" }]);
        nginx.configure(&text("new"));
        match is_asked {
            true => nginx.test().refused("published-pins-unmet", Nginx::FIRST_LINE),
            false => nginx.test().accepted(&[]),
        }
        nginx.stop();
    }
}

/// nginx compares names only with the blocks of the address on which a connection came in. A block that takes an address
/// from the others, or leaves it to them, gets its clients; those who ignore names in certificates notice the key alone.
#[test]
fn clients_who_ignore_names_of_an_address_that_another_block_gets() {
    let mut nginx = two_hosts();
    let (pki, port) = (nginx.pki(), free_port());
    let block = |listen: &str, name: &str| {
        let listen = format!("{listen}:");
        tls_server(port, &format!("{name}.example"), name, "return 200;")
            .replace("127.0.0.1:", &listen)
    };
    let [a, b] = ["a", "b"].map(|name| block("*", name));
    let own = |address: &str| block(address, "a");
    for (records, before, after) in [
        ("taken", a.clone(), format!("{a}{}", block("127.0.0.1", "b"))),
        (
            "left",
            format!("{b}{}{}", own("127.0.0.1"), own("127.0.0.2")),
            format!("{b}{}", own("127.0.0.2")),
        ),
    ] {
        pki.records(records);
        let curl = nginx.path(records).join("curl.jsonl");
        held_on_port(&curl, "a.example", port, &pki.pin("a.pem"));
        let text = |http: &str| format!("hpkp_published_pins {records} writer=web-1;\n{http}");
        nginx.configure(&text(&before));
        nginx.start();
        nginx.configure(&text(&after));
        nginx.test().refused("published-pins-unmet", Nginx::FIRST_LINE);
        nginx.stop();
        // The pin of curl says who is right.
        let pin = format!("sha256//{}", pki.pin("a.pem").trim_start_matches("sha256/"));
        for (http, code) in [(&before, Some(0)), (&after, Some(90))] {
            nginx.configure_without_module(http);
            nginx.start();
            let mut curl = Command::new("curl");
            curl.args(["-sk", "--pinnedpubkey", &pin, "--resolve"]);
            curl.arg(format!("a.example:{port}:127.0.0.1"));
            let status =
                curl.arg(format!("https://a.example:{port}/")).output().expect("curl").status;
            assert_eq!(status.code(), code, "{http}");
            nginx.stop();
        }
    }
}
