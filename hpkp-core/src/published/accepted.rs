//! What is written when a configuration has been accepted, before a response can carry its pins.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::event::{
    Body, Ended, Event, EventId, Fingerprint, Lifetime, Origin, Presented, Presents, Published,
    Scope, Why,
};
use super::name::{HostName, WriterName};
use super::state::State;
use crate::check::{Deployment, Host, HostVerdict, SeenName, Verdict, sorted};
use crate::finding::{Code, Finding};
use crate::policy::Policy;

/// How many ids one `ended` event names.
const IDS: usize = 1_000;

/// The events that `writer` appends when the configuration of `deployment` has been accepted with
/// `verdict`, in their order. None where nothing has changed since `state`.
///
/// `now` is in seconds since 1970 UTC. Where the clock stands before the writer's newest event, that
/// event's time is taken: what ends now must not seem to have ended earlier.
#[must_use]
pub fn accepted(
    deployment: &Deployment,
    verdict: &Verdict,
    state: &State,
    writer: &WriterName,
    now: i64,
) -> Vec<Event> {
    let wanted = wanted(deployment, verdict);
    let current = current(state, writer);
    let kept: HashSet<&Body> = wanted.iter().filter(|body| current.contains_key(body)).collect();
    let mut over: Vec<EventId> =
        current.iter().filter(|(body, _)| !kept.contains(*body)).map(|(_, id)| *id).collect();
    over.sort_unstable();
    let new = wanted.iter().filter(|body| !kept.contains(body)).cloned();
    sealed(ended(&over, &Why::Replaced).chain(new), state, writer, now)
}

/// [`accepted`]'s events of a server that takes over from another one which still runs: what that
/// one publishes goes on.
#[must_use]
pub fn without_ends(events: Vec<Event>) -> Vec<Event> {
    let begun = events.iter().filter(|event| !matches!(event.body(), Body::Ended(_)));
    let first = events.first().map_or(0, Event::seq);
    let numbered = (first..).zip(begun);
    numbered
        .map(|(seq, event)| {
            Event::new(event.at(), seq, event.writer().clone(), event.body().clone())
        })
        .collect()
}

/// The events that `writer` appends when its server stops for good.
#[must_use]
pub fn stopped(state: &State, writer: &WriterName, now: i64) -> Vec<Event> {
    let mut over: Vec<EventId> = current(state, writer).into_values().collect();
    over.sort_unstable();
    sealed(ended(&over, &Why::Stopped), state, writer, now)
}

impl Verdict {
    /// Takes out the headers whose pins are not on record, since `why` has kept [`accepted`]'s
    /// events from being written; gives the finding. A header that was on record before stays.
    pub fn withhold_unrecorded(
        &mut self,
        deployment: &Deployment,
        state: &State,
        writer: &WriterName,
        why: &str,
    ) -> Option<Finding> {
        let current = current(state, writer);
        let mut finding: Option<Finding> = None;
        let policies = by_name(deployment);
        for (host, verdict) in deployment.hosts.iter().zip(&mut self.hosts) {
            let Some(policy_use) = &host.enforced else { continue };
            let Some(policy) = policies.get(policy_use.policy.as_str()) else { continue };
            let is_recorded = published(policy, verdict)
                .all(|published| current.contains_key(&Body::Published(published)));
            let sending = verdict.enforced.as_mut().filter(|sending| sending.header.is_some());
            let Some(sending) = sending.filter(|_| !is_recorded) else { continue };
            sending.header = None;
            let code = Code::PublishedPinsNotRecorded;
            let finding = finding.get_or_insert_with(|| Finding {
                code,
                class: code.class(),
                check: host.check,
                hosts: Vec::new(),
                host_count: 0,
                has_header: true,
                at: policy_use.at.clone(),
                summary: format!(
                    "its pins cannot be recorded, so they are not published and no header is sent: \
                     {why}"
                ),
                details: Vec::new(),
            });
            finding.add_host(&host.label);
        }
        finding
    }
}

/// What tells a configuration from others: for each host, the names by which it is reached, the
/// certificates that it presents and the policy that it has. Trust anchors and records are no part of it.
/// Kept where a configuration takes effect and cannot be recorded ([`crate::check::Records::unrecorded`]).
#[must_use]
pub fn digest(deployment: &Deployment, verdict: &Verdict) -> Fingerprint {
    digest_of(deployment, &verdict.hosts)
}

