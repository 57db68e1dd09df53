//! The header filter: exactly one field of each kind, or none.

use std::cell::UnsafeCell;

use hpkp_core::header::Kind;
use hpkp_server::openssl::Ssl;
use hpkp_server::sending::{ContextAddress, Field};
use nginx_sys::{
    NGX_HTTP_VERSION_9, ngx_conf_t, ngx_http_output_header_filter_pt, ngx_http_request_t,
    ngx_http_top_header_filter, ngx_int_t, ngx_list_part_t, ngx_list_push, ngx_table_elt_t,
};

use crate::boundary::{self, Aftermath};
use crate::conf::{Response, ServerConf};
use crate::ngx::{ERROR, OK, string};
use crate::ngx_http_hpkp_module;

/// The next filter on the way of a response.
struct Next(UnsafeCell<ngx_http_output_header_filter_pt>);

// SAFETY: written while the configuration is read, by one thread; only read afterwards.
unsafe impl Sync for Next {}

static NEXT: Next = Next(UnsafeCell::new(None));

/// The name of a field, as it is sent and in lower case.
const fn names(kind: Kind) -> (&'static str, &'static str) {
    match kind {
        Kind::Enforced => (kind.field_name(), "public-key-pins"),
        Kind::ReportOnly => (kind.field_name(), "public-key-pins-report-only"),
    }
}

/// `postconfiguration`: puts the filter in front of those that are there already.
pub(crate) unsafe extern "C" fn install(_cf: *mut ngx_conf_t) -> ngx_int_t {
    let after = |aftermath| match aftermath {
        Aftermath::Refuse => ERROR,
        Aftermath::GoOn => OK,
    };
    boundary::configuring("postconfiguration", after, || {
        // SAFETY: nginx builds the chain of filters in one thread, before it serves anything.
        unsafe {
            *NEXT.0.get() = ngx_http_top_header_filter;
            ngx_http_top_header_filter = Some(filter);
        }
        OK
    })
}

unsafe extern "C" fn filter(r: *mut ngx_http_request_t) -> ngx_int_t {
    // SAFETY: nginx hands over a live request. What is off costs no more than these two looks.
    unsafe {
        if let Some(response) = response(r)
            && r == (*r).main
        {
            boundary::serving("header_filter", (), || set_fields(r, response));
        }
        match *NEXT.0.get() {
            Some(next) => next(r),
            None => OK,
        }
    }
}

/// What the server of this request sends, if anything.
///
/// # Safety
/// `r` is a live request.
unsafe fn response<'a>(r: *const ngx_http_request_t) -> Option<&'a Response> {
    // SAFETY: by the caller's promise; the slot holds what `create_server` made, and it lives as
    // long as the configuration, which lives as long as its requests.
    unsafe {
        let conf = *(*r).srv_conf.add(ngx_http_hpkp_module.ctx_index);
        (*conf.cast::<ServerConf>()).response.as_ref()
    }
}

/// # Safety
/// `r` is a live request whose header has not been sent.
unsafe fn set_fields(r: *mut ngx_http_request_t, response: &Response) {
    // SAFETY: by the caller's promise.
    let context = unsafe { context(r, response) };
    for field in &response.fields {
        let (name, lower_case) = names(field.kind());
        // SAFETY: by the caller's promise.
        let elements = unsafe { elements(&raw mut (*r).headers_out.headers.part) };
        for element in elements {
            // SAFETY: the list holds elements; nothing else refers to them now.
            let element = unsafe { &mut *element };
            if element.key.len == name.len()
                && element.key.as_bytes().eq_ignore_ascii_case(lower_case.as_bytes())
            {
                // nginx's way to take a field out: header filters pass over these.
                element.hash = 0;
            }
        }
        let Some(value) = context.and_then(|context| field.value_on(context)) else { continue };
        // SAFETY: by the caller's promise; the list grows in the request's pool.
        let element: *mut ngx_table_elt_t =
            unsafe { ngx_list_push(&raw mut (*r).headers_out.headers) }.cast();
        if element.is_null() {
            // No memory: nginx will notice by itself; nothing was added.
            continue;
        }
        let new = ngx_table_elt_t {
            hash: 1,
            key: string(name),
            value: string(value),
            lowcase_key: lower_case.as_ptr().cast_mut(),
            #[cfg(ngx_table_elt_next)]
            next: std::ptr::null_mut(),
        };
        // SAFETY: the list just made room for an element, not yet initialised.
        unsafe { element.write(new) };
    }
}

/// The context of the request's connection; none without TLS.
///
/// # Safety
/// `r` is a live request.
unsafe fn context(r: *const ngx_http_request_t, response: &Response) -> Option<ContextAddress> {
    // SAFETY: by the caller's promise; a connection with `ssl` has an `SSL` until it is closed.
    unsafe {
        let tls = (*(*r).connection).ssl;
        if tls.is_null() {
            return None;
        }
        let ssl: *const Ssl = (*tls).connection.cast();
        Some(response.openssl.context_of(ssl).into())
    }
}

/// The elements of a list.
///
/// # Safety
/// `part` is the first part of a live list of fields, which does not change meanwhile.
unsafe fn elements(mut part: *mut ngx_list_part_t) -> impl Iterator<Item = *mut ngx_table_elt_t> {
    let mut index = 0;
    std::iter::from_fn(move || {
        // SAFETY: by the caller's promise: parts are linked, and each holds `nelts` elements.
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

/// What the access log is told of a request.
pub(crate) enum Told<'a> {
    /// No policy, or no TLS.
    Off,
    /// The field is not in the response.
    Withheld,
    /// The field is in the response, with this value.
    Sent(&'a str),
}

/// Whether the field of the enforced policy, or of the report-only one where there is no other, is
/// in the response.
///
/// # Safety
/// `r` is a live request.
pub(crate) unsafe fn told<'a>(r: *mut ngx_http_request_t) -> Told<'a> {
    // SAFETY: by the caller's promise.
    unsafe {
        let Some(response) = response::<'a>(r) else { return Told::Off };
        let (Some(field), Some(context)) = (response.fields.first(), context(r, response)) else {
            return Told::Off;
        };
        match field.value_on(context).filter(|value| is_in_header(r, field, value)) {
            Some(value) => Told::Sent(value),
            None => Told::Withheld,
        }
    }
}

/// Whether our own octets are in the response's header: what was sent, not what was meant to be.
///
/// # Safety
/// `r` is a live request.
unsafe fn is_in_header(r: *mut ngx_http_request_t, field: &Field, value: &str) -> bool {
    let (name, _) = names(field.kind());
    // An answer in HTTP/0.9 has no header.
    // SAFETY: by the caller's promise.
    if unsafe { (*r).http_version } == NGX_HTTP_VERSION_9 as usize {
        return false;
    }
    // SAFETY: by the caller's promise.
    let mut elements = unsafe { elements(&raw mut (*(*r).main).headers_out.headers.part) };
    elements.any(|element| {
        // SAFETY: the list holds initialised elements.
        let element = unsafe { &*element };
        element.hash != 0
            && element.key.len == name.len()
            && std::ptr::eq(element.value.data, value.as_ptr())
    })
}
