//! Reloads under load: accepted and refused in turn, with nothing lost and no memory kept.

use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use hpkp_tests::nginx::{Module, Nginx, Reload, tls_server, with_http2};
use hpkp_tests::{free_port, succeed};

use hpkp_tests::site::{A, B, prepared_with};

const RELOADS: usize = 50;

/// One load at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// What h2load counted.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    started: u64,
    lost: u64,
}

/// Requests without pause until `done`, and one round at the least.
fn load(port: u16, arguments: &[&str], done: &AtomicBool) -> Count {
    let mut count = Count::default();
    loop {
        let last = done.load(Ordering::Relaxed);
        let url = format!("https://127.0.0.1:{port}/");
        let mut command = Command::new("h2load");
        command.args(arguments).arg(url);
        let said = String::from_utf8(succeed(&mut command)).expect("UTF-8");
        let line = said.lines().find(|line| line.starts_with("requests: ")).expect("a count");
        let number = |name: &str| -> u64 {
            let before = line.split(name).next().expect("a count");
            before.trim().rsplit(' ').next().and_then(|n| n.parse().ok()).expect("a number")
        };
        // h2load opens no second connection where a worker that ends has closed one after an
        // answer; the requests that it then never starts are not lost.
        count.started += number("started");
        count.lost += number("started") - number("succeeded");
        if last {
            return count;
        }
    }
}

/// The master's resident memory in kB.
fn memory(nginx: &Nginx) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", nginx.pid())).expect("status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// Reloads a server under load; what the load lost, and by how much the master's memory grew over
/// the second half.
fn reloads_under_load(module: Module, arguments: &[&str]) -> (Count, i64) {
    let mut nginx = prepared_with(module);
    let (live, port) = (nginx.pki().pin("live.pem"), free_port());
    let configuration = |refused: bool| {
        let (policy, server) = match module {
            // What nginx itself refuses takes the place of what we refuse.
            Module::None => (String::new(), if refused { "nonsense;" } else { "" }),
            _ => {
                let pin = if refused { A } else { &live };
                let policy = format!("hpkp_policy site {{ pin {pin}; pin {B}; max_age 1d; }}\n");
                (policy, "hpkp site;")
            }
        };
        let server = tls_server(port, "localhost", "live", &format!("{server} return 200 x;"));
        policy + &with_http2(&server)
    };
    nginx.configure(&configuration(false));
    nginx.expect_in_log(&["hpkp: [no-pin-in-chain] localhost:", "unknown directive \"nonsense\""]);
    nginx.start();
    let done = AtomicBool::new(false);
    let mut half = 0;
    let count = thread::scope(|scope| {
        let load = scope.spawn(|| load(port, arguments, &done));
        for reload in 0..RELOADS {
            let refused = reload % 2 == 1;
            nginx.configure(&configuration(refused));
            let outcome = nginx.reload();
            assert_eq!(matches!(outcome, Reload::Refused(_)), refused, "{outcome:?}");
            if reload + 1 == RELOADS / 2 {
                half = memory(&nginx);
            }
        }
        done.store(true, Ordering::Relaxed);
        load.join().expect("the load ends")
    });
    let grown = memory(&nginx) as i64 - half as i64;
    nginx.stop();
    eprintln!("{module:?} {arguments:?}: {count:?}, memory {half} kB {grown:+} kB");
    (count, grown)
}

/// A connection for each request: one that is kept alive may be closed by any worker that ends while
/// the client is writing to it, so what is lost there tells nothing of a reload.
#[test]
fn http_1_1_loses_nothing() {
    let _alone = ALONE.lock();
    let (count, grown) =
        reloads_under_load(Module::Shipped, &["--h1", "-n", "40", "-c", "40", "-m", "1"]);
    assert!(count.started >= 2000, "{count:?}");
    assert_eq!(count.lost, 0, "{count:?}");
    assert!(grown <= 1024, "the master grew by {grown} kB over {} reloads", RELOADS / 2);
}

/// Each worker that ends costs a connection of HTTP/2 a request now and then, with any module and
/// with none, so the two are compared in one run, as chance has it: of all requests lost, no more
/// may fall to the module than its share, by three standard deviations.
#[test]
fn http_2_loses_no_more_than_without_the_module() {
    let _alone = ALONE.lock();
    let arguments = ["-n", "40", "-c", "40", "-m", "1"];
    let (with, grown) = reloads_under_load(Module::Shipped, &arguments);
    let (without, _) = reloads_under_load(Module::None, &arguments);
    assert!(grown <= 1024, "the master grew by {grown} kB over {} reloads", RELOADS / 2);

    let lost = (with.lost + without.lost) as f64;
    let share = with.started as f64 / (with.started + without.started) as f64;
    let limit = lost * share + 3.0 * (lost * share * (1.0 - share)).sqrt();
    assert!(with.lost as f64 <= limit, "{with:?} with the module, {without:?} without");
}
