//! Who is right: what every client would do after a change, and what that says about an answer.
//!
//! Three kinds of reasons. A client that gets in today, or that comes for the first time, and could
//! be refused tomorrow *must* stop the change. A client that could be refused *may* stop it, also
//! one that was refused before, unless what it is shown stays as it is. And for some that hold
//! pins for names that nobody says are served here, a word is enough.

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
    /// Until when somebody certainly holds them.
    pub must_until: i64,
    /// Until when somebody may.
    pub may_until: i64,
    /// Whether this server's records have them.
    pub is_known: bool,
}

/// Where clients have pins from.
#[derive(Clone, Debug)]
pub enum From {
    /// From a header: they visited `host`, saw this and took this path.
    Header(Header),
    /// From elsewhere.
    Outside(Outside),
    /// From a zone.
    Dane(Dane),
}

/// A header that was noted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    pub host: &'static str,
    pub policy: Policy,
    pub taste: usize,
    pub leaf: Key,
    pub sight: Sight,
    pub above: Above,
    /// Whether it was the peer's.
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

    /// Holders of TLSA records of usage 3 do not look at names.
    fn ignores_names(&self) -> bool {
        match &self.from {
            From::Outside(outside) => outside.scope == Scope::Leaf && outside.port.is_some(),
            From::Dane(dane) => dane.ignores_names(),
            From::Header(_) => false,
        }
    }

    fn is_of(&self, taste: usize) -> bool {
        !matches!(&self.from, From::Header(header) if header.taste != taste)
    }

    /// The paths that its holders could take where they see this.
    fn paths(&self, sight: &Sight) -> Vec<Above> {
        match &self.from {
            From::Header(seen) if seen.sight == *sight => vec![seen.above.clone()],
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

    /// Whether it gets in, as far as that can be told.
    fn meets(&self, sent: &Sent, above: &Above) -> bool {
        self.outcome(sent, above) == Outcome::Yes
    }

    /// Whether what is sent is the same to its holders.
    fn is_same(&self, old: &Sent, new: &Sent) -> bool {
        let sees = |leaf: &LeafCert| match &self.from {
            From::Dane(dane) if dane.sees_renewals() => Some(leaf.clone()),
            _ => None,
        };
        let names =
            |sent| matches!(&self.from, From::Dane(dane) if nature::is_for(sent, dane.host));
        is_same(old, new) && sees(&old.leaf) == sees(&new.leaf) && names(old) == names(new)
    }

    /// Whether some holder could be refused. Who has seen another leaf may, for all that can be
    /// known, take another path.
    fn may_be_refused(&self, sent: &Sent) -> bool {
        let sight = Sight::of(sent);
        let paths = match &self.from {
            From::Header(seen) if seen.leaf != sent.leaf.key => sight.paths(),
            _ => self.paths(&sight),
        };
        paths.iter().any(|above| !self.meets(sent, above))
    }

    /// Whether some holder is refused for certain.
    fn is_refused(&self, sent: &Sent) -> bool {
        let paths = self.paths(&Sight::of(sent));
        paths.iter().any(|above| self.outcome(sent, above) == Outcome::No)
    }

    /// Whether names do not count for a holder that got in with this.
    fn got_in_whatever_the_name(&self, sent: &Sent) -> bool {
        match &self.from {
            From::Dane(dane) => dane.is_met_by_leaf(sent),
            _ => true,
        }
    }

    /// Whether some holder gets in with what was and is refused with what will be.
    fn loses(&self, old: &Sent, new: &Sent) -> bool {
        let (was, is) = (Sight::of(old), Sight::of(new));
        let is_refused = |above: &Above| self.outcome(new, above) == Outcome::No;
        self.paths(&was).iter().filter(|above| self.meets(old, above)).any(|above| {
            if was == is { is_refused(above) } else { self.paths(&is).iter().any(is_refused) }
        })
    }

    fn says(&self) -> String {
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

/// Reasons, each a sentence.
#[derive(Debug, Default)]
pub struct Opinion {
    pub must: Vec<String>,
    pub may: Vec<String>,
    pub say: Vec<String>,
}

/// What there is to judge a change by.
pub struct Case<'a> {
    /// What was served last, and whether a block sent its header to visitors of a host.
    pub old: Option<&'a Config>,
    pub sent_before: &'a dyn Fn(usize, &str) -> bool,
    pub new: &'a Config,
    /// Whether a block is going to send its header to visitors of a host.
    pub sends: &'a dyn Fn(usize, &str) -> bool,
    /// What peers present, as far as it is on record here.
    pub peers: &'a [Config],
    pub memories: &'a [Memory],
    pub now: i64,
    /// Whether this server knows what it was serving.
    pub has_predecessor: bool,
    /// Whether it knows which certificates, or the keys alone.
    pub knows_certificates: bool,
}

/// What clients see at a place, and why.
fn view<'a>(
    config: &'a Config,
    host: &str,
    port: u16,
    taste: usize,
) -> Option<(&'a Sent, By, usize)> {
    let (at, by) = nature::route(config, host, port)?;
    Some((nature::chosen(&config.blocks[at], taste), by, at))
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
            for taste in 0..nature::TASTES {
                held(case, host, port, taste, &mut opinion);
                published(case, host, port, taste, &mut opinion);
            }
        }
    }
    for host in BELOW {
        for port in PORTS {
            for taste in 0..nature::TASTES {
                held(case, host, port, taste, &mut opinion);
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

/// Pins that clients hold, against what they are going to be shown.
fn held(case: &Case<'_>, host: &'static str, port: u16, taste: usize, opinion: &mut Opinion) {
    let Some(new) = view(case.new, host, port, taste) else { return };
    let by = new.1;
    if is_left_out(case.new, host, by) {
        return;
    }
    let was = case.old.and_then(|config| view(config, host, port, taste));
    for memory in case.memories {
        let is_live = case.now < memory.may_until && memory.is_known;
        if !is_live || !memory.is_of(taste) || !memory.binds(host, port) {
            continue;
        }
        // At a port without names it is the pins that are said to be served elsewhere.
        let is_elsewhere = memory.host().is_some_and(|own| is_left_out(case.new, own, by));
        if by == By::PortAlone && is_elsewhere || !memory.may_be_refused(new.0) {
            continue;
        }
        let visit = Visit { case, memory, host, port, taste, new, was };
        if visit.is_for_it() || memory.ignores_names() {
            visit.is_held_to_its_pins(opinion);
        } else {
            visit.is_turned_away_for_the_name(opinion);
        }
    }
}

/// Somebody with pins, who may be refused at a place.
struct Visit<'a> {
    case: &'a Case<'a>,
    memory: &'a Memory,
    host: &'static str,
    port: u16,
    taste: usize,
    new: (&'a Sent, By, usize),
    was: Option<(&'a Sent, By, usize)>,
}

impl<'a> Visit<'a> {
    /// What was shown there, unless it was not for the name.
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
        format!("{} at {host}:{port}: was [{was}], is [{new}] ({by:?})", memory.says())
    }

    /// Turned away for the name, with or without pins. Whoever has the name in its
    /// configuration may be asked all the same.
    fn is_turned_away_for_the_name(&self, opinion: &mut Opinion) {
        let Self { case, memory, host, port, new: (new, by, at), .. } = *self;
        let old = self.old();
        let got_in = old.is_some_and(|(old, ..)| !memory.may_be_refused(old));
        if got_in && case.has_predecessor && self.is_certain() && port != STREAM {
            opinion.say.push(format!("turned away for the name: {}", self.reason()));
        }
        // No record tells for which names the certificate of a block with the name was.
        let is_renewed = |old: &Sent| {
            by == By::Name && matches!(memory.from, From::Dane(_)) && old.leaf != new.leaf
        };
        let is_changed =
            !self.was.is_some_and(|(old, ..)| memory.is_same(old, new) && !is_renewed(old));
        let has_name = matches!(by, By::Name | By::Pattern);
        // What a record has whole may be an anchor that was not sent: no record tells.
        let is_untold = by == By::PortAlone && old.is_some();
        let is_reached = has_name || is_for_any(&case.new.blocks[at], host) || is_untold;
        if is_reached && (is_changed || !case.has_predecessor) {
            opinion.may.push(self.reason());
        }
    }

    fn is_held_to_its_pins(&self, opinion: &mut Opinion) {
        let Self { case, memory, host, port, new: (new, by, at), .. } = *self;
        let (old, ignores) = (self.old(), memory.ignores_names());
        // Also where the certificate was not for the name so far: nobody got in then.
        let had_it = |(old, was, _): (&Sent, By, usize)| {
            let got_in = ignores || nature::is_for(old, host);
            was == By::Name
                && by == By::Name
                && (memory.is_same(old, new) || !got_in && is_same(old, new))
        };
        let is_unchanged =
            old.is_some_and(|(old, ..)| memory.is_same(old, new)) || self.was.is_some_and(had_it);
        // A name that a certificate has now, and not only a wildcard of it, is new there.
        let was_aside = |config: &Config| {
            old.is_some_and(|(_, was, at)| is_aside(&config.blocks[at], host, was))
        };
        let is_new = case.old.is_some_and(was_aside) && !is_aside(&case.new.blocks[at], host, by);
        if !is_unchanged || is_new || !case.has_predecessor {
            opinion.may.push(self.reason());
        }
        // What compares pins of the web does not come to another service.
        let is_foreign = port == STREAM && memory.port().is_none();
        if is_unchanged || !self.is_certain() || is_foreign {
            return;
        }
        let seems_unchanged =
            !case.knows_certificates && old.is_some_and(|(old, ..)| has_same_keys(old, new));
        let loses = self.loses();
        // Who got in by the name is turned away for it now.
        let is_nameless =
            ignores && old.is_none_or(|(old, ..)| memory.got_in_whatever_the_name(old));
        let is_led = self.is_for_it() || is_nameless || port == STREAM || by == By::Name;
        let had_name = self.was.is_some_and(|(_, by, _)| by == By::Name);
        if loses && !seems_unchanged && is_led {
            opinion.must.push(self.reason());
        } else if memory.is_refused(new) && self.is_for_it() || loses && had_name {
            opinion.say.push(self.reason());
        }
    }

    /// Whether somebody gets in now, or comes for the first time, and is refused then.
    fn loses(&self) -> bool {
        let Self { case, memory, host, port, taste, new: (new, by, _), .. } = *self;
        // Whoever got in for no name at all was not served by name.
        let was_there = |(old, by, _): &(&Sent, By, usize)| {
            memory.ignores_names() || port == STREAM || *by == By::Name || nature::is_for(old, host)
        };
        match self.old().filter(was_there) {
            Some((old, ..)) => memory.loses(old, new),
            None => {
                // Of a pattern that the certificate does not fit nothing says that somebody comes.
                let has_name = by == By::Name || by == By::Pattern && self.is_for_it();
                (has_name || by == By::PortAlone && self.is_for_it())
                    && comes_in_vain(case, memory, host, taste, new)
            }
        }
    }
}

/// Whether some holder is refused who visits a host for the first time here. A path that meets the pins
/// may be the one that all of them take: who has been shown the same, there or at another of the hosts
/// that the pins bind, got in. A server without a predecessor may have been showing it all along.
fn comes_in_vain(
    case: &Case<'_>,
    memory: &Memory,
    host: &'static str,
    taste: usize,
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
    let shown = |config: &'_ Config, host: &str| -> Vec<Sent> {
        let all = PORTS.into_iter().filter_map(|port| view(config, host, port, taste));
        let lets_in = |sent: &&Sent| {
            let paths = Sight::of(sent).paths();
            paths.iter().any(|above| memory.meets(sent, above))
        };
        // For which names the certificate of a block with the name was, no record tells.
        let is_for =
            |(sent, by, _): &(&Sent, By, usize)| *by == By::Name || nature::is_for(sent, host);
        all.filter(is_for).map(|(sent, ..)| sent).filter(lets_in).cloned().collect()
    };
    let places = case.peers.iter().chain([old]);
    let mut same_host = places.flat_map(|config| shown(config, host)).peekable();
    if same_host.peek().is_some() {
        return same_host.any(|was| memory.loses(&was, new));
    }
    let bound = HOSTS.into_iter().filter(|host| memory.binds(host, memory.port().unwrap_or(443)));
    !bound.flat_map(|host| shown(old, host)).any(|was| !memory.loses(&was, new))
}

/// Pins for a port of a host that is served here, but not there: another port may lead here.
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
                opinion.say.push(format!("{} at {host}: no server listens there", memory.says()));
            }
        }
    }
}

