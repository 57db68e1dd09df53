//! The client model: which pins clients may hold and which servers they would refuse, by enumeration. Every event is a
//! connection that some client may have made, and every path one that some client may build.

use std::collections::{BTreeSet, HashMap};

use hpkp_core::published::{
    Body, Event, EventId, Lifetime, Matching, Origin, Published, Scope, Why, WriterName,
};

use crate::pki::{self, Cert};

const DAY: i64 = 86_400;

/// The chains that a server presents for one name; a client gets one of them.
pub(crate) type Presented = BTreeSet<Vec<Cert>>;

/// Why a block answers for a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    /// It has the name, or a matching pattern and a certificate for the name.
    Name,
    /// It is the default server: its certificate has the name itself, or the block has no name.
    Default,
    /// It is a default server with another name, and only a wildcard in its certificate covers the name.
    Wildcard,
}

/// A server that clients of a name may reach: a block or another machine. Its certificate is for the name.
pub(crate) struct Place {
    pub(crate) name: String,
    pub(crate) port: u16,
    pub(crate) presented: Presented,
    pub(crate) by: By,
    /// Whether it has the exact name.
    pub(crate) has_name: bool,
    /// The block.
    pub(crate) block: usize,
}

/// The server that is checked, as its operator knows it.
pub(crate) struct Server<'a> {
    pub(crate) writer: &'a str,
    /// The server that answers for each name on each port.
    pub(crate) places: Vec<Place>,
    /// Servers that clients of a name reach, whose certificate only clients that ignore names accept.
    pub(crate) strays: Vec<Place>,
    /// The headers that are sent: the block's names and chains, and the pinned keys.
    pub(crate) headers: Vec<Header>,
}

pub(crate) struct Header {
    pub(crate) block: usize,
    pub(crate) names: Vec<String>,
    pub(crate) presented: Presented,
    pub(crate) keys: BTreeSet<u32>,
    pub(crate) include_subdomains: bool,
}

/// The events that were read from all files, each file in its order.
pub(crate) struct View<'a> {
    pub(crate) files: Vec<&'a [Event]>,
    /// The chains of the events of the kind `presents`.
    pub(crate) presented: &'a HashMap<EventId, Presented>,
    pub(crate) key_of: &'a HashMap<hpkp_core::pin::Pin, u32>,
    /// The real times of events, whatever the clock of their writer was.
    pub(crate) happened: &'a HashMap<(WriterName, u64), i64>,
    pub(crate) now: i64,
}

impl View<'_> {
    fn events(&self) -> impl Iterator<Item = &Event> {
        self.files.iter().flat_map(|file| file.iter())
    }

    fn end(&self, id: EventId) -> Option<i64> {
        let ends = self.events().filter_map(|event| match event.body() {
            Body::Ended(ended) if ended.ids.contains(&id) => {
                let key = (event.writer().clone(), event.seq());
                let happened = || self.happened.get(&key).copied();
                Some(ended.when.or_else(happened).unwrap_or(event.at()))
            }
            _ => None,
        });
        ends.max()
    }

    /// Whether clients may get the chains of an event, now or when its server starts again after a stop.
    fn is_reachable(&self, event: &Event) -> bool {
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

    /// Whether some client may hold these pins now.
    fn is_held(&self, event: &Event, published: &Published) -> bool {
        let end = self.end(event.id());
        match published.lifetime {
            Lifetime::MaxAge(age) if age.seconds() == 0 => false,
            // An old worker may send the header for up to 1 day after its end.
            Lifetime::MaxAge(age) => {
                end.is_none_or(|end| self.now - (end + DAY) < i64::from(age.seconds()))
            }
            Lifetime::ExpiresAt(time) => self.now < time && end.is_none_or(|end| self.now < end),
            Lifetime::Open => end.is_none_or(|end| self.now < end),
        }
    }

    /// The chains with which clients may have noted a header: the file is replayed from its beginning.
    fn presented_with(&self, header: &Event, published: &Published) -> BTreeSet<&Presented> {
        let mut with_header = BTreeSet::new();
        let is_there = |file: &&&[Event]| file.iter().any(|event| event.id() == header.id());
        let file = self.files.iter().find(is_there).unwrap();
        let (mut is_sent, mut presented) = (false, BTreeSet::new());
        for event in *file {
            match event.body() {
                Body::Published(_) if event.id() == header.id() => is_sent = true,
                Body::Presents(presents)
                    if presents.host == published.host
                        && presents.matching == published.matching
                        && !presents.aside =>
                {
                    presented.insert(event.id());
                }
                Body::Ended(ended) => {
                    is_sent &= !ended.ids.contains(&header.id());
                    presented.retain(|id| !ended.ids.contains(id));
                }
                _ => {}
            }
            if is_sent {
                with_header.extend(presented.iter().map(|id| &self.presented[id]));
            }
        }
        with_header
    }

    fn keys(&self, published: &Published) -> BTreeSet<u32> {
        published.pins.iter().map(|pin| self.key_of[pin]).collect()
    }
}

