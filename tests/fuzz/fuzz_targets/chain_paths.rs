#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hpkp_fuzz::chain_paths::run(data));
