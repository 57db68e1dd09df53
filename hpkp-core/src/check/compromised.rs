//! Compromised keys: reports those that the server presents or that its policies pin. Neither is a reason to refuse
//! a configuration: the refused reload may be the one that brings the other hosts new certificates.

use std::collections::{BTreeMap, HashSet};

use super::messages::{self, Compromised, Scope};
use super::{Checker, Records, Uses};
use crate::finding::Code;
use crate::header::Kind;
use crate::pin::Pin;
use crate::policy::Policy;

impl<'a> Checker<'a> {
    pub(super) fn is_compromised(&self, pin: Pin) -> bool {
        self.deployment.records.as_ref().is_some_and(|records| records.state.is_compromised(pin))
    }

    /// Reports compromised keys that hosts present.
    pub(super) fn check_compromised(&mut self) {
        let Some(records) = &self.deployment.records else { return };
        for (position, host) in self.deployment.hosts.iter().enumerate() {
            let found = self.compromised(records, position);
            for one in found.values() {
                let uses = [&host.enforced, &host.report_only];
                let at = uses.into_iter().flatten().next().map_or(&records.at, |one| &one.at);
                let pin = one.pin.to_string();
                let scope = Scope { policy: &pin, kind: Kind::Enforced, at, each_place: false };
                let enforced = host.enforced.as_ref();
                let policy = enforced.and_then(|one| self.policies.get(one.policy.as_str()));
                let text = messages::compromised_key_loaded(one, policy.copied(), &|pin| {
                    records.state.is_compromised(pin)
                });
                self.find(scope, Kind::Enforced, position, Code::CompromisedKeyLoaded, || text);
            }
        }
    }

    /// The compromised keys in the certificates that a host sends, and above them on the paths of clients.
    fn compromised(&self, records: &'a Records, host: usize) -> BTreeMap<Pin, Compromised<'a>> {
        let mut found = BTreeMap::new();
        for chain in self.deployment.chains(host) {
            for (depth, certificate) in chain.certificates().iter().enumerate() {
                let Some(pin) = certificate.pin() else { continue };
                let Some(why) = records.state.compromised(pin) else { continue };
                let subject = certificate.subject().to_owned();
                let one = Compromised { pin, why, is_leaf: depth == 0, subject };
                let known = found.entry(pin).or_insert(one);
                known.is_leaf |= depth == 0;
            }
        }
        for context in &self.deployment.hosts[host].contexts {
            for pin in self.paths[*context].iter().flat_map(crate::path::Paths::pins) {
                let Some(why) = records.state.compromised(pin) else { continue };
                let subject = "a trusted certificate above the sent ones".to_owned();
                found.entry(pin).or_insert(Compromised { pin, why, is_leaf: false, subject });
            }
        }
        found
    }

    /// Reports pins of compromised keys that the hosts of the policy do not present: they are useless as backup.
    pub(super) fn check_compromised_pins(
        &mut self,
        policy: &'a Policy,
        uses: &Uses<'_>,
        loaded: &HashSet<Pin>,
    ) {
        let Some(records) = &self.deployment.records else { return };
        for (index, resolved) in policy.pins.iter().enumerate() {
            let Some(why) = records.state.compromised(resolved.pin) else { continue };
            let is_repeated = policy.pins[..index].iter().any(|other| other.pin == resolved.pin);
            // For a loaded key there is `compromised-key-loaded`.
            if is_repeated || loaded.contains(&resolved.pin) {
                continue;
            }
            let at = &resolved.at;
            let scope = Scope { policy: policy.name(), kind: Kind::Enforced, at, each_place: true };
            for (host, _) in uses {
                self.find(scope, Kind::Enforced, *host, Code::CompromisedKeyPinned, || {
                    messages::compromised_key_pinned(policy, resolved.pin, why)
                });
            }
        }
    }
}
