//! Queries servers for the keys that they present, and checks whether clients accept them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use hpkp_core::certificate::Certificate;
use hpkp_core::check::{Certificates, Choice, Context, Deployment, Listener, TrustSetting, check};
use hpkp_core::finding::Class;
use hpkp_core::path::Chain;
use hpkp_core::published::HostName;
use hpkp_core::ua::host::Host;

use super::report::{Answer, HostReport, Problem, Report, Served, Time};
use super::target::{Connect, Target};
use crate::arguments::PortProtocol;
use crate::encoded;
use crate::parallel;
use crate::presented::{self, Address};
use crate::progress::Progress;
use crate::published::replay::{self, FindingView, OpenSsl};
use crate::published::store::Store;

/// The port of HTTPS.
const HTTPS: u16 = 443;

/// The most servers that are queried at the same time.
const AT_ONCE: usize = 16;

/// The settings for queries.
pub(super) struct Asking<'a> {
    pub(super) store: &'a Store,
    /// The addresses to which to connect instead of the hosts' own addresses.
    pub(super) connect: Vec<Connect>,
    /// The time limit of each connection.
    pub(super) timeout: Duration,
    /// The protocols before TLS, by port.
    pub(super) starttls: Vec<PortProtocol>,
}

/// A connection to make.
struct Endpoint {
    /// The position of the host in the report.
    at: usize,
    host: HostName,
    port: u16,
    address: Address,
    /// The position of the address in `connect`. Endpoints with the same address belong to one server.
    round: usize,
}

/// The result of a query.
struct Answered {
    endpoint: Endpoint,
    served: Served,
    chains: Vec<Chain>,
}

impl Asking<'_> {
    /// Queries the servers of all hosts, and adds the results to the report.
    pub(super) fn ask(&self, report: &mut Report, targets: &[Target], trust: TrustSetting) {
        let endpoints = self.endpoints(report, targets);
        let mut all = self.answers(endpoints);
        let trust = Arc::new(trust);
        for round in 0..self.connect.len().max(1) {
            let of_round: Vec<usize> = (0..all.len())
                .filter(|at| all[*at].endpoint.round == round && !all[*at].chains.is_empty())
                .collect();
            let clear = self.without_alarm(&all, &of_round, &trust);
            for at in of_round {
                match clear.contains(&at) {
                    true => all[at].served.answer = all[at].served.answer.and(Answer::Yes),
                    false => self.explain(&mut all[at], &trust),
                }
            }
        }
        for Answered { endpoint, mut served, .. } in all {
            let Some(host) = report.hosts.get_mut(endpoint.at) else { continue };
            served.as_on_record = as_on_record(host, &served);
            report.problems.extend(problems(&endpoint, &served));
            host.served.push(served);
        }
    }

    fn endpoints(&self, report: &Report, targets: &[Target]) -> Vec<Endpoint> {
        let mut endpoints = Vec::new();
        for (at, report) in report.hosts.iter().enumerate() {
            let host = &report.name.0;
            if report.not_asked.is_some() {
                continue;
            }
            let Ok(server) = Host::parse(host.as_str()) else { continue };
            for port in self.ports(report, targets) {
                let own = Address { host: server.clone(), port };
                let named = self.connect.iter().map(|connect| Address {
                    host: connect.host.clone(),
                    port: connect.port.unwrap_or(port),
                });
                let mut addresses: Vec<Address> = named.collect();
                if addresses.is_empty() {
                    addresses.push(own);
                }
                endpoints.extend(addresses.into_iter().enumerate().map(|(round, address)| {
                    Endpoint { at, host: host.clone(), port, address, round }
                }));
            }
        }
        endpoints
    }

    /// The ports to query: the named ones, or else those on record.
    fn ports(&self, report: &HostReport, targets: &[Target]) -> BTreeSet<u16> {
        let named = targets.iter().filter(|target| target.host == report.name.0);
        let named: BTreeSet<u16> = named.filter_map(|target| target.port).collect();
        if !named.is_empty() {
            return named;
        }
        let bodies = report.held.iter().filter_map(|held| self.store.state.published_by(held.id));
        let pinned = bodies.filter_map(|record| record.body.port);
        let presented = report.on_record.iter().flat_map(|one| one.ports.iter().copied());
        let ports: BTreeSet<u16> = presented.chain(pinned).filter(|port| *port != 0).collect();
        if ports.is_empty() { BTreeSet::from([HTTPS]) } else { ports }
    }

    fn answers(&self, endpoints: Vec<Endpoint>) -> Vec<Answered> {
        let progress = Progress::start("asking servers");
        let count = endpoints.len();
        let answers = parallel::map(
            &endpoints,
            AT_ONCE,
            |endpoint| self.answer(endpoint),
            |done| progress.set(|| format!("asked {done} of {count} servers")),
        );
        let all = endpoints.into_iter().zip(answers);
        all.map(|(endpoint, (served, chains))| Answered { endpoint, served, chains }).collect()
    }

    fn answer(&self, endpoint: &Endpoint) -> (Served, Vec<Chain>) {
        let mut served = Served {
            address: endpoint.address.shown(),
            port: endpoint.port,
            answer: Answer::NotAsked,
            chains: Vec::new(),
            not_after: None,
            as_on_record: None,
            locks_out: Vec::new(),
            findings: Vec::new(),
            errors: Vec::new(),
        };
        let mut chains = Vec::new();
        let name = Host::parse(endpoint.host.as_str()).unwrap_or(endpoint.address.host.clone());
        let starttls = PortProtocol::of(&self.starttls, endpoint.port);
        match presented::ask(&endpoint.address, &name, self.timeout, starttls) {
            Err(error) => {
                served.answer = Answer::Unknown;
                served.errors.push(error.to_string());
            }
            Ok(answer) => {
                for presented in &answer.chains {
                    match chain(&presented.certificates, &mut served) {
                        Ok(chain) => chains.push(chain),
                        Err(error) => {
                            served.answer = Answer::Unknown;
                            served.errors.push(error);
                        }
                    }
                }
                if !answer.unknown.is_empty() {
                    served.answer = Answer::Unknown;
                    served.errors.extend(answer.unknown);
                }
            }
        }
        (served, chains)
    }

    /// The endpoints for whose hosts the check finds no lock-out. One check covers all of them, because
    /// each check reads all records.
    fn without_alarm(
        &self,
        all: &[Answered],
        of_round: &[usize],
        trust: &Arc<TrustSetting>,
    ) -> BTreeSet<usize> {
        let mut by_port: BTreeMap<u16, Vec<usize>> = BTreeMap::new();
        let mut deployment = Deployment {
            records: Some(replay::records(self.store, self.store.state.clone())),
            ..Deployment::default()
        };
        for (block, at) in of_round.iter().enumerate() {
            let Answered { endpoint, chains, .. } = &all[*at];
            let certificates = Certificates::Loaded(chains.clone());
            deployment.contexts.push(Context { certificates, trust: Arc::clone(trust) });
            let mut host = replay::block(Some(&endpoint.host));
            host.contexts = vec![block];
            deployment.hosts.push(host);
            by_port.entry(endpoint.port).or_default().push(block);
        }
        let default = deployment.hosts.len();
        deployment.hosts.push(replay::block(None));
        deployment.listeners = by_port
            .into_iter()
            .map(|(port, hosts)| Listener::new(port, Choice::Nginx, hosts, default))
            .collect();
        let verdict = check(&deployment, self.store.now, &OpenSsl);
        let hosts = of_round.iter().zip(&verdict.hosts);
        hosts.filter(|(_, host)| host.alarms.is_empty()).map(|(at, _)| *at).collect()
    }

    /// Checks one endpoint, for its findings and the records that it does not satisfy.
    fn explain(&self, answered: &mut Answered, trust: &Arc<TrustSetting>) {
        let Answered { endpoint, served, chains } = answered;
        let (found, refusing) = replay::judge(
            self.store,
            &endpoint.host,
            chains.clone(),
            Arc::clone(trust),
            (Some(endpoint.port), &OpenSsl, Vec::new()),
        );
        let has = |class| found.iter().any(|finding| finding.class == class);
        served.answer = served.answer.and(if has(Class::Lockout) || has(Class::Invalid) {
            Answer::No
        } else if has(Class::Unsure) {
            Answer::Unknown
        } else {
            Answer::Yes
        });
        served.findings = found.iter().map(FindingView::from).collect();
        served.locks_out = refusing.iter().map(ToString::to_string).collect();
    }
}

