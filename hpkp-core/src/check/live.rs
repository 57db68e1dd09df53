//! Compares one record with the blocks to which its clients are led.

use std::collections::{BTreeMap, BTreeSet};

use super::Records;
use super::listener::is_udp;
use super::nameless;
use super::presented::{Enough, PresentedKeys};
use super::records::{Published, Relation};
use super::route::Route;
use super::routing::{Claim, HostSet, Led, Target};
use super::slots::Got;
use super::unchanged::lets_in;
use crate::finding::{Class, Code};
use crate::published::state::Live;
use crate::published::{self, Origin, PinValidation};

/// The port of HTTPS.
const HTTPS: u16 = 443;

/// Whether clients ignore the names in a certificate (RFC 7671 section 5.1).
pub(super) fn ignores_names(body: &published::Published, relation: Relation) -> bool {
    relation == Relation::Own && nameless::ignores_names(body)
}

/// Whether the clients of a record use the protocol of an address. An address that is not known counts as TCP.
fn is_over(body: &published::Published, address: Option<&str>) -> bool {
    body.is_over(address.is_some_and(is_udp))
}

/// Pins that clients hold, how they bind a host, and the sets of which a client needs one.
pub(super) type Held<'b> = (Live<'b>, Relation, &'b [Enough]);

/// The ports on which clients are led to a block, by the block and why it answers.
type LedTo = BTreeMap<(usize, Claim), BTreeSet<u16>>;

impl<'a> Published<'a> {
    /// The blocks to which clients of `host_set` that hold `live` are led: some of `targets`, and for clients who
    /// ignore names others as well.
    pub(super) fn led_to(
        &self,
        targets: &[Target],
        host_set: &HostSet,
        live: Live<'_>,
        relation: Relation,
    ) -> LedTo {
        let body = &live.record.body;
        let mut led = LedTo::new();
        for target in targets {
            // Clients may reach a Unix socket through any port of a proxy in front of it.
            let is_at = body.is_on(target.port) && body.is_over(target.is_udp);
            // Pins without a port are those of HTTP clients, unless DNS publishes them. A `stream` server on the port
            // of HTTPS may pass HTTP on.
            let is_http = target.claim != Claim::Port || target.port == HTTPS;
            if is_at && (is_http || body.port.is_some() || body.tlsa.is_some()) {
                led.entry((target.host, target.claim)).or_default().insert(target.port);
            }
        }
        // If no block has the name, clients who ignore names reach whatever listens on the port.
        let by_port = |port: &u16| {
            (ignores_names(body, relation)
                || relation == Relation::Own && self.was_led_by_port(body, host_set, *port))
                && body.is_over(false)
                && body.host == host_set.0
                && !led.keys().any(|(_, claim)| !claim.is_incidental())
                && !self.routing.is_elsewhere(host_set, *port)
        };
        if let Some(port) = body.port.filter(by_port) {
            for (host, has_names) in self.routing.by_port(port) {
                let claim = if has_names { Claim::PortOnly } else { Claim::Port };
                led.entry((host, claim)).or_default().insert(port);
            }
        }
        if ignores_names(body, relation) {
            let is_alone = led.is_empty();
            for Led { host, port, claim, address } in self.routing.led_to(host_set) {
                let is_answered = led.keys().any(|(other, _)| *other == host);
                let comes = || claim == Claim::PatternOnly || self.was_at(host_set, port, address);
                if (is_alone || !is_answered && comes())
                    && body.is_on(port)
                    && is_over(body, address)
                    && !self.routing.is_elsewhere(host_set, port)
                {
                    led.entry((host, claim)).or_default().insert(port);
                }
            }
        }
        led
    }

    /// The name and port of a record, if this server serves the host but no checked server has it on that port.
    pub(super) fn unlistened(
        &self,
        targets: &[Target],
        host_set: &HostSet,
        live: Live<'_>,
        relation: Relation,
    ) -> Option<String> {
        let body = &live.record.body;
        let port = body.port?;
        let is_served = targets.iter().any(|target| target.claim.is_served());
        let is_silent = match body.is_over(false) {
            true => self.routing.is_elsewhere(host_set, port),
            false => self.routing.is_elsewhere_by_udp(host_set, port),
        };
        let counts = live.waiver.is_none() && is_served && !is_silent;
        let (host, matching) = match relation {
            Relation::Own => (&body.host, body.matching),
            Relation::Above => (&host_set.0, host_set.1),
        };
        let over = if body.is_over(false) { "" } else { "/udp" };
        counts.then(|| format!("{}:{port}{over}", matching.pattern(host)))
    }

    /// The finding for clients of `host_set` that hold `live` and are led to a host on `ports`. It is the gravest
    /// finding of all certificates of the host, because the client chooses the certificate.
    pub(super) fn judge(
        &self,
        records: &'a Records,
        host_set: &HostSet,
        held: Held<'_>,
        (host, claim): (usize, Claim),
        ports: &BTreeSet<u16>,
    ) -> Option<(Code, Class)> {
        let presented = &self.presented[host];
        let found = Got::each(&presented.certificates).filter_map(|got| {
            self.judge_one(records, Route { host_set, host, claim }, held, (presented, got), ports)
        });
        found.min_by_key(|(code, class)| (*class, *code == Code::PublishedPinsPartlyMet))
    }

