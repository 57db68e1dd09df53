//! Records over the life of a server: what a start, a reload, a stop and an upgrade write, and which process.

use std::fs;

use hpkp_tests::httpd::{Httpd, Mpm};
use hpkp_tests::instance::{Module, Reload, codes, wait};
use hpkp_tests::layout::{LAYOUT, Layout, Site};
use hpkp_tests::nginx::Nginx;
use hpkp_tests::outcome::Kind;
use hpkp_tests::recorded::published;
use hpkp_tests::site::{A, B};

use crate::pinned::{PinnedSite, SENT, WITHHELD};

/// The records that a first start writes.
const STARTED: [&str; 3] = ["writer", "published", "presents"];
/// The records after a first start and a stop.
const STOPPED: [&str; 4] = ["writer", "published", "presents", "ended"];

/// Actions that must write nothing, on a stopped and on a running server.
fn quiet<S: Site>(run: fn(&S, &str) -> Option<i32>, showing: &[&str], signals: &[&str]) {
    let mut pinned = PinnedSite::<S>::new();
    let empty = pinned.snapshot();
    pinned.site.test().accepted(&[]);
    for argument in showing {
        assert_eq!(run(&pinned.site, argument), Some(0), "{argument}");
    }
    assert_eq!(pinned.snapshot(), empty);
    pinned.site.up();
    assert_eq!(pinned.kinds(), STARTED);

    let started = pinned.snapshot();
    pinned.site.expect_in_log(&["hpkp: [published-pins-unmet]", "signal 9", "signal Killed"]);
    pinned.site.replace_workers();
    assert_eq!(pinned.site.reload_tested(), Reload::Accepted);
    for argument in showing {
        assert_eq!(run(&pinned.site, argument), Some(0), "{argument}");
    }
    pinned.publish(&[A]);
    pinned.site.test().accepted(&[]);
    assert_eq!(pinned.snapshot(), started);
    pinned.site.pki().leaf("other", "localhost", "ca");
    let other = pinned.site.pki().pin("other.pem");
    pinned.lay_out("other", &[&other, A], &LAYOUT);
    assert!(matches!(pinned.site.reload_tested(), Reload::Refused(_)));
    for signal in signals {
        assert_eq!(run(&pinned.site, signal), Some(1), "{signal}");
    }
    if S::KIND == Kind::Nginx {
        assert!(matches!(pinned.site.reload_forced(), Reload::Refused(_)));
    }
    assert_eq!(pinned.snapshot(), started);
    assert_eq!(pinned.asked(), SENT);
    pinned.site.down();
    assert_eq!(pinned.kinds(), STOPPED);
}

#[test]
fn only_a_master_of_nginx_writes() {
    let run = |nginx: &Nginx, argument: &str| nginx.run(&[argument]).code;
    quiet::<Nginx>(run, &["-T"], &["-sreload"]);
}

#[test]
fn only_a_parent_of_httpd_writes() {
    let run = |httpd: &Httpd, argument: &str| httpd.run(&[argument]).code;
    quiet::<Httpd>(run, &["-S", "-M"], &["-kgraceful", "-krestart"]);
}

/// What a server writes from its first start to its end.
const FIRST: [&str; 3] = ["published", "presents", "ended"];

#[test]
fn each_way_to_end_nginx_for_good_is_recorded() {
    let mut pinned = PinnedSite::<Nginx>::new();
    let mut expected = vec!["writer"];
    for end in ["TERM", "QUIT", "INT", "-sstop", "-squit"] {
        pinned.site.up();
        match end {
            "TERM" => pinned.site.signal(libc::SIGTERM),
            "QUIT" => pinned.site.signal(libc::SIGQUIT),
            "INT" => pinned.site.signal(libc::SIGINT),
            outcome => assert_eq!(pinned.site.run(&[outcome]).code, Some(0)),
        }
        assert!(wait(|| !pinned.site.is_running()), "{end}");
        pinned.site.stopped();
        // A start of an unchanged configuration is accepted, and one line (`again`) takes the stop back.
        expected.extend(if expected.len() == 1 { &FIRST[..] } else { &["again", "ended"] });
        assert_eq!(pinned.kinds(), expected, "{end}");
        pinned.site.test().accepted(&[]);
    }
}

