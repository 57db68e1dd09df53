//! Certificates that other modules choose during the handshake, such as Lua in Debian's nginx. The certificate in
//! the configuration of such a server is a placeholder.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use hpkp_tests::cases::responses::count;
use hpkp_tests::client::{Curl, Response};
use hpkp_tests::free_port;
use hpkp_tests::nginx::{Module, Nginx, Reload, compile_module, tls_server};
use hpkp_tests::recorded;
use hpkp_tests::site::{A, B, prepared_with};

const MODULES: &str = "/usr/lib/nginx/modules";
/// Older versions of nginx do not enable TLS 1.3 by default.
const BOTH: &str = "ssl_protocols TLSv1.2 TLSv1.3;";
pub(crate) const LUA: &str = "lua_package_path \"/usr/share/lua/5.1/?.lua;;\";\n";

/// A server with certificates `placeholder` and `real` for localhost; `None` if the nginx under test is not
/// Debian's, for which the Lua module is built.
pub(crate) fn with_lua() -> Option<Nginx> {
    with_lua_and(Module::Shipped)
}

fn with_lua_and(module: Module) -> Option<Nginx> {
    if std::env::var_os("HPKP_NGINX").is_some() {
        eprintln!("not tested: Debian's Lua is for Debian's nginx");
        return None;
    }
    let lua = Path::new(MODULES).join("ngx_http_lua_module.so");
    assert!(lua.exists(), "{} is missing: run ci/prerequisites", lua.display());
    let nginx = prepared_with(module);
    nginx.pki().leaf("placeholder", "localhost", "ca");
    nginx.pki().leaf("real", "localhost", "ca");
    Some(nginx)
}

pub(crate) fn load() -> String {
    format!(
        "load_module {MODULES}/ndk_http_module.so; load_module {MODULES}/ngx_http_lua_module.so;"
    )
}

fn configure(nginx: &Nginx, http: &str) {
    nginx.configure_with(&format!("{} worker_processes 1;", load()), &format!("{LUA}{http}"));
}

/// As [`configure`], with Lua loaded before our module.
fn configure_with_lua_first(nginx: &Nginx, http: &str) {
    configure(nginx, http);
    let file = nginx.path("nginx.conf");
    let text = std::fs::read_to_string(&file).expect("a configuration");
    std::fs::write(file, load() + &text.replacen(&load(), "", 1)).expect("a configuration");
}

