//! The state of a TLS connection: which context it uses, which is known once the handshake has named the host, and
//! whether the data sent on it may be an interim response.

use std::ffi::{c_char, c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use hpkp_server::interim::InterimHeaders;
use hpkp_server::openssl::Ssl;
use hpkp_server::sending::ContextAddress;

use crate::bindings::{
    APR_HOOK_MIDDLE, ap_add_output_filter_handle, ap_filter_rec_t, ap_filter_t,
    ap_hook_process_connection, apr_bucket_brigade, apr_optional_hook_add, conn_rec, request_rec,
};
use crate::conf;
use crate::httpd::{self, DECLINED, OK};
use crate::pool;
use crate::{boundary, bucket};

/// The state of a TLS connection, or of a stream of HTTP/2 on one.
pub(crate) struct Connection {
    /// The `SSL`; null for a stream.
    ssl: *const Ssl,
    context: Option<ContextAddress>,
    has_filter: bool,
    /// The request whose final response has not begun; null if there is none.
    waiting: *const request_rec,
    /// The parser of the interim responses sent so far. None before the first one, since most requests have none.
    interim: Option<InterimHeaders>,
}

impl Connection {
    const fn new(ssl: *const Ssl, context: Option<ContextAddress>) -> Self {
        Self { ssl, context, has_filter: false, waiting: ptr::null(), interim: None }
    }
}

/// Names of modules, terminated by null, for httpd's hooks.
#[repr(transparent)]
struct Names([*const c_char; 2]);

// SAFETY: the two pointers are a static string and null, and httpd's hook functions only read the names.
unsafe impl Sync for Names {}

/// mod_ssl's signature for `pre_handshake`.
type PreHandshake = unsafe extern "C" fn(*mut conn_rec, *mut Ssl, c_int) -> c_int;

/// httpd's function that tells whether a connection is on TLS, since 2.4.47. It is looked up at run time, so that the
/// module can report an older httpd instead of failing to load.
static IS_SSL: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());

/// Whether this httpd has the functions that the module needs.
pub(crate) fn is_supported() -> bool {
    !IS_SSL.load(Ordering::Relaxed).is_null()
}

/// # Safety
/// `connection` is live.
unsafe fn is_ssl(connection: *mut conn_rec) -> bool {
    type IsSsl = unsafe extern "C" fn(*mut conn_rec) -> c_int;
    let address = IS_SSL.load(Ordering::Relaxed);
    if address.is_null() {
        return false;
    }
    // SAFETY: the address is that of httpd's `ap_ssl_conn_is_ssl`, which has this signature in http_ssl.h in every
    // version that has the function.
    let is_ssl = unsafe { std::mem::transmute::<*mut c_void, IsSsl>(address) };
    // SAFETY: by the caller's promise the connection is live; the function only reads the modules' states of it.
    unsafe { is_ssl(connection) != 0 }
}

/// # Safety
/// httpd is calling `register_hooks`.
pub(crate) unsafe fn register() {
    // SAFETY: the name ends with a null byte, and dlsym only looks it up.
    let is_ssl = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"ap_ssl_conn_is_ssl".as_ptr()) };
    IS_SSL.store(is_ssl, Ordering::Relaxed);
    static AFTER: Names = Names([c"mod_ssl.c".as_ptr(), ptr::null()]);
    static BEFORE: Names = Names([c"mod_http2.c".as_ptr(), ptr::null()]);
    // SAFETY: by the caller's promise httpd accepts hooks now; it keeps the pointers to the static lists of names.
    // `apr_optional_hook_add` takes a function of any type; mod_ssl calls it as declared by
    // APR_DECLARE_EXTERNAL_HOOK(ssl, SSL, int, pre_handshake, (conn_rec *, SSL *, int)) in mod_ssl_openssl.h, which is
    // `PreHandshake`.
    unsafe {
        let hook: PreHandshake = pre_handshake;
        apr_optional_hook_add(
            c"pre_handshake".as_ptr(),
            Some(std::mem::transmute::<PreHandshake, unsafe extern "C" fn()>(hook)),
            ptr::null(),
            ptr::null(),
            APR_HOOK_MIDDLE,
        );
        // The hook must run after mod_ssl's handshake and before mod_http2 takes over.
        ap_hook_process_connection(
            Some(process_connection),
            AFTER.0.as_ptr(),
            BEFORE.0.as_ptr(),
            APR_HOOK_MIDDLE,
        );
    }
}

