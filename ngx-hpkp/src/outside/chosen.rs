//! Certificates that other modules choose during the handshake in `stream`, such as Lua's
//! `ssl_certificate_by_lua_block`: the counterpart of [`crate::chosen`] for `http`. The `stream` block may precede
//! `http` in the file, so a module of this kind must act at its beginning.

use std::ffi::{c_char, c_void};
use std::ptr;

use hpkp_server::nginx::Choosers;
use nginx_sys::{NGX_CORE_MODULE, ngx_command_t, ngx_conf_t, ngx_int_t, ngx_module_t, ngx_uint_t};

use super::bindings::{NGX_STREAM_MODULE, ngx_stream_conf_ctx_t, ngx_stream_module_t};
use crate::boundary::{self, OnPanic};
use crate::chosen::{self, Found};
use crate::ngx::{CONF_ERROR, CONF_OK, ERROR, OK};
use crate::pool;

/// The hooks that nginx calls if there is a `stream` block; only the `stream` module knows modules of this kind.
pub(crate) static CONTEXT: ngx_stream_module_t = ngx_stream_module_t {
    preconfiguration: Some(watch),
    postconfiguration: None,
    create_main_conf: Some(create_main),
    init_main_conf: None,
    create_srv_conf: Some(create_server),
    merge_srv_conf: Some(merge_server),
};

/// nginx's number for this kind of module.
pub(crate) const KIND: ngx_uint_t = NGX_STREAM_MODULE as ngx_uint_t;

fn own_module() -> *const ngx_module_t {
    &raw const crate::ngx_stream_hpkp_module
}

unsafe extern "C" fn create_main(cf: *mut ngx_conf_t) -> *mut c_void {
    // SAFETY: `ngx_stream_block` calls this hook with a live `cf`.
    unsafe { create::<Found>(cf) }
}

unsafe extern "C" fn create_server(cf: *mut ngx_conf_t) -> *mut c_void {
    // SAFETY: `ngx_stream_block` and `ngx_stream_core_server` call this hook with a live `cf`.
    unsafe { create::<Choosers>(cf) }
}

/// # Safety
/// `cf` is live.
unsafe fn create<T: Default>(cf: *mut ngx_conf_t) -> *mut c_void {
    // SAFETY: by the caller's promise; `cf->pool` is the pool of the cycle.
    let make = || unsafe { pool::alloc_in_pool((*cf).pool, T::default()) };
    let after = |on_panic| match on_panic {
        OnPanic::Reject => ptr::null_mut(),
        OnPanic::Continue => make(),
    };
    boundary::catch_config_hook_late("create_stream_conf", after, make).cast()
}

unsafe extern "C" fn merge_server(
    _: *mut ngx_conf_t,
    outer: *mut c_void,
    inner: *mut c_void,
) -> *mut c_char {
    let after = |on_panic: OnPanic| on_panic.either(CONF_ERROR, CONF_OK);
    boundary::catch_config_hook_late("merge_stream_conf", after, || {
        // SAFETY: nginx's code for `stream` passes two objects that `create_server` made: that of `stream` and that of
        // one server. Nothing else refers to them during the call.
        let (outer, inner) =
            unsafe { (&*outer.cast::<Choosers>(), &mut *inner.cast::<Choosers>()) };
        inner.inherit(outer);
        CONF_OK
    })
}

/// `preconfiguration`: all modules are loaded, and nothing in `stream` has been read.
unsafe extern "C" fn watch(cf: *mut ngx_conf_t) -> ngx_int_t {
    let after = |on_panic: OnPanic| on_panic.either(ERROR, OK);
    boundary::catch_config_hook_late("watch_stream", after, || {
        // SAFETY: `ngx_stream_block` calls this hook with a live `cf`, whose context is that of `stream`, after all
        // `create_main_conf` hooks.
        unsafe {
            let cycle = (*cf).cycle;
            // The `stream` module is loaded, since it has called this.
            let block =
                super::modules::module(cycle, c"ngx_stream_module", NGX_CORE_MODULE as usize);
            let Some(block) = block else { return OK };
            let found = chosen::watch_all(cycle, KIND, &raw const *block, directive);
            let Ok(found) = found else { return ERROR };
            *main_conf(cf) = found;
        }
        OK
    })
}

/// Replaces another module's handler of its directive in `stream`.
unsafe extern "C" fn directive(
    cf: *mut ngx_conf_t,
    command: *mut ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    let after = |on_panic: OnPanic| on_panic.either(Err(()), Ok(None));
    // SAFETY: `ngx_conf_handler` calls this handler with a live `cf` and the command in whose copy `watch_all` has put
    // it.
    let note = || unsafe { chosen::note(cf, command) };
    let noted = boundary::catch_config_hook_late("watched_directive", after, note);
    // SAFETY: as above; `cf->ctx` is a context of `stream`, whose slots have the objects that `create_main` and
    // `create_server` made. `watched` does not change after `watch`, and no reference to it or to the server's object
    // is in use while the original handler runs.
    unsafe {
        let context: *const ngx_stream_conf_ctx_t = (*cf).ctx.cast();
        let slot = (*context).srv_conf.add((*own_module()).ctx_index);
        let server: *mut Choosers = (*slot).cast();
        let original = chosen::original(&(*main_conf(cf)).watched, command);
        let Some((answer, noted)) = chosen::handled(cf, original, conf, noted) else {
            return CONF_ERROR;
        };
        if let Some((effect, noted)) = noted {
            (*server).note(effect, noted);
        }
        answer
    }
}

/// The modules that were found at the beginning of the block.
///
/// # Safety
/// `cf` is live, and its context is one of `stream`.
unsafe fn main_conf(cf: *const ngx_conf_t) -> *mut Found {
    // SAFETY: by the caller's promise; the slot has the object that `create_main` made.
    unsafe {
        let context: *const ngx_stream_conf_ctx_t = (*cf).ctx.cast();
        (*(*context).main_conf.add((*own_module()).ctx_index)).cast()
    }
}
