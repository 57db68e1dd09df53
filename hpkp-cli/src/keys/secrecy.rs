//! Keeps a key from leaving the memory of the process.

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// A crash writes no memory to the disk. Where the system refuses that, the command goes on.
pub(crate) fn keep_out_of_core_dumps() {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    let _ = setrlimit(Resource::Core, none);
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

/// Overwrites what functions that have returned have left on the stack, of keys too. Call it where everything that
/// worked on a key has returned.
#[inline(never)]
pub(crate) fn wipe_stack() {
    /// QR codes and their decoding take some 200 KiB of it.
    const DEPTH: usize = 1 << 20;
    let mut below = [0_u8; DEPTH];
    std::hint::black_box(&mut below);
}
