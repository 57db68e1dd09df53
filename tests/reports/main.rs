//! The collector of violation reports, as a running program: over HTTP, with real databases and mail servers.

// clippy.toml allows these only inside test functions, not in their helpers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub)]

mod alarms;
mod bad_input;
mod collector;
mod corpus;
mod durable;
mod hostile;
mod mail;
mod pages;
mod postgres;
mod tls;
mod verdicts;
