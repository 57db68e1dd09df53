//! Restarts under load: accepted and refused in turn, then by the bare signal with a lock-out, with
//! nothing lost and no memory kept.

use std::sync::Mutex;

use hpkp_tests::free_port;
use hpkp_tests::httpd::{Httpd, Module, Mpm, Reload, Restart, listen, tls_vhost};
use hpkp_tests::load::{Count, memory, no_more_is_lost_in, nothing_is_lost, under_load};
use hpkp_tests::site::{A, B};

/// As `apachectl graceful` does it: half of them are refused.
const GRACEFUL: usize = 50;
/// By SIGUSR1 alone, with a configuration that would be refused.
const RAW: usize = 20;

/// One load at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// A server that is restarted under load.
struct Restarted {
    httpd: Httpd,
    module: Module,
    port: u16,
    live: String,
    restarts: usize,
    /// The parent's memory when half of the graceful restarts were done, in kB.
    half: u64,
    grown: i64,
}

impl Restarted {
    fn new(module: Module) -> Self {
        let mut httpd = Httpd::furnished(module, Mpm::Event);
        httpd.load(&["dir"]);
        httpd.pki().write("html/index.html", "x");
        httpd.expect_in_log(&["hpkp: [no-pin-in-chain] localhost:"]);
        let live = httpd.pki().pin("live.pem");
        let mut this =
            Self { httpd, module, port: free_port(), live, restarts: 0, half: 0, grown: 0 };
        this.configure(false);
        this.httpd.start();
        this
    }

    fn configure(&self, refused: bool) {
        let (policy, vhost) = match self.module {
            // What httpd itself refuses takes the place of what we refuse.
            Module::None => (if refused { "nonsense\n".to_owned() } else { String::new() }, ""),
            _ => {
                let pin = if refused { A } else { &self.live };
                let policy = format!(
                    "<HPKPPolicy site>\nHPKPPin {pin}\nHPKPPin {B}\nHPKPMaxAge 1d\n</HPKPPolicy>\n"
                );
                (policy, "HPKPUse site")
            }
        };
        let vhost = tls_vhost(self.port, "localhost", "live", vhost);
        self.httpd.configure(&format!("{}{policy}{vhost}", listen(&[self.port])));
    }

    /// The next restart. Of the graceful ones every other is refused.
    fn restart(&mut self, protocol: &[&str]) -> Count {
        let count = if self.restarts < GRACEFUL {
            let refused = self.restarts % 2 == 1;
            self.configure(refused);
            let (outcome, count) = under_load(self.port, protocol, || self.httpd.graceful());
            assert_eq!(matches!(outcome, Reload::Refused(_)), refused, "{outcome:?}");
            count
        } else {
            // Without the module a configuration like this would end the site.
            self.configure(self.module != Module::None);
            let (outcome, count) =
                under_load(self.port, protocol, || self.httpd.restart(libc::SIGUSR1));
            assert!(matches!(outcome, Restart::Served(_)), "{outcome:?}");
            count
        };
        self.restarts += 1;
        if self.restarts == GRACEFUL / 2 {
            self.half = memory(self.httpd.pid());
        }
        if self.restarts == GRACEFUL {
            self.grown = memory(self.httpd.pid()) as i64 - self.half as i64;
        }
        count
    }

    fn end(mut self) {
        assert!(self.httpd.is_running());
        let (half, grown) = (self.half, self.grown);
        let later = memory(self.httpd.pid()) as i64 - half as i64;
        eprintln!("{:?}: memory {half} kB {grown:+} kB, at the end {later:+} kB", self.module);
        assert!(grown <= 1024, "the parent grew by {grown} kB over {} restarts", GRACEFUL / 2);
        self.httpd.stop();
    }
}

#[test]
fn http_1_1_loses_nothing() {
    let _alone = ALONE.lock();
    let mut server = Restarted::new(Module::Shipped);
    nothing_is_lost(GRACEFUL + RAW, |protocol| server.restart(protocol));
    server.end();
}

/// Each worker that ends may cost a connection of HTTP/2 a request, with any module and with none,
/// so the two take turns.
#[test]
fn http_2_loses_no_more_than_without_the_module() {
    let _alone = ALONE.lock();
    let mut with = Restarted::new(Module::Shipped);
    let mut without = Restarted::new(Module::None);
    no_more_is_lost_in(
        GRACEFUL + RAW,
        |protocol| with.restart(protocol),
        |protocol| without.restart(protocol),
    );
    with.end();
    without.end();
}
