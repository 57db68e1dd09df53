//! Which errors are refused at a config test, at a reload and at a start; stopping a server is never refused.

use std::fs;

use hpkp_tests::client::{Curl, Wget2};
use hpkp_tests::free_port;
use hpkp_tests::nginx::{Module, Nginx, Reload, codes, tls_server, wait};

use hpkp_tests::recorded::held_by_an_app;
use hpkp_tests::site::{A, B, prepared};

/// One TLS server with a policy of these pins.
fn configuration(port: u16, pins: &[&str], http: &str, server: &str) -> String {
    let pins: String = pins.iter().map(|pin| format!("pin {pin}; ")).collect();
    format!(
        "hpkp_policy site {{ {pins} max_age 1d; }}\n{http}\n{}",
        tls_server(port, "localhost", "live", &format!("hpkp site; {server} return 200 x;"))
    )
}

#[test]
fn a_renewal_with_a_new_key_is_refused_and_the_backup_key_accepted() {
    let mut nginx = prepared();
    let pki = nginx.pki();
    let (port, live) = (free_port(), pki.pin("live.pem"));
    pki.leaf("renewed", "localhost", "ca");
    pki.sign("backup", "/CN=localhost", "ca", &hpkp_tests::pki::leaf_extensions("localhost"));
    nginx.configure(&configuration(port, &[&live, "file:backup.csr"], "", ""));
    nginx.start();
    let url = format!("https://localhost:{port}/");
    let curl = Curl::new(&nginx.path("ca.pem"));
    let wget2 = Wget2::new(&nginx.path("ca.pem"), nginx.path("known"));
    assert_eq!(wget2.get(&url), Some(0));
    assert_eq!(wget2.pins(), [live.clone(), pki.pin("backup.csr")]);
    let presents =
        |pin: &str| curl.with(&["--pinnedpubkey", &format!("sha256//{pin}")]).exit_code(&url);

    nginx.install("renewed", "renewed");
    nginx.test().refused("no-pin-in-chain", 10);
    nginx.run(&["-s", "reload"]).refused_signal();
    nginx.expect_in_log(&["hpkp: [no-pin-in-chain] localhost:"]);
    let Reload::Refused(log) = nginx.reload() else { panic!("accepted") };
    assert_eq!(codes(&log), ["no-pin-in-chain"]);
    // The message names the certificate in use and its expiry.
    assert!(log.contains("served now: a certificate with another key"), "{log}");
    assert!(log.contains(&format!("key, sha256/{live} (pinned), expires ")), "{log}");
    assert_eq!(presents(&live), Some(0));
    assert_eq!(wget2.get(&url), Some(0));

    // Without an edit of the configuration, the backup key becomes the key in use.
    nginx.install("backup", "backup");
    nginx.test().accepted(&[]);
    assert_eq!(nginx.reload(), Reload::Accepted);
    assert_eq!(presents(&pki.pin("backup.csr")), Some(0));
    assert_eq!(wget2.get(&url), Some(0));
    assert_eq!(curl.get(&url).pins().len(), 1);

    // The refused certificate would have locked the client out.
    nginx.install("renewed", "renewed");
    nginx.configure(&configuration(port, &[&live, "file:backup.csr"], "hpkp_check warn;", ""));
    assert_eq!(nginx.reload(), Reload::Accepted);
    assert_eq!(wget2.get(&url), Some(5));
    assert_eq!(curl.get(&url).pins().len(), 0);
    nginx.stop();
}

