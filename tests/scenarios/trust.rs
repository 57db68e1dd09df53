//! How far records are trusted: copies from other machines, lost or damaged files, unrecorded configurations.

use std::fs;

use hpkp_core::published::file;
use hpkp_core::published::{Body, Ended, Event, EventId, Waived, Why};
use hpkp_tests::instance::Reload;
use hpkp_tests::layout::Site;
use hpkp_tests::recorded;
use hpkp_tests::site::{A, B};

use crate::fixture::{Fixture, OWN, says};

super::scenarios! {
    a_copy_that_ends_or_waives_what_this_server_publishes
    a_copy_under_the_name_of_this_server
    a_limit_on_copies_refuses_nothing_that_is_unchanged
    a_copy_that_has_vanished_or_gone_back
    a_stop_is_recorded_beside_a_broken_copy
    records_of_this_server_that_have_become_empty
    records_of_this_server_that_have_gone_back
    an_earlier_copy_has_an_earlier_key
    a_damaged_reserve_warns_and_is_rewritten
    copies_with_invalid_names_are_unreadable_records
    records_that_others_may_write_refuse_a_change
    a_configuration_that_was_not_recorded_is_recorded_at_the_next_reload
    a_configuration_started_in_spite_of_a_lock_out_passes_again
    a_header_withheld_for_a_lock_out_stays_withheld
    a_stop_and_a_start_write_one_line_each
    containers_that_leave_their_records_behind
}

const UNMET: &[&str] = &["published-pins-unmet"];

/// The lines of another writer's file.
fn lines(writer: &str, bodies: Vec<Body>) -> String {
    let events = (1..).zip(bodies).map(|(seq, body)| {
        let writer = writer.parse().expect("a name");
        format!("{}\n", Event::new(1_700_000_000, seq, writer, body).line())
    });
    events.collect()
}

/// A server that publishes the pin of its key, and another key for it.
fn running<S: Site>() -> (Fixture<S>, String, String) {
    let mut fixture = Fixture::<S>::new();
    fixture.pki.leaf("other", "localhost", "ca");
    let (live, other) = (fixture.pki.pin("live.pem"), fixture.pki.pin("other.pem"));
    fixture.up(&["live"], &[&live, B], &[]);
    // httpd listens before it has written.
    assert_eq!(fixture.get().pins().len(), 1);
    (fixture, live, other)
}

fn published<S: Site>(fixture: &Fixture<S>) -> Vec<EventId> {
    let events = recorded::events(&fixture.site.path(OWN));
    let published = events.iter().filter(|event| matches!(event.body(), Body::Published(_)));
    published.map(Event::id).collect()
}

fn a_copy_that_ends_or_waives_what_this_server_publishes<S: Site>() {
    let (fixture, live, other) = running::<S>();
    let ids = published(&fixture);
    let ended = Ended { ids: ids.clone(), why: Why::Other("x".into()), when: Some(0) };
    let waived = Waived { ids, who: "x".into(), why: "x".into() };
    for body in [Body::Ended(ended), Body::Waived(waived)] {
        fixture.pki.write("records/peers/web-9.jsonl", lines("web-9", vec![body.clone()]));
        let both = [UNMET, &["peer-record-ignored"]].concat();
        let outcome = fixture.refuses(&["other"], &[&other, B], &both);
        says(&outcome, &["peers/web-9.jsonl", "; ignored"]);
        fixture.passes(&["live"], &[&live, B], &["peer-record-ignored"]);
        // The same file beside this server's own counts.
        fixture.pki.write("records/peers/web-9.jsonl", "");
        fixture.pki.write("records/web-9.jsonl", lines("web-9", vec![body]));
        fixture.one(&["other"], &[&other, B], |layout| fixture.site.lay_out(layout));
        assert_eq!(fixture.site.test().code, Some(0));
        fs::remove_file(fixture.site.path("records/web-9.jsonl")).expect("a file");
    }
}

