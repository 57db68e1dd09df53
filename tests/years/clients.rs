//! Clients that store pins, and visit the server throughout a run.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use hpkp_core::date;
use hpkp_core::pin::Pin;
use hpkp_core::ua::host::Host;
use hpkp_core::ua::hosts::{
    Connection, Fate, Fields, KnownPinnedHosts, Noting, Options, Transport,
};
use hpkp_core::ua::{FieldKind, Response, Verdict, wget2};
use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode};
use openssl::x509::{X509, X509Ref};

use crate::issuer::pin;

pub const HOST: &str = "localhost";

/// The keys and the response that a client gets from the server.
pub struct Observation {
    /// The keys of the path that it validated, the leaf's first.
    path: Vec<Pin>,
    /// The keys of the sent certificates.
    sent: Vec<Pin>,
    pub serial: u32,
    pub fields: Vec<Vec<u8>>,
    /// The time in the field Date.
    pub date: i64,
}

/// Connects, verifies the certificates at the time `now`, and reads a response. Only `root` is trusted.
pub fn observe(port: u16, root: &X509, now: i64) -> Result<Observation, String> {
    let mut builder = SslConnector::builder(SslMethod::tls_client()).expect("a client");
    builder.cert_store_mut().add_cert(root.clone()).expect("a root");
    builder.set_verify(SslVerifyMode::PEER);
    let mut configuration = builder.build().configure().expect("a client");
    configuration.param_mut().set_time(now);
    let stream = TcpStream::connect(("127.0.0.1", port)).map_err(|error| error.to_string())?;
    stream.set_read_timeout(Some(Duration::from_secs(180))).expect("a time limit");
    let mut tls = configuration.connect(HOST, stream).map_err(|error| error.to_string())?;
    let request = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n");
    tls.write_all(request.as_bytes()).map_err(|error| error.to_string())?;
    let mut answer = Vec::new();
    // A server may end the connection without closing TLS.
    let _ = tls.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    if !answer.starts_with("HTTP/1.1 200 ") {
        return Err(format!("the answer is {answer:?}"));
    }
    let ssl = tls.ssl();
    let keys = |chain: Option<&openssl::stack::StackRef<X509>>| {
        chain.expect("certificates").iter().map(key_of).collect::<Vec<Pin>>()
    };
    let leaf = ssl.peer_certificate().expect("a certificate");
    let serial = leaf.serial_number().to_bn().expect("a number").to_dec_str().expect("a number");
    Ok(Observation {
        path: keys(ssl.verified_chain()),
        sent: keys(ssl.peer_cert_chain()),
        serial: serial.parse().expect("a serial number of ours"),
        fields: values(&answer, "public-key-pins").map(|value| value.as_bytes().to_vec()).collect(),
        date: values(&answer, "date").next().and_then(instant).ok_or("no Date")?,
    })
}

fn key_of(certificate: &X509Ref) -> Pin {
    pin(&certificate.public_key().expect("a key"))
}

fn values<'a>(answer: &'a str, name: &'a str) -> impl Iterator<Item = &'a str> {
    let head = answer.split("\r\n\r\n").next().unwrap_or_default();
    let fields = head.lines().filter_map(|line| line.split_once(':'));
    fields.filter(move |(one, _)| one.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

/// "Thu, 26 Nov 2026 12:53:16 GMT", in seconds since 1970.
fn instant(text: &str) -> Option<i64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let parts: Vec<&str> = text.split(' ').collect();
    let [_, day, month, year, time, "GMT"] = parts[..] else { return None };
    let month = 1 + MONTHS.iter().position(|one| *one == month)?;
    date::parse(&format!("{year}-{month:02}-{day}T{time}Z"))
}

/// A user agent of RFC 7469.
pub struct Agent {
    hosts: KnownPinnedHosts,
    host: Host,
}

impl Agent {
    pub fn new() -> Self {
        let host = Host::parse(HOST).expect("a host");
        Self { hosts: KnownPinnedHosts::new(Options::default()), host }
    }

    /// Whether it accepts the server and notes the pins.
    pub fn visit(&mut self, observed: &Observation, now: i64) -> bool {
        let transport = Transport::Tls { chain: &observed.path, local_anchor: false };
        let connection = Connection { host: &self.host, transport, now };
        let validation = self.hosts.validate(&connection);
        let fields: Vec<&[u8]> = observed.fields.iter().map(Vec::as_slice).collect();
        let fields = Fields { enforced: &fields, report_only: &[] };
        let received = self.hosts.receive(&connection, &validation, fields);
        // The agent must note the pins of every response.
        validation.fate == Fate::Proceed
            && matches!(received.noting, Noting::Noted | Noting::Updated)
    }
}

/// wget2, which compares the sent certificates with the pins that it noted.
#[derive(Default)]
pub struct Wget2 {
    noted: Option<(BTreeSet<Pin>, i64)>,
}

impl Wget2 {
    pub fn visit(&mut self, observed: &Observation, now: i64) -> bool {
        let held = self.noted.as_ref().filter(|(_, until)| now <= *until);
        if held.is_some_and(|(pins, _)| !observed.sent.iter().any(|key| pins.contains(key))) {
            return false;
        }
        let fields: Vec<&[u8]> = observed.fields.iter().map(Vec::as_slice).collect();
        let host = Host::parse(HOST).expect("a host");
        let response = Response::new(FieldKind::Enforced, &fields, &host, true, &observed.sent);
        let Verdict::Note { max_age, .. } = wget2::verdict(&response.expect("a short field"))
        else {
            return false;
        };
        self.noted = Some((pins_of(&observed.fields[0]), now + max_age as i64));
        true
    }
}

/// The pins in a field.
pub fn pins_of(field: &[u8]) -> BTreeSet<Pin> {
    let text = String::from_utf8_lossy(field).into_owned();
    let parts = text.split(';').filter_map(|part| part.trim().strip_prefix("pin-sha256=\""));
    parts.map(|pin| Pin::from_base64(pin.trim_end_matches('"')).expect("a pin")).collect()
}

/// A release of the app accepts any key of the path.
pub fn app_accepts(pins: &BTreeSet<Pin>, observed: &Observation) -> bool {
    observed.path.iter().any(|key| pins.contains(key))
}

/// A script with `curl --pinnedpubkey` accepts the key of the certificate alone.
pub fn script_accepts(pins: &BTreeSet<Pin>, observed: &Observation) -> bool {
    observed.path.first().is_some_and(|key| pins.contains(key))
}
