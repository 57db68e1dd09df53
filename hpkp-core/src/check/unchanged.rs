//! What is as the last accepted configuration had it. That refuses nothing, so it is the widest door in
//! the check, and narrow.
//!
//! What each function compares, always for a name on a port:
//! - `is_slot_unchanged` (in `slots`): of one certificate, the key of its leaf, the leaf's issuer name and
//!   authority key identifier, and the DER of each CA certificate sent, in order. Never keys alone, since
//!   another certificate of the same CA moves the path to another root. A record of format 1 has keys alone.
//! - `is_unchanged`: that, of every certificate of a host; `is_kept`: of one certificate, and against
//!   those alone that let certain clients in.
//! - `is_host_unchanged`: `is_unchanged` for every name of a host, and that the same policy was published.
//! - `is_presentation_unchanged`: against what the clients of one record saw when they got their pins;
//!   where no record says that, of the leaf's key only whether it is one of their pins.
//! - `is_withholding_unchanged`, `is_failure_unchanged`: for every name of a host, its policy, withheld or
//!   published, and `is_kept` of those certificates that do not meet it.
//! - `is_leaf_unchanged` (in `dane_check`): the DER of the leaf, for clients that compare more of it than
//!   the key.
//!
//! None compares trust anchors: what this machine trusts changes nothing for clients. Where the last
//! configuration could not be recorded, each answers whether its digest is that of this one, except
//! `is_leaf_unchanged`, which leaves that to the others.

use std::collections::BTreeSet;

use super::presented::{Enough, PresentedKeys, meet_any};
use super::records::{Published, names_of};
use super::routing::{ANY_HOST, Claim, HostSet, Reached};
use super::slots::{Got, is_one, is_same, same};
use crate::pin::Pin;
use crate::policy::Policy;
use crate::published::state::{Live, Record};
use crate::published::{
    self, Lifetime, Matching, Origin, PinValidation, Presented, Presents, Scope, State,
};

/// Whether a certificate lets in some of those who need one of `enough` alone.
pub(super) fn lets_in(enough: &[Enough]) -> impl Fn(&Presented) -> bool + Copy {
    |one| meet_any(std::slice::from_ref(one), enough) != PinValidation::Fails
}

