//! Keeps a key from leaving the memory of the process.

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// Disables core dumps, so that a crash writes no memory to the disk. If the system does not allow this,
/// the command continues.
pub(crate) fn keep_out_of_core_dumps() {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    let _ = setrlimit(Resource::Core, none);
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

/// Overwrites the data that functions have left on the stack, which may include keys. To be called after
/// all functions that handle a key have returned.
#[inline(never)]
pub(crate) fn wipe_stack() {
    /// The encoding and decoding of QR codes uses about 200 KiB of the stack.
    const DEPTH: usize = 1 << 20;
    let mut below = [0_u8; DEPTH];
    std::hint::black_box(&mut below);
}
