//! Which errors are refused at a config test, at a graceful restart and at a start. Nothing is refused inside the
//! running parent, or when a server is stopped or only lists its configuration.

use hpkp_tests::client::{Curl, Wget2};
use hpkp_tests::free_port;
use hpkp_tests::httpd::{Httpd, Module, Mpm, Reload, Restart, codes, listen, tls_vhost, wait};
use hpkp_tests::instance::without_leaks;
use hpkp_tests::pki::leaf_extensions;
use hpkp_tests::site::{A, B};

use crate::policy;

fn prepared() -> Httpd {
    let mut httpd = Httpd::furnished(Module::Shipped, Mpm::Event);
    httpd.load(&["dir"]);
    httpd.pki().write("html/index.html", "x");
    httpd
}

/// A vhost with a policy of these pins, and another vhost whose policy always matches.
fn configuration(httpd: &Httpd, port: u16, pins: &[&str], server: &str, vhost: &str) -> String {
    let steady = httpd.pki().pin("steady.pem");
    format!(
        "{}{}{}{server}\n{}{}",
        listen(&[port]),
        policy("site", pins),
        policy("steady", &[&steady, B]),
        tls_vhost(port, "localhost", "live", &format!("HPKPUse site\n{vhost}")),
        tls_vhost(port, "steady.example", "steady", "HPKPUse steady"),
    )
}

/// As [`prepared`], with a certificate for the other vhost.
fn two_hosts() -> Httpd {
    let httpd = prepared();
    httpd.pki().leaf("steady", "steady.example", "ca");
    httpd
}

/// The status and the number of pin fields of both vhosts.
fn asked(httpd: &Httpd, port: u16) -> [(u16, usize); 2] {
    ["localhost", "steady.example"].map(|host| {
        let curl = Curl::new(&httpd.path("ca.pem"));
        let response = curl.get(&format!("https://{host}:{port}/"));
        (response.status, response.pins().len())
    })
}

const BOTH: [(u16, usize); 2] = [(200, 1), (200, 1)];
/// The first vhost continues without the header, and the other keeps its own.
const WITHHELD: [(u16, usize); 2] = [(200, 0), (200, 1)];

#[test]
fn a_renewal_with_a_new_key_is_refused_and_the_backup_key_accepted() {
    let mut httpd = two_hosts();
    let pki = httpd.pki();
    let (port, live) = (free_port(), pki.pin("live.pem"));
    pki.leaf("renewed", "localhost", "ca");
    pki.sign("backup", "/CN=localhost", "ca", &leaf_extensions("localhost"));
    let pins = [live.as_str(), "file:backup.csr"];
    httpd.configure(&configuration(&httpd, port, &pins, "", ""));
    httpd.start();
    let url = format!("https://localhost:{port}/");
    let curl = Curl::new(&httpd.path("ca.pem"));
    let wget2 = Wget2::new(&httpd.path("ca.pem"), httpd.path("known"));
    assert_eq!(wget2.get(&url), Some(0));
    assert_eq!(wget2.pins(), [live.clone(), pki.pin("backup.csr")]);
    let presents =
        |pin: &str| curl.with(&["--pinnedpubkey", &format!("sha256//{pin}")]).exit_code(&url);

    httpd.install("renewed", "renewed");
    httpd.test().refused("no-pin-in-chain", httpd.line("HPKPUse site"));
    let Reload::Refused(outcome) = httpd.graceful() else { panic!("accepted") };
    assert_eq!(codes(&outcome), ["no-pin-in-chain"]);
    // `apachectl -k` also tests the configuration before it sends the signal.
    for k in ["graceful", "restart"] {
        let outcome = httpd.run(&["-k", k]);
        assert_eq!(
            (outcome.code, outcome.codes()),
            (Some(1), vec!["no-pin-in-chain"]),
            "{outcome:?}"
        );
    }
    assert_eq!(presents(&live), Some(0));
    assert_eq!(wget2.get(&url), Some(0));
    assert_eq!(asked(&httpd, port), BOTH);

    // Without an edit of the configuration, the backup key becomes the key in use.
    httpd.install("backup", "backup");
    httpd.test().accepted(&[]);
    assert_eq!(httpd.graceful(), Reload::Accepted);
    assert_eq!(presents(&pki.pin("backup.csr")), Some(0));
    assert_eq!(wget2.get(&url), Some(0));
    assert_eq!(asked(&httpd, port), BOTH);

    // The refused certificate would have locked the client out.
    httpd.install("renewed", "renewed");
    httpd.configure(&configuration(&httpd, port, &pins, "HPKPCheck warn", ""));
    httpd.expect_in_log(&["hpkp: [no-pin-in-chain] localhost:"]);
    assert_eq!(httpd.graceful(), Reload::Accepted);
    assert_eq!(wget2.get(&url), Some(5));
    assert_eq!(asked(&httpd, port), WITHHELD);
    httpd.stop();
}

