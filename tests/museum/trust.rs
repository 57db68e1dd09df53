//! Files of others, files that are lost, and configurations that are on no record.

use std::fs;

use hpkp_core::published::file;
use hpkp_core::published::{Body, Ended, Event, EventId, Waived, Why};
use hpkp_tests::instance::Reload;
use hpkp_tests::layout::Site;
use hpkp_tests::recorded;
use hpkp_tests::site::{A, B};

use crate::stage::{OWN, Stage, says};

super::exhibits! {
    a_copy_that_ends_or_waives_what_this_server_publishes
    a_copy_under_the_name_of_this_server
    a_limit_on_copies_refuses_nothing_that_is_unchanged
    a_copy_that_has_vanished_or_gone_back
    a_stop_is_recorded_beside_a_broken_copy
    records_of_this_server_that_have_become_empty
    records_of_this_server_that_have_gone_back
    a_reserve_that_is_damaged
    copies_with_odd_names
    records_that_others_may_write
    a_configuration_that_is_on_no_record
    a_start_in_spite_of_a_lock_out_is_no_new_mistake
    a_server_that_stops_and_starts_writes_a_line
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
fn running<S: Site>() -> (Stage<S>, String, String) {
    let mut stage = Stage::<S>::new();
    stage.pki.leaf("other", "localhost", "ca");
    let (live, other) = (stage.pki.pin("live.pem"), stage.pki.pin("other.pem"));
    stage.up(&["live"], &[&live, B], &[]);
    // httpd listens before it has written.
    assert_eq!(stage.get().pins().len(), 1);
    (stage, live, other)
}

fn published<S: Site>(stage: &Stage<S>) -> Vec<EventId> {
    let events = recorded::events(&stage.site.path(OWN));
    let published = events.iter().filter(|event| matches!(event.body(), Body::Published(_)));
    published.map(Event::id).collect()
}

fn a_copy_that_ends_or_waives_what_this_server_publishes<S: Site>() {
    let (stage, live, other) = running::<S>();
    let ids = published(&stage);
    let ended = Ended { ids: ids.clone(), why: Why::Other("x".into()), when: Some(0) };
    let waived = Waived { ids, who: "x".into(), why: "x".into() };
    for body in [Body::Ended(ended), Body::Waived(waived)] {
        stage.pki.write("records/peers/web-9.jsonl", lines("web-9", vec![body.clone()]));
        let both = [UNMET, &["peer-record-ignored"]].concat();
        let said = stage.refuses(&["other"], &[&other, B], &both);
        says(&said, &["peers/web-9.jsonl", "; ignored"]);
        stage.passes(&["live"], &[&live, B], &["peer-record-ignored"]);
        // Here it counts.
        stage.pki.write("records/peers/web-9.jsonl", "");
        stage.pki.write("records/web-9.jsonl", lines("web-9", vec![body]));
        stage.one(&["other"], &[&other, B], |layout| stage.site.lay_out(layout));
        assert_eq!(stage.site.test().code, Some(0));
        fs::remove_file(stage.site.path("records/web-9.jsonl")).expect("a file");
    }
}

fn a_copy_under_the_name_of_this_server<S: Site>() {
    let (stage, live, other) = running::<S>();
    // A clone says that the other key was presented last, and that it is the year 2100.
    let clone = Stage::<S>::new();
    for file in ["other.pem", "other.key", "ca.pem"] {
        clone.pki.write(file, stage.pki.read(file));
    }
    let mut clone = clone;
    clone.up(&["other"], &[&other, B], &[]);
    let said = fs::read_to_string(clone.site.path(OWN)).expect("records");
    stage.pki.write("records/peers/web-1.jsonl", &said);
    let both = [UNMET, &["peer-record-ignored"]].concat();
    says(&stage.refuses(&["other"], &[&other, B], &both), &["peers/web-1.jsonl"]);
    stage.passes(&["live"], &[&live, B], &["peer-record-ignored"]);
    stage.passes(&["live"], &[&live, B, A], &["peer-record-ignored"]);
}

fn a_limit_on_copies_refuses_nothing_that_is_unchanged<S: Site>() {
    let (stage, live, _) = running::<S>();
    for number in 0..1_001 {
        stage.pki.write(&format!("records/peers/m{number}.jsonl"), "");
        stage.pki.write(&format!("records/.web-1.jsonl.{number}"), "x");
    }
    stage.passes(&["live"], &[&live, B], &[]);
    stage.passes(&["live"], &[&live, B, A], &[]);
    for number in 0..1_001 {
        let body = Body::Ended(Ended { ids: vec![], why: Why::Stopped, when: None });
        let name = format!("m{number}");
        stage.pki.write(&format!("records/peers/{name}.jsonl"), lines(&name, vec![body]));
    }
    stage.passes(&["live"], &[&live, B], &["records-unreadable"]);
    let said = stage.refuses(&["live"], &[&live, B, A], &["records-unreadable"]);
    says(&said, &["records/peers\" has more than 1000 files"]);
}

fn a_copy_that_has_vanished_or_gone_back<S: Site>() {
    let (mut stage, live, _) = running::<S>();
    let body = || Body::Ended(Ended { ids: vec![], why: Why::Stopped, when: None });
    let whole = lines("web-9", vec![body(), body()]);
    let first = lines("web-9", vec![body()]);
    stage.pki.write("records/peers/web-9.jsonl", &whole);
    stage.takes(&["live"], &[&live, B], &[]);
    for earlier in [Some(first.as_str()), None] {
        let path = stage.pki.write("records/peers/web-9.jsonl", earlier.unwrap_or_default());
        if earlier.is_none() {
            fs::remove_file(path).expect("a file");
        }
        let lost = &["records-missing"];
        stage.takes(&["live"], &[&live, B], lost);
        let said = stage.refuses(&["live"], &[&live, B, A], lost);
        says(&said, &["end --writer web-9 --why REASON"]);
        stage.pki.write("records/peers/web-9.jsonl", &whole);
        stage.passes(&["live"], &[&live, B, A], &[]);
    }
}

fn a_stop_is_recorded_beside_a_broken_copy<S: Site>() {
    let (mut stage, ..) = running::<S>();
    stage.pki.write("records/peers/web-9.jsonl", "broken\n");
    stage.site.down();
    assert_eq!(recorded::kinds(&stage.site.path(OWN)).last(), Some(&"ended"));
}

fn records_of_this_server_that_have_become_empty<S: Site>() {
    let (stage, live, _) = running::<S>();
    let whole = fs::read_to_string(stage.site.path(OWN)).expect("records");
    stage.pki.write(OWN, "");
    let said = stage.refuses(&["live"], &[&live, B], &["records-missing"]);
    says(&said, &[OWN]);
    fs::remove_file(stage.site.path(OWN)).expect("a file");
    stage.refuses(&["live"], &[&live, B], &["records-missing"]);
    stage.pki.write(OWN, whole);
    stage.passes(&["live"], &[&live, B], &[]);
}

/// A backup of yesterday, or a disk that has lost the last lines.
fn records_of_this_server_that_have_gone_back<S: Site>() {
    let (mut stage, live, _) = running::<S>();
    let earlier = fs::read_to_string(stage.site.path(OWN)).expect("records");
    stage.takes(&["live"], &[&live, B, A], &[]);
    assert_eq!(stage.get().pins().len(), 1);
    let whole = fs::read_to_string(stage.site.path(OWN)).expect("records");
    let first = whole.split_inclusive('\n').next().expect("a line");
    for less in [earlier.as_str(), first] {
        stage.pki.write(OWN, less);
        let said = stage.refuses(&["live"], &[&live, B, A], &["records-missing"]);
        says(&said, &[OWN, "has gone back to an earlier state"]);
    }
    stage.pki.write(OWN, &earlier);
    stage.passes(&["live"], &[&live, B], &["records-missing"]);
    stage.pki.write(OWN, whole);
    stage.passes(&["live"], &[&live, B, A], &[]);
}

fn a_reserve_that_is_damaged<S: Site>() {
    let (mut stage, live, _) = running::<S>();
    for damage in [&[0_u8; 8192][..], &[0xff; 8192], b"", b"web-1 x\n"] {
        stage.pki.write("records/hpkp-reserve", damage);
        stage.takes(&["live"], &[&live, B], &["configuration-not-recorded"]);
        assert_eq!(stage.get().pins().len(), 1);
        // The reload has written it anew.
        stage.passes(&["live"], &[&live, B], &[]);
    }
}

fn copies_with_odd_names<S: Site>() {
    use std::os::unix::ffi::OsStringExt as _;
    let (stage, live, _) = running::<S>();
    for name in [&b"\xff\xfe.jsonl"[..], b"web 2.jsonl", b"a\nhpkp: [unknown-policy] -: x.jsonl"] {
        let name = std::ffi::OsString::from_vec(name.to_vec());
        let file = stage.site.path("records/peers").join(name);
        fs::write(&file, "x").expect("a file");
        stage.passes(&["live"], &[&live, B], &["records-unreadable"]);
        fs::remove_file(file).expect("a file");
    }
}

fn records_that_others_may_write<S: Site>() {
    use std::os::unix::fs::PermissionsExt as _;
    let (stage, live, _) = running::<S>();
    let mode = |mode| {
        let mode = fs::Permissions::from_mode(mode);
        fs::set_permissions(stage.site.path(OWN), mode).expect("a mode");
    };
    mode(0o664);
    stage.passes(&["live"], &[&live, B], &["records-unsafe-permissions"]);
    stage.refuses(&["live"], &[&live, B, A], &["records-unsafe-permissions"]);
    mode(0o644);
    stage.passes(&["live"], &[&live, B, A], &[]);
    fs::hard_link(stage.site.path(OWN), stage.site.path("backup")).expect("a link");
    stage.passes(&["live"], &[&live, B], &["records-not-writable"]);
    fs::remove_file(stage.site.path("backup")).expect("a link");
}

fn a_configuration_that_is_on_no_record<S: Site>() {
    let mut stage = Stage::<S>::new();
    stage.pki.leaf("other", "localhost", "ca");
    let other = stage.pki.pin("other.pem");
    stage.up(&["live"], &[], &[]);
    fs::hard_link(stage.site.path(OWN), stage.site.path("backup")).expect("a link");
    stage.expect(&["records-not-writable", "configuration-not-recorded"]);
    stage.one(&["other"], &[], |layout| stage.site.lay_out(layout));
    for _ in 0..2 {
        let log = stage.site.log().len();
        assert_eq!(stage.site.reload_forced(), Reload::Accepted);
        says(&stage.site.log()[log..], &["[configuration-not-recorded]"]);
    }
    fs::remove_file(stage.site.path("backup")).expect("a link");
    // An app that pins the key which is served: the one before it is no longer "as before".
    let app = format!("localhost sha256/{other}\n");
    stage.pki.write("app", app);
    let body = Body::Published(hpkp_core::published::Published {
        host: "localhost".parse().expect("a name"),
        matching: hpkp_core::published::Matching::Exact,
        except: vec![],
        include_subdomains: false,
        scope: hpkp_core::published::Scope::Chain,
        port: None,
        pins: vec![hpkp_core::pin::Pin::from_base64(&other).expect("a pin")],
        lifetime: hpkp_core::published::Lifetime::Open,
        origin: hpkp_core::published::Origin::Other("app".into()),
        since: None,
        configuration: None,
        exempt: vec![],
        tlsa: None,
    });
    stage.pki.write("records/apps.jsonl", lines("apps", vec![body]));
    stage.refuses(&["live"], &[], UNMET);
    // What is served is unchanged, and goes on record with the next reload.
    stage.takes(&["other"], &[], &[]);
    let events = file::read(&fs::read(stage.site.path(OWN)).expect("a file")).expect("records");
    assert!(events.events.len() > 2);
    stage.refuses(&["live"], &[], UNMET);
}

fn a_start_in_spite_of_a_lock_out_is_no_new_mistake<S: Site>() {
    let (mut stage, live, other) = running::<S>();
    stage.site.down();
    // The start goes on without the header; so does what is as it was then, and nothing else.
    let unmet = &["no-pin-in-chain", "published-pins-unmet"];
    stage.refuses(&["other"], &[&live, B], unmet);
    stage.expect(unmet);
    stage.site.up();
    assert_eq!(stage.get().pins().len(), 0);
    assert!(recorded::kinds(&stage.site.path(OWN)).contains(&"withheld"));
    stage.one(&["other"], &[&live, B], |layout| stage.site.lay_out(layout));
    assert_eq!(stage.site.test().code, Some(0));
    stage.one(&["other"], &[&live, A], |layout| stage.site.lay_out(layout));
    assert_eq!(stage.site.test().code, Some(1));
    stage.takes(&["other"], &[&other, B], UNMET);
}

fn a_server_that_stops_and_starts_writes_a_line<S: Site>() {
    let (mut stage, live, _) = running::<S>();
    let first = published(&stage);
    for _ in 0..3 {
        stage.site.down();
        stage.up(&["live"], &[&live, B], &[]);
    }
    let kinds = recorded::kinds(&stage.site.path(OWN));
    assert_eq!(kinds[3..], ["ended", "again", "ended", "again", "ended", "again"]);
    // What comes to an end is what began before the stops.
    stage.takes(&["live"], &[&live, A], &[]);
    let events = recorded::events(&stage.site.path(OWN));
    let replaced = events.iter().any(|event| {
        matches!(event.body(), Body::Ended(ended) if ended.why == Why::Replaced && ended.ids == first)
    });
    assert!(replaced, "{events:#?}");
}

fn containers_that_leave_their_records_behind<S: Site>() {
    let mut stage = Stage::<S>::new();
    stage.pki.leaf("other", "localhost", "ca");
    let (live, other) = (stage.pki.pin("live.pem"), stage.pki.pin("other.pem"));
    stage.published = &["records writer=c1"];
    stage.up(&["live"], &[&live, B], &[]);
    stage.site.down();
    stage.published = &["records writer=c2"];
    stage.up(&["live"], &[&live, B], &["other-writers"]);
    // It has a file of its own now.
    stage.passes(&["live"], &[&live, B], &[]);
    stage.site.down();
    stage.published = &["records writer=c3"];
    let codes = ["published-pins-unmet", "peer-server-pin-mismatch", "other-writers"];
    stage.one(&["other"], &[&other, A], |layout| stage.site.lay_out(layout));
    let said = stage.site.test();
    assert_eq!(said.code, Some(1));
    assert!(codes.iter().any(|code| said.codes().contains(code)), "{}", said.text);
    says(&said.text, &["end --writer c1 --writer c2 --why REASON"]);
}
