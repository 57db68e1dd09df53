//! Memory that is wiped before it is freed, in Rust and in OpenSSL. A private key passes through buffers that no line
//! of this project sees: those of decoders, of QR codes, of pictures, of PDF, of a reader of lines.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ffi::{c_char, c_int, c_void};

struct Wiping;

#[global_allocator]
static ALLOCATOR: Wiping = Wiping;

// SAFETY: what is asked for and given back is passed on to the system's allocator as it is. `realloc` is the
// trait's own, which allocates, copies and frees: nothing is left where a buffer was before it grew.
unsafe impl GlobalAlloc for Wiping {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's guarantees are those of this call.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's guarantees are those of this call.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller gives back memory of this size, which nobody uses any more.
        unsafe {
            libc::explicit_bzero(memory.cast(), layout.size());
            System.dealloc(memory, layout);
        }
    }
}

unsafe extern "C" {
    /// CRYPTO_set_mem_functions(3). It fails once OpenSSL has allocated something.
    fn CRYPTO_set_mem_functions(
        allocate: unsafe extern "C" fn(usize, *const c_char, c_int) -> *mut c_void,
        resize: unsafe extern "C" fn(*mut c_void, usize, *const c_char, c_int) -> *mut c_void,
        free: unsafe extern "C" fn(*mut c_void, *const c_char, c_int),
    ) -> c_int;
}

unsafe extern "C" fn allocate(size: usize, _: *const c_char, _: c_int) -> *mut c_void {
    // SAFETY: any size may be asked for.
    unsafe { libc::malloc(size) }
}

unsafe extern "C" fn resize(
    memory: *mut c_void,
    size: usize,
    file: *const c_char,
    line: c_int,
) -> *mut c_void {
    // SAFETY: OpenSSL gives memory that `allocate` or this function has given, or a null pointer, and uses what it
    // gets instead. Both pieces have the bytes that are copied.
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
    // SAFETY: OpenSSL gives back memory that one of the functions above has given, and uses it no more.
    unsafe {
        libc::explicit_bzero(memory, libc::malloc_usable_size(memory));
        libc::free(memory);
    }
}

/// From here on OpenSSL's memory is wiped too. Nothing of OpenSSL may have been called before.
pub(crate) fn wipe_memory_of_openssl() {
    // SAFETY: the functions are as OpenSSL expects them, and stay for the whole life of the process.
    let taken = unsafe { CRYPTO_set_mem_functions(allocate, resize, free) };
    debug_assert_eq!(taken, 1, "OpenSSL has allocated something before");
}
