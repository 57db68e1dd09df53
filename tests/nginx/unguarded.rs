//! `hpkp NAME unguarded`: certificates that are chosen during the handshake, here by variables whose values
//! change in running workers. nginx sends the header on connections whose certificate satisfies the policy, and
//! withholds it on others.

use hpkp_tests::free_port;
use hpkp_tests::nginx::{Nginx, Reload, tls_server};
use hpkp_tests::recorded;
use hpkp_tests::session::SessionClient;
use hpkp_tests::site::{B, prepared};

/// The server's directives for sessions, and the client's version.
const WAYS: [(&str, &str); 4] = [
    ("ssl_session_tickets off; ssl_session_cache shared:SSL:1m;", "-tls1_2"),
    ("ssl_session_tickets on;", "-tls1_2"),
    ("ssl_session_tickets on;", "-tls1_3"),
    ("ssl_session_tickets off; ssl_session_cache shared:SSL:1m;", "-tls1_3"),
];

/// A server with certificates `one` and `two` for localhost, of an intermediate `between`.
fn furnished() -> Nginx {
    let nginx = prepared();
    let pki = nginx.pki();
    pki.intermediate("between", "ca");
    pki.leaf("one", "localhost", "between");
    pki.leaf("two", "localhost", "between");
    nginx
}

/// Makes the running workers present these certificates from now on, with the key of the first.
fn present(nginx: &Nginx, parts: &[&str]) {
    let pki = nginx.pki();
    let files: Vec<String> = parts.iter().map(|part| format!("{part}.pem")).collect();
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    // No client connects between the two writes, so no worker finds a key that does not fit.
    pki.bundle("current.pem", &files);
    std::fs::copy(pki.path(&format!("{}.key", parts[0])), pki.path("current.key")).expect("a key");
}

fn policy(pins: &[&str]) -> String {
    let pins: String = pins.iter().map(|pin| format!("pin {pin}; ")).collect();
    format!("hpkp_policy site {{ {pins} max_age 1d; }}\n")
}

/// A server with variables in the names of its certificates.
fn by_variables(port: u16, name: &str, more: &str) -> String {
    let server = tls_server(port, name, "$current", more);
    format!("map $ssl_server_name $current {{ default current; }}\n{server}")
}

fn configure(nginx: &Nginx, http: &str) {
    let http = format!(
        "ssl_protocols TLSv1.2 TLSv1.3; add_header Counted \"$hpkp_withheld\" always;\n{http}"
    );
    nginx.configure_with("worker_processes 2;", &http.replacen(" ssl;", " ssl reuseport;", 1));
}

fn client(nginx: &Nginx, version: &str) -> SessionClient {
    SessionClient::new(&nginx.path(&format!("session{version}")), &[version])
}

#[test]
fn variables_that_change_in_running_workers() {
    for (way, version) in WAYS {
        let mut nginx = furnished();
        let (one, port) = (nginx.pki().pin("one.pem"), free_port());
        present(&nginx, &["one", "between"]);
        let server = by_variables(port, "localhost", "hpkp site unguarded; return 200 x;");
        configure(&nginx, &format!("{way} {}{server}", policy(&[&one, B])));
        nginx.expect_in_log(&["hpkp: [certificate-not-guarded] localhost:"]);
        nginx.start();
        let old = client(&nginx, version);
        assert_eq!(old.begin(port, "localhost", "localhost").sent(), 1);
        for _ in 0..4 {
            let answer = old.ask(port, "localhost", "localhost");
            assert_eq!((answer.resumed, answer.sent()), (true, 1), "{way} {version}");
        }
        present(&nginx, &["two", "between"]);
        // The resumed session counts with the certificate that its client saw.
        let answer = old.ask(port, "localhost", "localhost");
        assert_eq!((answer.resumed, answer.sent()), (true, 1), "{way} {version}");
        let new = SessionClient::new(&nginx.path("session-new"), &[version]);
        let answer = new.begin(port, "localhost", "localhost");
        assert_eq!((answer.resumed, answer.sent()), (false, 0), "{way} {version}");
        for _ in 0..5 {
            let answer = new.ask(port, "localhost", "localhost");
            assert_eq!((answer.resumed, answer.sent()), (true, 0), "{way} {version}");
        }
        // The counter covers both workers, without the response that reports it; the log has one line.
        let counted = new.ask(port, "localhost", "localhost").response;
        assert_eq!(counted.all("counted"), ["6"], "{way} {version}");
        let lines = nginx.log().matches("no header is sent, because").count();
        assert_eq!(lines, 1, "{}", nginx.log());
        let two = nginx.pki().pin("two.pem");
        assert!(nginx.log().contains(&format!("key sha256/{}...", &two[..20])), "{}", nginx.log());
        present(&nginx, &["one", "between"]);
        assert_eq!(new.begin(port, "localhost", "localhost").sent(), 1);
        nginx.stop();
    }
}

