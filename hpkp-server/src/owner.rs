//! Who else may have changed a file or a directory.

use std::fmt;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;

/// Why others may have changed a file of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsafe {
    /// The owner is neither root nor the user of this process.
    Owner,
    /// The mode lets other users write.
    Mode,
}

impl Unsafe {
    /// Why another user may have changed a file or a directory; none if no other user may.
    #[must_use]
    pub fn of(metadata: &Metadata) -> Option<Self> {
        match () {
            () if !is_own(metadata.uid()) => Some(Self::Owner),
            () if metadata.mode() & 0o022 != 0 => Some(Self::Mode),
            () => None,
        }
    }

    /// The command that corrects it, without the name of the file.
    #[must_use]
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::Owner => "chown root",
            Self::Mode => "chmod go-w",
        }
    }
}

impl fmt::Display for Unsafe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Owner => "the file belongs to a user other than root and that of the server",
            Self::Mode => "other users can write to the file",
        })
    }
}

/// Whether an owner is root or the effective user of this process.
pub(crate) fn is_own(owner: u32) -> bool {
    owner == 0 || owner == effective_user()
}

/// The effective user of this process.
pub(crate) fn effective_user() -> u32 {
    rustix::process::geteuid().as_raw()
}
