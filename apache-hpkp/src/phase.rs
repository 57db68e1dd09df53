//! Determines the phase of httpd's life.

use std::ffi::c_int;
use std::sync::OnceLock;

use hpkp_server::failure::Phase;

use crate::bindings::{
    AP_SQ_CONFIG_GEN, AP_SQ_MAIN_STATE, AP_SQ_MS_CREATE_PRE_CONFIG, AP_SQ_MS_EXITING,
    AP_SQ_RM_CONFIG_DUMP, AP_SQ_RM_CONFIG_TEST, AP_SQ_RUN_MODE, ap_pid_fname, ap_read_pid,
    ap_state_query, apr_pool_t,
};

fn query(what: c_int) -> c_int {
    // SAFETY: `ap_state_query` takes no pointer and reads static variables of server/core.c, which httpd writes only in
    // its main thread.
    unsafe { ap_state_query(what) }
}

/// The purpose of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A config test (`-t`).
    Test,
    /// `-k graceful` or `-k restart` while a server runs: the signal is sent only if this configuration is accepted.
    ReloadSignal,
    /// To stop a server or to print something: the configuration does not matter, and this module must not prevent it.
    Other,
    /// To serve clients.
    Serve,
}

/// The purpose of this process.
///
/// # Safety
/// `pool` is a live pool.
pub(crate) unsafe fn purpose(pool: *mut apr_pool_t) -> Purpose {
    if ignores_configuration() {
        return Purpose::Other;
    }
    if query(AP_SQ_RUN_MODE) == AP_SQ_RM_CONFIG_TEST {
        return Purpose::Test;
    }
    match signal() {
        // A server that already runs ignores its command line.
        Some(b"graceful" | b"restart")
            if !is_restart()
                && unsafe {
                    // SAFETY: by the caller's promise.
                    is_running(pool)
                } =>
        {
            Purpose::ReloadSignal
        }
        _ => Purpose::Serve,
    }
}

/// Whether the configuration does not matter, see [`Purpose::Other`].
pub(crate) fn ignores_configuration() -> bool {
    query(AP_SQ_RUN_MODE) == AP_SQ_RM_CONFIG_DUMP
        || !is_restart() && matches!(signal(), Some(b"stop" | b"graceful-stop"))
}

/// Whether an error does no harm: it neither ends a running server nor prevents a stop.
pub(crate) fn can_refuse() -> bool {
    !is_restart() && !ignores_configuration()
}

/// The phase of a server that reads its configuration to serve.
pub(crate) fn serving() -> Phase {
    if is_restart() { Phase::Restart } else { Phase::Start }
}

/// Whether this is the running parent of a server that has served clients before: an error there ends the server.
pub(crate) fn is_restart() -> bool {
    query(AP_SQ_CONFIG_GEN) > 1
}

/// Whether this is the first of the two readings of the configuration at a start, before the server leaves the
/// terminal.
pub(crate) fn is_first_reading() -> bool {
    query(AP_SQ_MAIN_STATE) == AP_SQ_MS_CREATE_PRE_CONFIG
}

/// Whether this server is about to end.
pub(crate) fn is_ending() -> bool {
    query(AP_SQ_MAIN_STATE) == AP_SQ_MS_EXITING
}

/// The value of `-k`, which httpd removes from the arguments for modules. Options may be joined, and the value may
/// follow `k` directly.
fn signal() -> Option<&'static [u8]> {
    static SIGNAL: OnceLock<Option<Vec<u8>>> = OnceLock::new();
    SIGNAL.get_or_init(read_signal).as_deref()
}

fn read_signal() -> Option<Vec<u8>> {
    let line = std::fs::read("/proc/self/cmdline").ok()?;
    let mut words = line.split(|byte| *byte == 0).skip(1);
    let mut signal = None;
    while let Some(word) = words.next() {
        let Some(letters) = word.strip_prefix(b"-") else { continue };
        for (at, letter) in letters.iter().enumerate() {
            // These options take a value, which ends the word.
            if b"DCcdfEek".contains(letter) {
                let rest = &letters[at + 1..];
                let value = if rest.is_empty() { words.next() } else { Some(rest) };
                if *letter == b'k' {
                    signal = value.map(<[u8]>::to_vec);
                }
                break;
            }
        }
    }
    signal
}

/// Whether the process in the pid file runs. If not, `-k restart` is a start.
///
/// # Safety
/// `pool` is a live pool.
unsafe fn is_running(pool: *mut apr_pool_t) -> bool {
    let mut pid = 0;
    // SAFETY: by the caller's promise. `ap_pid_fname` is a static string, a string in `pconf`, or null, which
    // `ap_read_pid` accepts: core's `pre_config`, the first of all, resets it, and `PidFile` sets it. kill with the
    // signal 0 sends none.
    unsafe {
        ap_read_pid(pool, ap_pid_fname, &raw mut pid) == 0 && pid > 0 && libc::kill(pid, 0) == 0
    }
}
