//! Values that live as long as one of httpd's pools.

use std::ffi::{c_int, c_void};

use crate::bindings::{apr_pool_cleanup_null, apr_pool_cleanup_register, apr_pool_t};
use crate::boundary;
use crate::httpd::OK;

/// Moves `value` into memory that lives as long as `pool`, with which the value is dropped.
///
/// # Safety
/// `pool` is a live pool. The file of this module, which has `drop_box`, stays loaded as long as the process (see
/// build.rs).
pub(crate) unsafe fn alloc_in_pool<T>(pool: *mut apr_pool_t, value: T) -> *mut T {
    unsafe extern "C" fn drop_box<T>(data: *mut c_void) -> c_int {
        boundary::catch_request_hook("cleanup", OK, || {
            // SAFETY: `alloc_in_pool` made the pointer from a box. APR runs a cleanup once, when the pool is cleared or
            // destroyed.
            drop(unsafe { Box::from_raw(data.cast::<T>()) });
            OK
        })
    }
    let kept = Box::into_raw(Box::new(value));
    // SAFETY: by the caller's promise. APR stores the pointers; in a child that is about to execute another program it
    // calls the last function, which does nothing.
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
