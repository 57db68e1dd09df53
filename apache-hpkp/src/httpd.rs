//! httpd's containers, strings and configuration slots as Rust sees them.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr::NonNull;

use hpkp_core::finding::Location;
use hpkp_server::openssl::{OpenSsl, OpenSslError};

use crate::bindings::{
    ap_directive_t, ap_find_linked_module, ap_getword_conf, ap_server_root_relative,
    apr_array_header_t, apr_pool_cleanup_null, apr_pool_cleanup_register, apr_pool_t, conn_rec,
    request_rec, server_rec,
};
use crate::conf::ServerConf;
use crate::hpkp_module;

/// httpd's `OK` in the type in which it is returned.
pub(crate) const OK: c_int = crate::bindings::OK;

/// httpd's `DECLINED`.
pub(crate) const DECLINED: c_int = crate::bindings::DECLINED;

/// A string's text; octets that are not UTF-8 are replaced, and null is empty.
///
/// # Safety
/// `string` is null or ends with a null octet.
pub(crate) unsafe fn text(string: *const c_char) -> String {
    if string.is_null() {
        return String::new();
    }
    // SAFETY: by the caller's promise.
    unsafe { CStr::from_ptr(string) }.to_string_lossy().into_owned()
}

/// `text` for C: what follows a null octet is left out.
pub(crate) fn c_string(text: &str) -> CString {
    let end = text.bytes().position(|octet| octet == 0).unwrap_or(text.len());
    CString::new(&text[..end]).unwrap_or_default()
}

/// The elements of an array; none where the pointer is null.
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

/// Moves `value` to where it lives as long as `pool`, and is dropped with it.
///
/// # Safety
/// `pool` is a live pool, which ends before this module is unloaded.
pub(crate) unsafe fn alloc_in_pool<T>(pool: *mut apr_pool_t, value: T) -> *mut T {
    unsafe extern "C" fn drop_box<T>(data: *mut c_void) -> c_int {
        crate::boundary::catch_request_hook("cleanup", OK, || {
            // SAFETY: `alloc_in_pool` made the pointer from a box, and a pool runs each cleanup once.
            drop(unsafe { Box::from_raw(data.cast::<T>()) });
            OK
        })
    }
    let kept = Box::into_raw(Box::new(value));
    // SAFETY: by the caller's promise; before another program is executed nothing need be done.
    unsafe {
        apr_pool_cleanup_register(
            pool,
            kept.cast(),
            Some(drop_box::<T>),
            Some(apr_pool_cleanup_null),
        );
    }
    kept
}

/// Our slot of one of httpd's configuration vectors; none where httpd does not have the module, which
/// it numbers -1 then.
///
/// # Safety
/// `vector` is a live vector of a server, a connection or a request.
#[inline]
unsafe fn slot<T>(vector: *mut crate::bindings::ap_conf_vector_t) -> Option<NonNull<*mut T>> {
    // SAFETY: httpd writes the number when it loads and unloads the module, and in one thread.
    let index = usize::try_from(unsafe { hpkp_module.module_index }).ok()?;
    // SAFETY: by the caller's promise; a vector is an array with a slot for each module.
    Some(unsafe { NonNull::new_unchecked(vector.cast::<*mut T>().add(index)) })
}

/// The configuration of a server, none where httpd does not have the module. Nothing holds a
/// reference to it while httpd may call a directive's handler, which makes one of its own.
///
/// # Safety
/// `server` is live, and its configuration has been made.
#[inline]
pub(crate) unsafe fn server_conf(server: *const server_rec) -> Option<NonNull<ServerConf>> {
    // SAFETY: by the caller's promise; the slot holds what `conf` made.
    unsafe { slot((*server).module_config).map(|slot| NonNull::new_unchecked(slot.read())) }
}

/// The configuration of a server that has been read.
///
/// # Safety
/// As for [`server_conf`]; and nothing changes it as long as the reference is used.
#[inline]
pub(crate) unsafe fn settled_conf<'a>(server: *const server_rec) -> Option<&'a ServerConf> {
    // SAFETY: by the caller's promise.
    unsafe { server_conf(server).map(|conf| conf.as_ref()) }
}

/// Where something is kept of a connection, null at first; none where httpd does not have the module.
///
/// # Safety
/// `connection` is live.
#[inline]
pub(crate) unsafe fn connection_slot<T>(connection: *const conn_rec) -> Option<NonNull<*mut T>> {
    // SAFETY: by the caller's promise.
    unsafe { slot((*connection).conn_config) }
}

/// Where something is kept of a request, null at first; none where httpd does not have the module.
///
/// # Safety
/// `request` is live.
#[inline]
pub(crate) unsafe fn request_slot<T>(request: *const request_rec) -> Option<NonNull<*mut T>> {
    // SAFETY: by the caller's promise.
    unsafe { slot((*request).request_config) }
}

/// Where a directive stands.
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
/// `pool` is a live pool, and `arguments` is null or ends with a null octet.
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

/// A path as httpd itself makes it absolute: from the server root.
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
    // SAFETY: the name ends with a null octet.
    !unsafe { ap_find_linked_module(name.as_ptr()) }.is_null()
}

/// The OpenSSL whose functions mod_ssl calls: another module may have brought another one. Without
/// mod_ssl there is none.
pub(crate) fn openssl() -> Result<OpenSsl, OpenSslError> {
    // SAFETY: the name ends with a null octet. What is found lies in mod_ssl's own file, or in the
    // program where mod_ssl is part of it; it is not followed.
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
