//! Pin fields in interim responses and in trailers: those of a back end must not reach a client.

use std::process::Command;

use hpkp_tests::backend;
use hpkp_tests::client::{Curl, Response};
use hpkp_tests::free_port;
use hpkp_tests::nginx::{Module, Nginx, tls_server, version, with_http2};
use hpkp_tests::site::{A, B, prepared, prepared_with};
use hpkp_tests::succeed;

const FIELDS: [&str; 2] = ["public-key-pins", "public-key-pins-report-only"];

/// A server for localhost with both kinds of policy, or none.
fn served(more: &str, has_policies: bool) -> (Nginx, u16) {
    served_by(prepared(), more, has_policies)
}

fn served_by(mut nginx: Nginx, more: &str, has_policies: bool) -> (Nginx, u16) {
    let (pin, port) = (nginx.pki().pin("live.pem"), free_port());
    let policies = if has_policies { "hpkp site; hpkp_report_only tried;" } else { "" };
    nginx.configure(&with_http2(&format!(
        "hpkp_policy site {{ pin {pin}; pin {B}; max_age 1d; }}
         hpkp_policy tried {{ pin {A}; pin {B}; report_uri https://r.example/; }}\n{}",
        tls_server(port, "localhost", "live", &format!("{policies} {more}"))
    )));
    nginx.expect_in_log(&["hpkp: ["]);
    nginx.start();
    (nginx, port)
}

fn ask(nginx: &Nginx, port: u16, version: &str) -> Vec<Response> {
    // A browser that understands trailers sends this field.
    let curl = Curl::new(&nginx.path("ca.pem")).with(&[version, "-H", "TE: trailers"]);
    curl.responses(&format!("https://localhost:{port}/"))
}

#[test]
fn early_hints_bring_no_foreign_field() {
    if version() < (1, 29, 0) {
        eprintln!("not tested: this nginx passes no early hints on");
        return;
    }
    let location = format!(
        "location / {{ early_hints 1; proxy_http_version 1.1; \
         proxy_pass http://127.0.0.1:{}/hints; }}",
        backend::start()
    );
    for has_policies in [true, false] {
        let (mut nginx, port) = served(&location, has_policies);
        for version in ["--http1.1", "--http2"] {
            let responses = ask(&nginx, port, version);
            let statuses: Vec<u16> = responses.iter().map(|response| response.status).collect();
            assert_eq!(statuses, [103, 103, 200], "{version}");
            for hint in &responses[..2] {
                assert_eq!(hint.all("link").len(), 1);
                for field in FIELDS {
                    // Without a policy the field passes.
                    assert_eq!(hint.all(field).len(), usize::from(!has_policies), "{version}");
                }
            }
            assert_eq!(responses[2].pins().len(), 1, "{version}");
        }
        nginx.stop();
    }
}

#[test]
fn a_panic_at_early_hints() {
    if version() < (1, 29, 0) {
        return;
    }
    let mut nginx = prepared_with(Module::InjectPanic);
    nginx.set_environment("HPKP_INJECT_PANIC", "early_hints_filter");
    let backend = backend::start();
    let location = format!(
        "location / {{ early_hints 1; proxy_http_version 1.1; proxy_pass http://127.0.0.1:{backend}/hints; }}"
    );
    nginx.expect_in_log(&["a bug in the module (early_hints_filter)"]);
    let (mut nginx, port) = served_by(nginx, &location, true);
    let workers = nginx.workers();
    for version in ["--http1.1", "--http2"] {
        assert_eq!(ask(&nginx, port, version).pop().map(|last| last.pins().len()), Some(1));
    }
    assert_eq!(nginx.workers(), workers);
    nginx.stop();
}

#[test]
fn trailers_bring_no_foreign_field() {
    let mut locations = vec![
        "add_trailer Public-Key-Pins 'pin-sha256=\"x\"' always; \
         add_trailer public-key-pins-report-only x always; add_trailer X-Trailer x always; \
         location / { try_files /none @named; } location @named { return 200 x; }"
            .to_owned(),
    ];
    if version() >= (1, 27, 2) {
        locations.push(format!(
            "location / {{ proxy_http_version 1.1; proxy_pass_trailers on; \
             proxy_set_header TE trailers; proxy_set_header Connection TE; \
             proxy_pass http://127.0.0.1:{}/trailers; }}",
            backend::start()
        ));
    }
    for location in &locations {
        let (mut nginx, port) = served(location, true);
        let responses = ask(&nginx, port, "--http1.1");
        let [response] = &*responses else { panic!("{responses:?}") };
        assert_eq!(response.all("x-trailer"), ["x"]);
        for field in FIELDS {
            let values = response.all(field);
            assert_eq!(values.len(), 1, "{values:?}");
            assert!(values[0].contains("pin-sha256=\"E9CZ"), "{values:?}");
        }
        // curl does not show trailers of HTTP/2.
        let mut nghttp = Command::new("nghttp");
        nghttp.args(["-nv", "-H", "te: trailers", &format!("https://localhost:{port}/")]);
        let frames = String::from_utf8_lossy(&succeed(&mut nghttp)).into_owned();
        let count = |field: &str| frames.matches(&format!("{field}: ")).count();
        assert_eq!(count("x-trailer"), 1, "{frames}");
        assert_eq!(FIELDS.map(count), [1, 1], "{frames}");
        nginx.stop();
    }
}
