//! Staleness: another machine that serves the host has sent no records for longer than `max_staleness`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{SystemTime, UNIX_EPOCH};

use hpkp_core::published::heard::{AllHeard, Heard, write};
use hpkp_tests::layout::Site;
use hpkp_tests::site::{A, B};

use crate::fixture::{Fixture, OWN, says};

super::scenarios! {
    a_silent_machine
    a_machine_that_was_never_heard_of
    a_damaged_file_of_heartbeats
    a_start_beside_a_silent_machine
    an_invalid_max_staleness_is_refused
}

const SILENT: &[&str] = &["peer-silent"];
const HEARD: &str = "records/hpkp-heard";

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a time").as_secs() as i64
}

/// Records that `web-2` was last heard from `ago` seconds ago.
fn heard<S: Site>(fixture: &Fixture<S>, ago: i64) {
    let last = "00112233445566778899aabbccddeeff".parse().expect("an id");
    let heard = Heard { number: 1, at: now() - ago, last };
    let all = AllHeard::from([("web-2".parse().expect("a name"), heard)]);
    fixture.pki.write(HEARD, write(&all));
}

/// Two servers of a host, each with the records of the other; `web-2` was last heard from `ago` seconds ago.
fn two<S: Site>(ago: i64) -> (Fixture<S>, [String; 3]) {
    let mut other = Fixture::<S>::new();
    other.published = &["records writer=web-2"];
    for name in ["next", "third"] {
        other.pki.leaf(name, "localhost", "ca");
    }
    let pins = ["live", "next", "third"].map(|name| other.pki.pin(&format!("{name}.pem")));
    other.up(&["live"], &[&pins[0], &pins[1]], &[]);
    assert_eq!(other.get().pins().len(), 1);

    let mut fixture = Fixture::<S>::new();
    fixture.published = &["records writer=web-1 max_staleness=1h"];
    for name in ["live", "next", "third"] {
        for kind in ["pem", "key"] {
            let file = format!("{name}.{kind}");
            fixture.pki.write(&file, other.pki.read(&file));
        }
    }
    fs::copy(other.site.path("ca.pem"), fixture.site.path("ca.pem")).expect("a copy");
    let copy = fixture.site.path("records/peers/web-2.jsonl");
    fs::copy(other.site.path("records/web-2.jsonl"), copy).expect("a copy");
    heard(&fixture, 0);
    fixture.up(&["live"], &[&pins[0], &pins[1]], &[]);
    assert_eq!(fixture.get().pins().len(), 1);
    let back = other.site.path("records/peers/web-1.jsonl");
    fs::copy(fixture.site.path(OWN), back).expect("a copy");
    heard(&fixture, ago);
    (fixture, pins)
}

fn a_silent_machine<S: Site>() {
    let (mut fixture, [live, next, third]) = two::<S>(3_500);
    fixture.passes(&["live"], &[&live, &next, &third], &[]);
    heard(&fixture, 3_700);
    // An unchanged configuration passes, also at a reload, and keeps its header.
    fixture.takes(&["live"], &[&live, &next], SILENT);
    assert_eq!(fixture.get().pins().len(), 1);
    let outcome = fixture.refuses(&["live"], &[&live, &next, &third], SILENT);
    says(
        &outcome,
        &[
            "localhost: web-2 (last heard from at 20",
            ", 61 minutes ago) has been silent for more than 1 hour (max_staleness)",
            "new pins for this host may lock clients out",
            "nothing was changed",
            "run hpkp sync on the machine of web-2",
            "end --writer web-2 --why REASON",
        ],
    );
    // A certificate for a backup key that all clients hold passes, so that a stolen key can be replaced.
    fixture.refuses(&["third"], &[&third, &live], &["published-pins-unmet", "peer-silent"]);
    fixture.takes(&["next"], &[&live, &next], SILENT);
    // The other machine is heard from again.
    heard(&fixture, 0);
    fixture.takes(&["next"], &[&live, &next, &third], &[]);
    assert_eq!(fixture.get().pins().len(), 1);
}

