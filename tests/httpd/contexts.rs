//! httpd sends the header only if the certificates of the connection satisfy the policy of the host that answers the
//! request.

use std::fs;

use hpkp_tests::client::{Curl, Response};
use hpkp_tests::free_port;
use hpkp_tests::httpd::{Httpd, Module, Mpm, listen, tls_vhost, wait};
use hpkp_tests::pki::{RSA, leaf_extensions};
use hpkp_tests::session::SessionClient;
use hpkp_tests::site::{A, B};

use crate::policy;

/// A server with certificates `a` and `b` for hosts of these names, besides `live`.
fn two_hosts() -> Httpd {
    let mut httpd = Httpd::furnished(Module::Shipped, Mpm::Event);
    httpd.load(&["dir"]);
    let pki = httpd.pki();
    pki.leaf("a", "a.example", "ca");
    pki.leaf("b", "b.example", "ca");
    pki.write("html/index.html", "x");
    // mod_ssl warns of hosts that have another host's certificate.
    httpd.expect_in_log(&["server certificate does NOT include an ID which matches"]);
    httpd
}

/// Names `sni` in the handshake and `host` in the request.
fn ask(httpd: &Httpd, port: u16, sni: &str, host: &str, version: &str) -> Response {
    let host = format!("Host: {host}");
    // The tests do not concern the certificate's name, so curl does not verify it.
    let curl = Curl::new(&httpd.path("ca.pem")).with(&["-k", version, "-H", &host]);
    curl.get(&format!("https://{sni}:{port}/"))
}

const VERSIONS: [&str; 2] = ["--http1.1", "--http2"];
const LOG: &str = "LogFormat \"%v %>s %{HPKP_STATUS}n\" told\nCustomLog told.log told\n";

/// `SSLVHostSNIPolicy` limits the hosts for which a connection may send requests; by default, to hosts with the same
/// certificate. httpd answers other requests with 421, without a pin field.
#[test]
fn a_host_other_than_the_one_named_in_the_handshake() {
    for (sni_policy, status) in [("", 421), ("SSLVHostSNIPolicy insecure\n", 200)] {
        let mut httpd = two_hosts();
        let pki = httpd.pki();
        let (pin_a, pin_b, port) = (pki.pin("a.pem"), pki.pin("b.pem"), free_port());
        httpd.configure(&format!(
            "{}{sni_policy}{LOG}{}{}{}{}",
            listen(&[port]),
            policy("a", &[&pin_a, B]),
            policy("b", &[&pin_b, B]),
            tls_vhost(port, "a.example", "a", "HPKPUse a"),
            tls_vhost(port, "b.example", "b", "HPKPUse b"),
        ));
        httpd.expect_in_log(&["AH02032: Hostname "]);
        httpd.start();
        for version in VERSIONS {
            for (host, pin) in [("a.example", &pin_a), ("b.example", &pin_b)] {
                let own = ask(&httpd, port, host, host, version);
                assert_eq!((own.status, own.pins().len()), (200, 1), "{version} {own:?}");
                assert!(own.pins()[0].contains(pin), "{version} {own:?}");
            }
            for (sni, host) in [("a.example", "b.example"), ("b.example", "a.example")] {
                let other = ask(&httpd, port, sni, host, version);
                assert_eq!((other.status, other.pins().len()), (status, 0), "{version} {other:?}");
            }
        }
        // Without a name in the handshake, the connection has the first host's certificate.
        let nameless = ask(&httpd, port, "127.0.0.1", "b.example", "--http1.1");
        assert_eq!((nameless.status, nameless.pins().len()), (status, 0), "{nameless:?}");
        let nameless = ask(&httpd, port, "127.0.0.1", "a.example", "--http1.1");
        assert_eq!((nameless.status, nameless.pins().len()), (200, 1), "{nameless:?}");

        let log = || fs::read_to_string(httpd.path("told.log")).unwrap_or_default();
        assert!(wait(|| log().lines().count() >= 10), "{}", log());
        assert!(log().contains("b.example 200 sent\n"), "{}", log());
        assert!(log().contains(&format!(" {status} withheld\n")), "{}", log());
        httpd.stop();
    }
}

#[test]
fn hosts_that_share_a_certificate() {
    let mut httpd = two_hosts();
    let (pin, port) = (httpd.pki().pin("a.pem"), free_port());
    // Each host has its own SSL_CTX, with the same certificate.
    httpd.configure(&format!(
        "{}{}{}{}",
        listen(&[port]),
        policy("site", &[&pin, B]),
        tls_vhost(port, "a.example", "a", "HPKPUse site"),
        tls_vhost(port, "b.example", "a", "HPKPUse site"),
    ));
    httpd.start();
    for version in VERSIONS {
        for (sni, host) in [("a.example", "b.example"), ("b.example", "a.example")] {
            let response = ask(&httpd, port, sni, host, version);
            assert_eq!((response.status, response.pins().len()), (200, 1), "{response:?}");
        }
    }
    httpd.stop();
}

