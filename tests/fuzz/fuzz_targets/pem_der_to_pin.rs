#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hpkp_fuzz::pem_der_to_pin::run(data));
