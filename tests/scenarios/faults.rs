//! Faults of the records under a running server: the server keeps running, it loses its header at most, and
//! no record that was acknowledged is lost.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hpkp_core::pin::Pin;
use hpkp_core::published::{Body, Compromised, Event, Identity};
use hpkp_tests::httpd::Httpd;
use hpkp_tests::instance::{Reload, codes};
use hpkp_tests::layout::{BLOCK, Block, LAYOUT, Layout, Site};
use hpkp_tests::load::meanwhile;
use hpkp_tests::nginx::Nginx;
use hpkp_tests::outcome::Kind;
use hpkp_tests::recorded::{events, published};
use hpkp_tests::site::{A, B};

use crate::apps;
use crate::fixture::{Fixture, says};
use crate::pinned::{PinnedSite, SENT, WITHHELD};

const UNREADABLE: &str = "records-unreadable";
const NOT_RECORDED: &str = "published-pins-write-failed";

pub fn is_root() -> bool {
    // SAFETY: geteuid takes no argument and always succeeds.
    unsafe { libc::geteuid() == 0 }
}

fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time");
    i64::try_from(now.as_secs()).expect("a time")
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a mode");
}

/// Event number `seq` of the writer `web-1`, about a key that no server uses.
fn event(at: i64, seq: u64, why: &str) -> Event {
    let pin = Pin::from_bytes([7; 32]);
    let body = Body::Compromised(Compromised { pin, why: why.to_owned() });
    Event::new(at, seq, "web-1".parse().expect("a name"), body)
}

fn append(file: &Path, events: &[Event]) {
    let mut file = fs::OpenOptions::new().append(true).open(file).expect("a file");
    for event in events {
        writeln!(file, "{}", event.line()).expect("a line");
    }
}

/// A reload, by its signal alone, of a configuration that the config test refuses: nginx refuses it, httpd
/// cannot and continues without the header.
#[track_caller]
fn reloaded_in_spite<S: Site>(pinned: &mut PinnedSite<S>) -> (u16, usize) {
    match (pinned.site.reload_forced(), S::KIND) {
        (Reload::Refused(_), Kind::Nginx) | (Reload::Accepted, Kind::Httpd) => pinned.asked(),
        (reload, _) => panic!("{reload:?}"),
    }
}

/// Something done to a directory with records, and taken back.
struct Fault {
    done: fn(&Path),
    undone: fn(&Path),
    outcome: &'static str,
}

fn aside(records: &Path) -> std::path::PathBuf {
    records.with_file_name("aside")
}

fn faults() -> Vec<Fault> {
    let mut faults = vec![
        Fault {
            done: |records| fs::rename(records, aside(records)).expect("moved"),
            undone: |records| fs::rename(aside(records), records).expect("moved"),
            outcome: "does not exist",
        },
        Fault {
            done: |records| {
                fs::rename(records, aside(records)).expect("moved");
                symlink(aside(records), records).expect("a link");
            },
            undone: |records| {
                fs::remove_file(records).expect("a link");
                fs::rename(aside(records), records).expect("moved");
            },
            outcome: "cannot open as a directory",
        },
        // Like a mount point without its volume.
        Fault {
            done: |records| {
                fs::rename(records, aside(records)).expect("moved");
                fs::create_dir(records).expect("a directory");
            },
            undone: |records| {
                fs::remove_dir(records).expect("a directory");
                fs::rename(aside(records), records).expect("moved");
            },
            outcome: "hpkp-records",
        },
        Fault {
            done: |records| mode(records, 0o777),
            undone: |records| mode(records, 0o755),
            outcome: "other users can write to the directory (mode 777)",
        },
        Fault {
            done: |records| fs::write(records.join("hpkp-records"), "2\n").expect("a file"),
            undone: |records| fs::write(records.join("hpkp-records"), "1\n").expect("a file"),
            outcome: "version",
        },
        Fault {
            done: |records| {
                let newer = event(now(), 1, "x").line().replace("\"v\":2", "\"v\":3");
                fs::write(records.join("peers/web-9.jsonl"), newer + "\n").expect("a file");
            },
            undone: |records| fs::remove_file(records.join("peers/web-9.jsonl")).expect("a file"),
            outcome: "records/peers/web-9.jsonl\": line 1 is not a valid record: written in version 3",
        },
    ];
    if is_root() {
        faults.push(Fault {
            done: |records| chown(records, Some(65_534), None).expect("an owner"),
            undone: |records| chown(records, Some(0), None).expect("an owner"),
            outcome: "the directory belongs to user 65534",
        });
    }
    faults
}

