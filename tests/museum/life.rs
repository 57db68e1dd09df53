//! What is written at a start, at a reload and at a stop, and by whom.

use std::fs;

use hpkp_tests::httpd::{Httpd, Mpm};
use hpkp_tests::instance::{Module, Reload, codes, wait};
use hpkp_tests::layout::{LAYOUT, Layout, Site};
use hpkp_tests::nginx::Nginx;
use hpkp_tests::recorded::published;
use hpkp_tests::said::Kind;
use hpkp_tests::site::{A, B};

use crate::stand::{SENT, Stand, WITHHELD};

/// What a first start writes.
const STARTED: [&str; 3] = ["writer", "published", "presents"];
/// And a stop after it.
const STOPPED: [&str; 4] = ["writer", "published", "presents", "ended"];

/// Kills the workers, as a crash would, and waits until the server has replaced them.
#[track_caller]
fn replace_workers<S: Site>(site: &S) {
    let old = site.workers();
    for pid in &old {
        // SAFETY: the pids are those of our own server's workers, read just now.
        assert_eq!(unsafe { libc::kill(*pid, libc::SIGKILL) }, 0);
    }
    assert!(wait(|| {
        let new = site.workers();
        !new.is_empty() && new.iter().all(|pid| !old.contains(pid))
    }));
}

/// What writes nothing, at a server that does not run and at one that does.
fn quiet<S: Site>(run: fn(&S, &str) -> Option<i32>, showing: &[&str], signals: &[&str]) {
    let mut stand = Stand::<S>::new();
    let empty = stand.snapshot();
    stand.site.test().accepted(&[]);
    for argument in showing {
        assert_eq!(run(&stand.site, argument), Some(0), "{argument}");
    }
    assert_eq!(stand.snapshot(), empty);
    stand.site.up();
    assert_eq!(stand.kinds(), STARTED);

    let started = stand.snapshot();
    stand.site.expect_in_log(&["hpkp: [published-pins-unmet]", "signal 9", "signal Killed"]);
    replace_workers(&stand.site);
    assert_eq!(stand.site.reload_tested(), Reload::Accepted);
    for argument in showing {
        assert_eq!(run(&stand.site, argument), Some(0), "{argument}");
    }
    stand.publish(&[A]);
    stand.site.test().accepted(&[]);
    assert_eq!(stand.snapshot(), started);
    stand.site.pki().leaf("other", "localhost", "ca");
    let other = stand.site.pki().pin("other.pem");
    stand.lay_out("other", &[&other, A], &LAYOUT);
    assert!(matches!(stand.site.reload_tested(), Reload::Refused(_)));
    for signal in signals {
        assert_eq!(run(&stand.site, signal), Some(1), "{signal}");
    }
    if S::KIND == Kind::Nginx {
        assert!(matches!(stand.site.reload_forced(), Reload::Refused(_)));
    }
    assert_eq!(stand.snapshot(), started);
    assert_eq!(stand.asked(), SENT);
    stand.site.down();
    assert_eq!(stand.kinds(), STOPPED);
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
    let mut stand = Stand::<Nginx>::new();
    let mut expected = vec!["writer"];
    for end in ["TERM", "QUIT", "INT", "-sstop", "-squit"] {
        stand.site.up();
        match end {
            "TERM" => stand.site.signal(libc::SIGTERM),
            "QUIT" => stand.site.signal(libc::SIGQUIT),
            "INT" => stand.site.signal(libc::SIGINT),
            said => assert_eq!(stand.site.run(&[said]).code, Some(0)),
        }
        assert!(wait(|| !stand.site.is_running()), "{end}");
        stand.site.stopped();
        // Each start of what has not changed is accepted, and takes the stop back in one line.
        expected.extend(if expected.len() == 1 { &FIRST[..] } else { &["again", "ended"] });
        assert_eq!(stand.kinds(), expected, "{end}");
        stand.site.test().accepted(&[]);
    }
}

fn with_mpm(mpm: Mpm) -> Stand<Httpd> {
    let mut httpd = Httpd::furnished(Module::Shipped, mpm);
    httpd.load(&["dir"]);
    httpd.pki().records("records");
    httpd.pki().write("html/index.html", "x");
    Stand::of(httpd)
}

