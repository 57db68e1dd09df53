//! A panic in our module does not take nginx down. A build for this test alone injects a panic into each hook.

use std::collections::BTreeSet;

use hpkp_tests::client::Curl;
use hpkp_tests::free_port;
use hpkp_tests::nginx::{Module, Nginx, Reload, load_modules, tls_server, without_leaks};

use hpkp_tests::site::{B, prepared_with};

/// The hooks that run while a configuration is read.
const CONFIGURING: [&str; 10] = [
    "preconfiguration",
    "create_main_conf",
    "create_srv_conf",
    "merge_srv_conf",
    "watch",
    "directive",
    "early",
    "gate",
    "postconfiguration",
    "late gate",
];

/// The hooks that run at another time.
const OTHERS: [&str; 7] = [
    "init_module",
    "init_process",
    "header_filter",
    "body_filter",
    "variable",
    "cleanup",
    "exit_master",
];

/// The hooks that need another module, or a newer nginx.
const ELSEWHERE: [&str; 2] = ["watched_directive", "early_hints_filter"];

/// The hooks of our module for `stream`.
const STREAM: [&str; 3] = ["create_stream_conf", "merge_stream_conf", "watch_stream"];

/// The hooks of a guard.
const GUARD: [&str; 2] = ["guard", "guard_zone"];

fn server(hook: &str) -> (Nginx, u16) {
    let mut nginx = prepared_with(Module::InjectPanic);
    nginx.set_environment("HPKP_INJECT_PANIC", hook);
    if hook == "cleanup" {
        // A panic there leaves memory that is never freed.
        without_leaks().iter().for_each(|(name, value)| nginx.set_environment(name, value));
    }
    let (live, port) = (nginx.pki().pin("live.pem"), free_port());
    nginx.configure(&format!(
        "log_format told '$hpkp_status|$hpkp_header|'; access_log told.log told;
         hpkp_policy site {{ pin {live}; pin {B}; max_age 1d; }}\n{}",
        tls_server(port, "localhost", "live", "hpkp site; add_trailer X-Trailer x; return 200 x;")
    ));
    (nginx, port)
}

#[test]
fn a_panic_in_a_test_exits_1_with_its_hook() {
    for hook in CONFIGURING {
        let (nginx, _) = server(hook);
        let outcome = nginx.test();
        assert_eq!(outcome.code, Some(1), "{hook}: {outcome:?}");
        let line = "[emerg]";
        assert!(
            outcome.text.lines().any(|l| l.contains(line)
                && l.contains(&format!("a bug in the module ({hook})"))
                && l.contains("the configuration is refused")),
            "{hook}: {}",
            outcome.text
        );
        // The output has lines of nginx's log only, and no trace of a crash.
        assert!(!outcome.text.contains("thread '"), "{}", outcome.text);
        assert!(!outcome.text.contains("stack backtrace"), "{}", outcome.text);
    }
}

#[test]
fn a_panic_in_a_start_withholds_the_header() {
    for hook in CONFIGURING {
        let (mut nginx, port) = server(hook);
        nginx.expect_in_log(&["hpkp: a bug in the module"]);
        nginx.start();
        let response = Curl::new(&nginx.path("ca.pem")).get(&format!("https://localhost:{port}/"));
        assert_eq!((response.status, response.pins().len()), (200, 0), "{hook}");
        nginx.stop();
    }
}

#[test]
fn a_panic_in_a_reload_refuses_it_and_ends_no_site() {
    for hook in CONFIGURING {
        let (mut nginx, port) = server(hook);
        nginx.expect_in_log(&["hpkp: a bug in the module", "exited on signal 9"]);
        nginx.start();
        match nginx.reload() {
            Reload::Refused(log) => {
                assert!(log.contains(&format!("a bug in the module ({hook})")), "{log}");
            }
            // At these hooks a refusal would leave the master with half of its filters.
            Reload::Accepted => assert!(matches!(hook, "postconfiguration" | "late gate")),
        }
        // New workers prove that the master's configuration is undamaged.
        nginx.replace_workers();
        let response = Curl::new(&nginx.path("ca.pem")).get(&format!("https://localhost:{port}/"));
        assert_eq!(response.status, 200, "{hook}");
        assert!(nginx.is_running());
        nginx.stop();
    }
}

