//! What both server modules need and neither server owns.
//!
//! The way of the data: [`openssl`] reads the certificates of an `SSL_CTX`, [`mod@file`] and [`trust`]
//! read what the configuration names, the core checks, [`failure`] says what is done about the
//! findings, [`sending`] answers for each request whether the header goes out, and [`published`] keeps
//! the records of what clients were told.

pub mod failure;
pub mod file;
pub mod openssl;
pub mod published;
pub mod sending;
pub mod trust;
