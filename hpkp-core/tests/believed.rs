//! Whom a record is believed, and when what it says happened.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use hpkp_core::max_age::MaxAge;
use hpkp_core::pin::Pin;
use hpkp_core::published::state::{Retention, Standing};
use hpkp_core::published::{
    Again, Body, Ended, Event, EventId, Gone, KeyGraph, KeyNode, Lifetime, Origin, Presented,
    Presents, Published, Seen, Sight, State, Waived, Why, WriterName,
};

const DAY: i64 = 86_400;
/// A time that a clock may show.
const THEN: i64 = 20_000 * DAY;

fn writer(name: &str) -> WriterName {
    name.parse().unwrap()
}

/// What a writer's file says, line by line.
struct File(WriterName, u64, State);

impl File {
    fn say(&mut self, standing: Standing, at: i64, body: Body) -> EventId {
        self.1 += 1;
        let event = Event::new(at, self.1, self.0.clone(), body);
        self.2.take(event.clone(), standing);
        event.id()
    }
}

/// Says what `body` is in `state`, in the file of a writer.
fn say(state: &mut State, name: &str, standing: Standing, at: i64, body: Body) -> EventId {
    let mut file = File(writer(name), state.last_seq(&writer(name)), std::mem::take(state));
    let id = file.say(standing, at, body);
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
fn a_copy_speaks_for_its_own_writer_alone() {
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
        let id = say(&mut state, of, place, THEN, published(Origin::Header));
        let shown = say(&mut state, of, place, THEN, presents());
        let before = state.clone();

        say(&mut state, by, standing, THEN, ended(&[id, shown], other()));
        let until = Some(Retention::Until(THEN + 2 * DAY));
        assert_eq!(held(&state, id, THEN), if counts { until } else { SERVED }, "{of} {by}");
        assert_eq!(state.is_presented(state.presents_by(shown).unwrap()), !counts, "{of} {by}");
        assert_eq!(state.end(id).is_some(), counts, "{of} {by}");
        let overreach = state.overreach(THEN, |_, _| true);
        assert_eq!(overreach.get(&writer(by)).map(|one| one.ends), (!counts).then_some(2));

        state = before.clone();
        say(&mut state, by, standing, THEN, waived(id));
        assert_eq!(state.waiver(id).is_some(), counts, "{of} {by}");
        assert_eq!(state.live(THEN).next().unwrap().waiver.is_some(), counts, "{of} {by}");
        let overreach = state.overreach(THEN, |_, _| true);
        assert_eq!(overreach.get(&writer(by)).map(|one| one.waives), (!counts).then_some(1));

        state = before.clone();
        let upto = state.last_seq(&writer(of));
        say(&mut state, by, standing, THEN, gone(of, upto));
        let overreach = state.overreach(THEN, |_, _| true);
        let declared = overreach.get(&writer(by)).map(|one| one.gone.clone());
        assert_eq!(declared, (!counts).then(|| vec![writer(of)]), "{of} {by}");
        // A writer that says of itself that it is gone has written.
        let counts = counts && of != by;
        assert_eq!(state.is_presented(state.presents_by(shown).unwrap()), !counts, "{of} {by}");
        assert_eq!(held(&state, id, THEN), if counts { until } else { SERVED }, "{of} {by}");
    }
}

#[test]
fn what_a_copy_says_of_a_writer_is_over_once_this_machine_says_the_same() {
    let mut state = State::default();
    say(&mut state, "web-2", Standing::Peer, THEN, published(Origin::Header));
    let upto = state.last_seq(&writer("web-2"));
    say(&mut state, "web-3.command", Standing::Peer, THEN, gone("web-2", upto));
    let is_ignored = |state: &State| !state.overreach(THEN, |_, _| true).is_empty();
    assert!(is_ignored(&state));

    let mut same = state.clone();
    say(&mut same, "web-1.command", Standing::Own, THEN, gone("web-2", upto));
    assert!(!is_ignored(&same), "this machine says it too");
    say(&mut state, "web-2", Standing::Peer, THEN + 1, published(Origin::Header));
    assert!(!is_ignored(&state), "it is back");
}

