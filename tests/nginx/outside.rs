//! TLS servers outside `http`, in `stream` and `mail`: their certificates are compared with held pins as well.

use std::fs;

use hpkp_tests::client::Curl;
use hpkp_tests::free_port;
use hpkp_tests::nginx::{
    Module, Nginx, Reload, codes, compile_module, load_modules, tls_server, version, wait,
};
use hpkp_tests::recorded::{self, held_on_port};
use hpkp_tests::site::{B, prepared, prepared_with};

const UNMET: &str = "published-pins-unmet";

/// The place of a `stream` or `mail` block in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    BeforeHttp,
    BehindHttp,
}

const PLACES: [Place; 2] = [Place::BeforeHttp, Place::BehindHttp];

/// A server with the certificates `dns` and `new` for dns.example.com. By its records, clients hold the pin of
/// `dns` for `port`.
fn with_holders(port: u16) -> Nginx {
    let nginx = prepared();
    hold(&nginx, port);
    nginx
}

fn hold(nginx: &Nginx, port: u16) {
    let pki = nginx.pki();
    pki.leaf("dns", "dns.example.com", "ca");
    pki.leaf("new", "dns.example.com", "ca");
    pki.records("records");
    held_on_port(&nginx.path("records/dns.jsonl"), "dns.example.com", port, &pki.pin("dns.pem"));
}

/// Writes a configuration with `http`, records, and `block` before or behind them.
fn configure(nginx: &Nginx, place: Place, http: &str, block: &str) {
    let modules = load_modules(&["stream", "mail"]);
    let (before, behind) = match place {
        Place::BeforeHttp => (block, ""),
        Place::BehindHttp => ("", block),
    };
    let main = format!("{modules}worker_processes 1; {}", before.replace('\n', " "));
    nginx.configure_around(
        &main,
        &format!("hpkp_published_pins records writer=web-1;\n{http}"),
        behind,
    );
}

/// A server in `stream` on an address.
fn stream(listen: &str, certificate: &str) -> String {
    format!(
        "stream {{ server {{ listen {listen} ssl; ssl_certificate {certificate}.pem; \
         ssl_certificate_key {certificate}.key; return x; }} }}"
    )
}

/// A server in `mail` with these directives.
fn mail(directives: &str, certificate: &str) -> String {
    format!(
        "mail {{ auth_http 127.0.0.1:1/; server_name dns.example.com; \
         ssl_certificate {certificate}.pem; ssl_certificate_key {certificate}.key; \
         server {{ protocol imap; {directives} }} }}"
    )
}

/// Writes a block whose server has the certificate of this name.
type Shape = Box<dyn Fn(&str) -> String>;

#[test]
fn a_key_that_holders_of_tlsa_records_refuse_is_refused_wherever_its_block_stands() {
    let port = free_port();
    let nginx = with_holders(port);
    let socket = nginx.path("socket").display().to_string();
    let mut shapes: Vec<(String, Shape)> = Vec::new();
    for listen in [
        format!("127.0.0.1:{port}"),
        format!("[::1]:{port}"),
        format!("127.0.0.1:{port} so_keepalive=on"),
    ] {
        shapes.push((listen.clone(), Box::new(move |name| stream(&listen, name))));
    }
    for directives in [
        format!("listen 127.0.0.1:{port} ssl;"),
        format!("listen 127.0.0.1:{port}; starttls on;"),
        format!("listen [::1]:{port}; starttls only;"),
    ] {
        shapes.push((directives.clone(), Box::new(move |name| mail(&directives, name))));
    }
    if version() < (1, 25, 1) {
        let directives = format!("listen 127.0.0.1:{port}; ssl on;");
        shapes.push((directives.clone(), Box::new(move |name| mail(&directives, name))));
    }
    // Clients may reach a Unix socket on any public port.
    shapes.push((socket.clone(), Box::new(move |name| stream(&format!("unix:{socket}"), name))));
    for (shape, block) in &shapes {
        for place in PLACES {
            configure(&nginx, place, "", &block("dns"));
            nginx.test().accepted(&[]);
            configure(&nginx, place, "", &block("new"));
            let outcome = nginx.test();
            assert_eq!(
                (outcome.code, outcome.codes()),
                (Some(1), vec![UNMET]),
                "{place:?} {shape}"
            );
            assert!(outcome.text.contains("dns.example.com ("), "{}", outcome.text);
            // A start with no running server continues, unless `hpkp_on_start refuse` is set.
            configure(&nginx, place, "hpkp_on_start refuse;", &block("new"));
            let outcome = nginx.run(&["-g", "daemon off;"]);
            assert_eq!(
                (outcome.code, outcome.codes()),
                (Some(1), vec![UNMET]),
                "{place:?} {shape}"
            );
            configure(&nginx, place, "hpkp_check warn;", &block("new"));
            nginx.test().accepted(&[UNMET]);
        }
    }
}