#[test]
fn each_way_to_end_httpd_for_good_is_recorded() {
    for mpm in Mpm::ALL {
        let mut stand = with_mpm(mpm);
        let mut expected = vec!["writer"];
        for end in ["TERM", "-kstop", "-kgraceful-stop"] {
            stand.site.up();
            assert_eq!(stand.asked(), SENT);
            assert_eq!(stand.site.reload_tested(), Reload::Accepted);
            match end {
                "TERM" => stand.site.signal(libc::SIGTERM),
                said => assert_eq!(stand.site.run(&[said]).code, Some(0)),
            }
            assert!(wait(|| !stand.site.is_running()), "{mpm:?} {end}");
            stand.site.stopped();
            expected.extend(if expected.len() == 1 { &FIRST[..] } else { &["again", "ended"] });
            assert_eq!(stand.kinds(), expected, "{mpm:?} {end}");
            stand.site.test().accepted(&[]);
        }
    }
}

/// A server that is no child of the test, found by its pid file and ended with it.
pub struct Daemon<'a> {
    pub stand: &'a Stand<Nginx>,
}

impl Daemon<'_> {
    pub fn pid(&self, file: &str) -> libc::pid_t {
        let mut pid = None;
        let path = self.stand.site.path(file);
        let read = || fs::read_to_string(&path).ok().and_then(|pid| pid.trim().parse().ok());
        assert!(
            wait(|| {
                pid = read();
                pid.is_some()
            }),
            "no {file}:\n{}",
            self.stand.site.log()
        );
        pid.expect("a pid")
    }

    pub fn signal(&self, pid: libc::pid_t, signal: libc::c_int) {
        // SAFETY: the pid is that of a server of this test, which lives.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
    }

    /// Ends one of the masters.
    #[track_caller]
    pub fn end(&self, pid: libc::pid_t) {
        self.signal(pid, libc::SIGQUIT);
        assert!(wait(|| !is_alive(pid)), "{pid} does not end:\n{}", self.stand.site.log());
    }

    #[track_caller]
    fn reload(&self, pid: libc::pid_t) -> Reload {
        let before = self.stand.site.log().len();
        self.signal(pid, libc::SIGHUP);
        self.stand.site.outcome(pid, before)
    }
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        for file in ["nginx.pid", "nginx.pid.oldbin"] {
            let pid = fs::read_to_string(self.stand.site.path(file)).ok();
            if let Some(pid) = pid.and_then(|pid| pid.trim().parse().ok()) {
                // SAFETY: a master of this test removes its file when it ends.
                unsafe { libc::kill(pid, libc::SIGTERM) };
            }
        }
    }
}

/// Whether a process runs: one that nobody has waited for does not.
pub fn is_alive(pid: libc::pid_t) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

