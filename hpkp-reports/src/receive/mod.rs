//! Receives reports: turns a request into judged reports in the store. The status reveals nothing about the list of
//! hosts.
//!
//! The cheapest limits come first. Strangers cannot use up what listed hosts need: the limits per host and for all
//! hosts count only reports of listed hosts.
//!
//! | status | meaning |
//! |---|---|
//! | 204 | all reports for hosts on the list are stored, on the disk; reports for other hosts are dropped |
//! | 400 | no report of a known format |
//! | 405, 413, 415, 408 | not POST, too large, another type, too slow |
//! | 422 | more chains than are verified for one body |
//! | 429 | too many reports: of the client, for the host, or in total |
//! | 503, 507 | the database is unavailable, or has no space |

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

/// How long a browser may cache the answer to a preflight request.
const PREFLIGHT: Duration = Duration::from_secs(86_400);

/// The most connections that one report may stand for, so that sums do not overflow.
const MAX_COUNT: i64 = 1 << 32;

/// So many reports in a batch count as one more request of the client.
const MANY: usize = 10;

/// The most chains in a body whose signatures must be verified, and how many reports each of them counts as: a sender
/// of forged chains makes each verdict as expensive as possible.
const MAX_COSTLY: usize = 10;
const COST: usize = 50;

/// The largest report that is kept as the first of its group, in bytes. Two long chains need half of it. Without a
/// limit strangers could fill the database and push out older reports.
const MAX_RAW: usize = 48 << 10;

/// How many bodies with signatures to verify are judged at the same time.
const TURNS: usize = 2;

/// Counters of requests, by result.
#[derive(Debug, Default)]
pub struct Counters {
    /// Stored reports.
    pub accepted: AtomicU64,
    /// Items in envelopes that are of other kinds, or cannot be used.
    pub passed_over: AtomicU64,
    /// Refused requests, by reason.
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
    /// The counters for metrics.
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

    /// Removes the limits of idle clients from memory.
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
        // The certificates of each report must be examined.
        if reports.len() > MANY && !self.limits.client(client, reports.len() / MANY) {
            return Err(Refused::Client);
        }
        // The body is freed before the wait for the disk.
        drop(body);
        let entries = self.entries(reports, &user_agent, client).await?;
        let count = entries.len() as u64;
        self.writer.store(entries).await?;
        self.counters.accepted.fetch_add(count, Ordering::Relaxed);
        Ok(())
    }

    /// The reports in a body. Other items are counted.
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

    /// The entries to store for the reports in a body.
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
        // `block_in_place` lets other requests continue while signatures are verified. The number of bodies at a time
        // is limited, since a thread for each would need more memory than the reports.
        let _turn = self.turns.acquire().await;
        Ok(tokio::task::block_in_place(entries))
    }

    /// The entries to store for reports of listed hosts.
    fn judged(
        &self,
        listed: &[(usize, &Received)],
        user_agent: &str,
        (client, at): (IpAddr, i64),
    ) -> Vec<Entry> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut kept: Option<(Arc<str>, Arc<[u8]>)> = None;
        for &(place, report) in listed {
            // All failures in one report share its text.
            let raw = match &kept {
                Some((text, raw)) if Arc::ptr_eq(text, &report.text) => Arc::clone(raw),
                _ => self.raw(report),
            };
            kept = Some((Arc::clone(&report.text), Arc::clone(&raw)));
            entries.push(self.entry(&self.hosts[place], report, user_agent, (client, at), raw));
        }
        entries
    }

    /// Applies the limits to these reports. Returns how many verdicts need signatures verified.
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

    /// Drops reports for hosts that are not on the list. The answer is the same as for a listed host. Only the log and
    /// a counter reveal the drop, to the operator.
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

    /// The position of the first entry of the list that matches the host of a report.
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

    /// The report to keep: without personal data, unless client addresses are kept too.
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

/// The routes for reports. Cross-origin requests may have any header fields: programs that monitor apps add some to
/// each request.
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