fn unreadable<S: Site>() {
    let mut pinned = PinnedSite::<S>::running();
    let codes = ["hpkp: [records-unreadable]", "hpkp: [configuration-not-recorded]"];
    pinned.site.expect_in_log(&codes);
    let before = pinned.snapshot();
    let records = pinned.site.path("records");
    for Fault { done, undone, outcome: text } in faults() {
        done(&records);
        let outcome = pinned.site.test();
        // An unchanged configuration passes if the damaged file is another writer's.
        let is_peer = text.contains("peers/");
        let code = Some(i32::from(!is_peer));
        assert_eq!((outcome.code, outcome.codes()), (code, vec![UNREADABLE]), "{outcome:?}");
        assert!(outcome.text.contains(text), "no \"{text}\" in:\n{}", outcome.text);
        if is_peer {
            pinned.publish(&[A]);
            let outcome = pinned.site.test();
            assert_eq!((outcome.code, outcome.codes()), (Some(1), vec![UNREADABLE]), "{outcome:?}");
            pinned.publish(&[]);
        }
        let asked = match S::KIND {
            Kind::Httpd if !is_peer => WITHHELD,
            _ => SENT,
        };
        let reloaded = match is_peer {
            true => {
                assert_eq!(pinned.site.reload_forced(), Reload::Accepted, "{text}");
                pinned.asked()
            }
            false => reloaded_in_spite(&mut pinned),
        };
        assert_eq!(reloaded, asked, "{text}");
        undone(&records);
        assert_eq!(pinned.site.reload_tested(), Reload::Accepted, "{text}");
        assert_eq!(pinned.asked(), SENT, "{text}");
        assert_eq!(pinned.snapshot(), before, "{text}");
    }

    // A start continues without the header, and the next reload sends it again.
    pinned.site.down();
    fs::rename(&records, aside(&records)).expect("moved");
    pinned.site.up();
    assert_eq!(pinned.asked(), WITHHELD);
    assert!(!records.exists());
    fs::rename(aside(&records), &records).expect("moved");
    assert_eq!(pinned.site.reload_tested(), Reload::Accepted);
    assert_eq!(pinned.asked(), SENT);
    pinned.site.down();
}

#[test]
fn nginx_continues_while_its_directory_is_unusable() {
    unreadable::<Nginx>();
}

#[test]
fn httpd_continues_while_its_directory_is_unusable() {
    unreadable::<Httpd>();
}

/// The server does not send new pins while it cannot record them; it sends pins that are on record. `foreseen` are the
/// findings of the test.
fn unrecordable<S: Site>(
    pinned: &mut PinnedSite<S>,
    foreseen: &[&str],
    done: impl Fn(&PinnedSite<S>),
    undone: impl Fn(&PinnedSite<S>),
) {
    pinned.site.expect_in_log(&["hpkp: [published-pins-write-failed] localhost:"]);
    let before = pinned.snapshot();
    done(pinned);
    pinned.publish(&[A]);
    let log = pinned.site.log().len();
    assert_eq!(pinned.site.reload_tested(), Reload::Accepted);
    let outcome = pinned.site.log().split_off(log);
    assert_eq!(codes(&outcome), [foreseen, &[NOT_RECORDED]].concat(), "{outcome}");
    assert_eq!(pinned.asked(), WITHHELD);
    assert_eq!(pinned.snapshot(), before);

    pinned.publish(&[]);
    let log = pinned.site.log().len();
    assert_eq!(pinned.site.reload_tested(), Reload::Accepted);
    assert_eq!(codes(&pinned.site.log()[log..]), foreseen);
    assert_eq!(pinned.asked(), SENT);

    undone(pinned);
    pinned.publish(&[A]);
    assert_eq!(pinned.site.reload_tested(), Reload::Accepted);
    assert_eq!(pinned.asked(), SENT);
    assert_eq!(published(&pinned.own()).len(), 2);
}

