//! The TLS servers outside `http`: those of `stream` and `mail`, which the same nginx loads. They
//! send no header, but clients may hold pins of their keys all the same (TLSA records, apps).
//!
//! No symbol of these modules is linked, or the module could not be loaded without them: they are
//! found by their names among the modules of the cycle. Their structures are those of the headers
//! that this module is built with, and nginx loads no module that was built for another version.

mod bindings;
mod chosen;
mod mail;
mod stream;

use std::ffi::CStr;
use std::ptr;

use hpkp_core::finding::Location;
use hpkp_server::nginx::{self, Address};
use nginx_sys::{
    NGX_CONF_MODULE, NGX_CORE_MODULE, NGX_EVENT_MODULE, NGX_HTTP_MODULE, ngx_array_t, ngx_cycle_t,
    ngx_module_t, u_char,
};

use crate::ngx;
use crate::server::{Handle, OwnContext};

pub(crate) use chosen::{CONTEXT as STREAM_CONTEXT, KIND as STREAM_KIND};

/// All servers outside `http`.
pub(crate) type Outside = nginx::Outside<Handle>;

type Server = nginx::OutsideServer<Handle>;

/// The core modules whose blocks have servers.
const BLOCKS: [&CStr; 2] = [c"ngx_stream_module", c"ngx_mail_module"];

/// How many blocks with such servers have not been met, and may still follow in the file.
///
/// # Safety
/// `cycle` is the cycle whose configuration is being read.
pub(crate) unsafe fn blocks_to_come(cycle: *const ngx_cycle_t) -> usize {
    let is_to_come = |name: &&&CStr| {
        // SAFETY: by the caller's promise; there is a slot for each module, null until its block
        // has been met.
        unsafe {
            module(cycle, name, NGX_CORE_MODULE as usize)
                .is_some_and(|module| (*(*cycle).conf_ctx.add(module.index)).is_null())
        }
    };
    BLOCKS.iter().filter(is_to_come).count()
}

/// # Safety
/// The blocks that `cycle` has so far have been read to their ends.
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

/// The module of this name and kind.
///
/// # Safety
/// `cycle` is live and has its modules.
unsafe fn module<'a>(
    cycle: *const ngx_cycle_t,
    name: &CStr,
    kind: usize,
) -> Option<&'a ngx_module_t> {
    // SAFETY: by the caller's promise.
    unsafe { modules(cycle) }.find(|module| {
        // SAFETY: a module of a cycle has a name, which nginx compares in the same way.
        module.type_ == kind && unsafe { CStr::from_ptr(module.name) == name }
    })
}

/// # Safety
/// `cycle` is live and has its modules, and they stay loaded while they are looked at.
unsafe fn modules<'a>(cycle: *const ngx_cycle_t) -> impl Iterator<Item = &'a ngx_module_t> {
    // SAFETY: by the caller's promise; the list of modules ends with null.
    let mut next = unsafe { (*cycle).modules };
    std::iter::from_fn(move || {
        // SAFETY: as above.
        unsafe {
            let module = (*next).as_ref()?;
            next = next.add(1);
            Some(module)
        }
    })
}

/// The first module of each kind that is not known here.
///
/// # Safety
/// As for [`modules`].
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
    // SAFETY: by the caller's promise; a module of a cycle has a name.
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

/// The configuration of a block of the core module `name`, once it has been met.
///
/// # Safety
/// `cycle` is live, and the configuration of that module is a `C` or null.
unsafe fn block<'a, C>(cycle: *const ngx_cycle_t, name: &CStr) -> Option<&'a C> {
    // SAFETY: by the caller's promise; there is a slot for each module.
    unsafe {
        let module = module(cycle, name, NGX_CORE_MODULE as usize)?;
        (*(*cycle).conf_ctx.add(module.index)).cast::<C>().as_ref()
    }
}

/// The configuration of a module within the block.
///
/// # Safety
/// `slots` are those of a block of the module's kind, and the configuration is a `C` or null.
unsafe fn within<'a, C>(
    slots: *mut *mut std::ffi::c_void,
    module: Option<&ngx_module_t>,
) -> Option<&'a C> {
    // SAFETY: by the caller's promise; there is a slot for each module of the kind.
    unsafe { (*slots.add(module?.ctx_index)).cast::<C>().as_ref() }
}

/// What nginx has of a server outside `http`.
fn handle(own: Option<OwnContext>) -> Handle {
    Handle { conf: ptr::null_mut(), own }
}

/// Where a server stands.
///
/// # Safety
/// `file` is null or a string of nginx with its terminating null octet.
unsafe fn location(file: *const u_char, line: usize) -> Location {
    if file.is_null() {
        return Location { file: "-".into(), line };
    }
    // SAFETY: by the caller's promise.
    let file = unsafe { CStr::from_ptr(file.cast()) };
    Location { file: file.to_string_lossy().into(), line }
}

/// The elements of an array.
///
/// # Safety
/// As for [`ngx::elements`].
unsafe fn elements<'a, T>(array: *const ngx_array_t) -> &'a [T] {
    // SAFETY: by the caller's promise.
    unsafe { ngx::elements(array) }
}
