//! The oracle's judgement: what every client would do after a change, and which answers of the software are right.
//!
//! There are three kinds of reasons. If a client that is accepted today, or that connects for the first time, could be
//! refused tomorrow, the software *must* refuse the change. If a client could be refused, also one that was refused
//! before, the software *may* refuse the change, unless the certificate of that client is unchanged. For some clients
//! with pins for names that are not configured here, a *warning* is enough.

use crate::client::{self, Above, Sight};
use crate::dane::{Dane, Outcome};
use crate::nature::{self, By};
use crate::world::{
    BELOW, Block, Config, HOSTS, Key, LeafCert, Outside, PORTS, Policy, STREAM, Scope, Sent,
};

/// Pins that clients hold.
#[derive(Clone, Debug)]
pub struct Memory {
    pub from: From,
    /// Until when some client certainly holds them.
    pub must_until: i64,
    /// Until when some client may hold them.
    pub may_until: i64,
    /// Whether this server's records have them.
    pub is_known: bool,
}

/// The source of pins that clients hold.
#[derive(Clone, Debug)]
pub enum From {
    /// A header, noted on a certificate path of `host`.
    Header(Header),
    /// An app or the like.
    Outside(Outside),
    /// The TLSA records of a zone.
    Dane(Dane),
}

/// A header that was noted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    pub host: &'static str,
    pub policy: Policy,
    pub preference: usize,
    pub leaf: Key,
    pub sight: Sight,
    pub above: Above,
    /// Whether the peer sent the header.
    pub peer: bool,
}

impl Memory {
    fn binds(&self, host: &str, port: u16) -> bool {
        match &self.from {
            From::Header(Header { host: own, policy, .. }) => {
                host == *own || policy.include_subdomains && client::is_below(host, own)
            }
            From::Outside(outside) => {
                client::binds(outside, host) && outside.port.is_none_or(|only| only == port)
            }
            From::Dane(dane) => (dane.host, dane.port) == (host, port),
        }
    }

    fn pins(&self) -> &[Key] {
        match &self.from {
            From::Header(Header { policy, .. }) => &policy.pins,
            From::Outside(outside) => &outside.pins,
            From::Dane(_) => &[],
        }
    }

    fn host(&self) -> Option<&str> {
        match &self.from {
            From::Header(_) => None,
            From::Outside(outside) => Some(outside.host),
            From::Dane(dane) => Some(dane.host),
        }
    }

    fn port(&self) -> Option<u16> {
        match &self.from {
            From::Header(_) => None,
            From::Outside(outside) => outside.port,
            From::Dane(dane) => Some(dane.port),
        }
    }

    fn scope(&self) -> Scope {
        match &self.from {
            From::Header(_) | From::Dane(_) => Scope::Chain,
            From::Outside(outside) => outside.scope,
        }
    }

    /// Whether the holders ignore the names in certificates, as holders of TLSA records of usage 3 do.
    fn ignores_names(&self) -> bool {
        match &self.from {
            From::Outside(outside) => outside.scope == Scope::Leaf && outside.port.is_some(),
            From::Dane(dane) => dane.ignores_names(),
            From::Header(_) => false,
        }
    }

    fn is_of(&self, preference: usize) -> bool {
        !matches!(&self.from, From::Header(header) if header.preference != preference)
    }

    /// The paths that the holders could take for this input.
    fn paths(&self, sight: &Sight) -> Vec<Above> {
        match &self.from {
            From::Header(header) if header.sight == *sight => vec![header.above.clone()],
            From::Dane(dane) => dane.paths(sight),
            _ => sight.paths(),
        }
    }

    fn outcome(&self, sent: &Sent, above: &Above) -> Outcome {
        if let From::Dane(dane) = &self.from {
            return dane.outcome(sent, above);
        }
        match client::meets(self.pins(), self.scope(), sent.leaf.key, above) {
            true => Outcome::Yes,
            false => Outcome::No,
        }
    }

    /// Whether the pins certainly match.
    fn meets(&self, sent: &Sent, above: &Above) -> bool {
        self.outcome(sent, above) == Outcome::Yes
    }