/// mod_ssl's hook: the handshake of a connection is about to begin.
unsafe extern "C" fn pre_handshake(
    connection: *mut conn_rec,
    ssl: *mut Ssl,
    is_proxy: c_int,
) -> c_int {
    boundary::catch_request_hook("pre_handshake", OK, || {
        // SAFETY: mod_ssl's `ssl_init_ssl_connection` calls this hook with a live connection and its new `SSL`, in the
        // thread that serves the connection. `pool` lives as long as the connection. Nothing else has a pointer to the
        // slot, which is null so far.
        unsafe {
            let conf = conf::settled_conf((*connection).base_server);
            let wanted = is_proxy == 0 && conf.is_some_and(|conf| conf.active.is_some());
            let slot = if wanted { httpd::connection_slot(connection) } else { None };
            if let Some(slot) = slot {
                slot.write(pool::alloc_in_pool((*connection).pool, Connection::new(ssl, None)));
            }
        }
        OK
    })
}

unsafe extern "C" fn process_connection(connection: *mut conn_rec) -> c_int {
    boundary::catch_request_hook("process_connection", DECLINED, || {
        // SAFETY: httpd's `ap_process_connection` calls this hook with a live connection, in the thread that serves it,
        // before it reads a request, so nothing else uses the slot or the object in it. mod_ssl frees the `SSL` only
        // together with its own pointer to it (`sslconn->ssl = NULL`), and `is_ssl` asks whether it still has one.
        unsafe {
            let kept = httpd::connection_slot::<Connection>(connection);
            let kept = kept.and_then(|slot| slot.read().as_mut());
            let conf = conf::settled_conf((*connection).base_server);
            let active = conf.and_then(|conf| conf.active.as_ref());
            // mod_ssl answers plain HTTP on a TLS port in plain text; then the `SSL` does not exist any more.
            if let Some((kept, openssl)) = kept.zip(active).filter(|_| is_ssl(connection)) {
                kept.context = Some(openssl.context_of(kept.ssl).into());
            }
        }
        DECLINED
    })
}

/// The context that the connection of a request uses; none without TLS. A stream of HTTP/2 has a connection of its own,
/// whose master is the TLS connection.
///
/// # Safety
/// `connection` is live.
#[inline]
pub(crate) unsafe fn context(connection: *const conn_rec) -> Option<ContextAddress> {
    // SAFETY: by the caller's promise; a master outlives its streams. The state of a connection is in its pool.
    unsafe {
        let master = (*connection).master.cast_const();
        kept_context(own(if master.is_null() { connection } else { master }))
    }
}

/// The context in the state of a connection, which may be null.
///
/// # Safety
/// `kept` is null or the state of a live connection.
#[inline]
pub(crate) unsafe fn kept_context(kept: *const Connection) -> Option<ContextAddress> {
    // SAFETY: by the caller's promise. `process_connection` writes the field before the connection has a request or a
    // stream, so the threads of HTTP/2 streams only read it. No reference is made, since the thread of the master may
    // write other fields at the same time.
    unsafe { if kept.is_null() { None } else { (*kept).context } }
}

/// The state of a request's own connection, not of its master; null if there is none. The result is a pointer, because
/// HTTP/2 streams read the context of their master at the same time.
///
/// # Safety
/// `connection` is live.
#[inline]
unsafe fn own(connection: *const conn_rec) -> *mut Connection {
    // SAFETY: by the caller's promise; the slot is null or has a pointer from `pre_handshake` or
    // `first_request_begins`.
    unsafe { httpd::connection_slot(connection).map_or(ptr::null_mut(), |slot| slot.read()) }
}

/// Called when a request begins. Returns the state of its connection, null without TLS. Until the final response
/// begins, the data sent may be an interim response, which httpd writes directly to the connection, not through the
/// filters of the request.
///
/// # Safety
/// `request` is a live request that this thread serves, and `filter` is the handle of this module's connection filter.
#[inline]
pub(crate) unsafe fn request_begins(
    request: *mut request_rec,
    filter: *mut ap_filter_rec_t,
) -> *mut Connection {
    // SAFETY: by the caller's promise. The state lives in the pool of the connection, as long as its requests. Only the
    // thread that serves the connection uses `has_filter`, `waiting` and `interim`.
    unsafe {
        let mut kept = own((*request).connection);
        if kept.is_null() || !(*kept).has_filter {
            kept = first_request_begins(request, filter);
        }
        if !kept.is_null() {
            (*kept).waiting = request;
            (*kept).interim = None;
        }
        kept
    }
}

