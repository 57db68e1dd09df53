//! What is unchanged since the last accepted configuration. The check refuses nothing that is unchanged, so every
//! comparison here must be strict.
//!
//! What each function compares, always for a name on a port:
//! - `is_slot_unchanged` (in `slots`): of one certificate, the key of its leaf, the leaf's issuer name and
//!   authority key identifier, and the DER of each CA certificate sent, in order. Never keys alone, since
//!   another certificate of the same CA moves the path to another root. A record of format 1 has keys alone.
//! - `is_unchanged`: `is_slot_unchanged` for every certificate of a host; `is_kept`: for one certificate, compared only
//!   with those that let certain clients in.
//! - `is_host_unchanged`: `is_unchanged` for every name of a host, and that the same policy was published.
//! - `is_presentation_unchanged`: compares with the certificates that the clients of one record got together with their
//!   pins; if no record has these, compares the leaf's key only if it is one of the pins.
//! - `is_withholding_unchanged`, `is_failure_unchanged`: for every name of a host, its policy, withheld or published,
//!   and `is_kept` for the certificates that do not match it.
//! - `is_leaf_unchanged` (in `dane_check`): the DER of the leaf, for clients that compare more of it than
//!   the key.
//!
//! None compares trust anchors: what this machine trusts changes nothing for clients. If the last configuration could
//! not be recorded, each function compares its digest with that of this configuration: the digest of the keys, or for
//! `is_leaf_unchanged` that of the leaf certificates.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::nameless::NamelessLast;
use super::presented::{Enough, PresentedKeys, meet_any};
use super::records::{Published, names_of};
use super::route::{Place, Route, ports_or_socket};
use super::routing::{Claim, HostSet, Reached};
use super::slots::{Got, is_one, is_same, same};
use crate::pin::Pin;
use crate::policy::Policy;
use crate::published::state::{Live, Record};
use crate::published::timeline::Timelines;
use crate::published::{
    self, ANY_HOST, Lifetime, Matching, Origin, PinValidation, Presented, Presents, Scope, State,
};

/// Whether a certificate lets in, on some path at least, clients that need only one of `enough`.
pub(super) fn lets_in(enough: &[Enough]) -> impl Fn(&Presented) -> bool + Copy {
    |one| meet_any(std::slice::from_ref(one), enough) != PinValidation::Fails
}

