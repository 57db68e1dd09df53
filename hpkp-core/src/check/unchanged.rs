//! What is as the last accepted configuration had it. That refuses nothing, so it is the widest door in
//! the check, and narrow: it compares, for a name on a port, the certificates that clients get, not their
//! keys alone, since another certificate of the same CA moves the path to another root. Trust anchors are
//! not compared: what this machine trusts changes nothing for clients.

use std::collections::BTreeSet;

use super::records::{Enough, Published, meet_any};
use super::routing::{ANY_HOST, Claim, Reached, Sample};
use crate::pin::Pin;
use crate::policy::Policy;
use crate::published::state::{Live, Record};
use crate::published::{
    self, Fingerprint, Lifetime, Matching, Met, Origin, Presented, Presents, State,
};

/// What tells one certificate that a server presents from another: the leaf's key, who issued it, and the
/// CA certificates that are sent, in order. A renewal with the same key by the same CA changes nothing.
type Slot<'a> = (Option<Pin>, Fingerprint, &'a [Fingerprint]);

fn slots<'a>(
    certificates: &'a [Presented],
    leaf: impl Fn(Pin) -> bool,
) -> Option<BTreeSet<Slot<'a>>> {
    let slot = |one: &'a Presented| {
        let identity = one.identity.as_ref()?;
        Some((
            one.served.first().copied().flatten().filter(|pin| leaf(*pin)),
            identity.issuer,
            identity.authorities.as_slice(),
        ))
    };
    certificates.iter().map(slot).collect()
}

/// The keys that are sent: all that a record of format 1 tells.
fn keys(
    certificates: &[Presented],
    leaf: impl Fn(Pin) -> bool,
) -> BTreeSet<(Option<Pin>, &[Option<Pin>])> {
    let mut all = BTreeSet::new();
    for one in certificates {
        let first = one.served.first().copied().flatten().filter(|pin| leaf(*pin));
        all.insert((first, one.served.get(1..).unwrap_or_default()));
    }
    all
}

/// Whether the same certificates are presented.
pub(super) fn same(recorded: &[Presented], shown: &[Presented]) -> bool {
    same_for(recorded, shown, |_| true)
}

/// Whether clients that hold `pins` build the same path, and find the same of their pins on it: the key of
/// the leaf matters only where it is one of them.
fn same_path(recorded: &[Presented], shown: &[Presented], pins: &[Pin]) -> bool {
    same_for(recorded, shown, |pin| pins.binary_search(&pin).is_ok())
}

fn same_for(
    recorded: &[Presented],
    shown: &[Presented],
    leaf: impl Fn(Pin) -> bool + Copy,
) -> bool {
    match (slots(recorded, leaf), slots(shown, leaf)) {
        (Some(recorded), Some(shown)) => recorded == shown,
        _ => keys(recorded, leaf) == keys(shown, leaf),
    }
}

