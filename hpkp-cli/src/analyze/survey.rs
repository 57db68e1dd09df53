//! Queries the addresses of a server: certificate chains and HTTP responses.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::time::{Duration, Instant};

use hpkp_core::finding::Code;
use hpkp_core::ua::host::Host;
use openssl::ssl::{SslStream, SslVersion};

use super::dns::Resolver;
use super::http::{self, HttpError, Response};
use super::target::{Protocol, Site, Target};
use crate::arguments::Connect;
use crate::presented::{ConnectError, Hello, KeyKind, Presented};
use crate::starttls::{self, StarttlsError};
use crate::timed::Timed;

/// The most addresses of one host that are queried.
pub(super) const MAX_ADDRESSES: usize = 32;

/// How connections are made.
#[derive(Clone, Debug)]
pub(super) struct Way {
    pub(super) connect: Option<Connect>,
    /// The host and port that `connect` replaces.
    pub(super) instead_of: (Host, u16),
    pub(super) servername: Option<Host>,
    pub(super) resolver: Option<Resolver>,
    pub(super) timeout: Duration,
    pub(super) requests: u8,
}

/// A query that failed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Failure {
    pub(super) code: Code,
    pub(super) text: String,
    /// Whether this machine has no route to this address family, which says nothing about the server.
    pub(super) is_unroutable: bool,
}

impl Failure {
    pub(super) fn new(code: Code, text: impl fmt::Display) -> Self {
        Self { code, text: text.to_string(), is_unroutable: false }
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        let code = match error {
            ConnectError::Name(_) => Code::NameNotResolved,
            ConnectError::Connect(_) | ConnectError::TimedOut => Code::ServerNotReached,
            _ => Code::TlsHandshakeFailed,
        };
        let is_unroutable = match &error {
            ConnectError::Connect(error) => matches!(
                error.kind(),
                io::ErrorKind::NetworkUnreachable
                    | io::ErrorKind::HostUnreachable
                    | io::ErrorKind::AddrNotAvailable
            ),
            _ => false,
        };
        Self { is_unroutable, ..Self::new(code, error) }
    }
}

impl From<StarttlsError> for Failure {
    fn from(error: StarttlsError) -> Self {
        Self::new(Code::TlsHandshakeFailed, error)
    }
}

impl From<HttpError> for Failure {
    fn from(error: HttpError) -> Self {
        let code = match error {
            HttpError::TooLarge | HttpError::TooManyFields => Code::OversizedInput,
            _ => Code::NoHttpResponse,
        };
        Self::new(code, error)
    }
}

/// A response to one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answered {
    pub(super) url: String,
    pub(super) response: Response,
}

/// A chain, and the handshakes in which the server presented it.
#[derive(Clone, Debug)]
pub(super) struct PresentedChain {
    pub(super) presented: Presented,
    pub(super) seen_with: Vec<String>,
}

/// The results of one address.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) address: SocketAddr,
    /// The TLS versions that the server speaks, of those that were tried.
    pub(super) versions: Vec<String>,
    pub(super) chains: Vec<PresentedChain>,
    pub(super) responses: Vec<Answered>,
    pub(super) failures: Vec<Failure>,
}

impl Asked {
    fn add(&mut self, presented: Presented, with: &str) {
        let known = self.chains.iter_mut().find(|seen| seen.presented == presented);
        match known {
            Some(seen) if seen.seen_with.iter().any(|other| other == with) => {}
            Some(seen) => seen.seen_with.push(with.to_owned()),
            None => {
                self.chains.push(PresentedChain { presented, seen_with: vec![with.to_owned()] });
            }
        }
    }

    fn add_version(&mut self, version: &str) {
        if !self.versions.iter().any(|known| known == version) {
            self.versions.push(version.to_owned());
        }
    }
}