fn a_copy_under_the_name_of_this_server<S: Site>() {
    let (fixture, live, other) = running::<S>();
    // The records of a clone have the other key as the one presented last.
    let clone = Fixture::<S>::new();
    for file in ["other.pem", "other.key", "ca.pem"] {
        clone.pki.write(file, fixture.pki.read(file));
    }
    let mut clone = clone;
    clone.up(&["other"], &[&other, B], &[]);
    let outcome = fs::read_to_string(clone.site.path(OWN)).expect("records");
    fixture.pki.write("records/peers/web-1.jsonl", &outcome);
    let both = [UNMET, &["peer-record-ignored"]].concat();
    says(&fixture.refuses(&["other"], &[&other, B], &both), &["peers/web-1.jsonl"]);
    fixture.passes(&["live"], &[&live, B], &["peer-record-ignored"]);
    fixture.passes(&["live"], &[&live, B, A], &["peer-record-ignored"]);
}

fn a_limit_on_copies_refuses_nothing_that_is_unchanged<S: Site>() {
    let (fixture, live, _) = running::<S>();
    for number in 0..1_001 {
        fixture.pki.write(&format!("records/peers/m{number}.jsonl"), "");
        fixture.pki.write(&format!("records/.web-1.jsonl.{number}"), "x");
    }
    fixture.passes(&["live"], &[&live, B], &[]);
    fixture.passes(&["live"], &[&live, B, A], &[]);
    for number in 0..1_001 {
        let body = Body::Ended(Ended { ids: vec![], why: Why::Stopped, when: None });
        let name = format!("m{number}");
        fixture.pki.write(&format!("records/peers/{name}.jsonl"), lines(&name, vec![body]));
    }
    fixture.passes(&["live"], &[&live, B], &["records-unreadable"]);
    let outcome = fixture.refuses(&["live"], &[&live, B, A], &["records-unreadable"]);
    says(&outcome, &["records/peers\" has more than 1000 files"]);
}

fn a_copy_that_has_vanished_or_gone_back<S: Site>() {
    let (mut fixture, live, _) = running::<S>();
    let body = || Body::Ended(Ended { ids: vec![], why: Why::Stopped, when: None });
    let whole = lines("web-9", vec![body(), body()]);
    let first = lines("web-9", vec![body()]);
    fixture.pki.write("records/peers/web-9.jsonl", &whole);
    fixture.takes(&["live"], &[&live, B], &[]);
    for earlier in [Some(first.as_str()), None] {
        let path = fixture.pki.write("records/peers/web-9.jsonl", earlier.unwrap_or_default());
        if earlier.is_none() {
            fs::remove_file(path).expect("a file");
        }
        let lost = &["records-missing"];
        fixture.takes(&["live"], &[&live, B], lost);
        let outcome = fixture.refuses(&["live"], &[&live, B, A], lost);
        says(&outcome, &["end --writer web-9 --why REASON"]);
        fixture.pki.write("records/peers/web-9.jsonl", &whole);
        fixture.passes(&["live"], &[&live, B, A], &[]);
    }
}

fn a_stop_is_recorded_beside_a_broken_copy<S: Site>() {
    let (mut fixture, ..) = running::<S>();
    fixture.pki.write("records/peers/web-9.jsonl", "broken\n");
    fixture.site.down();
    assert_eq!(recorded::kinds(&fixture.site.path(OWN)).last(), Some(&"ended"));
}

