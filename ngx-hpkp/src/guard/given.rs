//! The directive `hpkp_guard` and its values.

use std::mem;

use nginx_sys::{
    ngx_conf_t, ngx_http_compile_complex_value, ngx_http_compile_complex_value_t,
    ngx_http_complex_value, ngx_http_complex_value_t, ngx_http_request_t, ngx_str_t,
};

use crate::ngx::{self, OK};

/// The values of the directive: a certificate and its key, mostly variables.
#[derive(Clone, Copy)]
pub(crate) struct GivenValues {
    certificate: ngx_http_complex_value_t,
    key: ngx_http_complex_value_t,
}

/// Reads the values of the directive. This must not be skipped after a failure of the module, since the server would
/// have no certificate.
///
/// # Safety
/// `cf` is the `cf` with which nginx calls the handler of a directive.
pub(crate) unsafe fn read(cf: *mut ngx_conf_t) -> Result<GivenValues, String> {
    // SAFETY: by the caller's promise `args` is an array of `ngx_str_t`, whose texts are in the cycle's pool.
    unsafe {
        let [_, certificate, key] = ngx::elements::<ngx_str_t>((*cf).args) else {
            return Err("invalid number of arguments in \"hpkp_guard\" directive".to_owned());
        };
        Ok(GivenValues { certificate: compiled(cf, certificate)?, key: compiled(cf, key)? })
    }
}

/// # Safety
/// As for [`read`]; `word` is one of the arguments.
unsafe fn compiled(
    cf: *mut ngx_conf_t,
    word: &ngx_str_t,
) -> Result<ngx_http_complex_value_t, String> {
    let mut word = *word;
    // SAFETY: by the caller's promise. Both structures are plain data; nginx's own callers also fill them with zeros
    // before they call `ngx_http_compile_complex_value`.
    unsafe {
        let mut value: ngx_http_complex_value_t = mem::zeroed();
        let mut compile: ngx_http_compile_complex_value_t = mem::zeroed();
        (compile.cf, compile.value, compile.complex_value) = (cf, &raw mut word, &raw mut value);
        if ngx_http_compile_complex_value(&raw mut compile) == OK {
            Ok(value)
        } else {
            Err("invalid value in \"hpkp_guard\" directive".to_owned())
        }
    }
}

impl GivenValues {
    /// Evaluates both values for a request; none if nginx has no memory.
    ///
    /// # Safety
    /// `r` is a live request.
    pub(super) unsafe fn of(&self, r: *mut ngx_http_request_t) -> Option<[ngx_str_t; 2]> {
        // SAFETY: by the caller's promise. `ngx_http_complex_value` only reads the compiled value, which is in the
        // configuration of the request, and writes to `value`.
        let value = |of: &ngx_http_complex_value_t| unsafe {
            let mut value = ngx_str_t::default();
            let of = (&raw const *of).cast_mut();
            (ngx_http_complex_value(r, of, &raw mut value) == OK).then_some(value)
        };
        Some([value(&self.certificate)?, value(&self.key)?])
    }

    /// Whether nginx has made a copy of the key for the request.
    pub(super) fn is_copied(&self) -> bool {
        !self.key.lengths.is_null()
    }
}
