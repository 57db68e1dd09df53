//! Access to httpd's containers, directives and configuration slots.
//!
//! httpd reads a configuration in the main thread of the process, before any thread or child serves clients (`main` in
//! server/main.c). What belongs to the configuration is allocated in the pool `pconf`, which httpd clears only before
//! the next reading: the tree of directives, every `server_rec`, the listeners, and the objects of this module.

use std::ffi::{CStr, c_char, c_int};
use std::ptr::NonNull;

use hpkp_core::finding::Location;
use hpkp_server::openssl::{OpenSsl, OpenSslError};

use crate::bindings::{
    ap_directive_t, ap_find_linked_module, ap_getword_conf, ap_server_root_relative,
    apr_array_header_t, apr_pool_t, conn_rec, request_rec, server_rec,
};
use crate::cstr::{c_string, text};
use crate::hpkp_module;

/// httpd's `OK` in the type in which it is returned.
pub(crate) const OK: c_int = crate::bindings::OK;

/// httpd's `DECLINED`.
pub(crate) const DECLINED: c_int = crate::bindings::DECLINED;

/// The elements of an array; none if the pointer is null.
///
/// # Safety
/// `array` is null or a live array of `T`, which does not change while the slice is used.
pub(crate) unsafe fn elements<'a, T>(array: *const apr_array_header_t) -> &'a [T] {
    // SAFETY: by the caller's promise the elements are of type `T`; APR keeps `nelts` of them at `elts`.
    unsafe {
        match array.as_ref() {
            Some(array) if array.nelts > 0 && !array.elts.is_null() => {
                std::slice::from_raw_parts(array.elts.cast(), array.nelts as usize)
            }
            _ => &[],
        }
    }
}

/// This module's slot in one of httpd's configuration vectors; none if httpd does not have the module, whose index is
/// then -1.
///
/// # Safety
/// `vector` is a live vector of a server, a connection or a request.
#[inline]
pub(crate) unsafe fn slot<T>(
    vector: *mut crate::bindings::ap_conf_vector_t,
) -> Option<NonNull<*mut T>> {
    // SAFETY: only `ap_add_module` and `ap_remove_module` (server/config.c) write the index. httpd calls them in its
    // main thread, when it loads and unloads modules before and after it reads a configuration.
    let index = usize::try_from(unsafe { hpkp_module.module_index }).ok()?;
    // SAFETY: by the caller's promise the vector is live. httpd allocates each vector with `conf_vector_length` slots,
    // which `ap_add_module` asserts to be more than the index of any module.
    Some(unsafe { NonNull::new_unchecked(vector.cast::<*mut T>().add(index)) })
}

/// This module's slot of a connection, null at first; none if httpd does not have the module.
///
/// # Safety
/// `connection` is live.
#[inline]
pub(crate) unsafe fn connection_slot<T>(connection: *const conn_rec) -> Option<NonNull<*mut T>> {
    // SAFETY: by the caller's promise; httpd makes the vector (`ap_create_conn_config`) in the connection's pool.
    unsafe { slot((*connection).conn_config) }
}

/// This module's slot of a request, null at first; none if httpd does not have the module.
///
/// # Safety
/// `request` is live.
#[inline]
pub(crate) unsafe fn request_slot<T>(request: *const request_rec) -> Option<NonNull<*mut T>> {
    // SAFETY: by the caller's promise; httpd makes the vector (`ap_create_request_config`) in the request's pool.
    unsafe { slot((*request).request_config) }
}

/// The place of a directive.
///
/// # Safety
/// `directive` is in the tree of the configuration that httpd is reading or has just read.
pub(crate) unsafe fn location(directive: *const ap_directive_t) -> Location {
    // SAFETY: by the caller's promise; `filename` is a string in the same pool as the directive.
    unsafe {
        Location {
            file: text((*directive).filename).into(),
            line: usize::try_from((*directive).line_num).unwrap_or(0),
        }
    }
}

/// The words of a directive's arguments, without their quotation marks.
///
/// # Safety
/// `pool` is a live pool, and `arguments` is null or ends with a null byte.
pub(crate) unsafe fn words(pool: *mut apr_pool_t, mut arguments: *const c_char) -> Vec<String> {
    let mut words = Vec::new();
    // SAFETY: by the caller's promise. `ap_getword_conf` copies the word into the pool and moves `arguments` behind the
    // word, at most to the terminating null byte.
    unsafe {
        while !arguments.is_null() && *arguments != 0 {
            words.push(text(ap_getword_conf(pool, &raw mut arguments)));
        }
    }
    words
}

/// The absolute form of a path, as httpd makes it: relative to the server root.
///
/// # Safety
/// `pool` is a live pool.
pub(crate) unsafe fn full_path(pool: *mut apr_pool_t, path: &str) -> String {
    let name = c_string(path);
    // SAFETY: by the caller's promise. `ap_server_root_relative` returns `name` itself, a string in the pool, or null;
    // `name` outlives the copy that `text` makes.
    unsafe {
        let full = ap_server_root_relative(pool, name.as_ptr());
        if full.is_null() { path.to_owned() } else { text(full) }
    }
}

/// Whether a module is loaded, by the name that `<IfModule>` takes.
pub(crate) fn is_loaded(name: &CStr) -> bool {
    // SAFETY: `ap_find_linked_module` compares the name, which ends with a null byte, with the names in httpd's list of
    // modules. Only the main thread, which calls this while it reads a configuration, changes that list.
    !unsafe { ap_find_linked_module(name.as_ptr()) }.is_null()
}

/// The OpenSSL whose functions mod_ssl calls; another module may have loaded another OpenSSL. Without mod_ssl there is
/// none.
pub(crate) fn openssl() -> Result<OpenSsl, OpenSslError> {
    // SAFETY: as in `is_loaded`. The result is the address of mod_ssl's `module` structure, in mod_ssl's file or in the
    // program; `used_by` does not dereference it.
    let ssl = unsafe { ap_find_linked_module(c"mod_ssl.c".as_ptr()) };
    OpenSsl::used_by(ssl.cast_const().cast())
}

/// All servers: the main one and the virtual hosts.
///
/// # Safety
/// `main` is the main server of a live configuration, and httpd adds no server while the iterator is used.
pub(crate) unsafe fn servers(main: *mut server_rec) -> impl Iterator<Item = *mut server_rec> {
    let mut next = main;
    std::iter::from_fn(move || {
        let server = next;
        if server.is_null() {
            return None;
        }
        // SAFETY: by the caller's promise the server is live; `next` is the next virtual host, and null in the last
        // one.
        next = unsafe { (*server).next };
        Some(server)
    })
}

/// A directive and those after it in the same block.
///
/// # Safety
/// `directive` is null or in the tree of a live configuration, which does not change while the iterator is used.
pub(crate) unsafe fn siblings<'a>(
    directive: *const ap_directive_t,
) -> impl Iterator<Item = &'a ap_directive_t> {
    // SAFETY: by the caller's promise.
    let first = unsafe { directive.as_ref() };
    std::iter::successors(first, |directive| unsafe {
        // SAFETY: `next` is a directive of the same tree, and null in the last one of a block.
        directive.next.as_ref()
    })
}
