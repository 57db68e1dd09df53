//! A panic in our module does not take httpd down. A build for this test alone injects a panic into each hook.

use std::collections::BTreeSet;

use hpkp_tests::client::Curl;
use hpkp_tests::free_port;
use hpkp_tests::httpd::{Httpd, Module, Mpm, Restart, listen, tls_vhost};
use hpkp_tests::instance::without_leaks;
use hpkp_tests::site::B;

use crate::policy;

/// The hooks that run at a test.
const TESTING: [&str; 7] = [
    "register_hooks",
    "create_server_config",
    "merge_server_config",
    "pre_config",
    "directive",
    "policy",
    "check_config",
];

/// The further hooks that run when a configuration takes effect.
const STARTING: [&str; 4] = ["decide", "add_cert_files", "init_server", "post_config"];

/// The hooks that run for a connection or a request, and whether the header is sent in spite of a
/// panic in them.
const SERVING: [(&str, bool); 5] = [
    ("pre_handshake", false),
    ("process_connection", false),
    ("create_request", false),
    ("filter", false),
    ("log_transaction", true),
];

/// The hook that runs when bytes are sent before the final response, or past the filters of the request.
const BEFORE: &str = "interim";

/// The hooks that run when a configuration is freed.
const ENDING: [&str; 2] = ["cleanup", "ending"];

/// A server that loads the shipped module; its environment makes the other build panic in `hook`.
fn server(hook: &str) -> (Httpd, u16) {
    let mut httpd = Httpd::furnished(Module::Shipped, Mpm::Event);
    httpd.load(&["dir"]);
    httpd.set_environment("HPKP_INJECT_PANIC", hook);
    httpd.expect_in_log(&["hpkp: a bug in the module"]);
    let pki = httpd.pki();
    pki.write("html/index.html", "x");
    let (live, port) = (pki.pin("live.pem"), free_port());
    pki.write(
        "site.inc",
        format!(
            "{}{}LogFormat \"%{{HPKP_STATUS}}n|%{{HPKP_HEADER}}n|\" told\nCustomLog told.log told\n{}",
            listen(&[port]),
            policy("site", &[&live, B]),
            tls_vhost(port, "localhost", "live", "HPKPUse site")
        ),
    );
    httpd.configure("Include site.inc");
    (httpd, port)
}

fn asked(httpd: &Httpd, port: u16, version: &str) -> (u16, usize) {
    let curl = Curl::new(&httpd.path("ca.pem")).with(&[version]);
    let response = curl.get(&format!("https://localhost:{port}/"));
    (response.status, response.pins().len())
}

/// Fails unless `text` names the hook and has no trace of a crash.
#[track_caller]
fn says_why(hook: &str, text: &str) {
    assert!(text.contains(&format!("a bug in the module ({hook})")), "{hook}: {text}");
    assert!(!text.contains("thread '"), "{hook}: {text}");
    assert!(!text.contains("stack backtrace"), "{hook}: {text}");
}

#[test]
fn a_panic_in_a_test_exits_1_with_its_hook() {
    for hook in TESTING {
        let (mut httpd, _) = server(hook);
        httpd.replace_module(Module::InjectPanic, "Include site.inc");
        let outcome = httpd.test();
        assert_eq!(outcome.code, Some(1), "{hook}: {outcome:?}");
        says_why(hook, &outcome.text);
    }
    // The hooks of a start do not run in a config test.
    for hook in STARTING {
        let (mut httpd, _) = server(hook);
        httpd.replace_module(Module::InjectPanic, "Include site.inc");
        httpd.test().accepted(&[]);
    }
}

#[test]
fn a_panic_in_a_start_exits_1_with_its_hook() {
    for hook in TESTING.iter().chain(&STARTING) {
        let (mut httpd, _) = server(hook);
        httpd.replace_module(Module::InjectPanic, "Include site.inc");
        httpd.expect_in_log(&["AH00016: Configuration Failed", "AH00020: Configuration Failed"]);
        let outcome = httpd.start_refused();
        assert_eq!(outcome.code, Some(1), "{hook}: {outcome:?}");
        says_why(hook, &outcome.text);
    }
}

