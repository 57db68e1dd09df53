//! `$hpkp_header`, `$hpkp_status` and `$hpkp_withheld`, for logs and for monitoring.

use nginx_sys::{
    NGX_HTTP_VAR_NOCACHEABLE, ngx_conf_t, ngx_http_add_variable, ngx_http_get_variable_pt,
    ngx_http_request_t, ngx_http_variable_value_t, ngx_int_t, ngx_pnalloc, ngx_str_t, ngx_uint_t,
};

use crate::boundary::{self, OnPanic};
use crate::filter::{self, HeaderStatus};
use crate::guard;
use crate::ngx::{ERROR, OK, c_string};

/// `preconfiguration`: makes the variables known.
pub(crate) unsafe extern "C" fn add(cf: *mut ngx_conf_t) -> ngx_int_t {
    // SAFETY: `ngx_http_block` calls this hook with a live `cf`.
    let make = || unsafe { add_all(cf) };
    // Without the variables nginx would refuse a log format that uses them.
    let after = |on_panic| match on_panic {
        OnPanic::Reject => ERROR,
        OnPanic::Continue => make(),
    };
    boundary::catch_config_hook("preconfiguration", after, make)
}

/// # Safety
/// `cf` is the `cf` with which nginx calls `preconfiguration`.
unsafe fn add_all(cf: *mut ngx_conf_t) -> ngx_int_t {
    let variables: [(ngx_str_t, ngx_http_get_variable_pt); 3] = [
        (c_string(c"hpkp_header"), Some(hpkp_header)),
        (c_string(c"hpkp_status"), Some(hpkp_status)),
        (c_string(c"hpkp_withheld"), Some(hpkp_withheld)),
    ];
    for (mut name, handler) in variables {
        // The value is known only after the header filter has run, so nginx must not cache an earlier one.
        let flags = NGX_HTTP_VAR_NOCACHEABLE as ngx_uint_t;
        // SAFETY: by the caller's promise. `ngx_http_add_variable` copies the name into the pool.
        let variable = unsafe { ngx_http_add_variable(cf, &raw mut name, flags) };
        if variable.is_null() {
            return ERROR;
        }
        // SAFETY: the variable that `ngx_http_add_variable` returns lives as long as the configuration, and only this
        // thread uses it.
        unsafe { (*variable).get_handler = handler };
    }
    // SAFETY: by the caller's promise.
    unsafe { guard::add(cf) }
}

unsafe extern "C" fn hpkp_header(
    r: *mut ngx_http_request_t,
    value: *mut ngx_http_variable_value_t,
    _data: usize,
) -> ngx_int_t {
    boundary::catch_request_hook("variable", ERROR, || {
        // SAFETY: nginx calls a `get_handler` with a live request and a value that only this call uses. The header's
        // value is in the configuration, which outlives the request.
        unsafe {
            match filter::header_status(r) {
                HeaderStatus::Sent(header) => set(value, header),
                HeaderStatus::Off | HeaderStatus::Withheld => (*value).set_not_found(1),
            }
        }
        OK
    })
}

unsafe extern "C" fn hpkp_status(
    r: *mut ngx_http_request_t,
    value: *mut ngx_http_variable_value_t,
    _data: usize,
) -> ngx_int_t {
    boundary::catch_request_hook("variable", ERROR, || {
        // SAFETY: as in `hpkp_header`; the texts are static.
        unsafe {
            let status = match filter::header_status(r) {
                HeaderStatus::Off => "off",
                HeaderStatus::Withheld => "withheld",
                HeaderStatus::Sent(_) => "sent",
            };
            set(value, status);
        }
        OK
    })
}

unsafe extern "C" fn hpkp_withheld(
    r: *mut ngx_http_request_t,
    value: *mut ngx_http_variable_value_t,
    _data: usize,
) -> ngx_int_t {
    boundary::catch_request_hook("variable", ERROR, || {
        // SAFETY: as in `hpkp_header`. `copy` has room for the text, and lives in the pool of the request as long as
        // nginx uses the value.
        unsafe {
            let Some(count) = filter::withheld(r) else {
                (*value).set_not_found(1);
                return OK;
            };
            let text = count.to_string();
            let copy: *mut u8 = ngx_pnalloc((*r).pool, text.len()).cast();
            if copy.is_null() {
                return ERROR;
            }
            copy.copy_from_nonoverlapping(text.as_ptr(), text.len());
            set(value, &text);
            (*value).data = copy;
        }
        OK
    })
}

/// # Safety
/// `value` is the live value with which nginx calls a `get_handler`, and `text` lives as long as the request, or the
/// caller replaces `data`.
unsafe fn set(value: *mut ngx_http_variable_value_t, text: &str) {
    // SAFETY: by the caller's promise. nginx only reads the text of a variable.
    unsafe {
        (*value).set_len(text.len() as u32);
        (*value).set_valid(1);
        (*value).set_no_cacheable(1);
        (*value).set_not_found(0);
        (*value).data = text.as_ptr().cast_mut();
    }
}
