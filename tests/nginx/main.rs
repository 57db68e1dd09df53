//! End to end with Debian's nginx.

mod contexts;
mod panics;
mod phases;
mod refusals;
mod responses;
