//! Access to httpd's containers, directives and configuration slots.

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
    // SAFETY: by the caller's promise.
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
    // SAFETY: httpd writes the number when it loads and unloads the module, and in one thread.
    let index = usize::try_from(unsafe { hpkp_module.module_index }).ok()?;
    // SAFETY: by the caller's promise; a vector is an array with a slot for each module.
    Some(unsafe { NonNull::new_unchecked(vector.cast::<*mut T>().add(index)) })
}

/// This module's slot of a connection, null at first; none if httpd does not have the module.
///
/// # Safety
/// `connection` is live.
#[inline]
pub(crate) unsafe fn connection_slot<T>(connection: *const conn_rec) -> Option<NonNull<*mut T>> {
    // SAFETY: by the caller's promise.
    unsafe { slot((*connection).conn_config) }
}

/// This module's slot of a request, null at first; none if httpd does not have the module.
///
/// # Safety
/// `request` is live.
#[inline]
pub(crate) unsafe fn request_slot<T>(request: *const request_rec) -> Option<NonNull<*mut T>> {
    // SAFETY: by the caller's promise.
    unsafe { slot((*request).request_config) }
}

/// The place of a directive.
///
/// # Safety
/// `directive` is one of the configuration being read.
pub(crate) unsafe fn location(directive: *const ap_directive_t) -> Location {
    // SAFETY: by the caller's promise.
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
    // SAFETY: by the caller's promise; each word is copied, and `arguments` moves to the end.
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
    // SAFETY: by the caller's promise; the result lies in the pool, is the name, or null.
    unsafe {
        let full = ap_server_root_relative(pool, name.as_ptr());
        if full.is_null() { path.to_owned() } else { text(full) }
    }
}

/// Whether a module is loaded, by the name that `<IfModule>` takes.
pub(crate) fn is_loaded(name: &CStr) -> bool {
    // SAFETY: the name ends with a null byte.
    !unsafe { ap_find_linked_module(name.as_ptr()) }.is_null()
}

/// The OpenSSL whose functions mod_ssl calls; another module may have loaded another OpenSSL. Without mod_ssl there is
/// none.
pub(crate) fn openssl() -> Result<OpenSsl, OpenSslError> {
    // SAFETY: the name ends with a null byte. The address is in mod_ssl's own file, or in the program if mod_ssl is
    // part of it; it is not dereferenced.
    let ssl = unsafe { ap_find_linked_module(c"mod_ssl.c".as_ptr()) };
    OpenSsl::used_by(ssl.cast_const().cast())
}

/// All servers: the main one and the virtual hosts.
///
/// # Safety
/// `main` is the main server of the configuration, which does not change meanwhile.
pub(crate) unsafe fn servers(main: *mut server_rec) -> impl Iterator<Item = *mut server_rec> {
    let mut next = main;
    std::iter::from_fn(move || {
        let server = next;
        if server.is_null() {
            return None;
        }
        // SAFETY: by the caller's promise: servers are linked.
        next = unsafe { (*server).next };
        Some(server)
    })
}

/// A directive and those after it in the same block.
///
/// # Safety
/// `directive` is null or in the tree of the configuration just read.
pub(crate) unsafe fn siblings<'a>(
    directive: *const ap_directive_t,
) -> impl Iterator<Item = &'a ap_directive_t> {
    // SAFETY: by the caller's promise: directives are linked.
    let first = unsafe { directive.as_ref() };
    std::iter::successors(first, |directive| unsafe {
        // SAFETY: as above.
        directive.next.as_ref()
    })
}
