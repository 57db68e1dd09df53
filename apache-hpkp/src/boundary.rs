//! The boundary between httpd and Rust, see [`hpkp_server::boundary`]: decides whether a panic refuses the
//! configuration, and logs it.

use hpkp_server::boundary;
pub(crate) use hpkp_server::boundary::{OnPanic, has_failed, reset};

use crate::bindings::{APLOG_ALERT, APLOG_EMERG};
use crate::{log, phase};

/// Runs a hook that takes part in reading a configuration. After a panic it logs the panic and returns the result of
/// `after`. An error in a running parent would end the server, and an error in a process that stops a server would
/// prevent the stop.
pub(crate) fn catch_config_hook<T>(
    name: &str,
    after: impl FnOnce(OnPanic) -> T,
    hook: impl FnOnce() -> T,
) -> T {
    let on_panic = || if phase::can_refuse() { OnPanic::Reject } else { OnPanic::Continue };
    let report = |on_panic: OnPanic, text: &str| {
        log::panic(on_panic.either(APLOG_EMERG, APLOG_ALERT), text);
    };
    boundary::catch_config_hook(name, on_panic, report, after, hook)
}

/// Runs a hook that serves a request; after a panic, logs it and returns `fallback`.
pub(crate) fn catch_request_hook<T>(name: &str, fallback: T, hook: impl FnOnce() -> T) -> T {
    boundary::catch_request_hook(name, fallback, |text| log::panic(APLOG_ALERT, text), hook)
}
