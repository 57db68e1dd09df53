//! httpd's own types and functions, as bindgen reads them from its headers.
#![allow(
    unknown_lints,
    missing_docs,
    unreachable_pub,
    non_camel_case_types,
    non_upper_case_globals,
    dead_code,
    unnecessary_transmutes,
    clippy::all,
    clippy::undocumented_unsafe_blocks,
    reason = "generated from C"
)]

include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