/// # Safety
/// As for [`request_begins`].
#[inline(never)]
unsafe fn first_request_begins(
    request: *mut request_rec,
    filter: *mut ap_filter_rec_t,
) -> *mut Connection {
    // SAFETY: as in `request_begins`. httpd allocates the new filter in the pool of the connection, as `kept` is. Both
    // lists of filters of the request are live, and only this thread uses them.
    unsafe {
        let connection = (*request).connection;
        let mut kept = own(connection);
        if kept.is_null() {
            // A stream of HTTP/2 has a connection of its own, which has no state yet.
            let Some(slot) = httpd::connection_slot(connection) else { return kept };
            let Some(context) = context(connection) else { return kept };
            kept = pool::alloc_in_pool(
                (*connection).pool,
                Connection::new(ptr::null(), Some(context)),
            );
            slot.write(kept);
        }
        (*kept).has_filter = true;
        let behind = (*connection).output_filters;
        ap_add_output_filter_handle(filter, kept.cast(), ptr::null_mut(), connection);
        let new = (*connection).output_filters;
        // The request's filters still lead to the earlier first filter of the connection.
        redirect(&raw mut (*request).output_filters, behind, new);
        redirect(&raw mut (*request).proto_output_filters, behind, new);
        kept
    }
}

/// Makes the filters that lead to `behind` lead to `new`, which leads to `behind`.
///
/// # Safety
/// `list` is the pointer to the first filter of a live list, which only this thread uses.
unsafe fn redirect(
    mut list: *mut *mut ap_filter_t,
    behind: *mut ap_filter_t,
    new: *mut ap_filter_t,
) {
    // SAFETY: by the caller's promise; `next` is the next filter of the list, and null in the last one.
    unsafe {
        while !(*list).is_null() && *list != new {
            if *list == behind {
                *list = new;
                return;
            }
            list = &raw mut (**list).next;
        }
    }
}

/// Called when the final response of a request begins.
///
/// # Safety
/// `kept` is null or the state of a live connection that this thread serves.
#[inline]
pub(crate) unsafe fn response_begins(kept: *mut Connection) {
    // SAFETY: by the caller's promise; only this thread uses `waiting`.
    unsafe {
        if !kept.is_null() {
            (*kept).waiting = ptr::null();
        }
    }
}

/// Called when a request ends, perhaps while the next request of its connection is already served.
///
/// # Safety
/// `request` is a live request that this thread serves.
pub(crate) unsafe fn request_ends(request: *const request_rec) {
    // SAFETY: as in `request_begins`.
    unsafe {
        let kept = own((*request).connection);
        if !kept.is_null() && ptr::eq((*kept).waiting, request) {
            (*kept).waiting = ptr::null();
        }
    }
}

/// Whether the data sent on a connection may be an interim response.
///
/// # Safety
/// `kept` is the state of a live connection that this thread serves.
#[inline]
pub(crate) unsafe fn may_be_interim(kept: *const Connection) -> bool {
    // SAFETY: by the caller's promise; only this thread uses `waiting`.
    unsafe { !(*kept).waiting.is_null() }
}

/// Removes the two fields from the data sent on a connection before a final response.
///
/// # Safety
/// As for [`may_be_interim`], and `brigade` is live.
pub(crate) unsafe fn clean(kept: *mut Connection, brigade: *mut apr_bucket_brigade) {
    // SAFETY: as in `request_begins`. `waiting` is a live request: httpd runs `log_transaction`, and so `request_ends`,
    // before it frees the memory of a request (`eor_bucket_cleanup`). `ap_read_request` also destroys one without that
    // hook, if the request cannot be read. httpd then only flushes and closes the connection, so no bucket with data
    // comes here, and `rewrite` does not call the closure that follows the pointer.
    unsafe {
        let request = (*kept).waiting;
        let interim = (*kept).interim.get_or_insert_default();
        let is_done = bucket::rewrite(brigade, |bytes, out| {
            // Data of a server without a policy are not changed.
            if conf::response_of(request).is_none() {
                return false;
            }
            interim.pass(bytes, out);
            true
        });
        if !is_done || interim.is_through() {
            (*kept).waiting = ptr::null();
        }
    }
}
