//! Ports that clients know and on which no server answers on TLS any more: the configuration lost a server's `ssl`,
//! its port, or its whole block.

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
    /// The names and ports at which the last accepted configuration let in the clients that hold `live`. The caller
    /// has found no block of the new configuration to which these clients are led.
    pub(super) fn closed(
        &self,
        host_set: &HostSet,
        live: Live<'_>,
        enough: &[Enough],
    ) -> BTreeSet<String> {
        let body = &live.record.body;
        // The configuration equals the running one that could not be recorded, so it closes no port.
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

/// Whether the presented certificates let clients in. Certificates that are not known may have.
fn is_met(record: &Record<Presents>, enough: &[Enough]) -> bool {
    let mut certificates = record.body.certificates.iter();
    record.body.certificates.is_empty()
        || certificates
            .any(|one| meet_any(std::slice::from_ref(one), enough) != PinValidation::Fails)
}
