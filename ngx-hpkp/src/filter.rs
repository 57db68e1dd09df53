//! The header filter: exactly one field of each kind, or none.

use std::cell::UnsafeCell;

use hpkp_core::header::Kind;
use hpkp_server::openssl::Ssl;
use hpkp_server::sending::ContextAddress;
use nginx_sys::{
    NGX_HTTP_VERSION_9, ngx_chain_t, ngx_conf_t, ngx_http_request_t, ngx_http_top_body_filter,
    ngx_http_top_header_filter, ngx_int_t, ngx_list_part_t, ngx_list_push, ngx_list_t, ngx_str_t,
    ngx_table_elt_t,
};

use crate::active;
use crate::boundary::{self, OnPanic};
use crate::conf::ServerConf;
use crate::ngx::{ERROR, OK};
use crate::ngx_http_hpkp_module;
use crate::response::{Prepared, Response, Usual};

/// The next filter in the chain.
struct Next<T>(UnsafeCell<Option<T>>);

// SAFETY: `install` writes the value while nginx reads a configuration, when no filter runs. Filters read it in the
// same thread.
unsafe impl<T> Sync for Next<T> {}

type HeaderFilter = unsafe extern "C" fn(*mut ngx_http_request_t) -> ngx_int_t;
type BodyFilter = unsafe extern "C" fn(*mut ngx_http_request_t, *mut ngx_chain_t) -> ngx_int_t;

static NEXT: Next<HeaderFilter> = Next(UnsafeCell::new(None));
static NEXT_BODY: Next<BodyFilter> = Next(UnsafeCell::new(None));
#[cfg(ngx_early_hints)]
static NEXT_EARLY_HINTS: Next<HeaderFilter> = Next(UnsafeCell::new(None));

/// `postconfiguration`: puts the filters at the beginning of the chains.
pub(crate) unsafe extern "C" fn install(_cf: *mut ngx_conf_t) -> ngx_int_t {
    let after = |on_panic: OnPanic| on_panic.either(ERROR, OK);
    boundary::catch_config_hook_late("postconfiguration", after, || {
        // SAFETY: nginx's own filters change these variables in the same way, in `postconfiguration`, which
        // `ngx_http_block` calls in the only thread, while no filter runs.
        unsafe {
            *NEXT.0.get() = ngx_http_top_header_filter;
            ngx_http_top_header_filter = Some(filter);
            *NEXT_BODY.0.get() = ngx_http_top_body_filter;
            ngx_http_top_body_filter = Some(body_filter);
            #[cfg(ngx_early_hints)]
            {
                *NEXT_EARLY_HINTS.0.get() = nginx_sys::ngx_http_top_early_hints_filter;
                nginx_sys::ngx_http_top_early_hints_filter = Some(early_hints_filter);
            }
        }
        OK
    })
}

unsafe extern "C" fn filter(r: *mut ngx_http_request_t) -> ngx_int_t {
    // A request without a policy costs only these two tests.
    // SAFETY: nginx calls a header filter with a live request (`ngx_http_send_header`).
    unsafe {
        match response(r) {
            Some(response) if r == (*r).main => filter_with(r, response),
            _ => next(r),
        }
    }
}

/// The filter for a server with something to send. It is not inlined, because the compiler would then save its
/// registers for all responses.
///
/// # Safety
/// `r` is a live request whose header has not been sent.
#[inline(never)]
unsafe extern "C" fn filter_with(r: *mut ngx_http_request_t, response: &Response) -> ngx_int_t {
    // SAFETY: by the caller's promise; `response` is in the configuration of the request.
    unsafe {
        boundary::catch_request_hook("header_filter", (), || set_fields(r, response));
        next(r)
    }
}

/// # Safety
/// As for [`filter`].
unsafe fn next(r: *mut ngx_http_request_t) -> ngx_int_t {
    // SAFETY: see `Next`. The next filter expects the same argument as `filter`.
    unsafe {
        match *NEXT.0.get() {
            Some(next) => next(r),
            None => OK,
        }
    }
}

