//! A stub resolver: addresses and TLSA records from one DNS server, over UDP, then TCP.
//!
//! The resolver verifies no signatures. It passes on whether the DNS server claims to have validated the
//! records (the AD bit, RFC 4035 section 3.2.3); nothing protects that claim on its way.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use hickory_proto::op::{Edns, Message, MessageType, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use hpkp_core::published::tlsa::{MAX_RECORDS, Tlsa};

use crate::output;
use crate::timed::{Timed, left, timed_out};

/// The most aliases (CNAME) that are followed.
const MAX_ALIASES: usize = 8;

/// The largest UDP response that the client announces. A larger one arrives over TCP (RFC 6891, RFC 9715).
const MAX_DATAGRAM: u16 = 1_232;

/// How often a query is sent over UDP within the time limit.
const ATTEMPTS: u32 = 3;

/// The most responses to other queries that are ignored.
const MAX_STRAY: usize = 100;

/// A DNS server.
#[derive(Clone, Copy, Debug)]
pub(super) struct Resolver {
    pub(super) server: SocketAddr,
    pub(super) timeout: Duration,
}

/// The response for one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer<T> {
    pub(super) records: Vec<T>,
    /// Whether the server claims to have validated the records with DNSSEC.
    pub(super) authentic: bool,
    /// The smallest time to live of the records, in seconds.
    pub(super) ttl: Option<u32>,
    /// Whether the name exists.
    pub(super) exists: bool,
}

/// Why a query has no result.
#[derive(Debug, thiserror::Error)]
pub(super) enum DnsError {
    #[error("{}", output::os(.0))]
    Io(#[from] io::Error),
    /// The time limit passed. `stray` counts the responses that belonged to other queries.
    #[error("{}", silence(*.stray))]
    Silent { stray: usize },
    #[error("the answer is malformed")]
    Malformed,
    /// The server's response has an error code.
    #[error("{}", refusal(*.0))]
    Code(ResponseCode),
    #[error("more than {MAX_ALIASES} aliases (CNAME), or a circle of them")]
    Aliases,
    #[error("not a name that DNS can have")]
    Name,
    #[error("more than {MAX_RECORDS} records")]
    TooMany,
}

fn silence(stray: usize) -> String {
    match stray {
        0 => "no answer within the time limit (--timeout)".to_owned(),
        _ => format!(
            "no valid answer within the time limit (--timeout); ignored: {stray} with another id or question"
        ),
    }
}

fn refusal(code: ResponseCode) -> String {
    match code {
        ResponseCode::ServFail => {
            "SERVFAIL: the resolver cannot answer, or the records fail DNSSEC validation".to_owned()
        }
        _ => format!("the resolver answers: {code}"),
    }
}

impl Resolver {
    /// The addresses of `host`: IPv4, then IPv6.
    pub(super) fn addresses(&self, host: &str) -> Result<Answer<IpAddr>, DnsError> {
        let read = |data: &RData| match data {
            RData::A(address) => Some(IpAddr::V4(address.0)),
            RData::AAAA(address) => Some(IpAddr::V6(address.0)),
            _ => None,
        };
        let four = self.ask(host, RecordType::A, read)?;
        let six = self.ask(host, RecordType::AAAA, read)?;
        Ok(Answer {
            records: [four.records, six.records].concat(),
            authentic: four.authentic && six.authentic,
            ttl: four.ttl.into_iter().chain(six.ttl).min(),
            exists: four.exists || six.exists,
        })
    }

    /// The TLSA records of a host and port (RFC 6698 section 3).
    pub(super) fn tlsa(&self, host: &str, port: u16) -> Result<Answer<Tlsa>, DnsError> {
        self.ask(&format!("_{port}._tcp.{host}"), RecordType::TLSA, |data| match data {
            RData::TLSA(record) => Some(Tlsa {
                usage: record.cert_usage().into(),
                selector: record.selector().into(),
                matching: record.matching().into(),
                data: record.cert_data().to_vec(),
            }),
            _ => None,
        })
    }

    /// The records of one type. If a response contains only an alias, the alias is queried in turn.
    fn ask<T: PartialEq>(
        &self,
        name: &str,
        kind: RecordType,
        read: impl Fn(&RData) -> Option<T>,
    ) -> Result<Answer<T>, DnsError> {
        let mut name = Name::from_ascii(name).map_err(|_| DnsError::Name)?;
        name.set_fqdn(true);
        let mut authentic = true;
        for _ in 0..=MAX_ALIASES {
            let message = self.query(&name, kind)?;
            authentic &= message.authentic_data();
            let exists = match message.response_code() {
                ResponseCode::NoError => true,
                ResponseCode::NXDomain => false,
                code => return Err(DnsError::Code(code)),
            };
            let (target, records) = belonging(&name, kind, message.answers())?;
            if records.is_empty() && target != name {
                name = target;
                continue;
            }
            let ttl = records.iter().map(|record| record.ttl()).min();
            let mut all = Vec::new();
            for one in records.iter().filter_map(|record| read(record.data())) {
                if !all.contains(&one) {
                    all.push(one);
                }
            }
            if all.len() > MAX_RECORDS {
                return Err(DnsError::TooMany);
            }
            return Ok(Answer { records: all, authentic, ttl, exists });
        }
        Err(DnsError::Aliases)
    }

