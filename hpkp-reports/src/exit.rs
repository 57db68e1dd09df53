//! How the program ends: the numbers of the `hpkp` command.

use std::process::ExitCode;

/// The exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0: all is well.
    Fine,
    /// 1: what was given is wrong.
    Invalid,
    /// 2: the program was called in a wrong way.
    Usage,
    /// 3: it could not be done: the disk, the network, the database.
    Failed,
    /// 75 (`EX_TEMPFAIL`): as 3, to a mail server, which keeps the message and tries again.
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
