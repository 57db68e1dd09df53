//! Closes this module's descriptors in processes that httpd forks.
//!
//! Descriptors that are closed on exec stay open in a process that runs on without exec: a daemon of
//! mod_cgid, mod_fcgid or mod_wsgi, or a child that serves. No hook announces the daemons. Such a
//! process would keep the terminal open for a caller that waits until it is closed, and it would keep
//! the lock on the records after the server has ended.

use std::sync::OnceLock;

use hpkp_server::published;

use crate::log;

/// Has every process that is forked from now on close what it must not keep. Whether it will: the
/// system may have no memory for it.
pub(crate) fn close_descriptors_in_children() -> bool {
    // The file stays loaded as long as the process lives, see build.rs, and so does the function.
    static IS_REGISTERED: OnceLock<bool> = OnceLock::new();
    *IS_REGISTERED.get_or_init(|| {
        // SAFETY: the C library calls the function after each fork, in the child's one thread.
        unsafe { libc::pthread_atfork(None, None, Some(in_child)) == 0 }
    })
}

/// Nothing here allocates, waits for a lock or can panic: of a parent with several threads, any may
/// have been interrupted.
unsafe extern "C" fn in_child() {
    log::close_terminal_in_child();
    // SAFETY: a child of httpd does not check or record anything: that is done in the parent. What
    // becomes the server itself is forked before anything is claimed.
    unsafe { published::close_in_child() };
}
