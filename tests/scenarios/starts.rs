//! Starts beside another server: one that is stopping, one that keeps running, or orphaned workers.

use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::path::Path;
use std::process::Child;

use hpkp_tests::free_port;
use hpkp_tests::httpd::{Httpd, Mpm};
use hpkp_tests::instance::{Module, Reload, codes, wait};
use hpkp_tests::layout::{BLOCK, Block, LAYOUT, Layout, POLICY, Policy, Site};
use hpkp_tests::nginx::Nginx;
use hpkp_tests::outcome::Kind;
use hpkp_tests::site::{A, B};
use openssl::ssl::{SslConnector, SslMethod, SslStream, SslVerifyMode};

use crate::life::{Daemon, is_alive};
use crate::pinned::{PinnedSite, SENT, WITHHELD};

/// The records that a first start writes.
const STARTED: [&str; 3] = ["writer", "published", "presents"];
/// The records after a first start and a stop.
const STOPPED: [&str; 4] = ["writer", "published", "presents", "ended"];

/// A client that has begun a request and does not end it: a server that stops gracefully waits.
struct Slow {
    _connection: SslStream<TcpStream>,
}

impl Slow {
    #[track_caller]
    fn to<S: Site>(pinned: &PinnedSite<S>) -> Self {
        let mut connector = SslConnector::builder(SslMethod::tls()).expect("OpenSSL");
        connector.set_verify(SslVerifyMode::NONE);
        let stream = TcpStream::connect(("127.0.0.1", pinned.port)).expect("a connection");
        let own = stream.local_addr().expect("an address").port();
        let mut connection =
            connector.build().connect("localhost", stream).expect("a TLS connection");
        connection.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n").expect("half a request");
        // Before it has read, a server that stops may close the connection as idle.
        assert!(wait(|| has_read(pinned.port, own)), "the server reads nothing");
        Self { _connection: connection }
    }
}

/// Whether the process with the connection from port `from` to port `to` has read all bytes that arrived.
fn has_read(from: u16, to: u16) -> bool {
    let sockets = fs::read_to_string("/proc/net/tcp").expect("the sockets");
    let (from, to) = (format!(":{from:04X}"), format!(":{to:04X}"));
    sockets.lines().any(|line| {
        let mut words = line.split_whitespace().skip(1);
        words.next().is_some_and(|local| local.ends_with(&from))
            && words.next().is_some_and(|remote| remote.ends_with(&to))
            && words.nth(1).is_some_and(|queues| queues.ends_with(":00000000"))
    })
}

fn kill(pid: libc::pid_t, signal: libc::c_int) {
    // SAFETY: kill takes only numbers; `pid` is a child of this test that has not been waited for.
    assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
}

fn pid(process: &Child) -> libc::pid_t {
    libc::pid_t::try_from(process.id()).expect("a pid")
}

fn is_open(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok()
}

#[track_caller]
fn ends(mut process: Child) {
    assert!(wait(|| process.try_wait().is_ok_and(|status| status.is_some())));
}

/// Tells the server to stop gracefully, and waits until it answers only its last requests.
fn drain<S: Site>(pinned: &PinnedSite<S>) {
    pinned.site.signal(match S::KIND {
        Kind::Nginx => libc::SIGQUIT,
        Kind::Httpd => libc::SIGWINCH,
    });
    assert!(wait(|| !is_open(pinned.port)));
}

fn beside_a_draining_one<S: Site>(mut pinned: PinnedSite<S>) {
    // The old nginx removes the pid file of the new one.
    pinned.site.expect_in_log(&["unlink()", "AH0"]);
    let slow = Slow::to(&pinned);
    drain(&pinned);
    let mut old = pinned.site.hand_over();
    let log = pinned.site.log().len();
    pinned.site.up();
    assert!(old.try_wait().is_ok_and(|status| status.is_none()), "the old one has gone");
    assert_eq!((pinned.asked(), pinned.kinds()), (SENT, STARTED.to_vec()));
    assert!(codes(&pinned.site.log()[log..]).is_empty(), "{}", pinned.site.log());
    drop(slow);
    ends(old);
    // The new server has taken the published pins over, so the end of the old one records nothing.
    assert_eq!((pinned.asked(), pinned.kinds()), (SENT, STARTED.to_vec()));
    assert_eq!(pinned.site.reload_tested(), Reload::Accepted);
    assert_eq!((pinned.asked(), pinned.kinds()), (SENT, STARTED.to_vec()));

    // The new server stops before the old one.
    let slow = Slow::to(&pinned);
    drain(&pinned);
    let old = pinned.site.hand_over();
    pinned.site.up();
    pinned.site.down();
    assert_eq!(pinned.kinds(), STOPPED);
    pinned.site.up();
    assert_eq!(pinned.asked(), SENT);
    drop(slow);
    ends(old);
    let mut expected = STOPPED.to_vec();
    expected.push("again");
    assert_eq!((pinned.asked(), pinned.kinds()), (SENT, expected.clone()));
    pinned.site.down();
    expected.push("ended");
    assert_eq!(pinned.kinds(), expected);
}

