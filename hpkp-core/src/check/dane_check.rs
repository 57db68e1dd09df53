//! Compares TLSA records with what the last accepted configuration presented, and reports records that lock nobody
//! out but are useless.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::dane::meet;
use super::messages::Scope;
use super::presented::{Enough, PresentedKeys};
use super::records::{Published, names_of};
use super::route::{Place, Route};
use super::routing::{Claim, HostSet, any_of};
use super::slots::Got;
use super::{Checker, Records, dane_messages as text};
use crate::finding::{Class, Code};
use crate::header::Kind;
use crate::path::Chain;
use crate::published::state::{Live, Record};
use crate::published::tlsa::Combination;
use crate::published::{EventId, PinValidation, Presented, Presents};

impl Published<'_> {
    /// Whether clients with records for which names count came to a port for `host_set` while the last
    /// accepted configuration was in effect: a certificate for another name would turn them away.
    pub(super) fn was_led_by_port(
        &self,
        body: &crate::published::Published,
        host_set: &HostSet,
        port: u16,
    ) -> bool {
        // Clients that compare names got in only with a certificate for this name.
        let route = Route { host_set, host: usize::MAX, claim: Claim::Wildcard };
        let place = Place { port, address: None };
        body.tlsa.is_some() && !self.presented_before(route, place).is_empty()
    }

    /// The TLSA records that let clients in although the certificate was for another name: those for which clients
    /// ignore names. `None` if a certificate for the name was presented, so that all records count.
    pub(super) fn enough_without_names(
        &self,
        route: Route<'_>,
        ports: &BTreeSet<u16>,
        enough: &[Enough],
    ) -> Option<[Enough; 1]> {
        let [Enough::Tlsa(set, host)] = enough else { return None };
        if !route.claim.is_nameless() {
            return None;
        }
        let is_named = |record: &Record<Presents>| {
            let mut names = names_of(route.host_set);
            let of = (record.body.host.as_str(), record.body.matching);
            !record.body.nameless && names.any(|name| name == of)
        };
        match self.presented_on(route, ports).any(is_named) {
            true => None,
            false => Some([Enough::Tlsa(Arc::new(set.without_names()?), host.clone())]),
        }
    }

    /// Whether the last accepted configuration presented the same leaf, for clients that compare more of it than the
    /// key: the whole certificate, or a name for which it is not valid. True for all other clients.
    pub(super) fn is_leaf_unchanged(
        &self,
        enough: &[Enough],
        route: Route<'_>,
        (presented, got): (&PresentedKeys<'_>, Got<'_>),
        ports: &BTreeSet<u16>,
    ) -> bool {
        let name = any_of(route.host_set);
        let evidence = presented.evidence.iter().filter(|one| one.is_of(got.one));
        let [Enough::Tlsa(set, _)] = enough else { return true };
        let is_misnamed = || set.looks_at_names() && !evidence.clone().all(|one| one.is_for(&name));
        if !set.names_leaf_certificate() && !is_misnamed() {
            return true;
        }
        if let Some(is_same) = self.unrecorded_leaves {
            return is_same;
        }
        let leaf = |one: &Presented| one.identity.as_ref().and_then(|identity| identity.leaf);
        let now = leaf(got.one);
        // Old records have no hash of the leaf; they can only tell that the keys are the same.
        let is_it = |was: &Presented| leaf(was).is_none_or(|then| Some(then) == now);
        let had_it = |place| {
            let before = self.presented_before(route, place).into_iter();
            before.flat_map(|record| &record.body.certificates).any(is_it)
        };
        self.places(route, ports).into_iter().all(had_it)
    }
}

/// Findings about TLSA records that lock nobody out.
#[derive(Default)]
pub(super) struct Notes<'a> {
    /// By host and record, the kinds of TLSA records without a match.
    unmet: BTreeMap<(usize, EventId), (Live<'a>, BTreeSet<Combination>)>,
    unusable: BTreeMap<(usize, EventId), Live<'a>>,
}

impl<'a> Notes<'a> {
    /// Notes TLSA records that a host does not match, or that no client can use. `found` is the finding if they lock
    /// clients out.
    pub(super) fn note(
        &mut self,
        published: &Published<'a>,
        live: &Live<'a>,
        found: Option<(Code, Class)>,
        (host, _): (usize, &HostSet),
        enough: &[Enough],
    ) {
        let [Enough::Tlsa(set, name)] = enough else { return };
        let key = (host, live.record.id);
        if set.counted().is_empty() {
            self.unusable.insert(key, *live);
            return;
        }
        if found.is_some() || live.waiver.is_some() {
            return;
        }
        let evidence = &published.presented[host].evidence;
        // The host matches none of the records; clients come there only by chance.
        if meet(set, name, evidence.iter()) == PinValidation::Fails {
            return;
        }
        let is_unmet = |combination: &Combination| {
            set.only(*combination)
                .is_some_and(|only| meet(&only, name, evidence.iter()) == PinValidation::Fails)
        };
        let unmet: BTreeSet<Combination> =
            set.combinations().into_iter().filter(is_unmet).collect();
        if !unmet.is_empty() {
            self.unmet.entry(key).or_insert_with(|| (*live, BTreeSet::new())).1.extend(unmet);
        }
    }
}

impl<'a> Checker<'a> {
    /// Reports the findings of `notes`.
    pub(super) fn report_dane(&mut self, records: &'a Records, notes: Notes<'a>) {
        let unmet = notes
            .unmet
            .into_iter()
            .map(|((host, _), (live, unmet))| (host, live, Code::TlsaCombinationUnmet, unmet));
        let unusable = notes.unusable.into_iter();
        let unusable =
            unusable.map(|((host, _), live)| (host, live, Code::TlsaNotUsable, BTreeSet::new()));
        for (host, live, code, unmet) in unmet.chain(unusable) {
            let group = format!("{} {unmet:?}", live.record.id);
            let scope =
                Scope { policy: &group, kind: Kind::Enforced, at: &records.at, each_place: false };
            let chains: Vec<&Chain> = self.deployment.chains(host).collect();
            self.find_for(scope, Kind::Enforced, host, (code, code.class(), false), vec![], || {
                match code {
                    Code::TlsaNotUsable => text::not_usable(&live),
                    _ => text::combination_unmet(&live, &unmet, &chains),
                }
            });
        }
    }
}