    /// Whether the holders do not distinguish the two sent chains.
    fn is_same(&self, old: &Sent, new: &Sent) -> bool {
        let sees = |leaf: &LeafCert| match &self.from {
            From::Dane(dane) if dane.sees_renewals() => Some(leaf.clone()),
            _ => None,
        };
        let names =
            |sent| matches!(&self.from, From::Dane(dane) if nature::is_for(sent, dane.host));
        is_same(old, new) && sees(&old.leaf) == sees(&new.leaf) && names(old) == names(new)
    }

    /// Whether some holder could refuse the server. A holder that noted the header with another leaf may take another
    /// path.
    fn may_be_refused(&self, sent: &Sent) -> bool {
        let sight = Sight::of(sent);
        let paths = match &self.from {
            From::Header(header) if header.leaf != sent.leaf.key => sight.paths(),
            _ => self.paths(&sight),
        };
        paths.iter().any(|above| !self.meets(sent, above))
    }

    /// Whether some holder certainly refuses the server.
    fn is_refused(&self, sent: &Sent) -> bool {
        let paths = self.paths(&Sight::of(sent));
        paths.iter().any(|above| self.outcome(sent, above) == Outcome::No)
    }

    /// Whether a holder that accepted this chain did so without regard to names.
    fn got_in_whatever_the_name(&self, sent: &Sent) -> bool {
        match &self.from {
            From::Dane(dane) => dane.is_met_by_leaf(sent),
            _ => true,
        }
    }

    /// Whether some holder accepts the old chain and refuses the new one.
    fn loses(&self, old: &Sent, new: &Sent) -> bool {
        let (was, is) = (Sight::of(old), Sight::of(new));
        let is_refused = |above: &Above| self.outcome(new, above) == Outcome::No;
        self.paths(&was).iter().filter(|above| self.meets(old, above)).any(|above| {
            if was == is { is_refused(above) } else { self.paths(&is).iter().any(is_refused) }
        })
    }

    fn description(&self) -> String {
        match &self.from {
            From::Header(Header { host, policy, above, peer, .. }) => {
                let above: Vec<String> = above.iter().map(|step| step.key.to_string()).collect();
                let by = if *peer { "the peer" } else { "us" };
                format!("a visitor of {host} (header of {by}: {policy}; path above: {above:?})")
            }
            From::Outside(outside) => format!("a client with {outside}"),
            From::Dane(dane) => format!("a client of {dane}"),
        }
    }
}

/// The reasons of the oracle, each a sentence: to refuse, to be allowed to refuse, and to warn.
#[derive(Debug, Default)]
pub struct Opinion {
    pub must: Vec<String>,
    pub may: Vec<String>,
    pub warn: Vec<String>,
}

/// A change to judge, with everything that the judgement depends on.
pub struct Case<'a> {
    /// The configuration served last, and whether a block sent its header to clients of a host.
    pub old: Option<&'a Config>,
    pub sent_before: &'a dyn Fn(usize, &str) -> bool,
    pub new: &'a Config,
    /// Whether a block is going to send its header to clients of a host.
    pub sends: &'a dyn Fn(usize, &str) -> bool,
    /// The configurations of peers, as far as they are on record here.
    pub peers: &'a [Config],
    pub memories: &'a [Memory],
    pub now: i64,
    /// Whether this server knows the configuration that it was serving.
    pub has_predecessor: bool,
    /// Whether the records have the served certificates, and not only their keys.
    pub knows_certificates: bool,
}

/// The chain that clients of a host get on a port, the reason, and the position of the block.
fn view<'a>(
    config: &'a Config,
    host: &str,
    port: u16,
    preference: usize,
) -> Option<(&'a Sent, By, usize)> {
    let (at, by) = nature::route(config, host, port)?;
    Some((nature::chosen(&config.blocks[at], preference), by, at))
}

/// Whether one of the certificates of a block is for `host`.
fn is_for_any(block: &Block, host: &str) -> bool {
    block.slots.iter().any(|sent| nature::is_for(sent, host))
}

