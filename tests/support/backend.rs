//! A backend to which servers under test proxy requests. Most of its responses have pin fields of their own.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};

/// The pins that the backend sends.
pub const FOREIGN: &str = "pin-sha256=\"foreign\"; max-age=5";

/// Starts a backend that runs until this process ends; returns its port.
pub fn start() -> u16 {
    start_with(answer)
}

/// Starts a backend that handles each connection with `answer` until this process ends; returns its port.
pub fn start_with(answer: fn(TcpStream)) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            std::thread::spawn(move || answer(connection));
        }
    });
    port
}

/// Answers one request. A server that closes the connection meanwhile does not matter.
fn answer(mut connection: TcpStream) {
    let mut request = String::new();
    let mut reader = BufReader::new(&connection);
    while reader.read_line(&mut request).is_ok_and(|read| read > 2) {}
    let mut words = request.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    // A request of a forward proxy's client would name the host as well; a proxy does not.
    let (status, fields) = response(path);
    let body = if status == 304 { "" } else { "a body" };
    let mut answer = String::new();
    if path == "/hints" {
        for hint in ["/a.css", "/b.css"] {
            answer += &format!("HTTP/1.1 103 x\r\nLink: <{hint}>; rel=preload\r\n");
            answer += &format!("Public-Key-Pins: {FOREIGN}\r\n");
            answer += &format!("public-key-pins-report-only: {FOREIGN}\r\n\r\n");
        }
    }
    answer += &format!("HTTP/1.1 {status} x\r\nConnection: close\r\n");
    if path == "/trailers" {
        answer += "Transfer-Encoding: chunked\r\nTrailer: Public-Key-Pins, X-Trailer\r\n\r\n";
        answer += &format!("2\r\nhi\r\n0\r\nPublic-Key-Pins: {FOREIGN}\r\nX-Trailer: x\r\n\r\n");
        let _ = connection.write_all(answer.as_bytes());
        return;
    }
    for (name, value) in fields {
        answer += &format!("{name}: {value}\r\n");
    }
    if status != 304 {
        answer += &format!("Content-Length: {}\r\n", body.len());
    }
    answer += "\r\n";
    if method != "HEAD" {
        answer += body;
    }
    let _ = connection.write_all(answer.as_bytes());
}

/// The status and the fields of the answer to a request for `path`.
fn response(path: &str) -> (u16, Vec<(String, String)>) {
    let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let foreign = field("Public-Key-Pins", FOREIGN);
    match path {
        "/zero" | "/trailers" => (200, vec![]),
        "/hints" => (200, vec![foreign]),
        "/one" => (200, vec![foreign]),
        "/two" => (200, vec![foreign, field("public-key-pins", "two")]),
        "/report-only" => (200, vec![field("Public-Key-Pins-Report-Only", "x")]),
        "/many" => {
            let others = (0..40).map(|n| field(&format!("X-{n}"), "x"));
            (200, others.chain([foreign]).collect())
        }
        "/304" => (304, vec![foreign]),
        "/302" => (302, vec![foreign, field("Location", "/x")]),
        "/500" => (500, vec![foreign]),
        "/accel" => (200, vec![foreign, field("X-Accel-Redirect", "/from-backend")]),
        _ => (404, vec![foreign]),
    }
}
