//! The TLS servers outside `http`: those of `stream` and `mail` in the same nginx. They send no header, but clients may
//! hold pins of their keys (TLSA records, apps).
//!
//! This module links no symbol of these modules, since it could not be loaded without them. It finds them by name
//! among the modules of the cycle. Their structures are those in the headers with which this module is built, and
//! nginx loads no module that was built for another version.

mod bindings;
mod chosen;
mod mail;
mod modules;
mod servers;
mod stream;

use std::ffi::CStr;

use nginx_sys::{NGX_CONF_MODULE, NGX_CORE_MODULE, NGX_EVENT_MODULE, NGX_HTTP_MODULE, ngx_cycle_t};

use modules::{module, modules};

pub(crate) use chosen::{CONTEXT as STREAM_CONTEXT, KIND as STREAM_KIND};
pub(crate) use servers::Outside;

/// The core modules whose blocks have servers.
const BLOCKS: [&CStr; 2] = [c"ngx_stream_module", c"ngx_mail_module"];

/// How many blocks with such servers have not been read yet, and may still follow in the file.
///
/// # Safety
/// `cycle` is the live cycle that nginx is reading or has just read.
pub(crate) unsafe fn blocks_to_come(cycle: *const ngx_cycle_t) -> usize {
    let is_to_come = |name: &&&CStr| {
        // SAFETY: by the caller's promise. `conf_ctx` has a slot for each module; that of `stream` or `mail` is null
        // until nginx reads the block.
        unsafe {
            module(cycle, name, NGX_CORE_MODULE as usize)
                .is_some_and(|module| (*(*cycle).conf_ctx.add(module.index)).is_null())
        }
    };
    BLOCKS.iter().filter(is_to_come).count()
}

/// # Safety
/// `cycle` is the live cycle that nginx is reading or has just read. nginx has read each block of `stream` and `mail`
/// to its end or not begun it.
pub(crate) unsafe fn read(cycle: *const ngx_cycle_t) -> Outside {
    let mut outside = Outside::default();
    // SAFETY: by the caller's promise.
    unsafe {
        stream::read(cycle, &mut outside);
        mail::read(cycle, &mut outside);
        outside.strangers = strangers(cycle);
    }
    outside
}

/// The first module of each kind that is not known here.
///
/// # Safety
/// `cycle` is live, and its list of modules is complete.
unsafe fn strangers(cycle: *const ngx_cycle_t) -> Vec<String> {
    let known = [
        NGX_CORE_MODULE as usize,
        NGX_CONF_MODULE as usize,
        NGX_EVENT_MODULE as usize,
        NGX_HTTP_MODULE as usize,
        bindings::NGX_STREAM_MODULE as usize,
        bindings::NGX_MAIL_MODULE as usize,
    ];
    let mut kinds = Vec::new();
    let mut names = Vec::new();
    // SAFETY: by the caller's promise. nginx sets the name of a module, a static string, before it adds the module to a
    // cycle (`ngx_preinit_modules`, `ngx_load_module`).
    unsafe {
        for module in modules(cycle).filter(|module| !known.contains(&module.type_)) {
            if !kinds.contains(&module.type_) {
                kinds.push(module.type_);
                names.push(CStr::from_ptr(module.name).to_string_lossy().into_owned());
            }
        }
    }
    names
}