#[test]
fn servers_without_tls_or_held_pins_are_not_compared() {
    let (port, other) = (free_port(), free_port());
    let nginx = with_holders(port);
    for place in PLACES {
        for block in [
            stream(&format!("127.0.0.1:{port}"), "new").replace(" ssl;", ";"),
            // The server has TLS on one of its addresses, and not on the other.
            stream(&format!("127.0.0.1:{port}; listen 127.0.0.1:{other}"), "new"),
            stream(&format!("127.0.0.1:{other}"), "new"),
            mail(&format!("listen 127.0.0.1:{other} ssl;"), "new"),
            mail(&format!("listen 127.0.0.1:{port};"), "new"),
        ] {
            configure(&nginx, place, "", &block);
            assert_eq!(nginx.test().code, Some(0), "{block}");
        }
    }
}

const CLOSED: &str = "pinned-port-closed";

/// A port for which clients hold pins has no TLS server any more.
#[test]
fn a_closed_port_with_held_pins_is_reported() {
    for place in PLACES {
        let (port, other) = (free_port(), free_port());
        let mut nginx = with_holders(port);
        let listen = format!("127.0.0.1:{port}");
        configure(&nginx, place, "", &stream(&listen, "dns"));
        nginx.start();
        for block in [
            stream(&listen, "dns").replace(" ssl;", ";"),
            stream(&format!("127.0.0.1:{other}"), "dns"),
            mail(&format!("listen {listen};"), "dns"),
            String::new(),
        ] {
            configure(&nginx, place, "", &block);
            let outcome = nginx.test();
            outcome.accepted(&[CLOSED]);
            assert!(
                outcome.text.contains(&format!("dns.example.com:{port} with TLS")),
                "{}",
                outcome.text
            );
        }
        // The server has moved to another machine, or to another block.
        configure(&nginx, place, &format!("hpkp_not_served_here dns.example.com:{port};"), "");
        nginx.test().accepted(&["not-served-here"]);
        configure(&nginx, place, "", &mail(&format!("listen {listen} ssl;"), "dns"));
        nginx.test().accepted(&[]);
        // The finding is logged once: after the reload this is the last accepted configuration.
        nginx.expect_in_log(&[&format!("hpkp: [{CLOSED}]")]);
        configure(&nginx, place, "", "");
        assert_eq!(nginx.reload(), Reload::Accepted);
        nginx.test().accepted(&[]);
        nginx.stop();
    }
}

/// Clients may ignore names: the port counts though its certificate has another name than the pins.
#[test]
fn a_port_whose_certificate_has_another_name_is_closed() {
    let port = free_port();
    let mut nginx = prepared();
    let pki = nginx.pki();
    pki.leaf("dns", "other.example.com", "ca");
    pki.leaf("web", "web.example.com", "ca");
    pki.records("records");
    held_on_port(&nginx.path("records/dns.jsonl"), "dns.example.com", port, &pki.pin("dns.pem"));
    let listen = format!("127.0.0.1:{port}");
    configure(&nginx, Place::BeforeHttp, "", &stream(&listen, "dns"));
    nginx.start();
    configure(&nginx, Place::BeforeHttp, "", "");
    nginx.test().accepted(&[CLOSED]);
    nginx.stop();
}