/// The filter of interim responses: this server's fields belong in the final response, and fields of others in neither.
#[cfg(ngx_early_hints)]
unsafe extern "C" fn early_hints_filter(r: *mut ngx_http_request_t) -> ngx_int_t {
    // SAFETY: nginx calls a filter of early hints with a live request (`ngx_http_send_early_hints`), whose list of
    // headers has the fields of the interim response. For the next filter see `Next`.
    unsafe {
        boundary::catch_request_hook("early_hints_filter", (), || {
            if let Some(response) = response(r) {
                take_out_all(&raw mut (*r).headers_out.headers, response);
            }
        });
        match *NEXT_EARLY_HINTS.0.get() {
            Some(next) => next(r),
            None => OK,
        }
    }
}

/// Removes the fields from trailers, which come from an upstream or from `add_trailer`. They are complete when the end
/// of the body reaches this filter.
unsafe extern "C" fn body_filter(r: *mut ngx_http_request_t, chain: *mut ngx_chain_t) -> ngx_int_t {
    // A request without trailers costs only this test.
    // SAFETY: nginx calls a body filter with a live request and a chain (`ngx_http_output_filter`). For the next filter
    // see `Next`.
    unsafe {
        if (*r).headers_out.trailers.part.nelts != 0 {
            remove_from_trailers(r);
        }
        match *NEXT_BODY.0.get() {
            Some(next) => next(r, chain),
            None => OK,
        }
    }
}

/// # Safety
/// `r` is a live request.
#[inline(never)]
unsafe extern "C" fn remove_from_trailers(r: *mut ngx_http_request_t) {
    // SAFETY: by the caller's promise; only this thread uses the list of trailers.
    boundary::catch_request_hook("body_filter", (), || unsafe {
        if let Some(response) = response(r) {
            take_out_all(&raw mut (*r).headers_out.trailers, response);
        }
    });
}

/// Removes the fields that this server governs from a list of an interim response or of trailers.
///
/// # Safety
/// `list` is a live list of fields, which nothing else refers to meanwhile.
unsafe fn take_out_all(list: *mut ngx_list_t, response: &Response) {
    for prepared in [&response.enforced, &response.report_only].into_iter().flatten() {
        // SAFETY: by the caller's promise.
        unsafe { take_out(&raw mut (*list).part, &prepared.element.key) };
    }
}

/// What the server of this request sends, if anything.
///
/// # Safety
/// `r` is a live request.
unsafe fn response<'a>(r: *const ngx_http_request_t) -> Option<&'a Response> {
    if !active::is_active() {
        return None;
    }
    // SAFETY: by the caller's promise. The configuration of the request has this module (`is_active`), so the slot has
    // the object that `create_server` made. nginx keeps the cycle until no connection uses it (`ngx_clean_old_cycles`,
    // and the end of a worker). Only without a master can one process serve requests of two configurations, of which
    // the older may lack the module; nginx then calls the new filters of any module for them.
    unsafe {
        let conf = *(*r).srv_conf.add(ngx_http_hpkp_module.ctx_index);
        (*conf.cast::<ServerConf>()).response.as_ref()
    }
}

/// # Safety
/// `r` is a live request whose header has not been sent.
unsafe fn set_fields(r: *mut ngx_http_request_t, response: &Response) {
    // SAFETY: by the caller's promise; `ssl` is that of the connection of `r`.
    unsafe {
        let ssl = ssl(r);
        if let Some(prepared) = &response.enforced {
            set_field(r, ssl, prepared, response);
        }
        if let Some(prepared) = &response.report_only {
            set_field(r, ssl, prepared, response);
        }
    }
}