fn read_only<S: Site>() {
    let mut site = S::with_records();
    site.heed_permissions();
    let mut pinned = PinnedSite::of(site);
    pinned.site.up();
    let done = |pinned: &PinnedSite<S>| {
        mode(&pinned.own(), 0o444);
        mode(&pinned.records(""), 0o555);
    };
    let undone = |pinned: &PinnedSite<S>| {
        mode(&pinned.own(), 0o644);
        mode(&pinned.records(""), 0o755);
    };
    pinned.site.expect_in_log(&["hpkp: [records-not-writable]"]);
    unrecordable(&mut pinned, &["records-not-writable"], done, undone);
    // The server sends no header either if it has never written a record.
    pinned.site.down();
    fs::remove_file(pinned.own()).expect("a file");
    fs::remove_file(pinned.records("hpkp-reserve")).expect("a file");
    mode(&pinned.records(""), 0o555);
    pinned.site.up();
    assert_eq!(pinned.asked(), WITHHELD);
    mode(&pinned.records(""), 0o755);
    assert_eq!(pinned.site.reload_tested(), Reload::Accepted);
    assert_eq!(pinned.asked(), SENT);
    pinned.site.down();
}

#[test]
fn new_pins_are_withheld_while_the_directory_is_read_only() {
    read_only::<Nginx>();
    read_only::<Httpd>();
}

/// Limits the size of the files that a running server writes.
fn limit_files<S: Site>(pinned: &PinnedSite<S>, bytes: libc::rlim_t) {
    let mut limits = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: prlimit reads one `rlimit` and fills in the other; `pid` is a child of this test.
    unsafe {
        let pid = pinned.site.pid();
        assert_eq!(libc::prlimit(pid, libc::RLIMIT_FSIZE, std::ptr::null(), &raw mut limits), 0);
        limits.rlim_cur = bytes.min(limits.rlim_max);
        assert_eq!(
            libc::prlimit(pid, libc::RLIMIT_FSIZE, &raw const limits, std::ptr::null_mut()),
            0
        );
    }
}

fn full_disk<S: Site>() {
    // Exceeding the limit raises SIGXFSZ, whose default action would end the server.
    let mut pinned = PinnedSite::<S>::running();
    // The records become the largest of the server's files, so that the limit is theirs.
    let padding: Vec<Event> =
        (10..1_000).map(|seq| event(now(), seq, &"x".repeat(1_000))).collect();
    append(&pinned.own(), &padding);
    let done = |pinned: &PinnedSite<S>| {
        let size = fs::metadata(pinned.own()).expect("a file").len();
        assert!(size > 1 << 20);
        // Some of a line can still be written.
        limit_files(pinned, size + 100);
    };
    unrecordable(&mut pinned, &[], done, |pinned| limit_files(pinned, libc::RLIM_INFINITY));
    // The stop is not on record: the pins still count as published.
    let before = pinned.snapshot();
    done(&pinned);
    pinned.site.expect_in_log(&["hpkp: cannot record that this server has stopped"]);
    pinned.site.down();
    assert!(pinned.site.log().contains("cannot record that this server has stopped"));
    assert_eq!(pinned.snapshot(), before);
    pinned.site.up();
    assert_eq!(pinned.asked(), SENT);
    pinned.site.down();
}

#[test]
fn a_disk_that_is_full() {
    full_disk::<Nginx>();
    full_disk::<Httpd>();
}

/// A second server that writes to the first one's directory.
fn second<S: Site>(first: &PinnedSite<S>, writer: &str) -> (PinnedSite<S>, String) {
    let site = S::with_records();
    let directory = format!("{} writer={writer}", first.site.path("records").display());
    (PinnedSite::of(site), directory)
}

fn two_writers<S: Site>() {
    let mut first = PinnedSite::<S>::running();
    let (mut other, directory) = second(&first, "web-2");
    for name in ["live.pem", "live.key", "ca.pem"] {
        fs::copy(first.site.path(name), other.site.path(name)).expect("a copy");
    }
    let layout = Layout { published: &[&directory], ..LAYOUT };
    let pins = [first.live.as_str(), B];
    other.lay_out("live", &pins, &layout);
    other.site.up();
    assert_eq!((first.asked(), other.asked()), (SENT, SENT));
    first.publish(&[A]);
    assert_eq!(first.site.reload_tested(), Reload::Accepted);
    other.lay_out("live", &[first.live.as_str(), B, A], &layout);
    assert_eq!(other.site.reload_tested(), Reload::Accepted);
    assert_eq!((first.asked(), other.asked()), (SENT, SENT));
    let second = first.records("web-2.jsonl");
    assert_eq!((published(&first.own()).len(), published(&second).len()), (2, 2));
    other.site.down();
    first.site.down();
}