fn is_below(name: &str, domain: &str) -> bool {
    name.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'))
}

/// Whether a record is about a name itself, and not about a domain above it.
pub(crate) fn is_meant(published: &Published, name: &str) -> bool {
    let host = published.host.as_str();
    let is_child = is_below(name, host) && !name[..name.len() - host.len() - 1].contains('.');
    match published.matching {
        Matching::Exact => name == host,
        Matching::OneLabel => is_child && !published.except.iter().any(|e| e.as_str() == name),
        Matching::AnyDepth => name == host || is_below(name, host),
    }
}

fn binds(published: &Published, name: &str) -> bool {
    let mut above = name.match_indices('.').map(|(dot, _)| &name[dot + 1..]);
    is_meant(published, name)
        || published.include_subdomains && above.any(|domain| is_meant(published, domain))
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

/// The kinds of keys. A client prefers one, and gets the other if the server has no key of that kind.
const KINDS: [bool; 2] = [false, true];

/// The chains that a client which prefers a kind of key may get.
fn of_kind(presented: &Presented, kind: bool) -> Presented {
    let is_of = |chain: &&Vec<Cert>| (chain[0].key >= crate::der::OTHER_KIND) == kind;
    let of_it: Presented = presented.iter().filter(is_of).cloned().collect();
    if of_it.is_empty() { presented.clone() } else { of_it }
}

fn is_same(one: &[Cert], other: &[Cert]) -> bool {
    pki::slot(one, |_| true) == pki::slot(other, |_| true)
}

fn has(presented: &Presented, chain: &[Cert]) -> bool {
    presented.iter().any(|one| is_same(one, chain))
}

/// Whether a chain has a path that a client does not accept.
fn may_miss(scope: Scope, keys: &BTreeSet<u32>, chain: &[Cert]) -> bool {
    paths(scope, chain).iter().any(|path| !accepts(scope, keys, path))
}

/// Whether a chain has a path that a client accepts.
fn may_pass(scope: Scope, keys: &BTreeSet<u32>, chain: &[Cert]) -> bool {
    paths(scope, chain).iter().any(|path| accepts(scope, keys, path))
}

/// The chains of `then` that are not in `now` any more.
fn gone<'b>(then: &'b Presented, now: &'b Presented) -> impl Iterator<Item = &'b Vec<Cert>> {
    then.iter().filter(|chain| !has(now, chain))
}

/// Whether a client that noted `keys` with one of `then` may refuse a chain of `now`. For the same chain a client takes
/// the same path; for another chain it may take any.
fn may_refuse(keys: &BTreeSet<u32>, then: &Presented, now: &Presented, chain: &[Cert]) -> bool {
    let scope = Scope::Chain;
    let is_other = || !has(then, chain) || gone(then, now).any(|was| may_pass(scope, keys, was));
    !may_pass(scope, keys, chain) || may_miss(scope, keys, chain) && is_other()
}

/// Whether a client that accepted one of `then` may take a path of a chain of `now` that it does not accept.
fn may_lose(
    scope: Scope,
    keys: &BTreeSet<u32>,
    then: &Presented,
    now: &Presented,
    chain: &[Cert],
) -> bool {
    let of = |one| pki::slot(one, |key| keys.contains(&key));
    let mut came = then.iter().filter(|was| is_same(was, chain) || !has(now, was));
    may_miss(scope, keys, chain)
        && came.any(|was| may_pass(scope, keys, was) && of(was) != of(chain))
}

/// The chains that the last configuration, `before`, presented to clients of a place. A name that a block has now and
/// answered for only by a wildcard then is new.
fn presented_before<'a>(before: Option<&'a Server<'_>>, place: &Place) -> Option<&'a Presented> {
    let there = before?.places.iter().find(|b| b.name == place.name && b.port == place.port)?;
    (there.by != By::Wildcard || place.by == By::Wildcard).then_some(&there.presented)
}

/// Whether a client that holds published pins would refuse the server. With `in_doubt`, also if it only may refuse it
/// because its path is not known: the name is new here.
pub(crate) fn holders_are_locked_out(
    view: &View<'_>,
    server: &Server<'_>,
    before: Option<&Server<'_>>,
    in_doubt: bool,
) -> bool {
    locked_out(view, server, before, in_doubt, |_, _, _, _, _| true)
}

/// Whether such a client would refuse a chain that the server's last configuration, `before`, did not present to it.
pub(crate) fn holders_are_newly_locked_out(
    view: &View<'_>,
    server: &Server<'_>,
    before: &Server<'_>,
) -> bool {
    let is_new = |place: &Place,
                  then: Option<&Presented>,
                  now: &Presented,
                  chain: &[Cert],
                  held: Held<'_>| {
        let lets_in = |was: &Vec<Cert>| may_pass(held.0, held.1, was);
        let had = |whole: &Presented| has(whole, chain);
        !presented_before(Some(before), place).is_some_and(had)
            || then.is_none_or(|then| gone(then, now).any(lets_in))
    };
    locked_out(view, server, Some(before), false, is_new)
}

