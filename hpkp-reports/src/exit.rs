//! The exit status of the program, with the same numbers as the `hpkp` command.

use std::process::ExitCode;

/// The exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0: success.
    Fine,
    /// 1: the input is invalid.
    Invalid,
    /// 2: wrong usage.
    Usage,
    /// 3: the disk, the network or the database failed.
    Failed,
    /// 75 (`EX_TEMPFAIL`): as 3, for a mail server, which then keeps the message and tries again.
    Later,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Fine => 0,
            Exit::Invalid => 1,
            Exit::Usage => 2,
            Exit::Failed => 3,
            Exit::Later => 75,
        })
    }
}
