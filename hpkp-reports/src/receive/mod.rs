//! Receiving: a request becomes judged reports in the store, or a status that tells strangers nothing.
//!
//! The order of the limits is the cheapest first, and nothing that a stranger can use up is what known hosts
//! need: the limits by host and for all hosts count reports of listed hosts alone.
//!
//! | status | meaning |
//! |---|---|
//! | 204 | every report that is for a host on the list is stored, on the disk; reports for others are dropped |
//! | 400 | no report of a known format |
//! | 405, 413, 415, 408 | not POST, too large, another type, too slow |
//! | 422 | more chains than are verified of one body |
//! | 429 | too many reports: of the client, for the host, in all |
//! | 503, 507 | the database is away, or has no space |

mod address;
mod body;
mod limits;
pub mod listen;
mod refused;
pub mod tls;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::USER_AGENT;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use hpkp_core::ua::received::{self, Format, Received};
use tokio::sync::Semaphore;
use tower_http::cors::{AllowHeaders, Any, CorsLayer};

use crate::configuration::{Configuration, HostPattern, Mode};
use crate::output;
use crate::proxies::Proxies;
use crate::store::{Entry, Writer};
use crate::time::now;
use crate::understand::{Judge, chain_fingerprint, client, mode};
use limits::Limits;

pub use address::{Marks, Peer};
pub use refused::Refused;

/// How long a browser may remember that reports are allowed.
const PREFLIGHT: Duration = Duration::from_secs(86_400);

/// The most connections that one report may stand for: their sum must stay a number.
const MAX_COUNT: i64 = 1 << 32;

/// How many reports of a batch count as one more request of the client.
const MANY: usize = 10;

/// The most chains of a body for which signatures have to be verified, and how many reports each counts as: whoever makes
/// chains up makes the verdict on each as expensive as it can be.
const MAX_COSTLY: usize = 10;
const COST: usize = 50;

/// The largest report that is kept as the first of its group, in bytes: two long chains need half of it. Strangers could
/// otherwise push out of the database what is there.
const MAX_RAW: usize = 48 << 10;

/// How many bodies are judged at once whose verdicts take signatures.
const TURNS: usize = 2;

/// The numbers of requests, by their result.
#[derive(Debug, Default)]
pub struct Counters {
    /// Reports that are stored.
    pub accepted: AtomicU64,
    /// Items of envelopes that are of other kinds, or cannot be used.
    pub passed_over: AtomicU64,
    /// Requests that were refused, by reason.
    pub refused: [AtomicU64; Refused::ALL.len()],
}

/// The state of the receiver.
#[derive(Debug)]
pub struct Receiver {
    hosts: Vec<HostPattern>,
    proxies: Proxies,
    keep_addresses: bool,
    limits: Limits,
    marks: Marks,
    judge: Arc<Judge>,
    turns: Semaphore,
    writer: Arc<Writer>,
    /// What has come in.
    pub counters: Counters,
}

impl Receiver {
    /// A receiver as configured.
    #[must_use]
    pub fn new(configuration: &Configuration, judge: Arc<Judge>, writer: Arc<Writer>) -> Self {
        Self {
            hosts: configuration.hosts.clone(),
            proxies: configuration.trusted_proxies.clone(),
            keep_addresses: configuration.keep_addresses,
            limits: Limits::new(&configuration.limits, configuration.hosts.len()),
            marks: Marks::default(),
            judge,
            turns: Semaphore::new(TURNS),
            writer,
            counters: Counters::default(),
        }
    }

    /// Forgets clients that have been quiet.
    pub fn tidy(&self) {
        self.limits.tidy();
    }

    async fn receive(&self, request: Request) -> Result<(), Refused> {
        let client = address::client(&request, &self.proxies);
        if !self.limits.client(client, 1) {
            return Err(Refused::Client);
        }
        let user_agent = request.headers().get(USER_AGENT).and_then(|value| value.to_str().ok());
        let user_agent = user_agent.unwrap_or_default().to_owned();
        let body = body::read(request, &self.limits).await?;
        let reports = self.reports(&body)?;
        // Each report costs a look at its certificates.
        if reports.len() > MANY && !self.limits.client(client, reports.len() / MANY) {
            return Err(Refused::Client);
        }
        // Before the disk is waited for, everything else of the body goes.
        drop(body);
        let entries = self.entries(reports, &user_agent, client).await?;
        let count = entries.len() as u64;
        self.writer.store(entries).await?;
        self.counters.accepted.fetch_add(count, Ordering::Relaxed);
        Ok(())
    }

    /// The reports in a body. What is beside them is counted.
    fn reports(&self, body: &[u8]) -> Result<Vec<Received>, Refused> {
        let (reports, passed_over) = match received::read(body) {
            Ok(contents) => (Ok(contents.reports), contents.passed_over),
            Err(received::Refusal::OtherKinds(count)) => (Err(Refused::OtherKinds), count),
            Err(received::Refusal::TooLarge | received::Refusal::TooManyReports) => {
                (Err(Refused::Large), 0)
            }
            Err(received::Refusal::NotJson | received::Refusal::NotAReport) => {
                (Err(Refused::Invalid), 0)
            }
        };
        self.counters.passed_over.fetch_add(passed_over as u64, Ordering::Relaxed);
        reports
    }

