//! Computes the digest of a configuration.

use std::collections::BTreeSet;

use super::digest::Digest;
use super::{Deployment, Host, HostVerdict, SeenName};
use crate::published::{ANY_HOST, Fingerprint, Matching};

/// The digest of a configuration.
#[must_use]
pub fn digest(deployment: &Deployment, verdicts: &[HostVerdict]) -> Digest {
    let policies = deployment.policies_by_name();
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
                format!("{:?} {issued:?}", one.served.first())
            })
            .collect();
        let policy = host.enforced.as_ref().and_then(|one| policies.get(one.policy.as_str()));
        let policy = policy.map(|policy| {
            let (below, age) = (policy.binds_subdomains(), policy.max_age());
            format!("{:?} {below} {age:?}", policy.sorted_pins())
        });
        let parts = names.iter().chain(&slots).chain(&policy);
        // The counts separate the three lists, so that different lists cannot give the same input.
        let counts = format!("{} {} {}", names.len(), slots.len(), policy.is_some());
        let keys = Fingerprint::of(std::iter::once(&counts).chain(parts).map(String::as_bytes));
        let identities = presented.iter().filter_map(|one| one.identity.as_ref());
        let leaves: BTreeSet<Fingerprint> = identities.filter_map(|one| one.leaf).collect();
        (keys.to_string(), format!("{keys} {leaves:?}"))
    };
    let hosts =
        deployment.hosts.iter().zip(verdicts).filter(|(_, one)| one.names.iter().any(is_own));
    let (keys, leaves): (Vec<String>, Vec<String>) = hosts.map(of_host).unzip();
    let of_all = |mut all: Vec<String>| {
        all.sort_unstable();
        Fingerprint::of(all.iter().map(String::as_bytes)).half()
    };
    Digest { keys: of_all(keys), leaves: of_all(leaves) }
}

/// Whether the name depends on the configuration alone. Single names for clients who ignore names depend on the pins
/// that clients hold: they appear and disappear with these pins.
fn is_own(name: &SeenName) -> bool {
    !name.nameless || name.matching != Matching::Exact || name.host.as_str() == ANY_HOST
}