/// After a signal without a config test, the running parent reads the configuration, and an error would end the site.
#[test]
fn a_lock_out_in_the_living_parent_never_ends_the_site() {
    for signal in [libc::SIGUSR1, libc::SIGHUP] {
        for on_start in ["", "HPKPOnStart refuse"] {
            let mut httpd = two_hosts();
            let (port, live) = (free_port(), httpd.pki().pin("live.pem"));
            let sound = configuration(&httpd, port, &[&live, B], on_start, "");
            httpd.configure(&sound);
            httpd.start();
            assert_eq!(asked(&httpd, port), BOTH);
            let parent = httpd.pid();

            httpd.configure(&configuration(&httpd, port, &[A, B], on_start, ""));
            httpd.expect_in_log(&["hpkp: [no-pin-in-chain] localhost:"]);
            let Restart::Served(log) = httpd.restart(signal) else { panic!("{}", httpd.log()) };
            assert_eq!(codes(&log), ["no-pin-in-chain"], "{log}");
            assert!(log.contains("continuing without this header"), "{log}");
            assert!(log.contains(&live), "{log}");
            assert_eq!(asked(&httpd, port), WITHHELD);

            httpd.configure(&sound);
            let Restart::Served(log) = httpd.restart(signal) else { panic!("{}", httpd.log()) };
            assert_eq!(codes(&log), [""; 0], "{log}");
            assert_eq!(asked(&httpd, port), BOTH);
            assert_eq!(httpd.pid(), parent);
            httpd.stop();
        }
    }
}

#[test]
fn each_finding_refuses_a_restart_or_withholds_the_header() {
    let mut httpd = two_hosts();
    let (port, live) = (free_port(), httpd.pki().pin("live.pem"));
    let sound = [live.as_str(), B];
    httpd.configure(&configuration(&httpd, port, &sound, "", ""));
    httpd.start();
    httpd.expect_in_log(&["hpkp: ["]);
    for (pins, vhost, refused) in [
        (&[A, B][..], "", Some("no-pin-in-chain")),
        (&[live.as_str(), "file:missing"], "", Some("unreadable-pin-source")),
        (&[live.as_str(), "file:backup.key"], "", Some("private-key-as-pin-source")),
        (&sound, "HPKPTrustedCertificate missing", Some("unreadable-trusted-certificate")),
        // Serious but not refused: the header is withheld and the site continues.
        (&[A, B], "HPKPCheck warn", None),
        (&[live.as_str(), "file:live.pem"], "", None),
    ] {
        httpd.configure(&configuration(&httpd, port, pins, "", vhost));
        match (httpd.graceful(), refused) {
            (Reload::Refused(outcome), Some(code)) => {
                assert_eq!(codes(&outcome), [code], "{outcome}");
                assert_eq!(asked(&httpd, port), BOTH, "{code}");
                // The same configuration at a bare signal does not end the site.
                let Restart::Served(log) = httpd.restart(libc::SIGUSR1) else {
                    panic!("{code}: {}", httpd.log())
                };
                assert_eq!(codes(&log), [code], "{log}");
                assert_eq!(asked(&httpd, port), WITHHELD, "{code}");
            }
            (Reload::Accepted, None) => assert_eq!(asked(&httpd, port), WITHHELD),
            (reload, _) => panic!("{pins:?}: {reload:?}"),
        }
        httpd.configure(&configuration(&httpd, port, &sound, "", ""));
        assert_eq!(httpd.graceful(), Reload::Accepted);
        assert_eq!(asked(&httpd, port), BOTH);
    }
    // Syntax errors are refused by a config test, whichever part of the module finds them.
    for (pins, code) in
        [(&[live.as_str()][..], "too-few-pins"), (&[live.as_str(), "x"], "malformed-pin")]
    {
        httpd.configure(&configuration(&httpd, port, pins, "", ""));
        let Reload::Refused(outcome) = httpd.graceful() else { panic!("{code}: accepted") };
        assert_eq!(codes(&outcome), [code], "{outcome}");
        assert_eq!(asked(&httpd, port), BOTH, "{code}");
    }
    httpd.stop();
}

