//! The steps of an install that change files or the server, and their undoing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::journal::Journal;
use super::pair::Role;
use super::place::{Entry, New, Place};
use super::plan::{Plan, files_text};
use super::report::{Outcome, Remark, Report, Stop};
use super::served::{Endpoint, Leaves};
use super::{command, served};
use crate::arguments::InstallArguments;
use crate::exit::Exit;
use crate::output;

/// The longest time that the server may take to present the old certificate again.
const WAY_BACK: Duration = Duration::from_secs(10);

/// Installs the new files and reloads the server. If a step fails, puts the old files back.
///
/// # Errors
/// A step before the exchange failed; nothing was changed.
pub(super) fn apply(
    arguments: &InstallArguments,
    place: &Place,
    plan: &Plan,
    endpoints: &[Endpoint],
    report: &mut Report,
) -> Result<Exit, Stop> {
    let interrupted = signals()?;
    let staged = place.stage(&directory(plan, report), plan.present.directory)?;
    let expires = plan.old.iter().flatten().filter_map(|chain| chain.first());
    let reload = arguments.reload.as_deref().unwrap_or_default();
    let mut journal = Journal::new(reload, expires.map(|leaf| leaf.not_after()).min());
    place.exchange(&staged, &mut journal)?;
    match serve(arguments, place, plan, endpoints, (&mut journal, &interrupted), report) {
        Ok(()) => {
            report.outcome = Outcome::Installed;
            report.lines.insert(0, format!("installed: {}", files_text(plan, report)));
            place.commit().map(|()| Exit::Fine)
        }
        // After the exchange, a failure is reported and the old files are put back.
        Err(Stop { code, text, .. }) => {
            report.problem(code, text);
            roll_back(arguments, place, plan, endpoints, &journal, report);
            Ok(Exit::Undetermined)
        }
    }
}

/// A flag that signals set, so that a terminated process first puts the old files back.
fn signals() -> Result<Arc<AtomicBool>, Stop> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&flag))
            .map_err(|error| Stop::io("cannot handle signals", &error))?;
    }
    Ok(flag)
}

/// All files of the new directory: the new files, and the other files of the old directory.
fn directory(plan: &Plan, report: &mut Report) -> BTreeMap<String, New> {
    let mut files = BTreeMap::new();
    for (name, entry) in &plan.present.entries {
        let owner = plan.present.access.get(name).copied();
        let mode = owner.map_or(0o600, |access| access.mode);
        let content = match entry {
            Entry::Pem(file) => file.bytes.clone(),
            Entry::Other(bytes) => bytes.clone(),
            Entry::Link(target) => {
                files.insert(name.clone(), New::Link(target.clone()));
                continue;
            }
        };
        files.insert(name.clone(), New::File { content, mode, owner });
    }
    for (name, written) in &plan.written {
        let owner = plan.present.access.get(name).copied();
        let is_secret = matches!(written.role, Role::Key | Role::Combined);
        let mode = owner.map_or(if is_secret { 0o600 } else { 0o644 }, |access| access.mode);
        if is_secret && mode & 0o007 != 0 {
            let path = output::path(name.as_ref());
            let text = format!(
                "{}: every user of this machine can read {path}: chmod o= {path}",
                report.to
            );
            report.warn("key-readable-by-all", text);
        }
        files.insert(name.clone(), New::File { content: written.content.clone(), mode, owner });
    }
    files
}

/// Runs the server's test and reload, and verifies which certificate it presents.
fn serve(
    arguments: &InstallArguments,
    place: &Place,
    plan: &Plan,
    endpoints: &[Endpoint],
    (journal, interrupted): (&mut Journal, &Arc<AtomicBool>),
    report: &mut Report,
) -> Result<(), Stop> {
    let go_on = || !interrupted.load(Ordering::Relaxed);
    let limit = arguments.timeout;
    let run = |step, command: &Option<String>, report: &mut Report| {
        let command = command.as_deref().unwrap_or_default();
        command::run(report, step, command, limit, Some(interrupted))
    };
    let failed = |code| move |text: String| Stop::undetermined(code, text);
    run("test", &arguments.test, report).map_err(failed("test-failed"))?;
    place.reloading(journal)?;
    run("reload", &arguments.reload, report).map_err(failed("reload-failed"))?;
    look(limit, &plan.leaves(), endpoints, report, go_on).map_err(failed("not-served"))?;
    if !go_on() {
        return Err(Stop::undetermined("interrupted", "interrupted by a signal"));
    }
    if endpoints.is_empty() {
        look_around(arguments, plan, report);
    }
    Ok(())
}

