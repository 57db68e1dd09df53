//! Machines that have been silent for too long: nobody knows what they publish and present now, so a host that they
//! also serve gets no new keys and no new pins until they are heard from.
//!
//! An unchanged configuration passes. A new key that satisfies every pin on record passes as well: a stolen key must
//! be replaceable while another machine is silent.

use std::collections::{BTreeMap, BTreeSet};

use super::freshness_messages as text;
use super::held_pins::entries_of_configurations;
use super::messages::{Found, Scope};
use super::new_pins::{Sent, domains_above};
use super::presented::enough;
use super::records::{Published, names_of};
use super::route::Route;
use super::routing::{Claim, HostSet, Target, any_of};
use super::silence::{Change, Silent, silent};
use super::{Checker, HeardFile, Records, Sending};
use crate::finding::{Check, Class, Code};
use crate::header::Kind;
use crate::published::state::Record;
use crate::published::{Matching, Presents, WriterName};

/// The names that a block shares with silent writers. The key is the name and why the block answers for it; the
/// value is the ports and those writers.
type Shared<'a> = BTreeMap<(HostSet, Claim), (BTreeSet<u16>, BTreeSet<&'a WriterName>)>;

impl<'a> Checker<'a> {
    /// Reports new keys and new pins of hosts that silent machines also serve, and removes the headers of these hosts
    /// from `sending`.
    pub(super) fn check_freshness(&mut self, sending: &mut [Option<Sending>], now: i64) {
        let deployment = self.deployment;
        let (Some(published), Some(records)) = (self.published, &deployment.records) else {
            return;
        };
        if records.freshness.is_empty() {
            return;
        }
        let silent = silent(records, now);
        let sent = self.sent(sending);
        let mut shared = match silent.is_empty() {
            true => BTreeMap::new(),
            false => published.shared(records, &silent),
        };
        // A policy with includeSubDomains may bind hosts of silent machines although none of them has its own name.
        for one in sent.iter().filter(|one| one.policy.binds_subdomains()) {
            shared.entry(one.host).or_default();
        }
        for (host, names) in &shared {
            for code in [Code::PeerSilent, Code::HeartbeatsUnreadable, Code::PeerNeverHeard] {
                let of_code: Silent<'a> = silent
                    .iter()
                    .filter(|(_, (silence, _))| silence.code() == code)
                    .map(|(writer, silence)| (*writer, *silence))
                    .collect();
                if !of_code.is_empty() {
                    self.check_silent(records, (*host, names), &of_code, &sent, (code, now));
                }
            }
        }
        self.check_heard_files(records);
        self.withhold(sending);
    }

