//! Determines from the records when the next key of a host may be used.

use std::collections::BTreeSet;

use hpkp_core::pin::Pin;
use hpkp_core::published::state::Retention;
use hpkp_core::published::{HostName, KeyGraph, KeyNode, Matching, Slot, State};
use hpkp_core::sorted::distinct;

use super::blocked::why_blocked;
use super::certificates::on_record;
use super::configuration;
use super::future::{Future, Relied};
use super::model::Policy;
use super::today::Server;
use crate::published::hosts_of;

/// The state of a key that is not in use yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Usable {
    /// Since when clients of the host may hold the pin, in seconds since 1970 UTC.
    pub(crate) published_since: Option<i64>,
    /// Whether the key is already presented for the host.
    pub(crate) is_in_use: bool,
    /// When the key may be used, considering all hosts whose clients will get the certificate.
    pub(crate) when: When,
    /// The other host whose clients determine this time.
    pub(crate) because_of: Option<HostName>,
    /// Writers whose records were read by a server and are missing now. The pins of their clients are
    /// unknown.
    pub(crate) missing: Vec<String>,
}

/// A key that will be used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Planned<'a> {
    pub(crate) host: &'a HostName,
    pub(crate) pin: Pin,
    /// The kind of certificate that the key replaces, if there are several.
    pub(crate) kind: Option<Slot>,
    /// The other names in the certificate; a star stands for one label.
    pub(crate) names: &'a [String],
    /// The directories with records, as options of commands.
    pub(crate) options: &'a str,
}

/// When a key may be used, in seconds since 1970 UTC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// From this time, all clients that accept the present key accept the new one.
    From(i64),
    /// Servers send pins without the key. The time applies if all servers published the pin now; `None` if
    /// it is unknown.
    NotPublished(Option<i64>),
    /// Clients hold pins that do not expire; the text says which, and what to do.
    Blocked(String),
    /// No pins of the host are on record, so the pins that clients hold are unknown.
    NothingOnRecord,
}

/// The directives that publish a key: the present pins together with the pin of the key.
#[derive(Clone, Debug)]
pub(crate) struct Publication {
    /// The lines for nginx and for httpd.
    pub(crate) nginx: Vec<String>,
    pub(crate) httpd: Vec<String>,
}

/// Determines when a key may be used.
pub(crate) fn usable(state: &State, now: i64, planned: &Planned<'_>) -> Usable {
    let Planned { host, pin, .. } = *planned;
    let future = Future::new(state.clone(), host.clone());
    let records = state.published().filter(|record| record.body.binds(host));
    let with_pin = records.filter(|record| record.body.pins.contains(&pin));
    let published_since = with_pin.map(|record| record.body.since.unwrap_or(record.at)).min();
    let servers = on_record(&future);
    let is_in_use = servers.iter().flatten().any(|one| one.leaf.pin == pin);
    let own = when(&future, now, planned);
    let (mut all, mut because_of) = (own.clone(), None);
    for other in others(state, &servers, planned) {
        let then = when(&Future::new(state.clone(), other.clone()), now, planned);
        if own != When::NothingOnRecord && then.gravity() > all.gravity() {
            (all, because_of) = (then, Some(other));
        }
    }
    let own_writers = state.writers().filter(|(_, is_own)| *is_own);
    let lost = own_writers.flat_map(|(writer, _)| state.lost(writer));
    let missing = distinct(lost.map(|sight| sight.writer.to_string()));
    Usable { published_since, is_in_use, when: all, because_of, missing }
}

impl When {
    /// Ranks the states: a worse one has the larger value, then the later one.
    fn gravity(&self) -> (u8, i64) {
        match self {
            Self::NothingOnRecord => (0, 0),
            Self::From(at) => (1, *at),
            Self::NotPublished(at) => (2, at.unwrap_or(i64::MAX)),
            Self::Blocked(_) => (3, 0),
        }
    }
}

