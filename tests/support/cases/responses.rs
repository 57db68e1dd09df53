//! Every kind of response of a pinned host has exactly one field of each kind, and other responses have none.

use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::client::{Curl, Response};
use crate::outcome::Kind;
use crate::succeed;

/// The addresses and expected fields of a server with a location for each kind of response.
#[derive(Clone, Debug)]
pub struct Site {
    pub kind: Kind,
    pub ca: PathBuf,
    /// The port with TLS and both policies.
    pub https: u16,
    /// The port without TLS.
    pub http: u16,
    /// The expected values of the fields.
    pub enforced: String,
    pub report_only: String,
}

/// A request, and the status with which each server answers it.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub path: &'static str,
    /// Further arguments of curl.
    pub arguments: &'static [&'static str],
    nginx: Answer,
    httpd: Answer,
}

#[derive(Clone, Copy, Debug)]
enum Answer {
    Status(u16),
    /// The server has no such thing.
    None,
}

impl Case {
    /// The status with which a server answers; `None` if the case is for the other server.
    pub fn status(&self, kind: Kind) -> Option<u16> {
        match if kind == Kind::Nginx { self.nginx } else { self.httpd } {
            Answer::Status(status) => Some(status),
            Answer::None => None,
        }
    }

    /// httpd answers with another status; the reason is for the reader.
    const fn httpd(mut self, status: u16, _reason: &'static str) -> Self {
        self.httpd = Answer::Status(status);
        self
    }
}

type Arguments = &'static [&'static str];

/// A request that both servers answer alike.
const fn both(path: &'static str, arguments: Arguments, status: u16) -> Case {
    let answer = Answer::Status(status);
    Case { path, arguments, nginx: answer, httpd: answer }
}

const fn only_nginx(
    path: &'static str,
    arguments: Arguments,
    status: u16,
    _reason: &'static str,
) -> Case {
    Case { path, arguments, nginx: Answer::Status(status), httpd: Answer::None }
}

const fn only_httpd(
    path: &'static str,
    arguments: Arguments,
    status: u16,
    _reason: &'static str,
) -> Case {
    Case { path, arguments, nginx: Answer::None, httpd: Answer::Status(status) }
}

const ALLOWS: &str = "its handler of files takes this method";
const PASSWORD: &str = "authorization takes two modules' hooks in httpd";
const NO_CGI: &str = "nginx runs no programs";