#[test]
fn two_servers_with_two_writer_names_share_a_directory() {
    two_writers::<Nginx>();
    two_writers::<Httpd>();
}

/// If `alike`, the second server publishes the same pins for the same host: those are on record until the
/// first server records that they have ended.
fn one_writer<S: Site>(alike: bool) {
    let mut first = PinnedSite::<S>::running();
    let (mut other, directory) = second(&first, "web-1");
    for name in ["live.pem", "live.key", "ca.pem"] {
        fs::copy(first.site.path(name), other.site.path(name)).expect("a copy");
    }
    let layout = Layout { published: &[&directory], ..LAYOUT };
    let pins = [first.live.as_str(), B, A];
    other.lay_out("live", if alike { &pins[..2] } else { &pins }, &layout);
    other.site.expect_in_log(&["hpkp: [published-pins-write-failed] localhost:"]);
    let before = first.snapshot();
    other.site.up();
    assert_eq!((first.asked(), other.asked()), (SENT, WITHHELD));
    let owner = format!("in use by another running server, process {};", first.site.pid());
    assert!(other.site.log().contains(&owner), "{}", other.site.log());
    assert_eq!(first.snapshot(), before);
    assert_eq!(other.site.reload_tested(), Reload::Accepted);
    assert_eq!(other.asked(), WITHHELD);
    // The first one is not disturbed.
    first.publish(&[A]);
    assert_eq!(first.site.reload_tested(), Reload::Accepted);
    assert_eq!(first.asked(), SENT);
    first.site.down();
    assert_eq!(first.kinds().last(), Some(&"ended"));
    // Now the name is free.
    assert_eq!(other.site.reload_tested(), Reload::Accepted);
    assert_eq!(other.asked(), SENT);
    other.site.down();
}

#[test]
fn a_second_nginx_with_the_same_writer_name_sends_no_header() {
    one_writer::<Nginx>(false);
    one_writer::<Nginx>(true);
}

#[test]
fn a_second_httpd_with_the_same_writer_name_sends_no_header() {
    one_writer::<Httpd>(false);
    one_writer::<Httpd>(true);
}

/// Each calls itself as the machine is called, if nobody gives it another name. What the other one accepted says
/// nothing of the clients of this one.
fn one_name_for_two_kinds<S: Site, T: Site>() {
    let mut first = Fixture::<S>::new();
    first.up(&["live"], &[], &[]);
    let mut other = Fixture::<T>::new();
    for kind in ["pem", "key"] {
        let copy = other.site.path(&format!("first.{kind}"));
        fs::copy(first.site.path(&format!("live.{kind}")), copy).expect("a copy");
    }
    let pin = format!("sha256/{}", other.pki.pin("live.pem"));
    apps::published(&first, &["add", "localhost", "--origin", "app", "--pin", &pin]);

    let directory = format!("{} writer=web-1", first.site.path("records").display());
    let directories = [directory.as_str()];
    let block = |port, certificates| [Block { port, certificates, policy: None, ..BLOCK }];
    let (own, others) = (block(other.port, &["live"]), block(other.port, &["first"]));
    let taken = block(first.port, &["first"]);
    let layout = Layout { published: &directories, blocks: &own, ..LAYOUT };
    let changed = Layout { blocks: &others, ..layout.clone() };
    let refused = ["published-pins-unmet", "records-not-writable"];
    // By the records this is unchanged, but the first server accepted it.
    let said = other.refuses_all(&Layout { blocks: &taken, ..layout.clone() }, &refused);
    says(&said, &[&format!("in use by another running server, process {};", first.site.pid())]);
    other.expect(&["configuration-not-recorded"]);
    other.up_with(&layout, &["records-not-writable"]);
    other.takes_all(&layout, &["records-not-writable"]);
    other.refuses_all(&changed, &refused);
    // Now the name is free.
    first.site.down();
    other.takes_all(&layout, &[]);
    other.site.down();
}

#[test]
fn nginx_and_httpd_that_write_under_one_name() {
    one_name_for_two_kinds::<Nginx, Httpd>();
    one_name_for_two_kinds::<Httpd, Nginx>();
}

