//! The keys that a host presents, and their validation against the pins that clients hold.

use std::collections::HashMap;
use std::sync::Arc;

use super::dane::{self, Evidence};
use super::routing::{HostSet, is_leaf_for};
use super::slots::Got;
use super::{Certificates, Context, Deployment};
use crate::certificate::Certificate;
use crate::path::{Chain, Paths};
use crate::pin::Pin;
use crate::published::binding::united;
use crate::published::{
    self, CertificateIdentity, Fingerprint, HostName, PinValidation, Presented, Rrset, Scope,
};

/// What a host presents.
#[derive(Default)]
pub(super) struct PresentedKeys<'a> {
    /// In a fixed order, each once.
    pub(super) certificates: Vec<Presented>,
    /// The chains of these certificates, each with the position of its certificate.
    pub(super) chains: Vec<(usize, &'a Chain)>,
    /// Whether all certificates of the host are known.
    pub(super) is_known: bool,
    /// Whether the host has a certificate that the server made itself.
    pub(super) is_temporary: bool,
    /// The chains for comparison with TLSA records; empty if there are no TLSA records.
    pub(super) evidence: Vec<Evidence>,
}

impl<'a> PresentedKeys<'a> {
    /// The keys that these contexts present together.
    pub(super) fn new(
        deployment: &'a Deployment,
        paths: &[Vec<Paths>],
        contexts: &[usize],
        known: &mut Fingerprints,
    ) -> Self {
        let mut presented = Self { is_known: true, ..Self::default() };
        let mut all: Vec<(Presented, &'a Chain)> = Vec::new();
        for &context in contexts {
            let Context { certificates, trust } = &deployment.contexts[context];
            let Certificates::Loaded(chains) = certificates else {
                presented.is_known = false;
                presented.is_temporary |= matches!(certificates, Certificates::Temporary { .. });
                continue;
            };
            presented.is_known &= trust.problem.is_none();
            for (chain, paths) in chains.iter().zip(&paths[context]) {
                let served = chain.certificates().iter().map(|one| one.pin()).collect();
                match paths.keys() {
                    Some(keys) => {
                        let identity = Some(known.identity(chain));
                        all.push((Presented { served, keys, identity }, chain));
                    }
                    None => presented.is_known = false,
                }
            }
        }
        all.sort_by(|(a, _), (b, _)| a.cmp(b));
        for (one, chain) in all {
            if presented.certificates.last() != Some(&one) {
                presented.certificates.push(one);
            }
            presented.chains.push((presented.certificates.len() - 1, chain));
        }
        presented
    }

    /// Whether one of its certificates is for the hosts of `host_set`, so that clients accept it.
    pub(super) fn is_for(&self, got: Got<'_>, host_set: &HostSet) -> bool {
        let chains = self.chains.iter();
        let of_it = chains
            .filter(|(position, _)| std::ptr::eq(&raw const self.certificates[*position], got.one));
        of_it.into_iter().any(|(_, chain)| is_leaf_for(chain, host_set))
    }

    /// Pin validation of one of its certificates, for a client that needs only one of several sets.
    pub(super) fn meet_by(&self, got: Got<'_>, enough: &[Enough]) -> PinValidation {
        match enough {
            [Enough::Tlsa(set, host)] => {
                dane::meet(set, host, self.evidence.iter().filter(|one| one.is_of(got.one)))
            }
            _ => meet_any(std::slice::from_ref(got.one), enough),
        }
    }

    /// Pin validation of all certificates, for a client that needs only one of several sets.
    pub(super) fn meet(&self, enough: &[Enough]) -> PinValidation {
        match enough {
            [Enough::Tlsa(set, host)] => dane::meet(set, host, self.evidence.iter()),
            _ => meet_any(&self.certificates, enough),
        }
    }
}

/// Fingerprints of CA certificates. Each is computed once, because most hosts send the same few certificates.
#[derive(Default)]
pub(super) struct Fingerprints(HashMap<*const Certificate, Fingerprint>);

impl Fingerprints {
    /// [`Chain::identity`] with a cache. The cache uses addresses, since chains do not move while a check runs.
    fn identity(&mut self, chain: &Chain) -> CertificateIdentity {
        let mut of = |certificate: &Arc<Certificate>| {
            let known = self.0.entry(Arc::as_ptr(certificate));
            *known.or_insert_with(|| certificate.fingerprint())
        };
        CertificateIdentity {
            slot: chain.leaf().slot(),
            issuer: chain.leaf().issuer_fingerprint(),
            authorities: chain.certificates()[1..].iter().map(&mut of).collect(),
            leaf: Some(chain.leaf().fingerprint()),
        }
    }
}

/// A set of pins or TLSA records of which one match is enough for a client.
pub(super) enum Enough {
    /// One of these pins, which are sorted, must match a key of this scope.
    Pins(Scope, Vec<Pin>),
    /// One of these TLSA records must match at this host.
    Tlsa(Arc<Rrset>, HostName),
}

/// The sets of which one is enough for the client that holds `held`. `entries` are the entries of its configuration
/// that bind `host`.
pub(super) fn enough<'a>(
    held: &published::Published,
    host: &HostName,
    entries: impl Iterator<Item = &'a published::Published>,
) -> Vec<Enough> {
    match &held.tlsa {
        Some(set) => vec![Enough::Tlsa(set.clone(), host.clone())],
        None => {
            let united = united(held, entries).into_iter();
            united.map(|(scope, pins)| Enough::Pins(scope, pins)).collect()
        }
    }
}

/// Pin validation by the set that the certificates match best.
pub(super) fn meet_any(certificates: &[Presented], enough: &[Enough]) -> PinValidation {
    let met = enough.iter().map(|one| match one {
        Enough::Pins(scope, pins) => meet(certificates, *scope, pins),
        Enough::Tlsa(set, _) => dane::meet_recorded(set, certificates),
    });
    met.max().unwrap_or(PinValidation::Succeeds)
}

/// Pin validation of the certificate that matches worst, because the client chooses the certificate. The pins are
/// sorted.
pub(super) fn meet(certificates: &[Presented], scope: Scope, pins: &[Pin]) -> PinValidation {
    let meets =
        certificates.iter().map(|one| one.keys.meet(scope, |pin| pins.binary_search(&pin).is_ok()));
    meets.min().unwrap_or(PinValidation::Succeeds)
}
