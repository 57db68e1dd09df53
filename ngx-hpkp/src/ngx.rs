//! Access to nginx's containers, strings and configuration slots. Code that follows raw pointers in nginx's data
//! structures for more than one module is here.
//!
//! Guarantees of nginx on which the SAFETY comments of this crate rely:
//! - The master has one thread, and a worker handles connections in one thread. nginx calls every hook, handler, filter
//!   and variable of this module in that thread.
//! - `ngx_init_cycle` reads a configuration into a new cycle. `cf->cycle` is that cycle, `cf->pool` is its pool, and
//!   `cycle->log` is set before a module is called. nginx destroys the pool of a cycle that it rejects. It destroys the
//!   pool of an old cycle in the master when the next cycle is in effect, and without a master when no connection uses
//!   the old one any more. A worker keeps its cycle until it exits.
//! - `ngx_http_block` allocates, in that pool, the slots for the configurations of all HTTP modules, at the `ctx_index`
//!   of each module, and refuses the configuration if a `create_..._conf` hook returns null.
//! - While nginx reads `http`, `cf->ctx` is an `ngx_http_conf_ctx_t`, in every block.

use std::ffi::{CStr, c_char, c_void};
use std::ptr;

use hpkp_core::finding::Location;
use nginx_sys::{
    NGX_OK, ngx_array_t, ngx_command_t, ngx_conf_full_name, ngx_conf_t, ngx_cycle_t,
    ngx_http_conf_ctx_t, ngx_http_module, ngx_int_t, ngx_module_t, ngx_str_t,
};

/// nginx's `NGX_CONF_OK`.
pub(crate) const CONF_OK: *mut c_char = ptr::null_mut();

/// nginx's `NGX_CONF_ERROR`, a macro that the bindings lack.
pub(crate) const CONF_ERROR: *mut c_char = ptr::without_provenance_mut(usize::MAX);

/// nginx's `NGX_OK` in the type in which it is returned.
pub(crate) const OK: ngx_int_t = NGX_OK as ngx_int_t;

/// nginx's `NGX_ERROR` in the type in which it is returned.
pub(crate) const ERROR: ngx_int_t = nginx_sys::NGX_ERROR as ngx_int_t;

/// `text` as a string of nginx, which only reads names and values that it is given.
pub(crate) const fn string(text: &str) -> ngx_str_t {
    ngx_str_t { len: text.len(), data: text.as_ptr().cast_mut() }
}

/// A static string of nginx. The names of directives are compared up to the terminating null byte.
pub(crate) const fn c_string(text: &'static CStr) -> ngx_str_t {
    ngx_str_t { len: text.count_bytes(), data: text.as_ptr().cast_mut().cast() }
}

/// A string's text; bytes that are not UTF-8 are replaced.
pub(crate) fn text(string: &ngx_str_t) -> String {
    String::from_utf8_lossy(string.as_bytes()).into_owned()
}

/// An array's elements; none if the pointer is null.
///
/// # Safety
/// `array` is null or a live array of `T`, which does not change while the slice is used.
pub(crate) unsafe fn elements<'a, T>(array: *const ngx_array_t) -> &'a [T] {
    if array.is_null() {
        return &[];
    }
    // SAFETY: by the caller's promise the elements are of type `T`; nginx keeps `nelts` of them at `elts`.
    unsafe { (*array).as_slice() }
}

/// The texts of an array of strings; none if the pointer is null.
///
/// # Safety
/// `array` is null or a live array of `ngx_str_t`.
pub(crate) unsafe fn texts(array: *const ngx_array_t) -> Vec<String> {
    // SAFETY: by the caller's promise; the slice is used only here.
    unsafe { elements::<ngx_str_t>(array) }.iter().map(text).collect()
}

/// The place of the directive being read.
///
/// # Safety
/// `cf` is the `cf` with which nginx calls the handler of a directive.
pub(crate) unsafe fn location(cf: *const ngx_conf_t) -> Location {
    // SAFETY: by the caller's promise. `conf_file` is null or live while nginx parses it; for directives of the command
    // line (-g), `ngx_conf_param` sets a `conf_file` without a name.
    unsafe {
        let file = (*cf).conf_file;
        if file.is_null() || (*file).file.name.is_empty() {
            return Location { file: "command line".into(), line: 0 };
        }
        Location { file: text(&(*file).file.name).into(), line: (*file).line }
    }
}

/// The words of the directive being read, its name first; none if a word is not UTF-8.
///
/// # Safety
/// As for [`location`].
pub(crate) unsafe fn words(cf: *const ngx_conf_t) -> Option<Vec<String>> {
    // SAFETY: by the caller's promise `args` is the array of `ngx_str_t` that `ngx_conf_read_token` has filled.
    let words: &[ngx_str_t] = unsafe { elements((*cf).args) };
    words.iter().map(|word| word.to_str().ok().map(str::to_owned)).collect()
}