/// # Safety
/// As for [`set_fields`]; `ssl` is that of the request's connection.
#[inline(always)]
unsafe fn set_field(
    r: *mut ngx_http_request_t,
    ssl: *const Ssl,
    prepared: &Prepared,
    response: &Response,
) {
    // SAFETY: by the caller's promise. Only this thread uses the list of headers. `ngx_list_push` returns null or room
    // for one `ngx_table_elt_t`. The strings of `prepared` are in the configuration, which outlives the request.
    unsafe {
        let list = &raw mut (*r).headers_out.headers;
        let (part, name) = (&raw mut (*list).part, &prepared.element.key);
        if elements(part).any(|element| (*element).key.len == name.len) {
            take_out(part, name);
        }
        if !ssl.is_null()
            && (is_usual(ssl, prepared, response) || is_sent(r, ssl, prepared, response))
        {
            let new: *mut ngx_table_elt_t = ngx_list_push(list).cast();
            // Without memory nginx will notice by itself; nothing was added.
            if !new.is_null() {
                new.write(prepared.element);
            }
        }
    }
}

/// Whether a connection is one of the usual ones, on which the field is sent most often.
///
/// # Safety
/// `ssl` is the live `SSL` of a connection, used only by this thread.
#[inline(always)]
unsafe fn is_usual(ssl: *const Ssl, prepared: &Prepared, response: &Response) -> bool {
    // SAFETY: by the caller's promise. OpenSSL changes the session only in its functions for this connection, none of
    // which is called while `data` is used.
    unsafe {
        match prepared.usual {
            Usual::None => false,
            Usual::Presented(id) => {
                response.openssl.presented(ssl).is_some_and(|data| data.id() == Some(id))
            }
            Usual::Context(own) => ContextAddress::from(response.openssl.context_of(ssl)) == own,
        }
    }
}

/// Removes every field with this name from a list. Not inlined, because few lists have a name of this length.
///
/// # Safety
/// `part` is the first part of a live list of fields, which nothing else refers to meanwhile.
#[inline(never)]
unsafe fn take_out(part: *mut ngx_list_part_t, name: &ngx_str_t) {
    // SAFETY: by the caller's promise; the list itself does not change here.
    for element in unsafe { elements(part) } {
        // SAFETY: whoever pushes an element fills it in before it calls a filter; nginx's own header filter reads every
        // element as well. Nothing else refers to the element meanwhile.
        let element = unsafe { &mut *element };
        if element.key.len == name.len
            && element.key.as_bytes().eq_ignore_ascii_case(name.as_bytes())
        {
            // This removes a field in nginx: header filters skip elements with hash 0.
            element.hash = 0;
        }
    }
}

/// The `SSL` of the request's connection; null without TLS.
///
/// # Safety
/// `r` is a live request.
unsafe fn ssl(r: *const ngx_http_request_t) -> *const Ssl {
    // SAFETY: by the caller's promise. A request has a connection. `ngx_ssl_create_connection` sets `ssl` only together
    // with its `SSL`, and `ngx_ssl_shutdown` frees the `SSL` when nginx closes the connection, after its requests.
    unsafe {
        let tls = (*(*r).connection).ssl;
        if tls.is_null() { std::ptr::null() } else { (*tls).connection.cast() }
    }
}

/// Whether the field is sent on a connection that is not a usual one. Not inlined, because most connections are usual.
///
/// # Safety
/// `r` is a live request, and `ssl` that of its connection.
#[inline(never)]
unsafe fn is_sent(
    r: *const ngx_http_request_t,
    ssl: *const Ssl,
    prepared: &Prepared,
    response: &Response,
) -> bool {
    let is_enforced = prepared.field.kind() == Kind::Enforced;
    let names = response.names.as_deref().filter(|_| is_enforced);
    // SAFETY: by the caller's promise. `headers_in.server` is the host, in lower case and without its port
    // (`ngx_http_validate_host`), in the memory of the request.
    let host = unsafe { (*r).headers_in.server.as_bytes() };
    if names.is_some_and(|names| !names.has(host)) {
        return false;
    }
    // SAFETY: by the caller's promise; for the session see `is_usual`.
    unsafe {
        let data = response.openssl.presented(ssl);
        let is_sent = match data {
            Some(data) if prepared.field.is_sent_with(data) => true,
            Some(_) if is_enforced => false,
            _ => is_sent_on_context(ssl, prepared, response),
        };
        let is_withheld = !is_sent && is_enforced && prepared.field.value().is_some();
        if let Some(withheld) = response.withheld.as_ref().filter(|_| is_withheld) {
            withheld.note(r, data);
        }
        is_sent
    }
}

