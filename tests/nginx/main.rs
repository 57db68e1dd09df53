//! End to end with Debian's nginx.

mod phases;
mod refusals;
mod responses;
mod support;
