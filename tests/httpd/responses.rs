//! The pin fields of every kind of response: the cases for both servers, and httpd's own.

use std::fs;

use hpkp_tests::backend::{self, FOREIGN};
use hpkp_tests::cases::responses::{Site, count};
use hpkp_tests::client::{Curl, Wget2};
use hpkp_tests::free_port;
use hpkp_tests::httpd::{Httpd, Kind, Module, Mpm, Reload, listen, tls_vhost, wait};

use hpkp_tests::site::{A, B};

/// A CGI program: each path selects a response, and most responses have pin fields of their own.
const PROGRAM: &str = r#"#!/bin/sh
foreign='Public-Key-Pins: pin-sha256="foreign"; max-age=5'
case $PATH_INFO in
/zero) printf 'Content-Type: text/plain\n\nx' ;;
/one) printf '%s\nContent-Type: text/plain\n\nx' "$foreign" ;;
/two) printf '%s\npublic-key-pins: two\nPUBLIC-KEY-PINS-report-only: three\nContent-Type: text/plain\n\nx' "$foreign" ;;
/304) printf 'Status: 304\n%s\n\n' "$foreign" ;;
/redirect) printf '%s\nLocation: /file.txt\n\n' "$foreign" ;;
/broken) echo broken ;;
*) printf 'Status: 404\n%s\nContent-Type: text/plain\n\nx' "$foreign" ;;
esac
"#;

/// A program that writes its whole response itself, past the filters that write a response's head.
const PROGRAM_WITHOUT_HEAD: &str = "#!/bin/sh
printf 'HTTP/1.1 200 OK\\r\\nConnection: close\\r\\nPublic-Key-Pins: own\\r\\n\\r\\nx'
";

/// The modules that the server loads besides those of every test.
const MODULES: [&str; 15] = [
    "autoindex",
    "auth_basic",
    "authn_file",
    "authz_host",
    "authz_user",
    "dav",
    "dav_fs",
    "deflate",
    "dir",
    "filter",
    "include",
    "proxy",
    "proxy_http",
    "rewrite",
    "status",
];

/// One location for each way in which httpd can answer.
const LOCATIONS: &str = r#"Redirect 200 /return200
Redirect 204 /return204
Redirect 301 /return301 /elsewhere
Redirect 302 /return302 https://localhost/x
Redirect 403 /return403
Redirect 500 /return500
Redirect 503 /return503
<Location /deny>
Require all denied
</Location>
<Location /lost>
ErrorDocument 404 /lost.html
</Location>
<Location /lost-elsewhere>
ErrorDocument 404 https://localhost/
</Location>
<Location /lost-to-cgi>
ErrorDocument 404 /cgi/one
</Location>
<Location /try>
FallbackResource /file.txt
</Location>
RewriteEngine on
RewriteRule ^/rewrite$ /file.txt [PT]
<Location /own-one>
Header always set Public-Key-Pins 'pin-sha256="mine"'
</Location>
<Location /own-two>
Header always set Public-Key-Pins one
Header set public-key-pins two
Header always add PUBLIC-KEY-PINS zero
Header always set PUBLIC-KEY-PINS-report-only three
</Location>
<Location /gzip>
SetOutputFilter DEFLATE
</Location>
<Location /status>
SetHandler server-status
</Location>
<Location /dav>
Dav On
</Location>
<Location /ssi.shtml>
SetOutputFilter INCLUDES
</Location>
<Location /auth>
Require ip 127.0.0.1
</Location>
<Location /auth-refused>
Require ip 192.0.2.1
</Location>
<Location /auth-basic>
AuthType Basic
AuthName x
AuthUserFile passwords
Require valid-user
</Location>
"#;

/// The messages that httpd itself logs for some of the requests.
const LOGGED: [&str; 10] = [
    "AH01276: Cannot serve directory",
    "AH01630: client denied by server configuration",
    "AH01617: user somebody: authentication failure",
    "(111)Connection refused",
    "failed to make connection to backend",
    "End of script output before headers",
    "malformed header from script",
    "Invalid method in request NONSENSE",
    "AH01587: request body exceeds maximum size",
    "Requested content-length of",
];

