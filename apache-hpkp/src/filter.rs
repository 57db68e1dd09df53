//! The output filters: one adds the fields to a response at the last moment, when httpd's own filter is about to write
//! the header; the other removes fields with these names from interim responses.

use std::ffi::{CStr, c_int};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

use hpkp_core::header::Kind;

use crate::bindings::{
    APR_HOOK_REALLY_FIRST, HTTP_MISDIRECTED_REQUEST, ap_add_output_filter_handle, ap_filter_rec_t,
    ap_filter_t, ap_filter_type_AP_FTYPE_CONNECTION, ap_filter_type_AP_FTYPE_PROTOCOL,
    ap_hook_create_request, ap_hook_log_transaction, ap_pass_brigade, ap_register_output_filter,
    apr_bucket_brigade, apr_is_empty_table, apr_status_t, apr_table_setn, apr_table_unset,
    request_rec, server_rec,
};
use crate::boundary;
use crate::conf;
use crate::conf::{Prepared, Response};
use crate::connection::{self, Connection};
use crate::httpd::{self, DECLINED, OK};

/// httpd's handle of the filter of responses.
static FILTER: AtomicPtr<ap_filter_rec_t> = AtomicPtr::new(ptr::null_mut());

/// httpd's handle of the filter of connections, for interim responses.
static INTERIM: AtomicPtr<ap_filter_rec_t> = AtomicPtr::new(ptr::null_mut());

/// The names of the fields.
const NAME: &CStr = c"Public-Key-Pins";
const NAME_REPORT_ONLY: &CStr = c"Public-Key-Pins-Report-Only";

/// The notes for `LogFormat`.
const STATUS: &CStr = c"HPKP_STATUS";
const HEADER: &CStr = c"HPKP_HEADER";

/// Whether httpd calls the module for requests.
static IS_REGISTERED: AtomicBool = AtomicBool::new(false);

/// Called when the module has been loaded again: httpd has forgotten the hooks that were registered before.
pub(crate) fn reset() {
    IS_REGISTERED.store(false, Ordering::Relaxed);
}

/// Makes httpd call the module for requests. The first directive of a configuration calls this, so that requests cost
/// nothing in a configuration without directives. httpd sorts its hooks again after it has read the directives.
///
/// # Safety
/// httpd's main thread is executing the directives of a configuration.
pub(crate) unsafe fn register() {
    if IS_REGISTERED.swap(true, Ordering::Relaxed) {
        return;
    }
    // SAFETY: by the caller's promise no request is served, and httpd sorts its hooks later.
    // `ap_register_output_filter` copies the name; the handle lives until httpd clears `pconf`, and the next
    // configuration registers another one.
    unsafe {
        let filter = ap_register_output_filter(
            c"HPKP".as_ptr(),
            Some(output),
            None,
            ap_filter_type_AP_FTYPE_PROTOCOL,
        );
        FILTER.store(filter, Ordering::Relaxed);
        // The filter must run before TLS, and before mod_http2 makes frames from the data.
        let filter = ap_register_output_filter(
            c"HPKP_INTERIM".as_ptr(),
            Some(interim),
            None,
            ap_filter_type_AP_FTYPE_CONNECTION,
        );
        INTERIM.store(filter, Ordering::Relaxed);
        // The first filter of its type sees the fields of all others.
        let none = ptr::null();
        ap_hook_create_request(Some(create_request), none, none, APR_HOOK_REALLY_FIRST);
        ap_hook_log_transaction(Some(log_transaction), none, none, APR_HOOK_REALLY_FIRST);
    }
}

/// If any server has a policy, every request gets the filter, since its server is known only later. Subrequests and
/// internal redirects share the filters of their request.
unsafe extern "C" fn create_request(r: *mut request_rec) -> c_int {
    // SAFETY: httpd calls this hook (`ap_run_create_request`) with a new request, in the thread that serves it.
    unsafe {
        if !is_first(r) || !is_active((*r).server) {
            return OK;
        }
        begin(r)
    }
}

/// # Safety
/// `r` is a live request from a client, which this thread serves.
#[inline(never)]
unsafe fn begin(r: *mut request_rec) -> c_int {
    boundary::catch_request_hook("create_request", OK, || {
        // SAFETY: by the caller's promise. The filters have been registered, since a server is active. The state in
        // `kept` is in the pool of the connection, which outlives the request and its filters.
        unsafe {
            let kept = connection::request_begins(r, INTERIM.load(Ordering::Relaxed));
            let filter = FILTER.load(Ordering::Relaxed);
            ap_add_output_filter_handle(filter, kept.cast(), r, (*r).connection);
        }
        OK
    })
}

/// Whether any server of the configuration has a policy.
///
/// # Safety
/// `server` is a server of the configuration that this process serves.
#[inline]
unsafe fn is_active(server: *const server_rec) -> bool {
    // SAFETY: by the caller's promise; nothing changes a configuration that is served.
    unsafe { conf::settled_conf(server).is_some_and(|conf| conf.active.is_some()) }
}

/// Whether a request came from a client, not from another request.
///
/// # Safety
/// `r` is live.
unsafe fn is_first(r: *const request_rec) -> bool {
    // SAFETY: by the caller's promise.
    unsafe { (*r).main.is_null() && (*r).prev.is_null() }
}

unsafe extern "C" fn output(
    filter: *mut ap_filter_t,
    brigade: *mut apr_bucket_brigade,
) -> apr_status_t {
    // SAFETY: httpd calls a filter (`ap_pass_brigade`) while its request is live, in the thread that serves it. `ctx`
    // is the pointer that `begin` passed to `ap_add_output_filter_handle`.
    unsafe {
        // The fields are set each time: after an error the response may get another header, and it is not known which
        // header will be written.
        boundary::catch_request_hook("filter", (), || {
            let kept = (*filter).ctx.cast::<Connection>();
            set_fields((*filter).r, kept);
            connection::response_begins(kept);
        });
        ap_pass_brigade((*filter).next, brigade)
    }
}