#[test]
fn each_finding_refuses_a_reload_or_withholds_the_header() {
    let mut nginx = prepared();
    let (port, live) = (free_port(), nginx.pki().pin("live.pem"));
    let sound = [live.as_str(), B];
    nginx.configure(&configuration(port, &sound, "", ""));
    nginx.start();
    let url = format!("https://localhost:{port}/");
    let curl = Curl::new(&nginx.path("ca.pem"));
    nginx.expect_in_log(&["hpkp: ["]);
    for (pins, server, refused) in [
        (&[A, B][..], "", Some("no-pin-in-chain")),
        (&[live.as_str(), "file:missing"], "", Some("unreadable-pin-source")),
        (&[live.as_str(), "file:backup.key"], "", Some("private-key-as-pin-source")),
        (&[live.as_str()], "", Some("too-few-pins")),
        (&[live.as_str(), "x"], "", Some("malformed-pin")),
        (&sound, "hpkp_trusted_certificate missing;", Some("unreadable-trusted-certificate")),
        // Serious but not refused: the header is withheld and the site continues.
        (&[A, B], "hpkp_check warn;", None),
        (&[live.as_str(), "file:live.pem"], "", None),
    ] {
        nginx.configure(&configuration(port, pins, "", server));
        match (nginx.reload(), refused) {
            (Reload::Refused(log), Some(code)) => {
                assert_eq!(codes(&log), [code], "{log}");
                assert_eq!(curl.get(&url).pins().len(), 1, "{code}");
            }
            (Reload::Accepted, None) => assert_eq!(curl.get(&url).pins().len(), 0),
            (reload, _) => panic!("{pins:?}: {reload:?}"),
        }
        nginx.configure(&configuration(port, &sound, "", ""));
        assert_eq!(nginx.reload(), Reload::Accepted);
        assert_eq!(curl.get(&url).pins().len(), 1);
    }
    nginx.stop();
}

#[test]
fn a_start_withholds_the_header_unless_on_start_is_refuse() {
    for (pins, code) in [
        (&[A, B][..], "no-pin-in-chain"),
        (&["file:live.pem", "file:missing"], "unreadable-pin-source"),
        (&["file:live.pem", "file:backup.key"], "private-key-as-pin-source"),
    ] {
        let mut nginx = prepared();
        let port = free_port();
        nginx.configure(&configuration(port, pins, "", ""));
        nginx.expect_in_log(&["[alert] "]);
        nginx.start();
        let response = Curl::new(&nginx.path("ca.pem")).get(&format!("https://localhost:{port}/"));
        assert_eq!((response.status, response.pins().len()), (200, 0));
        let outcome = fs::read_to_string(nginx.path("error.log")).expect("a log");
        assert_eq!(codes(&outcome), [code]);
        assert!(outcome.contains("continuing without this header"), "{outcome}");
        nginx.stop();

        nginx.configure(&configuration(port, pins, "hpkp_on_start refuse;", ""));
        let outcome = nginx.run(&["-g", "daemon off;"]);
        assert_eq!(outcome.code, Some(1), "{outcome:?}");
        assert_eq!(codes(&outcome.text), [code]);
    }
}

/// A reload of the running configuration is not refused: that would protect no client, and would keep all other
/// hosts of the server from being renewed.
#[test]
fn a_mismatch_that_started_does_not_refuse_the_next_reload() {
    let mut nginx = prepared();
    let pki = nginx.pki();
    let (port, live) = (free_port(), pki.pin("live.pem"));
    pki.leaf("renewed", "localhost", "ca");
    nginx.configure(&configuration(port, &[A, B], "", ""));
    nginx.expect_in_log(&["[alert] ", "hpkp: [no-pin-in-chain]", "hpkp: [unreadable-pin-source]"]);
    nginx.start();
    let url = format!("https://localhost:{port}/");
    let curl = Curl::new(&nginx.path("ca.pem"));
    assert_eq!(nginx.reload(), Reload::Accepted);
    assert_eq!(nginx.reload(), Reload::Accepted);
    assert_eq!(curl.get(&url).pins().len(), 0);
    // Another key, other pins or another error is a change, and is refused.
    fs::copy(nginx.path("live.pem"), nginx.path("old.pem")).expect("a copy");
    fs::copy(nginx.path("live.key"), nginx.path("old.key")).expect("a copy");
    nginx.install("renewed", "renewed");
    assert!(matches!(nginx.reload(), Reload::Refused(_)));
    nginx.install("old", "old");
    nginx.configure(&configuration(port, &[B, "file:backup.csr"], "", ""));
    assert!(matches!(nginx.reload(), Reload::Refused(_)));
    nginx.configure(&configuration(port, &[A, B, "file:missing"], "", ""));
    assert!(matches!(nginx.reload(), Reload::Refused(_)));
    nginx.configure(&configuration(port, &[&live, B], "", ""));
    assert_eq!(nginx.reload(), Reload::Accepted);
    assert_eq!(curl.get(&url).pins().len(), 1);
    nginx.stop();
}

