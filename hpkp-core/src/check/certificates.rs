//! Pin validation of one policy: compares its pins with the certificates of the hosts that use it.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use super::messages::{self, Scope};
use super::{Certificates, Checker, Context, Deployment, Skipped, TrustSetting, Uses};
use crate::finding::{Class, Code};
use crate::header::Kind;
use crate::path::{Chain, Paths};
use crate::pin::Pin;
use crate::policy::Policy;
use crate::published::PinValidation;

impl<'a> Checker<'a> {
    /// Compares every certificate of the hosts with their policy.
    pub(super) fn check_certificates(&mut self, policy: &'a Policy, kind: Kind, uses: &Uses<'_>) {
        for (position, policy_use) in uses {
            let host = &self.deployment.hosts[*position];
            let scope =
                Scope { policy: policy.name(), kind, at: &policy_use.at, each_place: false };
            let mut chains = Vec::new();
            // A pin that cannot be read may be the one that matches the certificates.
            let mut is_sure = policy.problems.is_empty();
            for &context in &host.contexts {
                let Context { certificates, trust } = &self.deployment.contexts[context];
                if let Some((code, text, at)) = &trust.problem {
                    is_sure = false;
                    let scope = Scope { at, each_place: true, ..scope };
                    self.find(scope, kind, *position, *code, || text.clone());
                }
                match certificates {
                    Certificates::Loaded(loaded) => {
                        chains.extend(loaded.iter().zip(&self.paths[context]));
                    }
                    Certificates::NotKnown { why, remedy }
                        if self.is_guarded(*position, policy) =>
                    {
                        let code = Code::CertificateCheckedAtHandshake;
                        self.find(scope, kind, *position, code, || {
                            messages::checked_at_handshake(policy, why, remedy)
                        });
                    }
                    Certificates::NotKnown { why, .. }
                        if kind == Kind::Enforced && self.is_unguarded(*position, policy) =>
                    {
                        self.find(scope, kind, *position, Code::CertificateNotGuarded, || {
                            messages::not_guarded(policy, why)
                        });
                    }
                    Certificates::NotKnown { why, remedy }
                    | Certificates::Temporary { why, remedy } => {
                        self.find(scope, kind, *position, Code::CertificateNotKnownAtLoad, || {
                            messages::not_known_at_load(policy, why, remedy)
                        });
                    }
                    Certificates::Later(why) => {
                        self.find(scope, kind, *position, Code::CertificateCheckedAtStart, || {
                            messages::checked_at_start(policy, why)
                        });
                    }
                    Certificates::Unusable(code, text) => {
                        self.find(scope, kind, *position, *code, || text.clone());
                    }
                }
            }
            if is_sure {
                self.check_chains(policy, kind, scope, *position, &chains);
            }
        }
    }

    /// Whether the header of a host is sent although its certificates are not known. A policy with keywords cannot
    /// be: without a loaded certificate its keywords have no pins.
    fn is_unguarded(&self, host: usize, policy: &Policy) -> bool {
        self.deployment.unguarded.contains(&host) && !policy.has_keywords()
    }

    /// Whether the certificates of a host are compared with a policy at the handshake.
    fn is_guarded(&self, host: usize, policy: &Policy) -> bool {
        self.deployment.guarded.contains(&host) && !policy.has_keywords()
    }

    fn check_chains(
        &mut self,
        policy: &'a Policy,
        kind: Kind,
        scope: Scope<'_>,
        host: usize,
        chains: &[(&Chain, &Paths)],
    ) {
        let is_pinned = |pin| policy.has(pin);
        let validations: Vec<PinValidation> =
            chains.iter().map(|(_, paths)| paths.validate(is_pinned)).collect();
        let those = |wanted: fn(&PinValidation) -> bool| -> Vec<(&Chain, &Paths)> {
            let chosen = chains.iter().zip(&validations).filter(|(_, one)| wanted(one));
            chosen.map(|(chain, _)| *chain).collect()
        };
        let unmet = those(|one| *one == PinValidation::Fails);
        if !unmet.is_empty() {
            self.report_unmet_chains(policy, kind, scope, host, (&unmet, chains.len()));
        }
        if kind == Kind::Enforced && policy.spec.is_unpinning() {
            // Clients forget these pins, so no client refuses a certificate for them later.
            return;
        }
        let partly = those(|one| *one == PinValidation::DependsOnPath);
        if !partly.is_empty() {
            self.find(scope, kind, host, Code::PartialPathMatch, || {
                messages::partial_path_match(policy, &partly)
            });
        }
        let mut root_only = those(|one| *one != PinValidation::Fails);
        root_only.retain(|(_, paths)| !paths.sends_pinned(is_pinned));
        if !root_only.is_empty() {
            self.find(scope, kind, host, Code::RootOnlyMatch, || {
                messages::root_only_match(policy, &root_only)
            });
        }
        if !unmet.is_empty() {
            // The details of `no-pin-in-chain` already name the pins of certificates on no path.
            return;
        }
        let on_a_path: HashSet<Pin> = chains.iter().flat_map(|(_, paths)| paths.pins()).collect();
        let superfluous = chains.iter().flat_map(|(_, paths)| paths.superfluous()).find(|extra| {
            extra.pin().is_some_and(|pin| policy.has(pin) && !on_a_path.contains(&pin))
        });
        if let Some(certificate) = superfluous {
            self.find(scope, kind, host, Code::SuperfluousCertificateMatch, || {
                messages::superfluous(policy, certificate)
            });
        }
    }

