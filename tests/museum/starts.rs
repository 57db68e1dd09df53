//! Starts while another server runs: one that is ending, one that goes on, what is left of one.

use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use hpkp_tests::free_port;
use hpkp_tests::httpd::{Httpd, Mpm};
use hpkp_tests::instance::{Module, Reload, codes, wait};
use hpkp_tests::layout::{BLOCK, Block, LAYOUT, Layout, POLICY, Policy, Site};
use hpkp_tests::nginx::Nginx;
use hpkp_tests::said::Kind;
use hpkp_tests::site::{A, B};

use crate::life::{Daemon, is_alive};
use crate::stand::{SENT, Stand, WITHHELD};

/// What a first start writes.
const STARTED: [&str; 3] = ["writer", "published", "presents"];
/// And a stop after it.
const STOPPED: [&str; 4] = ["writer", "published", "presents", "ended"];

/// A client that has begun a request and does not end it: a server that stops gracefully waits.
struct Slow(Child);

impl Slow {
    #[track_caller]
    fn to<S: Site>(stand: &Stand<S>) -> Self {
        use std::io::{BufRead as _, BufReader, Write as _};

        let mut command = Command::new("openssl");
        command.args(["s_client", "-connect", &format!("127.0.0.1:{}", stand.port)]);
        command.args(["-servername", "localhost"]).stderr(Stdio::null());
        let mut client =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("s_client");
        let mut lines = BufReader::new(client.stdout.take().expect("a pipe")).lines();
        assert!(lines.any(|line| line.is_ok_and(|line| line.contains("Verify return code"))));
        let input = client.stdin.as_mut().expect("a pipe");
        input.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n").expect("half a request");
        input.flush().expect("half a request");
        // What it goes on to say is read, lest it end.
        std::thread::spawn(move || lines.for_each(drop));
        // The server has nothing to say of what it has read by now.
        std::thread::sleep(std::time::Duration::from_millis(300));
        Self(client)
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn kill(pid: libc::pid_t, signal: libc::c_int) {
    // SAFETY: the pid is that of a process of this test, which has not been waited for.
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
fn drain<S: Site>(stand: &Stand<S>) {
    stand.site.signal(match S::KIND {
        Kind::Nginx => libc::SIGQUIT,
        Kind::Httpd => libc::SIGWINCH,
    });
    assert!(wait(|| !is_open(stand.port)));
}

fn beside_a_draining_one<S: Site>(mut stand: Stand<S>) {
    // The old nginx removes the pid file of the new one.
    stand.site.expect_in_log(&["unlink()", "AH0"]);
    let slow = Slow::to(&stand);
    drain(&stand);
    let mut old = stand.site.hand_over();
    let log = stand.site.log().len();
    stand.site.up();
    assert!(old.try_wait().is_ok_and(|status| status.is_none()), "the old one has gone");
    assert_eq!((stand.asked(), stand.kinds()), (SENT, STARTED.to_vec()));
    assert!(codes(&stand.site.log()[log..]).is_empty(), "{}", stand.site.log());
    drop(slow);
    ends(old);
    // What is published is the new one's, so that the old one's end has ended nothing.
    assert_eq!((stand.asked(), stand.kinds()), (SENT, STARTED.to_vec()));
    assert_eq!(stand.site.reload_tested(), Reload::Accepted);
    assert_eq!((stand.asked(), stand.kinds()), (SENT, STARTED.to_vec()));

    // The new one ends before its predecessor.
    let slow = Slow::to(&stand);
    drain(&stand);
    let old = stand.site.hand_over();
    stand.site.up();
    stand.site.down();
    assert_eq!(stand.kinds(), STOPPED);
    stand.site.up();
    assert_eq!(stand.asked(), SENT);
    drop(slow);
    ends(old);
    let mut expected = STOPPED.to_vec();
    expected.push("again");
    assert_eq!((stand.asked(), stand.kinds()), (SENT, expected.clone()));
    stand.site.down();
    expected.push("ended");
    assert_eq!(stand.kinds(), expected);
}

#[test]
fn nginx_beside_one_that_answers_its_last_requests() {
    beside_a_draining_one(Stand::<Nginx>::running());
}

/// mod_cgid's daemon is made by a fork, listens at a socket of its own, and lives until the end.
#[test]
fn httpd_beside_one_that_answers_its_last_requests() {
    let mut httpd = Httpd::furnished(Module::Shipped, Mpm::ALL[0]);
    httpd.load(&["dir", "cgid"]);
    httpd.pki().records("records");
    httpd.pki().write("html/index.html", "x");
    let mut stand = Stand::of(httpd);
    stand.site.up();
    assert_eq!(stand.asked(), SENT);
    beside_a_draining_one(stand);
}

/// Whether a process has the file open by which records are claimed, the marker beside `own`.
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
    let mut stand = Stand::<S>::running();
    for module in [Module::Shipped, Module::InjectPanic, Module::Shipped] {
        assert!(has_claim(stand.site.pid(), &stand.own()));
        let workers = workers(&stand.site);
        assert!(!workers.is_empty());
        for worker in workers {
            assert!(wait(|| !has_claim(worker, &stand.own())), "{worker}, {module:?} next");
        }
        let policies = [Policy { pins: &[&stand.live, B], ..POLICY }];
        let blocks = [Block { port: stand.port, ..BLOCK }];
        let layout = Layout { policies: &policies, blocks: &blocks, ..LAYOUT };
        replace(&mut stand.site, module, &layout.text(S::KIND));
        assert_eq!(stand.site.reload_tested(), Reload::Accepted);
        assert_eq!(stand.asked(), SENT);
    }
    stand.site.down();
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
fn shared(stand: &Stand<Nginx>, certificate: &str, port: u16, published: &[&str]) {
    let policies = [Policy { pins: &[&stand.live, B], ..POLICY }];
    let blocks = [Block { port, certificates: &[certificate], ..BLOCK }];
    let layout = Layout { published, policies: &policies, blocks: &blocks, ..LAYOUT };
    let text = layout.text(Kind::Nginx).replace(" ssl;", " ssl reuseport;");
    stand.site.configure(&text);
}

/// One that shares its address, with a certificate `other` whose key is not pinned.
fn sharing(published: &[&str]) -> Stand<Nginx> {
    let mut stand = Stand::<Nginx>::new();
    stand.site.pki().leaf("other", "localhost", "ca");
    stand.site.expect_in_log(&["hpkp: [no-pin-in-chain]", "hpkp: [published-pins-unmet]"]);
    stand.site.expect_in_log(&["unlink()", "hpkp: process"]);
    shared(&stand, "live", stand.port, published);
    stand.site.up();
    assert_eq!(stand.asked(), SENT);
    stand
}

/// Starts that must be refused, since the server that runs goes on.
#[track_caller]
fn refused(stand: &Stand<Nginx>) {
    let before = (stand.snapshot(), fs::read(stand.site.path("nginx.pid")).expect("a pid file"));
    for arguments in [&[][..], &["-g", "daemon off;"]] {
        let said = stand.site.run(arguments);
        assert_eq!(said.code, Some(1), "{said:?}");
        let process = format!("process {} already serves", stand.site.pid());
        assert!(said.text.contains(&process), "{said:?}");
    }
    let after = (stand.snapshot(), fs::read(stand.site.path("nginx.pid")).expect("a pid file"));
    assert_eq!(before, after);
    assert_eq!(stand.asked(), SENT);
}

/// Tells the server to stop, which takes it more than a second: a worker does not heed it.
fn ending(stand: &mut Stand<Nginx>) -> Child {
    for worker in stand.site.workers() {
        kill(worker, libc::SIGSTOP);
    }
    stand.site.signal(libc::SIGTERM);
    stand.site.expect_in_log(&["exited on signal 9"]);
    stand.site.hand_over()
}

/// It stops and starts at once, and listens elsewhere: nothing makes the start wait but the name.
#[test]
fn nginx_beside_one_that_is_ending() {
    let mut stand = sharing(&["records writer=web-1"]);
    let old = ending(&mut stand);
    stand.port = free_port();
    shared(&stand, "live", stand.port, &["records writer=web-1"]);
    stand.site.up();
    ends(old);
    assert_eq!(stand.asked(), SENT);
    let mut expected = STOPPED.to_vec();
    expected.extend(["again", "presents"]);
    assert_eq!(stand.kinds(), expected);
    stand.site.down();
}

fn beside_a_living_one(published: &[&str]) {
    let mut stand = sharing(published);
    let port = stand.port;
    shared(&stand, "other", port, published);
    refused(&stand);

    // Another server, at another address: nobody goes on there in its place.
    let mut other = Stand::<Nginx>::new();
    for name in ["live.pem", "live.key", "other.pem", "other.key", "ca.pem"] {
        fs::copy(stand.site.path(name), other.site.path(name)).expect("a copy");
    }
    other.live.clone_from(&stand.live);
    other.site.expect_in_log(&["hpkp: [no-pin-in-chain]"]);
    shared(&other, "other", other.port, published);
    other.site.up();
    assert_eq!(other.asked(), WITHHELD);
    other.site.down();

    // Told to stop, it does not keep the next one from starting, which begins while it ends.
    let old = ending(&mut stand);
    stand.site.up();
    ends(old);
    assert_eq!(stand.asked(), WITHHELD);
    stand.site.down();
}

#[test]
fn nginx_beside_one_that_goes_on() {
    beside_a_living_one(&["records writer=web-1"]);
    beside_a_living_one(&[]);
}

/// The writer's name tells that it is the same server, also when its files have been replaced: by
/// `hpkp published compact`, by a backup.
#[test]
fn nginx_beside_one_of_the_same_name_at_another_port() {
    let mut stand = sharing(&["records writer=web-1"]);
    shared(&stand, "other", free_port(), &["records writer=web-1"]);
    refused(&stand);
    for name in ["web-1.jsonl", "hpkp-records"] {
        let (file, copy) = (stand.own().with_file_name(name), stand.own().with_file_name(".copy"));
        fs::copy(&file, &copy).expect("a copy");
        fs::rename(&copy, &file).expect("in its place");
        refused(&stand);
    }
    stand.site.down();
}

#[test]
fn httpd_beside_one_that_goes_on() {
    let mut stand = Stand::<Httpd>::new();
    stand.site.pki().leaf("other", "localhost", "ca");
    let lay_out = |stand: &Stand<Httpd>, certificate: &str, pid_file: &str| {
        let policies = [Policy { pins: &[&stand.live, B], ..POLICY }];
        let blocks = [Block { port: stand.port, certificates: &[certificate], ..BLOCK }];
        let layout = Layout { policies: &policies, blocks: &blocks, ..LAYOUT };
        let text = layout.text(Kind::Httpd);
        stand.site.configure(&format!("ListenCoresBucketsRatio 1\n{pid_file}\n{text}"));
    };
    lay_out(&stand, "live", "");
    stand.site.up();
    assert_eq!(stand.asked(), SENT);
    let before = stand.snapshot();
    lay_out(&stand, "other", "PidFile second.pid");
    let said = stand.site.start_refused();
    let process = format!("process {} already serves", stand.site.pid());
    assert!(said.text.contains(&process), "{said:?}");
    assert_eq!(stand.snapshot(), before);
    assert_eq!(stand.asked(), SENT);
    lay_out(&stand, "live", "");
    stand.site.expect_in_log(&["hpkp: ", "AH00016"]);
    stand.site.down();
}

/// The master was killed; its workers serve on and nobody can reload them.
#[test]
fn nginx_beside_orphans() {
    for (certificate, asked) in [("live", SENT), ("other", WITHHELD)] {
        let mut stand = sharing(&["records writer=web-1"]);
        let workers = stand.site.workers();
        let mut old = stand.site.hand_over();
        kill(pid(&old), libc::SIGKILL);
        old.wait().expect("an end");
        shared(&stand, certificate, stand.port, &["records writer=web-1"]);
        stand.site.up();
        for worker in workers {
            kill(worker, libc::SIGKILL);
        }
        assert!(wait(|| stand.curl().try_get(&stand.url()).is_some()));
        assert_eq!(stand.asked(), asked, "{certificate}");
        stand.site.down();
    }
}

/// After a binary upgrade the new master has the claim as well, before the old one has gone.
#[test]
fn an_upgraded_nginx_has_its_name_at_once() {
    let mut stand = Stand::<Nginx>::new();
    stand.site.pki().leaf("other", "localhost", "ca");
    shared(&stand, "live", stand.port, &["records writer=web-1"]);
    // In the foreground nginx does not listen to this signal.
    assert_eq!(stand.site.run(&[]).code, Some(0));
    let daemon = Daemon { stand: &stand };
    let old = daemon.pid("nginx.pid");
    let slow = Slow::to(&stand);
    daemon.signal(old, libc::SIGUSR2);
    assert_eq!(daemon.pid("nginx.pid.oldbin"), old);
    let new = daemon.pid("nginx.pid");
    assert!(wait(|| has_claim(new, &stand.own())));
    daemon.signal(old, libc::SIGQUIT);
    shared(&stand, "other", stand.port, &["records writer=web-1"]);
    let said = stand.site.run(&[]);
    assert!(said.code == Some(1), "{said:?}");
    // The old one has only begun to end.
    let serves = |pid| said.text.contains(&format!("process {pid} already serves"));
    assert!(serves(new) || serves(old), "{said:?}");
    assert_eq!((stand.asked(), stand.kinds()), (SENT, STARTED.to_vec()));
    drop(slow);
    assert!(wait(|| !is_alive(old)));
    assert_eq!((stand.asked(), stand.kinds()), (SENT, STARTED.to_vec()));
    assert!(has_claim(new, &stand.own()));
    daemon.end(new);
    assert_eq!(stand.kinds(), STOPPED);
    drop(daemon);
    stand.site.expect_in_log(&["hpkp: "]);
    stand.site.stopped();
}

/// Another program has the port: nothing is recorded, and the next start finds nothing in its way.
#[test]
fn nginx_where_another_program_listens() {
    let mut stand = Stand::<Nginx>::new();
    stand.publish(&[A]);
    stand.site.expect_in_log(&["bind() to", "still could not bind()"]);
    let other = std::net::TcpListener::bind(("127.0.0.1", stand.port)).expect("a port");
    let before = stand.snapshot();
    let said = stand.site.run(&[]);
    assert!(said.code == Some(1) && said.codes().is_empty(), "{said:?}");
    assert_eq!(stand.snapshot(), before);
    drop(other);
    stand.site.up();
    assert_eq!((stand.asked(), stand.kinds()), (SENT, STARTED.to_vec()));
    stand.site.down();
}
