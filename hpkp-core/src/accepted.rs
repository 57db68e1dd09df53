//! The events that a server records when it has accepted a configuration, before a response can carry its pins.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::check::{Deployment, HostVerdict, Records, SeenName, Verdict};
use crate::finding::{Class, Code, Finding, Text};
use crate::policy::Policy;
use crate::published::event::{
    Again, Body, Ended, Event, Lifetime, Matching, Origin, Presented, Presents, Published, Seen,
    Why, Withheld,
};
use crate::published::id::EventId;
use crate::published::line::{MAX_ENTRIES, MAX_EXCEPT, MAX_LINE};
use crate::published::name::{HostName, WriterName};
use crate::published::state::{State, Stopped};

/// How many ids one `ended` event names.
const IDS: usize = 1_000;

/// After how many seconds without a record a writer writes a `seen` event.
const HEARTBEAT: i64 = 24 * 3_600;

/// The events that `writer` appends when the configuration of `deployment` has been accepted with
/// `verdict`, in their order. None where nothing has changed since `state`.
///
/// `now` is in seconds since 1970 UTC.
#[must_use]
pub fn accepted(
    deployment: &Deployment,
    verdict: &Verdict,
    state: &State,
    writer: &WriterName,
    now: i64,
) -> Vec<Event> {
    let wanted = wanted(deployment, verdict);
    let Current { of: current, left } = current(state, writer);
    let stopped = state.stopped(writer).filter(|_| current.is_empty());
    let back = stopped.as_ref().and_then(|stopped| again(stopped, &wanted));
    let kept: HashSet<&Body> = match &back {
        Some((_, back)) => back.iter().copied().collect(),
        None => wanted.iter().filter(|body| current.contains_key(body)).collect(),
    };
    let mut over: Vec<EventId> =
        current.iter().filter(|(body, _)| !kept.contains(*body)).map(|(_, id)| *id).collect();
    over.extend(left);
    if wanted.is_empty() {
        // The server is back and presents nothing, so no new event replaces those that it presented when it stopped.
        let stopped = stopped.iter().flat_map(|stopped| &stopped.of);
        let presented = stopped.filter(|(body, _)| matches!(body, Body::Presents(_)));
        over.extend(presented.map(|(_, id)| *id));
    }
    over.sort_unstable();
    let new = wanted.iter().filter(|body| !kept.contains(body)).cloned();
    let back = back.map(|(event, _)| event);
    let written: Vec<Body> =
        back.into_iter().chain(ended(&over, &Why::Replaced)).chain(new).collect();
    let seen = seen(state, writer, written.is_empty(), now);
    sealed(written.into_iter().chain(seen), state, writer, now)
}

/// The `again` event of a server that starts with the configuration with which it stopped, and the
/// members of `wanted` that it covers. `None` if there is no such member or the event would have too many ids; all
/// members are then written again.
fn again<'a>(stopped: &Stopped, wanted: &'a [Body]) -> Option<(Body, Vec<&'a Body>)> {
    let kept: Vec<&Body> = wanted.iter().filter(|body| stopped.of.contains_key(body)).collect();
    let is_kept: HashSet<EventId> =
        kept.iter().filter_map(|body| stopped.of.get(body)).copied().collect();
    let over = stopped.of.values().filter(|id| !is_kept.contains(id));
    let mut except: Vec<EventId> = over.chain(&stopped.left).copied().collect();
    except.sort_unstable();
    let fits = except.len() <= MAX_ENTRIES && stopped.by.len() <= MAX_ENTRIES;
    let again = Body::Again(Again { ids: stopped.by.clone(), except });
    (fits && !kept.is_empty()).then_some((again, kept))
}

/// The `seen` event: the writer runs, and has read these records of others. The writer appends it when the records
/// of others have changed, when a record has a time in the future, or after a day without an event.
fn seen(state: &State, writer: &WriterName, is_silent: bool, now: i64) -> Option<Body> {
    let mut of = state.sights(writer);
    let is_recorded = of == state.last_seen(writer);
    let is_late = state.newest(writer).is_some_and(|at| now.saturating_sub(at) >= HEARTBEAT);
    let future = state.unseen_future(now);
    if is_recorded && future.is_empty() && !(is_silent && is_late) {
        return None;
    }
    // If this writer's own events have a time in the future, its next event limits that time.
    of.truncate(MAX_ENTRIES);
    Some(Body::Seen(Seen { of, succeeded: Vec::new() }))
}

