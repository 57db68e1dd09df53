//! Names that this server has not had so far. If pins match on only some paths, the path that a client builds decides.
//! A client builds the same path wherever it gets the same certificates.

use std::collections::BTreeSet;

use super::Records;
use super::records::{Published, names_of};
use super::route::{Place, Route};
use super::routing::{Claim, HostSet};
use super::slots::{Got, is_one};
use crate::pin::Pin;
use crate::published::state::Record;
use crate::published::{self, Presented, Presents};

impl<'a> Published<'a> {
    /// Whether clients of `host_set` may refuse a certificate whose pins match on only some paths. The last accepted
    /// configuration did not have `host_set` on one of these ports.
    ///
    /// They may refuse it if another server lets them in with other certificates for the name. If no server is on
    /// record for the name, they may know this path from another name. The result is false for a server without an
    /// earlier configuration, which may have served these clients all along, and for a block that answers for the name
    /// only because of its certificate, since the clients may go elsewhere.
    pub(super) fn is_new_path(
        &self,
        records: &Records,
        body: &published::Published,
        route: Route<'_>,
        ports: &BTreeSet<u16>,
        got: Got<'_>,
        let_in: impl Fn(&Presented) -> bool,
    ) -> bool {
        let Route { host_set, claim, .. } = route;
        let is_new = |place: &Place<'_>| self.presented_before(route, *place).is_empty();
        if self.presented_last.is_empty() || !self.places(route, ports).iter().any(is_new) {
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

    /// What other servers present for the name or the pattern that it matches, and what this server presented for it on
    /// any port.
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