impl<'a> Published<'a> {
    /// What the last accepted configuration presented to clients of a name at a place, by that name or by the pattern
    /// that it matched. Port 0 is a Unix socket, which clients reach through any port of a proxy in front of it.
    /// Records that are aside count only for claims that are not served: a name that a block has got since then is
    /// new. For clients who ignore names, it is also what was presented for names that no block had.
    pub(super) fn presented_before(
        &self,
        Route { host_set, claim, .. }: Route<'_>,
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
        // A server's pattern may match several labels. The nearest pattern of a single name is already in `named`.
        let nearest = usize::from(host_set.1 == Matching::Exact);
        let above = host_set.0.parents().skip(nearest).filter(|_| claim.is_nameless());
        let above = above.map(|domain| ((domain, Matching::OneLabel), None));
        let any = !claim.is_served() && claim != Claim::Wildcard;
        let any = any.then_some(((ANY_HOST, Matching::Exact), Some(true)));
        for (key, aside) in named.chain(aside).chain(above).chain(any) {
            let all = self.presented_last.get(&key).into_iter().flatten().copied();
            let mut there: Vec<_> = all.filter(|record| is_there(record, aside)).collect();
            // Records without a port are those of the Unix socket itself.
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

    /// What the last accepted configuration presented on a port, for clients who ignore names and whose name is on no
    /// record. They may have got a certificate that was aside, or one that is not presented any more.
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

    /// Whether the last accepted configuration presented a certificate on one of these ports, and the records do not
    /// tell for which names.
    pub(super) fn may_have_been_presented(&self, ports: &BTreeSet<u16>, got: Got<'_>) -> bool {
        let any = self.presented_last.get(&(ANY_HOST, Matching::Exact)).into_iter().flatten();
        // If all clients of a port got the same certificates, the records do tell.
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

    /// Whether a block still presents the certificates of a record of the last accepted configuration on a port.
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

    /// Whether the last accepted configuration had a name, or a pattern that matched it, with a certificate that was
    /// valid for it.
    pub(super) fn had(&self, host_set: &HostSet) -> bool {
        let mut before = names_of(host_set).filter_map(|name| self.presented_last.get(&name));
        before.any(|records| records.iter().any(|record| !record.body.nameless))
    }

    /// Whether a host presents for `host_set`, on each of `ports`, the certificates that the last accepted
    /// configuration presented for it there.
    pub(super) fn is_unchanged(&self, route: Route<'_>, ports: &BTreeSet<u16>) -> bool {
        if let Some(is_same) = self.unrecorded {
            return is_same;
        }
        let all = &self.presented[route.host].certificates;
        if all.is_empty() {
            let is_empty = |place| {
                let mut before = self.presented_before(route, place).into_iter();
                before.any(|record| record.body.certificates.is_empty())
            };
            return self.places(route, ports).into_iter().all(is_empty);
        }
        Got::each(all).all(|got| self.is_kept(route, ports, got, &|_: &Presented| true))
    }

    /// Whether clients that get this certificate for a name on one of `ports` got the same certificate from the last
    /// accepted configuration. Only clients that were let in then count (`let_in`).
    pub(super) fn is_kept(
        &self,
        route: Route<'_>,
        ports: &BTreeSet<u16>,
        got: Got<'_>,
        let_in: &dyn Fn(&Presented) -> bool,
    ) -> bool {
        if let Some(is_same) = self.unrecorded {
            return is_same;
        }
        let places = self.places(route, ports);
        places.into_iter().all(|place| self.is_kept_at(route, place, got, let_in))
    }

    fn is_kept_at(
        &self,
        route: Route<'_>,
        place: Place<'_>,
        got: Got<'_>,
        let_in: &dyn Fn(&Presented) -> bool,
    ) -> bool {
        let before = self.presented_before(route, place);
        let mut same =
            before.iter().filter(|r| got.is_slot_unchanged(&r.body.certificates, let_in));
        if before.len() == 1 || place.port == 0 && place.address.is_none() {
            return same.next().is_some();
        }
        // If different certificates were presented for the name, on different addresses or for different hosts of a
        // pattern, the records do not tell which of them this block presented. It may have replaced another block.

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

    /// Whether the last accepted configuration let in clients that need one of `enough` and now get this certificate
    /// for a name on one of `ports`.
    pub(super) fn got_in_before(
        &self,
        route: Route<'_>,
        ports: &BTreeSet<u16>,
        got: Got<'_>,
        enough: &[Enough],
    ) -> bool {
        // A configuration that is not on record may have let them in.
        if self.unrecorded == Some(false) {
            return true;
        }
        let let_in = lets_in(enough);
        let is_met =
            |record: &Record<Presents>| got.predecessors(&record.body.certificates).any(let_in);
        self.presented_on(route, ports).any(is_met)
    }

    /// What the last accepted configuration presented to clients of a name on any of `ports`.
    pub(super) fn presented_on(
        &self,
        route: Route<'_>,
        ports: &BTreeSet<u16>,
    ) -> impl Iterator<Item = &'a Record<Presents>> {
        let places = self.places(route, ports).into_iter();
        places.flat_map(move |place| self.presented_before(route, place))
    }

    /// Whether a host presents what the last accepted configuration presented and published this
    /// very policy, if there is one, for all its names.
    pub(super) fn is_host_unchanged(&self, host: usize, policy: Option<&Policy>) -> bool {
        let is_same = |(host_set, reached): (&HostSet, &Reached)| {
            let route = Route { host_set, host, claim: reached.claim };
            self.is_unchanged(route, &reached.ports)
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

    /// Whether the last accepted configuration published the same policy to clients of `host_set`, by that name or by
    /// the pattern that it matched.
    pub(super) fn was_published(&self, host_set: &HostSet, policy: &Policy) -> bool {
        // A configuration that is served and not on record published no pins that are not on record.
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

    /// Whether the last accepted configuration published the pins of this policy to clients of `host_set`, for at
    /// least as long and for at least as many hosts: a client that notes the policy then holds nothing new.
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

    /// Whether every client that holds the record and gets this certificate got the same certificate when it received
    /// the pins, or when it last got in with them: it then builds the same path. `None` if no record has these
    /// certificates.
    pub(super) fn is_presentation_unchanged(
        &self,
        state: &'a State,
        (live, enough): (&Live<'_>, &[Enough]),
        route: Route<'_>,
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
        for place in self.places(route, ports) {
            let before = self.presented_before(route, place);
            // For each record, the certificates that let them in and that this one replaces for them.
            let let_in = before.into_iter().map(|record| {
                let all = got.predecessors(&record.body.certificates);
                all.filter(|was| let_in(was)).collect::<Vec<_>>()
            });
            let mut let_in = let_in.filter(|all| !all.is_empty()).peekable();
            if let_in.peek().is_none() {
                continue;
            }
            is_known = true;
            // The clients build the same path and find the same pins on it. The leaf's key matters only if it is one of
            // their pins.
            if !let_in.any(|all| all.into_iter().all(|was| is_one(was, got.one, is_pinned))) {
                return Some(false);
            }
        }
        is_known.then_some(true)
    }

    /// Whether the last accepted configuration had the same policy for a host, presented the same certificates that do
    /// not match it, and withheld its header because of a lock-out. A refusal would then protect nobody.
    pub(super) fn is_withholding_unchanged(&self, host: usize, policy: &Policy) -> bool {
        if let Some(is_same) = self.unrecorded {
            // A block without names is not part of the digest.
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

    /// Whether the certificates that do not match the pins of a host's own policy are those that the last accepted
    /// configuration presented for a name.
    fn keeps_refusing(
        &self,
        host: usize,
        pins: &[Pin],
        host_set: &HostSet,
        Reached { claim, ports }: &Reached,
    ) -> bool {
        let route = Route { host_set, host, claim: *claim };
        let PresentedKeys { certificates, is_known, .. } = &self.presented[host];
        if !is_known {
            return self.is_unchanged(route, ports);
        }
        let enough = [Enough::Pins(Scope::Chain, pins.to_vec())];
        let let_in = lets_in(&enough);
        let mut refusing = Got::each(certificates).filter(|got| !let_in(got.one));
        refusing.all(|got| self.is_kept(route, ports, got, &let_in))
    }

    /// Whether the last accepted configuration published the same policy for all names of a host, and presented the
    /// same certificates that do not match it.
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