fn records_of_this_server_that_have_become_empty<S: Site>() {
    let (fixture, live, other) = running::<S>();
    let whole = fs::read_to_string(fixture.site.path(OWN)).expect("records");
    fixture.pki.write(OWN, "");
    let lost = &["records-missing"];
    let outcome = fixture.refuses(&["live"], &[&live, B, A], lost);
    says(&outcome, &[OWN]);
    // The reserve still records which configuration is served.
    fixture.passes(&["live"], &[&live, B], lost);
    fs::remove_file(fixture.site.path(OWN)).expect("a file");
    fixture.passes(&["live"], &[&live, B], lost);
    fixture.refuses(&["other"], &[&other, B], lost);
    // A reserve in the old format, without the number of the last event: nothing shows whether events are
    // missing, or which.
    let reserve = "records/hpkp-reserve";
    let slots = fs::read_to_string(fixture.site.path(reserve)).expect("a reserve");
    let old = format!("{:<127}\n", "web-1 recorded");
    fixture.pki.write(reserve, format!("{old}{}", &slots[old.len()..]));
    fixture.refuses(&["live"], &[&live, B], &["records-missing"]);
    fixture.pki.write(reserve, slots);
    fixture.pki.write(OWN, whole);
    fixture.passes(&["live"], &[&live, B], &[]);
}

/// The file is yesterday's backup, or a disk has lost its last lines.
fn records_of_this_server_that_have_gone_back<S: Site>() {
    let (mut fixture, live, _) = running::<S>();
    let earlier = fs::read_to_string(fixture.site.path(OWN)).expect("records");
    fixture.takes(&["live"], &[&live, B, A], &[]);
    assert_eq!(fixture.get().pins().len(), 1);
    let whole = fs::read_to_string(fixture.site.path(OWN)).expect("records");
    let first = whole.split_inclusive('\n').next().expect("a line");
    for less in [earlier.as_str(), first] {
        fixture.pki.write(OWN, less);
        // The configuration that the earlier state records is not the one that is served.
        let outcome = fixture.refuses(&["live"], &[&live, B], &["records-missing"]);
        says(&outcome, &[OWN, "has gone back to an earlier state"]);
        fixture.passes(&["live"], &[&live, B, A], &["records-missing"]);
    }
    fixture.pki.write(OWN, whole);
    fixture.passes(&["live"], &[&live, B, A], &[]);
    // What the server writes from now on does not bring the missing events back.
    fixture.pki.write(OWN, earlier);
    for _ in 0..2 {
        fixture.takes(&["live"], &[&live, B, A], &["records-missing"]);
    }
    let outcome = fixture.refuses(&["live"], &[&live, B], &["records-missing"]);
    says(&outcome, &[OWN, "has gone back to an earlier state"]);
    fs::remove_file(fixture.site.path("records/hpkp-reserve")).expect("a reserve");
    fixture.passes(&["live"], &[&live, B], &[]);
}

/// The backup was made before a change of the key, and an app has pinned the new key since.
fn an_earlier_copy_has_an_earlier_key<S: Site>() {
    let mut fixture = Fixture::<S>::new();
    fixture.pki.leaf("other", "localhost", "ca");
    fixture.up(&["live"], &[], &[]);
    // httpd listens before it has written.
    fixture.takes(&["live"], &[], &[]);
    let earlier = fs::read_to_string(fixture.site.path(OWN)).expect("records");
    fixture.takes(&["other"], &[], &[]);
    let apps = fixture.site.path("records/apps.jsonl");
    recorded::held_by_an_app(&apps, "localhost", &fixture.pki.pin("other.pem"));
    fixture.pki.write(OWN, earlier);
    fixture.refuses(&["live"], &[], &["published-pins-unmet", "records-missing"]);
    fixture.passes(&["other"], &[], &["records-missing"]);
}

fn a_damaged_reserve_warns_and_is_rewritten<S: Site>() {
    let (mut fixture, live, _) = running::<S>();
    for damage in [&[0_u8; 8192][..], &[0xff; 8192], b"", b"web-1 x\n"] {
        fixture.pki.write("records/hpkp-reserve", damage);
        fixture.takes(&["live"], &[&live, B], &["configuration-not-recorded"]);
        assert_eq!(fixture.get().pins().len(), 1);
        // The reload has rewritten the reserve.
        fixture.passes(&["live"], &[&live, B], &[]);
    }
}

