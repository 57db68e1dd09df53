//! When the next key of a host may be used, as the records have it.

use hpkp_core::pin::Pin;
use hpkp_core::published::state::Retention;
use hpkp_core::published::{HostName, KeyGraph, KeyNode, Slot, State};

use super::blocked::why_blocked;
use super::certificates::on_record;
use super::configuration;
use super::future::{Future, Relied};
use super::model::Policy;

/// What the records say of a key that is not in use yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Usable {
    /// Since when some clients may hold its pin, in seconds since 1970 UTC.
    pub(crate) published_since: Option<i64>,
    /// Whether it is presented for the host already.
    pub(crate) is_in_use: bool,
    pub(crate) when: When,
}

/// When a key may be used, in seconds since 1970 UTC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// No client accepts less than it did, from then on.
    From(i64),
    /// Servers send pins without it; if they all sent it from now on: the time, if there is one.
    NotPublished(Option<i64>),
    /// Clients that time alone does not free; why, and what to do.
    Blocked(String),
    /// No pins of the host are on record: nobody can tell what clients hold.
    NothingOnRecord,
}

/// What the servers are to send so that clients know a key: the pins that they send now, and its own.
#[derive(Clone, Debug)]
pub(crate) struct Publication {
    /// The lines for nginx and for httpd.
    pub(crate) nginx: Vec<String>,
    pub(crate) httpd: Vec<String>,
}

/// When the key `pin` of `host` may be used. `kind` tells which of several certificates it replaces.
pub(crate) fn usable(
    state: &State,
    now: i64,
    host: &HostName,
    (pin, kind): (Pin, Option<Slot>),
    directory: &str,
) -> Usable {
    let future = Future::new(state.clone(), host.clone());
    let records = state.published().filter(|record| record.body.binds(host));
    let with_pin = records.filter(|record| record.body.pins.contains(&pin));
    let published_since = with_pin.map(|record| record.body.since.unwrap_or(record.at)).min();
    let servers = on_record(&future);
    let is_in_use = servers.iter().flatten().any(|one| one.leaf.pin == pin);
    let when = match relied(pin, kind, &future) {
        _ if !future.is_bound(now) => When::NothingOnRecord,
        None => When::Blocked("the keys of the certificate in use are not known".to_owned()),
        Some(relied) => match future.date(&relied, now) {
            Ok(from) => When::From(from),
            Err(blocking) => {
                let waits = |(_, retention): &(_, Retention)| {
                    matches!(retention, Retention::WhilePublished(_))
                };
                match blocking.iter().all(waits) {
                    true => When::NotPublished(if_published(&future, now, pin, &relied)),
                    false => When::Blocked(why_blocked(&blocking, directory)),
                }
            }
        },
    };
    Usable { published_since, is_in_use, when }
}

/// The policy that publishes the pin of a key beside the present ones; none where no server sends a header.
pub(crate) fn publication(state: &State, host: &HostName, pin: Pin) -> Option<Publication> {
    let future = Future::new(state.clone(), host.clone());
    let policy = with_pin(&future, pin)?;
    let name = configuration::NAME;
    Some(Publication {
        nginx: configuration::nginx(name, &policy),
        httpd: configuration::httpd(name, &policy),
    })
}

/// The kinds of the keys that servers present for a host.
pub(crate) fn in_use(state: &State, host: &HostName) -> Vec<Option<Slot>> {
    let servers = on_record(&Future::new(state.clone(), host.clone()));
    let mut kinds: Vec<Option<Slot>> = servers.iter().flatten().map(|one| one.leaf.kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds
}

/// The pins of these keys.
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

/// What clients see once the key is in use: its certificate comes from the CA of the present one.
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
        // Nobody knows which CA the new one is of.
        _ => unknown()?,
    };
    Relied::default().and_leaf(pin, &keys, true)
}
