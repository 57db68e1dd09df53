//! Every kind of response carries exactly one field of each kind, or none, as it should be.

use std::io::{Read as _, Write as _};
use std::process::Command;

use hpkp_tests::client::{Curl, Wget2};
use hpkp_tests::nginx::{Nginx, Reload, tls_server, wait, with_http2};
use hpkp_tests::{free_port, succeed};

use hpkp_tests::site::{A, B, prepared};

/// A server with everything that answers in a way of its own, and where to reach it.
pub struct Site {
    pub nginx: Nginx,
    pub https: u16,
    pub http: u16,
    pub enforced: String,
    pub report_only: String,
}

/// What a backend answers that has pins of its own.
const FOREIGN: &str = "add_header Public-Key-Pins 'pin-sha256=\"foreign\"; max-age=5' always;";

pub fn site() -> Site {
    let mut nginx = prepared();
    let pki = nginx.pki();
    let (live, backup) = (pki.pin("live.pem"), pki.pin("backup.csr"));
    let (https, http, backend, closed) = (free_port(), free_port(), free_port(), free_port());
    std::fs::create_dir(nginx.path("html/directory")).expect("a directory");
    pki.write("html/file.txt", "0123456789".repeat(100));
    pki.write(
        "html/ssi.shtml",
        "<!--# include virtual=\"/file.txt\" --><!--# include virtual=\"/proxy/one\" -->",
    );
    pki.write("html/lost.html", "lost");
    let quic = match cfg!(feature = "http3") {
        true => format!("listen 127.0.0.1:{https} quic;"),
        false => String::new(),
    };
    let many: String = (0..40).map(|n| format!("add_header X-{n} {n} always; ")).collect();
    nginx.configure_with(
        "worker_processes 1;",
        &with_http2(&format!(
            r#"
    log_format told '$uri $server_port "$hpkp_status" "$hpkp_header"';
    access_log told.log told;
    root html;
    limit_req_zone $binary_remote_addr zone=slow:1m rate=1r/m;
    hpkp_policy enforced {{ pin sha256/{live}; pin file:backup.csr; max_age 1h; include_subdomains on; report_uri https://r.example/?a=b; }}
    hpkp_policy tried {{ pin {A}; pin {live}; report_uri https://r.example/; }}
    server {{
        listen 127.0.0.1:{https} ssl; {quic} listen 127.0.0.1:{http}; server_name localhost;
        ssl_certificate live.pem; ssl_certificate_key live.key; ssl_session_cache shared:s:1m; ssl_protocols TLSv1.2 TLSv1.3;
        hpkp enforced; hpkp_report_only tried;
        client_max_body_size 10; large_client_header_buffers 2 1k; ssi_types text/plain;
        location = /return200 {{ return 200 "x"; }}
        location = /return204 {{ return 204; }}
        location = /return301 {{ return 301 /elsewhere; }}
        location = /return302 {{ return 302 https://localhost/x; }}
        location = /return403 {{ return 403; }}
        location = /return444 {{ return 444; }}
        location = /return500 {{ return 500; }}
        location = /return503 {{ return 503 "down"; }}
        location = /deny {{ deny all; }}
        location = /slow {{ limit_req zone=slow; try_files /file.txt =404; }}
        location = /lost {{ error_page 404 /lost.html; }}
        location = /lost-as-200 {{ error_page 404 =200 /lost.html; }}
        location = /lost-elsewhere {{ error_page 404 https://localhost/; }}
        location = /lost-named {{ error_page 404 @named; }}
        location @named {{ return 418 "named"; }}
        location = /rewrite {{ rewrite ^ /file.txt last; }}
        location = /try {{ try_files /nothing /file.txt; }}
        location = /gone-to-named {{ try_files /nothing @named; }}
        location = /own-one {{ add_header Public-Key-Pins 'pin-sha256="mine"' always; try_files /file.txt =404; }}
        location = /own-two {{ add_header Public-Key-Pins one always; add_header public-key-pins two always;
                               add_header PUBLIC-KEY-PINS-report-only three always; return 404; }}
        location = /gzip {{ gzip on; gzip_types *; gzip_min_length 1; gzip_proxied any; try_files /file.txt =404; }}
        location = /status {{ stub_status; }}
        location = /dav {{ dav_methods PUT DELETE; }}
        location = /ssi.shtml {{ ssi on; ssi_types *; }}
        location = /auth {{ auth_request /auth-ok; try_files /file.txt =404; }}
        location = /auth-refused {{ auth_request /return403; try_files /file.txt =404; }}
        location = /auth-ok {{ internal; proxy_pass http://127.0.0.1:{backend}/one; }}
        location = /mirrored {{ mirror /mirror; try_files /file.txt =404; }}
        location = /mirror {{ internal; proxy_pass http://127.0.0.1:{backend}/one; }}
        location /proxy/ {{ proxy_pass http://127.0.0.1:{backend}/; }}
        location /intercepted/ {{ proxy_pass http://127.0.0.1:{backend}/; proxy_intercept_errors on; error_page 500 /lost.html; }}
        location = /unbuffered {{ proxy_pass http://127.0.0.1:{backend}/one; proxy_buffering off; }}
        location = /bad-gateway {{ proxy_pass http://127.0.0.1:{closed}/; }}
        location = /from-backend {{ internal; try_files /file.txt =404; }}
    }}
    server {{
        listen 127.0.0.1:{backend};
        location = /zero {{ return 200 "zero"; }}
        location = /one {{ {FOREIGN} return 200 "one"; }}
        location = /two {{ {FOREIGN} add_header public-key-pins two always; return 200 "two"; }}
        location = /report-only {{ add_header Public-Key-Pins-Report-Only x always; return 200 "ro"; }}
        location = /many {{ {many} {FOREIGN} return 200 "many"; }}
        location = /404 {{ {FOREIGN} return 404; }}
        location = /500 {{ {FOREIGN} return 500; }}
        location = /304 {{ {FOREIGN} return 304; }}
        location = /302 {{ {FOREIGN} return 302 /x; }}
        location = /accel {{ {FOREIGN} add_header X-Accel-Redirect /from-backend; return 200; }}
    }}"#
        )),
    );
    nginx.expect_in_log(&[
        "(2: No such file or directory)",
        "access forbidden by rule",
        "too large body",
        "limiting requests",
        "Connection refused) while connecting to upstream",
        "is forbidden",
    ]);
    nginx.start();
    let enforced = format!(
        "pin-sha256=\"{live}\"; pin-sha256=\"{backup}\"; max-age=3600; includeSubDomains; \
         report-uri=\"https://r.example/?a=b\""
    );
    let report_only =
        format!("pin-sha256=\"{A}\"; pin-sha256=\"{live}\"; report-uri=\"https://r.example/\"");
    Site { nginx, https, http, enforced, report_only }
}

/// A path, further arguments of curl, and the status to be expected.
pub type Case = (&'static str, &'static [&'static str], u16);

pub const CASES: &[Case] = &[
    ("/file.txt", &[], 200),
    ("/file.txt", &["-I"], 200),
    ("/file.txt", &["-r", "0-9"], 206),
    ("/file.txt", &["-r", "0-9,20-29"], 206),
    ("/file.txt", &["-r", "5000-"], 416),
    (
        "/file.txt",
        &["-H", "If-Modified-Since: Wed, 01 Jan 2031 00:00:00 GMT", "-H", "If-None-Match:"],
        200,
    ),
    ("/file.txt", &["-H", "If-Unmodified-Since: Wed, 01 Jan 2020 00:00:00 GMT"], 412),
    ("/file.txt", &["-X", "OPTIONS"], 405),
    ("/file.txt", &["-X", "TRACE"], 405),
    ("/file.txt", &["-X", "NONSENSE"], 405),
    ("/file.txt", &["-d", "x=y"], 405),
    ("/file.txt", &["-d", "more than ten octets"], 413),
    ("/file.txt", &["--http1.0"], 200),
    ("/directory", &[], 301),
    ("/directory/", &[], 403),
    ("/nothing", &[], 404),
    ("/nothing", &["-I"], 404),
    ("/return200", &[], 200),
    ("/return204", &[], 204),
    ("/return301", &[], 301),
    ("/return302", &[], 302),
    ("/return403", &[], 403),
    ("/return500", &[], 500),
    ("/return503", &[], 503),
    ("/deny", &[], 403),
    ("/lost", &[], 404),
    ("/lost-as-200", &[], 200),
    ("/lost-elsewhere", &[], 302),
    ("/lost-named", &[], 404),
    ("/gone-to-named", &[], 418),
    ("/rewrite", &[], 200),
    ("/try", &[], 200),
    ("/own-one", &[], 200),
    ("/own-two", &[], 404),
    ("/gzip", &["--compressed"], 200),
    ("/status", &[], 200),
    ("/dav", &["-X", "DELETE"], 404),
    ("/ssi.shtml", &[], 200),
    ("/auth", &[], 200),
    ("/auth-refused", &[], 403),
    ("/mirrored", &[], 200),
    ("/proxy/zero", &[], 200),
    ("/proxy/one", &[], 200),
    ("/proxy/one", &["-I"], 200),
    ("/proxy/two", &[], 200),
    ("/proxy/report-only", &[], 200),
    ("/proxy/many", &[], 200),
    ("/proxy/304", &[], 304),
    ("/proxy/302", &[], 302),
    ("/proxy/404", &[], 404),
    ("/proxy/500", &[], 500),
    ("/proxy/accel", &[], 200),
    ("/intercepted/500", &[], 500),
    ("/unbuffered", &[], 200),
    ("/bad-gateway", &[], 502),
];

#[test]
fn exactly_one_field_of_each_kind() {
    let mut site = site();
    let curl = Curl::new(&site.nginx.path("ca.pem"));
    let plain = format!("http://localhost:{}", site.http);
    let tls = format!("https://localhost:{}", site.https);
    for (path, arguments, status) in CASES {
        for version in ["--http1.1", "--http2"] {
            let curl = curl.with(&[version]).with(arguments);
            let response = curl.get(&format!("{tls}{path}"));
            let case = format!("{version} {arguments:?} {path}: {response:?}");
            assert_eq!(response.status, *status, "{case}");
            assert_eq!(response.pins(), [&site.enforced], "{case}");
            assert_eq!(response.all("public-key-pins-report-only"), [&site.report_only], "{case}");
        }
        // The same without TLS: none, whatever a backend says.
        let response = curl.with(arguments).get(&format!("{plain}{path}"));
        assert!(response.pins().is_empty(), "{path}: {response:?}");
        assert!(response.all("public-key-pins-report-only").is_empty(), "{path}: {response:?}");
    }
    let told = std::fs::read_to_string(site.nginx.path("told.log")).expect("an access log");
    let (https, http) = (site.https.to_string(), site.http.to_string());
    // The log has quotation marks escaped.
    let sent = site.enforced.replace('"', "\\x22");
    assert!(told.contains(&format!("/file.txt {https} \"sent\" \"{sent}\"")), "{told}");
    assert!(told.contains(&format!("/file.txt {http} \"off\" \"-\"")), "{told}");
    site.nginx.stop();
}

#[test]
fn not_modified_and_too_many_requests() {
    let mut site = site();
    let tls = format!("https://localhost:{}", site.https);
    let curl = Curl::new(&site.nginx.path("ca.pem"));
    let first = curl.get(&format!("{tls}/file.txt"));
    let etag = format!("If-None-Match: {}", first.all("etag")[0]);
    for version in ["--http1.1", "--http2"] {
        let response = curl.with(&[version, "-H", &etag]).get(&format!("{tls}/file.txt"));
        assert_eq!((response.status, response.pins()), (304, vec![site.enforced.as_str()]));
    }
    curl.get(&format!("{tls}/slow"));
    let response = curl.get(&format!("{tls}/slow"));
    assert_eq!((response.status, response.pins()), (503, vec![site.enforced.as_str()]));
    site.nginx.stop();
}

#[test]
fn several_requests_on_one_connection() {
    let mut site = site();
    let curl = Curl::new(&site.nginx.path("ca.pem"));
    for version in ["--http1.1", "--http2"] {
        let url = format!("https://localhost:{}/{{file.txt,nothing,proxy/two}}", site.https);
        let responses = curl.with(&[version]).responses(&url);
        let statuses: Vec<u16> = responses.iter().map(|response| response.status).collect();
        assert_eq!(statuses, [200, 404, 200]);
        for response in responses {
            assert_eq!(response.pins(), [&site.enforced]);
        }
    }
    site.nginx.stop();
}

/// Speaks HTTP over `openssl s_client`; what the server answered.
fn raw(nginx: &Nginx, port: u16, arguments: &[&str], request: &str) -> String {
    let mut client = Command::new("openssl")
        .args(["s_client", "-quiet", "-servername", "localhost", "-CAfile"])
        .arg(nginx.path("ca.pem"))
        .args(["-connect", &format!("127.0.0.1:{port}")])
        .args(arguments)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("openssl");
    client.stdin.as_mut().expect("a pipe").write_all(request.as_bytes()).expect("a request");
    let mut answer = String::new();
    client.stdout.take().expect("a pipe").read_to_string(&mut answer).expect("an answer");
    client.wait().expect("openssl ends");
    answer
}

fn count(answer: &str, name: &str) -> usize {
    let name = format!("{name}:").to_ascii_lowercase();
    answer.lines().filter(|line| line.to_ascii_lowercase().starts_with(&name)).count()
}

#[test]
fn requests_that_are_no_sound_http() {
    let mut site = site();
    let long = format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "a".repeat(3000));
    for (request, status) in [
        ("NONSENSE\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n", "400"),
        ("GET / HTTP/9.9\r\nHost: localhost\r\n\r\n", "505"),
        (&long, "414"),
    ] {
        let answer = raw(&site.nginx, site.https, &[], request);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{request:?}: {answer}");
        assert_eq!(count(&answer, "Public-Key-Pins"), 1, "{request:?}: {answer}");
    }
    // Plain HTTP on the port for TLS.
    let mut plain = std::net::TcpStream::connect(("127.0.0.1", site.https)).expect("a connection");
    plain.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("a request");
    let mut answer = String::new();
    plain.read_to_string(&mut answer).expect("an answer");
    assert!(answer.contains("plain HTTP request was sent to HTTPS port"), "{answer}");
    assert_eq!(count(&answer, "Public-Key-Pins"), 0, "{answer}");
    // No answer at all: the log does not say that the field was sent.
    let curl = Curl::new(&site.nginx.path("ca.pem")).with(&["--http1.1"]);
    assert_eq!(curl.exit_code(&format!("https://localhost:{}/return444", site.https)), Some(52));
    let told = || std::fs::read_to_string(site.nginx.path("told.log")).unwrap_or_default();
    assert!(wait(|| told().contains("/return444")));
    assert!(told().contains(&format!("/return444 {} \"withheld\" \"-\"", site.https)));
    site.nginx.stop();
}

#[test]
fn resumed_sessions() {
    let mut site = site();
    let request = "GET /file.txt HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    for version in ["-tls1_2", "-tls1_3"] {
        let session = site.nginx.path("session");
        let session = session.to_str().expect("a path in UTF-8");
        let first = raw(&site.nginx, site.https, &[version, "-sess_out", session], request);
        let resumed = raw(&site.nginx, site.https, &[version, "-sess_in", session], request);
        for answer in [first, resumed] {
            assert_eq!(count(&answer, "Public-Key-Pins"), 1, "{version}: {answer}");
        }
        let shown = succeed(
            Command::new("openssl")
                .args(["s_client", "-connect", &format!("127.0.0.1:{}", site.https)])
                .args([version, "-sess_in", session])
                .stdin(std::process::Stdio::null()),
        );
        assert!(String::from_utf8_lossy(&shown).contains("Reused, "), "no session was resumed");
    }
    site.nginx.stop();
}

#[test]
fn what_is_off_is_left_alone() {
    let mut nginx = prepared();
    let live = nginx.pki().pin("live.pem");
    let (https, backend) = (free_port(), free_port());
    let certificate = "ssl_certificate live.pem; ssl_certificate_key live.key;";
    nginx.configure(&format!(
        "hpkp_policy site {{ pin {live}; pin {B}; max_age 1d; }}
         hpkp site; {certificate}
         log_format told '$host $hpkp_status'; access_log told.log told;
         server {{ listen 127.0.0.1:{https} ssl; server_name localhost; return 200 on; }}
         server {{ listen 127.0.0.1:{https} ssl; server_name off.localhost; hpkp off;
                   location / {{ proxy_pass http://127.0.0.1:{backend}; }} }}
         server {{ listen 127.0.0.1:{backend}; {FOREIGN} return 200 x; }}"
    ));
    nginx.start();
    let curl = Curl::new(&nginx.path("ca.pem")).with(&["-k"]);
    let on = curl.get(&format!("https://localhost:{https}/"));
    assert_eq!(on.pins().len(), 1);
    assert!(on.pins()[0].contains(&live));
    let off = curl.get(&format!("https://off.localhost:{https}/"));
    assert_eq!(off.pins(), ["pin-sha256=\"foreign\"; max-age=5"]);
    let told = || std::fs::read_to_string(nginx.path("told.log")).unwrap_or_default();
    assert!(wait(|| told().lines().count() >= 2));
    assert!(told().contains("localhost sent\n") && told().contains("off.localhost off\n"));
    nginx.stop();
}

#[test]
fn max_age_0_unpins_wget2_and_keeps_its_pins_in_the_header() {
    let mut nginx = prepared();
    let live = nginx.pki().pin("live.pem");
    let port = free_port();
    let policy = |age: &str| {
        let server = tls_server(port, "localhost", "live", "hpkp site; return 200 x;");
        format!("hpkp_policy site {{ pin {live}; pin {B}; max_age {age}; }}\n{server}")
    };
    nginx.configure(&policy("1d"));
    nginx.start();
    let wget2 = Wget2::new(&nginx.path("ca.pem"), nginx.path("known"));
    let url = format!("https://localhost:{port}/");
    assert_eq!(wget2.get(&url), Some(0));
    assert_eq!(wget2.pins().len(), 2);
    nginx.configure(&policy("0"));
    assert_eq!(nginx.reload(), Reload::Accepted);
    let response = Curl::new(&nginx.path("ca.pem")).get(&url);
    assert_eq!(response.pins(), [format!("pin-sha256=\"{live}\"; pin-sha256=\"{B}\"; max-age=0")]);
    assert_eq!(wget2.get(&url), Some(0));
    assert_eq!(wget2.pins().len(), 0);
    nginx.stop();
}
