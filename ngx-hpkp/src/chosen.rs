//! Certificates that other modules choose during the handshake, such as Lua's
//! `ssl_certificate_by_lua_block`: the loaded certificate of such a server is a placeholder.
//!
//! Neither nginx nor OpenSSL tells which servers have such a hook, so this module notes the directives that set one
//! when nginx reads them. nginx passes a directive to the first module that has it. Therefore, in this configuration,
//! a copy replaces each module with such a directive: its handler calls this module first and then the original. The
//! other module itself is not changed, and the copies are freed with the configuration.
//!
//! A module without such a directive can only be recognised by its file, which calls the function that sets the hook.

use std::ffi::{CStr, c_char, c_void};
use std::path::PathBuf;

use hpkp_server::library::Object;
use hpkp_server::nginx::{Chooser, Effect, effect};
use nginx_sys::{
    NGX_HTTP_MODULE, ngx_command_t, ngx_conf_t, ngx_cycle_t, ngx_http_conf_ctx_t, ngx_http_module,
    ngx_int_t, ngx_module_t, ngx_palloc, ngx_pool_t, ngx_uint_t,
};

use crate::boundary::{self, OnPanic};
use crate::chooser::Watched;
use crate::conf::{MainConf, ServerConf};
use crate::ngx::{self, CONF_ERROR, CONF_OK, ERROR, OK, own_module};

/// The functions with which a module sets a hook that chooses the certificate during the handshake.
const CALLBACKS: [&CStr; 2] = [c"SSL_CTX_set_cert_cb", c"SSL_set_cert_cb"];

/// The modules of one kind of block that can choose certificates.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) watched: Vec<Watched>,
    /// The files of modules that can choose certificates without a directive.
    pub(crate) unseen: Vec<PathBuf>,
}

/// The file of `module`, if the module has a file of its own whose code can choose certificates. `nginx` is the object
/// of nginx's own modules of this kind: they choose certificates only if a name has variables, which is known.
fn unseen_chooser(module: *const ngx_module_t, nginx: Option<&Object>) -> Option<PathBuf> {
    let object = Object::of(module.cast())?;
    let chooses = !object.is(nginx?) && CALLBACKS.iter().any(|callback| object.calls(callback));
    chooses.then(|| object.path().to_owned())
}

/// `preconfiguration`: all modules are loaded, and nothing in `http` has been read.
pub(crate) unsafe extern "C" fn watch(cf: *mut ngx_conf_t) -> ngx_int_t {
    let after = |on_panic: OnPanic| on_panic.either(ERROR, OK);
    boundary::catch_config_hook("watch", after, || {
        // SAFETY: `ngx_http_block` calls this hook with a live `cf`, after all `create_main_conf` hooks.
        unsafe {
            let (kind, nginx) = (NGX_HTTP_MODULE as ngx_uint_t, &raw const ngx_http_module);
            let Ok(found) = watch_all((*cf).cycle, kind, nginx, directive) else { return ERROR };
            let main = main_conf(cf);
            (main.watched, main.unseen_choosers) = (found.watched, found.unseen);
        }
        OK
    })
}

/// Replaces the handlers of all directives that choose certificates, in the modules of one kind, by `handler`. `block`
/// is nginx's own module of that block. The only error is a lack of memory, which nginx has logged.
///
/// # Safety
/// `cycle` is the cycle that nginx is reading. `ngx_cycle_modules` has allocated its list of modules, which ends with a
/// null pointer, in its pool; nginx looks up every directive and every module of this configuration in that list.
pub(crate) unsafe fn watch_all(
    cycle: *mut ngx_cycle_t,
    kind: ngx_uint_t,
    block: *const ngx_module_t,
    handler: ngx::Handler,
) -> Result<Found, ()> {
    let mut found = Found::default();
    let nginx = Object::of(block.cast());
    // SAFETY: by the caller's promise the list may be changed, and its modules are loaded. A copy lives as long as the
    // list.
    unsafe {
        let mut slot = (*cycle).modules;
        while !(*slot).is_null() {
            let module = *slot;
            if (*module).type_ == kind {
                match replaced(module, (*cycle).pool, handler)? {
                    None => {
                        let file = unseen_chooser(module, nginx.as_ref());
                        // One file may have several modules.
                        let is_new = |file: &PathBuf| !found.unseen.contains(file);
                        let file = file.filter(is_new);
                        found.unseen.extend(file);
                    }
                    Some((copy, watched)) => {
                        *slot = copy;
                        found.watched.extend(watched);
                    }
                }
            }
            slot = slot.add(1);
        }
    }
    Ok(found)
}