#[test]
fn nginx_starts_beside_one_that_answers_its_last_requests() {
    beside_a_draining_one(PinnedSite::<Nginx>::running());
}

/// With mod_cgid: its daemon is a fork of the parent, listens on a socket of its own, and runs until httpd ends.
#[test]
fn httpd_starts_beside_one_that_answers_its_last_requests() {
    let mut httpd = Httpd::furnished(Module::Shipped, Mpm::ALL[0]);
    httpd.load(&["dir", "cgid"]);
    httpd.pki().records("records");
    httpd.pki().write("html/index.html", "x");
    let mut pinned = PinnedSite::of(httpd);
    pinned.site.up();
    assert_eq!(pinned.asked(), SENT);
    beside_a_draining_one(pinned);
}

/// Whether a process holds the claim on the records: the marker `hpkp-records` beside `own` is open in it.
fn has_claim(pid: libc::pid_t, own: &Path) -> bool {
    let marker = own.with_file_name("hpkp-records").canonicalize().expect("a path");
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).expect("descriptors").flatten();
    entries.map(|entry| entry.path()).any(|path| fs::read_link(path).is_ok_and(|to| to == marker))
}

/// `replace` puts another build of the module in the place of the one that runs.
fn claim_of_the_master<S: Site>(
    workers: fn(&S) -> Vec<libc::pid_t>,
    replace: fn(&mut S, Module, &str),
) {
    let mut pinned = PinnedSite::<S>::running();
    for module in [Module::Shipped, Module::InjectPanic, Module::Shipped] {
        assert!(has_claim(pinned.site.pid(), &pinned.own()));
        let workers = workers(&pinned.site);
        assert!(!workers.is_empty());
        for worker in workers {
            assert!(wait(|| !has_claim(worker, &pinned.own())), "{worker}, {module:?} next");
        }
        let policies = [Policy { pins: &[&pinned.live, B], ..POLICY }];
        let blocks = [Block { port: pinned.port, ..BLOCK }];
        let layout = Layout { policies: &policies, blocks: &blocks, ..LAYOUT };
        replace(&mut pinned.site, module, &layout.text(S::KIND));
        assert_eq!(pinned.site.reload_tested(), Reload::Accepted);
        assert_eq!(pinned.asked(), SENT);
    }
    pinned.site.down();
}

#[test]
fn the_claim_is_that_of_the_master_of_nginx_alone() {
    claim_of_the_master::<Nginx>(|nginx| nginx.workers(), Nginx::replace_module);
}

#[test]
fn the_claim_is_that_of_the_parent_of_httpd_alone() {
    claim_of_the_master::<Httpd>(|httpd| httpd.workers(), Httpd::replace_module);
}

/// A configuration with `reuseport`, so that two servers can listen at the same address.
fn shared(pinned: &PinnedSite<Nginx>, certificate: &str, port: u16, published: &[&str]) {
    let policies = [Policy { pins: &[&pinned.live, B], ..POLICY }];
    let blocks = [Block { port, certificates: &[certificate], ..BLOCK }];
    let layout = Layout { published, policies: &policies, blocks: &blocks, ..LAYOUT };
    let text = layout.text(Kind::Nginx).replace(" ssl;", " ssl reuseport;");
    pinned.site.configure(&text);
}

/// A running server whose address another one may share, with a certificate `other` whose key is not pinned.
fn sharing(published: &[&str]) -> PinnedSite<Nginx> {
    let mut pinned = PinnedSite::<Nginx>::new();
    pinned.site.pki().leaf("other", "localhost", "ca");
    pinned.site.expect_in_log(&["hpkp: [no-pin-in-chain]", "hpkp: [published-pins-unmet]"]);
    pinned.site.expect_in_log(&["unlink()", "hpkp: process"]);
    shared(&pinned, "live", pinned.port, published);
    pinned.site.up();
    assert_eq!(pinned.asked(), SENT);
    pinned
}

