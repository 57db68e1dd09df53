//! `hpkp_guard`: provides the variables with a certificate and its key at each handshake: the given ones if clients
//! accept them, otherwise the last good ones.
//!
//! Data flow: the directive (`given`) keeps the two values and asks for the memory that workers share (`zone`);
//! when the configuration takes effect, the master makes the object that workers use (`worker`); nginx asks for
//! the variables (`variables`) once for each full handshake, in a request of its own that has no client.

mod given;
mod variables;
mod worker;
mod zone;

pub(crate) use given::{GivenValues, read};
pub(crate) use variables::add;
pub(crate) use worker::{Worker, give_up, kept_before, of_deployment};
pub(crate) use zone::add as add_zone;
