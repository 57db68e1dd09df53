//! The variables of the guard. They have values only during a handshake, because the key must not get into logs and
//! headers.

use std::rc::Rc;

use hpkp_core::published::HostName;
use hpkp_server::guard::{Given, Pair, Question, wipe};
use hpkp_server::nginx::{CERTIFICATE, KEY};
use nginx_sys::{
    NGX_HTTP_VAR_NOCACHEABLE, nginx_version, ngx_cached_time, ngx_conf_t, ngx_cycle,
    ngx_http_add_variable, ngx_http_request_t, ngx_http_variable_value_t, ngx_int_t, ngx_str_t,
    ngx_uint_t,
};

use super::worker::Worker;
use crate::conf::{MainConf, ServerConf};
use crate::ngx::{self, ERROR, OK, own_module, string};
use crate::{active, boundary, pool};

/// The certificate and key of one handshake, kept in the request that nginx makes for it, so that both variables have
/// values of the same time.
struct Presented {
    /// The chosen pair; none if nginx uses the given values.
    pair: Option<Rc<Pair>>,
    given: [ngx_str_t; 2],
    /// Whether the given key is in memory of the request.
    is_copied: bool,
}

impl Drop for Presented {
    fn drop(&mut self) {
        let [_, key] = self.given;
        if self.is_copied && key.len != 0 {
            // SAFETY: `ngx_http_complex_value` has allocated this copy of the key in the request's pool for this value
            // alone. This runs as a cleanup of that pool, before `ngx_destroy_pool` frees its memory.
            unsafe { wipe(std::slice::from_raw_parts_mut(key.data, key.len)) };
        }
    }
}

/// `preconfiguration`: makes the variables known.
///
/// # Safety
/// `cf` is the `cf` with which nginx calls `preconfiguration`.
pub(crate) unsafe fn add(cf: *mut ngx_conf_t) -> ngx_int_t {
    for (index, name) in [CERTIFICATE, KEY].into_iter().enumerate() {
        let mut name = string(name);
        let flags = NGX_HTTP_VAR_NOCACHEABLE as ngx_uint_t;
        // SAFETY: by the caller's promise. `ngx_http_add_variable` copies the name into the pool.
        let variable = unsafe { ngx_http_add_variable(cf, &raw mut name, flags) };
        if variable.is_null() {
            return ERROR;
        }
        // SAFETY: the variable that `ngx_http_add_variable` returns lives as long as the configuration, and only this
        // thread uses it.
        unsafe {
            (*variable).get_handler = Some(value);
            (*variable).data = index;
        }
    }
    OK
}

unsafe extern "C" fn value(
    r: *mut ngx_http_request_t,
    value: *mut ngx_http_variable_value_t,
    index: usize,
) -> ngx_int_t {
    // SAFETY: nginx calls a `get_handler` with a live request and a value that only this call uses. The texts are in
    // the request's pool, in the configuration, or in the `Pair` that `Presented` keeps as long as the request.
    unsafe {
        let text = in_handshake(r).and_then(|conf| presented(r, conf)).and_then(|presented| {
            let pair = (*presented).pair.as_ref();
            let texts = pair.map(|pair| [&pair.text.certificate, &pair.text.key]);
            let texts = texts.map(|texts| texts.map(|text| (text.as_ptr(), text.len())));
            let given = (*presented).given.map(|given| (given.data.cast_const(), given.len));
            texts.unwrap_or(given).get(index).copied()
        });
        match text {
            Some((data, length)) if length != 0 => {
                (*value).set_len(length as u32);
                (*value).set_valid(1);
                (*value).set_no_cacheable(1);
                (*value).set_not_found(0);
                (*value).data = data.cast_mut();
            }
            _ => (*value).set_not_found(1),
        }
    }
    OK
}

/// The server of a request that nginx has made for a handshake; none for requests of clients.
///
/// # Safety
/// `r` is a live request.
unsafe fn in_handshake<'a>(r: *const ngx_http_request_t) -> Option<&'a ServerConf> {
    if !active::is_active() {
        return None;
    }
    // SAFETY: by the caller's promise; a request has a connection. The configuration of the request has this module
    // (`is_active`), so the slot has the object that `create_server` made.
    unsafe {
        let tls = (*(*r).connection).ssl;
        if tls.is_null() || (*tls).handshaked() != 0 {
            return None;
        }
        let conf = *(*r).srv_conf.add((*own_module()).ctx_index);
        conf.cast::<ServerConf>().as_ref()
    }
}

/// The certificate and key for the handshake of a request, chosen once.
///
/// # Safety
/// `r` is a live request that nginx has made for a handshake (`ngx_http_ssl_certificate`), and `conf` is this module's
/// configuration for the server of `r`.
unsafe fn presented(r: *mut ngx_http_request_t, conf: &ServerConf) -> Option<*const Presented> {
    // SAFETY: by the caller's promise. `ctx` of a request has a slot for each HTTP module, null at first, which only
    // that module uses. The object in it is in the request's pool.
    unsafe {
        let place = (*r).ctx.add((*own_module()).ctx_index);
        if (*place).is_null() {
            // If the check has failed, the given certificate is better than none.
            let guarded = conf.guarded.as_ref();
            let values = guarded.map(|guarded| guarded.values).or(conf.given)?;
            let given = values.of(r)?;
            let choose = || choose(r, guarded?.host, given);
            let chosen = boundary::catch_handshake_hook("guard", choose);
            let (pair, is_copied) = (chosen.flatten(), values.is_copied());
            *place = pool::alloc_in_pool((*r).pool, Presented { pair, given, is_copied }).cast();
        }
        let presented: *const Presented = (*place).cast();
        (!presented.is_null()).then_some(presented)
    }
}

/// # Safety
/// As for [`presented`].
unsafe fn choose(
    r: *mut ngx_http_request_t,
    host: usize,
    [certificate, key]: [ngx_str_t; 2],
) -> Option<Rc<Pair>> {
    // SAFETY: by the caller's promise the connection has an `SSL`, which is in its handshake; the name that the client
    // has sent does not change while this runs. The slot has the object that `create_main` made. For `ngx_cached_time`
    // see `Worker::report_files`.
    unsafe {
        let main: *const MainConf = (*(*r).main_conf.add((*own_module()).ctx_index)).cast();
        let worker: &Worker = (*main).worker.as_ref()?;
        let ssl = (*(*(*r).connection).ssl).connection;
        let name = worker.openssl.server_name(ssl.cast());
        let name = name.and_then(|name| std::str::from_utf8(name).ok()?.parse::<HostName>().ok());
        let (certificate, key) = (certificate.as_bytes(), key.as_bytes());
        let given = Given::read(certificate, key, nginx_version >= 1_029_000, full_path);
        let now = (*ngx_cached_time).sec;
        let name = name.as_ref().map_or("", HostName::as_str);
        worker.choose(Question { host, name, given, now }).pair
    }
}

/// A path as nginx makes it absolute while it serves.
fn full_path(path: &str) -> String {
    if path.starts_with('/') {
        return path.to_owned();
    }
    // SAFETY: a process that serves clients has a cycle in effect, and nginx does not change its `conf_prefix`.
    format!("{}{path}", ngx::text(unsafe { &(*ngx_cycle).conf_prefix }))
}