#[test]
fn a_website_that_loses_its_tls_is_reported() {
    let web = free_port();
    let mut nginx = prepared();
    nginx.pki().records("records");
    let policy = format!(
        "hpkp_policy site {{ pin {}; pin {B}; max_age 1d; }}\n",
        nginx.pki().pin("live.pem")
    );
    let server = tls_server(web, "localhost", "live", "return 200 x;");
    let pinned = tls_server(web, "localhost", "live", "hpkp site; return 200 x;");
    configure(&nginx, Place::BeforeHttp, &format!("{policy}{pinned}"), "");
    nginx.start();
    for http in [server.replace(" ssl;", ";"), String::new()] {
        configure(&nginx, Place::BeforeHttp, &http, "");
        let outcome = nginx.test();
        assert_eq!((outcome.code, outcome.codes()), (Some(0), vec![CLOSED]), "{}", outcome.text);
        assert!(outcome.text.contains(&format!("localhost:{web} with TLS")), "{}", outcome.text);
    }
    configure(&nginx, Place::BeforeHttp, &server, "");
    assert!(!nginx.test().codes().contains(&CLOSED));
    nginx.stop();
}

/// A module with a directive for `stream` that chooses certificates, because Debian has no Lua for `stream`.
const CHOOSER: &str = r#"
#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_stream.h>
#include <ngx_stream_ssl_module.h>
#if nginx_version >= 1025005
#define ngx_stream_ssl_conf_t ngx_stream_ssl_srv_conf_t
#endif
static void *create(ngx_conf_t *cf) { return ngx_pcalloc(cf->pool, sizeof(ngx_str_t)); }
static int choose(ngx_ssl_conn_t *ssl, void *name) {
    char file[4096];
    snprintf(file, sizeof(file), "%s.pem", (char *) name);
    SSL_use_certificate_file(ssl, file, SSL_FILETYPE_PEM);
    snprintf(file, sizeof(file), "%s.key", (char *) name);
    return SSL_use_PrivateKey_file(ssl, file, SSL_FILETYPE_PEM);
}
static char *merge(ngx_conf_t *cf, void *outer, void *inner) {
    ngx_str_t *name = inner;
    ngx_stream_ssl_conf_t *ssl = ngx_stream_conf_get_module_srv_conf(cf, ngx_stream_ssl_module);
    if (!name->len) { *name = *(ngx_str_t *) outer; }
    if (name->len && ssl->ssl.ctx) { SSL_CTX_set_cert_cb(ssl->ssl.ctx, choose, name->data); }
    return NGX_CONF_OK;
}
static ngx_command_t commands[] = {
    { ngx_string("DIRECTIVE"), NGX_STREAM_MAIN_CONF|NGX_STREAM_SRV_CONF|NGX_CONF_TAKE1, ngx_conf_set_str_slot, NGX_STREAM_SRV_CONF_OFFSET, 0, NULL },
    ngx_null_command
};
static ngx_stream_module_t context = { NULL, NULL, NULL, NULL, create, merge };
ngx_module_t ngx_stream_chooser_module = {
    NGX_MODULE_V1, &context, commands, NGX_STREAM_MODULE, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NGX_MODULE_V1_PADDING
};
ngx_module_t *ngx_modules[] = { &ngx_stream_chooser_module, NULL };
char *ngx_module_names[] = { "ngx_stream_chooser_module", NULL };
char *ngx_module_order[] = { NULL };
"#;

/// Compiles the module with this directive for Debian's nginx.
fn chooser(nginx: &Nginx, directive: &str) -> String {
    compile_module(nginx, directive, &CHOOSER.replace("DIRECTIVE", directive), &["stream"])
}