pub(crate) fn digest_of(deployment: &Deployment, verdicts: &[HostVerdict]) -> Fingerprint {
    let policies = by_name(deployment);
    let of_host = |(host, verdict): (&Host, &HostVerdict)| {
        let names = verdict.names.iter();
        let names: Vec<String> = names
            .map(|SeenName { host, matching, except, ports, aside }| {
                format!("{host} {matching:?} {except:?} {ports:?} {aside}")
            })
            .collect();
        let presented = verdict.presented.as_deref().unwrap_or_default();
        let slots: BTreeSet<String> = presented
            .iter()
            .map(|one| format!("{:?} {:?}", one.served.first(), one.identity))
            .collect();
        let policy = host.enforced.as_ref().and_then(|one| policies.get(one.policy.as_str()));
        let policy = policy.map(|policy| {
            let (below, age) = (policy.binds_subdomains(), policy.max_age());
            format!("{:?} {below} {age:?}", sorted(policy))
        });
        let parts = names.iter().chain(&slots).chain(&policy);
        // How many there are of each keeps them apart.
        let counts = format!("{} {} {}", names.len(), slots.len(), policy.is_some());
        Fingerprint::of(std::iter::once(&counts).chain(parts).map(String::as_bytes))
    };
    let hosts = deployment.hosts.iter().zip(verdicts).filter(|(_, one)| !one.names.is_empty());
    let mut all: Vec<String> = hosts.map(|one| of_host(one).to_string()).collect();
    all.sort_unstable();
    Fingerprint::of(all.iter().map(String::as_bytes))
}

fn by_name(deployment: &Deployment) -> HashMap<&str, &Policy> {
    deployment.policies.iter().map(|policy| (policy.name(), policy)).collect()
}

/// What the configuration publishes and presents, each once.
fn wanted(deployment: &Deployment, verdict: &Verdict) -> Vec<Body> {
    let policies = by_name(deployment);
    let mut wanted = Vec::new();
    let mut seen = HashSet::new();
    for (host, verdict) in deployment.hosts.iter().zip(&verdict.hosts) {
        let policy_use = host.enforced.as_ref().filter(|_| sends(verdict));
        let policy = policy_use.and_then(|policy_use| policies.get(policy_use.policy.as_str()));
        for published in policy.into_iter().flat_map(|policy| published(policy, verdict)) {
            let body = Body::Published(published);
            if seen.insert(body.clone()) {
                wanted.push(body);
            }
        }
    }
    // One name may have one certificate on several ports.
    type Shown<'a> = (&'a HostName, super::Matching, &'a [Presented], bool);
    let mut ports: BTreeMap<Shown<'_>, BTreeSet<u16>> = BTreeMap::new();
    for verdict in &verdict.hosts {
        // That it presents something that is not known tells the host from one that a pattern has.
        let presented = verdict.presented.as_deref().unwrap_or_default();
        let is_told = |name: &&SeenName| !(name.aside && presented.is_empty());
        for name in verdict.names.iter().filter(is_told) {
            let shown = (&name.host, name.matching, presented, name.aside);
            ports.entry(shown).or_default().extend(&name.ports);
        }
    }
    wanted.extend(ports.into_iter().map(|((host, matching, certificates, aside), ports)| {
        Body::Presents(Presents {
            host: host.clone(),
            matching,
            ports: ports.into_iter().collect(),
            certificates: certificates.to_vec(),
            aside,
        })
    }));
    wanted
}

fn sends(verdict: &HostVerdict) -> bool {
    verdict.enforced.as_ref().is_some_and(|sending| sending.header.is_some())
}

/// What the header of a host publishes: one record for each of its names.
fn published<'a>(
    policy: &'a Policy,
    verdict: &'a HostVerdict,
) -> impl Iterator<Item = Published> + 'a {
    let names = verdict.names.iter().filter(|name| !name.aside);
    names.filter_map(|name| {
        Some(Published {
            host: name.host.clone(),
            matching: name.matching,
            except: name.except.clone(),
            include_subdomains: policy.binds_subdomains(),
            scope: Scope::Chain,
            port: None,
            pins: sorted(policy),
            lifetime: Lifetime::MaxAge(policy.max_age()?),
            origin: Origin::Header,
            since: None,
        })
    })
}

/// What the writer has said of its configurations and not ended.
fn current(state: &State, writer: &WriterName) -> HashMap<Body, EventId> {
    let is_current = |id: EventId| state.end(id).is_none();
    let published = state.published().filter(|record| {
        record.writer == *writer && record.said.origin == Origin::Header && is_current(record.id)
    });
    let presents =
        state.presents().filter(|record| record.writer == *writer && is_current(record.id));
    published
        .map(|record| (Body::Published(record.said.clone()), record.id))
        .chain(presents.map(|record| (Body::Presents(record.said.clone()), record.id)))
        .collect()
}

fn ended(ids: &[EventId], why: &Why) -> impl Iterator<Item = Body> {
    ids.chunks(IDS)
        .map(move |ids| Body::Ended(Ended { ids: ids.to_vec(), why: why.clone(), when: None }))
}

fn sealed(
    bodies: impl Iterator<Item = Body>,
    state: &State,
    writer: &WriterName,
    now: i64,
) -> Vec<Event> {
    let at = now.max(state.newest(writer).unwrap_or(now));
    let numbers = state.last_seq(writer).saturating_add(1)..;
    numbers.zip(bodies).map(|(seq, body)| Event::new(at, seq, writer.clone(), body)).collect()
}
