#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hpkp_fuzz::header_parser::run(data));
