//! Changes brigades of buckets, the data of httpd's filters.

use std::ffi::c_char;
use std::mem::offset_of;
use std::ptr;

use crate::bindings::{
    apr_bucket, apr_bucket_brigade, apr_bucket_heap_create, apr_read_type_e_APR_BLOCK_READ,
};

/// Replaces the bytes of each bucket with data by those that `change` writes, until `change` returns false or a bucket
/// cannot be read. Returns whether all buckets were replaced.
///
/// # Safety
/// `brigade` is the live brigade that httpd has passed to an output filter, so that only this thread uses it.
pub(crate) unsafe fn rewrite(
    brigade: *mut apr_bucket_brigade,
    mut change: impl FnMut(&[u8], &mut Vec<u8>) -> bool,
) -> bool {
    let mut out = Vec::new();
    // SAFETY: by the caller's promise. apr_ring.h and apr_buckets.h define a brigade as a ring of buckets with a
    // sentinel: the address at which a bucket would begin whose `link` is the brigade's `list`
    // (APR_BRIGADE_SENTINEL); the sentinel is only compared. `read` returns `length` bytes that belong to the bucket
    // until it is destroyed, and `replace` is called after `change` has read them.
    unsafe {
        let list = &raw mut (*brigade).list;
        let sentinel = list.cast::<apr_bucket>().wrapping_byte_sub(offset_of!(apr_bucket, link));
        let mut bucket = (*list).next;
        while bucket != sentinel {
            let kind = (*bucket).type_;
            // APR_BUCKET_METADATA, which has no bytes.
            if (*kind).is_metadata == 1 {
                bucket = (*bucket).link.next;
                continue;
            }
            let (mut data, mut length): (*const c_char, usize) = (ptr::null(), 0);
            let Some(read) = (*kind).read else { return false };
            if read(bucket, &raw mut data, (&raw mut length).cast(), apr_read_type_e_APR_BLOCK_READ)
                != 0
            {
                return false;
            }
            // Reading may have split the bucket and inserted the rest after it.
            let next = (*bucket).link.next;
            if length > 0 {
                let bytes = std::slice::from_raw_parts(data.cast::<u8>(), length);
                out.clear();
                if !change(bytes, &mut out) {
                    return false;
                }
                if out != bytes {
                    replace(bucket, &out);
                }
            }
            bucket = next;
        }
    }
    true
}

/// Replaces `bucket` by a bucket with a copy of `bytes`, or removes it if `bytes` is empty.
///
/// # Safety
/// `bucket` is in a live brigade that only this thread uses, and nothing uses the bucket afterwards.
unsafe fn replace(bucket: *mut apr_bucket, bytes: &[u8]) {
    // SAFETY: by the caller's promise. `prev` and `next` of a bucket in a ring are never null: they are buckets or the
    // sentinel. The new bucket copies `bytes`, since `apr_bucket_heap_create` gets no function that frees them. The
    // last calls are those of the macro `apr_bucket_destroy`.
    unsafe {
        let (before, behind) = ((*bucket).link.prev, (*bucket).link.next);
        let mut last = before;
        if !bytes.is_empty() {
            let new = apr_bucket_heap_create(
                bytes.as_ptr().cast(),
                bytes.len() as _,
                None,
                (*bucket).list,
            );
            (*new).link.prev = before;
            (*before).link.next = new;
            last = new;
        }
        (*last).link.next = behind;
        (*behind).link.prev = last;
        if let Some(destroy) = (*(*bucket).type_).destroy {
            destroy((*bucket).data);
        }
        if let Some(free) = (*bucket).free {
            free(bucket.cast());
        }
    }
}
