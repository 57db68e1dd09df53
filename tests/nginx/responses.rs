//! The pin fields of every kind of response: the cases for both servers, and nginx's own.

use hpkp_tests::backend::{self, FOREIGN};
use hpkp_tests::cases::responses::Site;
use hpkp_tests::client::{Curl, Wget2};
use hpkp_tests::free_port;
use hpkp_tests::nginx::{Kind, Nginx, Reload, tls_server, wait, with_http2};

use hpkp_tests::site::{A, B, prepared};

/// One location for each way in which nginx can answer.
fn locations(backend: u16, closed: u16) -> String {
    format!(
        r#"        location = /return200 {{ return 200 "x"; }}
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
"#
    )
}

/// Starts a server with all those locations; returns it with its addresses.
pub fn site() -> (Nginx, Site) {
    let mut nginx = prepared();
    let pki = nginx.pki();
    let (live, backup) = (pki.pin("live.pem"), pki.pin("backup.csr"));
    let (https, http, closed, backend) = (free_port(), free_port(), free_port(), backend::start());
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
    let locations = locations(backend, closed);
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
{locations}    }}"#
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
    let (kind, ca) = (Kind::Nginx, nginx.path("ca.pem"));
    (nginx, Site { kind, ca, https, http, enforced, report_only })
}

#[test]
fn exactly_one_field_of_each_kind() {
    let (mut nginx, site) = site();
    site.exactly_one_field_of_each_kind();
    let log = std::fs::read_to_string(nginx.path("told.log")).expect("an access log");
    let (https, http) = (site.https.to_string(), site.http.to_string());
    // nginx escapes quotation marks in the access log.
    let sent = site.enforced.replace('"', "\\x22");
    assert!(log.contains(&format!("/file.txt {https} \"sent\" \"{sent}\"")), "{log}");
    assert!(log.contains(&format!("/file.txt {http} \"off\" \"-\"")), "{log}");
    nginx.stop();
}

#[test]
fn not_modified_and_too_many_requests() {
    let (mut nginx, site) = site();
    site.not_modified();
    site.curl().get(&site.url("/slow"));
    let response = site.curl().get(&site.url("/slow"));
    assert_eq!((response.status, response.pins()), (503, vec![site.enforced.as_str()]));
    nginx.stop();
}

#[test]
fn several_requests_on_one_connection() {
    let (mut nginx, site) = site();
    site.several_requests_on_one_connection();
    nginx.stop();
}

#[test]
fn malformed_requests_get_the_field() {
    let (mut nginx, site) = site();
    site.malformed_requests_get_the_field();
    // nginx closes the connection without an answer, so the log must not say that the field was sent.
    let curl = site.curl().with(&["--http1.1"]);
    // For a connection closed without an answer, curl reports an empty reply (52) or, with another TLS library, a
    // receive error (56).
    let code = curl.exit_code(&site.url("/return444"));
    assert!([Some(52), Some(56)].contains(&code), "{code:?}");
    let log = || std::fs::read_to_string(nginx.path("told.log")).unwrap_or_default();
    assert!(wait(|| log().contains("/return444")));
    assert!(log().contains(&format!("/return444 {} \"withheld\" \"-\"", site.https)));
    nginx.stop();
}

#[test]
fn resumed_sessions() {
    let (mut nginx, site) = site();
    site.resumed_sessions(&nginx.path("session"));
    nginx.stop();
}

#[test]
fn a_foreign_field_is_kept_where_hpkp_is_off() {
    let mut nginx = prepared();
    let live = nginx.pki().pin("live.pem");
    let (https, backend) = (free_port(), backend::start());
    let certificate = "ssl_certificate live.pem; ssl_certificate_key live.key;";
    nginx.configure(&format!(
        "hpkp_policy site {{ pin {live}; pin {B}; max_age 1d; }}
         hpkp site; {certificate}
         log_format told '$host $hpkp_status'; access_log told.log told;
         server {{ listen 127.0.0.1:{https} ssl; server_name localhost; return 200 on; }}
         server {{ listen 127.0.0.1:{https} ssl; server_name off.localhost; hpkp off;
                   location / {{ proxy_pass http://127.0.0.1:{backend}; }} }}"
    ));
    nginx.start();
    let curl = Curl::new(&nginx.path("ca.pem")).with(&["-k"]);
    let on = curl.get(&format!("https://localhost:{https}/"));
    assert_eq!(on.pins().len(), 1);
    assert!(on.pins()[0].contains(&live));
    let off = curl.get(&format!("https://off.localhost:{https}/one"));
    assert_eq!(off.pins(), [FOREIGN]);
    let log = || std::fs::read_to_string(nginx.path("told.log")).unwrap_or_default();
    assert!(wait(|| log().lines().count() >= 2));
    assert!(log().contains("localhost sent\n") && log().contains("off.localhost off\n"));
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
