//! Determines the phase of httpd's life.

use std::ffi::c_int;
use std::sync::OnceLock;

use hpkp_core::text::ShellWord;
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
                    running(pool).is_some()
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

/// The value of `-k`, which httpd removes from the arguments for modules.
fn signal() -> Option<&'static [u8]> {
    static SIGNAL: OnceLock<Option<Vec<u8>>> = OnceLock::new();
    let read = || {
        let options = options_of("self")?;
        options.into_iter().rfind(|(letter, _)| *letter == b'k').map(|(_, value)| value)
    };
    SIGNAL.get_or_init(read).as_deref()
}

/// The options of a process of httpd that have a value, with their letters. Options may be joined, and the value may
/// follow the letter directly.
fn options_of(process: &str) -> Option<Vec<(u8, Vec<u8>)>> {
    let line = std::fs::read(format!("/proc/{process}/cmdline")).ok()?;
    let mut words = line.split(|byte| *byte == 0).skip(1);
    let mut options = Vec::new();
    while let Some(word) = words.next() {
        let Some(letters) = word.strip_prefix(b"-") else { continue };
        for (at, letter) in letters.iter().enumerate() {
            // These options take a value, which ends the word.
            if b"DCcdfEek".contains(letter) {
                let rest = &letters[at + 1..];
                let value = if rest.is_empty() { words.next() } else { Some(rest) };
                options.extend(value.map(|value| (*letter, value.to_vec())));
                break;
            }
        }
    }
    Some(options)
}

/// How the running server's command line differs from that of this process, which tests a configuration before a
/// signal, in what decides which directives are read. The server reads its configuration with the options with which
/// it was started. None if they do not differ or are not known.
///
/// # Safety
/// `pool` is a live pool.
pub(crate) unsafe fn difference_to_running(pool: *mut apr_pool_t) -> Option<String> {
    // SAFETY: by the caller's promise.
    let pid = unsafe { running(pool) }?;
    // httpd's own names concern the process alone.
    let own = ["FOREGROUND", "NO_DETACH", "ONE_PROCESS", "DEBUG"].map(str::as_bytes);
    let relevant = |process: &str| {
        let mut options = options_of(process)?;
        options.retain(|(letter, value)| {
            b"CDc".contains(letter) && !(*letter == b'D' && own.contains(&value.as_slice()))
        });
        Some(options)
    };
    let (mine, its) = (relevant("self")?, relevant(&pid.to_string())?);
    let lacks = |one: &[(u8, Vec<u8>)], other: &[(u8, Vec<u8>)]| {
        let (letter, value) = one.iter().find(|option| !other.contains(option))?;
        Some(format!("-{} {}", char::from(*letter), ShellWord::new(value)))
    };
    let what = match (lacks(&its, &mine), lacks(&mine, &its)) {
        (Some(option), _) => format!("was started with {option}, which this command lacks"),
        (None, Some(option)) => format!("was started without {option}, which this command has"),
        (None, None) => return None,
    };
    Some(format!("the running server (process {pid}) {what}"))
}

/// The process in the pid file, if it runs. If not, `-k restart` is a start.
///
/// # Safety
/// `pool` is a live pool.
unsafe fn running(pool: *mut apr_pool_t) -> Option<libc::pid_t> {
    let mut pid = 0;
    // SAFETY: by the caller's promise. `ap_pid_fname` is a static string, a string in `pconf`, or null, which
    // `ap_read_pid` accepts: core's `pre_config`, the first of all, resets it, and `PidFile` sets it. kill with the
    // signal 0 sends none.
    unsafe {
        let found = ap_read_pid(pool, ap_pid_fname, &raw mut pid) == 0 && pid > 0;
        (found && libc::kill(pid, 0) == 0).then_some(pid)
    }
}
