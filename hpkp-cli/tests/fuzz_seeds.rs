//! Runs the seeds of the fuzz targets for imports through the function that a fuzzer calls.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;

use clap::ValueEnum as _;
use hpkp_cli::import::format::Format;

#[path = "../../tests/fuzz/src/imports.rs"]
mod imports;

#[test]
fn imports() {
    for &format in Format::value_variants() {
        let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/seeds");
        let seeds = seeds.join(format!("import_{format}"));
        let mut found = 0;
        for seed in std::fs::read_dir(&seeds).unwrap() {
            let data = std::fs::read(seed.unwrap().path()).unwrap();
            // The pin is inserted at several places, with each text around it.
            for high in 0..4 {
                for around in 0..16 {
                    let mut data = data.clone();
                    (data[0], data[2]) = (high, around);
                    imports::run(format, &data);
                }
            }
            found += 1;
        }
        assert!(found > 0, "{format}");
    }
}
