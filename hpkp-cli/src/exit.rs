//! The exit codes of the command. The numbers are API.

use std::process::ExitCode;

/// The meaning of the exit code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Exit {
    /// 0: all is well.
    #[default]
    Fine,
    /// 1: the answer is no, or the input is invalid.
    No,
    /// 2: wrong usage. clap uses the same number.
    Usage,
    /// 3: the answer could not be determined.
    Undetermined,
}

impl Exit {
    /// The code.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Fine => 0,
            Self::No => 1,
            Self::Usage => 2,
            Self::Undetermined => 3,
        }
    }

    /// Combines the codes of two answers: "no" takes precedence over "undetermined", because more knowledge
    /// would not turn it into "yes".
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let gravity = |exit| match exit {
            Self::Fine => 0,
            Self::Undetermined => 1,
            Self::No => 2,
            Self::Usage => 3,
        };
        if gravity(other) > gravity(self) { other } else { self }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_takes_precedence_over_undetermined() {
        assert_eq!(Exit::Undetermined.and(Exit::No), Exit::No);
        assert_eq!(Exit::No.and(Exit::Undetermined), Exit::No);
        assert_eq!(Exit::Fine.and(Exit::Undetermined), Exit::Undetermined);
        assert_eq!(Exit::Fine.and(Exit::Fine).code(), 0);
    }
}