/// Two starts that must be refused because the first server keeps running.
#[track_caller]
fn refused(pinned: &PinnedSite<Nginx>) {
    let before = (pinned.snapshot(), fs::read(pinned.site.path("nginx.pid")).expect("a pid file"));
    for arguments in [&[][..], &["-g", "daemon off;"]] {
        let outcome = pinned.site.run(arguments);
        assert_eq!(outcome.code, Some(1), "{outcome:?}");
        let process = format!("process {} already serves", pinned.site.pid());
        assert!(outcome.text.contains(&process), "{outcome:?}");
    }
    let after = (pinned.snapshot(), fs::read(pinned.site.path("nginx.pid")).expect("a pid file"));
    assert_eq!(before, after);
    assert_eq!(pinned.asked(), SENT);
}

/// Tells the server to stop. Stopping takes more than a second because its workers are suspended.
fn ending(pinned: &mut PinnedSite<Nginx>) -> Child {
    for worker in pinned.site.workers() {
        kill(worker, libc::SIGSTOP);
    }
    pinned.site.signal(libc::SIGTERM);
    pinned.site.expect_in_log(&["exited on signal 9"]);
    pinned.site.hand_over()
}

/// A stop and a start at once, on another port: only the writer's name makes the start wait.
#[test]
fn nginx_starts_beside_one_that_is_stopping() {
    let mut pinned = sharing(&["records writer=web-1"]);
    let old = ending(&mut pinned);
    pinned.port = free_port();
    shared(&pinned, "live", pinned.port, &["records writer=web-1"]);
    pinned.site.up();
    ends(old);
    assert_eq!(pinned.asked(), SENT);
    let mut expected = STOPPED.to_vec();
    expected.extend(["again", "presents"]);
    assert_eq!(pinned.kinds(), expected);
    pinned.site.down();
}

fn beside_a_living_one(published: &[&str]) {
    let mut pinned = sharing(published);
    let port = pinned.port;
    shared(&pinned, "other", port, published);
    refused(&pinned);

    // Another server on another address starts: no running server serves that address in its place.
    let mut other = PinnedSite::<Nginx>::new();
    for name in ["live.pem", "live.key", "other.pem", "other.key", "ca.pem"] {
        fs::copy(pinned.site.path(name), other.site.path(name)).expect("a copy");
    }
    other.live.clone_from(&pinned.live);
    other.site.expect_in_log(&["hpkp: [no-pin-in-chain]"]);
    shared(&other, "other", other.port, published);
    other.site.up();
    assert_eq!(other.asked(), WITHHELD);
    other.site.down();

    // A server that has been told to stop does not keep the next one from starting.
    let old = ending(&mut pinned);
    pinned.site.up();
    ends(old);
    assert_eq!(pinned.asked(), WITHHELD);
    pinned.site.down();
}

#[test]
fn nginx_with_a_lock_out_is_refused_beside_a_running_one() {
    beside_a_living_one(&["records writer=web-1"]);
    beside_a_living_one(&[]);
}

/// The writer's name identifies the server, also when its files have been replaced, by
/// `hpkp published compact` or by a backup.
#[test]
fn nginx_with_a_lock_out_is_refused_beside_one_of_the_same_name() {
    let mut pinned = sharing(&["records writer=web-1"]);
    shared(&pinned, "other", free_port(), &["records writer=web-1"]);
    refused(&pinned);
    // On a machine without an id, only the marker distinguishes the directory from its copies.
    let has_id = fs::read("/etc/machine-id").is_ok_and(|id| !id.is_empty());
    for name in ["web-1.jsonl", "hpkp-records"].into_iter().take(1 + usize::from(has_id)) {
        let (file, copy) =
            (pinned.own().with_file_name(name), pinned.own().with_file_name(".copy"));
        fs::copy(&file, &copy).expect("a copy");
        fs::rename(&copy, &file).expect("in its place");
        refused(&pinned);
    }
    pinned.site.down();
}