fn copies_with_invalid_names_are_unreadable_records<S: Site>() {
    use std::os::unix::ffi::OsStringExt as _;
    let (fixture, live, _) = running::<S>();
    for name in [&b"\xff\xfe.jsonl"[..], b"web 2.jsonl", b"a\nhpkp: [unknown-policy] -: x.jsonl"] {
        let name = std::ffi::OsString::from_vec(name.to_vec());
        let file = fixture.site.path("records/peers").join(name);
        fs::write(&file, "x").expect("a file");
        fixture.passes(&["live"], &[&live, B], &["records-unreadable"]);
        fs::remove_file(file).expect("a file");
    }
}

fn records_that_others_may_write_refuse_a_change<S: Site>() {
    use std::os::unix::fs::PermissionsExt as _;
    let (fixture, live, _) = running::<S>();
    let mode = |mode| {
        let mode = fs::Permissions::from_mode(mode);
        fs::set_permissions(fixture.site.path(OWN), mode).expect("a mode");
    };
    mode(0o664);
    fixture.passes(&["live"], &[&live, B], &["records-unsafe-permissions"]);
    fixture.refuses(&["live"], &[&live, B, A], &["records-unsafe-permissions"]);
    mode(0o644);
    fixture.passes(&["live"], &[&live, B, A], &[]);
    fs::hard_link(fixture.site.path(OWN), fixture.site.path("backup")).expect("a link");
    fixture.passes(&["live"], &[&live, B], &["records-not-writable"]);
    fs::remove_file(fixture.site.path("backup")).expect("a link");
}

fn a_configuration_that_was_not_recorded_is_recorded_at_the_next_reload<S: Site>() {
    let mut fixture = Fixture::<S>::new();
    fixture.pki.leaf("other", "localhost", "ca");
    let other = fixture.pki.pin("other.pem");
    fixture.up(&["live"], &[], &[]);
    fs::hard_link(fixture.site.path(OWN), fixture.site.path("backup")).expect("a link");
    fixture.expect(&["records-not-writable", "configuration-not-recorded"]);
    fixture.one(&["other"], &[], |layout| fixture.site.lay_out(layout));
    for _ in 0..2 {
        let log = fixture.site.log().len();
        assert_eq!(fixture.site.reload_forced(), Reload::Accepted);
        says(&fixture.site.log()[log..], &["[configuration-not-recorded]"]);
    }
    fs::remove_file(fixture.site.path("backup")).expect("a link");
    // An app pins the key that is served: the previous key does not count as unchanged any more.
    let app = format!("localhost sha256/{other}\n");
    fixture.pki.write("app", app);
    let pin = hpkp_core::pin::Pin::from_base64(&other).expect("a pin");
    let body = Body::Published(recorded::held("localhost", vec![pin]));
    fixture.pki.write("records/apps.jsonl", lines("apps", vec![body]));
    fixture.refuses(&["live"], &[], UNMET);
    // The served configuration is unchanged, and the next reload records it.
    fixture.takes(&["other"], &[], &[]);
    let events = file::read(&fs::read(fixture.site.path(OWN)).expect("a file")).expect("records");
    assert!(events.events.len() > 2);
    fixture.refuses(&["live"], &[], UNMET);
}

fn a_configuration_started_in_spite_of_a_lock_out_passes_again<S: Site>() {
    let (mut fixture, live, other) = running::<S>();
    fixture.site.down();
    // The start continues without the header; the same configuration passes afterwards, and no other does.
    let unmet = &["no-pin-in-chain", "published-pins-unmet"];
    fixture.refuses(&["other"], &[&live, B], unmet);
    fixture.expect(unmet);
    fixture.site.up();
    assert_eq!(fixture.get().pins().len(), 0);
    assert!(recorded::kinds(&fixture.site.path(OWN)).contains(&"withheld"));
    fixture.one(&["other"], &[&live, B], |layout| fixture.site.lay_out(layout));
    assert_eq!(fixture.site.test().code, Some(0));
    fixture.one(&["other"], &[&live, A], |layout| fixture.site.lay_out(layout));
    assert_eq!(fixture.site.test().code, Some(1));
    fixture.takes(&["other"], &[&other, B], UNMET);
}

