//! Directives of other modules that may change the certificate of a server during the handshake, and the copies that
//! replace them.

use hpkp_server::nginx::Effect;
use nginx_sys::ngx_command_t;

/// A directive of another module, and the copy that replaces it.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) copy: *const ngx_command_t,
    pub(crate) original: *mut ngx_command_t,
    pub(crate) effect: Effect,
}
