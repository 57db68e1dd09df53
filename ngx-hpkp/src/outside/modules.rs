//! nginx's modules of other kinds, found by their names, and their configurations.

use std::ffi::CStr;

use hpkp_core::finding::Location;
use nginx_sys::{NGX_CORE_MODULE, ngx_cycle_t, ngx_module_t, u_char};

/// # Safety
/// `cycle` is live, its list of modules is complete, and it stays live while the result is used: nginx unloads the
/// modules of a cycle when it destroys the cycle's pool.
pub(super) unsafe fn modules<'a>(
    cycle: *const ngx_cycle_t,
) -> impl Iterator<Item = &'a ngx_module_t> {
    // SAFETY: by the caller's promise.
    let mut next = unsafe { (*cycle).modules };
    std::iter::from_fn(move || {
        // SAFETY: by the caller's promise; the list ends with a null pointer, which `next` does not pass.
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
/// As for [`modules`].
pub(super) unsafe fn module<'a>(
    cycle: *const ngx_cycle_t,
    name: &CStr,
    kind: usize,
) -> Option<&'a ngx_module_t> {
    // SAFETY: by the caller's promise.
    unsafe { modules(cycle) }.find(|module| {
        // SAFETY: nginx sets the name of a module, a static string, before it adds the module to a cycle.
        module.type_ == kind && unsafe { CStr::from_ptr(module.name) == name }
    })
}

/// The configuration of a block of the core module `name`, once it has been read.
///
/// # Safety
/// As for [`modules`]; the configuration of the module `name` is a `C`, or null before nginx reads its block.
pub(super) unsafe fn block<'a, C>(cycle: *const ngx_cycle_t, name: &CStr) -> Option<&'a C> {
    // SAFETY: by the caller's promise; `conf_ctx` has a slot for each module.
    unsafe {
        let module = module(cycle, name, NGX_CORE_MODULE as usize)?;
        (*(*cycle).conf_ctx.add(module.index)).cast::<C>().as_ref()
    }
}

/// The configuration of a module in the block.
///
/// # Safety
/// `slots` is the array of configurations of all modules of `module`'s kind, in a live block, and that of `module` is a
/// `C` or null.
pub(super) unsafe fn within<'a, C>(
    slots: *mut *mut std::ffi::c_void,
    module: Option<&ngx_module_t>,
) -> Option<&'a C> {
    // SAFETY: by the caller's promise; the array has a slot for each module of the kind, at its `ctx_index`.
    unsafe { (*slots.add(module?.ctx_index)).cast::<C>().as_ref() }
}

/// The place of a server in the configuration.
///
/// # Safety
/// `file` is null or a live string that ends with a null byte.
pub(super) unsafe fn location(file: *const u_char, line: usize) -> Location {
    if file.is_null() {
        return Location { file: "-".into(), line };
    }
    // SAFETY: by the caller's promise.
    let file = unsafe { CStr::from_ptr(file.cast()) };
    Location { file: file.to_string_lossy().into(), line }
}