/// A reload for another reason, such as a rotation of the logs, sends no header that was withheld: clients that note it
/// would refuse the certificate that the others accept.
fn a_header_withheld_for_a_lock_out_stays_withheld<S: Site>() {
    let (mut fixture, live, other) = running::<S>();
    fixture.site.down();
    fixture.refuses(&["other"], &[&other, A], UNMET);
    fixture.expect(UNMET);
    fixture.site.up();
    for _ in 0..3 {
        assert_eq!(fixture.get().pins().len(), 0);
        fixture.one(&["other"], &[&other, A], |layout| fixture.site.lay_out(layout));
        let outcome = fixture.site.test();
        assert_eq!((outcome.code, outcome.codes()), (Some(0), UNMET.to_vec()), "{}", outcome.text);
        says(&outcome.text, &["the header was not sent and is not sent"]);
        fixture.expect(UNMET);
        assert_eq!(fixture.site.reload_tested(), Reload::Accepted);
    }
    assert_eq!(fixture.get().pins().len(), 0);
    // So the way back is open.
    fixture.takes(&["live"], &[&live, B], &[]);
    assert_eq!(fixture.get().pins().len(), 1);
    // Another policy is a decision.
    fixture.site.down();
    fixture.refuses(&["other"], &[&other, A], UNMET);
    fixture.expect(UNMET);
    fixture.site.up();
    fixture.takes(&["other"], &[&other, B], UNMET);
    assert_eq!(fixture.get().pins().len(), 1);
}

fn a_stop_and_a_start_write_one_line_each<S: Site>() {
    let (mut fixture, live, _) = running::<S>();
    let first = published(&fixture);
    for _ in 0..3 {
        fixture.site.down();
        fixture.up(&["live"], &[&live, B], &[]);
    }
    let kinds = recorded::kinds(&fixture.site.path(OWN));
    assert_eq!(kinds[3..], ["ended", "again", "ended", "again", "ended", "again"]);
    // The change ends the pins that were published before the stops.
    fixture.takes(&["live"], &[&live, A], &[]);
    let events = recorded::events(&fixture.site.path(OWN));
    let replaced = events.iter().any(|event| {
        matches!(event.body(), Body::Ended(ended) if ended.why == Why::Replaced && ended.ids == first)
    });
    assert!(replaced, "{events:#?}");
}

fn containers_that_leave_their_records_behind<S: Site>() {
    let mut fixture = Fixture::<S>::new();
    fixture.pki.leaf("other", "localhost", "ca");
    let (live, other) = (fixture.pki.pin("live.pem"), fixture.pki.pin("other.pem"));
    fixture.published = &["records writer=c1"];
    fixture.up(&["live"], &[&live, B], &[]);
    fixture.site.down();
    fixture.published = &["records writer=c2"];
    fixture.up(&["live"], &[&live, B], &["other-writers"]);
    // The second container has a file of its own now.
    fixture.passes(&["live"], &[&live, B], &[]);
    fixture.site.down();
    fixture.published = &["records writer=c3"];
    let codes = ["published-pins-unmet", "peer-server-pin-mismatch", "other-writers"];
    fixture.one(&["other"], &[&other, A], |layout| fixture.site.lay_out(layout));
    let outcome = fixture.site.test();
    assert_eq!(outcome.code, Some(1));
    assert!(codes.iter().any(|code| outcome.codes().contains(code)), "{}", outcome.text);
    says(&outcome.text, &["end --writer c1 --writer c2 --why REASON"]);
}