    /// The finding of [`Self::judge`] for one certificate of the host.
    fn judge_one(
        &self,
        records: &'a Records,
        Route { host_set, host, claim }: Route<'_>,
        (live, relation, enough): Held<'_>,
        (presented, got): (&PresentedKeys<'_>, Got<'_>),
        ports: &BTreeSet<u16>,
    ) -> Option<(Code, Class)> {
        let body = &live.record.body;
        let ignores_names = ignores_names(body, relation);
        let of = Route { host_set, host, claim: claim.of_clients(ignores_names) };
        let without_names = self.enough_without_names(of, ports, enough);
        let enough_before = without_names.as_ref().map_or(enough, |enough| &enough[..]);
        let is_leaf_unchanged =
            || self.is_leaf_unchanged(enough_before, of, (presented, got), ports);
        // A configuration that is not on record may have let them in with another leaf.
        let got_in_unrecorded = || self.unrecorded.is_some() && !is_leaf_unchanged();
        let got_in_before =
            || self.got_in_before(of, ports, got, enough_before) || got_in_unrecorded();
        // No client accepts this certificate for the name, whatever pins it matches.
        let is_refused = claim != Claim::Name && !ignores_names && !presented.is_for(got, host_set);
        if is_refused && !got_in_before() {
            return None;
        }
        let is_path_unchanged = || {
            let known =
                self.is_presentation_unchanged(&records.state, (&live, enough), of, got, ports);
            known.unwrap_or_else(|| {
                !self.is_new_path(records, body, of, ports, got, lets_in(enough))
            })
        };
        // Clients that matched the leaf certificate got in on every path.
        let is_leaf_kept = || !got_in_before() || is_leaf_unchanged();
        let code = match (presented.meet_by(got, enough), relation) {
            (PinValidation::Succeeds, _) => return None,
            (PinValidation::DependsOnPath, _) if is_path_unchanged() && is_leaf_kept() => {
                Code::PublishedPinsPartlyMet
            }
            (_, relation) => relation.unmet(),
        };
        let code = match live.waiver {
            Some(_) if code.class() == Class::Lockout => Code::Waived,
            Some(_) => return None,
            None => code,
        };
        if code.class() != Class::Lockout {
            return Some((code, code.class()));
        }
        // There is no evidence that clients of the name come to this block.
        if claim == Claim::AnyName && (!got_in_before() || self.may_have_been_presented(ports, got))
        {
            return None;
        }
        // Another machine may serve the host, and this certificate refuses no client that got in here before.
        if claim.is_incidental() && !got_in_before() {
            let code = Code::WildcardHostPinsUnmet;
            return Some((code, code.class()));
        }
        let is_unchanged =
            self.is_kept(of, ports, got, &lets_in(enough_before)) && is_leaf_unchanged();
        Some((code, if is_unchanged { Class::Warning } else { Class::Lockout }))
    }

    /// Whether a block that has only a temporary certificate let these clients in with the last accepted
    /// configuration. No client accepts the temporary certificate, and a block that never had another one locks out
    /// nobody new.
    pub(super) fn loses_all(
        &self,
        route: Route<'_>,
        ports: &BTreeSet<u16>,
        live: Live<'_>,
        enough: &[Enough],
    ) -> bool {
        let let_in = lets_in(enough);
        self.presented[route.host].is_temporary
            && self.unrecorded != Some(true)
            && live.waiver.is_none()
            && self.presented_on(route, ports).any(|was| was.body.certificates.iter().any(let_in))
    }

    /// The blocks and ports to which a name leads that this server has lost. Their certificates are not valid for the
    /// name, so clients refuse them whatever pins they hold. Blocks that match the pins are left out.
    pub(super) fn removed(
        &self,
        records: &'a Records,
        targets: &[Target],
        host_set: &HostSet,
        live: Live<'_>,
        enough: &[Enough],
    ) -> Vec<(usize, u16)> {
        let body = &live.record.body;
        let is_ours = body.origin == Origin::Header
            && records.writer.as_ref() == Some(&live.record.writer)
            && (&body.host, body.matching) == (&host_set.0, host_set.1);
        if live.waiver.is_some() || !(is_ours || self.had(host_set)) {
            return Vec::new();
        }
        let ports = self.known_ports(records.writer.as_ref(), host_set);
        let is_answered = |port: u16| targets.iter().any(|target| target.port == port);
        let is_here = match ports.is_empty() {
            true => !targets.is_empty(),
            false => ports.iter().all(|port| is_answered(*port)),
        };
        if is_here {
            return self.removed_at(targets, host_set, body, enough);
        }
        let is_concerned = |(host, port): &(usize, u16)| {
            // Clients may reach a Unix socket through any port.
            (ports.is_empty() || *port == 0 || ports.contains(port))
                && body.is_on(*port)
                && !is_answered(*port)
                && !self.routing.is_elsewhere(host_set, *port)
                && !(self.presented[*host].is_known
                    && self.presented[*host].meet(enough) == PinValidation::Succeeds)
        };
        let led = self.routing.led_to(host_set).filter(|led| is_over(body, led.address));
        led.map(|led| (led.host, led.port)).filter(is_concerned).collect()
    }

    /// The blocks of [`Self::removed`] if the server still has the name on another address of the port.
    fn removed_at(
        &self,
        targets: &[Target],
        host_set: &HostSet,
        body: &published::Published,
        enough: &[Enough],
    ) -> Vec<(usize, u16)> {
        let is_shared = |target: &Target| self.shared_ports.contains(&target.port);
        // Clients who ignore names do not refuse a certificate for its names.
        if ignores_names(body, Relation::Own) || !targets.iter().any(is_shared) {
            return Vec::new();
        }
        let unanswered = self.routing.unanswered(host_set).into_iter().filter(|led| {
            targets.iter().any(|target| target.port == led.port)
                && body.is_on(led.port)
                && is_over(body, led.address)
                && self.was_at(host_set, led.port, led.address)
                && !self.routing.is_elsewhere(host_set, led.port)
                && !(self.presented[led.host].is_known
                    && self.presented[led.host].meet(enough) == PinValidation::Succeeds)
        });
        unanswered.map(|led| (led.host, led.port)).collect()
    }
}