/// The absolute form of a path, as nginx makes it: relative to the directory of the configuration file.
///
/// # Safety
/// `cycle` is the cycle being configured.
pub(crate) unsafe fn full_path(cycle: *mut ngx_cycle_t, path: &str) -> String {
    // nginx wants a terminating null byte behind the string and changes the string's pointer.
    let mut bytes = path.as_bytes().to_vec();
    bytes.push(0);
    let mut name = ngx_str_t { len: path.len(), data: bytes.as_mut_ptr() };
    // SAFETY: by the caller's promise. The string is terminated and outlives its use below: `ngx_conf_full_name` leaves
    // `name` as it is or makes it point to a string in the cycle's pool.
    let result = unsafe { ngx_conf_full_name(cycle, &raw mut name, 1) };
    if result == OK { text(&name) } else { path.to_owned() }
}

/// Whether `module` is part of a cycle whose configuration has been read.
///
/// # Safety
/// `cycle` is null or live, and its `modules` are null or complete.
pub(crate) unsafe fn is_loaded_in(cycle: *const ngx_cycle_t, module: *const ngx_module_t) -> bool {
    // SAFETY: by the caller's promise; `ngx_cycle_modules` makes the list, which ends with a null pointer.
    unsafe {
        if cycle.is_null() || (*cycle).conf_ctx.is_null() || (*cycle).modules.is_null() {
            return false;
        }
        let mut loaded = (*cycle).modules;
        while !(*loaded).is_null() && (*loaded).cast_const() != module {
            loaded = loaded.add(1);
        }
        !(*loaded).is_null()
    }
}

/// Whether two cycles have the same modules in the same order.
///
/// # Safety
/// Both cycles are live, and their `modules` are not null.
pub(crate) unsafe fn same_modules(one: *const ngx_cycle_t, other: *const ngx_cycle_t) -> bool {
    // SAFETY: by the caller's promise; each list ends with a null pointer, at which the loop stops.
    unsafe {
        let (mut one, mut other) = ((*one).modules, (*other).modules);
        while !(*one).is_null() && *one == *other {
            (one, other) = (one.add(1), other.add(1));
        }
        *one == *other
    }
}

/// This module.
pub(crate) const fn own_module() -> *const ngx_module_t {
    &raw const crate::ngx_http_hpkp_module
}

/// The main configuration of `module` in `cycle`; null if there is no `http` block.
///
/// # Safety
/// `cycle` is live and has `conf_ctx`, `module` is an HTTP module that is loaded in it, and the module's main
/// configuration is a `T`.
pub(crate) unsafe fn http_main_conf<T>(
    cycle: *const ngx_cycle_t,
    module: *const ngx_module_t,
) -> *mut T {
    // SAFETY: by the caller's promise. `ngx_http_block` stores its context in the slot of `ngx_http_module`, which is
    // null before. `main_conf` has a slot for every HTTP module.
    unsafe {
        let context: *mut ngx_http_conf_ctx_t =
            (*(*cycle).conf_ctx.add(ngx_http_module.index)).cast();
        if context.is_null() {
            return ptr::null_mut();
        }
        (*(*context).main_conf.add((*module).ctx_index)).cast()
    }
}

/// The server configuration of `module` in `http` itself; null if there is no `http` block.
///
/// # Safety
/// As for [`http_main_conf`], where the module's server configuration is a `T`.
pub(crate) unsafe fn http_conf<T>(
    cycle: *const ngx_cycle_t,
    module: *const ngx_module_t,
) -> *mut T {
    // SAFETY: as in `http_main_conf`.
    unsafe {
        let context: *mut ngx_http_conf_ctx_t =
            (*(*cycle).conf_ctx.add(ngx_http_module.index)).cast();
        if context.is_null() {
            return ptr::null_mut();
        }
        http_server_conf(context, module)
    }
}

/// The server configuration of `module` in `context`.
///
/// # Safety
/// `context` is the live context of `http` or of a server block, `module` is an HTTP module that is loaded in its
/// cycle, and the module's server configuration is a `T`.
pub(crate) unsafe fn http_server_conf<T>(
    context: *const ngx_http_conf_ctx_t,
    module: *const ngx_module_t,
) -> *mut T {
    // SAFETY: by the caller's promise; `srv_conf` has a slot for every HTTP module.
    unsafe { (*(*context).srv_conf.add((*module).ctx_index)).cast() }
}

/// A handler of a directive, as nginx calls it.
pub(crate) type Handler =
    unsafe extern "C" fn(*mut ngx_conf_t, *mut ngx_command_t, *mut c_void) -> *mut c_char;
