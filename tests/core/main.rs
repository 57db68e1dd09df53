//! Tests of hpkp-core with keys and certificates made by openssl, and of the dependencies between the crates.

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