/// Whether the field is sent on a connection whose session has no data because it was begun before this module was
/// loaded. The context of the connection decides.
///
/// # Safety
/// As for [`is_usual`].
unsafe fn is_sent_on_context(ssl: *const Ssl, prepared: &Prepared, response: &Response) -> bool {
    // SAFETY: by the caller's promise.
    let context = ContextAddress::from(unsafe { response.openssl.context_of(ssl) });
    if !prepared.field.is_sent_on(context) {
        return false;
    }
    let of = response.replaceable.binary_search_by_key(&context, |of| of.context);
    let Ok(of) = of.map(|position| &response.replaceable[position]) else { return true };
    // SAFETY: by the caller's promise.
    unsafe {
        !(of.unseen && response.openssl.is_resumed(ssl))
            && of.loaded.contains(&response.openssl.certificate_of(ssl))
    }
}

/// The elements of a list.
///
/// # Safety
/// `part` is the first part of a live list of fields, which does not change meanwhile.
unsafe fn elements(mut part: *mut ngx_list_part_t) -> impl Iterator<Item = *mut ngx_table_elt_t> {
    let mut index = 0;
    std::iter::from_fn(move || {
        // SAFETY: by the caller's promise. Each part of an `ngx_list_t` has `nelts` elements at `elts`; `next` is null
        // in the last part.
        unsafe {
            while !part.is_null() && index == (*part).nelts {
                part = (*part).next;
                index = 0;
            }
            if part.is_null() {
                return None;
            }
            index += 1;
            Some((*part).elts.cast::<ngx_table_elt_t>().add(index - 1))
        }
    })
}

/// The status of the header of a request, for the access log.
pub(crate) enum HeaderStatus<'a> {
    /// No policy, or no TLS.
    Off,
    /// The field is not in the response.
    Withheld,
    /// The field is in the response, with this value.
    Sent(&'a str),
}

/// How many responses of a request's server were sent without the header, because the connection presented a
/// certificate that fails the policy. None if they are not counted.
///
/// # Safety
/// `r` is a live request.
pub(crate) unsafe fn withheld(r: *const ngx_http_request_t) -> Option<u64> {
    // SAFETY: by the caller's promise.
    unsafe { response(r) }?.withheld.as_ref()?.count()
}

/// Whether the field of the enforced policy is in the response, or without an enforced policy that of the report-only
/// one.
///
/// # Safety
/// `r` is a live request.
pub(crate) unsafe fn header_status<'a>(r: *mut ngx_http_request_t) -> HeaderStatus<'a> {
    // SAFETY: by the caller's promise.
    unsafe {
        let Some(response) = response::<'a>(r) else { return HeaderStatus::Off };
        let first = response.enforced.as_ref().or(response.report_only.as_ref());
        let Some(first) = first.filter(|_| !ssl(r).is_null()) else {
            return HeaderStatus::Off;
        };
        match first.field.value().filter(|_| is_in_header(r, &first.element)) {
            Some(value) => HeaderStatus::Sent(value),
            None => HeaderStatus::Withheld,
        }
    }
}

/// Whether this module's element is in the response's header: the status tells what was sent, not what was intended.
///
/// # Safety
/// `r` is a live request.
unsafe fn is_in_header(r: *mut ngx_http_request_t, ours: &ngx_table_elt_t) -> bool {
    // An answer in HTTP/0.9 has no header.
    // SAFETY: by the caller's promise.
    if unsafe { (*r).http_version } == NGX_HTTP_VERSION_9 as usize {
        return false;
    }
    // SAFETY: by the caller's promise. `main` is the request itself, or the request of a subrequest, which lives
    // longer.
    let mut elements = unsafe { elements(&raw mut (*(*r).main).headers_out.headers.part) };
    elements.any(|element| {
        // SAFETY: as in `take_out`.
        let element = unsafe { &*element };
        element.hash != 0
            && element.key.len == ours.key.len
            && std::ptr::eq(element.value.data, ours.value.data)
    })
}
