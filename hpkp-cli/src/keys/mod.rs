//! `hpkp key`: backup keys, from their generation to the drill that proves that they can be restored, and
//! the next key of a host, from its generation to the day on which it may be used.
//!
//! All buffers with key data are wiped. No part of a key is printed, except on the page of `--paper`.

mod content;
mod drill;
pub mod drills;
mod files;
mod image;
mod kind;
mod ledger;
mod lines;
mod new;
mod next;
pub(crate) mod next_keys;
mod page;
pub(crate) mod passphrase;
mod pdf;
mod pkcs8;
mod qr;
mod request;
mod secrecy;
mod secret;
mod secret_file;

pub(crate) use kind::KeyKind;
pub(crate) use passphrase::Passphrase;
pub(crate) use request::SubjectName;
pub(crate) use secrecy::{keep_out_of_core_dumps, wipe_stack};
pub(crate) use secret::{SecretError, each as each_key, proven};

use crate::arguments::{KeyArguments, KeyCommand};
use crate::exit::Exit;
use crate::usage;

/// Runs the command.
pub(crate) fn run(arguments: &KeyArguments) -> Exit {
    keep_out_of_core_dumps();
    let done = match &arguments.command {
        KeyCommand::New(arguments) => new::run(arguments),
        KeyCommand::Next(arguments) => next::run(arguments),
        KeyCommand::Drill(arguments) => drill::run(arguments),
    };
    done.unwrap_or_else(usage::end)
}