/// Writes the files and programs with which the server answers.
fn lay_out(httpd: &Httpd) {
    let pki = httpd.pki();
    for directory in ["html/directory", "bin", "dav"] {
        fs::create_dir(httpd.path(directory)).expect("a directory");
    }
    pki.write("html/file.txt", "0123456789".repeat(100));
    pki.write(
        "html/ssi.shtml",
        "<!--#include virtual=\"/file.txt\" --><!--#include virtual=\"/proxy/one\" -->\
         <!--#include virtual=\"/cgi/one\" -->",
    );
    pki.write("html/lost.html", "lost");
    for file in ["own-one", "gzip", "auth", "auth-refused", "auth-basic"] {
        pki.write(&format!("html/{file}"), "0123456789".repeat(100));
    }
    // somebody:secret
    pki.write("passwords", "somebody:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n");
    for (name, text) in [("cgi", PROGRAM), ("nph-cgi", PROGRAM_WITHOUT_HEAD)] {
        hpkp_tests::write_program(pki.path(&format!("bin/{name}")), text);
    }
}

/// The policies, the directives that use them, and the log of the module's variables.
fn directives(module: Module, live: &str) -> (String, &'static str, &'static str) {
    let uses = "HPKPUse enforced\nHPKPUseReportOnly tried";
    match module {
        Module::None => (String::new(), "", ""),
        _ => (
            format!(
                "<HPKPPolicy enforced>\nHPKPPin sha256/{live}\nHPKPPin file:backup.csr\n\
                 HPKPMaxAge 1h\nHPKPIncludeSubDomains on\nHPKPReportURI https://r.example/?a=b\n\
                 </HPKPPolicy>\n\
                 <HPKPPolicy tried>\nHPKPPin {A}\nHPKPPin {live}\n\
                 HPKPReportURI https://r.example/\n</HPKPPolicy>\n"
            ),
            uses,
            "LogFormat \"%U %{local}p \\\"%{HPKP_STATUS}n\\\" \\\"%{HPKP_HEADER}n\\\"\" told\n\
             CustomLog told.log told\n",
        ),
    }
}

/// Starts a server with all those locations; returns it with its addresses.
fn site(module: Module, mpm: Mpm) -> (Httpd, Site) {
    let mut httpd = Httpd::furnished(module, mpm);
    httpd.load(&MODULES);
    // An MPM with threads needs mod_cgid, which starts programs from a separate process.
    httpd.load(&[if mpm.has_http2() { "cgid" } else { "cgi" }]);
    let pki = httpd.pki();
    let (live, backup) = (pki.pin("live.pem"), pki.pin("backup.csr"));
    let (https, http, closed, backend) = (free_port(), free_port(), free_port(), backend::start());
    lay_out(&httpd);
    let (policies, uses, log) = directives(module, &live);
    let site = format!(
        r#"
ScriptAlias /cgi {directory}/bin/cgi
ScriptAlias /nph-cgi {directory}/bin/nph-cgi
DavLockDB run/locks
<Directory {directory}/html>
Options Includes
LimitRequestBody 10
</Directory>
{LOCATIONS}ProxyPass /proxy/ http://127.0.0.1:{backend}/
ProxyPass /unbuffered http://127.0.0.1:{backend}/one flushpackets=on
ProxyPass /bad-gateway http://127.0.0.1:{closed}/ retry=0
<Location /intercepted/>
ProxyPass http://127.0.0.1:{backend}/
ProxyErrorOverride On
ErrorDocument 500 /lost.html
</Location>
"#,
        directory = httpd.path("").display(),
    );
    httpd.configure(&format!(
        "{}{policies}{uses}\n{log}{}<VirtualHost 127.0.0.1:{http}>\nServerName localhost\n{site}\n</VirtualHost>\n",
        listen(&[https, http]),
        tls_vhost(https, "localhost", "live", &site),
    ));
    httpd.expect_in_log(&LOGGED);
    httpd.start();
    let enforced = format!(
        "pin-sha256=\"{live}\"; pin-sha256=\"{backup}\"; max-age=3600; includeSubDomains; \
         report-uri=\"https://r.example/?a=b\""
    );
    let report_only =
        format!("pin-sha256=\"{A}\"; pin-sha256=\"{live}\"; report-uri=\"https://r.example/\"");
    let (kind, ca) = (Kind::Httpd, httpd.path("ca.pem"));
    (httpd, Site { kind, ca, https, http, enforced, report_only })
}

