//! Replays the seeds of the fuzz targets through the same functions that a fuzzer calls.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;

#[allow(unreachable_pub, reason = "it is a crate of its own where the fuzzer builds it")]
#[path = "../../tests/fuzz/src/lib.rs"]
mod targets;

/// Runs each seed; prints the name of a seed that panics.
fn replay(target: &str, run: fn(&[u8])) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/seeds").join(target);
    let mut seeds: Vec<_> =
        std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    seeds.sort();
    assert!(!seeds.is_empty());
    for seed in seeds {
        let data = std::fs::read(&seed).unwrap();
        if let Err(panic) = std::panic::catch_unwind(|| run(&data)) {
            println!("the seed {}", seed.display());
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn header_parser() {
    replay("header_parser", targets::header_parser::run);
}

#[test]
fn pem_der_to_pin() {
    replay("pem_der_to_pin", targets::pem_der_to_pin::run);
}

#[test]
fn chain_paths() {
    replay("chain_paths", targets::chain_paths::run);
}

#[test]
fn report_reader() {
    replay("report_reader", targets::report_reader::run);
}