pub const CASES: &[Case] = &[
    both("/file.txt", &[], 200),
    both("/file.txt", &["-I"], 200),
    both("/file.txt", &["-r", "0-9"], 206),
    both("/file.txt", &["-r", "0-9,20-29"], 206),
    both("/file.txt", &["-r", "5000-"], 416),
    both(
        "/file.txt",
        &["-H", "If-Modified-Since: Wed, 01 Jan 2031 00:00:00 GMT", "-H", "If-None-Match:"],
        200,
    ),
    both("/file.txt", &["-H", "If-Unmodified-Since: Wed, 01 Jan 2020 00:00:00 GMT"], 412),
    both("/file.txt", &["-X", "OPTIONS"], 405).httpd(200, ALLOWS),
    // Over HTTP/2 httpd's answer depends on the version of nghttp2 or curl: 400 with 1.70 and 8.23, 200 with those of Debian 13.
    both("/", &["-X", "OPTIONS", "--request-target", "*", "--http1.1"], 400)
        .httpd(200, "it knows the form"),
    both("/file.txt", &["-X", "TRACE"], 405).httpd(200, ALLOWS),
    both("/file.txt", &["-X", "NONSENSE"], 405).httpd(501, "it tells unknown from not allowed"),
    both("/file.txt", &["-d", "x=y"], 405).httpd(200, ALLOWS),
    only_nginx("/file.txt", &["-d", "more than ten bytes"], 413, "httpd: see below"),
    // httpd's file handler checks the length of a body in HTTP/1.1 only.
    both("/file.txt", &["-d", "more than ten bytes", "--http1.1"], 413),
    only_nginx("/file.txt", &["--http1.0"], 200, "httpd agrees by ALPN to no HTTP/1.0"),
    both("/file.txt", &["--http1.0", "--no-alpn"], 200),
    both("/directory", &[], 301),
    both("/directory/", &[], 403),
    both("/nothing", &[], 404),
    both("/nothing", &["-I"], 404),
    both("/return200", &[], 200),
    both("/return204", &[], 204),
    both("/return301", &[], 301),
    both("/return302", &[], 302),
    both("/return403", &[], 403),
    both("/return500", &[], 500),
    both("/return503", &[], 503),
    both("/deny", &[], 403),
    both("/lost", &[], 404),
    only_nginx("/lost-as-200", &[], 200, "an ErrorDocument keeps the status"),
    both("/lost-elsewhere", &[], 302),
    only_nginx("/lost-named", &[], 404, "named locations are nginx's"),
    only_nginx("/gone-to-named", &[], 418, "named locations are nginx's"),
    both("/rewrite", &[], 200),
    both("/try", &[], 200),
    both("/own-one", &[], 200),
    both("/own-two", &[], 404),
    both("/gzip", &["--compressed"], 200),
    both("/status", &[], 200),
    both("/dav", &["-X", "DELETE"], 404),
    both("/ssi.shtml", &[], 200),
    both("/auth", &[], 200),
    only_httpd("/auth-basic", &["-u", "somebody:secret"], 200, PASSWORD),
    only_httpd("/auth-basic", &["-u", "somebody:guess"], 401, PASSWORD),
    both("/auth-refused", &[], 403),
    only_nginx("/mirrored", &[], 200, "httpd does not mirror requests"),
    both("/proxy/zero", &[], 200),
    both("/proxy/one", &[], 200),
    both("/proxy/one", &["-I"], 200),
    both("/proxy/two", &[], 200),
    both("/proxy/report-only", &[], 200),
    both("/proxy/many", &[], 200),
    both("/proxy/304", &[], 304),
    both("/proxy/302", &[], 302),
    both("/proxy/404", &[], 404),
    both("/proxy/500", &[], 500),
    only_nginx("/proxy/accel", &[], 200, "X-Accel-Redirect is nginx's"),
    both("/intercepted/500", &[], 500),
    both("/unbuffered", &[], 200),
    both("/bad-gateway", &[], 502).httpd(503, "a backend that is not there is out of service"),
    only_httpd("/cgi/zero", &[], 200, NO_CGI),
    only_httpd("/cgi/one", &[], 200, NO_CGI),
    only_httpd("/cgi/two", &[], 200, NO_CGI),
    only_httpd("/cgi/two", &["-I"], 200, NO_CGI),
    only_httpd("/cgi/304", &[], 304, NO_CGI),
    only_httpd("/cgi/404", &[], 404, NO_CGI),
    only_httpd("/cgi/redirect", &[], 200, NO_CGI),
    only_httpd("/cgi/broken", &[], 500, NO_CGI),
    only_httpd("/lost-to-cgi", &[], 404, NO_CGI),
];

impl Site {
    pub fn curl(&self) -> Curl {
        Curl::new(&self.ca)
    }