#[test]
fn one_of_two_certificates_of_the_connection_is_not_pinned() {
    let mut httpd = two_hosts();
    let pki = httpd.pki();
    pki.key("rsa", RSA);
    pki.sign("rsa", "/CN=a.example", "ca", &leaf_extensions("a.example"));
    let (pin_a, port) = (pki.pin("a.pem"), free_port());
    // The first host has both keys; the other host's policy pins only the first.
    let both = "SSLCertificateFile rsa.pem\nSSLCertificateKeyFile rsa.key";
    httpd.configure(&format!(
        "{}SSLVHostSNIPolicy insecure\n{}{}{}",
        listen(&[port]),
        policy("site", &[&pin_a, B]),
        tls_vhost(port, "a.example", "a", both),
        tls_vhost(port, "b.example", "a", "HPKPUse site"),
    ));
    httpd.start();
    assert_eq!(ask(&httpd, port, "b.example", "b.example", "--http1.1").pins().len(), 1);
    // There is no header, whichever of the two keys the connection used.
    let other = ask(&httpd, port, "a.example", "b.example", "--http1.1");
    assert_eq!((other.status, other.pins().len()), (200, 0));
    httpd.stop();
}

/// httpd does not use the certificate stored in a session, nor which of two certificates a client got: with any session
/// cache, all certificates of the SSL_CTX of a resumed connection must satisfy the policy.
#[test]
fn resumed_connections_beside_another_kind_of_key() {
    let caches = ["SSLSessionCache shmcb:run/sessions(512000)", "SSLSessionCache none"];
    let ways = [
        (caches[0], "off", "-tls1_2"),
        (caches[0], "on", "-tls1_2"),
        (caches[1], "on", "-tls1_2"),
        (caches[0], "off", "-tls1_3"),
        (caches[1], "on", "-tls1_3"),
    ];
    for (cache, tickets, version) in ways {
        let mut httpd = two_hosts();
        let pki = httpd.pki();
        pki.key("rsa", RSA);
        pki.sign("rsa", "/CN=b.example", "ca", &leaf_extensions("b.example"));
        let (pin_a, pin_b, pin_rsa) = (pki.pin("a.pem"), pki.pin("b.pem"), pki.pin("rsa.pem"));
        let port = free_port();
        // b.example has both keys. Its policy pins both; the policy of a.example pins one of them and its own key.
        let both = "SSLCertificateFile rsa.pem\nSSLCertificateKeyFile rsa.key\nHPKPUse both";
        httpd.configure(&format!(
            "{}SSLVHostSNIPolicy insecure\n{cache}\nSSLSessionTickets {tickets}\n{}{}{}{}",
            listen(&[port]),
            policy("both", &[&pin_b, &pin_rsa, B]),
            policy("one", &[&pin_a, &pin_b, B]),
            tls_vhost(port, "b.example", "b", both),
            tls_vhost(port, "a.example", "a", "HPKPUse one"),
        ));
        httpd.start();
        let keys: [&[&str]; 2] = match version {
            "-tls1_2" => [
                &["-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"],
                &["-cipher", "ECDHE-RSA-AES128-GCM-SHA256"],
            ],
            _ => [&["-sigalgs", "ecdsa_secp256r1_sha256"], &["-sigalgs", "rsa_pss_rsae_sha256"]],
        };
        for key in keys {
            let arguments = [&[version], key].concat();
            let about = format!("{cache} {tickets} {arguments:?}");
            for (host, sent) in [("b.example", 1), ("a.example", 0)] {
                let client = SessionClient::new(&httpd.path("session"), &arguments);
                let first = client.begin(port, "b.example", host);
                assert_eq!((first.resumed, first.sent()), (false, sent), "{about} {host}");
                // Each request uses the newest session; several processes answer.
                for _ in 0..12 {
                    let answer = client.ask(port, "b.example", host);
                    assert_eq!((answer.resumed, answer.sent()), (true, sent), "{about} {host}");
                }
            }
        }
        httpd.stop();
    }
}

#[test]
fn certificates_and_policy_inherited_from_the_server() {
    let mut httpd = two_hosts();
    let (pin, port) = (httpd.pki().pin("a.pem"), free_port());
    let vhost = |name: &str, more: &str| {
        format!(
            "<VirtualHost 127.0.0.1:{port}>\nServerName {name}\nSSLEngine on\n{more}\n</VirtualHost>\n"
        )
    };
    let configuration = |pin: &str| {
        format!(
            "{}SSLCertificateFile a.pem\nSSLCertificateKeyFile a.key\n{}HPKPUse site\n{}{}{}",
            listen(&[port]),
            policy("site", &[pin, B]),
            vhost("a.example", ""),
            vhost("b.example", ""),
            vhost("c.example", "HPKPUse off"),
        )
    };
    httpd.configure(&configuration(A));
    let outcome = httpd.test();
    outcome.refused("no-pin-in-chain", httpd.line("HPKPUse site"));
    assert!(outcome.text.contains("affects 2 hosts: a.example, b.example"), "{}", outcome.text);
    httpd.configure(&configuration(&pin));
    httpd.test().accepted(&[]);
    httpd.start();
    for (host, pins) in [("a.example", 1), ("b.example", 1), ("c.example", 0)] {
        let response = ask(&httpd, port, host, host, "--http1.1");
        assert_eq!((response.status, response.pins().len()), (200, pins), "{host}");
    }
    httpd.stop();
}

