//! The name of this machine.

use std::fs;

/// The name of this machine from the kernel; empty if it has none.
#[must_use]
pub fn host_name() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}