/// A restart loads the build that panics: httpd unloads one build and loads the other.
#[test]
fn a_panic_in_the_running_parent_ends_no_site() {
    for hook in TESTING.iter().chain(&STARTING) {
        for signal in [libc::SIGUSR1, libc::SIGHUP] {
            let (mut httpd, port) = server(hook);
            httpd.start();
            assert_eq!(asked(&httpd, port, "--http1.1"), (200, 1), "{hook}");
            httpd.replace_module(Module::InjectPanic, "Include site.inc");
            let Restart::Served(log) = httpd.restart(signal) else {
                panic!("{hook}: the site has ended:\n{}", httpd.log())
            };
            says_why(hook, &log);
            // The header is withheld, because the configuration was not checked.
            assert_eq!(asked(&httpd, port, "--http1.1"), (200, 0), "{hook}");
            // The build without the bug sends the header again.
            httpd.replace_module(Module::Shipped, "Include site.inc");
            assert!(matches!(httpd.restart(signal), Restart::Served(_)), "{hook}");
            assert_eq!(asked(&httpd, port, "--http1.1"), (200, 1), "{hook}");
            httpd.stop();
        }
    }
}

#[test]
fn a_request_is_answered_in_spite_of_a_panic() {
    for (hook, sent) in SERVING {
        let (mut httpd, port) = server(hook);
        httpd.replace_module(Module::InjectPanic, "Include site.inc");
        httpd.test().accepted(&[]);
        httpd.start();
        let workers = httpd.workers();
        for version in ["--http1.1", "--http2", "--http1.1", "--http2"] {
            assert_eq!(asked(&httpd, port, version), (200, usize::from(sent)), "{hook} {version}");
        }
        assert_eq!(httpd.workers(), workers, "{hook}");
        says_why(hook, &httpd.log());
        httpd.stop();
    }
}

/// A CGI program whose name begins with `nph-` writes its response to the connection itself.
#[test]
fn a_panic_past_the_filters_passes_the_response_on() {
    let (mut httpd, port) = server(BEFORE);
    httpd.load(&["cgid"]);
    let pki = httpd.pki();
    let program = pki.path("nph-x");
    hpkp_tests::write_program(&program, "#!/bin/sh\nprintf 'HTTP/1.1 200 OK\\r\\n\\r\\nx'\n");
    let alias = format!("ScriptSock cgid\nScriptAlias /nph-x {}\n", program.display());
    httpd.replace_module(Module::InjectPanic, &format!("Include site.inc\n{alias}"));
    httpd.start();
    let workers = httpd.workers();
    let url = format!("https://localhost:{port}/nph-x");
    for _ in 0..2 {
        let curl = Curl::new(&httpd.path("ca.pem")).with(&["--http1.1"]);
        assert_eq!(curl.get(&url).status, 200);
    }
    assert_eq!(asked(&httpd, port, "--http1.1"), (200, 1));
    assert_eq!(httpd.workers(), workers);
    says_why(BEFORE, &httpd.log());
    httpd.stop();
}

#[test]
fn a_panic_while_freeing_a_configuration_costs_nothing_else() {
    for hook in ENDING {
        let (mut httpd, port) = server(hook);
        // The panic makes the module leak, so leak detection is off.
        if let Some((name, value)) = without_leaks() {
            httpd.set_environment(name, &value);
        }
        httpd.pki().records("records");
        let text = "Include site.inc\nHPKPPublishedPins records";
        httpd.replace_module(Module::InjectPanic, text);
        assert_eq!(httpd.test().code, Some(0));
        httpd.start();
        for signal in [libc::SIGUSR1, libc::SIGHUP] {
            assert!(matches!(httpd.restart(signal), Restart::Served(_)));
            assert_eq!(asked(&httpd, port, "--http1.1"), (200, 1));
        }
        httpd.stop();
        says_why(hook, &(httpd.log() + &httpd.terminal_output()));
    }
}

/// Every hook of the module is in one of the lists above.
#[test]
fn no_hook_is_forgotten() {
    let sources = concat!(env!("CARGO_MANIFEST_DIR"), "/../apache-hpkp/src");
    let mut hooks = BTreeSet::new();
    for file in std::fs::read_dir(sources).expect("the module's sources") {
        let path = file.expect("an entry").path();
        if path.file_name().is_some_and(|name| name == "boundary.rs") {
            continue;
        }
        let source = std::fs::read_to_string(path).expect("a source");
        for entry in ["catch_config_hook(", "catch_request_hook(", "make(", "guarded("] {
            for (at, _) in source.match_indices(entry) {
                let rest = source[at + entry.len()..].trim_start();
                if let Some(name) = rest.strip_prefix('"') {
                    hooks.insert(name.split('"').next().expect("a name").to_owned());
                }
            }
        }
    }
    let serving = SERVING.iter().map(|(hook, _)| hook).chain(&ENDING).chain([&BEFORE]);
    let listed: BTreeSet<String> =
        TESTING.iter().chain(&STARTING).chain(serving).map(|hook| (*hook).to_owned()).collect();
    assert_eq!(hooks, listed);
}