/// Pins that visitors of `host` are going to note, against all that they may visit afterwards.
fn published(case: &Case<'_>, host: &'static str, port: u16, taste: usize, opinion: &mut Opinion) {
    let Some(visitors) = Visitors::of(case, host, port, taste) else { return };
    let Visitors { policy, sent, .. } = visitors;
    for above in visitors.sight.paths() {
        if !client::notes(&policy.pins, sent.leaf.key, &above) {
            continue;
        }
        for target in HOSTS {
            let is_bound =
                target == host || policy.include_subdomains && client::is_below(target, host);
            for there in PORTS.into_iter().filter(|_| is_bound) {
                visitors.go_to(case.new, false, (target, there), &above, opinion);
                for peer in case.peers {
                    visitors.go_to(peer, true, (target, there), &above, opinion);
                }
            }
        }
    }
}

/// Those who are going to note the pins of a host.
struct Visitors<'a> {
    case: &'a Case<'a>,
    host: &'static str,
    port: u16,
    taste: usize,
    policy: &'a Policy,
    sent: &'a Sent,
    sight: Sight,
    /// Whether others have noted the same before.
    was_noted: bool,
    /// Whether the header was sent before at some port, and is going to be.
    was_sent: bool,
    is_sent: bool,
}

impl<'a> Visitors<'a> {
    fn of(case: &'a Case<'a>, host: &'static str, port: u16, taste: usize) -> Option<Self> {
        let (sent, by, at) = view(case.new, host, port, taste)?;
        let policy = case.new.blocks[at].policy.as_ref().filter(|policy| policy.days > 0)?;
        let is_noted = nature::is_for(sent, host) || matches!(by, By::Name | By::Pattern);
        if port == STREAM || is_left_out(case.new, host, by) || !is_noted {
            return None;
        }
        // What was shown at a port, where the header was sent there before.
        let with_header = |port| {
            let old = case.old?;
            let (was, _, at) = view(old, host, port, taste)?;
            let is_same = old.blocks[at].policy.as_ref() == Some(policy);
            let is_sent = is_same && nature::is_for(was, host) && (case.sent_before)(at, host);
            is_sent.then_some(was)
        };
        let was_noted = with_header(port).is_some_and(|was| is_same(was, sent));
        let was_sent = PORTS.into_iter().any(|port| with_header(port).is_some());
        let (sight, is_sent) = (Sight::of(sent), (case.sends)(at, host));
        Some(Self { case, host, port, taste, policy, sent, sight, was_noted, was_sent, is_sent })
    }