/// The events of [`accepted`] for a server that takes over from another one which still runs. The
/// pins of the old server stay published, and later configurations are compared only with the new
/// server's.
#[must_use]
pub fn without_ends(events: Vec<Event>, state: &State, writer: &WriterName) -> Vec<Event> {
    let Current { left, .. } = current(state, writer);
    let first = events.first().map_or(0, Event::seq);
    let begun = |event: Event| match event.body() {
        Body::Ended(ended) => {
            let succeeded = ended.ids.iter().filter(|id| !left.contains(id));
            let succeeded: Vec<EventId> = succeeded.copied().collect();
            let of = state.last_seen(writer).to_vec();
            // Events that an earlier start recorded as succeeded are not recorded again.
            (!succeeded.is_empty()).then_some((event.at(), Body::Seen(Seen { of, succeeded })))
        }
        body => Some((event.at(), body.clone())),
    };
    let numbered = (first..).zip(events.into_iter().filter_map(begun));
    numbered.map(|(seq, (at, body))| Event::new(at, seq, writer.clone(), body)).collect()
}

/// The events that `writer` appends when its server stops for good.
#[must_use]
pub fn stopped(state: &State, writer: &WriterName, now: i64) -> Vec<Event> {
    let Current { of, left } = current(state, writer);
    let mut over: Vec<EventId> = of.into_values().chain(left).collect();
    over.sort_unstable();
    sealed(ended(&over, &Why::Stopped), state, writer, now)
}

/// The events that `writer` appends when its server stops and another one has taken over: what only the stopped server
/// still published has ended.
#[must_use]
pub fn left(state: &State, writer: &WriterName, now: i64) -> Vec<Event> {
    let left = current(state, writer).left;
    sealed(ended(&left, &Why::Replaced), state, writer, now)
}

/// The reason why something does not fit into a record.
#[must_use]
pub fn too_large() -> String {
    format!(
        "a record can have at most {MAX_EXCEPT} exceptions of a pattern, {MAX_ENTRIES} ports and {MAX_LINE} \
         bytes"
    )
}

/// The finding about a configuration that could not be recorded and all of whose headers are sent.
#[must_use]
pub fn not_recorded(records: &Records, why: &str) -> Finding {
    let text = format!(
        "the configuration that this server uses could not be recorded: {why}; later tests do not know \
         what it presents"
    );
    Finding::new(Code::ConfigurationNotRecorded, records.at.clone(), Text::new(text))
}

impl Verdict {
    /// Removes the headers of hosts whose pins do not fit into a record, and returns the finding. The
    /// other hosts are recorded all the same.
    pub fn withhold_unrecordable(&mut self, deployment: &Deployment) -> Option<Finding> {
        let policies = deployment.policies_by_name();
        let is_recordable = |policy: &Policy, verdict: &HostVerdict| {
            published(policy, verdict).map(Body::Published).all(|body| is_recordable(&body))
        };
        self.withhold_where(deployment, &policies, &too_large(), |policy, verdict| {
            !is_recordable(policy, verdict)
        })
    }