/// A server that runs in spite of a mismatch locks out only the clients who reach it. Clients of another block on the
/// same port get in, and a reload that leads them to the first block is refused.
#[test]
fn a_mismatch_that_started_does_not_let_in_the_clients_of_another_block() {
    let mut nginx = prepared();
    let (pki, port) = (nginx.pki(), free_port());
    pki.leaf("pinned", "localhost", "ca");
    pki.records("records");
    held_by_an_app(&nginx.path("records/apps.jsonl"), "localhost", &pki.pin("pinned.pem"));
    let block = |listen: &str, certificate: &str| {
        tls_server(port, "localhost", certificate, "return 200;")
            .replace("127.0.0.1:", &format!("{listen}:"))
    };
    let both = |listen: &str| format!("{}{}", block("*", "live"), block(listen, "pinned"));
    for more in ["writer=web-1", "read_only"] {
        let text = |http: &str| format!("hpkp_published_pins records {more};\n{http}");
        nginx.configure(&text(&both("127.0.0.2")));
        nginx.expect_in_log(&["[alert] ", "[published-pins-unmet]", "[published-pins-no-writer]"]);
        nginx.start();
        assert_eq!(nginx.reload(), Reload::Accepted);
        // One block fewer, and one address of the pinned certificate fewer.
        for http in [block("*", "live"), both("127.0.0.3")] {
            nginx.configure(&text(&http));
            assert!(matches!(nginx.reload(), Reload::Refused(_)), "{more}: {http}");
        }
        let more_blocks = format!("{}{}", both("127.0.0.2"), block("127.0.0.3", "pinned"));
        nginx.configure(&text(&more_blocks));
        assert_eq!(nginx.reload(), Reload::Accepted);
        nginx.stop();
    }
}

#[test]
fn a_syntax_error_is_refused_at_a_start_too() {
    let nginx = prepared();
    let live = nginx.pki().pin("live.pem");
    nginx.configure(&configuration(free_port(), &[&live], "", ""));
    let outcome = nginx.run(&["-g", "daemon off;"]);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert_eq!(codes(&outcome.text), ["too-few-pins"]);
}

#[test]
fn a_server_can_always_be_stopped() {
    for signal in ["stop", "quit", "reopen"] {
        let mut nginx = prepared();
        let live = nginx.pki().pin("live.pem");
        nginx.configure(&configuration(free_port(), &[&live, B], "", ""));
        nginx.start();
        // The configuration has errors of our directives only, so nginx itself can parse it.
        nginx.configure(
            "hpkp_policy site { pin nonsense; nonsense; max_age -1; }\n\
             hpkp_policy site { }\nhpkp x; hpkp y; hpkp_check maybe;",
        );
        nginx.run(&["-s", "reload"]).refused_signal();
        let outcome = nginx.run(&[&format!("-s{signal}")]);
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
        assert_eq!(codes(&outcome.text), [""; 0]);
        if signal == "reopen" {
            assert!(nginx.is_running());
            nginx.stop();
        } else {
            assert!(wait(|| !nginx.is_running()), "{signal}");
            nginx.stopped();
        }
    }
}

