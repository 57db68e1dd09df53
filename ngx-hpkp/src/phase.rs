//! Determines the phase of nginx's life from its global variables.

use std::ffi::CStr;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

use hpkp_server::failure::Phase;
use hpkp_server::journal::Predecessor;
use nginx_sys::{
    NGX_PROCESS_HELPER, NGX_PROCESS_SIGNALLER, NGX_PROCESS_SINGLE, NGX_PROCESS_WORKER, ngx_argc,
    ngx_argv, ngx_cycle, ngx_inherited, ngx_new_binary, ngx_parent, ngx_process, ngx_test_config,
};

/// Whether this process is the child of a rehearsal.
static REHEARSING: AtomicBool = AtomicBool::new(false);

/// The phase in which the configuration is being read. `None` in a process that only sends a signal to stop a server
/// or to reopen logs: the configuration does not matter there, and this module must not prevent the stop.
pub(crate) fn current() -> Option<Phase> {
    // SAFETY: `main` sets these variables before it reads a configuration; only the main thread changes them.
    let (process, testing, cycle) = unsafe { (ngx_process, ngx_test_config, ngx_cycle) };
    if process == NGX_PROCESS_SIGNALLER as usize {
        // `-s reload` sends its signal only if this configuration is accepted, so this is a test.
        return is_reload_signal().then_some(Phase::Test);
    }
    if testing != 0 {
        return Some(Phase::Test);
    }
    // nginx's own `ngx_is_init_cycle`: the cycle before the first has no configuration.
    // SAFETY: `ngx_cycle` is null, or points to the initial cycle of `main` or to the cycle in effect.
    let first = unsafe { cycle.is_null() || (*cycle).conf_ctx.is_null() };
    // A new master that takes over from one that still serves may be refused like a reload.
    Some(if first && !is_successor() { Phase::Start } else { Phase::Reload })
}

/// Whether this master was started by another one, which still runs, to take its place (USR2).
pub(crate) fn is_successor() -> bool {
    upgraded_from().is_some()
}

/// The process of that other master.
fn upgraded_from() -> Option<libc::pid_t> {
    // SAFETY: `main` (`ngx_add_inherited_sockets` for the first) sets both variables before it reads a configuration.
    let (inherited, parent) = unsafe { (ngx_inherited, ngx_parent) };
    // A supervisor may hand over sockets as well, and if a parent ends, the process gets another parent.
    // SAFETY: getppid takes no argument and always succeeds.
    let is_its_child = inherited != 0 && unsafe { libc::getppid() } == parent;
    (is_its_child && is_nginx(parent)).then_some(parent)
}

/// Whether a process runs the same program as this one.
fn is_nginx(process: libc::pid_t) -> bool {
    let name = |process: &str| fs::read(format!("/proc/{process}/comm")).ok();
    let own = name("self");
    own.is_some() && name(&process.to_string()) == own
}

/// Another master that serves the same sockets, started before or after this one (USR2).
pub(crate) fn predecessor() -> Predecessor {
    // SAFETY: only the main thread, which runs this, changes this variable (`ngx_exec_new_binary`).
    let new = unsafe { ngx_new_binary };
    let other = upgraded_from().or((new != 0).then_some(new));
    other.map_or(Predecessor::None, Predecessor::Runs)
}

/// Whether this process is a worker of a master that still runs.
pub(crate) fn has_master() -> bool {
    // SAFETY: `main`, `ngx_worker_process_cycle` and `ngx_cache_manager_process_cycle` set this variable before a hook
    // of the process runs; only the main thread changes it.
    let process = unsafe { ngx_process };
    process == NGX_PROCESS_WORKER as usize || process == NGX_PROCESS_HELPER as usize
}

/// Whether this process serves alone, without a master.
pub(crate) fn is_single() -> bool {
    // SAFETY: as in `has_master`.
    let process = unsafe { ngx_process };
    process == NGX_PROCESS_SINGLE as usize
}

/// Whether this is `nginx -t`, and not a process that tests before it sends a signal.
pub(crate) fn is_test() -> bool {
    // SAFETY: `ngx_get_options` sets this variable from the command line before nginx reads a configuration.
    unsafe { ngx_test_config != 0 }
}

/// Whether the command line has `-s reload`. nginx does not export the signal, so this repeats its parsing of the
/// options: letters may be joined, and the value may follow `s` directly.
fn is_reload_signal() -> bool {
    let mut options = arguments().skip(1);
    let mut signal = None;
    while let Some(word) = options.next() {
        let Some(letters) = word.strip_prefix(b"-") else { continue };
        for (at, letter) in letters.iter().enumerate() {
            // These options take a value, which ends the word.
            if b"pecgs".contains(letter) {
                let rest = &letters[at + 1..];
                let value = if rest.is_empty() { options.next() } else { Some(rest) };
                if *letter == b's' {
                    signal = value;
                }
                break;
            }
        }
    }
    signal == Some(b"reload")
}

fn arguments() -> impl Iterator<Item = &'static [u8]> {
    // SAFETY: `ngx_save_argv` sets both variables before nginx reads a configuration.
    let (count, arguments) = unsafe { (ngx_argc, ngx_argv) };
    (0..usize::try_from(count).unwrap_or(0)).map(move |index| {
        // SAFETY: the index is below `ngx_argc`. `ngx_save_argv` has allocated the strings, which are never freed.
        unsafe { CStr::from_ptr(*arguments.add(index)).to_bytes() }
    })
}

/// Whether this process is the child of a rehearsal. If it accepts the configuration, only the master logs the
/// findings.
pub(crate) fn is_rehearsal() -> bool {
    REHEARSING.load(Ordering::Relaxed)
}

/// Marks this process as the child of a rehearsal.
pub(crate) fn begin_rehearsal() {
    REHEARSING.store(true, Ordering::Relaxed);
}
