//! Warnings about the future: the next renewal, the next key, a CA that is distrusted. The check refuses
//! and withholds nothing for them.

use std::collections::BTreeSet;

use super::PolicyUse;
use super::ahead_messages::{self as messages, NextKey};
use super::checker::Checker;
use super::messages::Scope;
use super::renewal::Renewals;
use crate::ca_table::{self, CaKey};
use crate::certificate::Certificate;
use crate::finding::Code;
use crate::header::Kind;
use crate::path::{Chain, Paths};
use crate::pin::Pin;
use crate::policy::Policy;
use crate::published::PinValidation;
use crate::published::state::{DRAINING, Retention};

/// A host with a policy, and what it presents.
struct Ahead<'a> {
    host: usize,
    policy: &'a Policy,
    scope: Scope<'a>,
    chains: Vec<(&'a Chain, &'a Paths)>,
}

impl<'a> Checker<'a> {
    /// Looks ahead for every host whose policy is enforced.
    pub(super) fn check_ahead(&mut self, now: i64) {
        let uses: Vec<(usize, &PolicyUse)> = self.uses(Kind::Enforced).collect();
        for (host, policy_use) in uses {
            let Some(&policy) = self.policies.get(policy_use.policy.as_str()) else { continue };
            let is_pinning = policy.max_age().is_some() && !policy.spec.is_unpinning();
            if !self.deployment.hosts[host].tls || !is_pinning {
                continue;
            }
            let scope = Scope {
                policy: policy.name(),
                kind: Kind::Enforced,
                at: &policy_use.at,
                each_place: false,
            };
            let ahead = Ahead { host, policy, scope, chains: self.chains_of(host) };
            self.check_next_key(&ahead, now);
            self.check_rotation(&ahead);
            self.check_roots(&ahead);
            self.check_operators(&ahead);
        }
    }

    fn chains_of(&self, host: usize) -> Vec<(&'a Chain, &'a Paths)> {
        let contexts = &self.deployment.hosts[host].contexts;
        let loaded = contexts.iter().flat_map(|context| {
            let chains = self.deployment.contexts[*context].certificates.loaded();
            chains.iter().zip(&self.paths[*context])
        });
        loaded.collect()
    }

    /// If a policy pins only the certificate's own key: whether the next certificate can have another key.
    fn check_next_key(&mut self, ahead: &Ahead<'a>, now: i64) {
        let own_key_alone = |(chain, paths): &(&'a Chain, &'a Paths)| {
            let own = chain.leaf().pin();
            let others = |pin| ahead.policy.has(pin) && Some(pin) != own;
            own.is_some_and(|own| ahead.policy.has(own))
                && paths.validate(others) == PinValidation::Fails
        };
        let chains = ahead.chains.iter().filter(|chain| own_key_alone(chain));
        let leaves = chains.map(|(chain, _)| chain.leaf());
        let Some(leaf) = leaves.min_by_key(|leaf| leaf.not_after()) else { return };
        let Some(age) = ahead.policy.max_age() else { return };
        let Renewals::NewKey { interval, recorded } = self.renewals(ahead.host, leaf) else {
            return;
        };
        if leaf.not_after() <= now {
            return;
        }
        let wait = i64::from(age.seconds()) + DRAINING;
        let allowed = self.forgotten(ahead.host, now).max(now.saturating_add(wait));
        let names = self.deployment.names;
        if wait > interval {
            self.find(ahead.scope, Kind::Enforced, ahead.host, Code::MaxAgeExceedsRenewal, || {
                let about = NextKey { leaf, allowed, names: &names };
                messages::max_age_exceeds_renewal(ahead.policy, interval, recorded, &about)
            });
        }
        if leaf.not_after() < allowed {
            let code = Code::CertificateExpiresBeforeNewKey;
            self.find(ahead.scope, Kind::Enforced, ahead.host, code, || {
                let about = NextKey { leaf, allowed, names: &names };
                messages::expires_before_new_key(ahead.policy, &about)
            });
        }
    }

