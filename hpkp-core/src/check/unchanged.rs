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
//! configuration could not be recorded, each answers whether its digest is that of this one: of the keys,
//! or, for `is_leaf_unchanged`, of the leaf certificates.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::nameless::NamelessLast;
use super::presented::{Enough, PresentedKeys, meet_any};
use super::records::{Published, names_of};
use super::routing::{Claim, HostSet, Reached};
use super::slots::{Got, is_one, is_same, same};
use super::visit::{Place, Visit, ports_or_socket};
use crate::pin::Pin;
use crate::policy::Policy;
use crate::published::state::{Live, Record};
use crate::published::timeline::Timelines;
use crate::published::{
    self, ANY_HOST, Lifetime, Matching, Origin, PinValidation, Presented, Presents, Scope, State,
};

/// Whether a certificate lets in some of those who need one of `enough` alone.
pub(super) fn lets_in(enough: &[Enough]) -> impl Fn(&Presented) -> bool + Copy {
    |one| meet_any(std::slice::from_ref(one), enough) != PinValidation::Fails
}

impl<'a> Published<'a> {
    /// What the last accepted configuration presented to those who visit a name at a place: by that
    /// name, or by the pattern that it fitted. A port of 0 stands for a socket without one, which is
    /// reached through something in front of it, on whatever port. What it presented aside counts for
    /// claims of that kind alone: a name that a block has got since then is new. Where names are
    /// ignored, it is whatever was presented to those whose names no server had.
    pub(super) fn presented_before(
        &self,
        Visit { host_set, claim, .. }: Visit<'_>,
        place: Place<'_>,
    ) -> Vec<&'a Record<Presents>> {
        let port = place.port;
        let is_at = |address: &str, record: &Record<Presents>| {
            let addresses = &record.body.addresses;
            addresses.is_empty() || addresses.iter().any(|one| one == address)
        };
        let is_there = |record: &&Record<Presents>, aside: Option<bool>| {
            aside.is_none_or(|aside| record.body.aside == aside)
                && (!record.body.nameless || claim.is_nameless())
                && (port == 0 || record.body.ports.contains(&port))
                && place.address.is_none_or(|address| is_at(address, record))
        };
        let named = names_of(host_set).map(|name| (name, Some(false)));
        let aside = || names_of(host_set).map(|name| (name, Some(true)));
        let aside = (!claim.is_served()).then(aside).into_iter().flatten();
        // Patterns of servers span several labels. The nearest one of a single name is among `named`.
        let nearest = usize::from(host_set.1 == Matching::Exact);
        let above = host_set.0.parents().skip(nearest).filter(|_| claim.is_nameless());
        let above = above.map(|domain| ((domain, Matching::OneLabel), None));
        let any = !claim.is_served() && claim != Claim::Wildcard;
        let any = any.then_some(((ANY_HOST, Matching::Exact), Some(true)));
        for (key, aside) in named.chain(aside).chain(above).chain(any) {
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
        let Some(last) = self.nameless_last(port).filter(|_| claim.is_nameless()) else {
            return Vec::new();
        };
        match (claim, last.only) {
            (Claim::PortOnly, _) => last.asides.clone(),
            (_, Some(only)) if !last.is_mixed => vec![only],
            _ if last.asides.is_empty() => last.gone.clone(),
            _ => last.asides.clone(),
        }
    }