    /// The hosts whose certificates do not fit into a record. Their records are of an earlier
    /// configuration, so this configuration as a whole counts as not recorded.
    #[must_use]
    pub fn unrecordable<'a>(&self, deployment: &'a Deployment) -> Vec<&'a str> {
        let presented = presented(&self.hosts).into_iter();
        let too_large: HashSet<HostName> = presented
            .filter_map(|body| match body {
                Body::Presents(ref it) if !is_recordable(&body) => Some(it.host.clone()),
                _ => None,
            })
            .collect();
        let hosts = deployment.hosts.iter().zip(&self.hosts);
        let has_one =
            |verdict: &HostVerdict| verdict.names.iter().any(|name| too_large.contains(&name.host));
        hosts.filter(|(_, verdict)| has_one(verdict)).map(|(host, _)| host.label.as_str()).collect()
    }

    /// Removes the headers whose pins are not on record, because the events of [`accepted`] could
    /// not be written (`why`), and returns the finding. A header that was on record before stays.
    pub fn withhold_unrecorded(
        &mut self,
        deployment: &Deployment,
        state: &State,
        writer: &WriterName,
        why: &str,
    ) -> Option<Finding> {
        let current = current(state, writer).of;
        let policies = deployment.policies_by_name();
        self.withhold_where(deployment, &policies, why, |policy, verdict| {
            let mut published = published(policy, verdict).map(Body::Published);
            !published.all(|published| current.contains_key(&published))
        })
    }

    fn withhold_where(
        &mut self,
        deployment: &Deployment,
        policies: &HashMap<&str, &Policy>,
        why: &str,
        is_lost: impl Fn(&Policy, &HostVerdict) -> bool,
    ) -> Option<Finding> {
        let mut finding: Option<Finding> = None;
        let mut labels = HashSet::new();
        for (host, verdict) in deployment.hosts.iter().zip(&mut self.hosts) {
            let Some(policy_use) = &host.enforced else { continue };
            let Some(policy) = policies.get(policy_use.policy.as_str()) else { continue };
            let is_lost = is_lost(policy, verdict);
            let sending = verdict.enforced.as_mut().filter(|sending| sending.header.is_some());
            let Some(sending) = sending.filter(|_| is_lost) else { continue };
            sending.header = None;
            let finding = finding.get_or_insert_with(|| {
                let text = format!(
                    "the pins of this server could not be recorded, so they are not published and no \
                     header is sent: {why}"
                );
                let at = policy_use.at.clone();
                let finding = Finding::new(Code::PublishedPinsWriteFailed, at, Text::new(text));
                Finding { check: host.check, has_header: true, ..finding }
            });
            if labels.insert(host.label.as_str()) {
                finding.add_host(&host.label);
            }
        }
        finding
    }
}

/// What the configuration publishes, withholds and presents, each once.
fn wanted(deployment: &Deployment, verdict: &Verdict) -> Vec<Body> {
    let policies = deployment.policies_by_name();
    let mut wanted = Vec::new();
    let mut seen = HashSet::new();
    for (host, verdict) in deployment.hosts.iter().zip(&verdict.hosts) {
        let policy = host.enforced.as_ref();
        let policy = policy.and_then(|policy_use| policies.get(policy_use.policy.as_str()));
        let Some(policy) = policy else { continue };
        let bodies: Vec<Body> = match (sends(verdict), is_locked_out(verdict)) {
            (true, _) => published(policy, verdict).map(Body::Published).collect(),
            (false, true) => withheld(policy, verdict).map(Body::Withheld).collect(),
            (false, false) => continue,
        };
        for body in bodies {
            if seen.insert(body.clone()) {
                wanted.push(body);
            }
        }
    }
    wanted.extend(presented(&verdict.hosts));
    wanted.retain(is_recordable);
    wanted
}

/// What the hosts present. One name may have one certificate on several ports.
fn presented(hosts: &[HostVerdict]) -> Vec<Body> {
    type PresentedAs<'a> = (&'a HostName, Matching, &'a [Presented], bool, bool);
    type Places<'a> = (BTreeSet<u16>, BTreeSet<&'a String>);
    let mut places: BTreeMap<PresentedAs<'_>, Places<'_>> = BTreeMap::new();
    let patterns = hosts.iter().flat_map(|verdict| &verdict.names);
    let patterns = patterns.filter(|name| name.matching == Matching::OneLabel);
    let domains: HashSet<&str> = patterns.map(|name| name.host.as_str()).collect();
    for verdict in hosts {
        let presented = verdict.presented.as_deref().unwrap_or_default();
        // A host that presents unknown certificates is recorded only to distinguish it from the hosts of a
        // pattern.
        let is_recorded = |name: &&SeenName| {
            let is_in_pattern = name.host.parents().next().is_some_and(|it| domains.contains(it));
            !presented.is_empty()
                || !name.aside && name.matching == Matching::Exact && is_in_pattern
        };
        for name in verdict.names.iter().filter(is_recorded) {
            let key = (&name.host, name.matching, presented, name.aside, name.nameless);
            let (ports, addresses) = places.entry(key).or_default();
            ports.extend(&name.ports);
            addresses.extend(&name.addresses);
        }
    }
    let presents = |(key, (ports, addresses)): (PresentedAs<'_>, Places<'_>)| {
        let (host, matching, certificates, aside, nameless) = key;
        Body::Presents(Presents {
            host: host.clone(),
            matching,
            ports: ports.into_iter().collect(),
            certificates: certificates.to_vec(),
            aside,
            nameless,
            addresses: addresses.into_iter().cloned().collect(),
        })
    };
    places.into_iter().map(presents).collect()
}

