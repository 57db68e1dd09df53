//! What public key pinning (RFC 7469) is, without any server.
//!
//! The way of the data: texts become [`pin::Pin`]s. [`ua`] is the other end: what user agents make
//! of a header, what they remember, and what they report.
//!
//! Nothing here reads a file, the clock or the environment.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod pin;
pub mod text;
pub mod ua;
