//! The addresses by which records tell places apart.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::HostVerdict;
use super::routing::{HostSet, Routing};
use super::visit::ports_or_socket;
use crate::published::{ANY_HOST, HostName, Matching, Presented};

/// Notes the addresses where blocks present different certificates for one name on one port, or a block
/// has a name on some addresses of a port alone.
pub(super) fn tell_apart(
    routing: &Routing<'_>,
    shared: &BTreeSet<u16>,
    verdicts: &mut [HostVerdict],
) {
    let mut seen: HashMap<(&HostName, Matching, bool, u16), &Option<Vec<Presented>>> =
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
                if *seen.entry(key).or_insert(&verdict.presented) != &verdict.presented {
                    mixed.insert((name.host.clone(), name.matching));
                }
            }
        }
    }
    for (host, verdict) in verdicts.iter_mut().enumerate() {
        for name in &mut verdict.names {
            let host_set = (name.host.clone(), name.matching);
            // By what stands for any name it can be told later which addresses there were.
            if mixed.contains(&host_set) || name.host.as_str() == ANY_HOST {
                let ports = ports_or_socket(&name.ports).iter();
                let all = ports.flat_map(|port| routing.addresses(&host_set, host, *port));
                let all: BTreeSet<&str> = all.collect();
                name.addresses = all.into_iter().map(str::to_owned).collect();
            }
        }
    }
}