/// As [`configure`], with a module loaded before (`is_first`) or after ours.
fn configure_with(nginx: &Nginx, place: Place, module: &str, is_first: bool, block: &str) {
    configure(nginx, place, "", block);
    let file = nginx.path("nginx.conf");
    let text = fs::read_to_string(&file).expect("a configuration");
    let stream = load_modules(&["stream"]);
    let load = format!("{stream}load_module {module};");
    let text = match is_first {
        true => load + "\n" + &text.replacen(&stream, "", 1),
        false => text.replacen(&stream, &load, 1),
    };
    fs::write(file, text).expect("a configuration");
}

#[test]
fn a_certificate_chosen_in_stream_is_not_known_at_load() {
    if std::env::var_os("HPKP_NGINX").is_some() {
        eprintln!("not tested: the module is for Debian's nginx");
        return;
    }
    let port = free_port();
    let mut nginx = with_holders(port);
    let chooses = chooser(&nginx, "ssl_certificate_by_test");
    let listen = format!("127.0.0.1:{port}");
    let real = nginx.path("dns").display().to_string();
    let directive = format!("ssl_certificate_by_test {real};");
    let own = stream(&listen, "new").replace("return x;", &format!("{directive} return x;"));
    let around = stream(&listen, "new").replace("stream {", &format!("stream {{ {directive}"));
    // Clients hold pins for the server, so the finding is `certificate-not-known-at-load`.
    nginx.expect_in_log(&["certificate-not-known-at-load"]);
    for place in PLACES {
        for is_first in [true, false] {
            for block in [&own, &around] {
                configure_with(&nginx, place, &chooses, is_first, block);
                let outcome = nginx.test();
                outcome.accepted(&["certificate-not-known-at-load"]);
                assert!(
                    outcome.text.contains("(ssl_certificate_by_test, configured at "),
                    "{}",
                    outcome.text
                );
                nginx.start();
                assert_eq!(nginx.reload(), Reload::Accepted);
                nginx.stop();
                let kinds = recorded::kinds(&nginx.path("records/web-1.jsonl"));
                assert!(!kinds.contains(&"presents"), "{kinds:?}");
            }
            // Without the directive the loaded certificate is compared.
            configure_with(&nginx, place, &chooses, is_first, &stream(&listen, "new"));
            let outcome = nginx.test();
            assert_eq!(outcome.code, Some(1), "{}", outcome.text);
            assert!(outcome.codes().contains(&UNMET), "{}", outcome.text);
        }
    }
    // A ClientHello directive has another purpose, and a directive `present` reveals nothing; both may replace the
    // certificate.
    for name in ["ssl_client_hello_by_test", "present"] {
        let module = chooser(&nginx, name);
        let block = stream(&listen, "dns");
        let block = block.replace("return x;", &format!("{name} {real}; return x;"));
        configure_with(&nginx, Place::BeforeHttp, &module, true, &block);
        nginx.test().accepted(&["certificate-may-be-replaced"]);
    }
}

/// Only HTTP clients hold the pins of a header.
#[test]
fn a_header_does_not_bind_the_mail_server_of_the_name() {
    let (port, web) = (free_port(), free_port());
    let nginx = with_holders(free_port());
    let live = nginx.pki().pin("live.pem");
    let http = format!(
        "hpkp_policy site {{ pin {live}; pin {B}; max_age 1d; }}\n{}",
        tls_server(web, "dns.example.com", "live", "hpkp site; return 200 x;")
    );
    for place in PLACES {
        configure(&nginx, place, &http, &mail(&format!("listen 127.0.0.1:{port} ssl;"), "new"));
        assert_eq!(nginx.test().code, Some(0));
    }
}