#[test]
fn httpd_with_a_lock_out_is_refused_beside_a_running_one() {
    let mut pinned = PinnedSite::<Httpd>::new();
    pinned.site.pki().leaf("other", "localhost", "ca");
    let lay_out = |pinned: &PinnedSite<Httpd>, certificate: &str, pid_file: &str| {
        let policies = [Policy { pins: &[&pinned.live, B], ..POLICY }];
        let blocks = [Block { port: pinned.port, certificates: &[certificate], ..BLOCK }];
        let layout = Layout { policies: &policies, blocks: &blocks, ..LAYOUT };
        let text = layout.text(Kind::Httpd);
        pinned.site.configure(&format!("ListenCoresBucketsRatio 1\n{pid_file}\n{text}"));
    };
    lay_out(&pinned, "live", "");
    pinned.site.up();
    assert_eq!(pinned.asked(), SENT);
    let before = pinned.snapshot();
    lay_out(&pinned, "other", "PidFile second.pid");
    let outcome = pinned.site.start_refused();
    let process = format!("process {} already serves", pinned.site.pid());
    assert!(outcome.text.contains(&process), "{outcome:?}");
    assert_eq!(pinned.snapshot(), before);
    assert_eq!(pinned.asked(), SENT);
    lay_out(&pinned, "live", "");
    pinned.site.expect_in_log(&["hpkp: ", "AH00016"]);
    pinned.site.down();
}

/// The master was killed: its workers continue to serve, and no signal can reload them.
#[test]
fn nginx_starts_beside_orphaned_workers() {
    for (certificate, asked) in [("live", SENT), ("other", WITHHELD)] {
        let mut pinned = sharing(&["records writer=web-1"]);
        let workers = pinned.site.workers();
        let mut old = pinned.site.hand_over();
        kill(pid(&old), libc::SIGKILL);
        old.wait().expect("an end");
        shared(&pinned, certificate, pinned.port, &["records writer=web-1"]);
        pinned.site.up();
        for worker in workers {
            kill(worker, libc::SIGKILL);
        }
        assert!(wait(|| pinned.curl().try_get(&pinned.url()).is_some()));
        assert_eq!(pinned.asked(), asked, "{certificate}");
        pinned.site.down();
    }
}

/// During a binary upgrade the new master already holds the claim before the old master has ended.
#[test]
fn an_upgraded_nginx_holds_the_claim_at_once() {
    let mut pinned = PinnedSite::<Nginx>::new();
    pinned.site.pki().leaf("other", "localhost", "ca");
    shared(&pinned, "live", pinned.port, &["records writer=web-1"]);
    // nginx in the foreground ignores SIGUSR2, so this one runs in the background.
    assert_eq!(pinned.site.run(&[]).code, Some(0));
    let daemon = Daemon { pinned: &pinned };
    let old = daemon.pid("nginx.pid");
    let slow = Slow::to(&pinned);
    daemon.signal(old, libc::SIGUSR2);
    assert_eq!(daemon.pid("nginx.pid.oldbin"), old);
    let new = daemon.pid("nginx.pid");
    assert!(wait(|| has_claim(new, &pinned.own())));
    daemon.signal(old, libc::SIGQUIT);
    shared(&pinned, "other", pinned.port, &["records writer=web-1"]);
    let outcome = pinned.site.run(&[]);
    assert!(outcome.code == Some(1), "{outcome:?}");
    // The old master has only begun to stop, so the message may name either process.
    let serves = |pid| outcome.text.contains(&format!("process {pid} already serves"));
    assert!(serves(new) || serves(old), "{outcome:?}");
    assert_eq!((pinned.asked(), pinned.kinds()), (SENT, STARTED.to_vec()));
    drop(slow);
    assert!(wait(|| !is_alive(old)));
    assert_eq!((pinned.asked(), pinned.kinds()), (SENT, STARTED.to_vec()));
    assert!(has_claim(new, &pinned.own()));
    daemon.end(new);
    assert_eq!(pinned.kinds(), STOPPED);
    drop(daemon);
    pinned.site.expect_in_log(&["hpkp: "]);
    pinned.site.stopped();
}

/// Another program has the port: the failed start records nothing, and the next start succeeds.
#[test]
fn nginx_records_nothing_where_another_program_listens() {
    let mut pinned = PinnedSite::<Nginx>::new();
    pinned.publish(&[A]);
    pinned.site.expect_in_log(&["bind() to", "still could not bind()"]);
    let other = std::net::TcpListener::bind(("127.0.0.1", pinned.port)).expect("a port");
    let before = pinned.snapshot();
    let outcome = pinned.site.run(&[]);
    assert!(outcome.code == Some(1) && outcome.codes().is_empty(), "{outcome:?}");
    assert_eq!(pinned.snapshot(), before);
    drop(other);
    pinned.site.up();
    assert_eq!((pinned.asked(), pinned.kinds()), (SENT, STARTED.to_vec()));
    pinned.site.down();
}