/// Whether a default server answers for a host only by a wildcard in its certificates.
fn is_aside(block: &Block, host: &str, by: By) -> bool {
    by == By::NamedDefault && !block.slots.iter().any(|sent| sent.leaf.names.contains(&host))
}

fn is_left_out(config: &Config, host: &str, by: By) -> bool {
    by != By::Name && config.not_served_here.contains(&host)
}

fn is_same(old: &Sent, new: &Sent) -> bool {
    old.leaf.key == new.leaf.key && Sight::of(old) == Sight::of(new)
}

fn has_same_keys(old: &Sent, new: &Sent) -> bool {
    let keys = |sent: &Sent| sent.cas.iter().map(|ca| ca.subject).collect::<Vec<_>>();
    old.leaf.key == new.leaf.key && keys(old) == keys(new)
}

pub fn judge(case: &Case<'_>) -> Opinion {
    let mut opinion = Opinion::default();
    for host in HOSTS {
        for port in PORTS {
            for preference in 0..nature::PREFERENCES {
                held(case, host, port, preference, &mut opinion);
                published(case, host, port, preference, &mut opinion);
            }
        }
    }
    for host in BELOW {
        for port in PORTS {
            for preference in 0..nature::PREFERENCES {
                held(case, host, port, preference, &mut opinion);
            }
        }
    }
    ports(case, &mut opinion);
    for (at, block) in case.new.blocks.iter().enumerate() {
        let Some(policy) = block.policy.as_ref().filter(|policy| policy.days > 0) else { continue };
        for sent in &block.slots {
            let fits =
                |above: &Above| client::meets(&policy.pins, Scope::Chain, sent.leaf.key, above);
            if !Sight::of(sent).paths().iter().any(fits) {
                opinion.may.push(format!("block {at} pins no key of its own"));
            }
        }
    }
    opinion
}

/// Compares pins that clients hold with the new certificate.
fn held(case: &Case<'_>, host: &'static str, port: u16, preference: usize, opinion: &mut Opinion) {
    let Some(new) = view(case.new, host, port, preference) else { return };
    let by = new.1;
    if is_left_out(case.new, host, by) {
        return;
    }
    let was = case.old.and_then(|config| view(config, host, port, preference));
    for memory in case.memories {
        let is_live = case.now < memory.may_until && memory.is_known;
        if !is_live || !memory.is_of(preference) || !memory.binds(host, port) {
            continue;
        }
        // On a port without names, the host of the pins decides whether it is not served here.
        let is_elsewhere = memory.host().is_some_and(|own| is_left_out(case.new, own, by));
        if by == By::PortAlone && is_elsewhere || !memory.may_be_refused(new.0) {
            continue;
        }
        let holder = Holder { case, memory, host, port, preference, new, was };
        if holder.is_for_it() || memory.ignores_names() {
            holder.is_compared_with_its_pins(opinion);
        } else {
            holder.is_refused_for_the_name(opinion);
        }
    }
}

