#![no_main]

use hpkp_cli::import::header;

// The value that `unwrap` finds in a configuration never has a line end.
libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(unwrapped) = header::unwrap(text)
    {
        assert!(!unwrapped.value.contains('\n'), "{unwrapped:?}");
    }
});
