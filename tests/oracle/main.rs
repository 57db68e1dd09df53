//! A second implementation as a test oracle: in random histories of servers, records and clients, a small oracle with
//! types of its own decides from first principles what every client would do, and the software's answers are compared
//! with its decisions.
//!
//! `HPKP_ORACLE_SEED` sets the first seed, `HPKP_ORACLE_HISTORIES` the number of histories,
//! `HPKP_ORACLE_NGINX` and `HPKP_ORACLE_HTTPD` how many configurations real servers test.
//! `HPKP_ORACLE_WITHOUT=lies,clocks,...` leaves kinds of steps out, `HPKP_ORACLE_STORIES` is the number of histories
//! that are printed for each kind of error.

mod client;
mod core;
mod dane;
mod generate;
mod history;
mod judge;
mod minimise;
mod nature;
mod pki;
mod servers;
mod stories;
mod world;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use generate::Without;
use history::{Run, Wrong};
use hpkp_tests::listed;
use servers::Real;
use world::Kind;

fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// The kinds of steps that `HPKP_ORACLE_WITHOUT` leaves out.
fn flags() -> Without {
    let flags = std::env::var("HPKP_ORACLE_WITHOUT").unwrap_or_default();
    let has = |name| flags.split(',').any(|flag| flag == name);
    Without {
        lies: has("lies"),
        clocks: has("clocks"),
        failures: has("failures"),
        stream: has("stream"),
        chains: has("chains"),
        httpd: has("httpd"),
        defaults: has("defaults"),
        force: has("force"),
        upgrade: has("upgrade"),
        not_served_here: has("not_served_here"),
        zones: has("zones"),
        waits: has("waits"),
        nginx: false,
    }
}

#[derive(Debug, Default)]
struct Figures {
    asked: usize,
    refused: usize,
    rightly: usize,
    wrong: BTreeMap<Wrong, Vec<u64>>,
}

/// In one of so many histories the answers are also compared with those of a server that reads other machines' records
/// by an index.
const COMPARED: u64 = 5;

/// Runs many histories; returns their figures.
fn many(first: u64, count: u64, without: Without) -> Figures {
    let next = AtomicU64::new(first);
    let figures = Mutex::new(Figures::default());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut own = Figures::default();
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count {
                        break;
                    }
                    let is_compared = seed % COMPARED == 0;
                    let core = if is_compared { core::Core::compared() } else { core::Core::new() };
                    let mut run = Run::new(core);
                    let (_, disagreement) = generate::grow(&mut run, seed, without);
                    own.asked += run.asked;
                    own.refused += run.refused;
                    own.rightly += run.rightly;
                    if let Some(disagreement) = disagreement {
                        own.wrong.entry(disagreement.wrong).or_default().push(seed);
                    }
                }
                let mut all = figures.lock().expect("no panic");
                all.asked += own.asked;
                all.refused += own.refused;
                all.rightly += own.rightly;
                for (wrong, seeds) in own.wrong {
                    all.wrong.entry(wrong).or_default().extend(seeds);
                }
            });
        }
    });
    figures.into_inner().expect("no panic")
}

/// Runs histories on real servers until they have run `tests` config tests.
fn real(kind: Kind, tests: usize) {
    let without = Without {
        clocks: true,
        waits: true,
        upgrade: true,
        stream: true,
        httpd: kind == Kind::Nginx,
        nginx: kind == Kind::Httpd,
        ..flags()
    };
    let first = number("HPKP_ORACLE_SEED", 1);
    let ports = Real::ports();
    let (mut done, mut histories, mut refused) = (0, 0, 0);
    let mut wrong = String::new();
    while done < tests {
        let seed = first + histories;
        let mut run = Run::new(Real::new(kind, &ports));
        let (steps, disagreement) = generate::grow(&mut run, seed, without);
        histories += 1;
        done += *run.site().tests.borrow();
        refused += run.refused;
        for surprise in run.site().surprises.iter().take(3) {
            wrong.push_str(&format!("seed {seed}: {surprise}\n"));
        }
        if let Some(disagreement) = disagreement {
            wrong.push_str(&minimise::story(seed, &steps, &disagreement));
        }
    }
    println!("{kind:?}: {histories} histories, {done} tests of configurations, {refused} refused");
    assert!(wrong.is_empty(), "{kind:?} and the oracle disagree:\n{wrong}");
}

#[test]
fn nginx_agrees_with_what_clients_would_do() {
    real(Kind::Nginx, number("HPKP_ORACLE_NGINX", 200) as usize);
}

#[test]
fn httpd_agrees_with_what_clients_would_do() {
    real(Kind::Httpd, number("HPKP_ORACLE_HTTPD", 50) as usize);
}

#[test]
fn the_check_agrees_with_what_clients_would_do() {
    let first = number("HPKP_ORACLE_SEED", 1);
    let count = number("HPKP_ORACLE_HISTORIES", 10_000);
    let without = flags();
    let mut figures = many(first, count, without);
    println!(
        "{count} histories from seed {first}: {} configurations answered, {} refused, {} of them \
         had to be",
        figures.asked, figures.refused, figures.rightly
    );
    let of = |count: &AtomicUsize| count.load(Ordering::Relaxed);
    println!("by the index: {} of {} lines read", of(&listed::READ), of(&listed::ALL));
    let count_of_stories = number("HPKP_ORACLE_STORIES", 3) as usize;
    for (wrong, seeds) in &mut figures.wrong {
        seeds.sort_unstable();
        println!("{wrong:?}: {} histories", seeds.len());
        for seed in seeds.iter().take(count_of_stories) {
            let steps = generate::history(*seed, without);
            let (steps, disagreement) = minimise::minimise(steps, *wrong);
            println!("{}", minimise::story(*seed, &steps, &disagreement));
        }
    }
    assert!(figures.wrong.is_empty(), "the check and the oracle disagree");
}