    /// Reports the chains of a host, of `all` that it has, in which no key is pinned.
    fn report_unmet_chains(
        &mut self,
        policy: &'a Policy,
        kind: Kind,
        scope: Scope<'_>,
        host: usize,
        (unmet, all): (&[(&Chain, &Paths)], usize),
    ) {
        let Deployment { hosts, names, records, .. } = self.deployment;
        let serving = &hosts[host].serving;
        let is_compromised =
            |pin| records.as_ref().is_some_and(|records| records.state.is_compromised(pin));
        // If the failure is unchanged, this machine's trust store has changed, not that of the clients.
        let before = kind == Kind::Enforced
            && self.published.is_some_and(|published| published.is_failure_unchanged(host, policy));
        let class = match kind {
            // No client remembers pins with max-age=0, so nobody is locked out.
            Kind::Enforced if policy.spec.is_unpinning() && unmet.len() == all => Class::Withhold,
            Kind::Enforced if policy.spec.is_unpinning() => Class::Warning,
            Kind::Enforced if !before => Class::Lockout,
            _ => Class::Warning,
        };
        self.find_as(scope, kind, host, (Code::NoPinInChain, class), || {
            let unmet = messages::UnmetChains { chains: unmet, of: all, serving, before, names };
            messages::no_pin_in_chain(policy, kind, &unmet, &is_compromised)
        });
    }

    /// Reports a policy without a backup pin: every pin is in the chains that its hosts present
    /// (RFC 7469 section 2.5).
    pub(super) fn check_backup(&mut self, policy: &'a Policy, uses: &Uses<'_>) {
        let hosts = &self.deployment.hosts;
        let contexts: BTreeSet<usize> =
            uses.iter().flat_map(|(host, _)| &hosts[*host].contexts).copied().collect();
        let mut loaded: HashSet<Pin> = HashSet::new();
        for &context in &contexts {
            loaded.extend(self.paths[context].iter().flat_map(Paths::pins));
            let chains = self.deployment.contexts[context].certificates.loaded();
            let served = chains.iter().flat_map(Chain::certificates);
            loaded.extend(served.filter_map(|certificate| certificate.pin()));
        }
        self.check_compromised_pins(policy, uses, &loaded);
        // A pin that is the hash of something else has no key, and a thief may have a compromised key.
        let has_backup = policy.pins.iter().map(|resolved| resolved.pin).any(|pin| {
            !loaded.contains(&pin) && !self.mistaken.contains_key(&pin) && !self.is_compromised(pin)
        });
        // A pin that cannot be read may be the backup; a finding of its own reports it.
        if has_backup || loaded.is_empty() || !policy.problems.is_empty() {
            return;
        }
        let at = &policy.spec.at;
        let scope = Scope { policy: policy.name(), kind: Kind::Enforced, at, each_place: false };
        let why = |pin: Pin| match () {
            () if loaded.contains(&pin) => messages::LOADED,
            () if self.mistaken.contains_key(&pin) => "no key has this pin",
            () => "key is compromised",
        };
        let text = messages::no_backup_pin(policy, &why);
        for (host, _) in uses {
            self.find(scope, Kind::Enforced, *host, Code::NoBackupPin, || text.clone());
        }
    }

    /// Reports trusted certificates that were skipped, for hosts whose paths may lead to them.
    pub(super) fn check_trusted(&mut self) {
        for (position, host) in self.deployment.hosts.iter().enumerate() {
            let uses = [&host.enforced, &host.report_only];
            let policy_use = uses.into_iter().flatten().next().map(|one| &one.at);
            let records = self.deployment.records.as_ref().map(|records| &records.at);
            let Some(place) = policy_use.or(records) else { continue };
            let mut settings: Vec<*const TrustSetting> = Vec::new();
            for &context in &host.contexts {
                let trust = &self.deployment.contexts[context].trust;
                if settings.contains(&Arc::as_ptr(trust)) {
                    continue;
                }
                settings.push(Arc::as_ptr(trust));
                for Skipped { text, at } in &trust.skipped {
                    let at = at.as_ref().unwrap_or(place);
                    let scope =
                        Scope { policy: &text.what, kind: Kind::Enforced, at, each_place: false };
                    let code = Code::TrustedCertificateSkipped;
                    self.find(scope, Kind::Enforced, position, code, || text.clone());
                }
            }
        }
    }
}
