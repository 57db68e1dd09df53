//! The failure of a command.

use crate::exit::Exit;
use crate::input::InputError;

/// The reason why a command gives no answer: its exit code and its message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    /// The message, on one line or several.
    pub(crate) text: String,
}

impl Failure {
    /// A failure because the answer is no or the input is invalid.
    pub(crate) fn no(text: impl Into<String>) -> Self {
        Self { exit: Exit::No, text: text.into() }
    }

    /// A failure because of wrong usage.
    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, text: text.into() }
    }

    /// A failure because the answer could not be determined.
    pub(crate) fn undetermined(text: impl Into<String>) -> Self {
        Self { exit: Exit::Undetermined, text: text.into() }
    }

    /// A failure to read an input; `shown` is its name for messages.
    pub(crate) fn unread(shown: &str, error: &InputError) -> Self {
        Self { exit: error.exit(), text: format!("{shown}: {error}") }
    }
}