    /// When the last clients have forgotten the pins of earlier headers that they may hold for a host.
    fn forgotten(&self, host: usize, now: i64) -> i64 {
        let Some(published) = self.published else { return 0 };
        let names = published.routing.names(host).keys();
        let held = names.flat_map(|name| published.binding(name));
        let until = held.filter_map(|(live, _)| match live.retention {
            Retention::Until(time) => Some(time),
            // The running configuration still sends these pins, perhaps with a longer max-age than this one.
            Retention::WhilePublished(after) => Some(now.saturating_add(after)),
            Retention::Indefinite => None,
        });
        until.max().unwrap_or(0)
    }

    /// Warns if the CA does not always issue from a pinned intermediate, and no other pin lets clients in.
    fn check_rotation(&mut self, ahead: &Ahead<'_>) {
        let policy = ahead.policy;
        let rotating = |pin: Pin| ca_table::find(pin).filter(|key| key.rotation.is_some());
        let pinned: Vec<&CaKey> = policy.distinct_pins().into_iter().filter_map(rotating).collect();
        let holds = |paths: &Paths| {
            let others = |pin| policy.has(pin) && rotating(pin).is_none();
            paths.validate(others) != PinValidation::Fails
        };
        let is_safe =
            !ahead.chains.is_empty() && ahead.chains.iter().all(|(_, paths)| holds(paths));
        if pinned.is_empty() || is_safe {
            return;
        }
        let rotations: BTreeSet<&str> = pinned.iter().filter_map(|key| key.rotation).collect();
        let siblings = rotations.into_iter().flat_map(ca_table::in_rotation);
        let missing: Vec<(Pin, &CaKey)> = siblings.filter(|(pin, _)| !policy.has(*pin)).collect();
        if missing.is_empty() {
            return;
        }
        let leaf = ahead.leaf();
        self.find(ahead.scope, Kind::Enforced, ahead.host, Code::IntermediateInRotation, || {
            messages::in_rotation(policy, &pinned, &missing, leaf)
        });
    }

    /// Warns of pinned roots that are missing from a trust store.
    fn check_roots(&mut self, ahead: &Ahead<'_>) {
        let of = |pin: Pin| {
            let key = ca_table::find(pin)?;
            let missing: Vec<&str> = key.missing_stores().collect();
            (!missing.is_empty()).then_some((pin, key, missing))
        };
        let roots: Vec<_> = ahead.policy.distinct_pins().into_iter().filter_map(of).collect();
        if roots.is_empty() {
            return;
        }
        self.find(ahead.scope, Kind::Enforced, ahead.host, Code::PinnedRootNotInAllStores, || {
            messages::not_in_all_stores(ahead.policy, &roots)
        });
    }

    /// Warns if all pins are keys of one CA: if that CA is distrusted or issues no certificate, no other
    /// certificate matches the policy.
    fn check_operators(&mut self, ahead: &Ahead<'_>) {
        let operators: Option<BTreeSet<&str>> =
            ahead.policy.distinct_pins().into_iter().map(|pin| ahead.operator(pin)).collect();
        let Some(operators) = operators else { return };
        let mut operators = operators.into_iter();
        let (Some(operator), None) = (operators.next(), operators.next()) else { return };
        let leaf = ahead.leaf();
        self.find(ahead.scope, Kind::Enforced, ahead.host, Code::PinsOfOneCa, || {
            messages::pins_of_one_ca(ahead.policy, operator, leaf)
        });
    }
}

impl<'a> Ahead<'a> {
    /// The leaf that expires first.
    fn leaf(&self) -> Option<&'a Certificate> {
        let leaves = self.chains.iter().map(|(chain, _)| &**chain.leaf());
        leaves.min_by_key(|leaf| leaf.not_after())
    }

    /// The operator of the CA that has this key; none if the key may be anybody's.
    fn operator(&self, pin: Pin) -> Option<&'a str> {
        if let Some(key) = ca_table::find(pin) {
            return Some(key.operator);
        }
        // The table does not have this CA, but its key is above a loaded certificate.
        let above = self.chains.iter().find(|(chain, paths)| {
            chain.leaf().pin() != Some(pin) && paths.pins().any(|one| one == pin)
        });
        let (chain, paths) = above?;
        let known = paths.pins().find_map(ca_table::find);
        Some(known.map_or_else(|| chain.leaf().issuer(), |key| key.operator))
    }
}