    /// What the last accepted configuration presented on a port, for clients who ignore names and of whom
    /// nothing is on record. Who was led there without a name of a certificate's may have got one that is
    /// presented aside, or is not presented any more.
    fn nameless_last(&self, port: u16) -> Option<&NamelessLast<'a>> {
        let all = self.nameless_last.get_or_init(|| {
            let mut all: HashMap<u16, NamelessLast<'a>> = HashMap::new();
            for &record in self.presented_last.values().flatten() {
                for &port in ports_or_socket(&record.body.ports) {
                    let last = all.entry(port).or_default();
                    let only = *last.only.get_or_insert(record);
                    last.is_mixed |= only.body.certificates != record.body.certificates;
                    if record.body.aside {
                        last.asides.push(record);
                    } else if !self.is_still_presented(record, port) {
                        last.gone.push(record);
                    }
                }
            }
            all
        });
        all.get(&port)
    }

    /// Whether the last accepted configuration presented a certificate on one of these ports, for whatever
    /// name, where it cannot be told for which.
    pub(super) fn may_have_been_presented(&self, ports: &BTreeSet<u16>, got: Got<'_>) -> bool {
        let any = self.presented_last.get(&(ANY_HOST, Matching::Exact)).into_iter().flatten();
        // Where everybody got the same, it can be told.
        let is_mixed = |port: &u16| self.nameless_last(*port).is_some_and(|last| last.is_mixed);
        let is_on = |record: &&&Record<Presents>| {
            record.body.ports.iter().any(|port| ports.contains(port) && is_mixed(port))
        };
        if any.copied().any(|record| is_on(&&record)) {
            return false;
        }
        let mut there = self.presented_last.values().flatten().filter(is_on);
        there.any(|record| record.body.certificates.iter().any(|was| is_same(was, got.one)))
    }

    /// Whether somebody presents what a record of the last accepted configuration says, on a port.
    fn is_still_presented(&self, record: &Record<Presents>, port: u16) -> bool {
        let level = (record.body.host.clone(), record.body.matching);
        if record.body.nameless || record.body.host.as_str() == ANY_HOST {
            let is_there = |named: &BTreeMap<HostSet, Reached>| {
                named.get(&level).is_some_and(|reached| port == 0 || reached.ports.contains(&port))
            };
            return self.presented.iter().enumerate().any(|(host, presented)| {
                (is_there(&self.nameless[host]) || is_there(self.routing.asides(host)))
                    && same(&record.body.certificates, &presented.certificates)
            });
        }
        let there = self.routing.targets(&level).into_iter();
        there.filter(|target| target.port == port).any(|target| {
            same(&record.body.certificates, &self.presented[target.host].certificates)
        })
    }

    /// Whether the last accepted configuration had a name, or answered for it by a pattern, with a
    /// certificate for it.
    pub(super) fn had(&self, host_set: &HostSet) -> bool {
        let mut before = names_of(host_set).filter_map(|name| self.presented_last.get(&name));
        before.any(|records| records.iter().any(|record| !record.body.nameless))
    }

    /// Whether a host presents for `host_set`, on each of `ports`, the certificates that the last accepted
    /// configuration presented for it there.
    pub(super) fn is_unchanged(&self, visit: Visit<'_>, ports: &BTreeSet<u16>) -> bool {
        if let Some(is_same) = self.unrecorded {
            return is_same;
        }
        let all = &self.presented[visit.host].certificates;
        if all.is_empty() {
            let is_empty = |place| {
                let mut before = self.presented_before(visit, place).into_iter();
                before.any(|record| record.body.certificates.is_empty())
            };
            return self.places(visit, ports).into_iter().all(is_empty);
        }
        Got::each(all).all(|got| self.is_kept(visit, ports, got, &|_: &Presented| true))
    }

    /// Whether those who get a certificate of a host when they visit a name on one of `ports`, and were
    /// let in by what they got there from the last accepted configuration, got the same then.
    pub(super) fn is_kept(
        &self,
        visit: Visit<'_>,
        ports: &BTreeSet<u16>,
        got: Got<'_>,
        let_in: &dyn Fn(&Presented) -> bool,
    ) -> bool {
        if let Some(is_same) = self.unrecorded {
            return is_same;
        }
        let places = self.places(visit, ports);
        places.into_iter().all(|place| self.is_kept_at(visit, place, got, let_in))
    }

    fn is_kept_at(
        &self,
        visit: Visit<'_>,
        place: Place<'_>,
        got: Got<'_>,
        let_in: &dyn Fn(&Presented) -> bool,
    ) -> bool {
        let before = self.presented_before(visit, place);
        let mut same =
            before.iter().filter(|r| got.is_slot_unchanged(&r.body.certificates, let_in));
        if before.len() == 1 || place.port == 0 && place.address.is_none() {
            return same.next().is_some();
        }
        // Where different certificates were presented for the name, on different addresses or for
        // different hosts of a pattern, nothing tells which of them this block had: it may have taken
        // the place of one that is gone.

        let is_harmless = |record: &&Record<Presents>| {
            self.is_still_presented(record, place.port)
                || got
                    .predecessors(&record.body.certificates)
                    .all(|was| is_same(was, got.one) || !let_in(was))
        };
        let had_it = |record: &&Record<Presents>| {
            record.body.certificates.iter().any(|was| is_same(was, got.one))
        };
        before.iter().any(had_it) && before.iter().all(is_harmless)
    }

    /// Whether clients that need one of `enough` got in when they visited a name on one of `ports` while
    /// the last accepted configuration was in effect, and get this certificate now.
    pub(super) fn got_in_before(
        &self,
        visit: Visit<'_>,
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
        let places = self.places(visit, ports).into_iter();
        places.flat_map(|place| self.presented_before(visit, place)).any(is_met)
    }

    /// Whether a host presents what the last accepted configuration presented and published this
    /// very policy, if there is one, for all its names.
    pub(super) fn is_host_unchanged(&self, host: usize, policy: Option<&Policy>) -> bool {
        let is_same = |(host_set, reached): (&HostSet, &Reached)| {
            let visit = Visit { host_set, host, claim: reached.claim };
            self.is_unchanged(visit, &reached.ports)
                && policy.is_none_or(|policy| self.was_published(host_set, policy))
        };
        let mut served = self.routing.served(host).peekable();
        match policy {
            Some(_) => served.peek().is_some() && served.all(is_same),
            None => {
                served.chain(self.routing.asides(host)).chain(&self.nameless[host]).all(is_same)
            }
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

    /// Whether the last accepted configuration published the pins of this policy for those who visit
    /// `host_set`, for as long and for as many hosts at least: who notes it holds nothing new.
    pub(super) fn was_published_as_widely(&self, host_set: &HostSet, policy: &Policy) -> bool {
        if self.was_published(host_set, policy) {
            return true;
        }
        let pins = policy.sorted_pins();
        let age = policy.max_age();
        let is_wider = |record: &&&Record<published::Published>| {
            let body = &record.body;
            let is_longer = matches!(body.lifetime, Lifetime::MaxAge(before) if age.is_some_and(|age| age <= before));
            self.unrecorded != Some(false)
                && body.pins == pins
                && body.include_subdomains >= policy.binds_subdomains()
                && is_longer
        };
        let of = self.published_last.get(&(host_set.0.as_str(), host_set.1));
        of.into_iter().flatten().any(|record| is_wider(&record))
    }

    /// Whether every client that holds the record and gets this certificate got the pins, or got in with
    /// them, where it was shown just the same: it builds the path that it built then. `None` where nothing
    /// is known of what it saw.
    pub(super) fn is_presentation_unchanged(
        &self,
        state: &'a State,
        (live, enough): (&Live<'_>, &[Enough]),
        visit: Visit<'_>,
        got: Got<'_>,
        ports: &BTreeSet<u16>,
    ) -> Option<bool> {
        if let Some(is_same) = self.unrecorded {
            return Some(is_same);
        }
        let body = &live.record.body;
        let let_in = lets_in(enough);
        if body.origin == Origin::Header {
            let timelines = self.timelines.get_or_init(|| Timelines::new(state));
            let then = timelines.presented_with(live.record).into_iter();
            let mut then = then.filter(|record| !record.body.aside).peekable();
            if then.peek().is_some() {
                return Some(
                    then.all(|record| got.is_slot_unchanged(&record.body.certificates, let_in)),
                );
            }
        }
        let is_pinned = |pin: Pin| body.may_pin_leaf(pin);
        let mut is_known = false;
        for place in self.places(visit, ports) {
            let before = self.presented_before(visit, place);
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
        let visit = Visit { host_set, host, claim: *claim };
        let PresentedKeys { certificates, is_known, .. } = &self.presented[host];
        if !is_known {
            return self.is_unchanged(visit, ports);
        }
        let enough = [Enough::Pins(Scope::Chain, pins.to_vec())];
        let let_in = lets_in(&enough);
        let mut refusing = Got::each(certificates).filter(|got| !let_in(got.one));
        refusing.all(|got| self.is_kept(visit, ports, got, &let_in))
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
