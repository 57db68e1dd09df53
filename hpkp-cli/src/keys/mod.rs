//! `hpkp key`: backup keys, from their making to the drill that shows that they can be restored.
//!
//! What is read of a key or made of it is in buffers that are wiped. Nothing of it is printed, except on the
//! page that was asked for.

mod drill;
pub mod drills;
mod files;
mod image;
mod kind;
mod lines;
mod new;
mod page;
mod passphrase;
mod pdf;
mod pkcs8;
mod qr;
mod request;
mod secrecy;
mod secret;

pub(crate) use kind::KeyKind;
pub(crate) use passphrase::Passphrase;
pub(crate) use request::SubjectName;
pub(crate) use secrecy::keep_out_of_core_dumps;
pub(crate) use secret::{SecretError, each as each_key, proven};

use crate::arguments::{KeyArguments, KeyCommand};
use crate::exit::Exit;
use crate::output;
use crate::usage;

/// Runs the command.
pub(crate) fn run(arguments: &KeyArguments) -> Exit {
    keep_out_of_core_dumps();
    let done = match &arguments.command {
        KeyCommand::New(arguments) => new::run(arguments),
        KeyCommand::Drill(arguments) => drill::run(arguments),
    };
    done.unwrap_or_else(Failure::end)
}

/// Why a command ends without an answer.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    /// What to say, on one line or several.
    text: String,
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

    fn no(text: impl Into<String>) -> Self {
        Self { exit: Exit::No, text: text.into() }
    }

    fn usage(text: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, text: text.into() }
    }

    fn undetermined(text: impl Into<String>) -> Self {
        Self { exit: Exit::Undetermined, text: text.into() }
    }
}