    fn query(&self, name: &Name, kind: RecordType) -> Result<Message, DnsError> {
        let mut id = [0; 2];
        openssl::rand::rand_bytes(&mut id).map_err(io::Error::other)?;
        let mut question = Query::query(name.clone(), kind);
        question.set_query_class(hickory_proto::rr::DNSClass::IN);
        let mut edns = Edns::new();
        edns.set_max_payload(MAX_DATAGRAM);
        let mut message = Message::new();
        message
            .set_id(u16::from_be_bytes(id))
            .set_message_type(MessageType::Query)
            .set_recursion_desired(true)
            // Requests the AD bit in the response (RFC 6840 section 5.7).
            .set_authentic_data(true)
            .add_query(question)
            .set_edns(edns);
        let bytes = message.to_vec().map_err(|_| DnsError::Name)?;
        let end = Instant::now() + self.timeout;
        let answer = self.over_udp(&message, &bytes, end)?;
        match answer.truncated() {
            true => self.over_tcp(&message, &bytes, end),
            false => Ok(answer),
        }
    }

    fn over_udp(&self, asked: &Message, bytes: &[u8], end: Instant) -> Result<Message, DnsError> {
        let any: IpAddr = match self.server {
            SocketAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((any, 0))?;
        // A connected socket receives datagrams from this server alone.
        socket.connect(self.server)?;
        let mut buffer = [0; u16::MAX as usize];
        let mut stray = 0;
        for attempt in 0..ATTEMPTS {
            socket.send(bytes)?;
            let until = (Instant::now() + self.timeout / ATTEMPTS).min(end);
            let until = if attempt + 1 == ATTEMPTS { end } else { until };
            while let Some(left) = left(until) {
                socket.set_read_timeout(Some(left))?;
                let length = match timed_out(socket.recv(&mut buffer)) {
                    Ok(length) => length,
                    Err(error) if error.kind() == io::ErrorKind::TimedOut => break,
                    Err(error) => return Err(error.into()),
                };
                match Message::from_vec(&buffer[..length]) {
                    Ok(answer) if is_answer(asked, &answer) => return Ok(answer),
                    // Only the queried server knows the id of the query, so the malformed response is its
                    // own.
                    Err(_) if buffer[..length].starts_with(&asked.id().to_be_bytes()) => {
                        return Err(DnsError::Malformed);
                    }
                    _ => stray += 1,
                }
                if stray > MAX_STRAY {
                    return Err(DnsError::Silent { stray });
                }
            }
        }
        Err(DnsError::Silent { stray })
    }

    fn over_tcp(&self, asked: &Message, bytes: &[u8], end: Instant) -> Result<Message, DnsError> {
        let mut stream = Timed::connect(self.server, end)?;
        let length = u16::try_from(bytes.len()).map_err(|_| DnsError::Name)?;
        stream.write_all(&[&length.to_be_bytes(), bytes].concat())?;
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut answer)?;
        let answer = Message::from_vec(&answer).map_err(|_| DnsError::Malformed)?;
        match is_answer(asked, &answer) && !answer.truncated() {
            true => Ok(answer),
            false => Err(DnsError::Malformed),
        }
    }
}

/// Whether the response is to this query.
fn is_answer(asked: &Message, answer: &Message) -> bool {
    answer.message_type() == MessageType::Response
        && answer.id() == asked.id()
        && match (asked.queries(), answer.queries()) {
            ([asked], [answered]) => {
                asked.query_type() == answered.query_type()
                    && asked.query_class() == answered.query_class()
                    && asked.name().eq_ignore_root(answered.name())
            }
            // Some servers omit the question in an error response.
            (_, []) => answer.response_code() != ResponseCode::NoError,
            _ => false,
        }
}

/// The records of `kind` that belong to `name` or to its alias, and the last alias. Other records of the
/// response are ignored, since nothing asked for them.
fn belonging<'a>(
    name: &Name,
    kind: RecordType,
    answers: &'a [Record],
) -> Result<(Name, Vec<&'a Record>), DnsError> {
    let mut target = name.clone();
    for _ in 0..=MAX_ALIASES {
        let of_target = || answers.iter().filter(|record| record.name().eq_ignore_root(&target));
        let records: Vec<&Record> =
            of_target().filter(|record| record.record_type() == kind).collect();
        let alias = of_target().find_map(|record| match record.data() {
            RData::CNAME(alias) => Some(alias.0.clone()),
            _ => None,
        });
        match alias {
            Some(alias) if records.is_empty() => target = alias,
            _ => return Ok((target, records)),
        }
    }
    Err(DnsError::Aliases)
}
