//! Wipes memory before it is freed, in Rust and in OpenSSL. A private key passes through buffers that this
//! project does not control: those of decoders, of QR codes, pictures and PDF, and of line readers.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ffi::{c_char, c_int, c_void};

struct Wiping;

#[global_allocator]
static ALLOCATOR: Wiping = Wiping;

// SAFETY: all requests are passed unchanged to `System`, whose results have the guarantees of the trait. `realloc` is
// the trait's default, which allocates, copies and frees, so that the old buffer is wiped when it grows.
unsafe impl GlobalAlloc for Wiping {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's guarantees are those that `System` requires.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's guarantees are those that `System` requires.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller returns memory that `System` has allocated with this layout and that nothing uses any
        // more.
        unsafe {
            libc::explicit_bzero(memory.cast(), layout.size());
            System.dealloc(memory, layout);
        }
    }
}

unsafe extern "C" {
    /// CRYPTO_set_mem_functions(3). It fails after OpenSSL's first allocation.
    fn CRYPTO_set_mem_functions(
        allocate: unsafe extern "C" fn(usize, *const c_char, c_int) -> *mut c_void,
        resize: unsafe extern "C" fn(*mut c_void, usize, *const c_char, c_int) -> *mut c_void,
        free: unsafe extern "C" fn(*mut c_void, *const c_char, c_int),
    ) -> c_int;
}

unsafe extern "C" fn allocate(size: usize, _: *const c_char, _: c_int) -> *mut c_void {
    // SAFETY: malloc(3) accepts any size.
    unsafe { libc::malloc(size) }
}

unsafe extern "C" fn resize(
    memory: *mut c_void,
    size: usize,
    file: *const c_char,
    line: c_int,
) -> *mut c_void {
    // SAFETY: OpenSSL passes a null pointer or a pointer that `allocate` or this function has returned, and after a
    // success uses only the new one. `length` is at most the size of the new buffer and the usable size of the old one.
    unsafe {
        if size == 0 {
            free(memory, file, line);
            return std::ptr::null_mut();
        }
        let new = libc::malloc(size);
        if !new.is_null() && !memory.is_null() {
            let length = size.min(libc::malloc_usable_size(memory));
            std::ptr::copy_nonoverlapping(memory.cast::<u8>(), new.cast::<u8>(), length);
            free(memory, file, line);
        }
        new
    }
}

unsafe extern "C" fn free(memory: *mut c_void, _: *const c_char, _: c_int) {
    if memory.is_null() {
        return;
    }
    // SAFETY: OpenSSL passes a pointer that `allocate` or `resize` has got from malloc, and no longer uses the memory.
    unsafe {
        libc::explicit_bzero(memory, libc::malloc_usable_size(memory));
        libc::free(memory);
    }
}

/// Makes OpenSSL wipe its memory too. Must be called before any other function of OpenSSL.
pub(crate) fn wipe_memory_of_openssl() {
    // SAFETY: the functions have the signatures that CRYPTO_set_mem_functions declares, and are in the program itself.
    let taken = unsafe { CRYPTO_set_mem_functions(allocate, resize, free) };
    debug_assert_eq!(taken, 1, "OpenSSL has allocated something before");
}