/// Whether the event fits into a line. Only an event that may be too large is written to find out.
fn is_recordable(body: &Body) -> bool {
    let length = match body {
        Body::Published(published) => {
            let except = published.except.iter().map(|name| name.as_str().len() + 3);
            if published.except.len() > MAX_EXCEPT {
                return false;
            }
            except.sum::<usize>() + 64 * published.pins.len()
        }
        Body::Presents(presents) => {
            let keys = presents.certificates.iter().map(|one| one.keys.nodes().len());
            let issuers = presents.certificates.iter().flat_map(|one| one.keys.nodes());
            let issuers: usize = issuers.map(|node| node.issuers.len()).sum();
            let addresses = presents.addresses.iter().map(|address| 6 * address.len() + 3);
            let counts =
                [&presents.certificates.len(), &presents.ports.len(), &presents.addresses.len()];
            if counts.into_iter().any(|count| *count > MAX_ENTRIES) {
                return false;
            }
            keys.sum::<usize>() * 256
                + issuers * 6
                + presents.ports.len() * 6
                + addresses.sum::<usize>()
        }
        _ => 0,
    };
    length < MAX_LINE / 2
        || Event::from_line(
            Event::new(0, u64::MAX, WriterName::nobody(), body.clone()).line().as_bytes(),
        )
        .is_ok()
}

fn sends(verdict: &HostVerdict) -> bool {
    verdict.enforced.as_ref().is_some_and(|sending| sending.header.is_some())
}

/// Whether the host's header is not sent because of a lock-out, or because another machine is silent and a lock-out
/// cannot be ruled out.
fn is_locked_out(verdict: &HostVerdict) -> bool {
    let is_grave = |code: Code| {
        code.class() == Class::Lockout
            || matches!(code, Code::PeerSilent | Code::HeartbeatsUnreadable)
    };
    verdict.alarms.iter().any(|alarm| is_grave(alarm.code))
}

/// The policy of a host that is not sent: one record for each of its names.
fn withheld<'a>(
    policy: &'a Policy,
    verdict: &'a HostVerdict,
) -> impl Iterator<Item = Withheld> + 'a {
    let pins = policy.sorted_pins();
    let names = verdict.names.iter().filter(move |name| !name.aside && !pins.is_empty());
    names.map(|name| Withheld {
        host: name.host.clone(),
        matching: name.matching,
        include_subdomains: policy.binds_subdomains(),
        pins: policy.sorted_pins(),
    })
}

/// What the header of a host publishes: one record for each of its names.
fn published<'a>(
    policy: &'a Policy,
    verdict: &'a HostVerdict,
) -> impl Iterator<Item = Published> + 'a {
    let names = verdict.names.iter().filter(|name| !name.aside);
    names.filter_map(|name| {
        Some(Published {
            matching: name.matching,
            except: name.except.clone(),
            include_subdomains: policy.binds_subdomains(),
            ..Published::of_one(
                name.host.clone(),
                policy.sorted_pins(),
                Lifetime::MaxAge(policy.max_age()?),
                Origin::Header,
            )
        })
    })
}

/// The writer's events about its configurations, without those that have ended.
#[derive(Default)]
struct Current {
    /// The events of the last configuration.
    of: HashMap<Body, EventId>,
    /// The events of earlier configurations, with which another server may still run.
    left: Vec<EventId>,
}

fn current(state: &State, writer: &WriterName) -> Current {
    let mut current = Current::default();
    for (body, id) in state.configured(writer).filter(|(_, id)| state.end(*id).is_none()) {
        if state.is_succeeded(id, writer) {
            current.left.push(id);
        } else {
            current.of.insert(body, id);
        }
    }
    current
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
    let numbers = state.last_seq(writer).saturating_add(1)..;
    numbers.zip(bodies).map(|(seq, body)| Event::new(now, seq, writer.clone(), body)).collect()
}