#[test]
fn an_upgrade_of_nginx_ends_nothing_while_the_old_master_lives() {
    let stand = Stand::<Nginx>::new();
    let daemon = Daemon { stand: &stand };
    assert_eq!(stand.site.run(&[]).code, Some(0));
    let old = daemon.pid("nginx.pid");
    assert_eq!((stand.asked(), stand.kinds()), (SENT, STARTED.to_vec()));

    // The new master has new pins; both are being sent.
    stand.publish(&[A]);
    daemon.signal(old, libc::SIGUSR2);
    assert_eq!(daemon.pid("nginx.pid.oldbin"), old);
    let new = daemon.pid("nginx.pid");
    let mut expected = STARTED.to_vec();
    expected.push("published");
    assert!(wait(|| stand.kinds() == expected), "{:?}", stand.kinds());
    // Rolled back: what the old one goes on with is on record still.
    daemon.end(new);
    assert!(wait(|| daemon.pid("nginx.pid") == old));
    assert_eq!(stand.kinds(), expected);
    stand.publish(&[]);
    assert_eq!(daemon.reload(old), Reload::Accepted);
    expected.push("ended");
    assert_eq!((stand.asked(), stand.kinds()), (SENT, expected.clone()));

    // With a lock-out the new one does not come up, and the old one goes on.
    let policies = [hpkp_tests::layout::Policy { pins: &[A, B], ..hpkp_tests::layout::POLICY }];
    let blocks = [hpkp_tests::layout::Block { port: stand.port, ..hpkp_tests::layout::BLOCK }];
    stand.site.lay_out(&Layout { policies: &policies, blocks: &blocks, ..LAYOUT });
    let refused = || stand.site.log().matches("[emerg]").count();
    assert_eq!(refused(), 0);
    daemon.signal(old, libc::SIGUSR2);
    assert!(wait(|| refused() > 0 && !stand.site.path("nginx.pid.oldbin").exists()));
    assert_eq!((daemon.pid("nginx.pid"), stand.asked()), (old, SENT));
    assert_eq!(stand.kinds(), expected);

    // Carried through: the old one ends, and the new one's next reload ends what it alone sent.
    stand.publish(&[A]);
    daemon.signal(old, libc::SIGUSR2);
    assert_eq!(daemon.pid("nginx.pid.oldbin"), old);
    let new = daemon.pid("nginx.pid");
    assert_ne!(new, old);
    expected.push("published");
    assert!(wait(|| stand.kinds() == expected), "{:?}", stand.kinds());
    // Neither a reload of the one nor of the other ends what the other sends.
    assert_eq!(daemon.reload(new), Reload::Accepted);
    assert_eq!(stand.kinds(), expected);
    daemon.end(old);
    assert_eq!(stand.kinds(), expected);
    assert_eq!(daemon.reload(new), Reload::Accepted);
    expected.push("ended");
    assert_eq!((stand.asked(), stand.kinds()), (SENT, expected.clone()));
    assert_eq!(published(&stand.own()).len(), 3);
    daemon.end(new);
    expected.push("ended");
    assert_eq!(stand.kinds(), expected);
    drop(daemon);
    let mut site = stand.site;
    site.expect_in_log(&["hpkp: [no-pin-in-chain]", "hpkp: [published-pins-unmet]"]);
    site.stopped();
}

#[test]
fn nginx_in_the_background_and_in_one_process() {
    let stand = Stand::<Nginx>::new();
    let daemon = Daemon { stand: &stand };
    assert_eq!(stand.site.run(&[]).code, Some(0));
    let pid = daemon.pid("nginx.pid");
    assert_eq!((stand.asked(), stand.kinds()), (SENT, STARTED.to_vec()));
    daemon.end(pid);
    assert_eq!(stand.kinds(), STOPPED);
    drop(daemon);

    let mut stand = stand;
    stand.site.stopped();
    let mut expected = STOPPED.to_vec();
    stand.site.up_in_one_process();
    expected.push("again");
    assert_eq!((stand.asked(), stand.kinds()), (SENT, expected.clone()));
    // A signal that arrives just before it waits for events is seen at the next one only: at one
    // that means nothing to it. A connection would do as well, and use up those that it may have.
    let wake = || stand.site.signal(libc::SIGIO);
    stand.publish(&[A]);
    stand.site.signal(libc::SIGHUP);
    expected.extend(["ended", "published"]);
    let written = wait(|| {
        wake();
        stand.kinds() == expected
    });
    assert!(written, "{:?}", stand.kinds());
    stand.site.signal(libc::SIGTERM);
    expected.push("ended");
    let written = wait(|| {
        wake();
        stand.kinds() == expected
    });
    assert!(written, "{:?}", stand.kinds());
    stand.site.down();
    assert_eq!(stand.kinds(), expected);
}