fn a_machine_that_was_never_heard_of<S: Site>() {
    let (fixture, [live, next, third]) = two::<S>(0);
    fixture.pki.write(HEARD, write(&AllHeard::new()));
    fixture.passes(&["live"], &[&live, &next], &["peer-never-heard"]);
    fixture.passes(&["live"], &[&live, &next, &third], &["peer-never-heard"]);
    fs::remove_file(fixture.site.path(HEARD)).expect("a file");
    fixture.passes(&["live"], &[&live, &next], &["peer-never-heard"]);
    fixture.passes(&["live"], &[&live, &next, &third], &["peer-never-heard"]);
}

fn a_damaged_file_of_heartbeats<S: Site>() {
    let (fixture, [live, next, third]) = two::<S>(0);
    let unreadable = &["heartbeats-unreadable"];
    let whole = fs::read_to_string(fixture.site.path(HEARD)).expect("a file");
    for damage in ["", "x", "{\"v\":1}", "{\"v\":2}\n", &whole[..whole.len() - 1]] {
        fixture.pki.write(HEARD, damage);
        fixture.passes(&["live"], &[&live, &next], unreadable);
        fixture.refuses(&["live"], &[&live, &next, &third], unreadable);
        fixture.passes(&["next"], &[&live, &next], unreadable);
    }
    // Another user who may write the file could hide that a machine is silent.
    let path = fixture.pki.write(HEARD, &whole);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).expect("a file");
    let outcome = fixture.refuses(&["live"], &[&live, &next, &third], unreadable);
    says(&outcome, &["other users can write to the file"]);
    fs::remove_file(&path).expect("a file");
    fs::create_dir(&path).expect("a directory");
    fixture.refuses(&["live"], &[&live, &next, &third], unreadable);
    fs::remove_dir(&path).expect("a directory");
    std::os::unix::fs::symlink("/dev/zero", &path).expect("a link");
    fixture.refuses(&["live"], &[&live, &next, &third], unreadable);
}

fn a_start_beside_a_silent_machine<S: Site>() {
    let (mut fixture, [live, next, third]) = two::<S>(3_700);
    // A start with the last accepted configuration sends the header; a start with new pins sends none.
    fixture.site.down();
    fixture.expect(SILENT);
    fixture.one(&["live"], &[&live, &next], |layout| fixture.site.lay_out(layout));
    fixture.site.up();
    assert_eq!(fixture.get().pins().len(), 1);
    fixture.site.down();
    fixture.one(&["live"], &[&live, &next, &third], |layout| fixture.site.lay_out(layout));
    fixture.site.up();
    let response = fixture.get();
    assert_eq!((response.status, response.pins().len()), (200, 0));
    // A reload of the running configuration is accepted without the header, so that other hosts can be renewed.
    fixture.takes(&["live"], &[&live, &next, &third], SILENT);
    assert_eq!(fixture.get().pins().len(), 0);
    fixture.refuses(&["live"], &[&live, &third], SILENT);
    // The server sends the header again once the other machine is heard from.
    heard(&fixture, 0);
    fixture.takes(&["live"], &[&live, &next, &third], &[]);
    assert_eq!(fixture.get().pins().len(), 1);
}

fn an_invalid_max_staleness_is_refused<S: Site>() {
    let mut fixture = Fixture::<S>::new();
    for (directive, outcome) in [
        ("records writer=web-1 max_staleness=0", "expected at least one second"),
        ("records writer=web-1 max_staleness=", "no digit at the beginning"),
        ("records writer=web-1 max_staleness=1x", "unknown unit"),
        ("records writer=web-1 max_staleness=99999999999", "more than 2147483647 seconds"),
        ("records max_staleness=1h max_staleness=1h", "invalid parameter"),
    ] {
        fixture.published = Box::leak(Box::new([directive]));
        let live = fixture.pki.pin("live.pem");
        let refused = fixture.one(&["live"], &[&live, B, A], |layout| {
            fixture.site.lay_out(layout);
            fixture.site.test()
        });
        assert_eq!(refused.code, Some(1), "{directive}: {}", refused.text);
        says(&refused.text, &[outcome]);
    }
    fixture.published = &["records read_only max_staleness=2w"];
    let live = fixture.pki.pin("live.pem");
    fixture.passes(&["live"], &[&live, B], &["published-pins-no-writer", "peer-never-heard"]);
}
