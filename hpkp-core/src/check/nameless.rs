//! Clients who ignore names, and the certificates that they get if no certificate is valid for the name: clients of a
//! port that compare only the leaf (RFC 7671 section 5.1). These certificates are recorded, so that a later check
//! notices when they change.

use std::collections::{BTreeMap, BTreeSet};

use super::Deployment;
use super::presented::PresentedKeys;
use super::routing::{Claim, HostSet, Led, Reached, Routing};
use crate::published::state::{Live, Record};
use crate::published::{self, ANY_HOST, HostName, Matching, Presents};

/// Whether the clients of a record ignore names: clients of a port that compare only the leaf.
pub(super) fn ignores_names(body: &published::Published) -> bool {
    (body.port.is_some() || body.tlsa.is_some()) && body.ignores_names()
}

/// By block, the names for which it answers only those who ignore names.
pub(super) type Nameless = Vec<BTreeMap<HostSet, Reached>>;

/// The names for which each block answers only clients who ignore names.
///
/// A wildcard is recorded as such. On ports where blocks present different certificates, `ANY_HOST` is recorded for
/// default servers and for blocks with patterns that a record cannot express, and each name for which clients hold pins
/// is recorded by itself.
pub(super) fn nameless(
    deployment: &Deployment,
    routing: &Routing<'_>,
    presented: &[PresentedKeys<'_>],
    live: &[Live<'_>],
) -> Nameless {
    let mut all = vec![BTreeMap::new(); presented.len()];
    let mut add = |host: usize, host_set: HostSet, claim: Claim, port: u16| {
        if deployment.hosts[host].tls && presented[host].is_known {
            let new = || Reached { claim, ports: BTreeSet::new() };
            let reached: &mut Reached = all[host].entry(host_set).or_insert_with(new);
            reached.ports.extend((port != 0).then_some(port));
        }
    };
    for (host, host_set, port) in routing.misnamed() {
        add(host, host_set, Claim::PatternOnly, port);
    }
    let is_other =
        |one: usize, other: usize| presented[one].certificates != presented[other].certificates;
    let ambiguous = routing.ports_where(is_other);
    if ambiguous.is_empty() {
        return all;
    }
    let any = ANY_HOST.parse::<HostName>();
    for (host, port) in routing.answering_any().filter(|(_, port)| ambiguous.contains(port)) {
        if let Ok(any) = &any {
            add(host, (any.clone(), Matching::Exact), Claim::AnyName, port);
        }
    }
    for live in live {
        let body = &live.record.body;
        if !ignores_names(body) || body.matching != Matching::Exact {
            continue;
        }
        let host_set = (body.host.clone(), body.matching);
        for Led { host, port, claim, .. } in routing.led_to(&host_set) {
            if body.is_on(port)
                && ambiguous.contains(&port)
                && !routing.is_elsewhere(&host_set, port)
            {
                add(host, host_set.clone(), claim, port);
            }
        }
    }
    // Names that are recorded anyway, because the certificate is valid for them, are left out.
    for (host, all) in all.iter_mut().enumerate() {
        all.retain(|host_set, reached| {
            let mut named = [routing.names(host), routing.asides(host)].into_iter();
            !named.any(|named| {
                named.get(host_set).is_some_and(|other| other.ports.is_superset(&reached.ports))
            })
        });
    }
    all
}

/// What the last accepted configuration presented on a port to clients who ignore names.
#[derive(Default)]
pub(super) struct NamelessLast<'a> {
    /// One of its records. If not `is_mixed`, all records have the same certificates.
    pub(super) only: Option<&'a Record<Presents>>,
    /// Whether its records differ in their certificates.
    pub(super) is_mixed: bool,
    /// Its records that are aside.
    pub(super) asides: Vec<&'a Record<Presents>>,
    /// Its other records whose certificates are not presented any more.
    pub(super) gone: Vec<&'a Record<Presents>>,
}