/// A client with pins that may refuse the certificate of a host on a port.
struct Holder<'a> {
    case: &'a Case<'a>,
    memory: &'a Memory,
    host: &'static str,
    port: u16,
    preference: usize,
    new: (&'a Sent, By, usize),
    was: Option<(&'a Sent, By, usize)>,
}

impl<'a> Holder<'a> {
    /// The old certificate there, unless it was for another name.
    fn old(&self) -> Option<(&'a Sent, By, usize)> {
        let ignores = self.memory.ignores_names();
        self.was.filter(|(old, ..)| ignores || nature::is_for(old, self.host))
    }

    fn is_for_it(&self) -> bool {
        nature::is_for(self.new.0, self.host)
    }

    fn is_certain(&self) -> bool {
        self.case.now < self.memory.must_until
    }

    fn reason(&self) -> String {
        let Self { memory, host, port, new: (new, by, _), .. } = self;
        let was = self.old().map_or("nothing".to_owned(), |(old, ..)| old.to_string());
        format!("{} at {host}:{port}: was [{was}], is [{new}] ({by:?})", memory.description())
    }

    /// The client refuses the certificate for its name, with or without pins. The software may still refuse the change
    /// if a block has the name.
    fn is_refused_for_the_name(&self, opinion: &mut Opinion) {
        let Self { case, memory, host, port, new: (new, by, at), .. } = *self;
        let old = self.old();
        let got_in = old.is_some_and(|(old, ..)| !memory.may_be_refused(old));
        if got_in && case.has_predecessor && self.is_certain() && port != STREAM {
            opinion.warn.push(format!("turned away for the name: {}", self.reason()));
        }
        // No record has the names of the certificate of a block with the name.
        let is_renewed = |old: &Sent| {
            by == By::Name && matches!(memory.from, From::Dane(_)) && old.leaf != new.leaf
        };
        let is_changed =
            !self.was.is_some_and(|(old, ..)| memory.is_same(old, new) && !is_renewed(old));
        let has_name = matches!(by, By::Name | By::Pattern);
        // A TLSA record may contain a whole trust anchor that was not sent; the server's records do not have it.
        let is_unrecorded = by == By::PortAlone && old.is_some();
        let is_reached = has_name || is_for_any(&case.new.blocks[at], host) || is_unrecorded;
        if is_reached && (is_changed || !case.has_predecessor) {
            opinion.may.push(self.reason());
        }
    }

    fn is_compared_with_its_pins(&self, opinion: &mut Opinion) {
        let Self { case, memory, host, port, new: (new, by, at), .. } = *self;
        let (old, ignores) = (self.old(), memory.ignores_names());
        // The block with the name also counts if its certificate was for another name: no client accepted it then.
        let had_it = |(old, was, _): (&Sent, By, usize)| {
            let got_in = ignores || nature::is_for(old, host);
            was == By::Name
                && by == By::Name
                && (memory.is_same(old, new) || !got_in && is_same(old, new))
        };
        let is_unchanged =
            old.is_some_and(|(old, ..)| memory.is_same(old, new)) || self.was.is_some_and(had_it);
        // A name that the certificate now has itself, and not only by a wildcard, is new there.
        let was_aside = |config: &Config| {
            old.is_some_and(|(_, was, at)| is_aside(&config.blocks[at], host, was))
        };
        let is_new = case.old.is_some_and(was_aside) && !is_aside(&case.new.blocks[at], host, by);
        if !is_unchanged || is_new || !case.has_predecessor {
            opinion.may.push(self.reason());
        }
        // Clients that hold pins of the web do not connect to another service.
        let is_foreign = port == STREAM && memory.port().is_none();
        if is_unchanged || !self.is_certain() || is_foreign {
            return;
        }
        let seems_unchanged =
            !case.knows_certificates && old.is_some_and(|(old, ..)| has_same_keys(old, new));
        let loses = self.loses();
        // A client that accepted the server by its name refuses it for the name now.
        let is_nameless =
            ignores && old.is_none_or(|(old, ..)| memory.got_in_whatever_the_name(old));
        let is_led = self.is_for_it() || is_nameless || port == STREAM || by == By::Name;
        let had_name = self.was.is_some_and(|(_, by, _)| by == By::Name);
        if loses && !seems_unchanged && is_led {
            opinion.must.push(self.reason());
        } else if memory.is_refused(new) && self.is_for_it() || loses && had_name {
            opinion.warn.push(self.reason());
        }
    }

    /// Whether some client accepts the old certificate, or connects for the first time, and refuses the new one.
    fn loses(&self) -> bool {
        let Self { case, memory, host, port, preference, new: (new, by, _), .. } = *self;
        // A client counts as accepted before only if the block had its name, or if names do not matter.
        let was_there = |(old, by, _): &(&Sent, By, usize)| {
            memory.ignores_names() || port == STREAM || *by == By::Name || nature::is_for(old, host)
        };
        match self.old().filter(was_there) {
            Some((old, ..)) => memory.loses(old, new),
            None => {
                // A pattern that the certificate does not cover does not show that clients connect there.
                let has_name = by == By::Name || by == By::Pattern && self.is_for_it();
                (has_name || by == By::PortAlone && self.is_for_it())
                    && new_clients_are_refused(case, memory, host, preference, new)
            }
        }
    }
}

/// Whether some holder that connects to a host here for the first time refuses it. All holders may take a path on which
/// the pins match: they accepted the same chain before, for this host or for another host that the pins bind. A server
/// without an earlier configuration may have presented this chain all along.
fn new_clients_are_refused(
    case: &Case<'_>,
    memory: &Memory,
    host: &'static str,
    preference: usize,
    new: &Sent,
) -> bool {
    let paths = memory.paths(&Sight::of(new));
    if !paths.iter().any(|above| memory.outcome(new, above) == Outcome::No) {
        return false;
    }
    if paths.iter().all(|above| memory.outcome(new, above) == Outcome::No) {
        return true;
    }
    let Some(old) = case.old else { return false };
    if matches!(memory.from, From::Header(_)) {
        return memory.may_be_refused(new);
    }
    let presented = |config: &'_ Config, host: &str| -> Vec<Sent> {
        let all = PORTS.into_iter().filter_map(|port| view(config, host, port, preference));
        let lets_in = |sent: &&Sent| {
            let paths = Sight::of(sent).paths();
            paths.iter().any(|above| memory.meets(sent, above))
        };
        // No record has the names of the certificate of a block with the name.
        let is_for =
            |(sent, by, _): &(&Sent, By, usize)| *by == By::Name || nature::is_for(sent, host);
        all.filter(is_for).map(|(sent, ..)| sent).filter(lets_in).cloned().collect()
    };
    let places = case.peers.iter().chain([old]);
    let mut same_host = places.flat_map(|config| presented(config, host)).peekable();
    if same_host.peek().is_some() {
        return same_host.any(|was| memory.loses(&was, new));
    }
    let bound = HOSTS.into_iter().filter(|host| memory.binds(host, memory.port().unwrap_or(443)));
    !bound.flat_map(|host| presented(old, host)).any(|was| !memory.loses(&was, new))
}

