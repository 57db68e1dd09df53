//! Load on a server: requests without pause during an action such as a reload, and the number of lost requests.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::succeed;

/// Forty connections at once, one request on each.
const ROUND: &[&str] = &["-n", "40", "-c", "40", "-m", "1"];

/// What h2load counted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Count {
    pub started: u64,
    pub lost: u64,
}

impl std::ops::AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.started += other.started;
        self.lost += other.lost;
    }
}

/// Does `what` under load on `port`, with at least one round of requests before and one after it.
/// `protocol` are arguments of h2load: `--h1`, or none for HTTP/2.
///
/// Each request has a connection of its own. A worker that ends may close a kept-alive connection while the client
/// writes to it, so requests lost there would not be losses of the reload.
pub fn under_load<T>(port: u16, protocol: &[&str], what: impl FnOnce() -> T) -> (T, Count) {
    let mut count = round(port, protocol);
    let (outcome, rounds) = meanwhile(what, || round(port, protocol));
    rounds.into_iter().for_each(|round| count += round);
    (outcome, count)
}

/// Does `what` while another thread repeats `again`, and does `again` once more after `what`.
pub fn meanwhile<T, R: Send>(
    what: impl FnOnce() -> T,
    mut again: impl FnMut() -> R + Send,
) -> (T, Vec<R>) {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let others = scope.spawn(|| {
            let mut all = Vec::new();
            loop {
                let last = done.load(Ordering::Relaxed);
                all.push(again());
                if last {
                    return all;
                }
            }
        });
        let outcome = {
            let _done = SetAtEnd(&done);
            what()
        };
        (outcome, others.join().expect("the other thread ends"))
    })
}

/// Sets the flag also after a panic. Otherwise the other thread would never end, and the test would hang instead of
/// failing.
struct SetAtEnd<'a>(&'a AtomicBool);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn round(port: u16, protocol: &[&str]) -> Count {
    let mut command = Command::new("h2load");
    command.args(protocol).args(ROUND).arg(format!("https://127.0.0.1:{port}/"));
    let outcome = String::from_utf8(succeed(&mut command)).expect("UTF-8");
    let line = outcome.lines().find(|line| line.starts_with("requests: ")).expect("a count");
    let number = |name: &str| -> u64 {
        let before = line.split(name).next().expect("a count");
        before.trim().rsplit(' ').next().and_then(|n| n.parse().ok()).expect("a number")
    };
    // If a worker that ends closes a connection after a response, h2load opens no second one. The requests that
    // h2load then never starts are not lost.
    let started = number("started");
    Count { started, lost: started - number("succeeded") }
}

/// Fails if any request is lost over HTTP/1.1, in `count` turns.
#[track_caller]
pub fn nothing_is_lost(count: usize, mut turn: impl FnMut(&[&str]) -> Count) {
    let mut all = Count::default();
    for _ in 0..count {
        all += turn(&["--h1"]);
    }
    eprintln!("HTTP/1.1: {all:?}");
    assert!(all.started >= 2000, "{all:?}");
    assert_eq!(all.lost, 0, "{all:?}");
}

/// Runs `count` turns with and without the module over HTTP/2, and fails if more requests are lost with it.
#[track_caller]
pub fn no_more_is_lost_in(
    count: usize,
    mut with: impl FnMut(&[&str]) -> Count,
    mut without: impl FnMut(&[&str]) -> Count,
) {
    let turn = |turn| {
        // Alternate which of the two runs first.
        if turn / 2 % 2 == 0 {
            let first = with(&[]);
            (first, without(&[]))
        } else {
            let first = without(&[]);
            (with(&[]), first)
        }
    };
    no_more_is_lost(&(0..count).map(turn).collect::<Vec<_>>());
}

/// Fails if more requests are lost with the module than without it. The sum of the differences of all turns may not
/// exceed four standard deviations of a random sum of such differences. Other load of the machine affects both halves
/// of a turn alike.
#[track_caller]
fn no_more_is_lost(turns: &[(Count, Count)]) {
    let mut all = (Count::default(), Count::default());
    let (mut sum, mut squares) = (0.0, 0.0);
    for (with, without) in turns {
        all.0 += *with;
        all.1 += *without;
        let difference = with.lost as f64 - without.lost as f64;
        sum += difference;
        squares += difference * difference;
    }
    let (with, without) = all;
    eprintln!("{with:?} with the module, {without:?} without, in {} turns", turns.len());
    assert!(with.started >= 1000 && without.started >= 1000, "{with:?}, {without:?}");
    assert!(sum <= 4.0 * f64::sqrt(squares), "{with:?} with the module, {without:?} without");
}

/// The resident memory of a process in kB.
pub fn memory(pid: libc::pid_t) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}
