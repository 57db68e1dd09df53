//! What clients could hold and whom they would refuse, by enumeration: every event is a visit that
//! somebody may have made, every path one that somebody may build.

use std::collections::{BTreeSet, HashMap};

use hpkp_core::published::{
    Body, Event, EventId, Lifetime, Matching, Origin, Published, Scope, Why, WriterName,
};

use crate::pki::{self, Cert};

const DAY: i64 = 86_400;

/// What a server presents for one name: its chains, of which a client gets one.
pub(crate) type Shown = BTreeSet<Vec<Cert>>;

/// Why a block answers for a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    /// It has the name, or a pattern that fits and a certificate for it.
    Name,
    /// As the default server, with a certificate for it that names it, or that is for whatever comes.
    Default,
    /// As a default server with names of its own, by a wildcard in its certificate.
    Wildcard,
}

/// Where a visit may lead: a block or another server. Clients accept the certificate for the name.
pub(crate) struct Place {
    pub(crate) name: String,
    pub(crate) port: u16,
    pub(crate) shown: Shown,
    pub(crate) by: By,
    /// Whether it has the very name.
    pub(crate) has_name: bool,
    /// The block.
    pub(crate) block: usize,
}

/// The server that is checked, as its operator knows it.
pub(crate) struct Server<'a> {
    pub(crate) writer: &'a str,
    /// What answers for each name on each port.
    pub(crate) places: Vec<Place>,
    /// Where clients of a name come with whose certificate only those are content who ignore names.
    pub(crate) strays: Vec<Place>,
    /// The headers that are going out: the block's names and chains, the keys pinned.
    pub(crate) headers: Vec<Header>,
}

