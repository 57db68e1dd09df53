//! The CAs and chains of the simulated world, and the paths that clients can build, by enumeration and without the code
//! under test.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use hpkp_core::certificate::Certificate;
use hpkp_core::path::{Anchor, Anchors, Chain, Trust};
use hpkp_core::pin::Pin;
use hpkp_core::published::Matching;

use crate::der::Shape;

/// A certificate: its subject, its issuer, its key, and the hosts that it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Cert {
    subject: u32,
    issuer: u32,
    pub(crate) key: u32,
    /// A position in [`HOSTS`].
    hosts: usize,
}

/// The names that leaves may have.
pub(crate) const HOSTS: [&[&str]; 5] = [
    &[],
    &["*.a.test"],
    &["a.test", "*.a.test"],
    &["b.a.test", "d.a.test", "*.b.a.test"],
    &["a.test", "b.a.test"],
];

const ROOT_1: Cert = Cert { subject: 1, issuer: 1, key: 101, hosts: 0 };
const ROOT_2: Cert = Cert { subject: 2, issuer: 2, key: 102, hosts: 0 };
const ROOTS: [Cert; 2] = [ROOT_1, ROOT_2];
const INTER_1: Cert = Cert { subject: 3, issuer: 1, key: 103, hosts: 0 };
/// The first intermediate, cross-signed by the second root.
const INTER_1_CROSS: Cert = Cert { subject: 3, issuer: 2, key: 103, hosts: 0 };
const INTER_2: Cert = Cert { subject: 4, issuer: 2, key: 104, hosts: 0 };

/// The keys that some chain has.
pub(crate) const KEYS: [u32; 9] = [101, 102, 103, 104, 110, 111, 112, 113, 114];

fn leaf(key: u32, issuer: Cert) -> Cert {
    Cert { subject: key - 100, issuer: issuer.subject, key, hosts: 0 }
}

impl Cert {
    /// Whether the certificate is for a host, by the exact name or by a wildcard, which spans one label.
    pub(crate) fn is_for(&self, host: &str) -> Option<Matching> {
        let parent = host.split_once('.').map(|(_, parent)| parent);
        if HOSTS[self.hosts].contains(&host) {
            return Some(Matching::Exact);
        }
        let mut wildcards = HOSTS[self.hosts].iter().filter_map(|name| name.strip_prefix("*."));
        wildcards.any(|domain| Some(domain) == parent).then_some(Matching::OneLabel)
    }
}

/// The chains that servers may send.
pub(crate) fn chains() -> Vec<Vec<Cert>> {
    let for_hosts = |hosts| {
        let mut chains = nameless();
        chains.iter_mut().for_each(|chain| chain[0].hosts = hosts);
        chains
    };
    (0..HOSTS.len()).flat_map(for_hosts).collect()
}

/// The chains with leaves for no host.
fn nameless() -> Vec<Vec<Cert>> {
    let mut chains = Vec::new();
    for key in 110..114 {
        chains.push(vec![leaf(key, INTER_1), INTER_1]);
        chains.push(vec![leaf(key, INTER_1), INTER_1, INTER_1_CROSS]);
        chains.push(vec![leaf(key, INTER_2), INTER_2]);
    }
    // A certificate that is on no path, a self-signed leaf, and a leaf whose issuer is trusted but not sent.
    chains.push(vec![leaf(110, INTER_1), INTER_1, INTER_2]);
    chains.push(vec![Cert { subject: 14, issuer: 14, key: 114, hosts: 0 }]);
    chains.push(vec![leaf(111, ROOT_1)]);
    // The same keys as in other chains, with other CA certificates.
    chains.push(vec![leaf(110, INTER_1), INTER_1_CROSS]);
    chains.push(vec![leaf(112, INTER_1), INTER_1_CROSS, INTER_1]);
    chains
}

/// What distinguishes a chain from others: the leaf's key, if that matters, its issuer, and the certificates above it.
pub(crate) type Slot<'a> = (Option<u32>, u32, &'a [Cert]);