#[test]
fn the_environment_lets_a_test_pass_and_nothing_else() {
    let mut nginx = prepared();
    let (port, live) = (free_port(), nginx.pki().pin("live.pem"));
    nginx.set_environment("HPKP_CHECK", "warn");
    nginx.configure(&configuration(port, &[A, B], "", ""));
    let outcome = nginx.test();
    outcome.accepted(&["no-pin-in-chain"]);
    assert!(outcome.text.contains("HPKP_CHECK=warn is set"), "{}", outcome.text);
    nginx.configure(&configuration(port, &[&live, "file:missing"], "", ""));
    nginx.test().accepted(&["unreadable-pin-source"]);
    // A syntax error is still refused.
    nginx.configure(&configuration(port, &[&live], "", ""));
    nginx.test().refused("too-few-pins", Nginx::FIRST_LINE);

    nginx.configure(&configuration(port, &[&live, B], "", ""));
    nginx.start();
    nginx.configure(&configuration(port, &[A, B], "", ""));
    nginx.run(&["-s", "reload"]).refused_signal();
    nginx.expect_in_log(&["hpkp: [no-pin-in-chain]"]);
    assert!(matches!(nginx.reload(), Reload::Refused(_)));
    nginx.stop();

    nginx.configure(&configuration(port, &[A, B], "hpkp_on_start refuse;", ""));
    assert_eq!(nginx.run(&["-g", "daemon off;"]).code, Some(1));
}

#[test]
fn another_value_in_the_environment_changes_nothing() {
    let mut nginx = prepared();
    nginx.set_environment("HPKP_CHECK", "off");
    nginx.configure(&configuration(free_port(), &[A, B], "", ""));
    nginx.test().refused("no-pin-in-chain", 10);
}

/// A server on one port with a file of 1000 bytes, a field of `add_header` and, if `hpkp` is some pins, a policy.
fn with_file(port: u16, hpkp: Option<&[&str]>) -> String {
    let more = "add_header X-Mine yes always; location /file.txt { root html; }";
    match hpkp {
        Some(pins) => configuration(port, pins, "", "").replace("return 200 x;", more),
        None => tls_server(port, "localhost", "live", more),
    }
}

/// Kills the workers and sends requests to the new ones, which inherit the master's state after a failed reload.
#[track_caller]
fn replaced_workers_serve(nginx: &Nginx, port: u16, pins: usize) {
    nginx.replace_workers();
    let url = format!("https://localhost:{port}/file.txt");
    let curl = Curl::new(&nginx.path("ca.pem"));
    let range = curl.with(&["-r", "0-9"]).get(&url);
    // The filters installed before and after ours have both run.
    assert_eq!((range.status, range.all("content-length")), (206, vec!["10"]));
    assert_eq!(range.all("x-mine"), ["yes"]);
    assert_eq!(range.pins().len(), pins);
    // curl would fail if it got less than 1000 bytes.
    let whole = curl.get(&url);
    assert_eq!((whole.status, whole.all("content-length")), (200, vec!["1000"]));
}

#[test]
fn workers_replaced_after_a_refused_reload_serve_as_before() {
    let mut nginx = prepared();
    let (port, live) = (free_port(), nginx.pki().pin("live.pem"));
    nginx.pki().write("html/file.txt", "x".repeat(1000));
    nginx.configure(&with_file(port, Some(&[&live, B])));
    nginx.start();
    nginx.configure(&with_file(port, Some(&[A, B])));
    nginx.expect_in_log(&["hpkp: [no-pin-in-chain]", "exited on signal 9"]);
    assert!(matches!(nginx.reload(), Reload::Refused(_)));
    replaced_workers_serve(&nginx, port, 1);
    nginx.stop();
}

/// nginx unloads the module together with the refused configuration that was the first to load it.
#[test]
fn workers_replaced_after_a_refused_first_use_serve_as_before() {
    let mut nginx = prepared();
    let (port, live) = (free_port(), nginx.pki().pin("live.pem"));
    nginx.pki().write("html/file.txt", "x".repeat(1000));
    nginx.configure_without_module(&with_file(port, None));
    nginx.expect_in_log(&["hpkp: [no-pin-in-chain]", "exited on signal 9", "(98: Address already"]);
    nginx.expect_in_log(&["still could not bind()"]);
    nginx.start();
    nginx.configure(&with_file(port, Some(&[A, B])));
    assert!(matches!(nginx.reload(), Reload::Refused(_)));
    replaced_workers_serve(&nginx, port, 0);

    // The module accepts this configuration, and nginx gives it up later, when all filters are installed.
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let taken = taken.local_addr().map(|a| (a.port(), taken)).expect("an address");
    let sound = with_file(port, Some(&[&live, B]));
    nginx.configure(&format!("{sound} server {{ listen 127.0.0.1:{}; }}", taken.0));
    assert!(matches!(nginx.reload(), Reload::Refused(_)));
    replaced_workers_serve(&nginx, port, 0);

    nginx.configure(&sound);
    assert_eq!(nginx.reload(), Reload::Accepted);
    replaced_workers_serve(&nginx, port, 1);
    nginx.stop();
}

