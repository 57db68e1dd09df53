//! The ways in which pins and certificates have parted, each with the smallest change that is safe
//! in the same place, on both servers.

mod client;
mod faults;
mod life;
mod records;
mod stand;
