//! Public key pinning (RFC 7469), independent of any server.
//!
//! Data flow:
//!
//! 1. texts become [`pin::Pin`]s, [`max_age::MaxAge`]s, [`report_uri::ReportUri`]s, and these a
//!    [`policy::PolicySpec`], which becomes a [`policy::Policy`] once its files have been read;
//! 2. DER becomes [`certificate::Certificate`]s and [`path::Chain`]s, these candidate paths;
//! 3. [`check::check`] compares both for all hosts at once and gives [`finding::Finding`]s and,
//!    for each host, the [`header::Header`] to send and the connections on which it may be sent.
//!
//! `ua` (a feature, since no server module needs it) models user agents: how they read a header, what they remember,
//! and what they report.
//!
//! Nothing here reads a file, the clock or the environment.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod accepted;
pub mod ca_table;
pub mod certificate;
pub mod check;
pub mod date;
pub mod finding;
pub mod header;
pub mod max_age;
mod other_hash;
pub mod path;
pub mod pem;
pub mod pin;
pub mod policy;
pub mod published;
pub mod report_uri;
pub mod sorted;
pub mod spki;
mod spki_walk;
pub mod text;
#[cfg(feature = "ua")]
pub mod ua;
