//! The structures of `stream` and `mail`, made by `build.rs` from nginx's headers.
#![allow(
    clippy::all,
    clippy::too_many_lines,
    clippy::undocumented_unsafe_blocks,
    dead_code,
    missing_docs,
    non_camel_case_types,
    non_upper_case_globals,
    unreachable_pub,
    unsafe_op_in_unsafe_fn,
    unused_imports,
    reason = "generated"
)]

include!(concat!(env!("OUT_DIR"), "/outside.rs"));