fn with_mpm(mpm: Mpm) -> PinnedSite<Httpd> {
    let mut httpd = Httpd::furnished(Module::Shipped, mpm);
    httpd.load(&["dir"]);
    httpd.pki().records("records");
    httpd.pki().write("html/index.html", "x");
    PinnedSite::of(httpd)
}

#[test]
fn each_way_to_end_httpd_for_good_is_recorded() {
    for mpm in Mpm::ALL {
        let mut pinned = with_mpm(mpm);
        let mut expected = vec!["writer"];
        for end in ["TERM", "-kstop", "-kgraceful-stop"] {
            pinned.site.up();
            assert_eq!(pinned.asked(), SENT);
            assert_eq!(pinned.site.reload_tested(), Reload::Accepted);
            match end {
                "TERM" => pinned.site.signal(libc::SIGTERM),
                outcome => assert_eq!(pinned.site.run(&[outcome]).code, Some(0)),
            }
            assert!(wait(|| !pinned.site.is_running()), "{mpm:?} {end}");
            pinned.site.stopped();
            expected.extend(if expected.len() == 1 { &FIRST[..] } else { &["again", "ended"] });
            assert_eq!(pinned.kinds(), expected, "{mpm:?} {end}");
            pinned.site.test().accepted(&[]);
        }
    }
}

/// A server that is no child of the test, found by its pid file and ended with it.
pub struct Daemon<'a> {
    pub pinned: &'a PinnedSite<Nginx>,
}

impl Daemon<'_> {
    pub fn pid(&self, file: &str) -> libc::pid_t {
        let mut pid = None;
        let path = self.pinned.site.path(file);
        let read = || fs::read_to_string(&path).ok().and_then(|pid| pid.trim().parse().ok());
        assert!(
            wait(|| {
                pid = read();
                pid.is_some()
            }),
            "no {file}:\n{}",
            self.pinned.site.log()
        );
        pid.expect("a pid")
    }

    pub fn signal(&self, pid: libc::pid_t, signal: libc::c_int) {
        // SAFETY: kill takes only numbers; `pid` is a process of the server of this test, and that process is running.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
    }

    /// Ends one of the masters.
    #[track_caller]
    pub fn end(&self, pid: libc::pid_t) {
        self.signal(pid, libc::SIGQUIT);
        assert!(wait(|| !is_alive(pid)), "{pid} does not end:\n{}", self.pinned.site.log());
    }

    #[track_caller]
    fn reload(&self, pid: libc::pid_t) -> Reload {
        let before = self.pinned.site.log().len();
        self.signal(pid, libc::SIGHUP);
        self.pinned.site.outcome(pid, before)
    }
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        for file in ["nginx.pid", "nginx.pid.oldbin"] {
            let pid = fs::read_to_string(self.pinned.site.path(file)).ok();
            if let Some(pid) = pid.and_then(|pid| pid.trim().parse().ok()) {
                // SAFETY: kill takes only numbers. A master of this test removes its pid file when it ends, so the
                // number is that of a running master.
                unsafe { libc::kill(pid, libc::SIGTERM) };
            }
        }
    }
}

/// Whether a process runs: a zombie does not.
pub fn is_alive(pid: libc::pid_t) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