/// Parses the certificates of a handshake, and adds their descriptions to `served`.
fn chain(certificates: &[Vec<u8>], served: &mut Served) -> Result<Chain, String> {
    let (mut keys, mut parsed) = (Vec::new(), Vec::new());
    for (place, der) in (1..).zip(certificates) {
        let what = |error: &dyn std::fmt::Display| {
            format!("certificate {place} of the chain cannot be used: {error}")
        };
        keys.extend(encoded::describe(der).map_err(|error| what(&error))?);
        parsed.push(Arc::new(Certificate::from_der(der).map_err(|error| what(&error))?));
    }
    let not_after = parsed.iter().map(|one| Time(one.not_after())).min();
    served.not_after = [served.not_after, not_after].into_iter().flatten().min();
    served.chains.push(keys);
    Chain::new(parsed).ok_or_else(|| format!("more than {} certificates in the chain", Chain::MAX))
}

/// Whether the presented leaves are those that a record contains for the port; `None` if no record does.
fn as_on_record(host: &HostReport, served: &Served) -> Option<bool> {
    let of_port = host.on_record.iter().filter(|one| one.ports.contains(&served.port));
    let recorded: BTreeSet<&str> =
        of_port.flat_map(|one| &one.leaves).map(String::as_str).collect();
    let leaves = served.chains.iter().filter_map(|chain| chain.first());
    let seen: BTreeSet<&str> = leaves.map(|key| key.pin.as_str()).collect();
    (!recorded.is_empty() && !seen.is_empty()).then(|| seen.is_subset(&recorded))
}

fn problems(endpoint: &Endpoint, served: &Served) -> Vec<Problem> {
    let place = format!("{} on port {}", endpoint.host, endpoint.port);
    let place = match served.address == format!("{}:{}", endpoint.host, endpoint.port) {
        true => place,
        false => format!("{place} (at {})", served.address),
    };
    let errors = served.errors.iter().map(|error| Problem::unknown(format!("{place}: {error}")));
    let strange = (served.as_on_record == Some(false)).then(|| Problem::warning(format!(
            "{place}: presents a key that no record names; reload the server, or see which other server \
             answers there"
        )));
    errors.chain(strange).collect()
}
