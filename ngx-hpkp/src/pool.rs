//! Values that live as long as one of nginx's pools.

use std::ffi::c_void;
use std::ptr;

use nginx_sys::{ngx_pool_cleanup_add, ngx_pool_t};

use crate::boundary;

/// Moves `value` into memory that lives as long as `pool`, with which the value is dropped. Null if nginx has no
/// memory.
///
/// # Safety
/// `pool` is a live pool. The file of this module, which has `drop_box`, stays loaded as long as the process (see
/// build.rs).
pub(crate) unsafe fn alloc_in_pool<T>(pool: *mut ngx_pool_t, value: T) -> *mut T {
    extern "C" fn drop_box<T>(data: *mut c_void) {
        boundary::catch_request_hook("cleanup", (), || {
            // SAFETY: `alloc_in_pool` made the pointer from a box. `ngx_destroy_pool` runs each cleanup once.
            drop(unsafe { Box::from_raw(data.cast::<T>()) });
        });
    }
    // SAFETY: by the caller's promise.
    let cleanup = unsafe { ngx_pool_cleanup_add(pool, 0) };
    if cleanup.is_null() {
        return ptr::null_mut();
    }
    let kept = Box::into_raw(Box::new(value));
    // SAFETY: `ngx_pool_cleanup_add` has just allocated this entry in the pool; nothing else has a pointer to it.
    unsafe {
        (*cleanup).handler = Some(drop_box::<T>);
        (*cleanup).data = kept.cast();
    }
    kept
}
