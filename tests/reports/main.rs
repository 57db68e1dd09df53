//! Tests the program of the collector: over HTTP, with real databases and mail servers.

// Clippy does not treat helpers of tests as tests.
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
