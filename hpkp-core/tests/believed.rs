//! Trust in records: which writers may end, waive or replace which events, and the times that events count from.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use hpkp_core::max_age::MaxAge;
use hpkp_core::pin::Pin;
use hpkp_core::published::state::{Retention, Standing};
use hpkp_core::published::{
    Again, Body, Ended, Event, EventId, Gone, KeyGraph, KeyNode, Lifetime, Origin, Presented,
    Presents, Published, Seen, Sight, State, Waived, Why, WriterName,
};

const DAY: i64 = 86_400;
/// A plausible present time.
const THEN: i64 = 20_000 * DAY;

fn writer(name: &str) -> WriterName {
    name.parse().unwrap()
}

/// The file of a writer, to which events are added one by one.
struct File(WriterName, u64, State);

impl File {
    fn add(&mut self, standing: Standing, at: i64, body: Body) -> EventId {
        self.1 += 1;
        let event = Event::new(at, self.1, self.0.clone(), body);
        self.2.take(event.clone(), standing);
        event.id()
    }
}

/// Adds an event with `body` to `state`, as read from the file of a writer.
fn add(state: &mut State, name: &str, standing: Standing, at: i64, body: Body) -> EventId {
    let mut file = File(writer(name), state.last_seq(&writer(name)), std::mem::take(state));
    let id = file.add(standing, at, body);
    *state = file.2;
    id
}

fn published(origin: Origin) -> Body {
    let lifetime = match origin {
        Origin::Header => Lifetime::MaxAge(MaxAge::from_seconds(86_400).unwrap()),
        Origin::Other(_) => Lifetime::Open,
    };
    Body::Published(Published::of_one(
        "www.example.com".parse().unwrap(),
        vec![Pin::from_bytes([1; 32])],
        lifetime,
        origin,
    ))
}

fn presents() -> Body {
    let pin = Some(Pin::from_bytes([1; 32]));
    let keys = KeyGraph::new(vec![KeyNode { pin, served: true, end: true, issuers: vec![] }]);
    let presented = Presented { served: vec![pin], keys: keys.unwrap(), identity: None };
    Body::Presents(Presents::of_one("www.example.com".parse().unwrap(), 443, vec![presented]))
}

fn ended(ids: &[EventId], why: Why) -> Body {
    Body::Ended(Ended { ids: ids.to_vec(), why, when: None })
}

fn waived(id: EventId) -> Body {
    Body::Waived(Waived { ids: vec![id], who: "x".into(), why: "x".into() })
}

fn gone(name: &str, upto: u64) -> Body {
    let why = "x".to_owned();
    Body::Gone(Gone { of: writer(name), instance: None, upto, why, when: None })
}

fn seen(name: &str, seq: u64) -> Body {
    Body::Seen(Seen {
        of: vec![Sight { writer: writer(name), instance: None, seq }],
        succeeded: vec![],
    })
}

fn held(state: &State, id: EventId, now: i64) -> Option<Retention> {
    state.retention(state.published_by(id).unwrap(), &state.clock(now))
}

const SERVED: Option<Retention> = Some(Retention::WhilePublished(2 * DAY));

#[test]
fn a_copy_counts_for_its_own_writer_alone() {
    use Standing::{Own, Peer};
    let other = || Why::Other("x".to_owned());
    for (of, standing, by, counts) in [
        ("web-1", Own, "web-1.command", true),
        ("web-1", Own, "web-1", true),
        ("web-1", Peer, "web-2", false),
        ("web-2", Own, "web-1.command", true),
        ("web-2", Peer, "web-2", true),
        ("web-2", Peer, "web-3", false),
        ("web-1", Peer, "web-1.command", false),
    ] {
        let place = if of == "web-1" { Own } else { Peer };
        let mut state = State::default();
        let id = add(&mut state, of, place, THEN, published(Origin::Header));
        let keys = add(&mut state, of, place, THEN, presents());
        let before = state.clone();

        add(&mut state, by, standing, THEN, ended(&[id, keys], other()));
        let until = Some(Retention::Until(THEN + 2 * DAY));
        assert_eq!(held(&state, id, THEN), if counts { until } else { SERVED }, "{of} {by}");
        assert_eq!(state.is_presented(state.presents_by(keys).unwrap()), !counts, "{of} {by}");
        assert_eq!(state.end(id).is_some(), counts, "{of} {by}");
        let overreach = state.overreach(THEN, |_, _| true);
        assert_eq!(overreach.get(&writer(by)).map(|one| one.ends), (!counts).then_some(2));

        state = before.clone();
        add(&mut state, by, standing, THEN, waived(id));
        assert_eq!(state.waiver(id).is_some(), counts, "{of} {by}");
        assert_eq!(state.live(THEN).next().unwrap().waiver.is_some(), counts, "{of} {by}");
        let overreach = state.overreach(THEN, |_, _| true);
        assert_eq!(overreach.get(&writer(by)).map(|one| one.waives), (!counts).then_some(1));

        state = before.clone();
        let upto = state.last_seq(&writer(of));
        add(&mut state, by, standing, THEN, gone(of, upto));
        let overreach = state.overreach(THEN, |_, _| true);
        let writers = overreach.get(&writer(by)).map(|one| one.gone.clone());
        assert_eq!(writers, (!counts).then(|| vec![writer(of)]), "{of} {by}");
        // A writer that records that it is gone itself has written, so it is not gone.
        let counts = counts && of != by;
        assert_eq!(state.is_presented(state.presents_by(keys).unwrap()), !counts, "{of} {by}");
        assert_eq!(held(&state, id, THEN), if counts { until } else { SERVED }, "{of} {by}");
    }
}