/// Proves that the site has the statuses of the cases without the module.
#[test]
fn statuses_are_those_of_a_server_without_the_module() {
    let (mut httpd, site) = site(Module::None, Mpm::Event);
    site.statuses();
    httpd.stop();
}

#[test]
fn exactly_one_field_of_each_kind() {
    let (mut httpd, site) = site(Module::Shipped, Mpm::Event);
    site.exactly_one_field_of_each_kind();
    let (https, http) = (site.https.to_string(), site.http.to_string());
    // httpd escapes quotation marks in the access log.
    let sent = site.enforced.replace('"', "\\\"");
    let log = || fs::read_to_string(httpd.path("told.log")).unwrap_or_default();
    assert!(
        wait(|| log().contains(&format!("/file.txt {https} \"sent\" \"{sent}\""))),
        "{}",
        log()
    );
    assert!(log().contains(&format!("/file.txt {http} \"off\" \"-\"")), "{}", log());
    httpd.stop();
}

/// The cases with the other two MPMs, one of which has no HTTP/2.
#[test]
fn worker_and_prefork_send_the_same() {
    for mpm in [Mpm::Worker, Mpm::Prefork] {
        let (mut httpd, site) = site(Module::Shipped, mpm);
        site.exactly_one_field_over(&["--http1.1"]);
        if mpm.has_http2() {
            let response = site.curl().with(&["--http2"]).get(&site.url("/proxy/two"));
            assert_eq!(response.pins(), [&site.enforced]);
        }
        httpd.stop();
    }
}

#[test]
fn not_modified() {
    let (mut httpd, site) = site(Module::Shipped, Mpm::Event);
    site.not_modified();
    httpd.stop();
}

#[test]
fn several_requests_on_one_connection() {
    let (mut httpd, site) = site(Module::Shipped, Mpm::Event);
    site.several_requests_on_one_connection();
    httpd.stop();
}

#[test]
fn malformed_requests_get_the_field() {
    let (mut httpd, site) = site(Module::Shipped, Mpm::Event);
    site.malformed_requests_get_the_field();
    httpd.stop();
}

#[test]
fn resumed_sessions() {
    let (mut httpd, site) = site(Module::Shipped, Mpm::Event);
    site.resumed_sessions(&httpd.path("session"));
    httpd.stop();
}

