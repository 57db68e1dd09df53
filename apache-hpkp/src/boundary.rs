//! Where httpd calls Rust, see [`hpkp_server::boundary`]: when a configuration can be refused, and
//! where a panic is logged.

use hpkp_server::boundary;
pub(crate) use hpkp_server::boundary::{Aftermath, has_failed, reset};

use crate::bindings::{APLOG_ALERT, APLOG_EMERG};
use crate::{log, phase};

/// Runs a hook that has to do with reading a configuration; after a panic, logs it and gives what
/// `after` makes of the circumstances. An error in a living parent would end the
/// site, and one in a process that shall stop a server would keep it from that.
pub(crate) fn configuring<T>(
    name: &str,
    after: impl FnOnce(Aftermath) -> T,
    hook: impl FnOnce() -> T,
) -> T {
    let aftermath = || if phase::can_refuse() { Aftermath::Refuse } else { Aftermath::GoOn };
    let report = |aftermath, text: &str| match aftermath {
        Aftermath::Refuse => log::panic(APLOG_EMERG, text),
        Aftermath::GoOn => log::panic(APLOG_ALERT, text),
    };
    boundary::configuring(name, aftermath, report, after, hook)
}

/// Runs a hook that serves a request; after a panic, logs it and gives `fallback`.
pub(crate) fn serving<T>(name: &str, fallback: T, hook: impl FnOnce() -> T) -> T {
    boundary::serving(name, fallback, |text| log::panic(APLOG_ALERT, text), hook)
}
