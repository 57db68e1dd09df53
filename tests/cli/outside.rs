//! Servers and a resolver on loopback whose answers a test chooses.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, Query, ResponseCode};
use hickory_proto::rr::rdata::tlsa::TLSA;
use hickory_proto::rr::rdata::{A, AAAA, CNAME};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use hpkp_tests::free_port;
use hpkp_tests::pki::Pki;
use openssl::ssl::{SslAcceptor, SslFiletype, SslMethod};

/// The response to a request for this path, which is the server's nth request, counted from 0.
pub(crate) type Respond = Arc<dyn Fn(&str, usize) -> String + Send + Sync>;

/// A response with these fields.
pub(crate) fn response(fields: &[(&str, &str)]) -> String {
    let mut text = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n".to_owned();
    for (name, value) in fields {
        text += &format!("{name}: {value}\r\n");
    }
    text + "\r\n"
}

/// A redirect to another URL.
pub(crate) fn redirect(to: &str) -> String {
    format!("HTTP/1.1 301 Moved\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n")
}

/// A listener on this address and port.
pub(crate) fn listen(address: IpAddr, port: u16) -> TcpListener {
    TcpListener::bind((address, port)).expect("a socket")
}

/// The acceptor for a certificate with its chain.
pub(crate) fn acceptor(pki: &Pki, name: &str) -> SslAcceptor {
    let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls()).expect("OpenSSL");
    acceptor.set_certificate_chain_file(pki.path(&format!("{name}.pem"))).expect("a chain");
    let key = pki.path(&format!("{name}.key"));
    acceptor.set_private_key_file(key, SslFiletype::PEM).expect("a key");
    acceptor.build()
}

/// Reads a request up to its empty line.
fn request(stream: &mut impl std::io::Read) -> String {
    let mut text = String::new();
    let mut reader = BufReader::new(stream);
    while reader.read_line(&mut text).is_ok_and(|read| read > 2) {}
    text
}

/// A server with the certificate `name` that answers requests; it ends with the process.
pub(crate) fn serve(pki: &Pki, name: &str, listener: TcpListener, respond: Respond) {
    let acceptor = Arc::new(acceptor(pki, name));
    let count = Arc::new(AtomicUsize::new(0));
    let answer = move |connection: TcpStream| {
        let Ok(mut stream) = acceptor.accept(connection) else { return };
        let request = request(&mut stream);
        if request.is_empty() {
            return;
        }
        let path = request.split(' ').nth(1).unwrap_or_default();
        let answer = respond(path, count.fetch_add(1, Ordering::Relaxed));
        let _ = stream.write_all(answer.as_bytes());
        let _ = stream.shutdown();
    };
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            let _ = connection.set_read_timeout(Some(Duration::from_secs(180)));
            let answer = answer.clone();
            std::thread::spawn(move || answer(connection));
        }
    });
}

/// A server with TLS that gives every request the same response; its port.
pub(crate) fn tls(pki: &Pki, name: &str, answer: String) -> u16 {
    tls_with(pki, name, Arc::new(move |_, _| answer.clone()))
}

/// A server with TLS on 127.0.0.1; its port.
pub(crate) fn tls_with(pki: &Pki, name: &str, respond: Respond) -> u16 {
    let port = free_port();
    serve(pki, name, listen([127, 0, 0, 1].into(), port), respond);
    port
}

/// A server without TLS that answers requests; its port.
pub(crate) fn plain(answer: String) -> u16 {
    script(move |mut stream| {
        request(&mut stream);
        let _ = stream.write_all(answer.as_bytes());
    })
}

/// A server that calls `talk` with each connection; its port.
pub(crate) fn script(talk: impl Fn(TcpStream) + Send + 'static) -> u16 {
    let port = free_port();
    let listener = listen([127, 0, 0, 1].into(), port);
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            let _ = connection.set_read_timeout(Some(Duration::from_secs(180)));
            talk(connection);
        }
    });
    port
}

