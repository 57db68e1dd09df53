//! End to end with Debian's nginx.

mod refusals;
mod support;
