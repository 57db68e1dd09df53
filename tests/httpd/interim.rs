//! Interim responses and trailers: pin fields that a back end sends in them must not reach a client.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use hpkp_tests::backend;
use hpkp_tests::client::{Curl, Response};
use hpkp_tests::free_port;
use hpkp_tests::httpd::{Httpd, Module, Mpm, listen, tls_vhost};
use hpkp_tests::site::B;

use crate::policy;

const FOREIGN: &str = "Public-Key-Pins: pin-sha256=\"foreign\"; max-age=5\r\n\
                       public-key-pins-report-only: pin-sha256=\"foreign\"\r\n";

/// A back end that sends these fields in every response and trailer.
fn backend() -> u16 {
    backend::start_with(answer)
}

fn answer(mut connection: TcpStream) {
    let mut request = String::new();
    let mut reader = BufReader::new(&connection);
    while reader.read_line(&mut request).is_ok_and(|read| read > 2) {}
    // A response with more fields than httpd writes at once.
    let many: String = (0..400).map(|n| format!("X-Hint-{n}: {}\r\n", "x".repeat(40))).collect();
    let answer = if request.contains(" /ws") {
        // Inside the tunnel, bytes that look like a header are data.
        format!(
            "HTTP/1.1 101 Switching Protocols\r\n{FOREIGN}Upgrade: websocket\r\n\
             Connection: Upgrade\r\n\r\nHTTP/1.1 103 x\r\nPublic-Key-Pins: data\r\n\r\nend"
        )
    } else {
        let many = if request.contains(" /many") { &many[..] } else { "" };
        format!(
            "HTTP/1.1 103 Early Hints\r\nLink: </s.css>; rel=preload\r\n{many}{FOREIGN}\r\n\
             HTTP/1.1 103 Early Hints\r\n{FOREIGN}Link: </t.css>; rel=preload\r\n\r\n\
             HTTP/1.1 200 OK\r\nConnection: close\r\n{FOREIGN}Transfer-Encoding: chunked\r\n\r\n\
             2\r\nhi\r\n0\r\nX-Trailer: x\r\n{FOREIGN}\r\n"
        )
    };
    let _ = connection.write_all(answer.as_bytes());
}

/// A proxy in front of that back end, with a policy for localhost and none for off.localhost.
fn proxy(mpm: Mpm) -> (Httpd, u16) {
    let mut httpd = Httpd::furnished(Module::Shipped, mpm);
    httpd.load(&["proxy", "proxy_http", "proxy_wstunnel", "env"]);
    httpd.pki().leaf("off", "off.localhost", "ca");
    let (live, port, backend) = (httpd.pki().pin("live.pem"), free_port(), backend());
    let proxy = format!(
        "SetEnv proxy-interim-response RFC\nProxyWebsocketFallbackToProxyHttp Off\n\
         ProxyPass /ws-raw ws://127.0.0.1:{backend}/ws\n\
         ProxyPass /ws http://127.0.0.1:{backend}/ws upgrade=websocket\n\
         ProxyPass / http://127.0.0.1:{backend}/"
    );
    let early = if mpm.has_http2() { "H2EarlyHints on\n" } else { "" };
    httpd.configure(&format!(
        "{early}{}{}{}{}",
        listen(&[port]),
        policy("site", &[&live, B]),
        tls_vhost(port, "localhost", "live", &format!("HPKPUse site\n{proxy}")),
        tls_vhost(port, "off.localhost", "off", &proxy),
    ));
    httpd.start();
    (httpd, port)
}

/// How many fields of pins each response has, and how many of them are foreign.
fn counts(responses: &[Response]) -> Vec<(u16, usize, usize)> {
    let of = |response: &Response| {
        let both = [response.pins(), response.all("public-key-pins-report-only")].concat();
        let foreign = both.iter().filter(|value| value.contains("foreign")).count();
        (response.status, both.len(), foreign)
    };
    responses.iter().map(of).collect()
}