fn when(future: &Future, now: i64, planned: &Planned<'_>) -> When {
    let pin = planned.pin;
    if !future.is_bound(now) {
        return When::NothingOnRecord;
    }
    let Some(relied) = relied(pin, planned.kind, future) else {
        return When::Blocked("the keys of the certificate in use are not known".to_owned());
    };
    let blocking = match future.date(&relied, now) {
        Ok(from) => return When::From(from),
        Err(blocking) => blocking,
    };
    let waits = |(_, retention): &(_, Retention)| matches!(retention, Retention::WhilePublished(_));
    match blocking.iter().all(waits) {
        true => When::NotPublished(if_published(future, now, pin, &relied)),
        false => When::Blocked(why_blocked(&blocking, planned.options)),
    }
}

/// The other hosts with the same certificate: those for which the key in use is presented, and those in the
/// certificate's names.
fn others(state: &State, servers: &[Server], planned: &Planned<'_>) -> BTreeSet<HostName> {
    let replaced = |pin: Option<Pin>| {
        let mut certificates = servers.iter().flat_map(|server| {
            let is_only = server.len() == 1;
            server.iter().map(move |one| (is_only, one))
        });
        certificates.any(|(is_only, one)| {
            let is_kind = is_only || planned.kind.is_none() || one.leaf.kind == planned.kind;
            is_kind && Some(one.leaf.pin) == pin
        })
    };
    let mut names: Vec<String> = planned.names.to_vec();
    for record in state.presents().filter(|record| state.is_presented(record)) {
        let body = &record.body;
        let mut leaves = body.certificates.iter().map(|one| one.keys.nodes()[0].pin);
        if leaves.any(replaced) {
            let star = if body.matching == Matching::Exact { "" } else { "*." };
            names.push(format!("{star}{}", body.host));
        }
    }
    let mut hosts = hosts_of(names.iter(), || state.published().map(|record| &record.body.host));
    hosts.remove(planned.host);
    hosts
}

/// The policy with the pin of a key added; `None` if no server sends a header.
pub(crate) fn publication(state: &State, host: &HostName, pin: Pin) -> Option<Publication> {
    let future = Future::new(state.clone(), host.clone());
    let policy = with_pin(&future, pin)?;
    let name = configuration::NAME;
    Some(Publication {
        nginx: configuration::nginx(name, &policy),
        httpd: configuration::httpd(name, &policy),
    })
}

/// The kinds of keys that servers present for a host.
pub(crate) fn in_use(state: &State, host: &HostName) -> Vec<Option<Slot>> {
    let servers = on_record(&Future::new(state.clone(), host.clone()));
    distinct(servers.iter().flatten().map(|one| one.leaf.kind))
}

/// The pins of the keys that servers present for a host.
pub(crate) fn leaves_in_use(state: &State, host: &HostName) -> Vec<Pin> {
    let servers = on_record(&Future::new(state.clone(), host.clone()));
    servers.iter().flatten().map(|one| one.leaf.pin).collect()
}

fn with_pin(future: &Future, pin: Pin) -> Option<Policy> {
    future.policy(&future.writers()).map(|policy| policy.with([pin]))
}

fn if_published(future: &Future, now: i64, pin: Pin, relied: &Relied) -> Option<i64> {
    let policy = with_pin(future, pin)?;
    let mut then = future.clone();
    then.publish(now, Some(&policy));
    then.date(relied, now).ok()
}

/// The keys that clients will get with the new certificate, which the present CA issues.
fn relied(pin: Pin, kind: Option<Slot>, future: &Future) -> Option<Relied> {
    let servers = on_record(future);
    let of_kind = |one: &&super::model::InUse| kind.is_none() || one.leaf.kind == kind;
    let mut of_each = servers.iter().filter_map(|server| match &server[..] {
        [only] => Some(only),
        all => all.iter().find(of_kind).or(all.first()),
    });
    let unknown = || {
        let node = KeyNode { pin: Some(pin), served: true, end: true, issuers: Vec::new() };
        KeyGraph::new(vec![node])
    };
    let keys = match (of_each.next(), of_each.next()) {
        (Some(one), None) => one.keys.clone(),
        // No server or several different ones are on record, so the CA of the new certificate is unknown.
        _ => unknown()?,
    };
    Relied::default().and_leaf(pin, &keys, true)
}