/// Findings reach error logs that are not files.
#[test]
fn logs_to_syslog_and_to_memory() {
    let collector = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let collector = collector.local_addr().map(|a| (a.port(), collector)).expect("an address");
    let syslog = format!("syslog:server=127.0.0.1:{}", collector.0);
    for log in [syslog.as_str(), "memory:1m"] {
        let mut nginx = prepared();
        let (port, live) = (free_port(), nginx.pki().pin("live.pem"));
        let url = format!("https://localhost:{port}/");
        let curl = Curl::new(&nginx.path("ca.pem"));
        let main = format!("worker_processes 1; error_log {log} debug;");
        nginx.configure_with(&main, &configuration(port, &[&live, B], "", ""));
        nginx.test().accepted(&[]);
        nginx.expect_in_log(&["[alert]", "[debug]"]);
        // A start in spite of a lock-out logs its finding once the logs are open.
        nginx.configure_with(&main, &configuration(port, &[A, B], "", ""));
        nginx.start();
        assert!(nginx.log().contains("[no-pin-in-chain]"), "{log}");
        assert_eq!(curl.get(&url).pins().len(), 0, "{log}");
        // At a reload.
        nginx.configure_with(&main, &configuration(port, &[&live, B], "", ""));
        assert_eq!(nginx.reload(), Reload::Accepted);
        assert_eq!(curl.get(&url).pins().len(), 1, "{log}");
        nginx.stop();
    }
}

/// A certificate file that is too large to read does not count as unchanged.
#[test]
fn an_oversized_certificate_does_not_count_as_unchanged() {
    let mut nginx = prepared();
    let pki = nginx.pki();
    let (port, live) = (free_port(), pki.pin("live.pem"));
    pki.leaf("renewed", "localhost", "ca");
    let long = |name: &str| [pki.read(name), pki.read("ca.pem").repeat(300)].concat();
    let (first, second) = (long("live.pem"), long("renewed.pem"));
    pki.write("live.pem", first);
    pki.write("renewed.pem", second);
    nginx.configure(&configuration(port, &[&live, B], "", ""));
    nginx.expect_in_log(&["hpkp: [oversized-input]"]);
    nginx.start();
    nginx.install("renewed", "renewed");
    assert!(matches!(nginx.reload(), Reload::Refused(_)));
    nginx.stop();
}

/// After an upgrade of the package, a reload loads the new file of the module beside the old one, whose symbols
/// have the same names.
#[test]
fn another_build_of_the_module_comes_with_a_reload() {
    let mut nginx = prepared();
    let (port, live) = (free_port(), nginx.pki().pin("live.pem"));
    let good = configuration(port, &[&live, B], "", "");
    let sent = |nginx: &Nginx| {
        let curl = Curl::new(&nginx.path("ca.pem"));
        curl.get(&format!("https://localhost:{port}/")).pins().len()
    };
    nginx.configure(&good);
    nginx.start();
    for module in [Module::InjectPanic, Module::Shipped, Module::InjectPanic] {
        nginx.replace_module(module, &good);
        assert_eq!(nginx.reload(), Reload::Accepted);
        assert_eq!(sent(&nginx), 1);
        nginx.configure(&configuration(port, &[A, B], "", ""));
        nginx.expect_in_log(&["hpkp: [no-pin-in-chain] localhost:"]);
        assert!(matches!(nginx.reload(), Reload::Refused(_)));
        assert_eq!(sent(&nginx), 1);
    }
    nginx.stop();
}
