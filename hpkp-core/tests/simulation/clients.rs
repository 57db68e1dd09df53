//! What clients could hold and whom they would refuse, by enumeration: every event is a visit that
//! somebody may have made, every path one that somebody may build.

use std::collections::{BTreeSet, HashMap};

use hpkp_core::published::{
    Body, Event, EventId, Lifetime, Matching, Origin, Published, Scope, Why,
};

use crate::pki::{self, Cert};

const DAY: i64 = 86_400;

/// What a server presents for one name: its chains, of which a client gets one.
pub(crate) type Shown = BTreeSet<Vec<Cert>>;

/// Where a visit may lead: a block or another server.
pub(crate) struct Place {
    pub(crate) name: String,
    pub(crate) port: u16,
    pub(crate) shown: Shown,
}

/// The server that is checked, as its operator knows it.
pub(crate) struct Server<'a> {
    pub(crate) writer: &'a str,
    /// What answers for each name on each port.
    pub(crate) places: Vec<Place>,
    /// What answers on each port where no block has the name.
    pub(crate) defaults: Vec<(u16, Shown)>,
    /// The headers that are going out: the block's names and chains, the keys pinned.
    pub(crate) headers: Vec<Header>,
}

pub(crate) struct Header {
    pub(crate) names: Vec<String>,
    pub(crate) shown: Shown,
    pub(crate) keys: BTreeSet<u32>,
    pub(crate) include_subdomains: bool,
}

/// What has been read of everybody's files, each in its order.
pub(crate) struct View<'a> {
    pub(crate) files: Vec<&'a [Event]>,
    /// What the events of the kind `presents` speak of.
    pub(crate) presented: &'a HashMap<EventId, Shown>,
    pub(crate) key_of: &'a HashMap<hpkp_core::pin::Pin, u32>,
    pub(crate) now: i64,
}

impl View<'_> {
    fn events(&self) -> impl Iterator<Item = &Event> {
        self.files.iter().flat_map(|file| file.iter())
    }

    fn end(&self, id: EventId) -> Option<i64> {
        let ends = self.events().filter_map(|event| match event.body() {
            Body::Ended(ended) if ended.ids.contains(&id) => Some(ended.when.unwrap_or(event.at())),
            _ => None,
        });
        ends.max()
    }

    /// Whether clients meet what an event presents, now or when its server is back from a stop.
    fn is_to_be_met(&self, event: &Event) -> bool {
        let is_there = |file: &&&[Event]| file.iter().any(|other| other.id() == event.id());
        let file = self.files.iter().find(is_there).unwrap();
        let is_end = |other: &Event| matches!(other.body(), Body::Ended(ended) if ended.ids.contains(&event.id()));
        let Some(end) = file.iter().position(is_end) else { return true };
        let is_stop = matches!(file[end].body(), Body::Ended(ended) if ended.why == Why::Stopped);
        is_stop && file[end + 1..].iter().all(|other| matches!(other.body(), Body::Ended(_)))
    }

    fn is_waived(&self, id: EventId) -> bool {
        self.events().any(|event| matches!(event.body(), Body::Waived(w) if w.ids.contains(&id)))
    }

    /// Whether somebody may hold these pins now.
    fn is_held(&self, event: &Event, published: &Published) -> bool {
        let end = self.end(event.id());
        match published.lifetime {
            Lifetime::MaxAge(age) if age.seconds() == 0 => false,
            // The last visit is one to a worker of yesterday.
            Lifetime::MaxAge(age) => {
                end.is_none_or(|end| self.now - (end + DAY) < i64::from(age.seconds()))
            }
            Lifetime::ExpiresAt(time) => self.now < time && end.is_none_or(|end| self.now < end),
            Lifetime::Open => end.is_none_or(|end| self.now < end),
        }
    }

    /// What those who noted a header may have seen then: the file is played from its beginning.
    fn seen_with(&self, header: &Event, host: &str) -> BTreeSet<&Shown> {
        let mut seen = BTreeSet::new();
        let is_there = |file: &&&[Event]| file.iter().any(|event| event.id() == header.id());
        let file = self.files.iter().find(is_there).unwrap();
        let (mut is_sent, mut shown) = (false, BTreeSet::new());
        for event in *file {
            match event.body() {
                Body::Published(_) if event.id() == header.id() => is_sent = true,
                Body::Presents(presents) if presents.host.as_str() == host => {
                    shown.insert(event.id());
                }
                Body::Ended(ended) => {
                    is_sent &= !ended.ids.contains(&header.id());
                    shown.retain(|id| !ended.ids.contains(id));
                }
                _ => {}
            }
            if is_sent {
                seen.extend(shown.iter().map(|id| &self.presented[id]));
            }
        }
        seen
    }

    fn keys(&self, published: &Published) -> BTreeSet<u32> {
        published.pins.iter().map(|pin| self.key_of[pin]).collect()
    }
}

fn is_below(name: &str, domain: &str) -> bool {
    name.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'))
}

fn binds(published: &Published, name: &str) -> bool {
    let host = published.host.as_str();
    let is_child = is_below(name, host) && !name[..name.len() - host.len() - 1].contains('.');
    (match published.matching {
        Matching::Exact => name == host,
        Matching::OneLabel => is_child && !published.except.iter().any(|e| e.as_str() == name),
        Matching::AnyDepth => name == host || is_below(name, host),
    }) || published.include_subdomains && is_below(name, host)
}

/// Whether a client of this scope accepts a path.
fn accepts(scope: Scope, keys: &BTreeSet<u32>, path: &[pki::Step]) -> bool {
    let is_pinned = |(cert, _): &pki::Step| keys.contains(&cert.key);
    match scope {
        Scope::Chain => path.iter().any(is_pinned),
        Scope::Leaf => is_pinned(&path[0]),
        Scope::PathCa => path[1..].iter().any(is_pinned),
        Scope::SentCa => path[1..].iter().filter(|(_, sent)| *sent).any(is_pinned),
    }
}

