//! The name of this machine.

use std::fs;

/// The name of this machine, as the kernel has it; empty where it has none.
#[must_use]
pub fn host_name() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}