/// Pins for a port on which no server here listens, of a host that is served here on another port: a port mapping may
/// lead to it.
fn ports(case: &Case<'_>, opinion: &mut Opinion) {
    for memory in case.memories {
        let port = match &memory.from {
            From::Outside(Outside { port: Some(port), .. }) | From::Dane(Dane { port, .. }) => port,
            _ => continue,
        };
        let is_checked = case.new.blocks.iter().any(|block| block.ports.contains(port));
        if case.now >= memory.must_until || is_checked {
            continue;
        }
        let bound = HOSTS.into_iter().filter(|host| memory.binds(host, *port));
        for host in bound {
            let is_here = PORTS.into_iter().any(|port| {
                nature::route(case.new, host, port).is_some_and(|(_, by)| by == By::Name)
            });
            if is_here && !case.new.not_served_here.contains(&host) {
                opinion
                    .warn
                    .push(format!("{} at {host}: no server listens there", memory.description()));
            }
        }
    }
}

/// Compares the pins that clients of `host` are going to note with every server that they may connect to afterwards.
fn published(
    case: &Case<'_>,
    host: &'static str,
    port: u16,
    preference: usize,
    opinion: &mut Opinion,
) {
    let Some(clients) = HeaderClients::of(case, host, port, preference) else { return };
    let HeaderClients { policy, sent, .. } = clients;
    for above in clients.sight.paths() {
        if !client::notes(&policy.pins, sent.leaf.key, &above) {
            continue;
        }
        for target in HOSTS {
            let is_bound =
                target == host || policy.include_subdomains && client::is_below(target, host);
            for there in PORTS.into_iter().filter(|_| is_bound) {
                clients.go_to(case.new, false, (target, there), &above, opinion);
                for peer in case.peers {
                    clients.go_to(peer, true, (target, there), &above, opinion);
                }
            }
        }
    }
}

