//! Gets the certificate chains that a TLS server presents, without verifying them.

use std::fmt;
use std::io;
use std::net::ToSocketAddrs as _;
use std::time::{Duration, Instant};

use hpkp_core::text::Excerpt;
use hpkp_core::ua::host::Host;
use openssl::error::ErrorStack;
use openssl::pkey::Id;
use openssl::ssl::{
    HandshakeError, Ssl, SslContext, SslMethod, SslStream, SslVerifyMode, SslVersion,
};

use crate::arguments::Starttls;
use crate::output;
use crate::starttls::{self, StarttlsError};
use crate::timed::Timed;

/// The address of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) host: Host,
    pub(crate) port: u16,
}

impl Address {
    /// The port of HTTPS.
    const HTTPS: u16 = 443;

    /// Parses `HOST`, `HOST:PORT` or an `https` URL; an IPv6 address needs brackets if a port follows.
    /// `None` for other text.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if let Some(rest) = Self::after_scheme(text) {
            let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
            return Self::parse(&rest[..end]).filter(|_| !rest[..end].contains('@'));
        }
        Self::parse_with(text, Self::HTTPS)
    }

    /// Parses `HOST` or `HOST:PORT`. `HOST` alone gets the port `port`.
    pub(crate) fn parse_with(text: &str, port: u16) -> Option<Self> {
        if let Some(host) = Self::without_port(text) {
            return Some(Self { host, port });
        }
        let (host, port) = text.rsplit_once(':')?;
        if port.is_empty() || !port.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let port = port.parse().ok().filter(|port| *port != 0)?;
        let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(inside) => Host::parse(inside).ok().filter(|_| inside.contains(':'))?,
            None => Host::parse(host).ok().filter(|_| !host.contains(':'))?,
        };
        Some(Self { host, port })
    }

    /// The text after `https://`.
    pub(crate) fn after_scheme(text: &str) -> Option<&str> {
        const SCHEME: &str = "https://";
        let scheme = text.get(..SCHEME.len())?;
        scheme.eq_ignore_ascii_case(SCHEME).then(|| &text[SCHEME.len()..])
    }

    /// The address as `HOST:PORT`.
    pub(crate) fn shown(&self) -> String {
        match self.host.as_str() {
            host if host.contains(':') => format!("[{host}]:{}", self.port),
            host => format!("{host}:{}", self.port),
        }
    }

    fn without_port(text: &str) -> Option<Host> {
        let inside = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        match inside {
            Some(inside) => Host::parse(inside).ok().filter(|_| inside.contains(':')),
            None => Host::parse(text).ok(),
        }
    }
}

/// The certificates of one handshake in DER, the leaf first.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Presented {
    pub(crate) certificates: Vec<Vec<u8>>,
}

/// The chains that a server presents, as far as they could be determined.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The different chains, at least one.
    pub(crate) chains: Vec<Presented>,
    /// Failed queries for kinds of keys, as sentences. The server may have further certificates of these
    /// kinds.
    pub(crate) unknown: Vec<String>,
}

/// A kind of key for which a server may have a separate certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyKind {
    Ecdsa,
    Rsa,
    Eddsa,
}

impl KeyKind {
    pub(crate) const ALL: [Self; 3] = [Self::Ecdsa, Self::Rsa, Self::Eddsa];

    /// The signature algorithms of such keys, in OpenSSL's notation.
    const fn algorithms(self) -> &'static str {
        match self {
            Self::Ecdsa => "ECDSA+SHA256:ECDSA+SHA384:ECDSA+SHA512:ECDSA+SHA224:ECDSA+SHA1",
            Self::Rsa => {
                "rsa_pss_rsae_sha256:rsa_pss_rsae_sha384:rsa_pss_rsae_sha512:\
                 rsa_pss_pss_sha256:rsa_pss_pss_sha384:rsa_pss_pss_sha512:\
                 RSA+SHA256:RSA+SHA384:RSA+SHA512:RSA+SHA224:RSA+SHA1"
            }
            Self::Eddsa => "ed25519:ed448",
        }
    }

    /// The kind of the leaf's key.
    pub(crate) fn of(chain: &Presented) -> Option<Self> {
        let leaf = openssl::x509::X509::from_der(chain.certificates.first()?).ok()?;
        match leaf.public_key().ok()?.id() {
            Id::EC => Some(Self::Ecdsa),
            Id::RSA | Id::RSA_PSS => Some(Self::Rsa),
            Id::ED25519 | Id::ED448 => Some(Self::Eddsa),
            _ => None,
        }
    }
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ecdsa => "ECDSA",
            Self::Rsa => "RSA",
            Self::Eddsa => "EdDSA",
        })
    }
}

