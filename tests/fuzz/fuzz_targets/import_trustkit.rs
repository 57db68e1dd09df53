#![no_main]

#[path = "../src/imports.rs"]
mod imports;

use hpkp_cli::import::format::Format;

libfuzzer_sys::fuzz_target!(|data: &[u8]| imports::run(Format::Trustkit, data));
