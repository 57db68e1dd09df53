//! Which virtual host answers, and whether it is on TLS: the check compares pins with the one that a client finds.

use hpkp_core::pin::Pin;
use hpkp_core::published::{Published, Scope};
use hpkp_tests::client::Curl;
use hpkp_tests::free_port;
use hpkp_tests::httpd::Httpd;
use hpkp_tests::layout::Site as _;
use hpkp_tests::pki::P256;
use hpkp_tests::recorded;

const RECORDS: &str = "HPKPPublishedPins records writer=web-1\n";
const UNMET: &str = "published-pins-unmet";

/// A server with certificates `a` and `b`, both for all these hosts, and records in which clients of an app hold the
/// pin of one of them for a host at the port.
fn pinned(certificate: &str, host: &str, port: u16) -> Httpd {
    let mut httpd = Httpd::with_records();
    let pki = httpd.pki();
    for name in ["a", "b"] {
        pki.key(name, P256);
        let names = "subjectAltName=DNS:a.example,DNS:b.example,DNS:z.example";
        pki.self_signed(
            name,
            &format!("/CN={name}"),
            &["basicConstraints=critical,CA:FALSE", names],
        );
    }
    let pin: Pin = pki.pin(&format!("{certificate}.pem")).parse().expect("a pin");
    let app =
        Published { scope: Scope::Chain, port: Some(port), ..recorded::held(host, vec![pin]) };
    recorded::hold(&pki.path("records/apps.jsonl"), app);
    httpd.expect_in_log(&["server certificate does NOT include an ID which matches", "AH10510"]);
    httpd
}

/// Whether a client that pins the key of a certificate gets in. The configuration runs without the module.
fn lets_in(
    httpd: &mut Httpd,
    configuration: &str,
    certificate: &str,
    host: &str,
    port: u16,
) -> bool {
    let pin = format!("sha256//{}", httpd.pki().pin(&format!("{certificate}.pem")));
    httpd.configure_without_module(&configuration.replace(RECORDS, ""));
    httpd.start();
    let curl = Curl::new(&httpd.path("a.pem")).with(&["-k", "--pinnedpubkey", &pin]);
    let code = curl.exit_code(&format!("https://{host}:{port}/"));
    httpd.stop();
    assert!(matches!(code, Some(0 | 90)), "{code:?}\n{configuration}");
    code == Some(0)
}

/// Accepts a configuration under which a client gets in, and refuses one under which it would not.
fn compares_with_the_host_that_answers(host: &str, configurations: impl Fn(u16) -> [String; 2]) {
    let port = free_port();
    let mut httpd = pinned("a", host, port);
    let [before, after] = configurations(port);
    assert!(lets_in(&mut httpd, &before, "a", host, port), "{before}");
    assert!(!lets_in(&mut httpd, &after, "a", host, port), "{after}");
    httpd.configure(&before);
    httpd.test().accepted(&[]);
    httpd.start();
    httpd.configure(&after);
    let outcome = httpd.test();
    assert_eq!((outcome.code, outcome.codes()), (Some(1), vec![UNMET]), "{}", outcome.text);
    httpd.configure(&before);
    httpd.test().accepted(&[]);
    httpd.stop();
}

fn host(address: &str, name: &str, engine: &str, certificate: &str) -> String {
    format!(
        "<VirtualHost {address}>\nServerName {name}\nSSLEngine {engine}\n\
         SSLCertificateFile {certificate}.pem\nSSLCertificateKeyFile {certificate}.key\n</VirtualHost>\n"
    )
}

/// httpd makes no difference between wildcard addresses: the first host of all of them answers for any other name.
#[test]
fn wildcard_addresses_are_one_address() {
    let pairs = [("*", "0.0.0.0"), ("[::]", "*"), ("0.0.0.0", "_default_"), ("[::]", "0.0.0.0")];
    for (one, other) in pairs {
        compares_with_the_host_that_answers("z.example", |port| {
            let a = host(&format!("{one}:{port}"), "a.example", "on", "a");
            let b = host(&format!("{other}:{port}"), "b.example", "on", "b");
            let head = format!("Listen 127.0.0.1:{port}\n{RECORDS}");
            [format!("{head}{a}{b}"), format!("{head}{b}{a}")]
        });
    }
}

/// A host with `SSLEngine optional` presents nothing: another host on its address does.
#[test]
fn an_optional_engine_is_no_tls() {
    compares_with_the_host_that_answers("a.example", |port| {
        let address = format!("127.0.0.1:{port}");
        let [on, optional] = ["on", "optional"].map(|engine| {
            let hosts =
                host(&address, "b.example", "on", "b") + &host(&address, "a.example", engine, "a");
            format!("Listen {address}\n{RECORDS}{hosts}")
        });
        [on, optional]
    });
}