/// A server of a protocol that switches to TLS. It sends the first line at once, each other line after one of the
/// client, and then begins TLS.
pub(crate) fn starttls(pki: &Pki, name: &str, lines: &'static [&'static str]) -> u16 {
    let acceptor = acceptor(pki, name);
    script(move |mut stream| {
        let (greeting, answers) = lines.split_first().expect("a greeting");
        let _ = stream.write_all(greeting.as_bytes());
        for answer in answers {
            let mut outcome = Vec::new();
            let mut byte = [0];
            // XMPP has elements in place of lines.
            let is_whole = |outcome: &[u8]| {
                outcome.ends_with(b"\n") || (outcome.ends_with(b">") && outcome.len() > 30)
            };
            while !is_whole(&outcome) {
                match stream.read(&mut byte) {
                    Ok(1) => outcome.push(byte[0]),
                    _ => return,
                }
            }
            let _ = stream.write_all(answer.as_bytes());
        }
        let _ = acceptor.accept(stream);
    })
}

/// How a resolver answers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Manner {
    /// Sets the AD bit: the answer was validated with DNSSEC.
    pub(crate) authentic: bool,
    /// Truncates answers over UDP, so that only those over TCP are complete.
    pub(crate) truncates: bool,
    /// The answer has another id than the query.
    pub(crate) other_id: bool,
    /// The answer has another question than the query.
    pub(crate) other_question: bool,
    /// The answer has this response code.
    pub(crate) code: Option<ResponseCode>,
    /// The answer is no valid DNS message.
    pub(crate) garbage: bool,
}

/// The data of a record in a zone.
#[derive(Clone, Debug)]
pub(crate) enum Data {
    Address(&'static str),
    Alias(&'static str),
    Tlsa(u8, u8, u8, Vec<u8>),
}

/// A resolver on loopback that knows this zone; its address.
pub(crate) fn resolver(zone: Vec<(String, Data)>, manner: Manner) -> String {
    let port = free_port();
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let socket = UdpSocket::bind(address).expect("a socket");
    let zone = Arc::new(zone);
    let over_tcp = zone.clone();
    let listener = TcpListener::bind(address).expect("a socket");
    std::thread::spawn(move || {
        let mut buffer = [0; 4_096];
        while let Ok((length, client)) = socket.recv_from(&mut buffer) {
            let answer = answer(&zone, &buffer[..length], manner, true);
            let _ = socket.send_to(&answer, client);
        }
    });
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut length = [0; 2];
            if stream.read_exact(&mut length).is_err() {
                continue;
            }
            let mut asked = vec![0; usize::from(u16::from_be_bytes(length))];
            let _ = stream.read_exact(&mut asked);
            let answer = answer(&over_tcp, &asked, manner, false);
            let length = u16::try_from(answer.len()).expect("a length");
            let _ = stream.write_all(&[&length.to_be_bytes()[..], &answer].concat());
        }
    });
    address.to_string()
}

fn answer(zone: &[(String, Data)], asked: &[u8], manner: Manner, is_udp: bool) -> Vec<u8> {
    let asked = Message::from_vec(asked).expect("a query");
    let query = asked.query().expect("a question").clone();
    let mut message = Message::new();
    message
        .set_id(if manner.other_id { !asked.id() } else { asked.id() })
        .set_message_type(MessageType::Response)
        .set_authentic_data(manner.authentic)
        .set_response_code(manner.code.unwrap_or(ResponseCode::NoError));
    if manner.garbage {
        return [&asked.id().to_be_bytes()[..], &[0x80, 0, 0xff, 0xff, 0, 9, 0, 0, 0, 0]].concat();
    }
    let other = Name::from_ascii("other.example.net.").expect("a name");
    message.add_query(match manner.other_question {
        true => Query::query(other, query.query_type()),
        false => query.clone(),
    });
    if manner.truncates && is_udp {
        message.set_truncated(true);
        return message.to_vec().expect("a message");
    }
    let wanted = query.name().to_ascii().trim_end_matches('.').to_lowercase();
    let of_name = zone.iter().filter(|(name, _)| *name == wanted);
    for (_, data) in of_name {
        let data = match data {
            Data::Address(text) => match text.parse().expect("an address") {
                IpAddr::V4(four) => RData::A(A(four)),
                IpAddr::V6(six) => RData::AAAA(AAAA(six)),
            },
            Data::Alias(name) => RData::CNAME(CNAME(Name::from_ascii(name).expect("a name"))),
            Data::Tlsa(usage, selector, matching, data) => RData::TLSA(TLSA::new(
                (*usage).into(),
                (*selector).into(),
                (*matching).into(),
                data.clone(),
            )),
        };
        if data.record_type() == query.query_type() || data.record_type() == RecordType::CNAME {
            message.add_answer(Record::from_rdata(query.name().clone(), 300, data));
        }
    }
    message.to_vec().expect("a message")
}
