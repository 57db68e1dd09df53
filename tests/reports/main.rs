//! The collector of violation reports, by its program: over HTTP, with real databases and mail servers.

// Clippy takes the helpers of a test for something else.
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