pub(crate) fn slot(chain: &[Cert], matters: impl Fn(u32) -> bool) -> Slot<'_> {
    (Some(chain[0].key).filter(|key| matters(*key)), chain[0].issuer, &chain[1..])
}

/// A certificate on a path, and whether it was sent.
pub(crate) type Step = (Cert, bool);

/// Every path from the leaf to a trusted root. If no path leads to a root, every path that ends at an unknown issuer.
/// Computed once for each chain of the pool.
pub(crate) fn paths(chain: &[Cert]) -> &'static [Vec<Step>] {
    static KNOWN: LazyLock<HashMap<Vec<Cert>, Vec<Vec<Step>>>> = LazyLock::new(|| {
        let of = |chain: Vec<Cert>| {
            let mut all = Vec::new();
            extend(&chain, &ROOTS, vec![(chain[0], true)], &mut all);
            let is_anchored = |path: &Vec<Step>| ROOTS.contains(&path[path.len() - 1].0);
            if all.iter().any(is_anchored) {
                all.retain(is_anchored);
            }
            (chain, all)
        };
        chains().into_iter().map(of).collect()
    });
    &KNOWN[chain]
}

/// Every path of sent certificates only.
pub(crate) fn sent_paths(chain: &[Cert]) -> &'static [Vec<Step>] {
    static KNOWN: LazyLock<HashMap<Vec<Cert>, Vec<Vec<Step>>>> = LazyLock::new(|| {
        let of = |chain: Vec<Cert>| {
            let mut all = Vec::new();
            extend(&chain, &[], vec![(chain[0], true)], &mut all);
            (chain, all)
        };
        chains().into_iter().map(of).collect()
    });
    &KNOWN[chain]
}

fn extend(chain: &[Cert], roots: &[Cert], path: Vec<Step>, all: &mut Vec<Vec<Step>>) {
    let (last, _) = path[path.len() - 1];
    let candidates =
        chain.iter().map(|cert| (*cert, true)).chain(roots.iter().map(|r| (*r, false)));
    let mut is_end = true;
    for (issuer, sent) in candidates {
        let is_new = path.iter().all(|(cert, _)| cert.key != issuer.key);
        if issuer.subject == last.issuer && is_new && !ROOTS.contains(&last) {
            is_end = false;
            let longer = path.iter().copied().chain([(issuer, sent)]).collect();
            extend(chain, roots, longer, all);
        }
    }
    if is_end {
        all.push(path);
    }
}

pub(crate) fn pin(key: u32) -> Pin {
    let id = |number: u32| number.to_be_bytes()[3];
    let shape = Shape {
        subject: key,
        issuer: key,
        key,
        subject_key_id: Some(id(key)),
        authority_key_id: Some(id(key)),
        serial: 1,
    };
    Certificate::from_der(&shape.certificate()).unwrap().pin().unwrap()
}

fn certificate(cert: Cert) -> Arc<Certificate> {
    let id = |subject: u32| Some(subject.to_be_bytes()[3]);
    let shape = Shape {
        subject: cert.subject,
        issuer: cert.issuer,
        key: cert.key,
        subject_key_id: id(cert.subject),
        authority_key_id: id(cert.issuer),
        serial: cert.issuer.to_be_bytes()[3],
    };
    let hosts = HOSTS[cert.hosts];
    Arc::new(Certificate::from_der(&shape.certificate_for(hosts)).unwrap())
}

pub(crate) fn chain(certs: &[Cert]) -> Chain {
    Chain::new(certs.iter().map(|cert| certificate(*cert)).collect()).unwrap()
}

pub(crate) fn trust() -> Trust {
    let anchor = |cert| Anchor { certificate: certificate(cert), origin: Arc::from("roots") };
    Trust { system: Arc::new(Anchors::new(ROOTS.map(anchor))), added: None }
}
