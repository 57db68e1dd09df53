//! The addresses that a record names because a server presents different certificates on them.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::HostVerdict;
use super::route::ports_or_socket;
use super::routing::{HostSet, Routing};
use crate::published::{ANY_HOST, HostName, Matching, Presented};

/// Adds to the verdicts the addresses of names for which blocks present different certificates on one port, or
/// which a block has on only some addresses of a port.
pub(super) fn add_addresses(
    routing: &Routing<'_>,
    shared: &BTreeSet<u16>,
    verdicts: &mut [HostVerdict],
) {
    let mut first: HashMap<(&HostName, Matching, bool, u16), &Option<Vec<Presented>>> =
        HashMap::new();
    let mut mixed: HashSet<HostSet> = HashSet::new();
    for (host, verdict) in verdicts.iter().enumerate() {
        for name in &verdict.names {
            let host_set = (name.host.clone(), name.matching);
            let is_partly = |port: &u16| {
                shared.contains(port) && !routing.is_everywhere(&host_set, host, *port)
            };
            if !name.aside && name.ports.iter().any(is_partly) {
                mixed.insert(host_set);
            }
            for port in ports_or_socket(&name.ports) {
                let key = (&name.host, name.matching, name.aside, *port);
                if *first.entry(key).or_insert(&verdict.presented) != &verdict.presented {
                    mixed.insert((name.host.clone(), name.matching));
                }
            }
        }
    }
    for (host, verdict) in verdicts.iter_mut().enumerate() {
        for name in &mut verdict.names {
            let host_set = (name.host.clone(), name.matching);
            // The entry for any name always gets its addresses: a later check reads from it which addresses there
            // were.
            if mixed.contains(&host_set) || name.host.as_str() == ANY_HOST {
                let ports = ports_or_socket(&name.ports).iter();
                let all = ports.flat_map(|port| routing.addresses(&host_set, host, *port));
                let all: BTreeSet<&str> = all.collect();
                name.addresses = all.into_iter().map(str::to_owned).collect();
            }
        }
    }
}