impl Way {
    /// The addresses of a site, each once.
    pub(super) fn addresses(&self, site: &Site) -> Result<Vec<SocketAddr>, Failure> {
        if let Some(connect) = self.connect.filter(|_| site.host == self.instead_of.0) {
            let port = connect.port.filter(|_| site.port == self.instead_of.1);
            return Ok(vec![SocketAddr::new(connect.address, port.unwrap_or(site.port))]);
        }
        let mut all: Vec<SocketAddr> = match (&self.resolver, &site.host) {
            (Some(resolver), Host::Name(name)) => {
                let answer = resolver.addresses(name.as_str()).map_err(|error| {
                    let text =
                        format!("cannot look up the address at {}: {error}", resolver.server);
                    Failure::new(Code::ResolverFailed, text)
                })?;
                if answer.records.is_empty() {
                    let what = if answer.exists { "it has no address" } else { "no such name" };
                    let text =
                        format!("cannot resolve the host name at {}: {what}", resolver.server);
                    return Err(Failure::new(Code::NameNotResolved, text));
                }
                answer.records.iter().map(|one| SocketAddr::new(*one, site.port)).collect()
            }
            (_, host) => {
                let text = host.as_str().trim_start_matches('[').trim_end_matches(']');
                match text.parse::<IpAddr>() {
                    Ok(address) => vec![SocketAddr::new(address, site.port)],
                    Err(_) => {
                        let found = (text, site.port).to_socket_addrs();
                        found.map_err(|error| Failure::from(ConnectError::Name(error)))?.collect()
                    }
                }
            }
        };
        let mut seen = std::collections::BTreeSet::new();
        all.retain(|address| seen.insert(*address));
        Ok(all)
    }

    /// The name that clients expect in the certificate.
    pub(super) fn servername<'a>(&'a self, site: &'a Site) -> &'a Host {
        match &self.servername {
            Some(name) if site.host == self.instead_of.0 => name,
            _ => &site.host,
        }
    }

    /// Sends one request to the first of these addresses that responds.
    pub(super) fn ask_first(
        &self,
        target: &Target,
        addresses: &[SocketAddr],
    ) -> Result<Response, Failure> {
        let mut last = Failure::new(Code::NameNotResolved, "the host has no address");
        for address in addresses {
            let answer = match target.site.protocol {
                Protocol::Http => {
                    let stream = self.connect(*address).map_err(Failure::from);
                    stream.and_then(|stream| http::get(stream, target).map_err(Failure::from))
                }
                _ => self.greet(&target.site, *address, self.hello(&target.site)).and_then(
                    |(_, stream)| http::get(is_open(stream)?, target).map_err(Failure::from),
                ),
            };
            match answer {
                Ok(response) => return Ok(response),
                Err(failure) => last = failure,
            }
        }
        Err(last)
    }

    fn connect(&self, address: SocketAddr) -> Result<Timed, ConnectError> {
        let end = Instant::now() + self.timeout;
        Timed::connect(address, end).map_err(ConnectError::no_connection)
    }

    fn hello<'a>(&'a self, site: &'a Site) -> Hello<'a> {
        let http = site.protocol == Protocol::Https;
        Hello { http, ..Hello::new(self.servername(site)) }
    }

    fn greet(
        &self,
        site: &Site,
        address: SocketAddr,
        hello: Hello<'_>,
    ) -> Result<(Presented, Option<SslStream<Timed>>), Failure> {
        let mut stream = self.connect(address)?;
        if let Protocol::Starttls(starttls) = site.protocol {
            starttls::begin(&mut stream, starttls, site.host.as_str())?;
        }
        Ok(hello.greet(stream)?)
    }

