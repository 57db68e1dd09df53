//! End to end with Debian's nginx, or another (see the support's `nginx` module).

mod contexts;
#[cfg(feature = "http3")]
mod http3;
mod outside;
mod panics;
mod phases;
mod refusals;
mod responses;