#[test]
fn a_panic_in_a_stream_block_costs_no_site() {
    for hook in STREAM {
        let mut nginx = prepared_with(Module::InjectPanic);
        nginx.set_environment("HPKP_INJECT_PANIC", hook);
        nginx.expect_in_log(&["hpkp: a bug in the module", "exited on signal 9"]);
        let (port, other) = (free_port(), free_port());
        let stream = format!(
            "{}worker_processes 1; stream {{ server {{ listen 127.0.0.1:{other}; return x; }} }}",
            load_modules(&["stream"])
        );
        nginx.configure_around(
            &stream,
            &tls_server(port, "localhost", "live", "return 200 x;"),
            "",
        );
        let outcome = nginx.test();
        let bug = format!("a bug in the module ({hook})");
        assert!(outcome.code == Some(1) && outcome.text.contains(&bug), "{hook}: {outcome:?}");
        nginx.start();
        let get = |nginx: &Nginx| {
            Curl::new(&nginx.path("ca.pem")).get(&format!("https://localhost:{port}/")).status
        };
        assert_eq!(get(&nginx), 200, "{hook}");
        // If the block is behind `http`, a refusal would leave the master with half of its filters.
        assert_eq!(nginx.reload(), Reload::Accepted);
        assert!(nginx.log().contains(&bug), "{}", nginx.log());
        nginx.replace_workers();
        assert_eq!(get(&nginx), 200, "{hook}");
        assert!(nginx.is_running());
        nginx.stop();
    }
}

#[test]
fn a_panic_ends_no_worker() {
    for hook in OTHERS {
        let (mut nginx, port) = server(hook);
        nginx.expect_in_log(&["hpkp: a bug in the module"]);
        nginx.test().accepted(&[]);
        nginx.start();
        let workers = nginx.workers();
        let curl = Curl::new(&nginx.path("ca.pem"));
        for _ in 0..3 {
            let response = curl.get(&format!("https://localhost:{port}/"));
            // Pins that were not recorded are not sent.
            let sent = usize::from(!matches!(hook, "init_module" | "header_filter"));
            assert_eq!((response.status, response.pins().len()), (200, sent), "{hook}");
        }
        assert_eq!(nginx.workers(), workers, "{hook}");
        assert_eq!(nginx.reload(), Reload::Accepted, "{hook}");
        assert_eq!(curl.get(&format!("https://localhost:{port}/")).status, 200);
        nginx.stop();
        let outcome = nginx.log() + &nginx.terminal_output();
        assert!(outcome.contains(&format!("a bug in the module ({hook})")), "{hook}: {outcome}");
    }
}

/// After a panic, a server with a guard presents the given certificate.
#[test]
fn a_guard_that_fails_costs_no_site() {
    for hook in CONFIGURING.iter().chain(&GUARD).chain(&["init_module", "init_process"]) {
        let (mut nginx, port) = server(hook);
        nginx.expect_in_log(&["hpkp: a bug in the module", "certificate-checked-at-handshake"]);
        let pin = nginx.pki().pin("live.pem");
        nginx.configure(&format!(
            "hpkp_policy site {{ pin {pin}; pin {B}; max_age 1d; }}
             server {{ listen 127.0.0.1:{port} ssl; server_name localhost; hpkp site;
             hpkp_guard live.pem live.key; ssl_certificate $hpkp_certificate;
             ssl_certificate_key $hpkp_certificate_key; return 200 x; }}"
        ));
        nginx.start();
        for _ in 0..3 {
            let response =
                Curl::new(&nginx.path("ca.pem")).get(&format!("https://localhost:{port}/"));
            assert_eq!(response.status, 200, "{hook}");
        }
        let outcome = nginx.log() + &nginx.terminal_output();
        assert!(outcome.contains(&format!("a bug in the module ({hook})")), "{hook}: {outcome}");
        nginx.stop();
    }
}

/// Every hook of the module is in one of the lists above.
#[test]
fn no_hook_is_forgotten() {
    let sources = concat!(env!("CARGO_MANIFEST_DIR"), "/../ngx-hpkp/src");
    let mut hooks = BTreeSet::new();
    let mut paths = vec![std::path::PathBuf::from(sources)];
    while let Some(path) = paths.pop() {
        if path.is_dir() {
            let entries = std::fs::read_dir(path).expect("the module's sources");
            paths.extend(entries.map(|entry| entry.expect("an entry").path()));
            continue;
        }
        if path.file_name().is_some_and(|name| name == "boundary.rs") {
            continue;
        }
        let source = std::fs::read_to_string(path).expect("a source");
        for entry in [
            "catch_config_hook(",
            "catch_config_hook_late(",
            "catch_request_hook(",
            "catch_handshake_hook(",
            "create(",
        ] {
            for (at, _) in source.match_indices(entry) {
                let rest = source[at + entry.len()..].trim_start();
                if let Some(name) = rest.strip_prefix('"') {
                    hooks.insert(name.split('"').next().expect("a name").to_owned());
                }
            }
        }
    }
    let listed: BTreeSet<String> = CONFIGURING
        .iter()
        .chain(&OTHERS)
        .chain(&ELSEWHERE)
        .chain(&GUARD)
        .chain(&STREAM)
        .map(|hook| (*hook).to_owned())
        .collect();
    assert_eq!(hooks, listed);
}
