//! The rehearsal of a reload: a child of the master reads the rest of the file and checks the whole configuration,
//! before the master continues.
//!
//! If `stream` or `mail` comes after `http`, their certificates are not loaded yet when `http` ends, so the whole
//! check waits until the file has been read, see `late`. By then nginx has rebuilt its chain of filters, and a refusal
//! would leave the new chain in the master of a running server (see `gate`). So if the child refuses, the master
//! refuses at the first gate, where nothing has been changed.

use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use std::{mem, ptr, thread};

use hpkp_server::failure::Phase;
use nginx_sys::{NGX_LOG_WARN, ngx_conf_t, ngx_cycle, ngx_cycle_t, ngx_pool_cleanup_add};

use crate::conf::MainConf;
use crate::ngx::{self, own_module};
use crate::{log, outside, phase, rest};

/// The exit status of a child that accepts the configuration.
pub(crate) const ACCEPTED: c_int = 0;
pub(crate) const REFUSED: c_int = 3;
/// The child ended before the check. The master will find the reason by itself.
pub(crate) const UNKNOWN: c_int = 4;
/// A hook has failed in the child, which has logged it. The master can still refuse.
pub(crate) const BROKEN: c_int = 5;

/// How long a rehearsal may take. Reading tens of thousands of certificates takes seconds.
const PATIENCE: Duration = Duration::from_secs(120);

/// The level of the log before the child was silenced.
static LEVEL: AtomicUsize = AtomicUsize::new(0);

/// Whether the check must wait for blocks that have not been read yet.
///
/// # Safety
/// `cf` is the `cf` with which nginx calls the `postconfiguration` of an HTTP module.
pub(crate) unsafe fn is_needed(cf: *const ngx_conf_t) -> bool {
    // SAFETY: by the caller's promise; nothing else refers to this module's main configuration now.
    unsafe {
        let cycle = (*cf).cycle;
        let main = ngx::http_main_conf::<MainConf>(cycle, own_module()).as_mut();
        let Some(main) = main.filter(|main| !main.global.published.is_empty()) else {
            return false;
        };
        main.blocks_to_come = outside::blocks_to_come(cycle);
        main.blocks_to_come > 0 && rest::may_have_servers(cf)
    }
}

/// Defers the check until the whole file has been read. Returns whether nginx may continue to read.
///
/// # Safety
/// `cycle` is the cycle for which nginx calls the `postconfiguration` of an HTTP module.
pub(crate) unsafe fn defer(cycle: *mut ngx_cycle_t, phase: Phase) -> bool {
    // SAFETY: by the caller's promise; nothing else refers to this module's main configuration now.
    unsafe {
        if let Some(main) = ngx::http_main_conf::<MainConf>(cycle, own_module()).as_mut() {
            main.is_deferred = true;
        }
        // A process that serves nothing yet may be refused later: it then exits.
        if phase != Phase::Reload || !is_serving() {
            return true;
        }
        !matches!(rehearse(cycle), Some(REFUSED | BROKEN))
    }
}

/// Whether a configuration is in effect in this process.
pub(crate) fn is_serving() -> bool {
    // SAFETY: `ngx_cycle` is null, or points to the initial cycle of `main` or to the cycle in effect.
    unsafe { !ngx_cycle.is_null() && !(*ngx_cycle).conf_ctx.is_null() }
}

/// Enables the child's log again, for the check.
///
/// # Safety
/// `cycle` is live.
pub(crate) unsafe fn end_silence(cycle: *mut ngx_cycle_t) {
    // SAFETY: by the caller's promise; a cycle has a log.
    unsafe { (*(*cycle).log).log_level = LEVEL.load(Ordering::Relaxed) };
}

/// Forks a child that continues to read `cycle`. Returns the child's exit status, if it has exited by itself. The child
/// returns from here as well, with `None`.
///
/// # Safety
/// As for [`defer`].
unsafe fn rehearse(cycle: *mut ngx_cycle_t) -> Option<c_int> {
    // SAFETY: by the caller's promise. A `sigset_t` is plain data, which sigemptyset and sigprocmask fill in. fork is
    // safe in nginx's master, which has one thread. If a module has started a thread that holds a lock now, the child
    // may wait for ever; `wait_for` ends it after `PATIENCE`.
    unsafe {
        // Otherwise nginx's own signal handler would collect the child's status.
        let mut children: libc::sigset_t = mem::zeroed();
        let mut before: libc::sigset_t = mem::zeroed();
        libc::sigemptyset(&raw mut children);
        libc::sigaddset(&raw mut children, libc::SIGCHLD);
        libc::sigprocmask(libc::SIG_BLOCK, &raw const children, &raw mut before);
        let master = libc::getpid();
        let child = libc::fork();
        if child == 0 {
            become_child(cycle, master);
            return None;
        }
        let ended = if child > 0 { wait_for(child) } else { None };
        libc::sigprocmask(libc::SIG_SETMASK, &raw const before, ptr::null_mut());
        if ended.is_none() {
            let text = "hpkp: [tls-server-not-checked] -: cannot check the servers in blocks after http \
                        in advance; they are checked once nginx has begun to use the configuration";
            log::write((*cycle).log, NGX_LOG_WARN, text, None);
        }
        ended
    }
}

/// Ensures that this process ends when the reading of `cycle` ends, with or without success: it must never continue as
/// a second master.
///
/// # Safety
/// `cycle` is being read, in a process that has just been forked from `master`.
unsafe fn become_child(cycle: *mut ngx_cycle_t, master: libc::pid_t) {
    unsafe extern "C" fn give_up(_: *mut c_void) {
        end(UNKNOWN);
    }
    phase::begin_rehearsal();
    // SAFETY: by the caller's promise the cycle, with its pool and its log, is live, and this process has one thread.
    // If nginx rejects the cycle, it destroys the pool and so runs `give_up`; otherwise it calls `late::init_conf`.
    // Both end the process.
    unsafe {
        #[cfg(target_os = "linux")]
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        let cleanup = ngx_pool_cleanup_add((*cycle).pool, 0);
        if cleanup.is_null() || libc::getppid() != master {
            end(UNKNOWN);
        }
        (*cleanup).handler = Some(give_up);
        // The master itself will log errors in the rest of the file.
        let log = (*cycle).log;
        LEVEL.store((*log).log_level, Ordering::Relaxed);
        (*log).log_level = 0;
    }
}

/// Ends the child without running the exit handlers that the master has registered.
pub(crate) fn end(status: c_int) -> ! {
    // SAFETY: _exit takes no pointer. It ends the child at once and leaves the master's files and buffers alone.
    unsafe { libc::_exit(status) }
}

/// The exit status of a child, if it has exited by itself and in time.
fn wait_for(child: libc::pid_t) -> Option<c_int> {
    let begun = Instant::now();
    let mut pause = Duration::from_millis(1);
    let mut status = 0;
    loop {
        // SAFETY: `child` is a child of this process. nginx waits for children only in its handler of SIGCHLD, which
        // `rehearse` blocks, so the number still belongs to this child. waitpid writes to `status`.
        let done = unsafe { libc::waitpid(child, &raw mut status, libc::WNOHANG) };
        if done == child {
            break;
        }
        if done < 0 {
            return None;
        }
        if begun.elapsed() > PATIENCE {
            // SAFETY: as above; waitpid has not returned this child yet.
            unsafe {
                libc::kill(child, libc::SIGKILL);
                libc::waitpid(child, &raw mut status, 0);
            }
            return None;
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
    libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status))
}