/// The filter of connections: httpd writes interim responses and tunnelled data directly to the connection.
unsafe extern "C" fn interim(
    filter: *mut ap_filter_t,
    brigade: *mut apr_bucket_brigade,
) -> apr_status_t {
    // SAFETY: httpd calls a filter (`ap_pass_brigade`) while its connection is live, in the thread that serves it.
    // `ctx` is the state that `first_request_begins` passed to `ap_add_output_filter_handle`, in the pool of the
    // connection.
    unsafe {
        if connection::may_be_interim((*filter).ctx.cast()) {
            return clean(filter, brigade);
        }
        ap_pass_brigade((*filter).next, brigade)
    }
}

/// # Safety
/// As for [`interim`].
#[cold]
#[inline(never)]
unsafe fn clean(filter: *mut ap_filter_t, brigade: *mut apr_bucket_brigade) -> apr_status_t {
    // SAFETY: by the caller's promise.
    unsafe {
        boundary::catch_request_hook("interim", (), || {
            connection::clean((*filter).ctx.cast(), brigade)
        });
        ap_pass_brigade((*filter).next, brigade)
    }
}

/// # Safety
/// `r` is a live request that this thread serves, and `kept` is the state of its connection, or null.
unsafe fn set_fields(r: *mut request_rec, kept: *const Connection) {
    // SAFETY: by the caller's promise; httpd makes the tables of a request together with the request. `prepared` is in
    // the configuration, which outlives the request.
    unsafe {
        let Some(response) = conf::response_of(r) else { return };
        if apr_is_empty_table((*r).trailers_out) == 0 {
            for name in [NAME, NAME_REPORT_ONLY] {
                apr_table_unset((*r).trailers_out, name.as_ptr());
            }
        }
        let context = connection::kept_context(kept);
        // A misdirected request is for another server, whose pins do not belong to this connection.
        let context = context.filter(|_| (*r).status != HTTP_MISDIRECTED_REQUEST);
        let mut first = true;
        for prepared in [&response.enforced, &response.report_only].into_iter().flatten() {
            let is_sent = context.is_some_and(|context| prepared.field.is_sent_on(context))
                && (prepared.field.kind() != Kind::Enforced || is_asked(r, response));
            set_field(r, prepared, is_sent);
            let noted = first && is_sent && (*r).assbackwards == 0;
            let slot = if noted { httpd::request_slot(r) } else { None };
            if let Some(slot) = slot {
                slot.write(ptr::from_ref(prepared).cast_mut());
            }
            first = false;
        }
    }
}

/// Whether the enforced policy may be sent for the host of a request.
///
/// # Safety
/// `r` is a live request.
unsafe fn is_asked(r: *const request_rec, response: &Response) -> bool {
    let Some(names) = &response.names else { return true };
    // SAFETY: by the caller's promise; `hostname` is null or a string in the pool of the request.
    unsafe {
        let host = (*r).hostname;
        !host.is_null() && names.has(CStr::from_ptr(host).to_bytes())
    }
}

/// # Safety
/// As for [`set_fields`].
unsafe fn set_field(r: *mut request_rec, prepared: &Prepared, is_sent: bool) {
    let name = match prepared.field.kind() {
        Kind::Enforced => NAME,
        Kind::ReportOnly => NAME_REPORT_ONLY,
    };
    // SAFETY: by the caller's promise. `apr_table_setn` keeps the two pointers: to a static name, and to the value in
    // the configuration, which outlives the request.
    unsafe {
        apr_table_unset((*r).headers_out, name.as_ptr());
        if is_sent {
            // Those of `err_headers_out` are sent with every status.
            apr_table_setn((*r).err_headers_out, name.as_ptr(), prepared.value.as_ptr());
        } else {
            apr_table_unset((*r).err_headers_out, name.as_ptr());
        }
    }
}

/// Sets the notes for `LogFormat`: whether the header was sent.
unsafe extern "C" fn log_transaction(r: *mut request_rec) -> c_int {
    // SAFETY: httpd calls this hook (`ap_run_log_transaction`) with a live request, the first one if internal redirects
    // followed, in the thread that serves it.
    unsafe {
        if !is_active((*r).server) {
            return DECLINED;
        }
        end(r)
    }
}

/// # Safety
/// As for [`log_transaction`].
#[inline(never)]
unsafe fn end(r: *mut request_rec) -> c_int {
    boundary::catch_request_hook("log_transaction", DECLINED, || {
        // SAFETY: by the caller's promise. `next` is the request of an internal redirect, in the same pool. The slot is
        // null or has the pointer that `set_fields` stored: to a field in the configuration, which outlives the
        // request.
        unsafe {
            connection::request_ends(r);
            let mut last = r;
            while !(*last).next.is_null() {
                last = (*last).next;
            }
            let notes = (*last).notes;
            let sent = httpd::request_slot::<Prepared>(last).and_then(|slot| slot.read().as_ref());
            let status = match sent {
                Some(sent) => {
                    apr_table_setn(notes, HEADER.as_ptr(), sent.value.as_ptr());
                    c"sent"
                }
                None if conf::response_of(last).is_none() => c"off",
                None if connection::context((*last).connection).is_none() => c"off",
                None => c"withheld",
            };
            apr_table_setn(notes, STATUS.as_ptr(), status.as_ptr());
        }
        DECLINED
    })
}
