//! The code that both server modules share.
//!
//! Data flow: [`setting`] reads the values of directives, [`openssl`] the certificates of an `SSL_CTX`, [`mod@file`]
//! and [`trust`] what the configuration names; [`loader`] joins them for the core's check. [`nginx`] and [`httpd`]
//! have what one server alone needs and the command needs, too: it asks the same question of the configuration's
//! text. [`failure`] decides what is done about the findings, [`session`] writes what a connection has [`presented`]
//! into its TLS session ([`chosen`] during the handshake or loaded), and [`sending`] decides for each request whether
//! the header is sent. [`published`] has the directory of records, [`journal`] the records that a configuration adds;
//! [`kept`] has the last good certificates, and [`guard`] presents one in place of a certificate that is chosen
//! during the handshake; [`living`] finds other servers that run at the same time, and [`owner`] who else may have
//! changed a file. Every entry from C goes through [`boundary`].

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