#[test]
fn an_overreach_of_a_copy_ends_once_this_machine_records_the_same() {
    let mut state = State::default();
    add(&mut state, "web-2", Standing::Peer, THEN, published(Origin::Header));
    let upto = state.last_seq(&writer("web-2"));
    add(&mut state, "web-3.command", Standing::Peer, THEN, gone("web-2", upto));
    let is_ignored = |state: &State| !state.overreach(THEN, |_, _| true).is_empty();
    assert!(is_ignored(&state));

    let mut same = state.clone();
    add(&mut same, "web-1.command", Standing::Own, THEN, gone("web-2", upto));
    assert!(!is_ignored(&same), "this machine says it too");
    add(&mut state, "web-2", Standing::Peer, THEN + 1, published(Origin::Header));
    assert!(!is_ignored(&state), "it is back");
}

#[test]
fn an_event_read_as_own_and_as_a_copy_counts_in_either_order() {
    let event = Event::new(THEN, 1, writer("web-2"), published(Origin::Header));
    let end = ended(&[event.id()], Why::Other("x".to_owned()));
    let end = Event::new(THEN, 1, writer("apps"), end);
    for order in [[Standing::Own, Standing::Peer], [Standing::Peer, Standing::Own]] {
        let mut state = State::default();
        state.take(event.clone(), Standing::Peer);
        order.into_iter().for_each(|standing| state.take(end.clone(), standing));
        assert!(state.end(event.id()).is_some(), "{order:?}");
    }
}

#[test]
fn a_gone_writer_ends_with_its_own_header_until_it_writes_again() {
    let own = Standing::Own;
    let mut state = State::default();
    let header = add(&mut state, "web-2", own, THEN, published(Origin::Header));
    let app = add(&mut state, "web-2", own, THEN, published(Origin::Other("an app".into())));
    let keys = add(&mut state, "web-2", own, THEN, presents());
    add(&mut state, "web-1.command", own, THEN + DAY, gone("web-2", 3));
    let is_gone = |state: &State| !state.is_presented(state.presents_by(keys).unwrap());
    assert!(is_gone(&state));
    assert_eq!(held(&state, header, THEN), Some(Retention::Until(THEN + 3 * DAY)));
    assert_eq!(held(&state, app, THEN), Some(Retention::Indefinite));
    assert!(state.other_servers(&writer("web-1")).is_empty());
    // The stop of the writer was recorded later.
    let stop = add(&mut state, "web-2", own, THEN, ended(&[header, keys], Why::Stopped));
    assert!(is_gone(&state));
    // The writer is back.
    add(&mut state, "web-2", own, THEN, Body::Again(Again { ids: vec![stop], except: vec![] }));
    assert!(!is_gone(&state));
    assert_eq!(held(&state, header, THEN), SERVED);
}