    /// What is to be stored of the reports in a body.
    async fn entries(
        &self,
        reports: Vec<Received>,
        user_agent: &str,
        client: IpAddr,
    ) -> Result<Vec<Entry>, Refused> {
        let listed: Vec<(usize, &Received)> =
            reports.iter().filter_map(|report| Some((self.listed(report)?, report))).collect();
        if listed.is_empty() {
            return Err(self.unlisted(&reports));
        }
        let at = now();
        let entries = || self.judged(&listed, user_agent, (client, at));
        if self.admit(&listed, at)? == 0 {
            return Ok(entries());
        }
        // While signatures are verified, other requests go on. Each body in its turn: threads for all of them keep more
        // memory than their reports.
        let _turn = self.turns.acquire().await;
        Ok(tokio::task::block_in_place(entries))
    }

    /// What is to be stored of reports for listed hosts.
    fn judged(
        &self,
        listed: &[(usize, &Received)],
        user_agent: &str,
        (client, at): (IpAddr, i64),
    ) -> Vec<Entry> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut kept: Option<(Arc<str>, Arc<[u8]>)> = None;
        for &(place, report) in listed {
            // The failures of one report share its text.
            let raw = match &kept {
                Some((text, raw)) if Arc::ptr_eq(text, &report.text) => Arc::clone(raw),
                _ => self.raw(report),
            };
            kept = Some((Arc::clone(&report.text), Arc::clone(&raw)));
            entries.push(self.entry(&self.hosts[place], report, user_agent, (client, at), raw));
        }
        entries
    }

    /// Lets these reports in where the limits allow it; how many of their verdicts take signatures.
    fn admit(&self, listed: &[(usize, &Received)], at: i64) -> Result<usize, Refused> {
        let mut counts: BTreeMap<usize, (usize, Vec<&Received>)> = BTreeMap::new();
        for (place, report) in listed {
            let (count, reports) = counts.entry(*place).or_default();
            *count += 1;
            reports.push(*report);
        }
        let mut all = 0;
        for (count, reports) in counts.values_mut() {
            let costly = self.judge.costly(reports.iter().copied(), at);
            all += costly;
            *count += COST * costly;
        }
        if all > MAX_COSTLY {
            return Err(Refused::Chains);
        }
        counts.into_iter().try_for_each(|(place, (count, _))| self.limits.host(place, count))?;
        Ok(all)
    }

    /// Drops reports for hosts that are not on the list. The answer is the one that a report for a listed host would
    /// get now; the operator learns of it from the log and a counter.
    fn unlisted(&self, reports: &[Received]) -> Refused {
        output::log_seldom("host", || {
            let host = reports.first().map_or("", |report| report.host.as_str());
            format!("dropped a report for a host that is not in hosts: {host}")
        });
        if !self.limits.stranger() {
            return Refused::HostRate;
        }
        self.writer.health().error.map_or(Refused::Host, Refused::from)
    }

    /// The entry of the list that a report's host is on.
    fn listed(&self, report: &Received) -> Option<usize> {
        self.hosts.iter().position(|pattern| pattern.matches(&report.host))
    }

    fn entry(
        &self,
        pattern: &HostPattern,
        report: &Received,
        user_agent: &str,
        (client, at): (IpAddr, i64),
        raw: Arc<[u8]>,
    ) -> Entry {
        let verdict = self.judge.verdict(report, at);
        Entry {
            host: report.host.as_str().to_owned(),
            entry: pattern.to_string(),
            port: report.report.port,
            chain: chain_fingerprint(report),
            client: client::kind(report, user_agent),
            at,
            finding: verdict.finding,
            detail: verdict.detail,
            names: verdict.names,
            format: report.format.name(),
            mode: match mode(report) {
                Some(Mode::Enforced) => "enforced",
                Some(Mode::ReportOnly) => "report-only",
                None => "",
            },
            count: i64::try_from(report.count).unwrap_or(i64::MAX).min(MAX_COUNT),
            raw,
            mark: self.marks.of(client, at),
            address: self.keep_addresses.then(|| client.to_string()),
        }
    }

    /// The report to keep: without what tells of one person or device, unless addresses are kept too.
    fn raw(&self, report: &Received) -> Arc<[u8]> {
        if report.text.len() > MAX_RAW {
            return Arc::new([]);
        }
        let has_personal =
            matches!(report.format, Format::TrustKit | Format::SmtpTls | Format::NetworkError);
        if self.keep_addresses || !(has_personal || body::may_be_personal(&report.text)) {
            return report.text.as_bytes().into();
        }
        body::without_personal_data(&report.text).into()
    }
}

/// The routes for reports. Whoever may send a report may send it with header fields of its own: programs that measure
/// apps add some to each request.
pub fn routes(receiver: Arc<Receiver>) -> Router {
    let cors = CorsLayer::new()
        .allow_origin(Any)
        .allow_methods([Method::POST])
        .allow_headers(AllowHeaders::mirror_request())
        .allow_private_network(true)
        .max_age(PREFLIGHT);
    Router::new()
        .route("/r", post(take))
        .route("/r/", post(take))
        .route("/r/{*path}", post(take))
        .layer(cors)
        .with_state(receiver)
}

async fn take(State(receiver): State<Arc<Receiver>>, request: Request) -> Response {
    match receiver.receive(request).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(refused) => {
            let place = Refused::ALL.iter().position(|one| *one == refused);
            if let Some(counter) = place.and_then(|place| receiver.counters.refused.get(place)) {
                counter.fetch_add(1, Ordering::Relaxed);
            }
            refused.into_response()
        }
    }
}