fn paths(scope: Scope, chain: &[Cert]) -> &'static [Vec<pki::Step>] {
    if scope == Scope::SentCa { pki::sent_paths(chain) } else { pki::paths(chain) }
}

/// Whether somebody who has noted `keys` where it was shown `then` is refused where `now` is shown.
/// Who is shown the same comes to the same path; who is shown something else may come to any.
fn may_refuse(keys: &BTreeSet<u32>, then: Option<&Shown>, now: &Shown) -> bool {
    let served = |shown: &Shown| -> BTreeSet<Vec<u32>> {
        shown.iter().map(|chain| pki::served(chain)).collect()
    };
    let any_fails = now
        .iter()
        .flat_map(|chain| pki::paths(chain))
        .any(|path| !accepts(Scope::Chain, keys, path));
    match then {
        Some(then) if served(then) != served(now) => any_fails,
        _ => may_never_pass(Scope::Chain, keys, now),
    }
}

/// Whether one of the chains has no path at all that a client accepts: so much can be said where
/// nothing is known of the path that it takes.
fn may_never_pass(scope: Scope, keys: &BTreeSet<u32>, now: &Shown) -> bool {
    now.iter().any(|chain| !paths(scope, chain).iter().any(|path| accepts(scope, keys, path)))
}

/// Whether a client that holds published pins would be refused.
pub(crate) fn holders_are_locked_out(view: &View<'_>, server: &Server<'_>) -> bool {
    locked_out(view, server, |_| true, true)
}

/// Whether one would be refused where the server's last configuration, which was `before`, presented
/// something else or did not have the name.
pub(crate) fn holders_are_newly_locked_out(
    view: &View<'_>,
    server: &Server<'_>,
    before: &Server<'_>,
) -> bool {
    let served = |shown: &Shown| -> BTreeSet<Vec<u32>> {
        shown.iter().map(|chain| pki::served(chain)).collect()
    };
    let is_new = |place: &Place| {
        let of_name = || before.places.iter().filter(|other| other.name == place.name);
        let is_same = |other: &Place| served(&other.shown) == served(&place.shown);
        if let Some(other) = of_name().find(|other| other.port == place.port) {
            return !is_same(other);
        }
        // For a name that it had given up, a default server may have presented this.
        let is_given_up = || !known_ports(view, server.writer, &place.name).is_empty();
        match of_name().next() {
            Some(_) => !of_name().any(is_same),
            None => !is_given_up(),
        }
    };
    locked_out(view, server, is_new, false)
}

fn locked_out(
    view: &View<'_>,
    server: &Server<'_>,
    counts: impl Fn(&Place) -> bool,
    defaults_count: bool,
) -> bool {
    view.events().any(|event| {
        let Body::Published(published) = event.body() else { return false };
        let host = published.host.as_str();
        let is_near = server.places.iter().any(|place| binds(published, &place.name));
        if !(is_near || event.writer().as_str() == server.writer)
            || !view.is_held(event, published)
            || view.is_waived(event.id())
        {
            return false;
        }
        let keys = view.keys(published);
        let refuses = |now: &Shown| {
            if published.origin != Origin::Header {
                return may_never_pass(published.scope, &keys, now);
            }
            let seen = view.seen_with(event, published.host.as_str());
            may_refuse(&keys, None, now)
                || seen.iter().any(|then| may_refuse(&keys, Some(then), now))
        };
        let is_port = |port: u16| published.port.is_none_or(|only| only == port);
        let by_name = server.places.iter().any(|place| {
            binds(published, &place.name)
                && is_port(place.port)
                && counts(place)
                && refuses(&place.shown)
        });
        let is_orphan = defaults_count
            && published.origin == Origin::Header
            && event.writer().as_str() == server.writer
            && !server.places.iter().any(|place| place.name == host);
        let by_default = is_orphan && {
            let ports = known_ports(view, server.writer, host);
            server.defaults.iter().any(|(port, shown)| {
                (ports.is_empty() || ports.contains(port)) && is_port(*port) && refuses(shown)
            })
        };
        by_name || by_default
    })
}

/// The ports on which a writer ever had a name.
fn known_ports(view: &View<'_>, writer: &str, host: &str) -> BTreeSet<u16> {
    let events = view.events().filter(|event| event.writer().as_str() == writer);
    let ports = events.filter_map(|event| match event.body() {
        Body::Presents(presents) if presents.host.as_str() == host => Some(&presents.ports),
        _ => None,
    });
    ports.flatten().copied().collect()
}

/// Whether a client that notes one of the new headers would be refused by another block of this
/// configuration, or by another server.
pub(crate) fn noters_are_locked_out(view: &View<'_>, server: &Server<'_>) -> bool {
    let elsewhere: Vec<Place> = view
        .events()
        .filter(|event| event.writer().as_str() != server.writer && view.is_to_be_met(event))
        .filter_map(|event| match event.body() {
            Body::Presents(presents) => Some(Place {
                name: presents.host.as_str().to_owned(),
                port: 0,
                shown: view.presented[&event.id()].clone(),
            }),
            _ => None,
        })
        .collect();
    server.headers.iter().any(|header| {
        server.places.iter().chain(&elsewhere).any(|place| {
            let is_bound = header.names.iter().any(|name| {
                place.name == *name || header.include_subdomains && is_below(&place.name, name)
            });
            is_bound && may_refuse(&header.keys, Some(&header.shown), &place.shown)
        })
    })
}
