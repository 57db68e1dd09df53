//! Ports that clients know, and on which nothing answers them on TLS any more: a server that has lost
//! its `ssl`, its port, or its whole block.

use std::collections::BTreeSet;

use super::nameless::ignores_names;
use super::presented::{Enough, meet_any};
use super::records::{Published, names_of};
use super::routing::HostSet;
use crate::published::state::{Live, Record};
use crate::published::{PinValidation, Presents};

/// The port of HTTPS.
const HTTPS: u16 = 443;

impl Published<'_> {
    /// The names and ports at which the last accepted configuration let in those who hold `live`, where
    /// nothing leads them to any server of this one.
    pub(super) fn closed(
        &self,
        host_set: &HostSet,
        live: Live<'_>,
        enough: &[Enough],
    ) -> BTreeSet<String> {
        let body = &live.record.body;
        // What equals the configuration that is served and not on record changes nothing.
        if live.waiver.is_some() || self.unrecorded == Some(true) {
            return BTreeSet::new();
        }
        let by_name = names_of(host_set).filter_map(|name| self.presented_last.get(&name));
        // Clients of one port that compare nothing but the leaf's key ignore names.
        let by_port = body.port.is_some() && body.ignores_names() && body.host == host_set.0;
        let is_meant_by_name =
            |record: &&Record<Presents>| !record.body.nameless || ignores_names(body);
        let all = self.presented_last.values().filter(|_| by_port).flatten().copied();
        let by_port =
            all.filter(|record| record.body.aside && !record.body.certificates.is_empty());
        let let_in = by_name
            .flatten()
            .copied()
            .filter(is_meant_by_name)
            .chain(by_port)
            .filter(|record| is_met(record, enough));
        // Pins without a port are those of clients that speak HTTP.
        let is_meant = |record: &Record<Presents>, port: u16| match body.port {
            Some(only) => port == only,
            None => !record.body.aside || port == HTTPS,
        };
        let ports = let_in.flat_map(|record| {
            let ports = record.body.ports.iter().copied();
            ports.filter(|port| is_meant(record, *port)).collect::<Vec<_>>()
        });
        ports
            .filter(|port| !self.routing.is_elsewhere(host_set, *port))
            .map(|port| format!("{}:{port}", host_set.1.pattern(&host_set.0)))
            .collect()
    }
}

/// Whether clients got in with what was presented; where that is not known, they may have.
fn is_met(record: &Record<Presents>, enough: &[Enough]) -> bool {
    let mut certificates = record.body.certificates.iter();
    record.body.certificates.is_empty()
        || certificates
            .any(|one| meet_any(std::slice::from_ref(one), enough) != PinValidation::Fails)
}