    /// Reports the changes of one block. `silent` are the writers that are silent for the reason of `code`.
    fn check_silent(
        &mut self,
        records: &'a Records,
        (host, names): (usize, &Shared<'a>),
        silent: &Silent<'a>,
        sent: &[Sent<'a>],
        (code, now): (Code, i64),
    ) {
        let Some(published) = self.published else { return };
        // A server that already runs without its header, and is unchanged, continues without it.
        let is_withheld = published.unrecorded == Some(true) || self.is_withheld_before(host);
        let pins = if is_withheld { Change::PinsWithheld } else { Change::Pins };
        let here = || sent.iter().filter(|one| one.host == host && records.writer.is_some());
        let mut by_change: BTreeMap<Change, BTreeSet<&'a WriterName>> = BTreeMap::new();
        for ((host_set, claim), (ports, writers)) in names {
            let writers = || writers.iter().filter(|writer| silent.contains_key(**writer)).copied();
            if writers().next().is_none() {
                continue;
            }
            let route = Route { host_set, host, claim: *claim };
            let keys = published.key_change(records, route, ports);
            by_change.entry(keys).or_default().extend(writers());
            if here().any(|one| !published.was_published_as_widely(host_set, one.policy)) {
                by_change.entry(pins).or_default().extend(writers());
            }
        }
        for one in here() {
            let below = published.silent_below(records, one, silent);
            if !below.is_empty() {
                by_change.entry(pins).or_default().extend(below);
            }
        }
        let is_unsure = |change: &Change| matches!(change, Change::Keys | Change::Pins);
        let mut changes: BTreeSet<Change> = by_change.keys().copied().filter(is_unsure).collect();
        if changes.is_empty() {
            let Some(change) = by_change.keys().next().copied() else { return };
            changes.insert(change);
        }
        let class = match code.class() {
            Class::Warning => Class::Warning,
            class if changes.iter().any(is_unsure) => class,
            _ if changes.contains(&Change::PinsWithheld) => Class::Withhold,
            _ => Class::Warning,
        };
        let writers = by_change.iter().filter(|(change, _)| changes.contains(change));
        let writers: BTreeSet<&WriterName> = writers.flat_map(|(_, all)| all).copied().collect();
        let silent: Silent<'a> = silent
            .iter()
            .filter(|(one, _)| writers.contains(*one))
            .map(|(a, b)| (*a, *b))
            .collect();
        let Some((_, freshness)) = silent.values().next().copied() else { return };
        let key = text::group(&silent, &changes);
        let scope =
            Scope { policy: &key, kind: Kind::Enforced, at: &freshness.at, each_place: true };
        self.find_as(scope, Kind::Enforced, host, (code, class), || {
            text::silent(records, &silent, &changes, (class, now))
        });
    }

    /// Reports files of heartbeats that are missing or cannot be used.
    fn check_heard_files(&mut self, records: &'a Records) {
        for freshness in &records.freshness {
            let (code, what) = match &freshness.heard {
                HeardFile::Read(_) => continue,
                HeardFile::Missing => (Code::PeerNeverHeard, text::missing(freshness)),
                // The finding about a host that shares names with these writers has reported the file already.
                HeardFile::Unusable(_) if self.findings.has_code(Code::HeartbeatsUnreadable) => {
                    continue;
                }
                HeardFile::Unusable(why) => {
                    (Code::HeartbeatsUnreadable, text::unreadable(freshness, why))
                }
            };
            let scope = Scope {
                policy: &freshness.file,
                kind: Kind::Enforced,
                at: &freshness.at,
                each_place: true,
            };
            let found =
                Found { code, class: Class::Warning, check: Check::Refuse, has_header: false };
            self.findings.add(scope, found, "-", || what);
        }
    }
}

impl<'a> Published<'a> {
    /// The blocks that have names in common with silent writers.
    fn shared(&self, records: &'a Records, silent: &Silent<'a>) -> BTreeMap<usize, Shared<'a>> {
        let mut shared: BTreeMap<usize, Shared<'a>> = BTreeMap::new();
        let mut add = |(host, claim): (usize, Claim), host_set: &HostSet, ports, writer| {
            let names = shared.entry(host).or_default();
            let (known, writers) = names.entry((host_set.clone(), claim)).or_default();
            known.extend::<BTreeSet<u16>>(ports);
            writers.insert(writer);
        };
        // Blocks to which clients come that hold pins of a silent writer.
        for host_set in self.host_sets(self.presented.len()) {
            let binding = self.binding(&host_set);
            let mut of_silent = binding
                .iter()
                .filter_map(|(live, relation)| {
                    let (writer, _) = silent.get_key_value(&live.record.writer)?;
                    Some((*writer, *live, *relation))
                })
                .peekable();
            if of_silent.peek().is_none() {
                continue;
            }
            let targets = self.routing.targets(&host_set);
            for (writer, live, relation) in of_silent {
                let led_to = self.led_to(&targets, &host_set, live, relation).into_iter();
                for (to, ports) in led_to.filter(|((_, claim), _)| !claim.is_incidental()) {
                    add(to, &host_set, ports, writer);
                }
            }
        }
        // Blocks that answer for a name for which a silent writer presents certificates.
        let presents = records.state.presents().filter(|record| {
            !record.body.aside
                && silent.contains_key(&record.writer)
                && records.state.is_presented(record)
        });
        let mut patterns: BTreeMap<(&str, Matching), BTreeSet<&'a WriterName>> = BTreeMap::new();
        for record in presents {
            let Some((writer, _)) = silent.get_key_value(&record.writer) else { continue };
            let body: &'a Presents = &record.body;
            if body.matching == Matching::OneLabel {
                patterns.entry((body.host.as_str(), body.matching)).or_default().insert(writer);
            }
            let host_set = (body.host.clone(), body.matching);
            for Target { host, port, claim, .. } in self.routing.targets(&host_set) {
                if claim.is_served() || !claim.is_incidental() && body.ports.contains(&port) {
                    add((host, claim), &host_set, BTreeSet::from([port]), writer);
                }
            }
        }
        // Blocks with a name that is one of the hosts of a silent writer's pattern.
        for host in (0..self.presented.len()).filter(|_| !patterns.is_empty()) {
            for (host_set, reached) in self.routing.served(host) {
                let writers = names_of(host_set).filter_map(|name| patterns.get(&name)).flatten();
                writers.for_each(|writer| {
                    add((host, reached.claim), host_set, reached.ports.clone(), writer);
                });
            }
        }
        shared
    }

    /// How the keys of a block change for clients of a name.
    fn key_change(&self, records: &'a Records, route: Route<'_>, ports: &BTreeSet<u16>) -> Change {
        // Certificates that are not known have a finding of their own.
        if !self.presented[route.host].is_known
            || self.presented[route.host].certificates.is_empty()
        {
            return Change::None;
        }
        let is_at_handshake = records.freshness.iter().any(|freshness| freshness.at_handshake);
        // Without records of its own the server cannot tell which keys are new. Certificates that arrive at the
        // handshake all count as new.
        if records.writer.is_none() && !is_at_handshake
            || records.writer.is_some() && self.is_unchanged(route, ports)
        {
            return Change::None;
        }
        match self.satisfies_all(records, route) {
            true => Change::KeysThatSatisfy,
            false => Change::Keys,
        }
    }

    /// Whether clients hold pins for a name, and a block satisfies all of them except waived ones.
    fn satisfies_all(&self, records: &'a Records, route: Route<'_>) -> bool {
        let Route { host_set, host, claim } = route;
        let binding = self.binding(host_set);
        let entries = entries_of_configurations(&binding);
        let targets = self.routing.targets(host_set);
        let mut is_held = false;
        for &(live, relation) in &binding {
            let led = self.led_to(&targets, host_set, live, relation);
            let Some(ports) = led.get(&(host, claim)) else { continue };
            let body = &live.record.body;
            let same = body.configuration.and_then(|of| entries.get(&(of, &live.record.writer)));
            let enough = enough(body, &any_of(host_set), same.into_iter().flatten().copied());
            let held = (live, relation, &enough[..]);
            let fault = self.judge(records, host_set, held, (host, claim), ports);
            let lets_in = |code| matches!(code, Code::PublishedPinsPartlyMet | Code::Waived);
            if fault.is_some_and(|(code, _)| !lets_in(code)) {
                return false;
            }
            is_held = true;
        }
        is_held
    }

    /// The silent writers with hosts that the policy newly binds by `includeSubDomains`.
    fn silent_below(
        &self,
        records: &'a Records,
        one: &Sent<'a>,
        silent: &Silent<'a>,
    ) -> BTreeSet<&'a WriterName> {
        let mut below = BTreeSet::new();
        if !one.policy.binds_subdomains() {
            return below;
        }
        let new: Vec<&HostSet> = self
            .routing
            .served(one.host)
            .map(|(host_set, _)| host_set)
            .filter(|host_set| !self.was_published_as_widely(host_set, one.policy))
            .collect();
        let is_there =
            |record: &&Record<Presents>| !record.body.aside && records.state.is_presented(record);
        for record in records.state.presents().filter(is_there).filter(|_| !new.is_empty()) {
            let Some((writer, _)) = silent.get_key_value(&record.writer) else { continue };
            let visited = (record.body.host.clone(), record.body.matching);
            let is_bound = domains_above(&visited).any(|(domain, under)| {
                new.iter().any(|host_set| {
                    host_set.0.as_str() == domain
                        && self.binds_below(one.host, host_set, under, &visited)
                })
            });
            if is_bound {
                below.insert(*writer);
            }
        }
        below
    }
}