#[test]
fn one_vhost_warns_where_another_refuses() {
    let mut httpd = two_hosts();
    let (pin, port) = (httpd.pki().pin("a.pem"), free_port());
    let configuration = |a: &str| {
        format!(
            "{}{}{}{}{}",
            listen(&[port]),
            policy("good", &[&pin, B]),
            policy("bad", &[A, B]),
            tls_vhost(port, "a.example", "a", &format!("HPKPUse {a}")),
            tls_vhost(port, "b.example", "b", "HPKPCheck warn\n HPKPUse bad"),
        )
    };
    httpd.configure(&configuration("bad"));
    httpd.test().refused("no-pin-in-chain", httpd.line("HPKPUse bad"));
    httpd.configure(&configuration("good"));
    httpd.test().accepted(&["no-pin-in-chain"]);
    httpd.expect_in_log(&["hpkp: [no-pin-in-chain] b.example:"]);
    httpd.start();
    assert_eq!(ask(&httpd, port, "a.example", "a.example", "--http1.1").pins().len(), 1);
    assert_eq!(ask(&httpd, port, "b.example", "b.example", "--http1.1").pins().len(), 0);
    httpd.stop();
}

/// The first vhost with a name on an address answers for that name.
#[test]
fn a_vhost_that_httpd_never_asks_is_not_compared() {
    let mut httpd = two_hosts();
    let (pin, port) = (httpd.pki().pin("a.pem"), free_port());
    let with = |first: &str, second: &str, more: &str| {
        format!(
            "{}{}{}{}",
            listen(&[port]),
            policy("site", &[&pin, B]),
            tls_vhost(port, "a.example", first, "HPKPUse site"),
            tls_vhost(port, "a.example", second, &format!("{more}\n HPKPUse site")),
        )
    };
    // The first vhost answers, whichever certificate the second has.
    httpd.configure(&with("b", "a", ""));
    httpd.test().refused("no-pin-in-chain", httpd.line("HPKPUse site"));
    httpd.configure(&with("a", "b", ""));
    httpd.test().accepted(&[]);
    httpd.start();
    let response = ask(&httpd, port, "a.example", "a.example", "--http1.1");
    assert_eq!((response.status, response.pins().len()), (200, 1));
    httpd.stop();
    // With a second name of its own, the second vhost answers and is compared.
    httpd.configure(&with("a", "b", "ServerAlias b.example"));
    httpd.test().refused("no-pin-in-chain", httpd.line(" HPKPUse site"));
}

/// Two addresses of one vhost, and a vhost for every address.
#[test]
fn vhosts_on_several_addresses() {
    let mut httpd = two_hosts();
    let (pin, one, two) = (httpd.pki().pin("a.pem"), free_port(), free_port());
    let configuration = |pin: &str| {
        format!(
            "{}{}{}",
            listen(&[one, two]),
            policy("site", &[pin, B]),
            tls_vhost(one, "a.example", "a", "HPKPUse site")
                .replace(&format!("127.0.0.1:{one}"), &format!("127.0.0.1:{one} _default_:{two}")),
        )
    };
    httpd.configure(&configuration(A));
    httpd.test().refused("no-pin-in-chain", httpd.line("HPKPUse site"));
    httpd.configure(&configuration(&pin));
    httpd.start();
    for port in [one, two] {
        let response = ask(&httpd, port, "a.example", "a.example", "--http2");
        assert_eq!((response.status, response.pins().len()), (200, 1), "{port}");
    }
    httpd.stop();
}

/// httpd uses the first vhost with a name. If that vhost has no TLS, clients get the certificate of the first vhost on
/// the address.
#[test]
fn a_vhost_without_tls_takes_its_name_from_the_next() {
    let httpd = two_hosts();
    let (pki, port) = (httpd.pki(), free_port());
    pki.records("records");
    let without = format!("<VirtualHost 127.0.0.1:{port}>\nServerName b.example\n</VirtualHost>\n");
    let with = |between: &str| {
        format!(
            "{}HPKPPublishedPins records\n{}{between}{}",
            listen(&[port]),
            tls_vhost(port, "a.example", "a", ""),
            tls_vhost(port, "b.example", "b", ""),
        )
    };
    hpkp_tests::recorded::held_by_an_app(
        &pki.path("records/apps.jsonl"),
        "b.example",
        &pki.pin("b.pem"),
    );
    httpd.configure(&with(""));
    httpd.test().accepted(&[]);
    httpd.configure(&with(&without));
    assert!(httpd.test().codes().contains(&"published-pins-unmet"));
}