#[test]
fn a_replaced_header_does_not_end_again_when_its_writer_is_gone() {
    let (own, peer) = (Standing::Own, Standing::Peer);
    let mut state = State::default();
    let old = add(&mut state, "web-2", peer, THEN, published(Origin::Header));
    let keys = add(&mut state, "web-2", peer, THEN, presents());
    add(&mut state, "web-2", peer, THEN + DAY, ended(&[old, keys], Why::Replaced));
    let new = add(&mut state, "web-2", peer, THEN + DAY, published(Origin::Header));
    let upto = state.last_seq(&writer("web-2"));
    add(&mut state, "web-1.command", own, THEN + 9 * DAY, gone("web-2", upto));
    assert_eq!(held(&state, old, THEN + 9 * DAY), Some(Retention::Until(THEN + 3 * DAY)));
    assert_eq!(state.end(old).map(|end| end.at), Some(THEN + DAY));
    assert_eq!(state.end(keys).map(|end| end.at), Some(THEN + DAY));
    assert_eq!(held(&state, new, THEN + 9 * DAY), Some(Retention::Until(THEN + 11 * DAY)));
    // A server that only stopped may have served later than it could record.
    let stop = add(&mut state, "web-3", peer, THEN, published(Origin::Header));
    add(&mut state, "web-3", peer, THEN + DAY, ended(&[stop], Why::Stopped));
    add(&mut state, "web-1.command", own, THEN + 9 * DAY, gone("web-3", 2));
    assert_eq!(held(&state, stop, THEN + 9 * DAY), Some(Retention::Until(THEN + 11 * DAY)));
}

#[test]
fn an_unchanged_start_takes_a_stop_back_in_one_line() {
    let own = Standing::Own;
    let mut state = State::default();
    let header = add(&mut state, "web-1", own, THEN, published(Origin::Header));
    let keys = add(&mut state, "web-1", own, THEN, presents());
    let stop = add(&mut state, "web-1", own, THEN, ended(&[header, keys], Why::Stopped));
    let stopped = state.clone();
    assert_eq!(held(&state, header, THEN), Some(Retention::Until(THEN + 2 * DAY)));
    let again = |except| Body::Again(Again { ids: vec![stop], except });
    add(&mut state, "web-1", own, THEN + 9 * DAY, again(vec![]));
    assert_eq!(held(&state, header, THEN + 9 * DAY), SERVED);
    assert_eq!(state.last_accepted(&writer("web-1")).presents.len(), 1);
    // Events that the line excepts are no longer part of its configuration.
    let mut state = stopped.clone();
    add(&mut state, "web-1", own, THEN + 9 * DAY, again(vec![keys]));
    let last = state.last_accepted(&writer("web-1"));
    assert_eq!((last.published.len(), last.presents.len()), (1, 0));
    // Another writer cannot take a stop back.
    let mut state = stopped.clone();
    add(&mut state, "web-2", Standing::Peer, THEN + 9 * DAY, again(vec![]));
    assert_eq!(held(&state, header, THEN), Some(Retention::Until(THEN + 2 * DAY)));
    // An event of another writer does not change that the server is back, whichever file was read first.
    for order in [["web-1", "web-2"], ["web-2", "web-1"]] {
        let mut state = stopped.clone();
        for by in order {
            let (standing, except) = match by {
                "web-1" => (own, vec![]),
                _ => (Standing::Peer, vec![header, keys]),
            };
            add(&mut state, by, standing, THEN + 9 * DAY, again(except));
        }
        assert_eq!(held(&state, header, THEN + 9 * DAY), SERVED, "{order:?}");
    }
    // The next stop ends it again.
    let mut state = stopped;
    add(&mut state, "web-1", own, THEN + 9 * DAY, again(vec![]));
    add(&mut state, "web-1", own, THEN + 10 * DAY, ended(&[header, keys], Why::Stopped));
    assert_eq!(held(&state, header, THEN + 10 * DAY), Some(Retention::Until(THEN + 12 * DAY)));
}