#[test]
fn a_copy_counts_wherever_it_was_read_first() {
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
fn a_writer_that_is_gone_ends_with_what_it_says_of_itself_until_it_writes() {
    let own = Standing::Own;
    let mut state = State::default();
    let header = say(&mut state, "web-2", own, THEN, published(Origin::Header));
    let app = say(&mut state, "web-2", own, THEN, published(Origin::Other("an app".into())));
    let shown = say(&mut state, "web-2", own, THEN, presents());
    say(&mut state, "web-1.command", own, THEN + DAY, gone("web-2", 3));
    let is_gone = |state: &State| !state.is_presented(state.presents_by(shown).unwrap());
    assert!(is_gone(&state));
    assert_eq!(held(&state, header, THEN), Some(Retention::Until(THEN + 3 * DAY)));
    assert_eq!(held(&state, app, THEN), Some(Retention::Indefinite));
    assert!(state.other_servers(&writer("web-1")).is_empty());
    // Its stop was recorded later.
    let stop = say(&mut state, "web-2", own, THEN, ended(&[header, shown], Why::Stopped));
    assert!(is_gone(&state));
    // It is back.
    say(&mut state, "web-2", own, THEN, Body::Again(Again { ids: vec![stop], except: vec![] }));
    assert!(!is_gone(&state));
    assert_eq!(held(&state, header, THEN), SERVED);
}

#[test]
fn what_a_writer_replaced_does_not_end_again_when_the_writer_is_gone() {
    let (own, peer) = (Standing::Own, Standing::Peer);
    let mut state = State::default();
    let old = say(&mut state, "web-2", peer, THEN, published(Origin::Header));
    let shown = say(&mut state, "web-2", peer, THEN, presents());
    say(&mut state, "web-2", peer, THEN + DAY, ended(&[old, shown], Why::Replaced));
    let new = say(&mut state, "web-2", peer, THEN + DAY, published(Origin::Header));
    let upto = state.last_seq(&writer("web-2"));
    say(&mut state, "web-1.command", own, THEN + 9 * DAY, gone("web-2", upto));
    assert_eq!(held(&state, old, THEN + 9 * DAY), Some(Retention::Until(THEN + 3 * DAY)));
    assert_eq!(state.end(old).map(|end| end.at), Some(THEN + DAY));
    assert_eq!(state.end(shown).map(|end| end.at), Some(THEN + DAY));
    assert_eq!(held(&state, new, THEN + 9 * DAY), Some(Retention::Until(THEN + 11 * DAY)));
    // A server that only stopped may have served later than it could record.
    let stop = say(&mut state, "web-3", peer, THEN, published(Origin::Header));
    say(&mut state, "web-3", peer, THEN + DAY, ended(&[stop], Why::Stopped));
    say(&mut state, "web-1.command", own, THEN + 9 * DAY, gone("web-3", 2));
    assert_eq!(held(&state, stop, THEN + 9 * DAY), Some(Retention::Until(THEN + 11 * DAY)));
}

#[test]
fn a_server_that_is_back_with_what_it_had_says_so_in_a_line() {
    let own = Standing::Own;
    let mut state = State::default();
    let header = say(&mut state, "web-1", own, THEN, published(Origin::Header));
    let shown = say(&mut state, "web-1", own, THEN, presents());
    let stop = say(&mut state, "web-1", own, THEN, ended(&[header, shown], Why::Stopped));
    let stopped = state.clone();
    assert_eq!(held(&state, header, THEN), Some(Retention::Until(THEN + 2 * DAY)));
    let again = |except| Body::Again(Again { ids: vec![stop], except });
    say(&mut state, "web-1", own, THEN + 9 * DAY, again(vec![]));
    assert_eq!(held(&state, header, THEN + 9 * DAY), SERVED);
    assert_eq!(state.last_accepted(&writer("web-1")).presents.len(), 1);
    // What it does not take back is no longer of its configuration.
    let mut state = stopped.clone();
    say(&mut state, "web-1", own, THEN + 9 * DAY, again(vec![shown]));
    let last = state.last_accepted(&writer("web-1"));
    assert_eq!((last.published.len(), last.presents.len()), (1, 0));
    // Nobody else takes a stop back.
    let mut state = stopped.clone();
    say(&mut state, "web-2", Standing::Peer, THEN + 9 * DAY, again(vec![]));
    assert_eq!(held(&state, header, THEN), Some(Retention::Until(THEN + 2 * DAY)));
    // Nor does what somebody else says stand in the way of who is back, whichever was read first.
    for order in [["web-1", "web-2"], ["web-2", "web-1"]] {
        let mut state = stopped.clone();
        for by in order {
            let (standing, except) = match by {
                "web-1" => (own, vec![]),
                _ => (Standing::Peer, vec![header, shown]),
            };
            say(&mut state, by, standing, THEN + 9 * DAY, again(except));
        }
        assert_eq!(held(&state, header, THEN + 9 * DAY), SERVED, "{order:?}");
    }
    // The next stop ends it again.
    let mut state = stopped;
    say(&mut state, "web-1", own, THEN + 9 * DAY, again(vec![]));
    say(&mut state, "web-1", own, THEN + 10 * DAY, ended(&[header, shown], Why::Stopped));
    assert_eq!(held(&state, header, THEN + 10 * DAY), Some(Retention::Until(THEN + 12 * DAY)));
}

#[test]
fn records_that_were_read_and_are_gone_are_missed_until_they_are_given_up() {
    let server = writer("web-1");
    let lost = |state: &State| {
        state.lost(&server).iter().map(|sight| sight.writer.to_string()).collect::<Vec<_>>()
    };
    let mut state = State::default();
    say(&mut state, "web-1", Standing::Own, THEN, seen("web-2", 2));
    assert_eq!(lost(&state), ["web-2"]);
    say(&mut state, "web-2", Standing::Peer, THEN, presents());
    assert_eq!(lost(&state), ["web-2"], "an earlier state");
    // What was seen is not forgotten because it is missing.
    assert_eq!(state.sights(&server)[0].seq, 2);
    say(&mut state, "web-2", Standing::Peer, THEN, presents());
    assert!(lost(&state).is_empty());

    let mut state = State::default();
    say(&mut state, "web-1", Standing::Own, THEN, seen("web-2", 2));
    say(&mut state, "web-3", Standing::Peer, THEN, gone("web-2", 2));
    assert_eq!(lost(&state), ["web-2"], "a peer gives nobody up");
    say(&mut state, "web-1.command", Standing::Own, THEN, gone("web-2", 1));
    assert_eq!(lost(&state), ["web-2"]);
    say(&mut state, "web-1.command", Standing::Own, THEN, gone("web-2", 2));
    assert!(lost(&state).is_empty());
    // A file that can be read in part alone is told as such, and what was seen of it stays.
    let mut state = State::default();
    say(&mut state, "web-1", Standing::Own, THEN, seen("web-2", 2));
    say(&mut state, "web-2", Standing::Peer, THEN, presents());
    say(&mut state, "web-3", Standing::Peer, THEN, presents());
    state.unread(writer("web-2"));
    state.unread(writer("web-3"));
    assert!(lost(&state).is_empty());
    let sights = state.sights(&server);
    assert_eq!((sights.len(), sights[0].seq), (1, 2));
    // What a peer has seen is not missed here.
    let mut state = State::default();
    say(&mut state, "web-1", Standing::Peer, THEN, seen("web-2", 2));
    assert!(lost(&state).is_empty());
}

#[test]
fn a_clock_ahead_is_bounded_by_the_first_write_with_the_right_one() {
    let ahead = THEN + 15_000 * DAY;
    let mut state = State::default();
    let id = say(&mut state, "web-1", Standing::Own, THEN, published(Origin::Header));
    say(&mut state, "web-1", Standing::Own, ahead, ended(&[id], Why::Replaced));
    assert_eq!(held(&state, id, THEN + DAY), Some(Retention::Until(ahead + 2 * DAY)));
    assert_eq!(state.unseen_future(THEN + DAY), [writer("web-1")]);
    say(
        &mut state,
        "web-1",
        Standing::Own,
        THEN + DAY,
        Body::Seen(Seen { of: vec![], succeeded: vec![] }),
    );
    assert!(state.unseen_future(THEN + DAY).is_empty());
    assert_eq!(held(&state, id, THEN + DAY), Some(Retention::Until(THEN + 3 * DAY)));
    assert_eq!(state.newest(&writer("web-1")), Some(THEN + DAY));
    // Once that time has come it counts.
    assert_eq!(held(&state, id, ahead), Some(Retention::Until(ahead + 2 * DAY)));
}

#[test]
fn a_peer_of_the_future_is_bounded_by_our_first_sight_alone() {
    let ahead = THEN + 15_000 * DAY;
    let mut state = State::default();
    let id = say(&mut state, "web-2", Standing::Peer, ahead, published(Origin::Header));
    say(&mut state, "web-2", Standing::Peer, ahead, ended(&[id], Why::Replaced));
    let far = Some(Retention::Until(ahead + 2 * DAY));
    say(&mut state, "web-3", Standing::Peer, THEN, seen("web-2", 2));
    assert_eq!(held(&state, id, THEN + DAY), far);
    // Started before the clock was set, by a server that had written before.
    say(
        &mut state,
        "web-1",
        Standing::Own,
        THEN,
        Body::Seen(Seen { of: vec![], succeeded: vec![] }),
    );
    say(&mut state, "web-1", Standing::Own, 60, seen("web-2", 2));
    assert_eq!(held(&state, id, THEN + DAY), far);
    say(&mut state, "web-1", Standing::Own, THEN + DAY, seen("web-2", 2));
    assert_eq!(held(&state, id, THEN + DAY), Some(Retention::Until(THEN + 3 * DAY)));
}

#[test]
fn an_end_written_before_the_clock_was_set_shortens_no_memory() {
    let mut state = State::default();
    let id = say(&mut state, "web-1", Standing::Own, THEN, published(Origin::Header));
    say(&mut state, "web-1", Standing::Own, 60, ended(&[id], Why::Replaced));
    let now = THEN + 90 * DAY;
    assert_eq!(held(&state, id, now), Some(Retention::Until(now + 2 * DAY)));
    say(
        &mut state,
        "web-1",
        Standing::Own,
        now,
        Body::Seen(Seen { of: vec![], succeeded: vec![] }),
    );
    assert_eq!(held(&state, id, now + DAY), Some(Retention::Until(now + 2 * DAY)));
}