    /// Whether they are refused by what is shown elsewhere. Another leaf may, for all that can be known,
    /// be another path.
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
        let Self { case, host, port, taste, policy, sent, .. } = self;
        let Some((shown, by, at)) = view(config, target, there, *taste) else { return };
        let is_left_out = !is_peer && is_left_out(config, target, by);
        let has_name = matches!(by, By::Name | By::Pattern);
        let is_reached = has_name || is_for_any(&config.blocks[at], target);
        if is_left_out || !is_reached || !self.are_refused(shown, above, false) {
            return;
        }
        let whose = if is_peer { "the peer" } else { "us" };
        let reason = format!(
            "visitors of {host}:{port} note {policy} ([{sent}]) and are refused at \
             {target}:{there} of {whose}: [{shown}] ({by:?})"
        );
        let showed_it =
            |old| view(old, target, there, *taste).is_some_and(|(old, ..)| is_same(old, shown));
        let was_so = self.was_noted && (is_peer || case.old.is_some_and(showed_it));
        if !was_so || !case.has_predecessor {
            opinion.may.push(reason.clone());
        }
        let is_for_it = nature::is_for(sent, host) && nature::is_for(shown, target);
        let is_certain = is_for_it && there != STREAM && self.are_refused(shown, above, true);
        if self.was_sent || !self.is_sent || !is_certain {
            // Those who have noted it are held to it above.
            return;
        }
        if by == By::Name || by == By::Pattern && !is_peer {
            opinion.must.push(reason);
        } else if by != By::NamedDefault || !is_peer {
            // Of its default server the peer says it itself, once it has read of the pins.
            opinion.say.push(reason);
        }
    }
}
