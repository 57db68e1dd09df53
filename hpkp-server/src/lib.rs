//! The code that both server modules share.
//!
//! Data flow:
//!
//! 1. [`setting`] reads the values of directives, [`openssl`] the certificates of an `SSL_CTX`, [`mod@file`] and
//!    [`trust`] the files that the configuration names. [`loader`] combines them for the core's check. [`nginx`] and
//!    [`httpd`] have the parts for one server, which the command also uses: it checks the text of the configuration in
//!    the same way.
//! 2. [`failure`] decides what the server does about the findings.
//! 3. [`session`] writes into each TLS session which certificate was [`presented`], loaded or [`chosen`] during the
//!    handshake. [`sending`] decides for each request whether the header is sent.
//! 4. [`published`] has the directory of records, [`journal`] the records that a configuration adds.
//! 5. [`kept`] has the last good certificates, and [`guard`] presents one in place of a certificate that is chosen
//!    during the handshake.
//!
//! [`living`] finds other running servers, and [`owner`] tells who else may have changed a file. Every entry from C
//! goes through [`boundary`].

pub mod boundary;
pub mod certificate_file;
pub mod chosen;
pub mod failure;
pub mod file;
mod file_limit;
pub mod guard;
pub mod host_name;
pub mod httpd;
pub mod interim;
pub mod journal;
pub mod kept;
pub mod library;
pub mod living;
pub mod loader;
pub mod nginx;
pub mod openssl;
pub mod owner;
pub mod presented;
pub mod public_port;
pub mod published;
pub mod sending;
pub mod session;
pub mod setting;
mod setting_error;
pub mod trust;
