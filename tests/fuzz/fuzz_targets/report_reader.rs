#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hpkp_fuzz::report_reader::run(data));