#[test]
fn a_start_withholds_the_header_unless_on_start_is_refuse() {
    for (pins, code) in [
        (&[A, B][..], "no-pin-in-chain"),
        (&["file:live.pem", "file:missing"], "unreadable-pin-source"),
        (&["file:live.pem", "file:backup.key"], "private-key-as-pin-source"),
    ] {
        let mut httpd = two_hosts();
        let port = free_port();
        httpd.configure(&configuration(&httpd, port, pins, "", ""));
        httpd.expect_in_log(&[&format!("hpkp: [{code}] localhost:")]);
        httpd.start();
        assert_eq!(asked(&httpd, port), WITHHELD, "{code}");
        assert_eq!(codes(&httpd.log()), [code]);
        assert!(httpd.log().contains("continuing without this header"), "{}", httpd.log());
        // The finding names the file of the loaded certificate, as at a config test.
        let file = format!("certificate: {}, ", httpd.path("live.pem").display());
        assert_eq!(httpd.log().contains(&file), code == "no-pin-in-chain", "{}", httpd.log());
        httpd.stop();

        httpd.configure(&configuration(&httpd, port, pins, "HPKPOnStart refuse", ""));
        let outcome = httpd.start_refused();
        assert_eq!(outcome.code, Some(1), "{outcome:?}");
        // The terminal shows the reason.
        assert_eq!(outcome.codes(), [code], "{outcome:?}");
        httpd.expect_in_log(&["AH00016: Configuration Failed"]);
    }
}

/// Debian starts httpd into the background; its errors go to the terminal.
#[test]
fn a_start_into_the_background_reports_a_refusal() {
    let mut httpd = two_hosts();
    let (port, live) = (free_port(), httpd.pki().pin("live.pem"));
    httpd.configure(&configuration(&httpd, port, &[A, B], "HPKPOnStart refuse", ""));
    let outcome = httpd.run(&["-k", "start"]);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert_eq!(outcome.codes(), ["no-pin-in-chain"]);
    assert!(!httpd.path("httpd.pid").exists());

    httpd.configure(&configuration(&httpd, port, &[&live, B], "HPKPOnStart refuse", ""));
    httpd.expect_in_log(&["AH00016: Configuration Failed", "hpkp: [no-pin-in-chain]"]);
    // The process that starts the server in the background ends without freeing its memory.
    if let Some((name, value)) = without_leaks() {
        httpd.set_environment(name, &value);
    }
    // The server keeps its standard error open, so a pipe there would never end.
    let mut process = httpd.spawn(&["-k", "start"]);
    assert!(process.wait().is_ok_and(|status| status.success()), "{}", httpd.log());
    assert!(wait(|| httpd.path("httpd.pid").exists()));
    assert_eq!(asked(&httpd, port), BOTH);
    assert_eq!(httpd.run(&["-k", "stop"]).code, Some(0));
    assert!(wait(|| !httpd.path("httpd.pid").exists()));
}

#[test]
fn a_syntax_error_is_refused_at_a_start_too() {
    let mut httpd = two_hosts();
    let live = httpd.pki().pin("live.pem");
    httpd.configure(&configuration(&httpd, free_port(), &[&live], "", ""));
    let outcome = httpd.start_refused();
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert_eq!(outcome.codes(), ["too-few-pins"]);
    httpd.expect_in_log(&["AH00016: Configuration Failed", "hpkp: [too-few-pins]"]);
}

