//! The core on keys and certificates that openssl made, and what the crates depend on.

mod answering;
mod attacks;
mod circles;
mod concern;
mod dane;
mod fleet;
mod freshness;
mod keys;
mod layers;
mod new_names;
mod paths;
mod places;
mod policies;
mod ports;
mod published;
mod reference;
mod slots;
