//! Sessions with a certificate that was chosen during the handshake, by each method that nginx has: a resumed session
//! counts with that certificate, in another worker, after a change of the certificate, and after a reload.
//!
//! Here the certificate depends on the client's address: a client at 127.0.0.1 gets `one`, which is pinned, and a
//! client at 127.0.0.2 gets `two`. The tests in `unguarded` and `guard` change the certificate over time.

use std::collections::HashSet;
use std::fs;
use std::process::{Command, Stdio};

use hpkp_tests::free_port;
use hpkp_tests::nginx::{Nginx, Reload, is_enough, tls_server, version};
use hpkp_tests::output;
use hpkp_tests::session::SessionClient;
use hpkp_tests::site::{B, prepared};

use crate::handshake::{LUA, load, with_lua};
use crate::presented::WAYS;

const ADDRESSES: [&str; 2] = ["127.0.0.1", "127.0.0.2"];

/// How many requests are enough to reach both workers.
const TIMES: usize = 10;

/// The directives that choose the certificate.
struct Source {
    /// In the main part of the file.
    main: String,
    /// In `http`.
    http: String,
    /// In the server.
    server: String,
}

fn furnish(nginx: &Nginx) {
    let pki = nginx.pki();
    pki.leaf("one", "localhost", "ca");
    pki.leaf("two", "localhost", "ca");
    pki.leaf("other", "other.example", "ca");
}

/// Variables that name files.
fn files() -> Source {
    Source {
        main: String::new(),
        http: "map $remote_addr $chosen { default one; 127.0.0.2 two; }".to_owned(),
        server: "ssl_certificate $chosen.pem; ssl_certificate_key $chosen.key;".to_owned(),
    }
}

/// Variables with the certificate itself.
fn data(nginx: &Nginx) -> Source {
    let map = |variable: &str, kind: &str| {
        let [one, two] = ["one", "two"]
            .map(|name| fs::read_to_string(nginx.path(&format!("{name}.{kind}"))).expect("a file"));
        format!(
            "map $remote_addr {variable} {{ default \"data:{one}\"; 127.0.0.2 \"data:{two}\"; }}\n"
        )
    };
    Source {
        main: String::new(),
        http: map("$chosen", "pem") + &map("$chosen_key", "key"),
        server: "ssl_certificate $chosen; ssl_certificate_key $chosen_key;".to_owned(),
    }
}