impl<'a> Published<'a> {
    /// What the last accepted configuration presented to those who visit `sample` on `port`: by that
    /// name, or by the pattern that it fitted. A port of 0 stands for a socket without one, which is
    /// reached through something in front of it, on whatever port. What it presented aside counts for
    /// `claim`s of that kind alone: a name that a block has got since then is new.
    pub(super) fn presented_before(
        &self,
        sample: &Sample,
        claim: Claim,
        port: u16,
    ) -> Vec<&'a Record<Presents>> {
        let parent = sample.0.parents().next().filter(|_| sample.1 == Matching::Exact);
        let name = (sample.0.as_str(), sample.1);
        let pattern = parent.map(|parent| (parent, Matching::OneLabel));
        let any = (ANY_HOST, Matching::Exact);
        for aside in [false, true].into_iter().filter(|aside| !aside || !claim.is_served()) {
            for key in std::iter::once(name).chain(pattern).chain(aside.then_some(any)) {
                let all = self.presented_last.get(&key).into_iter().flatten().copied();
                let there = all.filter(|record| {
                    record.said.aside == aside && (port == 0 || record.said.ports.contains(&port))
                });
                let there: Vec<_> = there.collect();
                if !there.is_empty() {
                    return there;
                }
            }
        }
        Vec::new()
    }

    /// Whether the last accepted configuration had a name, with a certificate for it.
    pub(super) fn had(&self, sample: &Sample) -> bool {
        let records = self.presented_last.get(&(sample.0.as_str(), sample.1));
        records.into_iter().flatten().any(|record| !record.said.aside)
    }

    /// Whether a host presents for `sample`, on each of `ports`, the certificates that the last accepted
    /// configuration presented for it there.
    pub(super) fn is_unchanged(
        &self,
        sample: &Sample,
        (host, claim): (usize, Claim),
        ports: &BTreeSet<u16>,
    ) -> bool {
        if let Some(is_same) = self.unrecorded {
            return is_same;
        }
        let no_port = BTreeSet::from([0]);
        let ports = if ports.is_empty() { &no_port } else { ports };
        ports.iter().all(|port| self.is_unchanged_on(sample, (host, claim), *port))
    }

    fn is_unchanged_on(&self, sample: &Sample, (host, claim): (usize, Claim), port: u16) -> bool {
        let before = self.presented_before(sample, claim, port);
        let is_same = |record: &&Record<Presents>, host: usize| {
            same(&record.said.certificates, &self.shown[host].certificates)
        };
        if !before.iter().any(|record| is_same(record, host)) {
            return false;
        }
        // Where different certificates were presented for the name, on different addresses or for
        // different hosts of a pattern, nothing tells which of them this block had: it may have taken
        // the place of one that is gone.
        let is_still_presented = |record: &&Record<Presents>| {
            let level = (record.said.host.clone(), record.said.matching);
            let there = self.routing.targets(&level).into_iter();
            there.filter(|target| target.port == port).any(|target| is_same(record, target.host))
        };
        before.len() == 1 || port == 0 || before.iter().all(is_still_presented)
    }

    /// Whether clients that hold `live` got in when they visited `sample` on one of `ports` while the
    /// last accepted configuration was in effect.
    pub(super) fn got_in_before(
        &self,
        sample: &Sample,
        claim: Claim,
        ports: &BTreeSet<u16>,
        enough: &[Enough],
    ) -> bool {
        // What nobody has recorded may have let them in.
        if self.unrecorded == Some(false) {
            return true;
        }
        let is_met = |record: &Record<Presents>| {
            // Which of them a client gets is its own choice: one is enough.
            let mut certificates = record.said.certificates.iter();
            certificates.any(|one| meet_any(std::slice::from_ref(one), enough) != Met::No)
        };
        ports.iter().any(|port| {
            let mut before = self.presented_before(sample, claim, *port);
            if before.is_empty() && claim == Claim::PortOnly {
                let aside = self.presented_last.values().flatten().copied();
                before = aside.filter(|r| r.said.aside && r.said.ports.contains(port)).collect();
            }
            before.into_iter().any(is_met)
        })
    }

    /// Whether a host presents what the last accepted configuration presented and published this
    /// very policy, if there is one, for all its names.
    pub(super) fn is_host_unchanged(&self, host: usize, policy: Option<&Policy>) -> bool {
        let is_same = |(sample, reached): (&Sample, &Reached)| {
            self.is_unchanged(sample, (host, reached.claim), &reached.ports)
                && policy.is_none_or(|policy| self.was_published(sample, policy))
        };
        let mut served = self.routing.served(host).peekable();
        match policy {
            Some(_) => served.peek().is_some() && served.all(is_same),
            None => served.chain(self.routing.asides(host)).all(is_same),
        }
    }

    /// Whether the last accepted configuration published this very policy for those who visit `sample`:
    /// by that name, or by the pattern that it fitted.
    pub(super) fn was_published(&self, sample: &Sample, policy: &Policy) -> bool {
        // What is served and not on record publishes nothing that was not on record before.
        if self.unrecorded == Some(false) {
            return false;
        }
        let pins = super::sorted(policy);
        let is_it = |record: &&Record<published::Published>| {
            let said = &record.said;
            said.pins == pins
                && said.include_subdomains == policy.binds_subdomains()
                && policy.max_age().map(Lifetime::MaxAge) == Some(said.lifetime)
        };
        let of = |host, matching| self.published_last.get(&(host, matching)).into_iter().flatten();
        if of(sample.0.as_str(), sample.1).copied().any(|record| is_it(&record)) {
            return true;
        }
        let parent = sample.0.parents().next().filter(|_| sample.1 == Matching::Exact);
        parent.is_some_and(|parent| {
            let mut by_pattern = of(parent, Matching::OneLabel).copied();
            by_pattern.any(|record| is_it(&record) && !record.said.except.contains(&sample.0))
        })
    }

    /// Whether every client that holds the record got it, or got in with it, where it was shown just what
    /// the host presents now: it builds the path that it built then. `None` where nothing is known of
    /// what it saw.
    pub(super) fn is_shown_as_then(
        &self,
        state: &State,
        (live, enough): (&Live<'_>, &[Enough]),
        sample: &Sample,
        (host, claim): (usize, Claim),
        ports: &BTreeSet<u16>,
    ) -> Option<bool> {
        if let Some(is_same) = self.unrecorded {
            return Some(is_same);
        }
        let said = &live.record.said;
        let shown = &self.shown[host].certificates;
        let presents = self.presents_by_host.get(said.host.as_str());
        if let Some(presents) = presents.filter(|_| said.origin == Origin::Header) {
            let then = state.presented_with(live.record, presents);
            let mut then = then.filter(|record| !record.said.aside).peekable();
            if then.peek().is_some() {
                return Some(then.all(|record| same(&record.said.certificates, shown)));
            }
        }
        let mut is_known = false;
        for port in ports {
            let before = self.presented_before(sample, claim, *port);
            let is_met = |record: &&Record<Presents>| {
                let certificates = &record.said.certificates;
                !certificates.is_empty() && meet_any(certificates, enough) != Met::No
            };
            let mut let_in = before.into_iter().filter(is_met).peekable();
            if let_in.peek().is_none() {
                continue;
            }
            is_known = true;
            if !let_in.any(|record| same_path(&record.said.certificates, shown, &said.pins)) {
                return Some(false);
            }
        }
        is_known.then_some(true)
    }

    /// Whether some record of the last accepted configuration is of format 1, which cannot tell
    /// certificates of the same keys apart.
    pub(super) fn has_keys_alone(&self) -> bool {
        let certificates = self.presented_last.values().flatten();
        let mut certificates = certificates.flat_map(|record| &record.said.certificates);
        certificates.any(|one| one.identity.is_none())
    }
}