/// A start in the background reads its configuration twice, the second time in another process.
#[test]
fn httpd_in_the_background() {
    let stand = Stand::<Httpd>::new();
    assert_eq!(stand.site.run(&["-kstart"]).code, Some(0));
    let path = stand.site.path("httpd.pid");
    let mut pid: Option<libc::pid_t> = None;
    assert!(wait(|| {
        pid = fs::read_to_string(&path).ok().and_then(|pid| pid.trim().parse().ok());
        pid.is_some()
    }));
    assert!(wait(|| stand.curl().try_get(&stand.url()).is_some()));
    let asked = (stand.asked(), stand.kinds());
    assert_eq!(stand.site.run(&["-kstop"]).code, Some(0));
    assert!(wait(|| !path.exists() && pid.is_none_or(|pid| !is_alive(pid))));
    assert_eq!(asked, (SENT, STARTED.to_vec()));
    assert_eq!(stand.kinds(), STOPPED);
}

fn locked_out<S: Site>() {
    let mut stand = Stand::<S>::running();
    stand.site.down();
    let pki = stand.site.pki();
    for name in ["other", "third"] {
        pki.leaf(name, "localhost", "ca");
    }
    let (other, third) = (pki.pin("other.pem"), pki.pin("third.pem"));
    let pins = [other.as_str(), A];
    let refuse = Layout { on_start: "refuse", ..LAYOUT };
    stand.lay_out("other", &pins, &refuse);
    let before = stand.snapshot();
    let said = stand.site.up_refused();
    assert_eq!(said.codes(), ["published-pins-unmet"], "{said:?}");
    assert_eq!(stand.snapshot(), before);

    stand.lay_out("other", &pins, &LAYOUT);
    let said = stand.site.test();
    assert_eq!((said.code, said.codes()), (Some(1), vec!["published-pins-unmet"]), "{said:?}");
    // The second is httpd's, of the start that was refused.
    stand.site.expect_in_log(&["hpkp: [published-pins-unmet]", "AH00016"]);
    let log = stand.site.log().len();
    stand.site.up();
    let said = stand.site.log().split_off(log);
    assert_eq!(codes(&said), ["published-pins-unmet"], "{said}");
    assert!(said.contains("continuing without this header"), "{said}");
    assert_eq!(stand.asked(), WITHHELD);
    // Nobody has noted anything else, so the way back to what the clients hold is open.
    stand.publish(&[]);
    assert_eq!(stand.site.reload_tested(), Reload::Accepted);
    assert_eq!(stand.asked(), SENT);
    stand.site.down();

    // What is being served anyway does not stop a reload, and a change for the worse does.
    stand.lay_out("other", &pins, &LAYOUT);
    stand.site.up();
    assert_eq!(stand.asked(), WITHHELD);
    assert_eq!(stand.site.reload_tested(), Reload::Accepted);
    assert_eq!(stand.site.reload_tested(), Reload::Accepted);
    stand.lay_out("third", &[&third, A], &LAYOUT);
    assert!(matches!(stand.site.reload_tested(), Reload::Refused(_)));
    stand.lay_out("other", &pins, &LAYOUT);
    stand.site.down();
}

#[test]
fn a_start_that_locks_out_goes_on_without_the_header() {
    locked_out::<Nginx>();
    locked_out::<Httpd>();
}

/// An upgrade of the package puts another file in the module's place, under a server that runs.
fn upgraded<S: Site>(replace: fn(&mut S, &str)) {
    let mut stand = Stand::<S>::running();
    let pins = [stand.live.as_str(), B, A];
    let policies = [hpkp_tests::layout::Policy { pins: &pins, ..hpkp_tests::layout::POLICY }];
    let blocks = [hpkp_tests::layout::Block { port: stand.port, ..hpkp_tests::layout::BLOCK }];
    let layout = Layout { policies: &policies, blocks: &blocks, ..LAYOUT };
    replace(&mut stand.site, &layout.text(S::KIND));
    assert_eq!(stand.site.reload_tested(), Reload::Accepted);
    assert_eq!((stand.asked(), stand.kinds()[3..].to_vec()), (SENT, vec!["ended", "published"]));
    stand.site.down();
    assert_eq!(stand.kinds()[5..], ["ended"]);
}

#[test]
fn a_new_build_of_the_module_writes_what_the_one_before_wrote() {
    upgraded::<Nginx>(|nginx, text| nginx.replace_module(Module::InjectPanic, text));
    upgraded::<Httpd>(|httpd, text| httpd.replace_module(Module::InjectPanic, text));
}