/// Kills the workers of a website with a header, a field of `add_header` and a compressed file, and fails unless
/// the new workers serve all of them.
#[track_caller]
fn replaced_workers_serve(nginx: &Nginx, port: u16) {
    nginx.replace_workers();
    let curl = Curl::new(&nginx.path("ca.pem")).with(&["--compressed"]);
    let response = curl.get(&format!("https://localhost:{port}/file.txt"));
    assert_eq!((response.status, response.pins().len()), (200, 1));
    assert_eq!(response.all("x-mine"), ["yes"]);
    assert_eq!(response.all("content-encoding"), ["gzip"]);
    let range = Curl::new(&nginx.path("ca.pem")).with(&["-r", "0-9"]);
    let range = range.get(&format!("https://localhost:{port}/file.txt"));
    assert_eq!((range.status, range.all("content-length")), (206, vec!["10"]));
    // The master has no other child.
    assert_eq!(nginx.workers().len(), 1);
}

fn website(nginx: &Nginx, port: u16) -> String {
    nginx.pki().write("html/file.txt", "x".repeat(3000));
    let live = nginx.pki().pin("live.pem");
    let more = "hpkp site; add_header X-Mine yes always; gzip on; gzip_types text/plain; \
                gzip_min_length 10; default_type text/plain; location /file.txt { root html; }";
    format!(
        "hpkp_policy site {{ pin {live}; pin {B}; max_age 1d; }}\n{}",
        tls_server(port, "localhost", "live", more)
    )
}

#[test]
fn workers_replaced_after_a_refusal_outside_http_serve_as_before() {
    for place in PLACES {
        let (port, web) = (free_port(), free_port());
        let mut nginx = with_holders(port);
        let http = website(&nginx, web);
        let listen = format!("127.0.0.1:{port}");
        configure(&nginx, place, &http, &stream(&listen, "dns"));
        nginx.start();
        nginx.expect_in_log(&[&format!("hpkp: [{UNMET}]"), "exited on signal 9"]);
        configure(&nginx, place, &http, &stream(&listen, "new"));
        nginx.run(&["-s", "reload"]).refused_signal();
        let Reload::Refused(log) = nginx.reload() else { panic!("{place:?}: accepted") };
        assert_eq!(codes(&log), [UNMET]);
        replaced_workers_serve(&nginx, web);
        configure(&nginx, place, &http, &stream(&listen, "dns"));
        let before = nginx.log().len();
        assert_eq!(nginx.reload(), Reload::Accepted);
        assert_eq!(codes(&nginx.log()[before..]), [""; 0]);
        replaced_workers_serve(&nginx, web);
        // A refused configuration does not keep the server from being stopped.
        configure(&nginx, place, &http, &stream(&listen, "new"));
        let outcome = nginx.run(&["-s", "quit"]);
        assert_eq!((outcome.code, outcome.codes()), (Some(0), vec![]), "{place:?}");
        assert!(wait(|| !nginx.is_running()));
        nginx.stopped();
    }
}

/// The refused configuration loads a module with filters that the running one does not have. nginx unloads that
/// module again.
#[test]
fn workers_replaced_after_a_refusal_with_new_filters_serve_as_before() {
    if std::env::var_os("HPKP_NGINX").is_some() {
        return;
    }
    let (port, web) = (free_port(), free_port());
    let mut nginx = with_holders(port);
    let http = website(&nginx, web);
    let listen = format!("127.0.0.1:{port}");
    configure(&nginx, Place::BehindHttp, &http, &stream(&listen, "dns"));
    nginx.start();
    nginx.expect_in_log(&[&format!("hpkp: [{UNMET}]"), "exited on signal 9"]);
    let lua = "load_module /usr/lib/nginx/modules/ndk_http_module.so; \
               load_module /usr/lib/nginx/modules/ngx_http_lua_module.so; ";
    let main = format!("{lua}{}worker_processes 1;", load_modules(&["stream", "mail"]));
    let filtered = http.replace("hpkp site;", "hpkp site; header_filter_by_lua_block { } ");
    let records = "hpkp_published_pins records writer=web-1;\n";
    nginx.configure_around(&main, &format!("{records}{filtered}"), &stream(&listen, "new"));
    assert!(matches!(nginx.reload(), Reload::Refused(_)));
    replaced_workers_serve(&nginx, web);
    nginx.stop();
}

