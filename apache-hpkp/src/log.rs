//! Writes to httpd's error log, and to the terminal while a server starts.

use std::ffi::c_int;
use std::io::Write as _;
use std::mem::ManuallyDrop;
use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use hpkp_server::failure::{Answer, LogLine};

use crate::bindings::{
    APLOG_ALERT, APLOG_EMERG, APLOG_ERR, APLOG_WARNING, ap_log_error_, ap_server_conf, server_rec,
};
use crate::cstr::c_string;
use crate::hpkp_module;

/// The level of a line.
fn level(answer: Answer) -> c_int {
    match answer {
        Answer::Refuse => APLOG_EMERG,
        Answer::Alarm => APLOG_ALERT,
        Answer::Withhold => APLOG_ERR,
        Answer::Warn => APLOG_WARNING,
    }
}

/// The text of a line, followed by the place of the directive in parentheses.
fn text(line: &LogLine) -> String {
    match &line.at {
        Some(at) => format!("{} (configured at {at})", line.text),
        None => line.text.clone(),
    }
}

/// Writes to the error log of `server`, or of the main server if it is null.
///
/// # Safety
/// `server` is null or live.
pub(crate) unsafe fn write(server: *const server_rec, level: c_int, text: &str) {
    let text = c_string(text);
    // SAFETY: by the caller's promise. `%s` takes one string, and `text` ends with a null byte. `ap_log_error_` accepts
    // a null server, which `ap_server_conf` is before httpd has made the main server; it then writes to standard error.
    unsafe {
        let server = if server.is_null() { ap_server_conf.cast_const() } else { server };
        ap_log_error_(
            c"mod_hpkp".as_ptr(),
            0,
            hpkp_module.module_index,
            level,
            0,
            server,
            c"%s".as_ptr(),
            text.as_ptr(),
        );
    }
}

/// Writes to the terminal of a test. httpd's own function would double the backslashes of a command that is printed.
pub(crate) fn write_startup(text: &str) {
    // An error is ignored, since the reader of the terminal may be gone.
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Writes a line of a judgement to the terminal of a test.
pub(crate) fn line_of_test(line: &LogLine) {
    write_startup(&text(line));
}

/// Writes a line of a judgement to the main error log.
pub(crate) fn line(line: &LogLine) {
    // SAFETY: null is allowed.
    unsafe { write(ptr::null(), level(line.answer), &text(line)) };
}

/// Writes the message of a panic to the error log, and during the first reading of a starting server also to the
/// terminal.
pub(crate) fn panic(level: c_int, text: &str) {
    // SAFETY: null is allowed.
    unsafe { write(ptr::null(), level, text) };
    to_terminal(text);
}

/// A copy of standard error from before the error log replaced it; -1 if there is none.
static TERMINAL: AtomicI32 = AtomicI32::new(-1);

/// Whether the next forked process is the server itself, which leaves the terminal after its first reading.
static IS_DETACHING: AtomicBool = AtomicBool::new(false);

/// Keeps a copy of standard error, which httpd replaces when it opens the error log. The copy is kept until the server
/// is ready. If standard error is a pipe, its reader waits for every process that has it open, so the caller must
/// ensure that children close the copy.
pub(crate) fn keep_terminal() {
    // SAFETY: F_DUPFD_CLOEXEC takes no pointer; it returns a new descriptor, which this module owns, or -1.
    let kept = unsafe { libc::fcntl(libc::STDERR_FILENO, libc::F_DUPFD_CLOEXEC, 3) };
    replace_terminal(kept);
}

/// Closes the copy in a process that has just been forked, see `fork`.
pub(crate) fn close_terminal_in_child() {
    if IS_DETACHING.load(Ordering::Relaxed) {
        return;
    }
    let kept = TERMINAL.swap(-1, Ordering::Relaxed);
    if kept >= 0 {
        // SAFETY: `keep_terminal` opened the descriptor. `swap` has taken it out of `TERMINAL`, so no other code closes
        // it in this process.
        unsafe { libc::close(kept) };
    }
}

/// Sets whether the next forked process is the server itself.
pub(crate) fn expect_detaching(is_next: bool) {
    IS_DETACHING.store(is_next, Ordering::Relaxed);
}

/// Closes the copy of [`keep_terminal`].
pub(crate) fn release_terminal() {
    replace_terminal(-1);
}

fn replace_terminal(new: RawFd) {
    let old = TERMINAL.swap(new, Ordering::Relaxed);
    if old >= 0 {
        // SAFETY: `keep_terminal` opened the descriptor. `swap` has taken it out of `TERMINAL`, so this is its only
        // owner.
        drop(unsafe { OwnedFd::from_raw_fd(old) });
    }
}

/// Writes a line of a judgement to the terminal of a start.
pub(crate) fn line_to_terminal(line: &LogLine) {
    to_terminal(&text(line));
}

fn to_terminal(text: &str) {
    let kept = TERMINAL.load(Ordering::Relaxed);
    if kept < 0 || is_standard_error(kept) {
        return;
    }
    // SAFETY: `keep_terminal` opened the descriptor, and `TERMINAL` keeps owning it, since `ManuallyDrop` does not
    // close it.
    let mut terminal = ManuallyDrop::new(unsafe { std::fs::File::from_raw_fd(kept) });
    // An error is ignored, since the reader of the terminal may be gone.
    let _ = terminal.write_all(format!("{text}\n").as_bytes());
}

/// Whether a descriptor and standard error are the same file: the log is then the terminal.
fn is_standard_error(kept: RawFd) -> bool {
    let identity = |descriptor| {
        let mut status = std::mem::MaybeUninit::<libc::stat>::uninit();
        // SAFETY: `status` has the size of a `stat`, and fstat fills it in if it returns 0.
        unsafe {
            let done = libc::fstat(descriptor, status.as_mut_ptr()) == 0;
            done.then(|| (status.assume_init().st_dev, status.assume_init().st_ino))
        }
    };
    identity(kept) == identity(libc::STDERR_FILENO)
}
