//! Where C calls Rust. A panic ends here: past an `extern "C"` function it would abort the process,
//! which in the master is the whole site.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use hpkp_core::text::Excerpt;
use hpkp_server::failure::Phase;
use nginx_sys::{NGX_LOG_ALERT, NGX_LOG_EMERG, ngx_cycle};

use crate::{log, phase};

/// Set when a hook failed while the configuration was read and the server started all the same;
/// then nothing is sent until a configuration has been read without a failure.
static FAILED: AtomicBool = AtomicBool::new(false);

/// What the last panic said; a panic's payload does not know its place.
static LAST_PANIC: Mutex<String> = Mutex::new(String::new());

/// What a hook shall do after a panic in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Aftermath {
    /// Refuse the configuration: the old one goes on, or it was a test.
    Refuse,
    /// Go on without the header.
    GoOn,
}

/// Runs a hook that has to do with reading a configuration; after a panic, logs it and gives what
/// `after` makes of the circumstances.
pub(crate) fn configuring<T>(
    name: &str,
    after: impl FnOnce(Aftermath) -> T,
    hook: impl FnOnce() -> T,
) -> T {
    let can_refuse = matches!(phase::current(), Some(Phase::Test | Phase::Reload));
    configuring_where(can_refuse, name, after, hook)
}

/// The same for a hook that runs when nginx has begun to rebuild its chain of filters, so that a
/// refusal would harm the server that goes on: only a test is refused.
pub(crate) fn configuring_late<T>(
    name: &str,
    after: impl FnOnce(Aftermath) -> T,
    hook: impl FnOnce() -> T,
) -> T {
    configuring_where(phase::current() == Some(Phase::Test), name, after, hook)
}

fn configuring_where<T>(
    can_refuse: bool,
    name: &str,
    after: impl FnOnce(Aftermath) -> T,
    hook: impl FnOnce() -> T,
) -> T {
    install_panic_hook();
    catch(name, hook).unwrap_or_else(|said| {
        let (aftermath, level, consequence) = if can_refuse {
            (Aftermath::Refuse, NGX_LOG_EMERG, "the configuration is refused")
        } else {
            (Aftermath::GoOn, NGX_LOG_ALERT, "the server goes on WITHOUT this header")
        };
        FAILED.store(true, Ordering::Relaxed);
        report(name, level, &said, consequence);
        after(aftermath)
    })
}

/// Runs a hook that serves a request; after a panic, logs it and gives `fallback`. The panic hook is
/// there: a configuration has been read before.
pub(crate) fn serving<T>(name: &str, fallback: T, hook: impl FnOnce() -> T) -> T {
    catch(name, hook).unwrap_or_else(|said| {
        report(name, NGX_LOG_ALERT, &said, "the response goes out WITHOUT this header");
        fallback
    })
}

/// Runs `hook`; the error is what its panic said.
fn catch<T>(name: &str, hook: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(|| {
        inject(name);
        hook()
    }))
    .map_err(|_| LAST_PANIC.lock().map_or_else(|e| e.into_inner().clone(), |said| said.clone()))
}

fn report(name: &str, level: u32, said: &str, consequence: &str) {
    let text = format!(
        "hpkp: a bug in the module ({name}), please report it: {}; {consequence}",
        Excerpt::new(said)
    );
    // SAFETY: nginx sets `ngx_cycle` before it loads a module, and every cycle has a log.
    unsafe { log::write((*ngx_cycle).log, level, &text, None) };
}

/// A configuration is about to be read anew.
pub(crate) fn reset() {
    FAILED.store(false, Ordering::Relaxed);
}

/// Whether a hook failed while this configuration was read.
pub(crate) fn has_failed() -> bool {
    FAILED.load(Ordering::Relaxed)
}

/// Keeps what a panic says for the log, in place of the standard hook, which writes several lines
/// to standard error.
fn install_panic_hook() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        std::panic::set_hook(Box::new(|panic| {
            let said = panic.to_string();
            match LAST_PANIC.lock() {
                Ok(mut last) => *last = said,
                Err(poisoned) => *poisoned.into_inner() = said,
            }
        }));
    });
}

#[cfg(not(feature = "inject-panic"))]
#[inline(always)]
fn inject(_hook: &str) {}

/// Panics where the environment asks for it. The environment is read once, before nginx takes it
/// from its workers.
#[cfg(feature = "inject-panic")]
#[allow(clippy::panic, reason = "that is its purpose")]
fn inject(hook: &str) {
    static WANTED: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    let wanted = WANTED.get_or_init(|| std::env::var("HPKP_INJECT_PANIC").ok());
    if wanted.as_deref() == Some(hook) {
        panic!("injected in {hook}");
    }
}