    /// Queries one address: with the handshake of most clients, with TLS 1.2, and for each type of key.
    pub(super) fn ask(&self, target: &Target, address: SocketAddr) -> Asked {
        let mut asked = Asked {
            address,
            versions: Vec::new(),
            chains: Vec::new(),
            responses: Vec::new(),
            failures: Vec::new(),
        };
        let Some(kind) = self.ask_as_most(target, &mut asked) else {
            return asked;
        };
        if !asked.versions.iter().any(|version| version == "TLSv1.2") {
            self.ask_with_tls_1_2(&target.site, &mut asked);
        }
        for other in KeyKind::ALL.into_iter().filter(|other| Some(*other) != kind) {
            let hello = Hello { kind: Some(other), ..self.hello(&target.site) };
            match self.greet(&target.site, address, hello) {
                Ok((presented, _)) => asked.add(presented, &format!("{other} only")),
                // A server without a certificate of this key type ends the handshake.
                Err(Failure { code: Code::TlsHandshakeFailed, .. }) => {}
                Err(failure) => asked.failures.push(Failure::new(
                    failure.code,
                    format!(
                        "cannot tell whether the server has a certificate with an {other} key too: {}",
                        failure.text
                    ),
                )),
            }
        }
        asked
    }

    /// Sends the requests, each on a connection of its own. Gives the key type that the server prefers;
    /// `None` if it presented no certificate.
    fn ask_as_most(&self, target: &Target, asked: &mut Asked) -> Option<Option<KeyKind>> {
        let is_http = target.site.protocol == Protocol::Https;
        let mut kind = None;
        for request in 1..=if is_http { self.requests } else { 1 } {
            let hello = self.hello(&target.site);
            let (presented, stream) = match self.greet(&target.site, asked.address, hello) {
                Ok(greeted) => greeted,
                Err(failure) => {
                    let text = match request {
                        1 => failure.text,
                        _ => format!("request {request} of {}: {}", self.requests, failure.text),
                    };
                    asked.failures.push(Failure { text, ..failure });
                    break;
                }
            };
            kind.get_or_insert(KeyKind::of(&presented));
            let version = stream.as_ref().map(|stream| stream.ssl().version_str());
            asked.add(presented, version.unwrap_or("TLS"));
            asked.add_version(version.unwrap_or("TLS"));
            if !is_http {
                break;
            }
            let response = is_open(stream).and_then(|stream| Ok(http::get(stream, target)?));
            match response {
                Ok(response) => {
                    asked.responses.push(Answered { url: target.to_string(), response });
                }
                Err(failure) => {
                    asked.failures.push(failure);
                    break;
                }
            }
        }
        kind
    }

    fn ask_with_tls_1_2(&self, site: &Site, asked: &mut Asked) {
        let hello = Hello { newest: Some(SslVersion::TLS1_2), ..self.hello(site) };
        match self.greet(site, asked.address, hello) {
            Ok((presented, stream)) => {
                let version =
                    stream.as_ref().map_or("TLSv1.2", |stream| stream.ssl().version_str());
                asked.add(presented, version);
                asked.add_version(version);
            }
            // The server supports no TLS version up to 1.2, which is no fault.
            Err(Failure { code: Code::TlsHandshakeFailed, .. }) => {}
            Err(failure) => asked.failures.push(Failure::new(
                failure.code,
                format!("cannot tell what the server presents with TLS 1.2: {}", failure.text),
            )),
        }
    }
}

fn is_open(stream: Option<SslStream<Timed>>) -> Result<SslStream<Timed>, Failure> {
    stream.ok_or_else(|| {
        Failure::new(
            Code::NoHttpResponse,
            "the server ended the handshake after it had presented its certificate; it may require a \
             certificate of the client",
        )
    })
}

/// The addresses within the limit, and a failure about the others.
pub(super) fn limited(mut addresses: Vec<SocketAddr>) -> (Vec<SocketAddr>, Option<Failure>) {
    let more = addresses.len().saturating_sub(MAX_ADDRESSES);
    addresses.truncate(MAX_ADDRESSES);
    let failure = (more > 0).then(|| {
        let text =
            format!("{more} of the host's addresses are not asked; the limit is {MAX_ADDRESSES}");
        Failure::new(Code::OversizedInput, text)
    });
    (addresses, failure)
}