/// An error behind `http` that nginx itself refuses is logged once, and no second master is left.
#[test]
fn an_error_behind_http_is_reported_once_by_nginx() {
    let (port, web) = (free_port(), free_port());
    let mut nginx = with_holders(port);
    let http = website(&nginx, web);
    let block = stream(&format!("127.0.0.1:{port}"), "dns");
    configure(&nginx, Place::BehindHttp, &http, &block);
    nginx.start();
    nginx.expect_in_log(&["unknown directive \"nonsense\"", "exited on signal 9"]);
    configure(&nginx, Place::BehindHttp, &http, &block.replace("return x;", "nonsense;"));
    let Reload::Refused(log) = nginx.reload() else { panic!("accepted") };
    assert_eq!(log.matches("[emerg]").count(), 1, "{log}");
    replaced_workers_serve(&nginx, web);
    configure(&nginx, Place::BehindHttp, &http, &block);
    assert_eq!(nginx.reload(), Reload::Accepted);
    replaced_workers_serve(&nginx, web);
    nginx.stop();
}

/// The module searches the text behind `http` for the words `stream` and `mail`; a quoted value over several lines
/// can hide them.
#[test]
fn a_block_that_hides_behind_http_is_found() {
    let (port, web) = (free_port(), free_port());
    let mut nginx = with_holders(port);
    let http = website(&nginx, web);
    let hidden = |certificate: &str| {
        let block = stream(&format!("127.0.0.1:{port}"), certificate);
        format!("env \"HIDDEN=\n#\"; {block}\n# mail {{ }}")
    };
    configure(&nginx, Place::BehindHttp, &http, &hidden("dns"));
    nginx.test().accepted(&[]);
    nginx.start();
    configure(&nginx, Place::BehindHttp, &http, &hidden("new"));
    // The first check does not see the block, so it reports the port as closed.
    let outcome = nginx.test();
    assert_eq!((outcome.code, outcome.codes()), (Some(1), vec![CLOSED, UNMET]));
    nginx.expect_in_log(&[&format!("hpkp: [{UNMET}]"), "exited on signal 9"]);
    nginx.expect_in_log(&[&format!("hpkp: [{CLOSED}]")]);
    assert!(matches!(nginx.reload(), Reload::Refused(_)));
    replaced_workers_serve(&nginx, web);
    nginx.stop();
}

/// If no block follows `http`, the first check refuses the configuration before nginx has read all of it.
#[test]
fn a_configuration_with_nothing_behind_http_is_checked_at_once() {
    let nginx = with_holders(free_port());
    held_on_port(&nginx.path("records/web.jsonl"), "localhost", 443, B);
    let server = "server { listen 127.0.0.1:443 ssl; server_name localhost; \
                  ssl_certificate live.pem; ssl_certificate_key live.key; }";
    for (behind, is_at_once) in
        [("", true), ("# stream {\n  # mail {", true), ("include none*.conf;", false)]
    {
        configure(&nginx, Place::BehindHttp, server, behind);
        let outcome = nginx.test();
        assert_eq!((outcome.code, outcome.codes()), (Some(1), vec![UNMET]), "{behind}");
        assert_eq!(
            !outcome.text.contains("syntax is ok"),
            is_at_once,
            "{behind}: {}",
            outcome.text
        );
    }
}

/// A panic in the rehearsal refuses the reload while the running configuration is still untouched.
#[test]
fn a_panic_in_a_rehearsal_refuses_the_reload() {
    let (port, web) = (free_port(), free_port());
    let mut nginx = prepared_with(Module::InjectPanic);
    hold(&nginx, port);
    nginx.set_environment("HPKP_INJECT_PANIC", "late gate");
    nginx.pki().write("html/file.txt", "x".repeat(3000));
    let http = tls_server(web, "localhost", "live", "root html;");
    let block = stream(&format!("127.0.0.1:{port}"), "dns");
    configure(&nginx, Place::BehindHttp, &http, &block);
    nginx.expect_in_log(&["hpkp: a bug in the module (late gate)", "exited on signal 9"]);
    nginx.start();
    let Reload::Refused(log) = nginx.reload() else { panic!("accepted") };
    assert_eq!(log.matches("hpkp: ").count(), 1, "{log}");
    nginx.replace_workers();
    let curl = Curl::new(&nginx.path("ca.pem"));
    assert_eq!(curl.get(&format!("https://localhost:{web}/file.txt")).status, 200);
    nginx.stop();
}

