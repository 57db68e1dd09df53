//! What tells one configuration from another where records cannot.

use std::collections::{BTreeSet, HashMap};

use super::routing::ANY_HOST;
use super::{Deployment, Host, HostVerdict, SeenName};
use crate::policy::Policy;
use crate::published::{Fingerprint, Matching};

/// What tells a configuration from others: for each host, the names by which it is reached, the
/// certificates that it presents and the policy that it has. Trust anchors and records are no part of it.
/// Kept where a configuration takes effect and cannot be recorded ([`Records::unrecorded`](super::Records::unrecorded)).
#[must_use]
pub fn digest(deployment: &Deployment, verdicts: &[HostVerdict]) -> Fingerprint {
    let policies: HashMap<&str, &Policy> =
        deployment.policies.iter().map(|policy| (policy.name(), policy)).collect();
    // A renewal with the same key is the same configuration, unless somebody compares certificates.
    let records = deployment.records.iter().flat_map(|records| records.state.published());
    let mut sets = records.filter_map(|record| record.body.tlsa.as_ref());
    let is_leaf_named = sets.any(|set| set.names_leaf_certificate());
    let of_host = |(host, verdict): (&Host, &HostVerdict)| {
        let names = verdict.names.iter().filter(|name| is_own(name));
        let names: Vec<String> = names
            .map(|SeenName { host, matching, except, ports, aside, nameless, addresses }| {
                format!("{host} {matching:?} {except:?} {ports:?} {aside} {nameless} {addresses:?}")
            })
            .collect();
        let presented = verdict.presented.as_deref().unwrap_or_default();
        let slots: BTreeSet<String> = presented
            .iter()
            .map(|one| {
                let identity = one.identity.as_ref();
                let issued = identity.map(|one| (&one.issuer, &one.authorities));
                let leaf = identity.and_then(|one| one.leaf).filter(|_| is_leaf_named);
                format!("{:?} {issued:?} {leaf:?}", one.served.first())
            })
            .collect();
        let policy = host.enforced.as_ref().and_then(|one| policies.get(one.policy.as_str()));
        let policy = policy.map(|policy| {
            let (below, age) = (policy.binds_subdomains(), policy.max_age());
            format!("{:?} {below} {age:?}", policy.sorted_pins())
        });
        let parts = names.iter().chain(&slots).chain(&policy);
        // How many there are of each keeps them apart.
        let counts = format!("{} {} {}", names.len(), slots.len(), policy.is_some());
        Fingerprint::of(std::iter::once(&counts).chain(parts).map(String::as_bytes))
    };
    let hosts =
        deployment.hosts.iter().zip(verdicts).filter(|(_, one)| one.names.iter().any(is_own));
    let mut all: Vec<String> = hosts.map(|one| of_host(one).to_string()).collect();
    all.sort_unstable();
    Fingerprint::of(all.iter().map(String::as_bytes))
}

/// Whether it is of the configuration alone. Single names for which only those come in who ignore names come
/// and go with the pins that somebody holds for them.
fn is_own(name: &SeenName) -> bool {
    !name.nameless || name.matching != Matching::Exact || name.host.as_str() == ANY_HOST
}
