//! The boundary between C and Rust. Panics are caught here: a panic that leaves an `extern "C"` function aborts the
//! process, and in the parent process that ends the whole server.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, Once};

use hpkp_core::text::Excerpt;

/// Set when a hook failed while the configuration was read, but the server started nevertheless. The server then sends
/// no header until it has read a configuration without a failure.
static FAILED: AtomicBool = AtomicBool::new(false);

/// The message and place of the last panic. The payload of a panic does not contain the place.
static LAST_PANIC: Mutex<String> = Mutex::new(String::new());

/// What the server does after a panic in a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnPanic {
    /// Refuse the configuration: a running server keeps the old one, and a config test fails.
    Reject,
    /// Continue without the header.
    Continue,
}

impl OnPanic {
    /// `reject` if the configuration is refused, else `go_on`.
    pub fn either<T>(self, reject: T, go_on: T) -> T {
        match self {
            Self::Reject => reject,
            Self::Continue => go_on,
        }
    }
}

/// Runs a hook that takes part in reading a configuration. After a panic it asks what to do, passes the answer and the
/// message of the panic to `report`, and returns the result of `after`.
pub fn catch_config_hook<T>(
    name: &str,
    on_panic: impl FnOnce() -> OnPanic,
    report: impl FnOnce(OnPanic, &str),
    after: impl FnOnce(OnPanic) -> T,
    hook: impl FnOnce() -> T,
) -> T {
    install_panic_hook();
    catch(name, hook).unwrap_or_else(|message| {
        FAILED.store(true, Ordering::Relaxed);
        let on_panic = on_panic();
        let consequence =
            on_panic.either("the configuration is refused", "continuing without this header");
        report(on_panic, &text(name, &message, consequence));
        after(on_panic)
    })
}

/// Runs a hook that serves a request. After a panic it passes the message to `report` and returns
/// `fallback`. The panic hook is installed already: a configuration has been read before.
pub fn catch_request_hook<T>(
    name: &str,
    fallback: T,
    report: impl FnOnce(&str),
    hook: impl FnOnce() -> T,
) -> T {
    catch(name, hook).unwrap_or_else(|message| {
        report(&text(name, &message, "the response is sent without this header"));
        fallback
    })
}

/// Runs a hook that chooses the certificate of a handshake; after a panic it has `report` log the
/// panic and returns none.
pub fn catch_handshake_hook<T>(
    name: &str,
    report: impl FnOnce(&str),
    hook: impl FnOnce() -> T,
) -> Option<T> {
    catch(name, hook).map_err(|message| report(&text(name, &message, UNGUARDED))).ok()
}

/// The consequence for a handshake.
const UNGUARDED: &str = "the certificate is presented as it was given, and not compared with pins";

/// Runs `hook`; the error is the message of its panic.
fn catch<T>(name: &str, hook: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(|| {
        inject(name);
        hook()
    }))
    .map_err(|_| {
        LAST_PANIC.lock().map_or_else(|e| e.into_inner().clone(), |message| message.clone())
    })
}

fn text(name: &str, message: &str, consequence: &str) -> String {
    let message = Excerpt::new(message);
    format!("hpkp: a bug in the module ({name}), please report it: {message}; {consequence}")
}

/// Forgets earlier failures, because the server is about to read a configuration.
pub fn reset() {
    FAILED.store(false, Ordering::Relaxed);
}

/// Whether a hook failed while this configuration was read.
#[must_use]
pub fn has_failed() -> bool {
    FAILED.load(Ordering::Relaxed)
}

/// Keeps the message of a panic for the log. The standard panic hook would write several lines to standard error.
fn install_panic_hook() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        std::panic::set_hook(Box::new(|panic| {
            let message = panic.to_string();
            match LAST_PANIC.lock() {
                Ok(mut last) => *last = message,
                Err(poisoned) => *poisoned.into_inner() = message,
            }
        }));
    });
}

#[cfg(not(feature = "inject-panic"))]
#[inline(always)]
fn inject(_hook: &str) {}

/// Panics where the environment asks for it. The environment is read once, before a server takes
/// it from its workers.
#[cfg(feature = "inject-panic")]
#[allow(clippy::panic, reason = "that is its purpose")]
fn inject(hook: &str) {
    static WANTED: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    let wanted = WANTED.get_or_init(|| std::env::var("HPKP_INJECT_PANIC").ok());
    if wanted.as_deref() == Some(hook) {
        panic!("injected in {hook}");
    }
}