/// With `master_process off`, a late refusal would damage the filters of the process that answers requests.
#[test]
fn a_server_in_one_process_refuses_and_continues() {
    let (port, web) = (free_port(), free_port());
    let mut nginx = with_holders(port);
    let http = website(&nginx, web);
    let listen = format!("127.0.0.1:{port}");
    configure(&nginx, Place::BehindHttp, &http, &stream(&listen, "dns"));
    nginx.up_in_one_process();
    let url = format!("https://localhost:{web}/file.txt");
    let curl = Curl::new(&nginx.path("ca.pem")).with(&["--compressed"]);
    assert!(wait(|| curl.try_get(&url).is_some()));
    nginx.expect_in_log(&[&format!("hpkp: [{UNMET}]")]);
    configure(&nginx, Place::BehindHttp, &http, &stream(&listen, "new"));
    let Reload::Refused(log) = nginx.reload() else { panic!("accepted") };
    assert_eq!(codes(&log), [UNMET]);
    let response = curl.get(&url);
    assert_eq!((response.status, response.pins().len()), (200, 1));
    assert_eq!(response.all("content-encoding"), ["gzip"]);
    nginx.stop();
}

/// A reload of the running configuration is not refused: refusing it would only keep other hosts from being renewed.
#[test]
fn a_mismatch_outside_http_that_started_does_not_refuse_the_next_reload() {
    // A server without records of its own knows its certificates from the running configuration alone.
    for (place, own) in PLACES.into_iter().flat_map(|p| [(p, "writer=web-1"), (p, "read_only")]) {
        let (port, web) = (free_port(), free_port());
        let mut nginx = with_holders(port);
        let http = website(&nginx, web);
        configure(&nginx, place, &http, &stream(&format!("127.0.0.1:{port}"), "new"));
        let file = nginx.path("nginx.conf");
        let text = fs::read_to_string(&file).expect("a configuration");
        fs::write(file, text.replace("writer=web-1", own)).expect("a configuration");
        nginx.expect_in_log(&[&format!("hpkp: [{UNMET}]"), "hpkp: [published-pins-no-writer]"]);
        nginx.start();
        assert_eq!(codes(&nginx.log())[0], UNMET);
        assert_eq!(nginx.reload(), Reload::Accepted);
        assert_eq!(nginx.reload(), Reload::Accepted);
        nginx.stop();
    }
}

#[test]
fn presented_keys_outside_http_are_recorded() {
    for place in PLACES {
        let port = free_port();
        let mut nginx = with_holders(free_port());
        configure(&nginx, place, "", &stream(&format!("127.0.0.1:{port}"), "dns"));
        nginx.start();
        let own = nginx.path("records/web-1.jsonl");
        assert!(wait(|| own.exists()));
        nginx.stop();
        let text = fs::read_to_string(&own).expect("a file");
        assert!(recorded::kinds(&own).contains(&"presents"), "{place:?}: {text}");
        assert!(text.contains("dns.example.com") && text.contains(&port.to_string()), "{text}");
    }
}

