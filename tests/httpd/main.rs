//! End to end with Debian's Apache httpd.

mod refusals;
mod responses;
