//! Where nginx calls Rust, see [`hpkp_server::boundary`]: when a configuration can be refused, and
//! where a panic is logged.

use hpkp_server::boundary;
pub(crate) use hpkp_server::boundary::{Aftermath, has_failed, reset};
use hpkp_server::failure::Phase;
use nginx_sys::{NGX_LOG_ALERT, NGX_LOG_EMERG, ngx_cycle};

use crate::{late, log, phase};

/// Runs a hook that has to do with reading a configuration; after a panic, logs it and gives what
/// `after` makes of the circumstances.
pub(crate) fn configuring<T>(
    name: &str,
    after: impl FnOnce(Aftermath) -> T,
    hook: impl FnOnce() -> T,
) -> T {
    let can_refuse = || matches!(phase::current(), Some(Phase::Test | Phase::Reload));
    configuring_where(can_refuse, name, after, hook)
}

/// The same for a hook that runs when nginx has begun to rebuild its chain of filters, so that a
/// refusal would harm the server that goes on: only a test and a rehearsal are refused.
pub(crate) fn configuring_late<T>(
    name: &str,
    after: impl FnOnce(Aftermath) -> T,
    hook: impl FnOnce() -> T,
) -> T {
    let can_refuse = || phase::current() == Some(Phase::Test) || late::is_rehearsal();
    configuring_where(can_refuse, name, after, hook)
}

fn configuring_where<T>(
    can_refuse: impl FnOnce() -> bool,
    name: &str,
    after: impl FnOnce(Aftermath) -> T,
    hook: impl FnOnce() -> T,
) -> T {
    let aftermath = || if can_refuse() { Aftermath::Refuse } else { Aftermath::GoOn };
    let report_at = |aftermath, text: &str| match aftermath {
        Aftermath::Refuse => report(NGX_LOG_EMERG, text),
        Aftermath::GoOn => report(NGX_LOG_ALERT, text),
    };
    boundary::configuring(name, aftermath, report_at, after, hook)
}

/// Runs a hook that serves a request; after a panic, logs it and gives `fallback`.
pub(crate) fn serving<T>(name: &str, fallback: T, hook: impl FnOnce() -> T) -> T {
    boundary::serving(name, fallback, |text| report(NGX_LOG_ALERT, text), hook)
}

fn report(level: u32, text: &str) {
    // SAFETY: nginx sets `ngx_cycle` before it loads a module, and every cycle has a log.
    unsafe { log::write((*ngx_cycle).log, level, text, None) };
}
