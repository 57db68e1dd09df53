//! Searches the rest of the configuration file after `http` for other blocks.
//!
//! The search only looks for words, so it need not parse quotes and blocks. In a quoted text over several lines, a `#`
//! may look like a comment and hide a block; `late` then finds that there is one.

use std::ptr;

use nginx_sys::{ngx_buf_t, ngx_conf_file_t, ngx_conf_t};

/// How many bytes of the file are read. In a longer file, any block may follow.
const LIMIT: usize = 1 << 18;

/// Directives that make servers outside `http` or may lead to them.
const WORDS: [&[u8]; 3] = [b"stream", b"mail", b"include"];

/// Whether one of the directives may follow: one of the words is in the rest of the file, in any sense, or the block is
/// not in the main file.
///
/// # Safety
/// `cf` is the `cf` with which nginx calls the `postconfiguration` of an HTTP module.
pub(crate) unsafe fn may_have_servers(cf: *const ngx_conf_t) -> bool {
    // SAFETY: by the caller's promise nginx is parsing `conf_file`, whose block `http` it has just read. For directives
    // of the command line (-g) the file has no name.
    let Some(file) = (unsafe { (*cf).conf_file.as_ref() }) else { return true };
    // SAFETY: by the caller's promise; `conf_file` of a cycle is a string in the cycle's pool.
    let main = unsafe { &(*(*cf).cycle).conf_file };
    if file.file.name.as_bytes() != main.as_bytes() {
        return true;
    }
    // SAFETY: as above, nginx is parsing the file.
    let Some(rest) = (unsafe { rest(file) }) else { return true };
    let is_comment = |line: &[u8]| line.trim_ascii_start().starts_with(b"#");
    let has = |line: &[u8], word: &[u8]| line.windows(word.len()).any(|part| part == word);
    rest.split(|byte| *byte == b'\n')
        .filter(|line| !is_comment(line))
        .any(|line| WORDS.iter().any(|word| has(line, word)))
}

/// The part of a file that nginx has not read yet; none if it is too long or cannot be read.
///
/// # Safety
/// nginx is parsing `file`, which is a file on the disk.
unsafe fn rest(file: &ngx_conf_file_t) -> Option<Vec<u8>> {
    // SAFETY: by the caller's promise. The buffer of `ngx_conf_parse` has, from `pos` to `last`, the bytes that have
    // been read from the file and not parsed; both point into it.
    let mut rest = unsafe {
        let buffer: &ngx_buf_t = file.buffer.as_ref()?;
        let length = buffer.last.offset_from(buffer.pos);
        let pending = ptr::slice_from_raw_parts(buffer.pos, usize::try_from(length).ok()?);
        (*pending).to_vec()
    };
    let mut at = file.file.offset;
    let mut part = [0; 1 << 12];
    while rest.len() < LIMIT {
        // SAFETY: `ngx_conf_parse` closes the descriptor only at the end of the file, and pread writes at most
        // `part.len()` bytes.
        let read = unsafe { libc::pread(file.file.fd, part.as_mut_ptr().cast(), part.len(), at) };
        if read == 0 {
            return Some(rest);
        }
        rest.extend(part.get(..usize::try_from(read).ok()?)?);
        at += i64::try_from(read).ok()?;
    }
    None
}
