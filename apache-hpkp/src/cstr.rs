//! Conversions between httpd's strings and Rust's.

use std::ffi::{CStr, CString, c_char};

/// A string's text; bytes that are not UTF-8 are replaced, and null is empty.
///
/// # Safety
/// `string` is null or ends with a null byte.
pub(crate) unsafe fn text(string: *const c_char) -> String {
    if string.is_null() {
        return String::new();
    }
    // SAFETY: by the caller's promise the string, which is not null, ends with a null byte.
    unsafe { CStr::from_ptr(string) }.to_string_lossy().into_owned()
}

/// `text` as a C string, without anything after a null byte.
pub(crate) fn c_string(text: &str) -> CString {
    let end = text.bytes().position(|byte| byte == 0).unwrap_or(text.len());
    CString::new(&text[..end]).unwrap_or_default()
}
