//! The module's configuration: one object for each server. Settings that exist once for all servers
//! are in the main server's object.

use std::ffi::{CString, c_void};
use std::ptr::{self, NonNull};
use std::sync::Arc;

use hpkp_core::check::NameSet;
use hpkp_core::header::Kind;
use hpkp_server::openssl::{OpenSsl, SslCtx};
use hpkp_server::sending::Field;
use hpkp_server::setting::{GlobalSettings, ServerSettings};

use crate::bindings::{PROXYREQ_PROXY, apr_pool_t, request_rec, server_rec};
use crate::boundary::{self, OnPanic};
use crate::cstr;
use crate::httpd;
use crate::pool;

/// The settings and the state of a server.
pub(crate) struct ServerConf {
    pub(crate) settings: ServerSettings,
    /// The settings that exist once; used in the main server.
    pub(crate) global: GlobalSettings,
    /// Whether a policy, the last one, is being read.
    pub(crate) is_in_policy: bool,
    /// The context that mod_ssl made for it, or null.
    pub(crate) context: *mut SslCtx,
    /// mod_ssl's OpenSSL; set in every server once a configuration with policies has been accepted.
    pub(crate) active: Option<Arc<OpenSsl>>,
    /// The fields that the server sends; filled in once the configuration has been accepted.
    pub(crate) response: Option<Response>,
}

impl Default for ServerConf {
    fn default() -> Self {
        Self {
            settings: ServerSettings::default(),
            global: GlobalSettings::default(),
            is_in_policy: false,
            context: ptr::null_mut(),
            active: None,
            response: None,
        }
    }
}

/// The data that a server's responses need.
#[derive(Default)]
pub(crate) struct Response {
    pub(crate) enforced: Option<Prepared>,
    pub(crate) report_only: Option<Prepared>,
    /// The hosts for which the enforced policy may be sent, if clients also reach the server by other names.
    pub(crate) names: Option<Arc<NameSet>>,
}

/// A field and its value for C, made once.
pub(crate) struct Prepared {
    pub(crate) field: Field,
    /// The value; empty if the field is withheld on every connection.
    pub(crate) value: CString,
}

impl Response {
    /// None if the server never sends or withholds a field. `names` are the hosts for which the enforced policy may be
    /// sent.
    pub(crate) fn new(fields: Vec<Field>, names: Option<Arc<NameSet>>) -> Option<Self> {
        let mut response = Self { names, ..Self::default() };
        for field in fields {
            let place = match field.kind() {
                Kind::Enforced => &mut response.enforced,
                Kind::ReportOnly => &mut response.report_only,
            };
            let value = cstr::c_string(field.value().unwrap_or_default());
            *place = Some(Prepared { field, value });
        }
        (response.enforced.is_some() || response.report_only.is_some()).then_some(response)
    }
}

/// The configuration of a server; none if httpd does not have the module. No reference to it may exist while httpd may
/// call a directive's handler, which makes its own.
///
/// # Safety
/// `server` is live, and httpd has made this module's object for it: httpd does so before it calls the handler of the
/// first directive in the server (`ap_set_config_vectors`), and for all others before `check_config`
/// (`ap_fixup_virtual_hosts`).
#[inline]
pub(crate) unsafe fn server_conf(server: *const server_rec) -> Option<NonNull<ServerConf>> {
    // SAFETY: by the caller's promise the slot holds a pointer from `create` or `merge`, which never return null.
    unsafe { httpd::slot((*server).module_config).map(|slot| NonNull::new_unchecked(slot.read())) }
}

/// The configuration of a server that has been read.
///
/// # Safety
/// As for [`server_conf`]; the configuration lives, and nothing changes the object, as long as the reference is used.
/// Only directives' handlers, `init_server` and the end of `post_config` change objects, all in httpd's main thread.
#[inline]
pub(crate) unsafe fn settled_conf<'a>(server: *const server_rec) -> Option<&'a ServerConf> {
    // SAFETY: by the caller's promise.
    unsafe { server_conf(server).map(|conf| conf.as_ref()) }
}

pub(crate) unsafe extern "C" fn create(
    pool: *mut apr_pool_t,
    _server: *mut server_rec,
) -> *mut c_void {
    // SAFETY: httpd calls `create_server_config` with `pconf` (`ap_set_config_vectors`, `ap_single_module_configure`,
    // `merge_server_configs` in server/config.c).
    unsafe { make("create_server_config", pool, ServerConf::default) }
}

pub(crate) unsafe extern "C" fn merge(
    pool: *mut apr_pool_t,
    outer: *mut c_void,
    inner: *mut c_void,
) -> *mut c_void {
    // SAFETY: `merge_server_configs` passes `pconf` and two objects from `create`: that of the main server and that of
    // one virtual host. Nothing changes them during the call.
    unsafe {
        let (outer, inner) = (&*outer.cast::<ServerConf>(), &*inner.cast::<ServerConf>());
        make("merge_server_config", pool, || {
            let settings = inner.settings.clone();
            let mut merged = ServerConf { settings, ..ServerConf::default() };
            merged.settings.inherit(&outer.settings);
            merged
        })
    }
}

/// # Safety
/// `pool` is live.
unsafe fn make(
    hook: &str,
    pool: *mut apr_pool_t,
    value: impl FnOnce() -> ServerConf,
) -> *mut c_void {
    // httpd cannot refuse the configuration here. A failure is remembered, and a later hook refuses.
    // SAFETY: by the caller's promise the pool is live.
    let empty = |_: OnPanic| unsafe { pool::alloc_in_pool(pool, ServerConf::default()) };
    // SAFETY: by the caller's promise the pool is live.
    let make = || unsafe { pool::alloc_in_pool(pool, value()) };
    boundary::catch_config_hook(hook, empty, make).cast()
}

/// The data for responses of a request's server, if it sends or withholds a field.
///
/// # Safety
/// `r` is live.
pub(crate) unsafe fn response_of<'a>(r: *const request_rec) -> Option<&'a Response> {
    // Responses of the forward proxy belong to another site, so they get no field.
    // SAFETY: by the caller's promise. `server` is of the configuration that this process serves. That configuration is
    // complete, and a process serves no request any more when it clears `pconf`.
    unsafe {
        if (*r).proxyreq == PROXYREQ_PROXY {
            return None;
        }
        settled_conf((*r).server)?.response.as_ref()
    }
}