#[test]
fn missing_records_are_reported_until_their_writer_is_gone() {
    let server = writer("web-1");
    let lost = |state: &State| {
        state.lost(&server).iter().map(|sight| sight.writer.to_string()).collect::<Vec<_>>()
    };
    let mut state = State::default();
    add(&mut state, "web-1", Standing::Own, THEN, seen("web-2", 2));
    assert_eq!(lost(&state), ["web-2"]);
    add(&mut state, "web-2", Standing::Peer, THEN, presents());
    assert_eq!(lost(&state), ["web-2"], "an earlier state");
    // The recorded sight remains though the records are missing.
    assert_eq!(state.sights(&server)[0].seq, 2);
    add(&mut state, "web-2", Standing::Peer, THEN, presents());
    assert!(lost(&state).is_empty());

    let mut state = State::default();
    add(&mut state, "web-1", Standing::Own, THEN, seen("web-2", 2));
    add(&mut state, "web-3", Standing::Peer, THEN, gone("web-2", 2));
    assert_eq!(lost(&state), ["web-2"], "a peer gives nobody up");
    add(&mut state, "web-1.command", Standing::Own, THEN, gone("web-2", 1));
    assert_eq!(lost(&state), ["web-2"]);
    add(&mut state, "web-1.command", Standing::Own, THEN, gone("web-2", 2));
    assert!(lost(&state).is_empty());
    // A file that can only be read in part is not reported as missing, and its sight remains.
    let mut state = State::default();
    add(&mut state, "web-1", Standing::Own, THEN, seen("web-2", 2));
    add(&mut state, "web-2", Standing::Peer, THEN, presents());
    add(&mut state, "web-3", Standing::Peer, THEN, presents());
    state.unread(writer("web-2"));
    state.unread(writer("web-3"));
    assert!(lost(&state).is_empty());
    let sights = state.sights(&server);
    assert_eq!((sights.len(), sights[0].seq), (1, 2));
    // Records that only a peer has read are not missing here.
    let mut state = State::default();
    add(&mut state, "web-1", Standing::Peer, THEN, seen("web-2", 2));
    assert!(lost(&state).is_empty());
}

#[test]
fn a_clock_ahead_is_bounded_by_the_first_write_with_the_right_one() {
    let ahead = THEN + 15_000 * DAY;
    let mut state = State::default();
    let id = add(&mut state, "web-1", Standing::Own, THEN, published(Origin::Header));
    add(&mut state, "web-1", Standing::Own, ahead, ended(&[id], Why::Replaced));
    assert_eq!(held(&state, id, THEN + DAY), Some(Retention::Until(ahead + 2 * DAY)));
    assert_eq!(state.unseen_future(THEN + DAY), [writer("web-1")]);
    add(
        &mut state,
        "web-1",
        Standing::Own,
        THEN + DAY,
        Body::Seen(Seen { of: vec![], succeeded: vec![] }),
    );
    assert!(state.unseen_future(THEN + DAY).is_empty());
    assert_eq!(held(&state, id, THEN + DAY), Some(Retention::Until(THEN + 3 * DAY)));
    assert_eq!(state.newest(&writer("web-1")), Some(THEN + DAY));
    // The later time counts once it has come.
    assert_eq!(held(&state, id, ahead), Some(Retention::Until(ahead + 2 * DAY)));
}

#[test]
fn a_peer_of_the_future_is_bounded_by_our_first_sight_alone() {
    let ahead = THEN + 15_000 * DAY;
    let mut state = State::default();
    let id = add(&mut state, "web-2", Standing::Peer, ahead, published(Origin::Header));
    add(&mut state, "web-2", Standing::Peer, ahead, ended(&[id], Why::Replaced));
    let far = Some(Retention::Until(ahead + 2 * DAY));
    add(&mut state, "web-3", Standing::Peer, THEN, seen("web-2", 2));
    assert_eq!(held(&state, id, THEN + DAY), far);
    // The server had written before, and was started before the clock was set.
    add(
        &mut state,
        "web-1",
        Standing::Own,
        THEN,
        Body::Seen(Seen { of: vec![], succeeded: vec![] }),
    );
    add(&mut state, "web-1", Standing::Own, 60, seen("web-2", 2));
    assert_eq!(held(&state, id, THEN + DAY), far);
    add(&mut state, "web-1", Standing::Own, THEN + DAY, seen("web-2", 2));
    assert_eq!(held(&state, id, THEN + DAY), Some(Retention::Until(THEN + 3 * DAY)));
}

#[test]
fn an_end_written_before_the_clock_was_set_shortens_no_retention() {
    let mut state = State::default();
    let id = add(&mut state, "web-1", Standing::Own, THEN, published(Origin::Header));
    add(&mut state, "web-1", Standing::Own, 60, ended(&[id], Why::Replaced));
    let now = THEN + 90 * DAY;
    assert_eq!(held(&state, id, now), Some(Retention::Until(now + 2 * DAY)));
    add(
        &mut state,
        "web-1",
        Standing::Own,
        now,
        Body::Seen(Seen { of: vec![], succeeded: vec![] }),
    );
    assert_eq!(held(&state, id, now + DAY), Some(Retention::Until(now + 2 * DAY)));
}