#[test]
fn foreign_fields_in_early_hints_and_trailers_are_removed() {
    for mpm in Mpm::ALL {
        let (mut httpd, port) = proxy(mpm);
        let curl = Curl::new(&httpd.path("ca.pem"));
        for version in ["--http1.1", "--http2"] {
            if version == "--http2" && !mpm.has_http2() {
                continue;
            }
            for path in ["", "many"] {
                let url = format!("https://localhost:{port}/{path}");
                // Two requests on one connection.
                let responses = curl.with(&[version, &url, "-o", "/dev/null"]).responses(&url);
                let got = counts(&responses);
                // The back end's report-only field passes in the final response, because this host has no
                // report-only policy.
                let last = got.iter().filter(|one| one.0 == 200);
                assert!(last.clone().count() == 2, "{mpm:?} {version} {path}: {responses:?}");
                let interim: Vec<_> = got.iter().filter(|one| one.0 == 103).collect();
                assert!(interim.len() >= 2, "{mpm:?} {version} {path}: {responses:?}");
                assert!(interim.iter().all(|one| one.1 == 0), "{mpm:?} {version} {path}: {got:?}");
                for response in responses.iter().filter(|response| response.status == 200) {
                    assert_eq!(response.pins().len(), 1, "{mpm:?} {version} {path}: {response:?}");
                    assert!(!response.pins()[0].contains("foreign"), "{version}: {response:?}");
                    let reports = response.all("public-key-pins-report-only").len();
                    assert!(reports <= 1, "{version}: {response:?}");
                }
                let hints = |response: &Response| response.all("link").len();
                assert_eq!(responses.iter().map(hints).max(), Some(1), "{responses:?}");
                if path == "many" {
                    let names = |r: &Response| {
                        r.fields.iter().filter(|(name, _)| name.starts_with("x-hint-")).count()
                    };
                    assert_eq!(responses.iter().map(names).max(), Some(400), "{version}");
                }
                if version == "--http2" {
                    // The back end's trailer did reach the client.
                    assert!(
                        responses.iter().any(|r| !r.all("x-trailer").is_empty()),
                        "{responses:?}"
                    );
                }
            }
        }
        // Without a policy all fields pass.
        let url = format!("https://off.localhost:{port}/");
        let got = counts(&curl.with(&["--http1.1"]).responses(&url));
        assert!(got.iter().all(|one| one.2 == 2), "{mpm:?}: {got:?}");
        httpd.stop();
    }
}

#[test]
fn foreign_fields_of_a_101_response_are_removed() {
    let (mut httpd, port) = proxy(Mpm::Event);
    // httpd also logs this without our module, when a child ends while it waits for a tunnel's client to close.
    httpd.expect_in_log(&["AH03092: process_lingering_close"]);
    for path in ["/ws", "/ws-raw"] {
        let mut client = Command::new("openssl");
        client.args(["s_client", "-quiet", "-servername", "localhost"]);
        client.args(["-connect", &format!("127.0.0.1:{port}")]);
        client.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut client = client.spawn().expect("openssl");
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Version: 13\r\n\r\n"
        );
        let written = client.stdin.as_mut().expect("a pipe").write_all(request.as_bytes());
        written.expect("a request");
        let mut answer = String::new();
        client.stdout.take().expect("a pipe").read_to_string(&mut answer).expect("an answer");
        client.wait().expect("openssl ends");
        let (head, data) = answer.split_once("\r\n\r\n").expect("a head");
        assert!(head.starts_with("HTTP/1.1 101 "), "{path}: {answer}");
        assert!(!head.to_ascii_lowercase().contains("public-key-pins"), "{path}: {answer}");
        assert!(head.contains("Upgrade: websocket"), "{path}: {answer}");
        assert_eq!(data, "HTTP/1.1 103 x\r\nPublic-Key-Pins: data\r\n\r\nend", "{path}");
    }
    httpd.stop();
}