/// Clients that are going to note the pins of a host.
struct HeaderClients<'a> {
    case: &'a Case<'a>,
    host: &'static str,
    port: u16,
    preference: usize,
    policy: &'a Policy,
    sent: &'a Sent,
    sight: Sight,
    /// Whether other clients have noted the same before.
    was_noted: bool,
    /// Whether the header was sent before at some port, and is going to be.
    was_sent: bool,
    is_sent: bool,
}

impl<'a> HeaderClients<'a> {
    fn of(case: &'a Case<'a>, host: &'static str, port: u16, preference: usize) -> Option<Self> {
        let (sent, by, at) = view(case.new, host, port, preference)?;
        let policy = case.new.blocks[at].policy.as_ref().filter(|policy| policy.days > 0)?;
        let is_noted = nature::is_for(sent, host) || matches!(by, By::Name | By::Pattern);
        if port == STREAM || is_left_out(case.new, host, by) || !is_noted {
            return None;
        }
        // The old chain on a port, if the same header was sent with it.
        let with_header = |port| {
            let old = case.old?;
            let (was, _, at) = view(old, host, port, preference)?;
            let is_same = old.blocks[at].policy.as_ref() == Some(policy);
            let is_sent = is_same && nature::is_for(was, host) && (case.sent_before)(at, host);
            is_sent.then_some(was)
        };
        let was_noted = with_header(port).is_some_and(|was| is_same(was, sent));
        let was_sent = PORTS.into_iter().any(|port| with_header(port).is_some());
        let (sight, is_sent) = (Sight::of(sent), (case.sends)(at, host));
        Some(Self {
            case,
            host,
            port,
            preference,
            policy,
            sent,
            sight,
            was_noted,
            was_sent,
            is_sent,
        })
    }

    /// Whether these clients may refuse the chain `there`. With another leaf they may take another path.
    fn are_refused(&self, there: &Sent, above: &Above, is_certain: bool) -> bool {
        let other = Sight::of(there);
        let is_same = other == self.sight && (is_certain || there.leaf.key == self.sent.leaf.key);
        let paths = if is_same { vec![above.clone()] } else { other.paths() };
        paths
            .iter()
            .any(|path| !client::meets(&self.policy.pins, Scope::Chain, there.leaf.key, path))
    }

    fn go_to(
        &self,
        config: &Config,
        is_peer: bool,
        (target, there): (&'static str, u16),
        above: &Above,
        opinion: &mut Opinion,
    ) {
        let Self { case, host, port, preference, policy, sent, .. } = self;
        let Some((presented, by, at)) = view(config, target, there, *preference) else { return };
        let is_left_out = !is_peer && is_left_out(config, target, by);
        let has_name = matches!(by, By::Name | By::Pattern);
        let is_reached = has_name || is_for_any(&config.blocks[at], target);
        if is_left_out || !is_reached || !self.are_refused(presented, above, false) {
            return;
        }
        let whose = if is_peer { "the peer" } else { "us" };
        let reason = format!(
            "visitors of {host}:{port} note {policy} ([{sent}]) and are refused at \
             {target}:{there} of {whose}: [{presented}] ({by:?})"
        );
        let presented_it = |old| {
            view(old, target, there, *preference).is_some_and(|(old, ..)| is_same(old, presented))
        };
        let was_so = self.was_noted && (is_peer || case.old.is_some_and(presented_it));
        if !was_so || !case.has_predecessor {
            opinion.may.push(reason.clone());
        }
        let is_for_it = nature::is_for(sent, host) && nature::is_for(presented, target);
        let is_certain = is_for_it && there != STREAM && self.are_refused(presented, above, true);
        if self.was_sent || !self.is_sent || !is_certain {
            // `held` already compares the pins of clients that have noted the header.
            return;
        }
        if by == By::Name || by == By::Pattern && !is_peer {
            opinion.must.push(reason);
        } else if by != By::NamedDefault || !is_peer {
            // The peer itself warns about its default server, once it has read the records of the pins.
            opinion.warn.push(reason);
        }
    }
}