/// Lua, beside a placeholder.
fn lua(nginx: &Nginx) -> Source {
    let directory = nginx.path("").display().to_string();
    let code = format!(
        "local ssl = require \"ngx.ssl\"
         local name = ssl.raw_client_addr():byte(4) == 2 and \"two\" or \"one\"
         local function read(kind) local file = io.open(\"{directory}/\" .. name .. kind)
         local text = file:read(\"*a\"); file:close(); return text end
         ssl.clear_certs()
         ssl.set_cert(ssl.parse_pem_cert(read(\".pem\")))
         ssl.set_priv_key(ssl.parse_pem_priv_key(read(\".key\")))"
    );
    Source {
        main: load(),
        http: LUA.to_owned(),
        server: format!(
            "ssl_certificate placeholder.pem; ssl_certificate_key placeholder.key; \
             ssl_certificate_by_lua_block {{ {code} }}"
        ),
    }
}

/// Configures two workers, of which each connection reaches one at random, and another server block.
fn configure(nginx: &Nginx, port: u16, more: &str, source: &Source) {
    let Source { main, http, server } = source;
    let pin = nginx.pki().pin("one.pem");
    let http = format!(
        "{http}\nssl_protocols TLSv1.2 TLSv1.3; {more} add_header Worker $pid always;
         hpkp_policy site {{ pin {pin}; pin {B}; max_age 1d; }}
         server {{ listen 127.0.0.1:{port} ssl reuseport; server_name localhost; {server}
         hpkp site unguarded; return 200 x; }}
         {}",
        tls_server(port, "other.example", "other", "return 200 x;"),
    );
    nginx.configure_with(&format!("{main} worker_processes 2;"), &http);
}

/// A client with a session of its own that connects from `address`.
fn client(nginx: &Nginx, session: &str, version: &str, address: &str) -> SessionClient {
    SessionClient::new(&nginx.path(session), &[version, "-bind", address])
}

fn begin(nginx: &mut Nginx, port: u16, more: &str, source: &Source) {
    nginx.expect_in_log(&["hpkp: [certificate-not-guarded] localhost:"]);
    configure(nginx, port, more, source);
    nginx.start();
}

/// Checks the header for each way in which a session is resumed.
fn story(nginx: &mut Nginx, more: &str, source: &Source) {
    for (way, version, outlives) in WAYS {
        let port = free_port();
        begin(nginx, port, &format!("{way} {more}"), source);
        let about = format!("{way} {version}");
        let mut workers = HashSet::new();
        for (number, address) in ADDRESSES.into_iter().enumerate() {
            let (session, sent) = (format!("session-{number}"), 1 - number);
            let first = client(nginx, &session, version, address);
            let answer = first.begin(port, "localhost", "localhost");
            assert_eq!((answer.resumed, answer.sent()), (false, sent), "{about} {address}");
            // Each request uses the newest session, from the address that would get the other certificate.
            let later = client(nginx, &session, version, ADDRESSES[1 - number]);
            for asked in 1.. {
                let answer = later.ask(port, "localhost", "localhost");
                assert_eq!((answer.resumed, answer.sent()), (true, sent), "{about} {address}");
                workers.insert(answer.response.all("worker")[0].to_owned());
                if is_enough(asked, TIMES, workers.len()) {
                    break;
                }
            }
            // Another server block presents its own certificate. An nginx that resumes the session in spite of that
            // (before the fix of CVE-2025-23419) counts with the certificate stored in the session.
            let copy = format!("copy-{number}");
            fs::copy(nginx.path(&session), nginx.path(&copy)).expect("a copy");
            let elsewhere = client(nginx, &copy, version, address);
            let answer = elsewhere.ask(port, "other.example", "localhost");
            assert_eq!(answer.sent(), if answer.resumed { sent } else { 0 }, "{about} {address}");
        }
        assert_eq!(workers.len(), 2, "{about}");
        assert_eq!(nginx.reload(), Reload::Accepted);
        for number in [0, 1] {
            let later = client(nginx, &format!("session-{number}"), version, ADDRESSES[1 - number]);
            let answer = later.ask(port, "localhost", "localhost");
            // A resumed session counts with the certificate that its client saw, a new one with the present one.
            let sent = if answer.resumed { 1 - number } else { number };
            assert_eq!(answer.sent(), sent, "{about} {number}");
            assert!(answer.resumed || !outlives, "{about} {number}");
        }
        nginx.stop();
    }
    after_a_hello_retry_request(nginx, more, source);
}

/// The client offers a key share of a group that the server does not accept, and sends a second ClientHello.
fn after_a_hello_retry_request(nginx: &mut Nginx, more: &str, source: &Source) {
    let port = free_port();
    begin(nginx, port, &format!("{more} ssl_ecdh_curve secp384r1;"), source);
    for (number, address) in ADDRESSES.into_iter().enumerate() {
        let arguments = ["-tls1_3", "-groups", "X25519:P-384", "-bind", address];
        let mut openssl = Command::new("openssl");
        openssl.args(["s_client", "-msg", "-servername", "localhost"]).args(arguments);
        openssl.args(["-connect", &format!("127.0.0.1:{port}")]).stdin(Stdio::null());
        let messages = String::from_utf8_lossy(&output(&mut openssl).stdout).into_owned();
        assert_eq!(messages.matches(", ClientHello").count(), 2, "{messages}");
        let client = SessionClient::new(&nginx.path("retried"), &arguments);
        let answer = client.begin(port, "localhost", "localhost");
        assert_eq!((answer.resumed, answer.sent()), (false, 1 - number), "{address}");
        let answer = client.ask(port, "localhost", "localhost");
        assert_eq!((answer.resumed, answer.sent()), (true, 1 - number), "{address}");
    }
    nginx.stop();
}

#[test]
fn variables_that_name_files() {
    let mut nginx = prepared();
    furnish(&nginx);
    story(&mut nginx, "", &files());
}

#[test]
fn variables_with_the_certificate_itself() {
    let mut nginx = prepared();
    furnish(&nginx);
    let source = data(&nginx);
    story(&mut nginx, "", &source);
}

#[test]
fn with_a_cache_of_certificates() {
    if version() < (1, 27, 4) {
        eprintln!("not tested: this nginx has no ssl_certificate_cache");
        return;
    }
    let mut nginx = prepared();
    furnish(&nginx);
    let cache = "ssl_certificate_cache max=16 inactive=1d valid=1d;";
    for source in [files(), data(&nginx)] {
        story(&mut nginx, cache, &source);
    }
}

#[test]
fn a_certificate_chosen_by_lua() {
    let Some(mut nginx) = with_lua() else { return };
    furnish(&nginx);
    let source = lua(&nginx);
    story(&mut nginx, "", &source);
}
