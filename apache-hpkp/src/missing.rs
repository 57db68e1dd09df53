//! Files of certificates and keys that do not exist, if last good certificates are kept.
//!
//! mod_ssl refuses a directive whose file does not exist or is empty, before any hook can give it another file, and
//! that ends a running parent. So before the directives are executed, this module gives such a directive the name of
//! an existing file of the configuration. Afterwards it restores the configured name, and `kept` decides: mod_ssl gets
//! a last good certificate or the configured name.

use std::ffi::{CString, c_char};
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use std::sync::{Mutex, PoisonError};

use hpkp_server::httpd::is_file_with_content;

use crate::bindings::{ap_conftree, ap_directive_t, apr_pool_t, apr_pstrmemdup};
use crate::cstr;
use crate::httpd;

/// A directive whose arguments were changed, and its original arguments.
struct Changed {
    directive: AtomicPtr<ap_directive_t>,
    arguments: AtomicPtr<c_char>,
}

static CHANGED: Mutex<Vec<Changed>> = Mutex::new(Vec::new());

/// Whether there were such files in this reading of the configuration.
static ANY: AtomicBool = AtomicBool::new(false);

/// Whether files were missing in this reading of the configuration and were hidden from mod_ssl.
pub(crate) fn are_any() -> bool {
    ANY.load(Ordering::Relaxed)
}

/// Hides missing files from mod_ssl. `is_start` says whether this is a start or a test before one; otherwise files are
/// only hidden with `HPKPCheck keep`.
///
/// # Safety
/// httpd is running `pre_config`: `ap_read_config` has built the tree, and `ap_process_config_tree` has not executed
/// its directives yet. `pool` is `pconf`.
pub(crate) unsafe fn hide(pool: *mut apr_pool_t, is_start: bool) {
    let mut changed = CHANGED.lock().unwrap_or_else(PoisonError::into_inner);
    changed.clear();
    // SAFETY: by the caller's promise. Only httpd's main thread, which runs this, uses the tree now. The reference that
    // `is_missing` gets has ended when the directive is changed. `other` and the original arguments are in `pconf`.
    unsafe {
        let directives = directives();
        let says = |name: &str, word: &str| {
            directives.iter().any(|directive| {
                cstr::text((**directive).directive).eq_ignore_ascii_case(name)
                    && httpd::words(pool, (**directive).args)
                        .first()
                        .is_some_and(|first| first.eq_ignore_ascii_case(word))
            })
        };
        let is_kept = directives.iter().any(|directive| {
            cstr::text((**directive).directive).eq_ignore_ascii_case("HPKPKeepCertificates")
        });
        let files = directives.iter().map(|directive| cstr::text((**directive).filename));
        // Directives from a macro are not in a file.
        let there = files
            .filter(|file| !file.contains(['"', '\\']))
            .find(|file| is_file_with_content(file));
        let is_wanted = is_kept && (is_start || says("HPKPCheck", "keep"));
        if let Some(there) = there.filter(|_| is_wanted) {
            let other = CString::new(format!("\"{there}\"")).unwrap_or_default();
            let other = apr_pstrmemdup(pool, other.as_ptr(), other.count_bytes()).cast_const();
            for directive in directives {
                if !is_missing(pool, &*directive) {
                    continue;
                }
                changed.push(Changed {
                    directive: AtomicPtr::new(directive),
                    arguments: AtomicPtr::new((*directive).args.cast_mut()),
                });
                (*directive).args = other;
            }
        }
    }
    ANY.store(!changed.is_empty(), Ordering::Relaxed);
}

/// Restores the arguments of the changed directives.
///
/// # Safety
/// httpd is running `check_config` for the configuration for which [`hide`] was called: `pconf` has not been cleared.
pub(crate) unsafe fn put_back() {
    let mut changed = CHANGED.lock().unwrap_or_else(PoisonError::into_inner);
    for Changed { directive, arguments } in changed.drain(..) {
        // SAFETY: by the caller's promise the directive, which is in `pconf`, is live. Only httpd's main thread uses
        // it.
        unsafe { (*directive.into_inner()).args = arguments.into_inner() };
    }
}

/// The directives that mod_ssl reads: those outside and inside virtual hosts.
///
/// # Safety
/// As for [`hide`].
unsafe fn directives() -> Vec<*mut ap_directive_t> {
    let mut all = Vec::new();
    // SAFETY: by the caller's promise `ap_conftree` is the tree that httpd has just built. `next` and `first_child` are
    // directives of the same tree, or null.
    unsafe {
        let mut add = |first: *mut ap_directive_t, is_outside: bool| {
            let (mut next, mut blocks) = (first, Vec::new());
            while !next.is_null() {
                all.push(next);
                let is_block = cstr::text((*next).directive).eq_ignore_ascii_case("<VirtualHost");
                if is_outside && is_block {
                    blocks.push((*next).first_child);
                }
                next = (*next).next;
            }
            blocks
        };
        for block in add(ap_conftree, true) {
            add(block, false);
        }
    }
    all
}

/// Whether a directive names a file that mod_ssl would refuse.
///
/// # Safety
/// As for [`hide`]; `directive` is in the tree.
unsafe fn is_missing(pool: *mut apr_pool_t, directive: &ap_directive_t) -> bool {
    // SAFETY: by the caller's promise; the name and the arguments are strings in `pconf`.
    unsafe {
        let name = cstr::text(directive.directive).to_ascii_lowercase();
        if !matches!(&*name, "sslcertificatefile" | "sslcertificatekeyfile") {
            return false;
        }
        match &httpd::words(pool, directive.args)[..] {
            [path] => {
                !path.starts_with("pkcs11:") && !is_file_with_content(&httpd::full_path(pool, path))
            }
            _ => false,
        }
    }
}
