//! Why a command ends without an answer.

use crate::exit::Exit;
use crate::input::InputError;

/// Why a command ends without an answer: its exit code and its message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    /// On one line or several.
    pub(crate) text: String,
}

impl Failure {
    /// The answer is no, or what was given is wrong.
    pub(crate) fn no(text: impl Into<String>) -> Self {
        Self { exit: Exit::No, text: text.into() }
    }

    /// The command was called in a wrong way.
    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, text: text.into() }
    }

    /// The answer could not be determined.
    pub(crate) fn undetermined(text: impl Into<String>) -> Self {
        Self { exit: Exit::Undetermined, text: text.into() }
    }

    /// What is called `shown` could not be read.
    pub(crate) fn unread(shown: &str, error: &InputError) -> Self {
        Self { exit: error.exit(), text: format!("{shown}: {error}") }
    }
}