/// Why the certificates of a server could not be determined.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("cannot resolve the host name: {}", output::os(.0))]
    Name(io::Error),
    #[error("cannot connect: {}", output::os(.0))]
    Connect(io::Error),
    #[error("no answer within the time limit (--timeout)")]
    TimedOut,
    /// The server ended the handshake before it presented a certificate, with an alert or by closing the
    /// connection.
    #[error("{}", refused(.0))]
    Refused(String),
    #[error("{0}")]
    Starttls(StarttlsError),
    #[error("the server sent no certificate")]
    NoCertificate,
    /// OpenSSL could not be initialised.
    #[error("OpenSSL error: {}", Excerpt::new(&.0.to_string()))]
    Library(#[from] ErrorStack),
}

impl ConnectError {
    /// The error for a connection that could not be made.
    pub(crate) fn no_connection(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::TimedOut => Self::TimedOut,
            _ => Self::Connect(error),
        }
    }
}

/// The meaning of the error with which a handshake ended.
fn refused(why: &str) -> String {
    // OpenSSL reports this error if the server sends plain text.
    match why.contains("wrong version number") {
        true => "the server does not speak TLS on this port (wrong version number)".to_owned(),
        false => format!("the server sent no certificate: {}", Excerpt::new(why)),
    }
}

/// Gets the certificates of the server at `address`. If `servername` is a name, it is sent as SNI. Each
/// connection may take `timeout`. If `starttls` is given, the connection begins in plain text.
///
/// A server may have a certificate for each kind of key, and chooses by the client's signature algorithms.
/// The first query therefore offers all algorithms, as most clients do, and further queries offer only
/// those of one other kind of key.
///
/// # Errors
/// The first connection gave no certificate.
pub(crate) fn ask(
    address: &Address,
    servername: &Host,
    timeout: Duration,
    starttls: Option<Starttls>,
) -> Result<Answer, ConnectError> {
    let shake_hands = |kind| {
        let hello = Hello { kind, ..Hello::new(servername) };
        let mut stream = connect(address, Instant::now() + timeout)?;
        if let Some(starttls) = starttls {
            starttls::begin(&mut stream, starttls, servername.as_str())
                .map_err(ConnectError::Starttls)?;
        }
        hello.greet(stream).map(|(presented, _)| presented)
    };
    let first = shake_hands(None)?;
    let known = KeyKind::of(&first);
    let mut answer = Answer { chains: vec![first], unknown: Vec::new() };
    for kind in KeyKind::ALL.into_iter().filter(|kind| Some(*kind) != known) {
        match shake_hands(Some(kind)) {
            Ok(chain) if !answer.chains.contains(&chain) => answer.chains.push(chain),
            // A server without a certificate for this kind of key ends the handshake.
            Ok(_) | Err(ConnectError::Refused(_)) => {}
            Err(error) => answer.unknown.push(format!(
                "cannot tell whether the server has a certificate with an {kind} key too: {error}"
            )),
        }
    }
    Ok(answer)
}

/// Connects to the first address of a name that responds.
fn connect(address: &Address, end: Instant) -> Result<Timed, ConnectError> {
    let addresses =
        (address.host.as_str(), address.port).to_socket_addrs().map_err(ConnectError::Name)?;
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses {
        match Timed::connect(address, end) {
            Ok(timed) => return Ok(timed),
            Err(error) => last = error,
        }
    }
    Err(ConnectError::no_connection(last))
}

/// The parameters of a client's handshake.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hello<'a> {
    pub(crate) servername: &'a Host,
    /// The only kind of key that the client supports; `None` for all.
    pub(crate) kind: Option<KeyKind>,
    /// The newest TLS version that the client supports; `None` for all.
    pub(crate) newest: Option<SslVersion>,
    /// Whether the client offers only HTTP/1.1 with ALPN, since some servers otherwise choose another
    /// protocol.
    pub(crate) http: bool,
}