fn copied<S: Site>() {
    let mut pinned = PinnedSite::<S>::running();
    // The server is killed, so its pins still count as published, as on a machine cloned while it ran.
    pinned.site.kill_all();
    let found = events(&pinned.own());
    let Some(Body::Writer(identity)) = found.first().map(Event::body) else { panic!("{found:?}") };
    let machine = Identity::machine_of(b"another machine");
    let identity = Body::Writer(Identity { machine, ..identity.clone() });
    let first = Event::new(found[0].at(), found[0].seq(), found[0].writer().clone(), identity);
    let lines =
        std::iter::once(&first).chain(&found[1..]).map(|event| event.line().to_owned() + "\n");
    let own = fs::read(pinned.own()).expect("a file");
    fs::write(pinned.own(), lines.collect::<String>()).expect("a file");
    let copy = pinned.snapshot();
    pinned.site.expect_in_log(&["hpkp: [published-pins-write-failed] localhost:", "AH00098"]);
    pinned.site.expect_in_log(&["hpkp: cannot record that this server has stopped"]);
    pinned.site.expect_in_log(&["hpkp: [records-not-writable] localhost:"]);
    // The config test warns of it.
    pinned.site.test().accepted(&["records-not-writable"]);
    pinned.site.up();
    assert_eq!(pinned.asked(), WITHHELD);
    assert!(pinned.site.log().contains("was made on another machine"));
    pinned.publish(&[A]);
    assert_eq!(pinned.site.reload_tested(), Reload::Accepted);
    assert_eq!(pinned.asked(), WITHHELD);
    assert_eq!(pinned.snapshot(), copy);
    fs::write(pinned.own(), own).expect("a file");
    assert_eq!(pinned.site.reload_tested(), Reload::Accepted);
    assert_eq!(pinned.asked(), SENT);
    pinned.site.down();
}

#[test]
fn a_file_copied_from_another_machine_is_not_written() {
    copied::<Nginx>();
    copied::<Httpd>();
}

fn clock<S: Site>() {
    let mut pinned = PinnedSite::<S>::running();
    pinned.site.pki().leaf("other", "localhost", "ca");
    let other = pinned.site.pki().pin("other.pem");
    // The clock seems set back by a year: a record is dated a year ahead.
    let ahead = now() + 365 * 86_400;
    append(&pinned.own(), &[event(ahead, 10, "written when the clock was ahead")]);
    pinned.site.expect_in_log(&["hpkp: [clock-behind-records]"]);
    pinned.site.test().accepted(&["clock-behind-records"]);
    pinned.publish(&[A]);
    assert_eq!(pinned.site.reload_tested(), Reload::Accepted);
    assert_eq!(pinned.asked(), SENT);
    let written = events(&pinned.own()).split_off(4);
    assert!(!written.is_empty() && written.iter().all(|event| event.at() < ahead), "{written:?}");
    // Clients still hold pins that ended at a time which the clock has not reached.
    pinned.lay_out("other", &[&other, A], &LAYOUT);
    pinned.site.expect_in_log(&["hpkp: [published-pins-unmet]"]);
    let Reload::Refused(outcome) = pinned.site.reload_tested() else { panic!("accepted") };
    assert!(codes(&outcome).contains(&"published-pins-unmet"), "{outcome}");
    pinned.publish(&[A]);
    pinned.site.down();

    // The clock seems set forward: the records are dated in 1970. Pins served ever since still count.
    let found = events(&pinned.own());
    let [ref identity, ref published, ..] = found[..] else { panic!("{found:?}") };
    let long_ago = |event: &Event| {
        Event::new(86_400, event.seq(), event.writer().clone(), event.body().clone())
    };
    let lines = [identity, published].map(|event| long_ago(event).line().to_owned() + "\n");
    fs::write(pinned.own(), lines.concat()).expect("a file");
    fs::remove_file(pinned.own().with_file_name("hpkp-reserve")).expect("what was written");
    pinned.lay_out("other", &[&other, A], &LAYOUT);
    let outcome = pinned.site.test();
    assert_eq!(
        (outcome.code, outcome.codes()),
        (Some(1), vec!["published-pins-unmet"]),
        "{outcome:?}"
    );
    pinned.publish(&[]);
    pinned.site.test().accepted(&[]);
}

#[test]
fn a_clock_set_back_or_forward_ends_no_pins_early() {
    clock::<Nginx>();
    clock::<Httpd>();
}

const GARBAGE: usize = 100 << 20;
/// Memory limit of the process that reads the file: a buffer grown to twice the file's size, plus the
/// server's own memory.
const MEMORY: libc::rlim_t = 400 << 20;
/// Limit of the processor time, in seconds.
const SECONDS: libc::rlim_t = 20;