/// Errors of our directives only, so that httpd itself can parse the configuration.
const NONSENSE: [&str; 3] = [
    "<HPKPPolicy x>\nHPKPPin nonsense\nHPKPMaxAge -1\n</HPKPPolicy>",
    "<HPKPPolicy x>\n</HPKPPolicy>\n<HPKPPolicy x>\nServerAdmin x\n</HPKPPolicy>\nHPKPUse y\nHPKPUse z",
    "HPKPCheck maybe\nHPKPUse unknown\nHPKPTrustedCertificate missing",
];

#[test]
fn a_server_can_always_be_stopped_and_asked_about_itself() {
    for k in ["stop", "graceful-stop"] {
        for nonsense in NONSENSE {
            let mut httpd = two_hosts();
            let (port, live) = (free_port(), httpd.pki().pin("live.pem"));
            httpd.configure(&configuration(&httpd, port, &[&live, B], "", ""));
            httpd.start();
            httpd.configure(&configuration(&httpd, port, &[A, B], nonsense, ""));
            assert_eq!(httpd.test().code, Some(1), "{nonsense}");
            for question in ["-M", "-S", "-L"] {
                let outcome = httpd.run(&[question]);
                assert_eq!(outcome.code, Some(0), "{question} {nonsense}: {outcome:?}");
                assert_eq!(outcome.codes(), [""; 0], "{question}: {outcome:?}");
            }
            let outcome = httpd.run(&["-k", "graceful"]);
            assert_eq!(outcome.code, Some(1), "{nonsense}: {outcome:?}");
            assert!(httpd.is_running());
            let outcome = httpd.run(&["-k", k]);
            assert_eq!(outcome.code, Some(0), "{k} {nonsense}: {outcome:?}");
            assert_eq!(outcome.codes(), [""; 0], "{k}: {outcome:?}");
            assert!(wait(|| !httpd.is_running()), "{k}");
            httpd.stopped();
        }
    }
}

#[test]
fn the_environment_lets_a_test_pass_and_nothing_else() {
    let mut httpd = two_hosts();
    let (port, live) = (free_port(), httpd.pki().pin("live.pem"));
    httpd.set_environment("HPKP_CHECK", "warn");
    httpd.configure(&configuration(&httpd, port, &[A, B], "", ""));
    let outcome = httpd.test();
    outcome.accepted(&["no-pin-in-chain"]);
    assert!(outcome.text.contains("HPKP_CHECK=warn is set"), "{}", outcome.text);
    httpd.configure(&configuration(&httpd, port, &[&live, "file:missing"], "", ""));
    httpd.test().accepted(&["unreadable-pin-source"]);
    // A syntax error is still refused.
    httpd.configure(&configuration(&httpd, port, &[&live], "", ""));
    httpd.test().refused("too-few-pins", httpd.line("<HPKPPolicy site>"));

    httpd.configure(&configuration(&httpd, port, &[&live, B], "", ""));
    httpd.start();
    httpd.configure(&configuration(&httpd, port, &[A, B], "", ""));
    let outcome = httpd.run(&["-k", "graceful"]);
    assert_eq!((outcome.code, outcome.codes()), (Some(1), vec!["no-pin-in-chain"]), "{outcome:?}");
    httpd.stop();

    httpd.configure(&configuration(&httpd, port, &[A, B], "HPKPOnStart refuse", ""));
    assert_eq!(httpd.start_refused().code, Some(1));
    httpd.expect_in_log(&["AH00016: Configuration Failed", "hpkp: [no-pin-in-chain]"]);
}

/// The running server reads its configuration with the options with which it was started.
#[test]
fn a_test_before_a_signal_with_other_options_says_so() {
    let mut httpd = two_hosts();
    let (port, live) = (free_port(), httpd.pki().pin("live.pem"));
    httpd.configure(&configuration(&httpd, port, &[&live, B], "", ""));
    httpd.start();
    httpd.configure(&configuration(&httpd, port, &[A, B], "", ""));
    let other = "was started without -D SITE, which this command has";
    for (options, says) in [(&["-D", "SITE"][..], true), (&[], false)] {
        let outcome = httpd.run(&[options, &["-k", "graceful"]].concat());
        assert_eq!((outcome.code, outcome.codes()), (Some(1), vec!["no-pin-in-chain"]));
        assert_eq!(outcome.text.contains(other), says, "{outcome:?}");
        assert_eq!(outcome.text.contains("the running server (process"), says, "{outcome:?}");
    }
    httpd.stop();
}

