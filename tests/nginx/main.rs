//! End to end with Debian's nginx.

mod contexts;
mod load;
mod panics;
mod phases;
mod refusals;
mod responses;
mod support;
