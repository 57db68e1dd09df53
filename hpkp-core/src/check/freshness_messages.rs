//! The texts of findings about machines that have been silent for too long.

use std::collections::BTreeSet;

use super::silence::{Change, Silence, Silent};
use super::{Freshness, Records};
use crate::date;
use crate::finding::{Class, Text};
use crate::published::WriterName;
use crate::text::{Excerpt, NAMED, ShellWord, listed};

/// How many writers the details name.
const MAX_DETAILS: usize = 24;

/// What hosts must have in common to share a finding.
pub(super) fn group(silent: &Silent<'_>, changes: &BTreeSet<Change>) -> String {
    let writers: Vec<&str> = silent.keys().map(|writer| writer.as_str()).collect();
    format!("{changes:?} {}", writers.join(" "))
}

/// The text for machines that are silent for one reason.
pub(super) fn silent(
    records: &Records,
    silent: &Silent<'_>,
    changes: &BTreeSet<Change>,
    (class, now): (Class, i64),
) -> Text {
    let has = if silent.len() == 1 { "has" } else { "have" };
    let Some((first, freshness)) = silent.values().next().copied() else { return Text::default() };
    let who = || listed(silent.iter().map(|(writer, (silence, _))| known(writer, *silence, now)));
    let names = || listed(silent.keys().map(ToString::to_string));
    let what = match first {
        Silence::Since { .. } | Silence::Ahead { .. } => format!(
            "{} {has} been silent for more than {} (max_staleness) and may meanwhile have published pins \
             or presented keys that are not on record here",
            who(),
            date::duration(freshness.max_staleness)
        ),
        Silence::Unreadable { file, why } => format!(
            "cannot use \"{}\" ({why}), so it is not known when {} {} last heard from, and which pins and \
             keys {} published and presented since",
            Excerpt::new(file),
            names(),
            if silent.len() == 1 { "was" } else { "were" },
            if silent.len() == 1 { "it has" } else { "they have" }
        ),
        Silence::Never => format!(
            "no heartbeat of {} has been received so far, so max_staleness refuses nothing while {} silent",
            names(),
            if silent.len() == 1 { "it is" } else { "they are" }
        ),
    };
    if first == Silence::Never {
        return Text::new(what)
            .fix(format!("run hpkp sync on the machine of {}, then on this one", names()));
    }
    let text = Text::new(format!("{what}; {}", consequence(changes)));
    let text = remedies(text, class, changes, (first, &names()));
    let details = silent.iter().take(MAX_DETAILS).map(|(writer, (silence, freshness))| {
        format!(
            "{} (max_staleness {})",
            known(writer, *silence, now),
            date::duration(freshness.max_staleness)
        )
    });
    let text = text.details(details.filter(|_| silent.len() > 1));
    if class == Class::Warning { text } else { text.fix(gone(records, silent)) }
}

fn consequence(changes: &BTreeSet<Change>) -> &'static str {
    let has = |change| changes.contains(&change);
    match (has(Change::Keys), has(Change::Pins)) {
        (true, true) => "new keys and new pins for this host may lock clients out",
        (true, false) => "a new key for this host may lock clients out",
        (false, true) => "new pins for this host may lock clients out",
        (false, false) if has(Change::PinsWithheld) => {
            "the pins of this host, which are not published yet, stay unpublished, and no header is sent"
        }
        (false, false) if has(Change::KeysThatSatisfy) => {
            "the new key here satisfies all pins on record and passes"
        }
        (false, false) => "the keys and pins here are unchanged and pass",
    }
}

fn remedies(
    text: Text,
    class: Class,
    changes: &BTreeSet<Change>,
    (first, names): (Silence<'_>, &str),
) -> Text {
    let text = match first {
        Silence::Ahead { .. } => text.fix(format!(
            "set the clock of this machine, and run hpkp sync on the machine of {names}, then on this one"
        )),
        Silence::Unreadable { file, .. } => text.fix(remove(file)),
        _ => text.fix(format!("run hpkp sync on the machine of {names}, then on this one")),
    };
    if class != Class::Unsure {
        return text;
    }
    let text = match changes.contains(&Change::Pins) {
        true => text.fix("until then keep the pins of the policy as they are"),
        false => text,
    };
    match changes.contains(&Change::Keys) {
        true => text.fix(
            "until then keep the key; if it is stolen, load a certificate for a backup key that clients \
             hold and keep the policy as it is: that passes",
        ),
        false => text,
    }
}

/// The command that records that silent writers are gone.
fn gone(records: &Records, silent: &Silent<'_>) -> String {
    let some = silent.keys().take(NAMED).map(|name| format!("--writer {name}"));
    format!(
        "only if {} gone for good: hpkp published {} end {} --why REASON",
        if silent.len() == 1 { "that machine is" } else { "those machines are" },
        records.options(),
        some.collect::<Vec<_>>().join(" ")
    )
}

/// A writer and when it was last heard from.
fn known(writer: &WriterName, silence: Silence<'_>, now: i64) -> String {
    match silence {
        Silence::Since { at, .. } => {
            format!(
                "{writer} (last heard from at {}, {} ago)",
                date::format(at),
                date::about(now.saturating_sub(at))
            )
        }
        Silence::Ahead { at } => format!(
            "{writer} (last heard from at {}, which is in the future: the clock of this machine shows {})",
            date::format(at),
            date::format(now)
        ),
        Silence::Unreadable { .. } | Silence::Never => writer.to_string(),
    }
}

/// The text for a missing file: no machine was ever heard from.
pub(super) fn missing(freshness: &Freshness) -> Text {
    Text::new(format!(
        "\"{}\" does not exist: this machine has received no heartbeat of any other, so max_staleness refuses \
         nothing yet",
        Excerpt::new(&freshness.file)
    ))
    .fix("run hpkp sync on this machine, and again by a timer")
}

/// The text for a file that cannot be used, if no host here shares a name with these machines.
pub(super) fn unreadable(freshness: &Freshness, why: &str) -> Text {
    Text::new(format!(
        "cannot use \"{}\" ({why}), so it is not known when other machines were last heard from",
        Excerpt::new(&freshness.file)
    ))
    .fix(remove(&freshness.file))
}

/// The command that removes a damaged file.
fn remove(file: &str) -> String {
    format!(
        "remove the file, then run hpkp sync; all machines in the store then count as heard from: rm {}",
        ShellWord::new(file)
    )
}
