//! The boundary between nginx and Rust, see [`hpkp_server::boundary`]: decides whether a panic refuses the
//! configuration, and logs it.

use hpkp_server::boundary;
pub(crate) use hpkp_server::boundary::{OnPanic, has_failed, reset};
use hpkp_server::failure::Phase;
use nginx_sys::{NGX_LOG_ALERT, NGX_LOG_EMERG, ngx_cycle};

use crate::{log, phase};

/// Runs a hook that takes part in reading a configuration. After a panic it logs the panic and returns the result of
/// `after`.
pub(crate) fn catch_config_hook<T>(
    name: &str,
    after: impl FnOnce(OnPanic) -> T,
    hook: impl FnOnce() -> T,
) -> T {
    let can_refuse = || matches!(phase::current(), Some(Phase::Test | Phase::Reload));
    catch_config_hook_where(can_refuse, name, after, hook)
}

/// The same for a hook that runs after nginx has begun to rebuild its chain of filters. A refusal would then harm the
/// running server, so only a config test and a rehearsal are refused.
pub(crate) fn catch_config_hook_late<T>(
    name: &str,
    after: impl FnOnce(OnPanic) -> T,
    hook: impl FnOnce() -> T,
) -> T {
    let can_refuse = || phase::current() == Some(Phase::Test) || phase::is_rehearsal();
    catch_config_hook_where(can_refuse, name, after, hook)
}

fn catch_config_hook_where<T>(
    can_refuse: impl FnOnce() -> bool,
    name: &str,
    after: impl FnOnce(OnPanic) -> T,
    hook: impl FnOnce() -> T,
) -> T {
    let on_panic = || if can_refuse() { OnPanic::Reject } else { OnPanic::Continue };
    let report_at = |on_panic: OnPanic, text: &str| {
        report(on_panic.either(NGX_LOG_EMERG, NGX_LOG_ALERT), text);
    };
    boundary::catch_config_hook(name, on_panic, report_at, after, hook)
}

/// Runs a hook that serves a request; after a panic, logs it and returns `fallback`.
pub(crate) fn catch_request_hook<T>(name: &str, fallback: T, hook: impl FnOnce() -> T) -> T {
    boundary::catch_request_hook(name, fallback, |text| report(NGX_LOG_ALERT, text), hook)
}

/// Runs a hook that chooses the certificate of a handshake; after a panic, logs it and returns none.
pub(crate) fn catch_handshake_hook<T>(name: &str, hook: impl FnOnce() -> T) -> Option<T> {
    boundary::catch_handshake_hook(name, report_alert, hook)
}

/// Logs the message of a bug while a connection is served.
pub(crate) fn report_alert(text: &str) {
    report(NGX_LOG_ALERT, text);
}

fn report(level: u32, text: &str) {
    // SAFETY: `main` points `ngx_cycle` to a cycle with a log before it reads a configuration, and so before it loads
    // this module; later `ngx_cycle` is the cycle in effect.
    unsafe { log::write((*ngx_cycle).log, level, text, None) };
}