impl<'a> Hello<'a> {
    /// The handshake of most clients.
    pub(crate) fn new(servername: &'a Host) -> Self {
        Self { servername, kind: None, newest: None, http: false }
    }

    /// Performs a handshake over `stream`. Gives the presented chain, and the connection if the handshake
    /// succeeded.
    ///
    /// # Errors
    /// The server presented no certificate.
    pub(crate) fn greet(
        &self,
        stream: Timed,
    ) -> Result<(Presented, Option<SslStream<Timed>>), ConnectError> {
        match self.ssl()?.connect(stream) {
            Ok(stream) => {
                let presented = presented(stream.ssl()).ok_or(ConnectError::NoCertificate)?;
                Ok((presented, Some(stream)))
            }
            // A server that requires a client certificate has presented its own before it refuses the
            // handshake.
            Err(HandshakeError::Failure(halted) | HandshakeError::WouldBlock(halted)) => {
                let presented = presented(halted.ssl()).ok_or_else(|| why(halted.error()))?;
                Ok((presented, None))
            }
            Err(HandshakeError::SetupFailure(error)) => Err(error.into()),
        }
    }

    fn ssl(&self) -> Result<Ssl, ErrorStack> {
        let mut context = SslContext::builder(SslMethod::tls_client())?;
        context.set_verify(SslVerifyMode::NONE);
        // Servers with weak keys and ciphers have pins too. The connection carries no secrets.
        context.set_security_level(0);
        context.set_min_proto_version(None)?;
        context.set_max_proto_version(self.newest)?;
        // Excludes cipher suites with which no certificate is presented.
        context.set_cipher_list("ALL:!aNULL:!PSK:!SRP:@SECLEVEL=0")?;
        if let Some(kind) = self.kind {
            context.set_sigalgs_list(kind.algorithms())?;
        }
        if self.http {
            context.set_alpn_protos(b"\x08http/1.1")?;
        }
        let mut ssl = Ssl::new(&context.build())?;
        if let Host::Name(name) = self.servername {
            ssl.set_hostname(name.as_str())?;
        }
        Ok(ssl)
    }
}

fn presented(ssl: &openssl::ssl::SslRef) -> Option<Presented> {
    let chain = ssl.peer_cert_chain().filter(|chain| !chain.is_empty())?;
    let certificates = chain.iter().map(|certificate| certificate.to_der());
    certificates.collect::<Result<_, _>>().ok().map(|certificates| Presented { certificates })
}

fn why(error: &openssl::ssl::Error) -> ConnectError {
    match error.io_error() {
        Some(error) if error.kind() == io::ErrorKind::TimedOut => ConnectError::TimedOut,
        Some(error) => ConnectError::Refused(output::os(error)),
        None => match error.ssl_error() {
            Some(errors) => {
                let reasons = errors.errors().iter().filter_map(|error| error.reason());
                ConnectError::Refused(reasons.collect::<Vec<_>>().join("; "))
            }
            None => ConnectError::Refused("connection closed".to_owned()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_parsed_with_and_without_a_port() {
        for (text, host, port) in [
            ("www.Example.com:443", "www.example.com", 443),
            ("127.0.0.1:8443", "127.0.0.1", 8443),
            ("[::1]:443", "::1", 443),
            ("bücher.example:1", "xn--bcher-kva.example", 1),
            ("www.example.com", "www.example.com", 443),
            ("https://www.example.com", "www.example.com", 443),
            ("HTTPS://www.example.com:8443/a?b#c", "www.example.com", 8443),
            ("::1", "::1", 443),
            ("https://[::1]/", "::1", 443),
        ] {
            let address = Address::parse(text).expect(text);
            assert_eq!((address.host.as_str(), address.port), (host, port));
        }
        for text in [
            "",
            "host:",
            "http://host/",
            "https://",
            "https://user@host/",
            "host:0",
            "host:65536",
            "host:+1",
            "[host]:443",
            ":443",
        ] {
            assert_eq!(Address::parse(text), None, "{text}");
        }
    }
}
