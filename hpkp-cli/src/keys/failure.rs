//! How a command ends that has no answer.

use crate::exit::Exit;
use crate::output;
use crate::usage;

/// Why a command ends without an answer.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(super) exit: Exit,
    /// What to say, on one line or several.
    pub(super) text: String,
}

impl Failure {
    /// Says it.
    pub(crate) fn end(self) -> Exit {
        match self.exit {
            Exit::Usage => usage::wrong(&self.text),
            exit => {
                self.text.lines().for_each(output::complain);
                exit
            }
        }
    }

    pub(super) fn no(text: impl Into<String>) -> Self {
        Self { exit: Exit::No, text: text.into() }
    }

    pub(super) fn usage(text: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, text: text.into() }
    }

    pub(super) fn undetermined(text: impl Into<String>) -> Self {
        Self { exit: Exit::Undetermined, text: text.into() }
    }
}
