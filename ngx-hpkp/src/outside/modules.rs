//! nginx's modules of other kinds, found by their names, and their configurations.

use std::ffi::CStr;

use hpkp_core::finding::Location;
use nginx_sys::{NGX_CORE_MODULE, ngx_cycle_t, ngx_module_t, u_char};

/// # Safety
/// `cycle` is live and has its modules, and they stay loaded while they are looked at.
pub(super) unsafe fn modules<'a>(
    cycle: *const ngx_cycle_t,
) -> impl Iterator<Item = &'a ngx_module_t> {
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

/// The module of this name and kind.
///
/// # Safety
/// `cycle` is live and has its modules.
pub(super) unsafe fn module<'a>(
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

/// The configuration of a block of the core module `name`, once it has been read.
///
/// # Safety
/// `cycle` is live, and the configuration of that module is a `C` or null.
pub(super) unsafe fn block<'a, C>(cycle: *const ngx_cycle_t, name: &CStr) -> Option<&'a C> {
    // SAFETY: by the caller's promise; there is a slot for each module.
    unsafe {
        let module = module(cycle, name, NGX_CORE_MODULE as usize)?;
        (*(*cycle).conf_ctx.add(module.index)).cast::<C>().as_ref()
    }
}

/// The configuration of a module in the block.
///
/// # Safety
/// `slots` are those of a block of the module's kind, and the configuration is a `C` or null.
pub(super) unsafe fn within<'a, C>(
    slots: *mut *mut std::ffi::c_void,
    module: Option<&ngx_module_t>,
) -> Option<&'a C> {
    // SAFETY: by the caller's promise; there is a slot for each module of the kind.
    unsafe { (*slots.add(module?.ctx_index)).cast::<C>().as_ref() }
}

/// The place of a server in the configuration.
///
/// # Safety
/// `file` is null or a string of nginx with its terminating null byte.
pub(super) unsafe fn location(file: *const u_char, line: usize) -> Location {
    if file.is_null() {
        return Location { file: "-".into(), line };
    }
    // SAFETY: by the caller's promise.
    let file = unsafe { CStr::from_ptr(file.cast()) };
    Location { file: file.to_string_lossy().into(), line }
}