/// Waits until every server presents the new certificates.
fn look(
    limit: Duration,
    leaves: &Leaves,
    endpoints: &[Endpoint],
    report: &mut Report,
    go_on: impl Fn() -> bool + Copy,
) -> Result<(), String> {
    for endpoint in endpoints {
        let (is_new, view) = endpoint.wait(limit, leaves, go_on);
        let server = endpoint.server();
        let presents = view.presents;
        for text in &view.unknown {
            report.warn("other-certificates-unknown", format!("{server}: {text}"));
        }
        report.served.push(view);
        if !is_new {
            let what = match presents {
                "none" => "presents no certificate, or cannot be reached",
                "old" => "still presents the old certificate",
                "new" => "presents the new certificate and others",
                _ => "presents another certificate",
            };
            return Err(format!("{server} {what} after the reload"));
        }
        report.lines.push(format!("served: {server} presents the new certificate"));
    }
    Ok(())
}

/// Searches a server on this machine that presents the new certificate, if no server was known before.
/// Warns if there is none.
fn look_around(arguments: &InstallArguments, plan: &Plan, report: &mut Report) {
    let new = plan.leaves().new;
    let mut derived = served::derived(plan.pairs[0].leaf(), &arguments.starttls, |_| Vec::new());
    if let Some(endpoint) = derived.find(|endpoint| endpoint.presents_any(&new)) {
        report.lines.push(format!("served: {} presents the new certificate", endpoint.server()));
        report.served.push(endpoint.view("new"));
        return;
    }
    let has_old = plan.old.iter().any(Option::is_some);
    let why = match has_old {
        true => {
            "no server on this machine presented the old certificate at the names in it (port 443 and the \
                 ports in the records)"
        }
        false => "there was no certificate before",
    };
    let text = format!(
        "did not check that the new certificate is served: {why}; name the server with --served"
    );
    report.warn("not-looked", text);
}

/// Puts the old files back. Reloads the server if it may have loaded the new files.
fn roll_back(
    arguments: &InstallArguments,
    place: &Place,
    plan: &Plan,
    endpoints: &[Endpoint],
    journal: &Journal,
    report: &mut Report,
) {
    report.outcome = Outcome::Failed;
    report.lines.clear();
    let to = report.to.clone();
    if let Err(stop) = place.put_back(journal) {
        let text = format!(
            "{}; THE NEW FILES ARE STILL IN PLACE; run: hpkp install --recover --to {}",
            stop.text,
            hpkp_core::text::ShellWord::new(place.path().as_os_str().as_encoded_bytes())
        );
        report.problem("roll-back-failed", text);
        return;
    }
    let is_served = !journal.reloading || serve_old(arguments, plan, endpoints, report);
    if let Err(Stop { code, text, .. }) = place.commit() {
        report.problem(code, text);
        return;
    }
    if is_served {
        report.outcome = Outcome::RolledBack;
    }
    output::complain(&format!("{to}: rolled back; the old files are in place"));
}

/// Reloads the server with the old files, and verifies that it presents them.
fn serve_old(
    arguments: &InstallArguments,
    plan: &Plan,
    endpoints: &[Endpoint],
    report: &mut Report,
) -> bool {
    let command = arguments.reload.as_deref().unwrap_or_default();
    if let Err(text) = command::run(report, "reload-old", command, arguments.timeout, None) {
        let text = format!("{text}; the server may still serve the new certificate: reload it");
        report.problem("reload-old-failed", text);
        return false;
    }
    let Leaves { old, new } = plan.leaves();
    let back = Leaves { old: new, new: old };
    for endpoint in endpoints.iter().filter(|endpoint| endpoint.presented_any(&back.new)) {
        let (is_old, _) = endpoint.wait_back(arguments.timeout.min(WAY_BACK), &back);
        if !is_old {
            let text = format!("{} does not present the old certificate again", endpoint.server());
            report.problem("old-not-served", text);
            return false;
        }
    }
    true
}

/// Ends an install whose files are already in place. If a server that the operator named does not present
/// the certificate, it is reloaded.
pub(super) fn unchanged(
    arguments: &InstallArguments,
    plan: &Plan,
    endpoints: &[Endpoint],
    report: &mut Report,
) -> Exit {
    report.outcome = Outcome::Unchanged;
    let leaves = plan.leaves();
    let named = || endpoints.iter().filter(|one| one.is_named);
    let text = format!("nothing to do: {}", files_text(plan, report));
    if named().all(|endpoint| endpoint.presented_any(&leaves.new)) {
        report.lines.insert(0, format!("{text} are in place"));
        return Exit::Fine;
    }
    if arguments.dry_run {
        report.lines.insert(
            0,
            format!("would reload: {} are in place and not served", files_text(plan, report)),
        );
        return Exit::Fine;
    }
    let run = |step, command: &Option<String>, report: &mut Report| {
        command::run(report, step, command.as_deref().unwrap_or_default(), arguments.timeout, None)
    };
    let done = run("test", &arguments.test, report)
        .and_then(|()| run("reload", &arguments.reload, report))
        .and_then(|()| look(arguments.timeout, &leaves, endpoints, report, || true));
    match done {
        Ok(()) => {
            report.lines.insert(0, format!("reloaded: {} were in place", files_text(plan, report)));
            Exit::Fine
        }
        Err(text) => {
            output::complain(&text);
            report.problems.push(Remark { code: "not-served", text });
            report.outcome = Outcome::Failed;
            Exit::Undetermined
        }
    }
}