/// What a client compares, and with which keys.
type Held<'b> = (Scope, &'b BTreeSet<u32>);

fn locked_out(
    view: &View<'_>,
    server: &Server<'_>,
    before: Option<&Server<'_>>,
    in_doubt: bool,
    counts: impl Fn(&Place, Option<&Presented>, &Presented, &[Cert], Held<'_>) -> bool,
) -> bool {
    view.events().any(|event| {
        let Body::Published(published) = event.body() else { return false };
        if !view.is_held(event, published) || view.is_waived(event.id()) {
            return false;
        }
        let (keys, scope) = (view.keys(published), published.scope);
        let noted_with = match published.origin {
            Origin::Header => view.presented_with(event, published),
            Origin::Other(_) => BTreeSet::new(),
        };
        let refuses = |place: &Place, kind: bool| {
            let now = of_kind(&place.presented, kind);
            let then = presented_before(before, place).map(|then| of_kind(then, kind));
            let is_met = |chain: &Vec<Cert>| {
                let then = then.as_ref();
                // A name covered only by a wildcard may be served by another machine, and no client accepts a
                // certificate that is not for the name, unless it accepted this server before.
                let got_in = || {
                    let came = |was: &&Vec<Cert>| is_same(was, chain) || !has(&now, was);
                    let mut came = then.into_iter().flatten().filter(came);
                    came.any(|was| may_pass(scope, &keys, was))
                };
                let ignores_names = published.port.is_some()
                    && scope == Scope::Leaf
                    && is_meant(published, &place.name);
                let is_for_it =
                    place.has_name || ignores_names || chain[0].is_for(&place.name).is_some();
                if (place.by == By::Wildcard || !is_for_it) && !got_in() {
                    return false;
                }
                let is_refused = !may_pass(scope, &keys, chain)
                    || noted_with
                        .iter()
                        .any(|then| may_refuse(&keys, &of_kind(then, kind), &now, chain))
                    || noted_with.is_empty()
                        && then.is_some_and(|then| may_lose(scope, &keys, then, &now, chain))
                    || in_doubt && then.is_none() && may_miss(scope, &keys, chain);
                is_refused && counts(place, then, &now, chain, (scope, &keys))
            };
            now.iter().any(is_met)
        };
        if strays_are_lost(server, before, published, (scope, &keys), &counts) {
            return true;
        }
        server.places.iter().any(|place| {
            binds(published, &place.name)
                && published.port.is_none_or(|only| only == place.port)
                && KINDS.into_iter().any(|kind| refuses(place, kind))
        })
    })
}

/// Whether clients that ignore names are locked out: they get the certificate of any block, and it has changed.
fn strays_are_lost(
    server: &Server<'_>,
    before: Option<&Server<'_>>,
    published: &Published,
    (scope, keys): Held<'_>,
    counts: &impl Fn(&Place, Option<&Presented>, &Presented, &[Cert], Held<'_>) -> bool,
) -> bool {
    let loses = |place: &Place, kind: bool| {
        let now = of_kind(&place.presented, kind);
        let before = before.into_iter().flat_map(|one| one.places.iter().chain(&one.strays));
        let mut before = before.filter(|b| b.name == place.name && b.port == place.port);
        let then = before.next().map(|there| of_kind(&there.presented, kind));
        let lets_in = |was: &Vec<Cert>| may_pass(scope, keys, was);
        let came = |chain: &Vec<Cert>| {
            let mut then = then.iter().flatten();
            then.any(|was| (is_same(was, chain) || !has(&now, was)) && lets_in(was))
        };
        let is_lost = |chain: &Vec<Cert>| {
            !may_pass(scope, keys, chain)
                && came(chain)
                && counts(place, then.as_ref(), &now, chain, (scope, keys))
        };
        now.iter().any(is_lost)
    };
    let is_stray = |place: &Place| {
        published.port == Some(place.port)
            && scope == Scope::Leaf
            && is_meant(published, &place.name)
            && KINDS.into_iter().any(|kind| loses(place, kind))
    };
    server.strays.iter().any(is_stray)
}

/// Whether a client that notes one of the new headers would refuse another block of this configuration, or another
/// server. Blocks that answer for a name only by a wildcard count with `asides` alone, because clients may not reach
/// them.
pub(crate) fn noters_are_locked_out(view: &View<'_>, server: &Server<'_>, asides: bool) -> bool {
    let is_ours =
        |name: &str| asides || server.places.iter().any(|p| p.name == name && p.by == By::Name);
    let here = server.places.iter();
    let here = here.filter(|place| place.by != By::Wildcard || is_ours(&place.name));
    let elsewhere: Vec<Place> = view
        .events()
        .filter(|event| event.writer().as_str() != server.writer && view.is_reachable(event))
        .filter_map(|event| match event.body() {
            Body::Presents(presents) if !presents.aside => Some((event, presents)),
            _ => None,
        })
        .flat_map(|(event, presents)| {
            let has_itself = |name: &str| {
                view.events().any(|other| {
                    other.writer() == event.writer()
                        && view.is_reachable(other)
                        && matches!(other.body(), Body::Presents(p) if p.host.as_str() == name
                            && p.matching == Matching::Exact && !p.aside)
                })
            };
            let place = |name: &&str| Place {
                name: (*name).to_owned(),
                port: 0,
                presented: view.presented[&event.id()].clone(),
                by: By::Name,
                has_name: true,
                block: usize::MAX,
            };
            let host = presents.host.as_str();
            let is_meant = move |name: &&&str| match presents.matching {
                Matching::Exact => **name == host,
                _ => name.split_once('.').is_some_and(|(_, d)| d == host) && !has_itself(name),
            };
            crate::CLIENT_NAMES.iter().filter(is_meant).map(place).collect::<Vec<_>>()
        })
        .collect();
    let all: Vec<&Place> = here.chain(&elsewhere).collect();
    server.headers.iter().any(|header| {
        all.iter().filter(|place| place.block != header.block).any(|place| {
            let is_bound = header.names.iter().any(|name| {
                place.name == *name || header.include_subdomains && is_below(&place.name, name)
            });
            let refuses = |kind: bool| {
                let (then, now) =
                    (of_kind(&header.presented, kind), of_kind(&place.presented, kind));
                let is_other =
                    |chain: &[Cert]| !has(&then, chain) || gone(&then, &now).any(|_| true);
                let is_for_it =
                    |chain: &[Cert]| place.has_name || chain[0].is_for(&place.name).is_some();
                now.iter().any(|chain| {
                    let never = !may_pass(Scope::Chain, &header.keys, chain);
                    let miss = may_miss(Scope::Chain, &header.keys, chain);
                    is_for_it(chain) && (never || miss && is_other(chain))
                })
            };
            is_bound && KINDS.into_iter().any(refuses)
        })
    })
}
