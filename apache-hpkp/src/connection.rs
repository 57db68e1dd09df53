//! Which context a connection uses: it is known once the handshake has named the host.

use std::ffi::{c_char, c_int};
use std::ptr;

use hpkp_server::openssl::Ssl;
use hpkp_server::sending::ContextAddress;

use crate::bindings::{
    APR_HOOK_MIDDLE, ap_hook_process_connection, ap_ssl_conn_is_ssl, apr_optional_hook_add,
    conn_rec,
};
use crate::boundary;
use crate::httpd::{self, DECLINED, OK};

/// What is kept of a TLS connection.
struct Connection {
    ssl: *const Ssl,
    context: Option<ContextAddress>,
}

/// Names of modules, ended by null, as httpd's hooks take them.
#[repr(transparent)]
struct Names([*const c_char; 2]);

// SAFETY: httpd only reads the names.
unsafe impl Sync for Names {}

/// mod_ssl's signature for `pre_handshake`.
type PreHandshake = unsafe extern "C" fn(*mut conn_rec, *mut Ssl, c_int) -> c_int;

/// # Safety
/// httpd is loading the module.
pub(crate) unsafe fn register() {
    static AFTER: Names = Names([c"mod_ssl.c".as_ptr(), ptr::null()]);
    static BEFORE: Names = Names([c"mod_http2.c".as_ptr(), ptr::null()]);
    // SAFETY: by the caller's promise; an optional hook is called with the signature that mod_ssl
    // gives it, whatever type it has here.
    unsafe {
        let hook: PreHandshake = pre_handshake;
        apr_optional_hook_add(
            c"pre_handshake".as_ptr(),
            Some(std::mem::transmute::<PreHandshake, unsafe extern "C" fn()>(hook)),
            ptr::null(),
            ptr::null(),
            APR_HOOK_MIDDLE,
        );
        // mod_ssl shakes hands there, and mod_http2 takes over there.
        ap_hook_process_connection(
            Some(process_connection),
            AFTER.0.as_ptr(),
            BEFORE.0.as_ptr(),
            APR_HOOK_MIDDLE,
        );
    }
}

/// Of mod_ssl: a connection is about to shake hands.
unsafe extern "C" fn pre_handshake(
    connection: *mut conn_rec,
    ssl: *mut Ssl,
    is_proxy: c_int,
) -> c_int {
    boundary::serving("pre_handshake", OK, || {
        // SAFETY: mod_ssl hands over a live connection, whose pool lives as long.
        unsafe {
            let conf = httpd::settled_conf((*connection).base_server);
            if is_proxy == 0
                && conf.is_some_and(|conf| conf.active.is_some())
                && let Some(slot) = httpd::connection_slot(connection)
            {
                let kept = Connection { ssl, context: None };
                slot.write(httpd::keep((*connection).pool, kept));
            }
        }
        OK
    })
}

unsafe extern "C" fn process_connection(connection: *mut conn_rec) -> c_int {
    boundary::serving("process_connection", DECLINED, || {
        // SAFETY: httpd hands over a live connection; the `SSL` lives as long as it does, and
        // nothing else reads or writes the slot now.
        unsafe {
            let kept = httpd::connection_slot::<Connection>(connection);
            let kept = kept.and_then(|slot| slot.read().as_mut());
            let conf = httpd::settled_conf((*connection).base_server);
            // Plain HTTP on a port for TLS is answered as such: then there is no `SSL` any more.
            if let (Some(kept), Some(openssl)) = (kept, conf.and_then(|conf| conf.active.as_ref()))
                && ap_ssl_conn_is_ssl(connection) != 0
            {
                kept.context = Some(openssl.context_of(kept.ssl).into());
            }
        }
        DECLINED
    })
}

/// The context that the connection of a request uses; none without TLS. A stream of HTTP/2 has a
/// connection of its own, whose master is the real one.
///
/// # Safety
/// `connection` is live.
#[inline]
pub(crate) unsafe fn context(connection: *const conn_rec) -> Option<ContextAddress> {
    // SAFETY: by the caller's promise; what is kept lives as long as the connection, and is written
    // before the first request is read.
    unsafe {
        let master = (*connection).master.cast_const();
        let connection = if master.is_null() { connection } else { master };
        httpd::connection_slot::<Connection>(connection)?.read().as_ref()?.context
    }
}