#[test]
fn a_presented_certificate_must_satisfy_the_policy_and_leave_a_backup() {
    let mut nginx = furnished();
    let pki = nginx.pki();
    let (one, between, port) = (pki.pin("one.pem"), pki.pin("between.pem"), free_port());
    nginx.expect_in_log(&["certificate-not-guarded"]);
    let server = by_variables(port, "localhost", "hpkp site unguarded; return 200 x;");
    let client = client(&nginx, "-tls1_3");
    let with_intermediate: &[&str] = &["one", "between"];
    let alone: &[&str] = &["one"];
    for (pins, presents, expected) in [
        ([&between[..], B], with_intermediate, 1),
        ([&between[..], B], alone, 0),
        ([&one[..], &between[..]], with_intermediate, 0),
        ([&one[..], &between[..]], alone, 1),
    ] {
        present(&nginx, presents);
        configure(&nginx, &format!("{}{server}", policy(&pins)));
        nginx.test().accepted(&["certificate-not-guarded"]);
        nginx.start();
        for _ in 0..2 {
            let sent = client.begin(port, "localhost", "localhost").sent();
            assert_eq!(sent, expected, "{pins:?} {presents:?}");
        }
        nginx.stop();
    }
}

/// A host without `unguarded` sends no header on a connection whose certificate was chosen, whichever certificate
/// that is. An unguarded host also sends it on a connection with a loaded certificate.
#[test]
fn only_an_unguarded_host_sends_the_header_on_a_chosen_certificate() {
    let mut nginx = furnished();
    let (one, port) = (nginx.pki().pin("one.pem"), free_port());
    nginx.pki().bundle("static.pem", &["one.pem", "between.pem"]);
    std::fs::copy(nginx.path("one.key"), nginx.path("static.key")).expect("a key");
    present(&nginx, &["one", "between"]);
    nginx.expect_in_log(&["certificate-not-guarded"]);
    configure(
        &nginx,
        &format!(
            "{}{}{}",
            policy(&[&one, B]),
            by_variables(port, "chosen.example", "hpkp site unguarded; return 200 x;"),
            tls_server(port, "loaded.example", "static", "hpkp site; return 200 x;"),
        ),
    );
    nginx.start();
    let client = client(&nginx, "-tls1_3");
    for (sni, host, expected) in [
        ("chosen.example", "chosen.example", 1),
        ("chosen.example", "loaded.example", 0),
        ("loaded.example", "loaded.example", 1),
        ("loaded.example", "chosen.example", 1),
    ] {
        assert_eq!(client.begin(port, sni, host).sent(), expected, "{sni} {host}");
        assert_eq!(client.ask(port, sni, host).sent(), expected, "{sni} {host}, resumed");
    }
    nginx.stop();
}

/// The pins are recorded when the configuration takes effect, and compared with what comes after.
#[test]
fn pins_of_an_unguarded_host_are_recorded() {
    let mut nginx = furnished();
    let (one, port) = (nginx.pki().pin("one.pem"), free_port());
    nginx.pki().records("records");
    present(&nginx, &["one"]);
    nginx.expect_in_log(&["certificate-not-guarded"]);
    let http = |server: &str| {
        let records = nginx.path("records").display().to_string();
        format!("{}hpkp_published_pins {records} writer=web;\n{server}", policy(&[&one, B]))
    };
    let unguarded = http(&by_variables(port, "localhost", "hpkp site unguarded; return 200 x;"));
    let other = http(&tls_server(port, "localhost", "two", "return 200 x;"));
    let same = http(&tls_server(port, "localhost", "one", "hpkp site; return 200 x;"));
    configure(&nginx, &unguarded);
    nginx.test().accepted(&["certificate-not-guarded"]);
    nginx.start();
    assert_eq!(client(&nginx, "-tls1_3").begin(port, "localhost", "localhost").sent(), 1);
    let kinds = recorded::kinds(&nginx.path("records/web.jsonl"));
    assert!(kinds.contains(&"published"), "{kinds:?}");
    // The same configuration is not a change.
    nginx.test().accepted(&["certificate-not-guarded"]);
    assert_eq!(nginx.reload(), Reload::Accepted);
    // A certificate that is known and fails those pins is refused.
    configure(&nginx, &other);
    let outcome = nginx.test();
    assert_eq!(outcome.code, Some(1), "{}", outcome.text);
    assert!(outcome.text.contains("[published-pins-unmet] localhost:"), "{}", outcome.text);
    configure(&nginx, &same);
    nginx.test().accepted(&[]);
    nginx.stop();
}

#[test]
fn invalid_arguments_of_the_directive_are_refused() {
    let nginx = furnished();
    let (one, port) = (nginx.pki().pin("one.pem"), free_port());
    present(&nginx, &["one"]);
    for (directive, error) in [
        ("hpkp off unguarded;", "invalid parameter \"unguarded\""),
        ("hpkp site guarded;", "invalid parameter \"guarded\""),
        ("hpkp site unguarded unguarded;", "invalid number of arguments in \"hpkp\" directive"),
        (
            "hpkp_report_only site unguarded;",
            "invalid number of arguments in \"hpkp_report_only\" directive",
        ),
    ] {
        configure(
            &nginx,
            &format!("{}{}", policy(&[&one, B]), by_variables(port, "a.example", directive)),
        );
        let outcome = nginx.test();
        assert_eq!(outcome.code, Some(1), "{directive}: {}", outcome.text);
        assert!(outcome.text.contains(error), "{directive}: {}", outcome.text);
    }
    // `unguarded` in `http`, and a server below it without `unguarded`.
    let servers = format!(
        "{}hpkp site unguarded;\n{}{}",
        policy(&[&one, B]),
        by_variables(port, "a.example", "return 200 a;"),
        tls_server(port, "b.example", "$current", "hpkp site; return 200 b;"),
    );
    configure(&nginx, &servers);
    nginx.test().accepted(&["certificate-not-known-at-load", "certificate-not-guarded"]);
}
