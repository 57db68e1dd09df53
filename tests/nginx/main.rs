//! End to end with Debian's nginx, or another (see the support's `nginx` module).

mod contexts;
mod guard;
mod handshake;
#[cfg(feature = "http3")]
mod http3;
mod interim;
mod kept;
mod libraries;
mod outside;
mod panics;
mod phases;
mod presented;
mod refusals;
mod responses;
mod resumed;
mod unguarded;
mod unrecorded;
