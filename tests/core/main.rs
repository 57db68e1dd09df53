//! The core on keys and certificates that openssl made, and what the crates depend on.

mod answering;
mod keys;
mod layers;
mod paths;
mod published;
mod reference;