/// A program whose name begins with `nph-` writes its response past all filters of the request. The module adds no
/// field and removes the program's own pin fields.
#[test]
fn a_program_that_writes_the_head_itself_gets_no_field() {
    let (mut httpd, site) = site(Module::Shipped, Mpm::Event);
    let answer = site.raw(&[], "GET /nph-cgi HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(count(&answer, "Public-Key-Pins"), 0, "{answer}");
    assert!(answer.ends_with("Connection: close\r\n\r\nx"), "{answer}");
    let log = || fs::read_to_string(httpd.path("told.log")).unwrap_or_default();
    let expected = format!("/nph-cgi {} \"withheld\" \"-\"", site.https);
    assert!(wait(|| log().contains(&expected)), "{}", log());
    httpd.stop();
}

#[test]
fn a_foreign_field_is_kept_where_hpkp_is_off() {
    let mut httpd = Httpd::furnished(Module::Shipped, Mpm::Event);
    httpd.load(&["proxy", "proxy_http"]);
    let live = httpd.pki().pin("live.pem");
    let (https, backend) = (free_port(), backend::start());
    // The certificate has only the name of the first host.
    httpd.expect_in_log(&["server certificate does NOT include an ID which matches"]);
    let proxied = |more: &str| format!("{more}\nProxyPass / http://127.0.0.1:{backend}/");
    httpd.configure(&format!(
        "{}<HPKPPolicy site>\nHPKPPin {live}\nHPKPPin {B}\nHPKPMaxAge 1d\n</HPKPPolicy>\n\
         HPKPUse site\nLogFormat \"%v %{{HPKP_STATUS}}n\" told\nCustomLog told.log told\n{}{}",
        listen(&[https]),
        tls_vhost(https, "localhost", "live", &proxied("")),
        tls_vhost(https, "off.localhost", "live", &proxied("HPKPUse off")),
    ));
    // Both hosts have the certificate of one.
    httpd.expect_in_log(&["AH01909: off.localhost:443"]);
    httpd.start();
    let curl = Curl::new(&httpd.path("ca.pem")).with(&["-k"]);
    let on = curl.get(&format!("https://localhost:{https}/one"));
    assert_eq!(on.pins().len(), 1);
    assert!(on.pins()[0].contains(&live));
    let off = curl.get(&format!("https://off.localhost:{https}/one"));
    assert_eq!(off.pins(), [FOREIGN]);
    let log = || fs::read_to_string(httpd.path("told.log")).unwrap_or_default();
    assert!(wait(|| log().lines().count() >= 2));
    assert!(log().contains("localhost sent\n"), "{}", log());
    assert!(log().contains("off.localhost off\n"), "{}", log());
    httpd.stop();
}

/// A response that a forward proxy passes on belongs to another host.
#[test]
fn a_forward_proxy_adds_no_field_for_other_hosts() {
    let mut httpd = Httpd::furnished(Module::Shipped, Mpm::Event);
    httpd.load(&["proxy", "proxy_http", "proxy_connect"]);
    let live = httpd.pki().pin("live.pem");
    let (https, backend) = (free_port(), backend::start());
    let more = format!("HPKPUse site\nProxyRequests On\nAllowCONNECT {backend}");
    httpd.configure(&format!(
        "{}<HPKPPolicy site>\nHPKPPin {live}\nHPKPPin {B}\nHPKPMaxAge 1d\n</HPKPPolicy>\n{}",
        listen(&[https]),
        tls_vhost(https, "localhost", "live", &more),
    ));
    httpd.expect_in_log(&["AH01144: No protocol handler was valid"]);
    httpd.start();
    let curl = Curl::new(&httpd.path("ca.pem"));
    // A request to the host itself.
    assert_eq!(curl.get(&format!("https://localhost:{https}/nothing")).pins().len(), 1);
    // A request over TLS to the proxy, for another host.
    let proxy = format!("https://localhost:{https}");
    let ca = httpd.path("ca.pem");
    let ca = ca.to_str().expect("a path in UTF-8");
    let proxied = curl.with(&["--proxy", &proxy, "--proxy-cacert", ca]);
    let zero = proxied.get(&format!("http://other.invalid:{backend}/zero"));
    assert_ne!(zero.status, 0);
    assert!(zero.pins().is_empty(), "{zero:?}");
    let one = proxied.get(&format!("http://127.0.0.1:{backend}/one"));
    assert_eq!((one.status, one.pins()), (200, vec![FOREIGN]));
    // The response to CONNECT, before the connection becomes a tunnel.
    let tunnel = proxied.with(&["--proxytunnel"]);
    let responses = tunnel.responses(&format!("http://127.0.0.1:{backend}/zero"));
    let pins: Vec<usize> = responses.iter().map(|response| response.pins().len()).collect();
    assert_eq!(pins, [0, 0], "{responses:?}");
    httpd.stop();
}

#[test]
fn max_age_0_unpins_wget2_and_keeps_its_pins_in_the_header() {
    let mut httpd = Httpd::furnished(Module::Shipped, Mpm::Event);
    let live = httpd.pki().pin("live.pem");
    let port = free_port();
    let configuration = |age: &str| {
        format!(
            "{}<HPKPPolicy site>\nHPKPPin {live}\nHPKPPin {B}\nHPKPMaxAge {age}\n</HPKPPolicy>\n{}",
            listen(&[port]),
            tls_vhost(port, "localhost", "live", "HPKPUse site"),
        )
    };
    httpd.pki().write("html/file.txt", "x");
    httpd.configure(&configuration("1d"));
    httpd.start();
    let wget2 = Wget2::new(&httpd.path("ca.pem"), httpd.path("known"));
    let url = format!("https://localhost:{port}/file.txt");
    assert_eq!(wget2.get(&url), Some(0));
    assert_eq!(wget2.pins().len(), 2);
    httpd.configure(&configuration("0"));
    assert_eq!(httpd.graceful(), Reload::Accepted);
    let response = Curl::new(&httpd.path("ca.pem")).get(&url);
    assert_eq!(response.pins(), [format!("pin-sha256=\"{live}\"; pin-sha256=\"{B}\"; max-age=0")]);
    assert_eq!(wget2.get(&url), Some(0));
    assert_eq!(wget2.pins().len(), 0);
    httpd.stop();
}
