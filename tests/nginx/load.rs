//! Reloads under load, accepted and refused in turn: no request is lost and no memory leaks.

use std::net::TcpStream;
use std::sync::Mutex;

use hpkp_tests::free_port;
use hpkp_tests::load::{Count, memory, no_more_is_lost_in, nothing_is_lost, under_load};
use hpkp_tests::nginx::{Module, Nginx, Reload, tls_server, with_http2};
use hpkp_tests::site::{A, B, prepared_with};
use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode};

const RELOADS: usize = 50;

/// Lets one load test run at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// A server that is reloaded under load.
struct Reloaded {
    nginx: Nginx,
    module: Module,
    port: u16,
    live: String,
    reloads: usize,
    /// The master's memory when half of the reloads were done, in kB.
    half: u64,
}

impl Reloaded {
    fn new(module: Module) -> Self {
        let mut nginx = prepared_with(module);
        nginx.expect_in_log(&["hpkp: [no-pin-in-chain] localhost:", "directive \"nonsense\""]);
        let live = nginx.pki().pin("live.pem");
        let mut this = Self { nginx, module, port: free_port(), live, reloads: 0, half: 0 };
        this.configure(false);
        this.nginx.start();
        this
    }

    fn configure(&self, refused: bool) {
        let (policy, server) = match self.module {
            // Without the module, a directive that nginx itself refuses replaces the pin that we refuse.
            Module::None => (String::new(), if refused { "nonsense;" } else { "" }),
            _ => {
                let pin = if refused { A } else { &self.live };
                let policy = format!("hpkp_policy site {{ pin {pin}; pin {B}; max_age 1d; }}\n");
                (policy, "hpkp site;")
            }
        };
        let server = tls_server(self.port, "localhost", "live", &format!("{server} return 200 x;"));
        self.nginx.configure(&(policy + &with_http2(&server)));
    }

    /// Every other reload is refused.
    fn reload(&mut self, protocol: &[&str]) -> Count {
        let refused = self.reloads % 2 == 1;
        self.configure(refused);
        let (outcome, count) = under_load(self.port, protocol, || self.nginx.reload());
        assert_eq!(matches!(outcome, Reload::Refused(_)), refused, "{outcome:?}");
        self.reloads += 1;
        if self.reloads == RELOADS / 2 {
            self.half = memory(self.nginx.pid());
        }
        count
    }

    fn end(mut self) {
        let grown = memory(self.nginx.pid()) as i64 - self.half as i64;
        eprintln!("{:?}: memory {} kB {grown:+} kB", self.module, self.half);
        assert!(grown <= 1024, "the master grew by {grown} kB over {} reloads", RELOADS / 2);
        self.nginx.stop();
    }
}

#[test]
fn http_1_1_loses_nothing() {
    let _alone = ALONE.lock();
    let mut server = Reloaded::new(Module::Shipped);
    nothing_is_lost(RELOADS, |protocol| server.reload(protocol));
    server.end();
}

/// A worker that ends sometimes costs an HTTP/2 connection a request, with and without our module. The test
/// compares both servers under alternating load.
#[test]
fn http_2_loses_no_more_than_without_the_module() {
    let _alone = ALONE.lock();
    let mut with = Reloaded::new(Module::Shipped);
    let mut without = Reloaded::new(Module::None);
    no_more_is_lost_in(
        RELOADS,
        |protocol| with.reload(protocol),
        |protocol| without.reload(protocol),
    );
    with.end();
    without.end();
}

/// Shakes hands `count` times with a server, on a new connection each time, without verifying the certificate.
fn shake_hands(port: u16, count: usize) {
    let mut builder = SslConnector::builder(SslMethod::tls()).expect("a client");
    builder.set_verify(SslVerifyMode::NONE);
    let connector = builder.build();
    for _ in 0..count {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
        let stream = connector.connect("localhost", stream).expect("a handshake");
        assert!(stream.ssl().peer_certificate().is_some());
    }
}

/// In each of many handshakes the given certificate is one that clients refuse, and the last good one is presented.
#[test]
fn a_guard_keeps_no_memory() {
    let _alone = ALONE.lock();
    let mut nginx = prepared_with(Module::Shipped);
    nginx.pki().leaf("other", "localhost", "ca");
    nginx.pki().leaf("current", "localhost", "ca");
    nginx.expect_in_log(&["certificate-checked-at-handshake", "kept-certificate-served"]);
    let (pin, port) = (nginx.pki().pin("current.pem"), free_port());
    nginx.configure(&format!(
        "map $ssl_server_name $current {{ default current; }}
         hpkp_policy site {{ pin {pin}; pin {B}; max_age 1d; }}
         hpkp_guard $current.pem $current.key;
         server {{ listen 127.0.0.1:{port} ssl; ssl_certificate $hpkp_certificate;
         ssl_certificate_key $hpkp_certificate_key; hpkp site; return 200 x; }}"
    ));
    nginx.start();
    shake_hands(port, 1);
    for kind in ["pem", "key"] {
        let path = |name: &str| nginx.path(&format!("{name}.{kind}"));
        std::fs::copy(path("other"), path("current")).expect("a copy");
    }
    shake_hands(port, 1_000);
    let worker = nginx.workers()[0];
    let before = memory(worker);
    shake_hands(port, 10_000);
    let after = memory(worker);
    eprintln!("a guard's worker: {before} kB, {after} kB after 10,000 handshakes");
    assert!(after <= before + 256, "{before} kB, then {after} kB");
    nginx.stop();
}