    pub fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.https)
    }

    /// HTTP versions by curl's names.
    const VERSIONS: [&str; 2] = ["--http1.1", "--http2"];

    pub fn exactly_one_field_of_each_kind(&self) {
        self.exactly_one_field_over(&Self::VERSIONS);
    }

    /// The same over some versions of HTTP only.
    pub fn exactly_one_field_over(&self, versions: &[&str]) {
        self.every_case(versions, |response| {
            response.pins() == [&self.enforced]
                && response.all("public-key-pins-report-only") == [&self.report_only]
        });
    }

    /// The statuses alone, for a server without the module.
    pub fn statuses(&self) {
        self.every_case(&Self::VERSIONS, |response| {
            !response.pins().contains(&self.enforced.as_str())
        });
    }

    /// Fails unless each case has its status and is `right` with TLS, and has no field of ours without TLS. Names all
    /// cases that fail.
    fn every_case(&self, versions: &[&str], right: impl Fn(&Response) -> bool) {
        let plain = format!("http://localhost:{}", self.http);
        let cases = CASES.iter().filter_map(|case| Some((case, case.status(self.kind)?)));
        let mut wrong = Vec::new();
        for (Case { path, arguments, .. }, status) in cases {
            for version in versions {
                let curl = self.curl().with(&[version]).with(arguments);
                let response = curl.get(&self.url(path));
                if response.status != status || !right(&response) {
                    wrong.push(format!("{status} {version} {arguments:?} {path}: {response:?}"));
                }
            }
            let response = self.curl().with(arguments).get(&format!("{plain}{path}"));
            if !self.has_nothing_of_ours(path, &response) {
                wrong.push(format!("without TLS {arguments:?} {path}: {response:?}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    fn has_nothing_of_ours(&self, path: &str, response: &Response) -> bool {
        let (pins, report_only) = (response.pins(), response.all("public-key-pins-report-only"));
        let nothing = pins.is_empty() && report_only.is_empty();
        // Responses of these paths have pin fields of their own. nginx has one block with and without TLS, so the
        // module removes them. In httpd the vhost without TLS has no policy, so they pass.
        let foreign = ["own", "proxy", "cgi", "unbuffered"].iter().any(|part| path.contains(part));
        nothing
            || (self.kind == Kind::Httpd
                && foreign
                && !pins.contains(&self.enforced.as_str())
                && !report_only.contains(&self.report_only.as_str()))
    }

    pub fn not_modified(&self) {
        let first = self.curl().get(&self.url("/file.txt"));
        let etag = format!("If-None-Match: {}", first.all("etag")[0]);
        for version in Self::VERSIONS {
            let response = self.curl().with(&[version, "-H", &etag]).get(&self.url("/file.txt"));
            assert_eq!((response.status, response.pins()), (304, vec![self.enforced.as_str()]));
        }
    }

    pub fn several_requests_on_one_connection(&self) {
        for version in Self::VERSIONS {
            let url = self.url("/{file.txt,nothing,proxy/two}");
            let responses = self.curl().with(&[version]).responses(&url);
            let statuses: Vec<u16> = responses.iter().map(|response| response.status).collect();
            assert_eq!(statuses, [200, 404, 200]);
            for response in responses {
                assert_eq!(response.pins(), [&self.enforced]);
            }
        }
    }

    pub fn malformed_requests_get_the_field(&self) {
        // httpd's default limit for a line is above 8000 bytes.
        let long = format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "a".repeat(9000));
        // httpd answers an unknown HTTP version in its own version; `/` is forbidden there.
        let unknown_version = if self.kind == Kind::Nginx { "505" } else { "403" };
        for (request, status) in [
            ("NONSENSE\r\n\r\n", "400"),
            ("GET / HTTP/1.1\r\n\r\n", "400"),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "400"),
            ("GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n", "400"),
            ("GET / HTTP/9.9\r\nHost: localhost\r\n\r\n", unknown_version),
            (&long, "414"),
        ] {
            let answer = self.raw(&[], request);
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{request:?}: {answer}");
            assert_eq!(count(&answer, "Public-Key-Pins"), 1, "{request:?}: {answer}");
        }
        // Plain HTTP on the port for TLS.
        let mut plain =
            std::net::TcpStream::connect(("127.0.0.1", self.https)).expect("a connection");
        plain.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("a request");
        let mut answer = String::new();
        plain.read_to_string(&mut answer).expect("an answer");
        let outcome = match self.kind {
            Kind::Nginx => "plain HTTP request was sent to HTTPS port",
            Kind::Httpd => "speaking plain HTTP to an SSL-enabled server port",
        };
        assert!(answer.contains(outcome), "{answer}");
        assert_eq!(count(&answer, "Public-Key-Pins"), 0, "{answer}");
    }

    /// Sessions of TLS 1.2 and 1.3; `session` is a file to keep one in.
    pub fn resumed_sessions(&self, session: &std::path::Path) {
        let session = session.to_str().expect("a path in UTF-8");
        let request = "GET /file.txt HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        for version in ["-tls1_2", "-tls1_3"] {
            let first = self.raw(&[version, "-sess_out", session], request);
            let resumed = self.raw(&[version, "-sess_in", session], request);
            for answer in [first, resumed] {
                assert_eq!(count(&answer, "Public-Key-Pins"), 1, "{version}: {answer}");
            }
            let output = succeed(
                Command::new("openssl")
                    .args(["s_client", "-connect", &format!("127.0.0.1:{}", self.https)])
                    .args([version, "-sess_in", session])
                    .stdin(Stdio::null()),
            );
            let output = String::from_utf8_lossy(&output);
            assert!(output.contains("Reused, "), "no session was resumed");
        }
    }

    /// Sends a request over `openssl s_client`; returns the server's answer.
    pub fn raw(&self, arguments: &[&str], request: &str) -> String {
        let mut client = Command::new("openssl");
        client.args(["s_client", "-quiet", "-servername", "localhost", "-CAfile"]).arg(&self.ca);
        client.args(["-connect", &format!("127.0.0.1:{}", self.https)]).args(arguments);
        client.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut client = client.spawn().expect("openssl");
        let written = client.stdin.as_mut().expect("a pipe").write_all(request.as_bytes());
        written.expect("a request");
        let mut answer = String::new();
        client.stdout.take().expect("a pipe").read_to_string(&mut answer).expect("an answer");
        client.wait().expect("openssl ends");
        answer
    }
}

/// How many fields of this name an answer has.
pub fn count(answer: &str, name: &str) -> usize {
    let name = format!("{name}:").to_ascii_lowercase();
    answer.lines().filter(|line| line.to_ascii_lowercase().starts_with(&name)).count()
}
