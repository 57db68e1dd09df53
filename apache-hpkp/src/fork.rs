//! Closes this module's descriptors in processes that httpd forks.
//!
//! Descriptors with close-on-exec stay open in a process that continues without exec: a daemon of mod_cgid, mod_fcgid
//! or mod_wsgi, or a worker. httpd calls no hook for these daemons. Such a process would keep the terminal open for a
//! caller that waits until it is closed, and would keep the lock on the records after the server has ended.

use std::sync::OnceLock;

use hpkp_server::published;

use crate::log;

/// Makes every process that is forked from now on close the descriptors that it must not keep. Returns false if the
/// system has no memory for that.
pub(crate) fn close_descriptors_in_children() -> bool {
    // The file, and so the function, stays loaded as long as the process lives, see build.rs.
    static IS_REGISTERED: OnceLock<bool> = OnceLock::new();
    *IS_REGISTERED.get_or_init(|| {
        // SAFETY: the C library calls `in_child` after each fork, in the only thread of the child. The file that has
        // the function is never unloaded (see above).
        unsafe { libc::pthread_atfork(None, None, Some(in_child)) == 0 }
    })
}

/// This function must not allocate, wait for a lock or panic: if the parent has several threads, the fork may have
/// interrupted any of them.
unsafe extern "C" fn in_child() {
    log::close_terminal_in_child();
    // SAFETY: only the parent checks configurations and records pins (`post_config`), never a child. The process that
    // detaches from the terminal and becomes the parent is forked before the records are claimed.
    unsafe { published::close_in_child() };
}
