//! The servers outside `http` as they are read.

use std::ptr;

use hpkp_server::nginx;

use crate::server::{Handle, OwnContext};

/// All servers outside `http`.
pub(crate) type Outside = nginx::Outside<Handle>;

pub(super) type Server = nginx::OutsideServer<Handle>;

/// nginx's data about a server outside `http`.
pub(super) fn handle(own: Option<OwnContext>) -> Handle {
    Handle { conf: ptr::null_mut(), own }
}