/// A copy of `module` in which the handlers of directives that choose certificates are replaced; none if it has no such
/// directive.
///
/// # Safety
/// `module` is a module in the list of the cycle that nginx is reading, and `pool` is the pool of that cycle.
unsafe fn replaced(
    module: *mut ngx_module_t,
    pool: *mut ngx_pool_t,
    handler: ngx::Handler,
) -> Result<Option<(*mut ngx_module_t, Vec<Watched>)>, ()> {
    // SAFETY: by the caller's promise. `commands` is null or an array that ends with `ngx_null_command`, which has no
    // name. `ngx_palloc` returns null or aligned memory of the size asked for: `count + 1` commands, and one module.
    unsafe {
        let first = (*module).commands;
        if first.is_null() {
            return Ok(None);
        }
        let count = (0..).take_while(|at| (*first.add(*at)).name.len != 0).count();
        let concern = |at: &usize| Some((*at, effect((*first.add(*at)).name.as_bytes())?));
        let of_concern: Vec<(usize, Effect)> = (0..count).filter_map(|at| concern(&at)).collect();
        if of_concern.is_empty() {
            return Ok(None);
        }
        let copies: *mut ngx_command_t =
            ngx_palloc(pool, (count + 1) * size_of::<ngx_command_t>()).cast();
        let copy: *mut ngx_module_t = ngx_palloc(pool, size_of::<ngx_module_t>()).cast();
        if copies.is_null() || copy.is_null() {
            return Err(());
        }
        first.copy_to_nonoverlapping(copies, count + 1);
        module.copy_to_nonoverlapping(copy, 1);
        (*copy).commands = copies;
        let watched = of_concern.into_iter().map(|(at, effect)| {
            (*copies.add(at)).set = Some(handler);
            Watched { copy: copies.add(at), original: first.add(at), effect }
        });
        Ok(Some((copy, watched.collect())))
    }
}

/// Replaces another module's handler of its directive in `http`.
unsafe extern "C" fn directive(
    cf: *mut ngx_conf_t,
    command: *mut ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    let after = |on_panic: OnPanic| on_panic.either(Err(()), Ok(None));
    // SAFETY: `ngx_conf_handler` calls this handler with a live `cf` and the command in whose copy `replaced` has put
    // it.
    let noted =
        boundary::catch_config_hook("watched_directive", after, || unsafe { note(cf, command) });
    // SAFETY: as above; `cf->ctx` is a context of `http`, whose slots have this module's objects. `watched` does not
    // change after `watch`, and no reference to it or to the server's object is in use while the original handler runs.
    unsafe {
        let server: *mut ServerConf = ngx::http_server_conf((*cf).ctx.cast(), own_module());
        let original = original(&main_conf(cf).watched, command);
        let Some((answer, noted)) = handled(cf, original, conf, noted) else { return CONF_ERROR };
        if let Some((effect, noted)) = noted {
            (*server).choosers.note(effect, noted);
        }
        answer
    }
}

/// The data about a directive that are noted before its handler runs, because a handler that reads a block changes the
/// place and the words. An error refuses the configuration.
pub(crate) type Noted = Result<Option<Chooser>, ()>;

/// Notes the directive that is being read.
///
/// # Safety
/// nginx calls the handler of a directive with `cf` and `command`.
pub(crate) unsafe fn note(cf: *const ngx_conf_t, command: *const ngx_command_t) -> Noted {
    // SAFETY: by the caller's promise; the name of a command is a static string of its module.
    let (directive, at) = unsafe { (ngx::text(&(*command).name), ngx::location(cf)) };
    Ok(Some(Chooser { directive, at }))
}

/// The original directive that `command` replaces.
pub(crate) fn original(
    watched: &[Watched],
    command: *const ngx_command_t,
) -> Option<(*mut ngx_command_t, Effect)> {
    let watched = watched.iter().find(|watched| watched.copy == command);
    watched.map(|watched| (watched.original, watched.effect))
}

/// Calls the original handler of a directive. Returns its answer, and the noted data if it has accepted the directive.
/// `None` refuses the configuration. No reference is held during the call, since the handler may read directives.
///
/// # Safety
/// nginx calls the handler of a directive with `cf` and `conf`, and `original` is the command of the loaded module to
/// which that directive belongs.
pub(crate) unsafe fn handled(
    cf: *mut ngx_conf_t,
    original: Option<(*mut ngx_command_t, Effect)>,
    conf: *mut c_void,
    noted: Noted,
) -> Option<(*mut c_char, Option<(Effect, Chooser)>)> {
    let noted = noted.ok()?;
    let (original, effect) = original?;
    // SAFETY: by the caller's promise; the handler gets the arguments with which nginx would have called it.
    let answer = unsafe { (*original).set?(cf, original, conf) };
    Some((answer, noted.filter(|_| answer == CONF_OK).map(|noted| (effect, noted))))
}

/// This module's main configuration.
///
/// # Safety
/// `cf` is live, its context is one of `http`, and nothing else refers to the object while the result is used.
unsafe fn main_conf<'a>(cf: *mut ngx_conf_t) -> &'a mut MainConf {
    // SAFETY: by the caller's promise; the slot has the object that `create_main` made.
    unsafe {
        let context: *mut ngx_http_conf_ctx_t = (*cf).ctx.cast();
        &mut *(*(*context).main_conf.add((*own_module()).ctx_index)).cast()
    }
}
