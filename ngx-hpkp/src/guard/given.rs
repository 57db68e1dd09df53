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
/// `cf` is what nginx hands to a directive's handler.
pub(crate) unsafe fn read(cf: *mut ngx_conf_t) -> Result<GivenValues, String> {
    // SAFETY: by the caller's promise; the words are strings that live as long as the configuration.
    unsafe {
        let [_, certificate, key] = ngx::elements::<ngx_str_t>((*cf).args) else {
            return Err("invalid number of arguments in \"hpkp_guard\" directive".to_owned());
        };
        Ok(GivenValues { certificate: compiled(cf, certificate)?, key: compiled(cf, key)? })
    }
}

/// # Safety
/// As for [`read`].
unsafe fn compiled(
    cf: *mut ngx_conf_t,
    word: &ngx_str_t,
) -> Result<ngx_http_complex_value_t, String> {
    let mut word = *word;
    // SAFETY: by the caller's promise; zeros are empty values of both, which nginx fills in.
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
        // SAFETY: by the caller's promise; nginx only reads what it has compiled.
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