impl<'a> Published<'a> {
    /// What the last accepted configuration presented to those who visit `host_set` on `port`: by that
    /// name, or by the pattern that it fitted. A port of 0 stands for a socket without one, which is
    /// reached through something in front of it, on whatever port. What it presented aside counts for
    /// `claim`s of that kind alone: a name that a block has got since then is new. Where names are
    /// ignored, it is whatever was presented on the port.
    pub(super) fn presented_before(
        &self,
        host_set: &HostSet,
        claim: Claim,
        port: u16,
    ) -> Vec<&'a Record<Presents>> {
        let is_there = |record: &&Record<Presents>, aside: bool| {
            record.body.aside == aside && (port == 0 || record.body.ports.contains(&port))
        };
        let any = (ANY_HOST, Matching::Exact);
        for aside in [false, true].into_iter().filter(|aside| !aside || !claim.is_served()) {
            for key in names_of(host_set).chain(aside.then_some(any)) {
                let all = self.presented_last.get(&key).into_iter().flatten().copied();
                let mut there: Vec<_> = all.filter(|record| is_there(record, aside)).collect();
                // Who has no port beside others that have some is the socket itself.
                let is_socket = |record: &&Record<Presents>| record.body.ports.is_empty();
                if port == 0 && there.iter().any(is_socket) {
                    there.retain(is_socket);
                }
                if !there.is_empty() {
                    return there;
                }
            }
        }
        if !matches!(claim, Claim::PortOnly | Claim::AnyName) {
            return Vec::new();
        }
        let [asides, gone] = self.nameless_last.get_or_init(|| self.nameless_last());
        let asides: Vec<_> =
            asides.iter().copied().filter(|record| is_there(record, true)).collect();
        if claim == Claim::PortOnly || !asides.is_empty() {
            return asides;
        }
        gone.iter().copied().filter(|record| is_there(record, false)).collect()
    }

    /// What the last accepted configuration presented aside, and what of the rest is not presented any
    /// more: who was led there without a name of that certificate's may have got it.
    fn nameless_last(&self) -> [Vec<&'a Record<Presents>>; 2] {
        let all = self.presented_last.values().flatten().copied();
        let (asides, named): (Vec<_>, Vec<_>) = all.partition(|record| record.body.aside);
        let is_gone = |record: &&Record<Presents>| {
            !record.body.ports.iter().all(|port| self.is_still_presented(record, *port))
        };
        [asides, named.into_iter().filter(is_gone).collect()]
    }

    /// Whether the last accepted configuration presented a certificate on one of these ports, for whatever
    /// name.
    pub(super) fn was_presented_on(&self, ports: &BTreeSet<u16>, got: Got<'_>) -> bool {
        let there = self.presented_last.values().flatten();
        let mut there =
            there.filter(|record| record.body.ports.iter().any(|port| ports.contains(port)));
        there.any(|record| record.body.certificates.iter().any(|was| is_same(was, got.one)))
    }

    /// Whether somebody presents what a record of the last accepted configuration says, on a port.
    fn is_still_presented(&self, record: &Record<Presents>, port: u16) -> bool {
        let level = (record.body.host.clone(), record.body.matching);
        let there = self.routing.targets(&level).into_iter();
        there.filter(|target| target.port == port).any(|target| {
            same(&record.body.certificates, &self.presented[target.host].certificates)
        })
    }

    /// Whether the last accepted configuration had a name, or answered for it by a pattern, with a
    /// certificate for it.
    pub(super) fn had(&self, host_set: &HostSet) -> bool {
        names_of(host_set).any(|name| self.presented_last.contains_key(&name))
    }

    /// Whether a host presents for `host_set`, on each of `ports`, the certificates that the last accepted
    /// configuration presented for it there.
    pub(super) fn is_unchanged(
        &self,
        host_set: &HostSet,
        (host, claim): (usize, Claim),
        ports: &BTreeSet<u16>,
    ) -> bool {
        if let Some(is_same) = self.unrecorded {
            return is_same;
        }
        let all = &self.presented[host].certificates;
        if all.is_empty() {
            let is_empty = |port| {
                let mut before = self.presented_before(host_set, claim, port).into_iter();
                before.any(|record| record.body.certificates.is_empty())
            };
            return or_none(ports).into_iter().all(is_empty);
        }
        Got::each(all).all(|got| self.is_kept((host_set, claim), ports, got, &|_: &Presented| true))
    }

    /// Whether those who get a certificate of a host when they visit `host_set` on one of `ports`, and were
    /// let in by what they got there from the last accepted configuration, got the same then.
    pub(super) fn is_kept(
        &self,
        (host_set, claim): (&HostSet, Claim),
        ports: &BTreeSet<u16>,
        got: Got<'_>,
        let_in: &dyn Fn(&Presented) -> bool,
    ) -> bool {
        if let Some(is_same) = self.unrecorded {
            return is_same;
        }
        let on = |port| self.is_kept_on((host_set, claim), port, got, let_in);
        or_none(ports).into_iter().all(on)
    }

    fn is_kept_on(
        &self,
        (host_set, claim): (&HostSet, Claim),
        port: u16,
        got: Got<'_>,
        let_in: &dyn Fn(&Presented) -> bool,
    ) -> bool {
        let before = self.presented_before(host_set, claim, port);
        let mut same =
            before.iter().filter(|r| got.is_slot_unchanged(&r.body.certificates, let_in));
        if before.len() == 1 || port == 0 {
            return same.next().is_some();
        }
        // Where different certificates were presented for the name, on different addresses or for
        // different hosts of a pattern, nothing tells which of them this block had: it may have taken
        // the place of one that is gone.

        let is_harmless = |record: &&Record<Presents>| {
            self.is_still_presented(record, port)
                || got
                    .predecessors(&record.body.certificates)
                    .all(|was| is_same(was, got.one) || !let_in(was))
        };
        let had_it = |record: &&Record<Presents>| {
            record.body.certificates.iter().any(|was| is_same(was, got.one))
        };
        before.iter().any(had_it) && before.iter().all(is_harmless)
    }

    /// Whether clients that need one of `enough` got in when they visited `host_set` on one of `ports` while
    /// the last accepted configuration was in effect, and get this certificate now.
    pub(super) fn got_in_before(
        &self,
        (host_set, claim): (&HostSet, Claim),
        ports: &BTreeSet<u16>,
        got: Got<'_>,
        enough: &[Enough],
    ) -> bool {
        // What nobody has recorded may have let them in.
        if self.unrecorded == Some(false) {
            return true;
        }
        let let_in = lets_in(enough);
        let is_met =
            |record: &Record<Presents>| got.predecessors(&record.body.certificates).any(let_in);
        let before = |port: &u16| self.presented_before(host_set, claim, *port);
        ports.iter().flat_map(before).any(is_met)
    }

    /// Whether a host presents what the last accepted configuration presented and published this
    /// very policy, if there is one, for all its names.
    pub(super) fn is_host_unchanged(&self, host: usize, policy: Option<&Policy>) -> bool {
        let is_same = |(host_set, reached): (&HostSet, &Reached)| {
            self.is_unchanged(host_set, (host, reached.claim), &reached.ports)
                && policy.is_none_or(|policy| self.was_published(host_set, policy))
        };
        let mut served = self.routing.served(host).peekable();
        match policy {
            Some(_) => served.peek().is_some() && served.all(is_same),
            None => served.chain(self.routing.asides(host)).all(is_same),
        }
    }

    /// Whether the last accepted configuration published this very policy for those who visit `host_set`:
    /// by that name, or by the pattern that it fitted.
    pub(super) fn was_published(&self, host_set: &HostSet, policy: &Policy) -> bool {
        // What is served and not on record publishes nothing that was not on record before.
        if self.unrecorded == Some(false) {
            return false;
        }
        let pins = policy.sorted_pins();
        let is_it = |record: &&Record<published::Published>| {
            let body = &record.body;
            body.pins == pins
                && body.include_subdomains == policy.binds_subdomains()
                && policy.max_age().map(Lifetime::MaxAge) == Some(body.lifetime)
        };
        let of = |host, matching| self.published_last.get(&(host, matching)).into_iter().flatten();
        if of(host_set.0.as_str(), host_set.1).copied().any(|record| is_it(&record)) {
            return true;
        }
        let parent = host_set.0.parents().next().filter(|_| host_set.1 == Matching::Exact);
        parent.is_some_and(|parent| {
            let mut by_pattern = of(parent, Matching::OneLabel).copied();
            by_pattern.any(|record| is_it(&record) && !record.body.except.contains(&host_set.0))
        })
    }

    /// Whether every client that holds the record and gets this certificate got the pins, or got in with
    /// them, where it was shown just the same: it builds the path that it built then. `None` where nothing
    /// is known of what it saw.
    pub(super) fn is_presentation_unchanged(
        &self,
        state: &State,
        (live, enough): (&Live<'_>, &[Enough]),
        (host_set, claim): (&HostSet, Claim),
        got: Got<'_>,
        ports: &BTreeSet<u16>,
    ) -> Option<bool> {
        if let Some(is_same) = self.unrecorded {
            return Some(is_same);
        }
        let body = &live.record.body;
        let let_in = lets_in(enough);
        let presents = self.presents_by_host.get(body.host.as_str());
        if let Some(presents) = presents.filter(|_| body.origin == Origin::Header) {
            let then = state.presented_with(live.record, presents);
            let mut then = then.filter(|record| !record.body.aside).peekable();
            if then.peek().is_some() {
                return Some(
                    then.all(|record| got.is_slot_unchanged(&record.body.certificates, let_in)),
                );
            }
        }
        let is_pinned = |pin: Pin| body.pins.binary_search(&pin).is_ok();
        let mut is_known = false;
        for port in ports {
            let before = self.presented_before(host_set, claim, *port);
            // Those of each record that let them in, and in whose place they get this one.
            let let_in = before.into_iter().map(|record| {
                let all = got.predecessors(&record.body.certificates);
                all.filter(|was| let_in(was)).collect::<Vec<_>>()
            });
            let mut let_in = let_in.filter(|all| !all.is_empty()).peekable();
            if let_in.peek().is_none() {
                continue;
            }
            is_known = true;
            // They find the same of their pins on the same path: the key of the leaf matters only where
            // it is one of them.
            if !let_in.any(|all| all.into_iter().all(|was| is_one(was, got.one, is_pinned))) {
                return Some(false);
            }
        }
        is_known.then_some(true)
    }

    /// Whether the last accepted configuration had this very policy for a host, presented what does not
    /// meet it, and did not send its header for a lock-out. A refusal would then protect nobody.
    pub(super) fn is_withholding_unchanged(&self, host: usize, policy: &Policy) -> bool {
        if let Some(is_same) = self.unrecorded {
            // What has no names is in no digest.
            return is_same && self.routing.served(host).next().is_some();
        }
        let pins = policy.sorted_pins();
        let mut served = self.routing.served(host).peekable();
        served.peek().is_some()
            && served.all(|(host_set, reached)| {
                let before = self.withheld_last.get(&(host_set.0.as_str(), host_set.1));
                before.into_iter().flatten().any(|record| {
                    record.body.pins == pins
                        && record.body.include_subdomains == policy.binds_subdomains()
                }) && self.keeps_refusing(host, &pins, host_set, reached)
            })
    }

    /// Whether what does not meet the pins of a host's own policy is what the last accepted configuration
    /// presented for a name.
    fn keeps_refusing(
        &self,
        host: usize,
        pins: &[Pin],
        host_set: &HostSet,
        Reached { claim, ports }: &Reached,
    ) -> bool {
        let PresentedKeys { certificates, is_known, .. } = &self.presented[host];
        if !is_known {
            return self.is_unchanged(host_set, (host, *claim), ports);
        }
        let enough = [Enough::Pins(Scope::Chain, pins.to_vec())];
        let let_in = lets_in(&enough);
        let mut refusing = Got::each(certificates).filter(|got| !let_in(got.one));
        refusing.all(|got| self.is_kept((host_set, *claim), ports, got, &let_in))
    }

    /// Whether the last accepted configuration published this very policy for all names of a host, and
    /// presented what does not meet it.
    pub(super) fn is_failure_unchanged(&self, host: usize, policy: &Policy) -> bool {
        let pins = policy.sorted_pins();
        let mut served = self.routing.served(host).peekable();
        served.peek().is_some()
            && served.all(|(host_set, reached)| {
                self.was_published(host_set, policy)
                    && self.keeps_refusing(host, &pins, host_set, reached)
            })
    }

    /// Whether some record of the last accepted configuration is of format 1, which cannot tell
    /// certificates of the same keys apart.
    pub(super) fn has_keys_alone(&self) -> bool {
        let certificates = self.presented_last.values().flatten();
        let mut certificates = certificates.flat_map(|record| &record.body.certificates);
        certificates.any(|one| one.identity.is_none())
    }
}

/// A port of 0 stands for a socket without one.
fn or_none(ports: &BTreeSet<u16>) -> Vec<u16> {
    if ports.is_empty() { vec![0] } else { ports.iter().copied().collect() }
}