#[test]
fn an_upgrade_of_nginx_ends_nothing_while_the_old_master_lives() {
    let pinned = PinnedSite::<Nginx>::new();
    let daemon = Daemon { pinned: &pinned };
    assert_eq!(pinned.site.run(&[]).code, Some(0));
    let old = daemon.pid("nginx.pid");
    assert_eq!((pinned.asked(), pinned.kinds()), (SENT, STARTED.to_vec()));

    // The new master has new pins; old and new workers send both sets.
    pinned.publish(&[A]);
    daemon.signal(old, libc::SIGUSR2);
    assert_eq!(daemon.pid("nginx.pid.oldbin"), old);
    let new = daemon.pid("nginx.pid");
    let mut expected = STARTED.to_vec();
    // The old master's pins stay published beside the new ones.
    expected.extend(["seen", "published"]);
    assert!(wait(|| pinned.kinds() == expected), "{:?}", pinned.kinds());
    // Rollback: the pins with which the old master continues are still on record.
    daemon.end(new);
    assert!(wait(|| daemon.pid("nginx.pid") == old));
    assert_eq!(pinned.kinds(), expected);
    pinned.publish(&[]);
    assert_eq!(daemon.reload(old), Reload::Accepted);
    // The reload of the old master replaces its own pins.
    expected.extend(["ended", "published"]);
    assert_eq!((pinned.asked(), pinned.kinds()), (SENT, expected.clone()));

    // A new master whose configuration locks clients out does not start, and the old master continues.
    let policies = [hpkp_tests::layout::Policy { pins: &[A, B], ..hpkp_tests::layout::POLICY }];
    let blocks = [hpkp_tests::layout::Block { port: pinned.port, ..hpkp_tests::layout::BLOCK }];
    pinned.site.lay_out(&Layout { policies: &policies, blocks: &blocks, ..LAYOUT });
    let refused = || pinned.site.log().matches("[emerg]").count();
    assert_eq!(refused(), 0);
    daemon.signal(old, libc::SIGUSR2);
    assert!(wait(|| refused() > 0 && !pinned.site.path("nginx.pid.oldbin").exists()));
    assert_eq!((daemon.pid("nginx.pid"), pinned.asked()), (old, SENT));
    assert_eq!(pinned.kinds(), expected);

    // A completed upgrade: the old master ends, and with it the pins that only it sent.
    pinned.publish(&[A]);
    daemon.signal(old, libc::SIGUSR2);
    assert_eq!(daemon.pid("nginx.pid.oldbin"), old);
    let new = daemon.pid("nginx.pid");
    assert_ne!(new, old);
    expected.extend(["seen", "published"]);
    assert!(wait(|| pinned.kinds() == expected), "{:?}", pinned.kinds());
    // While both run, a reload of the new master does not end the pins of the old one.
    assert_eq!(daemon.reload(new), Reload::Accepted);
    assert_eq!(pinned.kinds(), expected);
    daemon.end(old);
    expected.push("ended");
    assert_eq!(pinned.kinds(), expected);
    assert_eq!(daemon.reload(new), Reload::Accepted);
    assert_eq!((pinned.asked(), pinned.kinds()), (SENT, expected.clone()));
    assert_eq!(published(&pinned.own()).len(), 4);
    daemon.end(new);
    expected.push("ended");
    assert_eq!(pinned.kinds(), expected);
    drop(daemon);
    let mut site = pinned.site;
    site.expect_in_log(&["hpkp: [no-pin-in-chain]", "hpkp: [published-pins-unmet]"]);
    site.stopped();
}

#[test]
fn nginx_in_the_background_and_in_one_process() {
    let pinned = PinnedSite::<Nginx>::new();
    let daemon = Daemon { pinned: &pinned };
    assert_eq!(pinned.site.run(&[]).code, Some(0));
    let pid = daemon.pid("nginx.pid");
    assert_eq!((pinned.asked(), pinned.kinds()), (SENT, STARTED.to_vec()));
    daemon.end(pid);
    assert_eq!(pinned.kinds(), STOPPED);
    drop(daemon);

    let mut pinned = pinned;
    pinned.site.stopped();
    let mut expected = STOPPED.to_vec();
    pinned.site.up_in_one_process();
    expected.push("again");
    assert_eq!((pinned.asked(), pinned.kinds()), (SENT, expected.clone()));
    // nginx handles a signal that arrives just before it waits for events only at the next event. SIGIO is an
    // event that means nothing to nginx. A connection would do as well, but use up its connections.
    let wake = || pinned.site.signal(libc::SIGIO);
    pinned.publish(&[A]);
    pinned.site.signal(libc::SIGHUP);
    expected.extend(["ended", "published"]);
    let written = wait(|| {
        wake();
        pinned.kinds() == expected
    });
    assert!(written, "{:?}", pinned.kinds());
    pinned.site.signal(libc::SIGTERM);
    expected.push("ended");
    let written = wait(|| {
        wake();
        pinned.kinds() == expected
    });
    assert!(written, "{:?}", pinned.kinds());
    pinned.site.down();
    assert_eq!(pinned.kinds(), expected);
}

