//! The limit for the size of files (`ulimit -f`, systemd's `LimitFSIZE=`). A write beyond it causes a signal that ends
//! the process, but a server must not end because of a record that it cannot write.

use std::mem::MaybeUninit;
use std::ptr;

/// While this value exists, a write of this thread beyond the limit is only an error.
pub(crate) struct WithoutSignal {
    /// The signals that were blocked before; none if nothing was changed.
    before: Option<libc::sigset_t>,
}

impl WithoutSignal {
    pub(crate) fn new() -> Self {
        let mut before = MaybeUninit::uninit();
        let signal = signal();
        // SAFETY: pthread_sigmask reads `signal` and, if it returns 0, fills in `before`.
        let done = unsafe {
            libc::pthread_sigmask(libc::SIG_BLOCK, &raw const signal, before.as_mut_ptr())
        };
        // SAFETY: `before` is filled in if `done` is 0.
        Self { before: (done == 0).then(|| unsafe { before.assume_init() }) }
    }
}

impl Drop for WithoutSignal {
    fn drop(&mut self) {
        let Some(before) = self.before else { return };
        let signal = signal();
        let at_once = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // A pending signal is taken first, so that it does not arrive when the signal is unblocked. If the signal was
        // blocked before, the server handles it.
        // SAFETY: the calls only read the two sets and the time, which are initialised.
        unsafe {
            if libc::sigismember(&raw const before, libc::SIGXFSZ) == 0 {
                libc::sigtimedwait(&raw const signal, ptr::null_mut(), &raw const at_once);
            }
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, ptr::null_mut());
        }
    }
}

/// A set with only this signal.
fn signal() -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigemptyset fills in the set, and sigaddset adds a valid signal.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGXFSZ);
        set.assume_init()
    }
}