fn garbage<S: Site>() {
    let mut pinned = PinnedSite::<S>::running();
    let peer = pinned.records("peers/web-9.jsonl");
    pinned.site.expect_in_log(&["hpkp: [records-unreadable]"]);
    let event = event(now(), 1, &"x".repeat(1_000));
    let event = Event::new(now(), 1, "web-9".parse().expect("a name"), event.body().clone());
    let line = event.line().to_owned() + "\n";
    let kinds = [
        ("x".repeat(1 << 20), ""),
        ("x\n".repeat(1 << 19), ""),
        ("[".repeat(250_000) + "\n", ""),
        // Only the last line is invalid.
        (line.repeat(1_000), "x\n"),
    ];
    for (part, last) in kinds {
        let times = GARBAGE / part.len();
        let at = if last.is_empty() { 1 } else { 1_000 * times + 1 };
        let mut file = fs::File::create(&peer).expect("a file");
        for part in std::iter::repeat_n(part.as_str(), times).chain([last]) {
            file.write_all(part.as_bytes()).expect("written");
        }
        drop(file);
        pinned.site.limit(MEMORY, SECONDS);
        let outcome = pinned.site.test();
        pinned.site.lift_limits();
        assert_eq!((outcome.code, outcome.codes()), (Some(0), vec![UNREADABLE]), "{outcome:?}");
        let place = format!("records/peers/web-9.jsonl\": line {at} is not a valid record");
        assert!(outcome.text.contains(&place), "no \"{place}\" in:\n{}", outcome.text);
    }
    assert_eq!(pinned.site.reload_forced(), Reload::Accepted);
    assert_eq!(pinned.asked(), SENT);
    pinned.publish(&[A]);
    let outcome = pinned.site.test();
    assert_eq!((outcome.code, outcome.codes()), (Some(1), vec![UNREADABLE]), "{outcome:?}");
    pinned.publish(&[]);
    fs::remove_file(&peer).expect("a file");
    assert_eq!(pinned.site.reload_tested(), Reload::Accepted);
    assert_eq!(pinned.asked(), SENT);
    pinned.site.down();
}

#[test]
fn a_peer_file_of_100_megabytes_of_garbage_is_reported() {
    garbage::<Nginx>();
    garbage::<Httpd>();
}

/// Every set of pins that a client received is on record, whenever the server was killed.
fn killed<S: Site>() {
    let mut pinned = PinnedSite::<S>::new();
    pinned.site.expect_in_log(&["AH00098", "hpkp: [truncated-record]"]);
    let ca = pinned.curl();
    let url = pinned.url();
    let mut served: BTreeSet<String> = BTreeSet::new();
    let mut number = 0_u8;
    let mut next = |pinned: &PinnedSite<S>| {
        number += 1;
        pinned.publish(&[&Pin::from_bytes([number; 32]).to_string()]);
    };
    for round in 0..4_u64 {
        pinned.site.up();
        // However slow the client below is, each round serves something.
        served.extend(ca.get(&url).pins().into_iter().map(str::to_owned));
        let killed = || {
            next(&pinned);
            assert_eq!(pinned.site.reload_tested(), Reload::Accepted);
            next(&pinned);
            pinned.site.signal(match S::KIND {
                Kind::Nginx => libc::SIGHUP,
                Kind::Httpd => libc::SIGUSR1,
            });
            std::thread::sleep(Duration::from_millis(5 + round * 23));
            pinned.site.kill_all();
        };
        let ((), responses) = meanwhile(killed, || ca.try_get(&url));
        let pins = responses.iter().flatten().flat_map(|response| response.pins());
        served.extend(pins.map(str::to_owned));
    }
    let recorded = published(&pinned.own());
    for header in &served {
        let mut pins: Vec<String> = header
            .split("pin-sha256=\"")
            .skip(1)
            .filter_map(|rest| rest.split('"').next().map(str::to_owned))
            .collect();
        pins.sort();
        assert!(recorded.contains(&pins), "not on record: {header}");
    }
    assert!(served.len() >= 4, "{served:?}");
    pinned.site.up();
    assert_eq!(pinned.asked(), SENT);
    pinned.site.down();
}

#[test]
fn pins_sent_before_a_kill_of_nginx_are_recorded() {
    killed::<Nginx>();
}

#[test]
fn pins_sent_before_a_kill_of_httpd_are_recorded() {
    killed::<Httpd>();
}
