//! Completes or undoes an install that was interrupted.

use super::command;
use super::journal::{Form, Journal};
use super::place::{Place, Standing};
use super::report::{Outcome, Report, Stop};
use crate::arguments::InstallArguments;
use crate::exit::Exit;
use crate::{output, time};

/// The result of a recovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Recovered {
    /// No install was interrupted.
    Nothing,
    /// The old files are in place, or the new ones if there was a reason to keep them.
    Done,
    /// The files are in place, but the server could not be reloaded.
    NotReloaded,
}

/// Recovers from an interrupted install.
///
/// # Errors
/// The files cannot be put back.
pub(super) fn run(
    place: &mut Place,
    arguments: &InstallArguments,
    report: &mut Report,
) -> Result<Recovered, Stop> {
    let Some(mut journal) = place.journal()? else {
        place.clean();
        return Ok(Recovered::Nothing);
    };
    let standing = place.standing(&journal)?;
    let (code, text) = match standing {
        Standing::Old => ("interrupted", "an interrupted install had changed nothing".to_owned()),
        Standing::New if !place.has_old(&journal) => {
            journal.reloading = false;
            let text =
                "an install was interrupted, and its old files no longer exist; the new files stay";
            ("interrupted", text.to_owned())
        }
        Standing::New => match reason_to_keep(&journal) {
            Some(why) => ("interrupted", format!("an interrupted install is complete now: {why}")),
            None => {
                place.put_back(&journal)?;
                (
                    "interrupted",
                    "undid an interrupted install: the old files are in place".to_owned(),
                )
            }
        },
        Standing::Neither => {
            let kept = place.set_aside()?;
            journal.reloading = false;
            (
                "changed-since",
                format!(
                    "an install was interrupted, and the files were changed by other means since; they \
                     stay as they are, and the other files of the install are in {}",
                    output::path(&kept)
                ),
            )
        }
    };
    report.warn(code, format!("{}: {text}", report.to));
    let is_reloaded = reload(&journal, arguments, report);
    place.commit()?;
    place.refresh()?;
    Ok(if is_reloaded { Recovered::Done } else { Recovered::NotReloaded })
}

/// The reason to keep the new files instead of the old ones, if there is one.
fn reason_to_keep(journal: &Journal) -> Option<&'static str> {
    match journal {
        // The new files have passed the server's test, and no old files exist.
        Journal { form: Form::Absent, reloading: true, .. } => Some("there were no old files"),
        Journal { old_expires: Some(at), .. } if *at <= time::now() => {
            Some("the old certificate has expired")
        }
        _ => None,
    }
}

/// Reloads the server if it may have loaded other files than those in place now.
fn reload(journal: &Journal, arguments: &InstallArguments, report: &mut Report) -> bool {
    if !journal.reloading || journal.is_of_another_boot() {
        return true;
    }
    let command = arguments.reload.as_ref().unwrap_or(&journal.reload);
    match command::run(report, "reload", command, arguments.timeout, None) {
        Ok(()) => true,
        Err(text) => {
            report.problem("reload-failed", format!("{text}; reload the server if it runs"));
            false
        }
    }
}

/// Reports an interrupted install without undoing it, for `--dry-run`.
pub(super) fn preview(place: &Place, report: &mut Report) -> Result<Recovered, Stop> {
    if place.journal()?.is_some() {
        let text =
            format!("{}: an install was interrupted; the next one undoes it first", report.to);
        report.warn("interrupted", text);
    }
    Ok(Recovered::Nothing)
}

/// The result of `--recover`.
pub(super) fn result(recovered: Recovered, report: &mut Report) -> Exit {
    let (outcome, text, exit) = match recovered {
        Recovered::Nothing => {
            (Outcome::NothingToRecover, "nothing to do: no install was interrupted", Exit::Fine)
        }
        Recovered::Done => (Outcome::Recovered, "recovered: no install is pending", Exit::Fine),
        Recovered::NotReloaded => {
            (Outcome::Recovered, "recovered, but the server was not reloaded", Exit::Undetermined)
        }
    };
    report.outcome = outcome;
    report.lines.push(format!("{}: {text}", report.to));
    exit
}
