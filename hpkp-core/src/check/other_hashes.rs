//! Pins that are the hash of something other than a key, most often of a whole certificate. The check finds them by
//! hashing all loaded certificates in the ways in which people do it by mistake.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::{Checker, Deployment, Uses};
use crate::certificate::Certificate;
use crate::finding::Code;
use crate::header::Kind;
use crate::other_hash::{self, HashOf};
use crate::path::Chain;
use crate::pin::Pin;
use crate::policy::{PinSource, Policy};

use super::messages::{self, Mistaken, Scope};

/// The pins of the policies that are the hash of something other than a key.
pub(super) fn mistaken(deployment: &Deployment) -> HashMap<Pin, Mistaken> {
    let mut literals: HashSet<Pin> = HashSet::new();
    for policy in &deployment.policies {
        literals.extend(policy.spec.pins.iter().filter_map(|setting| match setting.source {
            PinSource::Literal(pin) => Some(pin),
            PinSource::File(_) | PinSource::Role(_) => None,
        }));
    }
    let mut search = Search { literals, seen: HashSet::new(), found: HashMap::new() };
    for policy in &deployment.policies {
        for (pin, of, file) in policy.other_hashes.iter() {
            search.compare(*pin, *of, || format!("in \"{file}\""));
        }
    }
    for context in &deployment.contexts {
        let chains = context.certificates.loaded();
        for certificate in chains.iter().flat_map(Chain::certificates) {
            search.certificate(certificate, "loaded");
        }
        for chain in chains {
            search.chain(chain);
        }
    }
    let mut stores = HashSet::new();
    for context in &deployment.contexts {
        let trust = &context.trust.trust;
        for anchors in std::iter::once(&trust.system).chain(&trust.added) {
            if stores.insert(Arc::as_ptr(anchors)) {
                for anchor in anchors.all() {
                    search.certificate(&anchor.certificate, &anchor.origin);
                }
            }
        }
    }
    search.found
}

struct Search {
    /// The pins that have not been identified yet.
    literals: HashSet<Pin>,
    /// The certificates that have been hashed, by address, because hosts share certificates.
    seen: HashSet<*const Certificate>,
    found: HashMap<Pin, Mistaken>,
}

impl Search {
    fn certificate(&mut self, certificate: &Arc<Certificate>, origin: &str) {
        // A pin of a loaded key needs no search.
        if let Some(pin) = certificate.pin() {
            self.literals.remove(&pin);
        }
        if self.literals.is_empty() || !self.seen.insert(Arc::as_ptr(certificate)) {
            return;
        }
        for (pin, of) in certificate.other_hashes() {
            self.compare(pin, of, || {
                let right = match certificate.pin() {
                    Some(pin) => format!("; the pin of that key is sha256/{pin}"),
                    None => String::new(),
                };
                format!("{} ({origin}){right}", certificate.subject())
            });
        }
    }

    /// The text of all that a server sends: a file such as fullchain.pem.
    fn chain(&mut self, chain: &Chain) {
        let [leaf, _, ..] = chain.certificates() else { return };
        if self.literals.is_empty() {
            return;
        }
        let all = chain.certificates().iter().map(|certificate| certificate.der());
        for (pin, of) in other_hash::of_chain(all) {
            self.compare(pin, of, || format!("{} (loaded)", leaf.subject()));
        }
    }

    fn compare(&mut self, pin: Pin, of: HashOf, object: impl FnOnce() -> String) {
        if self.literals.remove(&pin) {
            self.found.insert(pin, Mistaken { of, object: object() });
        }
    }
}

impl<'a> Checker<'a> {
    /// Names the pins of a policy that no key can match.
    pub(super) fn check_mistaken(&mut self, policy: &'a Policy, kind: Kind, uses: &Uses<'_>) {
        for (index, resolved) in policy.pins.iter().enumerate() {
            let is_repeated = policy.pins[..index].iter().any(|other| other.pin == resolved.pin);
            if is_repeated || !self.mistaken.contains_key(&resolved.pin) {
                continue;
            }
            for (host, _) in uses {
                let text = self
                    .mistaken
                    .get(&resolved.pin)
                    .map(|mistaken| messages::pin_not_spki_hash(policy, resolved.pin, mistaken));
                let scope =
                    Scope { policy: policy.name(), kind, at: &resolved.at, each_place: true };
                self.find(scope, kind, *host, Code::PinNotSpkiHash, || text.unwrap_or_default());
            }
        }
    }
}
