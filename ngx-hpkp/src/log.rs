//! Writes to nginx's error log.

use hpkp_core::finding::Location;
use hpkp_server::failure::{Answer, LogLine};
use nginx_sys::{
    NGX_LOG_ALERT, NGX_LOG_EMERG, NGX_LOG_ERR, NGX_LOG_WARN, ngx_conf_log_error, ngx_conf_t,
    ngx_log_error_core, ngx_log_t, ngx_uint_t,
};

/// Writes `text`, followed by the place of the directive in parentheses.
///
/// # Safety
/// `log` is null or a live log.
pub(crate) unsafe fn write(log: *mut ngx_log_t, level: u32, text: &str, at: Option<&Location>) {
    let level = level as ngx_uint_t;
    // SAFETY: by the caller's promise.
    if log.is_null() || unsafe { (*log).log_level } < level {
        return;
    }
    let line = match at {
        Some(at) => format!("{text} (configured at {at})"),
        None => text.to_owned(),
    };
    // SAFETY: by the caller's promise. `%*s` of `ngx_vslprintf` takes a `size_t` and a pointer to that many bytes.
    unsafe {
        ngx_log_error_core(level, log, 0, c"%*s".as_ptr(), line.len(), line.as_ptr());
    }
}

/// Writes a line of a judgement at the level that fits.
///
/// # Safety
/// As for [`write`].
pub(crate) unsafe fn write_line(log: *mut ngx_log_t, line: &LogLine) {
    let level = match line.answer {
        Answer::Refuse => NGX_LOG_EMERG,
        Answer::Alarm => NGX_LOG_ALERT,
        // By default nginx logs no level below `error`.
        Answer::Withhold => NGX_LOG_ERR,
        Answer::Warn => NGX_LOG_WARN,
    };
    // SAFETY: by the caller's promise.
    unsafe { write(log, level, &line.text, line.at.as_ref()) };
}

/// Writes an error about the directive being read; nginx adds its place.
///
/// # Safety
/// `cf` is the `cf` with which nginx calls the handler of a directive.
pub(crate) unsafe fn directive_error(cf: *mut ngx_conf_t, text: &str) {
    // SAFETY: as in `write`; `cf` has a log.
    unsafe {
        ngx_conf_log_error(
            NGX_LOG_EMERG as ngx_uint_t,
            cf,
            0,
            c"%*s".as_ptr(),
            text.len(),
            text.as_ptr(),
        );
    }
}