/// A start in the background reads its configuration twice, the second time in another process.
#[test]
fn httpd_in_the_background() {
    let pinned = PinnedSite::<Httpd>::new();
    assert_eq!(pinned.site.run(&["-kstart"]).code, Some(0));
    let path = pinned.site.path("httpd.pid");
    let mut pid: Option<libc::pid_t> = None;
    assert!(wait(|| {
        pid = fs::read_to_string(&path).ok().and_then(|pid| pid.trim().parse().ok());
        pid.is_some()
    }));
    assert!(wait(|| pinned.curl().try_get(&pinned.url()).is_some()));
    let asked = (pinned.asked(), pinned.kinds());
    assert_eq!(pinned.site.run(&["-kstop"]).code, Some(0));
    assert!(wait(|| !path.exists() && pid.is_none_or(|pid| !is_alive(pid))));
    assert_eq!(asked, (SENT, STARTED.to_vec()));
    assert_eq!(pinned.kinds(), STOPPED);
}

fn locked_out<S: Site>() {
    let mut pinned = PinnedSite::<S>::running();
    pinned.site.down();
    let pki = pinned.site.pki();
    for name in ["other", "third"] {
        pki.leaf(name, "localhost", "ca");
    }
    let (other, third) = (pki.pin("other.pem"), pki.pin("third.pem"));
    let pins = [other.as_str(), A];
    let refuse = Layout { on_start: "refuse", ..LAYOUT };
    pinned.lay_out("other", &pins, &refuse);
    let before = pinned.snapshot();
    let outcome = pinned.site.up_refused();
    assert_eq!(outcome.codes(), ["published-pins-unmet"], "{outcome:?}");
    assert_eq!(pinned.snapshot(), before);

    pinned.lay_out("other", &pins, &LAYOUT);
    let outcome = pinned.site.test();
    assert_eq!(
        (outcome.code, outcome.codes()),
        (Some(1), vec!["published-pins-unmet"]),
        "{outcome:?}"
    );
    // httpd logs AH00016 for the start that was refused.
    pinned.site.expect_in_log(&["hpkp: [published-pins-unmet]", "AH00016"]);
    let log = pinned.site.log().len();
    pinned.site.up();
    let outcome = pinned.site.log().split_off(log);
    assert_eq!(codes(&outcome), ["published-pins-unmet"], "{outcome}");
    assert!(outcome.contains("continuing without this header"), "{outcome}");
    assert_eq!(pinned.asked(), WITHHELD);
    // The server sent no other pins meanwhile, so it may go back to the pins that clients hold.
    pinned.publish(&[]);
    assert_eq!(pinned.site.reload_tested(), Reload::Accepted);
    assert_eq!(pinned.asked(), SENT);
    pinned.site.down();

    // A reload of the running configuration passes; a reload with yet another key is refused.
    pinned.lay_out("other", &pins, &LAYOUT);
    pinned.site.up();
    assert_eq!(pinned.asked(), WITHHELD);
    assert_eq!(pinned.site.reload_tested(), Reload::Accepted);
    assert_eq!(pinned.site.reload_tested(), Reload::Accepted);
    pinned.lay_out("third", &[&third, A], &LAYOUT);
    assert!(matches!(pinned.site.reload_tested(), Reload::Refused(_)));
    pinned.lay_out("other", &pins, &LAYOUT);
    pinned.site.down();
}

#[test]
fn a_start_that_locks_out_sends_no_header() {
    locked_out::<Nginx>();
    locked_out::<Httpd>();
}

/// An upgrade of the package replaces the module's file under a running server.
fn upgraded<S: Site>(replace: fn(&mut S, &str)) {
    let mut pinned = PinnedSite::<S>::running();
    let pins = [pinned.live.as_str(), B, A];
    let policies = [hpkp_tests::layout::Policy { pins: &pins, ..hpkp_tests::layout::POLICY }];
    let blocks = [hpkp_tests::layout::Block { port: pinned.port, ..hpkp_tests::layout::BLOCK }];
    let layout = Layout { policies: &policies, blocks: &blocks, ..LAYOUT };
    replace(&mut pinned.site, &layout.text(S::KIND));
    assert_eq!(pinned.site.reload_tested(), Reload::Accepted);
    assert_eq!((pinned.asked(), pinned.kinds()[3..].to_vec()), (SENT, vec!["ended", "published"]));
    pinned.site.down();
    assert_eq!(pinned.kinds()[5..], ["ended"]);
}

#[test]
fn a_new_build_of_the_module_writes_what_the_one_before_wrote() {
    upgraded::<Nginx>(|nginx, text| nginx.replace_module(Module::InjectPanic, text));
    upgraded::<Httpd>(|httpd, text| httpd.replace_module(Module::InjectPanic, text));
}
