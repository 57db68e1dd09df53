//! Names that this server has not had so far. Of pins that are met on some paths only, it matters which path
//! a client takes: the one that it takes wherever it is shown the same.

use std::collections::BTreeSet;

use super::Records;
use super::records::{Published, names_of};
use super::routing::{Claim, HostSet};
use super::slots::{Got, is_one};
use super::visit::{Place, Visit};
use crate::pin::Pin;
use crate::published::state::Record;
use crate::published::{self, Presented, Presents};

impl<'a> Published<'a> {
    /// Whether clients that hold pins, and get a certificate by which some paths do not meet them, may
    /// refuse it when they visit `host_set`, which the last accepted configuration did not have on
    /// one of these ports.
    ///
    /// It is so where the name is shown otherwise elsewhere, and they get in there. Where nobody is on
    /// record who shows them the name, they may have been shown this path for another name. A server that
    /// has no predecessor may have served them all along, and what answers for a name only by its
    /// certificate may not be where they go.
    pub(super) fn is_new_path(
        &self,
        records: &Records,
        body: &published::Published,
        visit: Visit<'_>,
        ports: &BTreeSet<u16>,
        got: Got<'_>,
        let_in: impl Fn(&Presented) -> bool,
    ) -> bool {
        let Visit { host_set, claim, .. } = visit;
        let is_new = |place: &Place<'_>| self.presented_before(visit, *place).is_empty();
        if self.presented_last.is_empty() || !self.places(visit, ports).iter().any(is_new) {
            return false;
        }
        let is_pinned = |pin: Pin| body.may_pin_leaf(pin);
        let is_path = |was: &Presented| is_one(was, got.one, is_pinned);
        let mut is_known = false;
        for record in self.of_name(records, host_set) {
            let all = record.body.certificates.iter();
            for was in all.filter(|was| got.takes_over(was) && let_in(was)) {
                if !is_path(was) {
                    return true;
                }
                is_known = true;
            }
        }
        if is_known || claim.is_incidental() || claim == Claim::Certificate {
            return false;
        }
        let other_names = self.presented_last.values().flatten();
        !other_names
            .filter(|record| !record.body.aside && body.binds(&record.body.host))
            .flat_map(|record| &record.body.certificates)
            .any(|was| got.takes_over(was) && is_path(was) && let_in(was))
    }

    /// What is shown for the name, or the pattern that it fits: by other servers, and by this one on other
    /// ports.
    fn of_name(
        &self,
        records: &Records,
        host_set: &HostSet,
    ) -> impl Iterator<Item = &'a Record<Presents>> + use<'a> {
        let mut all: Vec<&'a Record<Presents>> = Vec::new();
        for (host, matching) in names_of(host_set) {
            let here = self.presented_last.get(&(host, matching)).into_iter().flatten();
            all.extend(here.copied());
            let there = self.presents_by_host.get(host).into_iter().flatten().copied();
            all.extend(there.filter(|record| {
                record.body.matching == matching
                    && records.writer.as_ref() != Some(&record.writer)
                    && !record.body.aside
                    && records.state.is_presented(record)
            }));
        }
        all.into_iter()
    }
}