/// Code that presents `NAME.pem`.
fn present(nginx: &Nginx, name: &str) -> String {
    let file = |kind: &str| nginx.path(&format!("{name}.{kind}")).display().to_string();
    let (certificate, key) = (file("pem"), file("key"));
    format!(
        "local ssl = require \"ngx.ssl\"
         local function read(name) local file = io.open(name); local text = file:read(\"*a\"); file:close(); return text end
         ssl.clear_certs()
         ssl.set_cert(ssl.parse_pem_cert(read(\"{certificate}\")))
         ssl.set_priv_key(ssl.parse_pem_priv_key(read(\"{key}\")))"
    )
}

fn policy(pin: &str) -> String {
    format!("hpkp_policy site {{ pin {pin}; pin {B}; max_age 1d; }}\n")
}

fn ask(nginx: &Nginx, port: u16) -> Response {
    let curl = Curl::new(&nginx.path("ca.pem"));
    let response = curl.try_get(&format!("https://localhost:{port}/"));
    response.unwrap_or_else(|| panic!("no response:\n{}", nginx.log()))
}

/// How many headers a client gets, and how many when it resumes its session.
fn sent_and_when_resumed(nginx: &Nginx, port: u16, version: &str) -> [usize; 2] {
    let session = nginx.path("session").display().to_string();
    [("-sess_out", "New, "), ("-sess_in", "Reused, ")].map(|(option, kind)| {
        let mut client = Command::new("openssl");
        client.args([
            "s_client",
            "-ign_eof",
            "-servername",
            "localhost",
            version,
            option,
            &session,
        ]);
        client.args(["-connect", &format!("127.0.0.1:{port}")]);
        client.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut client = client.spawn().expect("openssl");
        let request = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        let written = client.stdin.as_mut().expect("a pipe").write_all(request);
        written.expect("a request");
        let output = client.wait_with_output().expect("openssl ends");
        let outcome = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(outcome.contains(kind) && outcome.contains("HTTP/1.1 200"), "{outcome}");
        count(&outcome, "Public-Key-Pins")
    })
}

/// The forms in which the directive may be written, for a server on `port`.
fn shapes(nginx: &Nginx, port: u16) -> Vec<String> {
    let code = present(nginx, "real");
    nginx.pki().write("choose.lua", &code);
    nginx.pki().write("choose.conf", format!("ssl_certificate_by_lua_block {{ {code} }}\n"));
    let block = format!("ssl_certificate_by_lua_block {{ {code} }}");
    let file = format!("ssl_certificate_by_lua_file {};", nginx.path("choose.lua").display());
    let included = format!("include {};", nginx.path("choose.conf").display());
    let server = |more: &str| {
        tls_server(port, "localhost", "placeholder", &format!("hpkp site; {more} return 200 x;"))
    };
    vec![
        server(&block),
        server(&file),
        server(&included),
        format!("{block}\n{}", server("")),
        format!("{file}\n{}", server("")),
    ]
}

#[test]
fn a_certificate_chosen_by_lua_is_not_known_at_load() {
    let Some(mut nginx) = with_lua() else { return };
    let pki = nginx.pki();
    let (real, placeholder, port) = (pki.pin("real.pem"), pki.pin("placeholder.pem"), free_port());
    nginx.expect_in_log(&["hpkp: [certificate-not-known-at-load] localhost:"]);
    for (number, shape) in shapes(&nginx, port).iter().enumerate() {
        // Whether the placeholder is pinned or not, the configuration is not refused and nothing is recorded.
        for (name, pin) in [("real", &real), ("placeholder", &placeholder)] {
            let records = format!("rec-{number}-{name}");
            pki.records(&records);
            let http = format!(
                "{}hpkp_published_pins {} writer=web;\n{shape}",
                policy(pin),
                nginx.path(&records).display()
            );
            match number % 2 {
                0 => configure(&nginx, &http),
                _ => configure_with_lua_first(&nginx, &http),
            }
            let outcome = nginx.test();
            outcome.accepted(&["certificate-not-known-at-load"]);
            assert!(outcome.text.contains("ssl_certificate_by_lua_"), "{}", outcome.text);
            nginx.start();
            let response = ask(&nginx, port);
            assert_eq!((response.status, response.pins().len()), (200, 0), "{shape}");
            nginx.stop();
            let kinds = recorded::kinds(&nginx.path(&records).join("web.jsonl"));
            assert!(!kinds.contains(&"presents") && !kinds.contains(&"published"), "{kinds:?}");
        }
    }
}

/// With `unguarded`, nginx sends the header if the certificate chosen by Lua satisfies the policy.
#[test]
fn an_unguarded_host_sends_the_header_if_the_certificate_chosen_by_lua_matches() {
    let Some(mut nginx) = with_lua() else { return };
    let port = free_port();
    let code = format!("ssl_certificate_by_lua_block {{ {} }}", present(&nginx, "real"));
    nginx.expect_in_log(&["hpkp: [certificate-not-guarded] localhost:"]);
    for (pinned, expected) in [("real.pem", 1), ("placeholder.pem", 0)] {
        let pin = nginx.pki().pin(pinned);
        let more = format!("{BOTH} hpkp site unguarded; {code} return 200 x;");
        let server = tls_server(port, "localhost", "placeholder", &more);
        configure(&nginx, &format!("{}{server}", policy(&pin)));
        nginx.test().accepted(&["certificate-not-guarded"]);
        nginx.start();
        for version in ["-tls1_2", "-tls1_3"] {
            let sent = sent_and_when_resumed(&nginx, port, version);
            assert_eq!(sent, [expected, expected], "{version} {pinned}");
        }
        nginx.stop();
    }
}

#[test]
fn pins_that_clients_hold_are_not_compared_with_a_placeholder() {
    let Some(mut nginx) = with_lua() else { return };
    let (real, port) = (nginx.pki().pin("real.pem"), free_port());
    nginx.pki().records("records");
    let http = |more: &str, certificate: &str| {
        let records = nginx.path("records").display().to_string();
        format!(
            "{}hpkp_published_pins {records} writer=web;\n{}",
            policy(&real),
            tls_server(port, "localhost", certificate, &format!("hpkp site; {more} return 200 x;"))
        )
    };
    let code = format!("ssl_certificate_by_lua_block {{ {} }}", present(&nginx, "real"));
    let (loaded, chosen) = (http("", "real"), http(&code, "placeholder"));
    let unprotected = http("", "placeholder");
    nginx.expect_in_log(&["certificate-not-known-at-load"]);
    configure(&nginx, &loaded);
    nginx.start();
    assert_eq!(ask(&nginx, port).pins().len(), 1);
    configure(&nginx, &chosen);
    nginx.test().accepted(&["certificate-not-known-at-load"]);
    assert_eq!(nginx.reload(), Reload::Accepted);
    assert_eq!(ask(&nginx, port).pins().len(), 0);
    // Without the code the placeholder is the certificate, and locks clients out.
    configure(&nginx, &unprotected);
    assert_eq!(nginx.test().code, Some(1));
    nginx.stop();
}

#[test]
fn a_server_beside_a_lua_server_is_compared() {
    let Some(mut nginx) = with_lua() else { return };
    let (pin, port) = (nginx.pki().pin("live.pem"), free_port());
    let code = present(&nginx, "real");
    let http = |pin: &str| {
        format!(
            "{}{}{}",
            policy(pin),
            tls_server(port, "localhost", "live", "hpkp site; return 200 x;"),
            tls_server(
                port,
                "other.example",
                "placeholder",
                &format!("ssl_certificate_by_lua_block {{ {code} }} return 200 x;")
            ),
        )
    };
    configure(&nginx, &http(A));
    nginx.test().refused("no-pin-in-chain", Nginx::FIRST_LINE + 2);
    configure(&nginx, &http(&pin));
    nginx.test().accepted(&[]);
    nginx.start();
    assert_eq!(ask(&nginx, port).pins().len(), 1);
    nginx.stop();
}

/// Our handler of another module's directive lasts as long as the configuration for which it was set.
#[test]
fn modules_that_come_and_go_at_reloads() {
    let Some(mut nginx) = with_lua() else { return };
    let (pin, port) = (nginx.pki().pin("live.pem"), free_port());
    let code = format!("ssl_certificate_by_lua_block {{ {} }}", present(&nginx, "real"));
    let server = |hpkp: &str, more: &str| {
        tls_server(port, "localhost", "placeholder", &format!("{hpkp} {more} return 200 x;"))
    };
    let both = format!("{}{}", policy(&pin), server("hpkp site;", &code));
    let broken = format!("{both}\nserver {{ listen 127.0.0.1:{port} ssl; no_such_directive; }}");
    let ours_alone = format!(
        "{}{}",
        policy(&pin),
        tls_server(port, "localhost", "live", "hpkp site; return 200 x;")
    );
    nginx.expect_in_log(&[
        "certificate-not-known-at-load",
        "no_such_directive",
        "exited on signal 9",
    ]);
    configure(&nginx, &both);
    nginx.start();
    for _ in 0..2 {
        configure(&nginx, &broken);
        assert!(matches!(nginx.reload(), Reload::Refused(_)));
        nginx.replace_workers();
        assert_eq!(ask(&nginx, port).status, 200);
        // Lua goes, and comes again.
        nginx.configure(&ours_alone);
        assert_eq!(nginx.reload(), Reload::Accepted);
        assert_eq!(ask(&nginx, port).pins().len(), 1);
        configure(&nginx, &both);
        assert_eq!(nginx.reload(), Reload::Accepted);
        assert_eq!(ask(&nginx, port).pins().len(), 0);
        // Our module goes, and comes again.
        nginx.configure_without_module(&server("", ""));
        assert_eq!(nginx.reload(), Reload::Accepted);
        configure(&nginx, &both);
        assert_eq!(nginx.reload(), Reload::Accepted);
        nginx.replace_workers();
        assert_eq!(ask(&nginx, port).pins().len(), 0);
    }
    // A duplicate Lua directive is refused with Lua's own message.
    configure(
        &nginx,
        &format!("{}{}", policy(&pin), server("hpkp site;", &format!("{code} {code}"))),
    );
    let outcome = nginx.test();
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.text.contains("is duplicate"), "{}", outcome.text);
    nginx.stop();
}

/// nginx numbers its modules, and gives the number of an unloaded module to another. Our module stays in memory
/// when it is unloaded, and must take a new number when it is loaded again. Only the third of our modules has a
/// configuration, so three other modules are loaded to take the numbers.
#[test]
fn a_module_that_comes_back_when_another_has_its_place() {
    let Some(mut nginx) = with_lua() else { return };
    let (pin, port) = (nginx.pki().pin("live.pem"), free_port());
    let server = |more: &str| tls_server(port, "localhost", "live", more);
    let code = "content_by_lua_block { ngx.say(ngx.var.host) }";
    let ours =
        format!("{}{}", policy(&pin), server(&format!("hpkp site; location / {{ {code} }}")));
    // Lua is loaded first, so that it takes the free number.
    nginx.configure(&format!("{}{}", policy(&pin), server("hpkp site; return 200 x;")));
    nginx.start();
    for http in [server("return 200 x;"), server("return 200 y;")] {
        nginx.configure_without_module(&http);
        assert_eq!(nginx.reload(), Reload::Accepted);
    }
    for _ in 0..2 {
        nginx.configure_without_module(&format!(
            "{LUA}{}",
            server(&format!("location / {{ {code} }}"))
        ));
        let file = nginx.path("nginx.conf");
        let text = std::fs::read_to_string(&file).expect("a configuration");
        let text = format!("{} load_module {MODULES}/ngx_http_echo_module.so;{text}", load());
        std::fs::write(file, text).expect("a configuration");
        assert_eq!(nginx.reload(), Reload::Accepted);
        assert_eq!(ask(&nginx, port).pins().len(), 0);
        configure_with_lua_first(&nginx, &ours);
        assert_eq!(nginx.reload(), Reload::Accepted);
        for _ in 0..2 {
            let response = ask(&nginx, port);
            assert_eq!((response.status, response.pins().len()), (200, 1));
            nginx.expect_in_log(&["exited on signal 9"]);
            nginx.replace_workers();
        }
    }
    nginx.stop();
}

/// Lua code that runs at the ClientHello usually has another purpose, but can replace the certificate.
#[test]
fn a_certificate_that_is_replaced_at_the_hello_gets_no_header() {
    let Some(mut nginx) = with_lua() else { return };
    let (pin, port) = (nginx.pki().pin("live.pem"), free_port());
    let protocols = "ssl_client_hello_by_lua_block { \
         require(\"ngx.ssl.clienthello\").set_protocols({\"TLSv1.3\", \"TLSv1.2\"}) }";
    let replacing = format!("ssl_client_hello_by_lua_block {{ {} }}", present(&nginx, "real"));
    let server = |code: &str| {
        tls_server(port, "localhost", "live", &format!("{BOTH} hpkp site; {code} return 200 x;"))
    };
    nginx.expect_in_log(&["hpkp: [certificate-may-be-replaced] localhost:"]);
    // The loaded certificate is compared.
    configure(&nginx, &format!("{}{}", policy(A), server(protocols)));
    nginx.test().refused("no-pin-in-chain", Nginx::FIRST_LINE + 2);
    for (code, expected) in [(protocols, 1), (&*replacing, 0)] {
        for inherited in [false, true] {
            let servers = match inherited {
                true => format!("{code}\n{}", server("")),
                false => server(code),
            };
            configure(&nginx, &format!("{}{servers}", policy(&pin)));
            nginx.test().accepted(&["certificate-may-be-replaced"]);
            nginx.start();
            assert_eq!(ask(&nginx, port).pins().len(), expected, "{code}");
            for version in ["-tls1_2", "-tls1_3"] {
                let sent = sent_and_when_resumed(&nginx, port, version);
                assert_eq!(sent, [expected, expected], "{version}: {code}");
            }
            nginx.stop();
        }
    }
}

/// A panic in our module does not keep another module from handling its directive.
#[test]
fn a_panic_beside_another_module_s_directive() {
    let Some(mut nginx) = with_lua_and(Module::InjectPanic) else { return };
    nginx.set_environment("HPKP_INJECT_PANIC", "watched_directive");
    let (pin, real, port) = (nginx.pki().pin("live.pem"), nginx.pki().pin("real.pem"), free_port());
    let code = format!("ssl_certificate_by_lua_block {{ {} }}", present(&nginx, "real"));
    configure(
        &nginx,
        &format!(
            "{}{}",
            policy(&pin),
            tls_server(port, "localhost", "live", &format!("hpkp site; {code} return 200 x;"))
        ),
    );
    let outcome = nginx.test();
    assert_eq!(outcome.code, Some(1), "{}", outcome.text);
    assert!(outcome.text.contains("a bug in the module (watched_directive)"), "{}", outcome.text);
    nginx.expect_in_log(&["hpkp: a bug in the module"]);
    nginx.start();
    let curl =
        Curl::new(&nginx.path("ca.pem")).with(&["--pinnedpubkey", &format!("sha256//{real}")]);
    let response = curl.get(&format!("https://localhost:{port}/"));
    assert_eq!((response.status, response.pins().len()), (200, 0));
    nginx.stop();
}

/// A module that sets a certificate callback by a directive whose name does not reveal it.
const CHOOSER: &str = r#"
#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
static void *create(ngx_conf_t *cf) { ngx_str_t *s = ngx_pcalloc(cf->pool, sizeof(*s)); return s; }
static int choose(ngx_ssl_conn_t *ssl, void *name) {
    char file[4096];
    snprintf(file, sizeof(file), "%s.pem", (char *) name);
    SSL_use_certificate_file(ssl, file, SSL_FILETYPE_PEM);
    snprintf(file, sizeof(file), "%s.key", (char *) name);
    return SSL_use_PrivateKey_file(ssl, file, SSL_FILETYPE_PEM);
}
static char *merge(ngx_conf_t *cf, void *outer, void *inner) {
    ngx_str_t *name = inner;
    ngx_http_ssl_srv_conf_t *ssl = ngx_http_conf_get_module_srv_conf(cf, ngx_http_ssl_module);
    if (name->len && ssl->ssl.ctx) { SSL_CTX_set_cert_cb(ssl->ssl.ctx, choose, name->data); }
    return NGX_CONF_OK;
}
static ngx_command_t commands[] = {
    { ngx_string("present"), NGX_HTTP_SRV_CONF|NGX_CONF_TAKE1, ngx_conf_set_str_slot, NGX_HTTP_SRV_CONF_OFFSET, 0, NULL },
    ngx_null_command
};
static ngx_http_module_t context = { NULL, NULL, NULL, NULL, create, merge, NULL, NULL };
ngx_module_t ngx_http_chooser_module = {
    NGX_MODULE_V1, &context, commands, NGX_HTTP_MODULE, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NGX_MODULE_V1_PADDING
};
ngx_module_t *ngx_modules[] = { &ngx_http_chooser_module, NULL };
char *ngx_module_names[] = { "ngx_http_chooser_module", NULL };
char *ngx_module_order[] = { NULL };
"#;

#[test]
fn a_module_that_can_choose_certificates_unseen_is_named() {
    let Some(mut nginx) = with_lua() else { return };
    let (pin, port) = (nginx.pki().pin("live.pem"), free_port());
    let module = compile_module(&nginx, "chooser", CHOOSER, &["http", "http/modules", "http/v2"]);
    let present = format!("present {};", nginx.path("real").display());
    let http = |pin: &str, more: &str| {
        format!(
            "{}{}",
            policy(pin),
            tls_server(
                port,
                "localhost",
                "live",
                &format!("{BOTH} hpkp site; {more} return 200 x;")
            )
        )
    };
    let main = format!("load_module {module}; worker_processes 1;");
    nginx.configure_with(&main, &http(A, ""));
    nginx.test().refused("no-pin-in-chain", Nginx::FIRST_LINE + 1);
    nginx.expect_in_log(&["hpkp: [certificate-may-be-replaced] localhost:"]);
    for (more, expected) in [("", 1), (&*present, 0)] {
        nginx.configure_with(&main, &http(&pin, more));
        let outcome = nginx.test();
        outcome.accepted(&["certificate-may-be-replaced"]);
        assert!(outcome.text.contains(&module), "{}", outcome.text);
        nginx.start();
        // The callback does not run for a resumed session; the session itself stores what was presented.
        for version in ["-tls1_2", "-tls1_3"] {
            let sent = sent_and_when_resumed(&nginx, port, version);
            assert_eq!(sent, [expected, expected], "{version}");
        }
        nginx.stop();
    }
}