#[test]
fn a_server_outside_http_that_cannot_be_checked_is_reported() {
    const CODE: &str = "tls-server-not-checked";
    let port = free_port();
    let nginx = with_holders(free_port());
    let variable = format!(
        "stream {{ map $ssl_server_name $file {{ default dns; }}\nserver {{ listen 127.0.0.1:{port} ssl; \
         ssl_certificate $file.pem; ssl_certificate_key $file.key; return x; }} }}"
    );
    let passing = format!(
        "stream {{ server {{ listen 127.0.0.1:{port}; ssl_preread on; proxy_pass 127.0.0.1:1; }} }}"
    );
    for place in PLACES {
        for block in [&variable, &passing] {
            configure(&nginx, place, "", block);
            let outcome = nginx.test();
            outcome.accepted(&[CODE]);
            let named = format!("hpkp: [{CODE}] stream 127.0.0.1:{port}: ");
            assert!(outcome.text.contains(&named), "{}", outcome.text);
            let file = nginx.path("nginx.conf").display().to_string();
            assert!(outcome.text.contains(&format!("(configured at {file}:")), "{}", outcome.text);
        }
    }
}

/// Behind a port mapping, clients connect to another port than the one on which the server listens.
#[test]
fn a_public_port_outside_http() {
    let port = free_port();
    let nginx = with_holders(853);
    let socket = format!("unix:{}", nginx.path("socket").display());
    for place in PLACES {
        for (listen, declared) in [
            (format!("127.0.0.1:{port}"), port.to_string()),
            (format!("[::1]:{port}"), port.to_string()),
            (socket.clone(), socket.clone()),
        ] {
            let public = format!("hpkp_public_port {declared} 853;");
            configure(&nginx, place, &public, &stream(&listen, "dns"));
            nginx.test().accepted(&[]);
            configure(&nginx, place, &public, &stream(&listen, "new"));
            let outcome = nginx.test();
            assert_eq!(
                (outcome.code, outcome.codes()),
                (Some(1), vec![UNMET]),
                "{place:?} {listen}"
            );
            // The server is reached on another public port only.
            let other = format!("hpkp_public_port {declared} 8853;");
            configure(&nginx, place, &other, &stream(&listen, "new"));
            assert_eq!(nginx.test().code, Some(0), "{place:?} {listen}");
        }
    }
    configure(&nginx, Place::BehindHttp, "hpkp_public_port unix:/nowhere 853;", "");
    nginx.test().accepted(&["public-port-unused"]);
}

/// From 1.25.5 on, servers of one address are chosen by the name that a client sends.
#[test]
fn servers_that_share_an_address_in_stream() {
    if version() < (1, 25, 5) {
        return;
    }
    let port = free_port();
    let nginx = with_holders(port);
    nginx.pki().leaf("web", "www.example.com", "ca");
    let block = |certificate: &str, default: &str| {
        format!(
            "stream {{ server {{ listen 127.0.0.1:{port} ssl {default}; server_name www.example.com; \
             ssl_certificate web.pem; ssl_certificate_key web.key; return x; }}\n\
             server {{ listen 127.0.0.1:{port} ssl; server_name dns.example.com; \
             ssl_certificate {certificate}.pem; ssl_certificate_key {certificate}.key; return x; }} }}"
        )
    };
    // Only HTTP clients hold the pins of a header.
    let http = format!(
        "hpkp_policy site {{ pin {}; pin {B}; max_age 1d; }}\n{}",
        nginx.pki().pin("live.pem"),
        tls_server(free_port(), "www.example.com", "live", "hpkp site; return 200 x;")
    );
    for place in PLACES {
        for default in ["", "default_server"] {
            configure(&nginx, place, &http, &block("dns", default));
            nginx.test().accepted(&[]);
            configure(&nginx, place, "", &block("new", default));
            let outcome = nginx.test();
            assert_eq!((outcome.code, outcome.codes()), (Some(1), vec![UNMET]), "{place:?}");
        }
        let rejecting = format!(
            "stream {{ server {{ listen 127.0.0.1:{port} ssl; ssl_certificate new.pem; \
             ssl_certificate_key new.key; ssl_reject_handshake on; return x; }} }}"
        );
        configure(&nginx, place, "", &rejecting);
        assert_eq!(nginx.test().code, Some(0));
    }
}
