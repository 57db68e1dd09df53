//! Records that the server has stopped.

use std::ffi::{c_int, c_void};
use std::io::Write as _;
use std::process;

use hpkp_server::boundary;
use hpkp_server::journal::Journal;

use crate::bindings::{apr_pool_cleanup_null, apr_pool_cleanup_register, apr_pool_t};
use crate::httpd::OK;
use crate::{fork, phase};

/// The journal of the server, and the process whose end counts, since its children have the pool as well.
struct Ending {
    journal: Journal,
    process: u32,
}

/// Makes the end of the server be recorded. The pool ends with each configuration, but its end counts only if the
/// server ends as well.
///
/// # Safety
/// `pool` is `pconf`, as httpd passes it to `post_config`.
pub(crate) unsafe fn register(pool: *mut apr_pool_t, journal: Journal) {
    fork::close_descriptors_in_children();
    let ending = Box::into_raw(Box::new(Ending { journal, process: process::id() }));
    // SAFETY: by the caller's promise. APR stores the pointers; in a child that is about to execute another program it
    // calls the last function, which does nothing.
    unsafe {
        let nothing = Some(apr_pool_cleanup_null as unsafe extern "C" fn(_) -> _);
        apr_pool_cleanup_register(pool, ending.cast(), Some(end), nothing);
    }
}

unsafe extern "C" fn end(ending: *mut c_void) -> c_int {
    boundary::catch_request_hook("ending", OK, say, || {
        let ending = ending.cast::<Ending>();
        // SAFETY: `register` made the pointer from a box, and only the code below drops the box.
        if unsafe { (*ending).process } != process::id() {
            return OK;
        }
        // SAFETY: as above. APR runs a cleanup once, so this is the only owner in this process.
        let ending = unsafe { Box::from_raw(ending) };
        if !phase::is_ending() {
            return OK;
        }
        if let Err(text) = ending.journal.stop() {
            say(&text);
        }
        OK
    })
}

/// Writes to standard error, which leads to the error log: httpd may have closed its log by now.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
