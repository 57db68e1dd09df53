//! Years of renewals under a false clock, on nginx and httpd, while clients that store pins visit: no client is ever
//! locked out, and no safe change is refused.
//!
//! The expected result of each step comes from the pins that the clients of the test hold (`memory`), not from the
//! check.
//! `HPKP_YEARS_SEED` sets the seed; `ci/years` runs longer.

// clippy.toml allows these only inside test functions, not in their helpers.
#![allow(clippy::expect_used, clippy::panic, unreachable_pub)]

mod ahead;
mod clients;
mod issuer;
mod memory;
mod server;
mod story;

use hpkp_tests::httpd::Httpd;
use hpkp_tests::nginx::Nginx;

use server::Server;
use story::{Pace, Story};

/// Two years, renewed every three days.
const THREE_DAYS: Pace =
    Pace { whole: 2 * 365, interval: 3, validity: 10, max_ages: [5, 10, 20], rotations: 8 };

/// Ten years, renewed every 31 days.
const THIRTY_ONE_DAYS: Pace =
    Pace { whole: 10 * 365, interval: 31, validity: 100, max_ages: [30, 45, 60], rotations: 15 };

/// Certificates of six days, renewed after half of that, for ten years.
const SIX_DAYS: Pace =
    Pace { whole: 10 * 365, interval: 3, validity: 6, max_ages: [3, 30, 60], rotations: 4 };

fn run<S: Server>(pace: Pace) {
    let seed = std::env::var("HPKP_YEARS_SEED").ok().map(|seed| seed.parse().expect("a number"));
    let seed = seed.unwrap_or(1);
    let start = std::time::Instant::now();
    println!("seed {seed}");
    let counts = Story::<S>::new(seed, pace).run();
    println!("{:?} {:.0?}: {counts:#?}", S::KIND, start.elapsed());
}

#[test]
fn nginx_renewed_every_three_days() {
    run::<Nginx>(THREE_DAYS);
}

#[test]
fn nginx_renewed_every_31_days() {
    run::<Nginx>(THIRTY_ONE_DAYS);
}

#[test]
fn httpd_renewed_every_three_days() {
    run::<Httpd>(THREE_DAYS);
}

#[test]
fn httpd_renewed_every_31_days() {
    run::<Httpd>(THIRTY_ONE_DAYS);
}

#[test]
#[ignore = "runs for long: ci/years"]
fn nginx_with_certificates_of_six_days() {
    run::<Nginx>(SIX_DAYS);
}

#[test]
#[ignore = "runs for long: ci/years"]
fn httpd_with_certificates_of_six_days() {
    run::<Httpd>(SIX_DAYS);
}