pub(crate) struct Header {
    pub(crate) block: usize,
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
    /// When events happened, whatever the clock of their writer showed.
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
    fn seen_with(&self, header: &Event, published: &Published) -> BTreeSet<&Shown> {
        let mut seen = BTreeSet::new();
        let is_there = |file: &&&[Event]| file.iter().any(|event| event.id() == header.id());
        let file = self.files.iter().find(is_there).unwrap();
        let (mut is_sent, mut shown) = (false, BTreeSet::new());
        for event in *file {
            match event.body() {
                Body::Published(_) if event.id() == header.id() => is_sent = true,
                Body::Presents(presents)
                    if presents.host == published.host
                        && presents.matching == published.matching
                        && !presents.aside =>
                {
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

/// Whether a record is about a name itself, not about one above it.
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

/// The kinds of keys: a client prefers one, and gets another where the server has none of it.
const KINDS: [bool; 2] = [false, true];

/// What a client that prefers a kind of key may get.
fn of_kind(shown: &Shown, kind: bool) -> Shown {
    let is_of = |chain: &&Vec<Cert>| (chain[0].key >= crate::der::OTHER_KIND) == kind;
    let of_it: Shown = shown.iter().filter(is_of).cloned().collect();
    if of_it.is_empty() { shown.clone() } else { of_it }
}

fn is_same(one: &[Cert], other: &[Cert]) -> bool {
    pki::slot(one, |_| true) == pki::slot(other, |_| true)
}

fn has(shown: &Shown, chain: &[Cert]) -> bool {
    shown.iter().any(|one| is_same(one, chain))
}

/// Whether a chain has a path that a client does not accept.
fn may_miss(scope: Scope, keys: &BTreeSet<u32>, chain: &[Cert]) -> bool {
    paths(scope, chain).iter().any(|path| !accepts(scope, keys, path))
}

/// Whether it has a path that a client accepts.
fn may_pass(scope: Scope, keys: &BTreeSet<u32>, chain: &[Cert]) -> bool {
    paths(scope, chain).iter().any(|path| accepts(scope, keys, path))
}

/// Those of `then` that are had no more, for clients that get one of `now`.
fn gone<'b>(then: &'b Shown, now: &'b Shown) -> impl Iterator<Item = &'b Vec<Cert>> {
    then.iter().filter(|chain| !has(now, chain))
}

/// Whether somebody who has noted `keys` where it was shown `then` is refused by one of `now`. Who is shown
/// the same comes to the same path; who is shown something else may come to any.
fn may_refuse(keys: &BTreeSet<u32>, then: &Shown, now: &Shown, chain: &[Cert]) -> bool {
    let scope = Scope::Chain;
    let is_other = || !has(then, chain) || gone(then, now).any(|was| may_pass(scope, keys, was));
    !may_pass(scope, keys, chain) || may_miss(scope, keys, chain) && is_other()
}

/// Whether somebody who got in where `then` was shown may come to a path of one of `now` that it does not
/// accept.
fn may_lose(scope: Scope, keys: &BTreeSet<u32>, then: &Shown, now: &Shown, chain: &[Cert]) -> bool {
    let of = |one| pki::slot(one, |key| keys.contains(&key));
    let mut came = then.iter().filter(|was| is_same(was, chain) || !has(now, was));
    may_miss(scope, keys, chain)
        && came.any(|was| may_pass(scope, keys, was) && of(was) != of(chain))
}

/// What visitors of a place were shown there by the last configuration, which was `before`. A name that a
/// block has now and answered for by chance then is a new one.
fn shown_before<'a>(before: Option<&'a Server<'_>>, place: &Place) -> Option<&'a Shown> {
    let there = before?.places.iter().find(|b| b.name == place.name && b.port == place.port)?;
    (there.by != By::Wildcard || place.by == By::Wildcard).then_some(&there.shown)
}

/// Whether a client that holds published pins would be refused. With `in_doubt` also where it may be, for
/// all that is known of its path: the name is new here.
pub(crate) fn holders_are_locked_out(
    view: &View<'_>,
    server: &Server<'_>,
    before: Option<&Server<'_>>,
    in_doubt: bool,
) -> bool {
    locked_out(view, server, before, in_doubt, |_, _, _, _, _| true)
}

/// Whether one would be refused by what the server's last configuration, which was `before`, did not
/// present to it.
pub(crate) fn holders_are_newly_locked_out(
    view: &View<'_>,
    server: &Server<'_>,
    before: &Server<'_>,
) -> bool {
    let is_new =
        |place: &Place, then: Option<&Shown>, now: &Shown, chain: &[Cert], held: Held<'_>| {
            let lets_in = |was: &Vec<Cert>| may_pass(held.0, held.1, was);
            let had = |whole: &Shown| has(whole, chain);
            !shown_before(Some(before), place).is_some_and(had)
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
    counts: impl Fn(&Place, Option<&Shown>, &Shown, &[Cert], Held<'_>) -> bool,
) -> bool {
    view.events().any(|event| {
        let Body::Published(published) = event.body() else { return false };
        if !view.is_held(event, published) || view.is_waived(event.id()) {
            return false;
        }
        let (keys, scope) = (view.keys(published), published.scope);
        let seen = match published.origin {
            Origin::Header => view.seen_with(event, published),
            Origin::Other(_) => BTreeSet::new(),
        };
        let refuses = |place: &Place, kind: bool| {
            let now = of_kind(&place.shown, kind);
            let then = shown_before(before, place).map(|then| of_kind(then, kind));
            let is_met = |chain: &Vec<Cert>| {
                let then = then.as_ref();
                // What only a wildcard is for may be another machine's, and nobody accepts what is not
                // for a name that the server does not have, unless they got in here.
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
                    || seen.iter().any(|then| may_refuse(&keys, &of_kind(then, kind), &now, chain))
                    || seen.is_empty()
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

/// Whether some are lost who ignore names: they come to whatever the server leads to, and it has changed.
fn strays_are_lost(
    server: &Server<'_>,
    before: Option<&Server<'_>>,
    published: &Published,
    (scope, keys): Held<'_>,
    counts: &impl Fn(&Place, Option<&Shown>, &Shown, &[Cert], Held<'_>) -> bool,
) -> bool {
    let loses = |place: &Place, kind: bool| {
        let now = of_kind(&place.shown, kind);
        let before = before.into_iter().flat_map(|one| one.places.iter().chain(&one.strays));
        let mut before = before.filter(|b| b.name == place.name && b.port == place.port);
        let then = before.next().map(|there| of_kind(&there.shown, kind));
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

/// Whether a client that notes one of the new headers would be refused by another block of this
/// configuration, or by another server. Those that answer aside count with `asides` alone: clients may not
/// come there.
pub(crate) fn noters_are_locked_out(view: &View<'_>, server: &Server<'_>, asides: bool) -> bool {
    let is_ours =
        |name: &str| asides || server.places.iter().any(|p| p.name == name && p.by == By::Name);
    let here = server.places.iter();
    let here = here.filter(|place| place.by != By::Wildcard || is_ours(&place.name));
    let elsewhere: Vec<Place> = view
        .events()
        .filter(|event| event.writer().as_str() != server.writer && view.is_to_be_met(event))
        .filter_map(|event| match event.body() {
            Body::Presents(presents) if !presents.aside => Some((event, presents)),
            _ => None,
        })
        .flat_map(|(event, presents)| {
            let has_itself = |name: &str| {
                view.events().any(|other| {
                    other.writer() == event.writer()
                        && view.is_to_be_met(other)
                        && matches!(other.body(), Body::Presents(p) if p.host.as_str() == name
                            && p.matching == Matching::Exact && !p.aside)
                })
            };
            let place = |name: &&str| Place {
                name: (*name).to_owned(),
                port: 0,
                shown: view.presented[&event.id()].clone(),
                by: By::Name,
                has_name: true,
                block: usize::MAX,
            };
            let host = presents.host.as_str();
            let is_meant = move |name: &&&str| match presents.matching {
                Matching::Exact => **name == host,
                _ => name.split_once('.').is_some_and(|(_, d)| d == host) && !has_itself(name),
            };
            crate::VISITED.iter().filter(is_meant).map(place).collect::<Vec<_>>()
        })
        .collect();
    let all: Vec<&Place> = here.chain(&elsewhere).collect();
    server.headers.iter().any(|header| {
        all.iter().filter(|place| place.block != header.block).any(|place| {
            let is_bound = header.names.iter().any(|name| {
                place.name == *name || header.include_subdomains && is_below(&place.name, name)
            });
            let refuses = |kind: bool| {
                let (then, now) = (of_kind(&header.shown, kind), of_kind(&place.shown, kind));
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