#[test]
fn another_value_in_the_environment_changes_nothing() {
    let mut httpd = two_hosts();
    httpd.set_environment("HPKP_CHECK", "off");
    httpd.configure(&configuration(&httpd, free_port(), &[A, B], "", ""));
    httpd.test().refused("no-pin-in-chain", httpd.line("HPKPUse site"));
}

/// With threads, with processes, and with one process alone.
#[test]
fn every_mpm_continues_in_spite_of_a_lock_out() {
    for mpm in Mpm::ALL {
        let mut httpd = Httpd::furnished(Module::Shipped, mpm);
        httpd.load(&["dir"]);
        let pki = httpd.pki();
        pki.write("html/index.html", "x");
        pki.leaf("steady", "steady.example", "ca");
        let (port, live) = (free_port(), pki.pin("live.pem"));
        httpd.configure(&configuration(&httpd, port, &[&live, B], "", ""));
        httpd.start();
        assert_eq!(asked(&httpd, port), BOTH, "{mpm:?}");
        httpd.configure(&configuration(&httpd, port, &[A, B], "", ""));
        httpd.expect_in_log(&["hpkp: [no-pin-in-chain] localhost:"]);
        assert!(matches!(httpd.graceful(), Reload::Refused(_)), "{mpm:?}");
        assert!(matches!(httpd.restart(libc::SIGUSR1), Restart::Served(_)), "{mpm:?}");
        assert_eq!(asked(&httpd, port), WITHHELD, "{mpm:?}");
        httpd.stop();
    }
}

/// One restart loads the module, and the next one unloads it.
#[test]
fn a_module_that_comes_and_goes() {
    let mut httpd = two_hosts();
    let (port, live) = (free_port(), httpd.pki().pin("live.pem"));
    let plain = format!("{}{}", listen(&[port]), tls_vhost(port, "localhost", "live", ""));
    httpd.configure_without_module(&plain);
    httpd.start();
    let pins = |httpd: &Httpd| {
        let curl = Curl::new(&httpd.path("ca.pem"));
        let response = curl.get(&format!("https://localhost:{port}/"));
        (response.status, response.pins().len())
    };
    for _ in 0..2 {
        httpd.configure(&configuration(&httpd, port, &[&live, B], "", ""));
        assert_eq!(httpd.graceful(), Reload::Accepted);
        assert_eq!(asked(&httpd, port), BOTH);
        httpd.configure_without_module(&plain);
        assert_eq!(httpd.graceful(), Reload::Accepted);
        assert_eq!(pins(&httpd), (200, 0));
    }
    // The first use of the module, in the running parent, with a lock-out.
    httpd.configure(&configuration(&httpd, port, &[A, B], "", ""));
    httpd.expect_in_log(&["hpkp: [no-pin-in-chain] localhost:"]);
    assert!(matches!(httpd.restart(libc::SIGUSR1), Restart::Served(_)));
    assert_eq!(asked(&httpd, port), WITHHELD);
    httpd.stop();
}

/// After an upgrade of the package, a restart loads the new file of the module beside the old one, whose symbols have
/// the same names.
#[test]
fn another_build_of_the_module_comes_with_a_restart() {
    let mut httpd = two_hosts();
    let (port, live) = (free_port(), httpd.pki().pin("live.pem"));
    let good = configuration(&httpd, port, &[&live, B], "", "");
    httpd.configure(&good);
    httpd.start();
    for module in [Module::InjectPanic, Module::Shipped, Module::InjectPanic] {
        httpd.replace_module(module, &good);
        assert_eq!(httpd.graceful(), Reload::Accepted);
        assert_eq!(asked(&httpd, port), BOTH);
        httpd.configure(&configuration(&httpd, port, &[A, B], "", ""));
        httpd.expect_in_log(&["hpkp: [no-pin-in-chain] localhost:"]);
        assert!(matches!(httpd.restart(libc::SIGUSR1), Restart::Served(_)));
        assert_eq!(asked(&httpd, port), WITHHELD);
    }
    httpd.stop();
}
