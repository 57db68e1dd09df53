//! Prints the report as text.

use super::gather;
use super::report::{
    Answer, DirectoryReport, Expiry, HostReport, NextKeyReport, NextKeyState, Recorded, Report,
    Served, StepKind, WriterReport,
};
use crate::output::{self, BAD, GOOD, NOTE, accent, counted};
use crate::published::store::{self, Store};
use crate::time::{about, duration};
use hpkp_core::sorted::distinct;
use hpkp_core::text::Excerpt;

/// The most expiring things that are listed.
const NEXT: usize = 10;

/// The lines of the report.
pub(super) fn render(report: &Report, store: &Store) -> String {
    let mut lines = Vec::new();
    for directory in &report.directories {
        lines.push(self::directory(directory));
    }
    lines.extend(report.writers.iter().map(writer));
    lines.extend(unguarded(report));
    lines.extend(
        report
            .last_drill
            .iter()
            .map(|drill| format!("    last drill with a backup key: {}, {}", drill.at, drill.pin)),
    );
    for host in &report.hosts {
        lines.extend(self::host(host, store));
    }
    if report.hosts.is_empty() {
        lines.push(report.without_hosts().to_owned());
    }
    lines.extend(next(report));
    lines.push(conclusion(report, store));
    lines.push(String::new());
    lines.join("\n")
}

fn directory(directory: &DirectoryReport) -> String {
    let path = store::shown(&directory.path);
    match (directory.usable, directory.unread.len()) {
        (false, _) => format!("{path}: {}", accent(BAD, "cannot be used")),
        (true, 0) => format!("{path}: all records read"),
        (true, unread) => {
            format!("{path}: {}", accent(BAD, &format!("{} not read", counted(unread, "file"))))
        }
    }
}

fn writer(writer: &WriterReport) -> String {
    let copy = if writer.own { "" } else { " (copy)" };
    let mut parts = Vec::new();
    match (writer.last_configuration, writer.last_record) {
        (Some(at), _) => parts.push(format!("last accepted configuration {at}")),
        (None, Some(at)) => parts.push(format!("last record {at}")),
        (None, None) => parts.push("has never written".to_owned()),
    }
    if writer.stopped == Some(true) {
        parts.push("stopped".to_owned());
    }
    match (writer.heard, writer.silent_for) {
        (Some(_), Some(age)) => parts.push(format!("last heard from {} ago", about(age))),
        (Some(at), None) => {
            parts.push(accent(
                NOTE,
                &format!("last heard from at {at}, which is in the future by this machine's clock"),
            ));
        }
        (None, _) => {}
    }
    match writer.recorded {
        Recorded::Yes => parts.push("everything is recorded".to_owned()),
        Recorded::No => parts.push(accent(BAD, "a write has failed")),
        Recorded::Unknown => parts.push(accent(BAD, "a write may have failed")),
        Recorded::NotNoted => {}
    }
    if !writer.withheld.is_empty() {
        let hosts = counted(writer.withheld.len(), "host");
        parts.push(accent(NOTE, &format!("withholds the header of {hosts}")));
    }
    format!("    {}{copy}: {}", writer.writer, parts.join(", "))
}

/// A note if no server compares its certificates with these records. Its configuration may lack the
/// directory, or the file with the directive may not be included.
fn unguarded(report: &Report) -> Option<String> {
    let is_server = |one: &WriterReport| one.own && one.last_configuration.is_some();
    let is_guarded = report.hosts.is_empty() || report.writers.iter().any(is_server);
    (!is_guarded).then(|| {
        let note = accent(NOTE, "no server of this machine uses these records:");
        format!(
            "    {note} none has started or reloaded with hpkp_published_pins (HPKPPublishedPins)"
        )
    })
}

fn host(host: &HostReport, store: &Store) -> Vec<String> {
    let answer = match host.answer {
        Answer::Yes => format!("{} clients accept the presented keys", accent(GOOD, "yes:")),
        Answer::No => format!("{} clients are locked out", accent(BAD, "no:")),
        Answer::Unknown => {
            format!(
                "{} cannot tell whether clients accept what is presented",
                accent(NOTE, "unknown:")
            )
        }
        Answer::NotAsked => match host.not_asked {
            Some(why) => format!("not asked: {why}"),
            None => "not asked".to_owned(),
        },
    };
    let mut lines = vec![format!("{}: {answer}", host.host)];
    for served in &host.served {
        lines.extend(self::served(served));
    }
    lines.extend(compromised(host, store));
    if host.served.iter().all(|served| served.chains.is_empty()) {
        lines.extend(host.on_record.iter().map(|one| {
            let ports: Vec<String> = one.ports.iter().map(ToString::to_string).collect();
            format!(
                "    on record, port {}: {}; presented by {} since {}",
                ports.join(", "),
                one.leaves.join(", "),
                one.writer,
                one.since
            )
        }));
    }
    lines.extend(host.published.iter().map(|one| format!("    held: {}", one.line())));
    lines.extend(host.withheld_by.iter().map(|writer| {
        format!("    {} {writer} sends no header for this host", accent(NOTE, "withheld:"))
    }));
    if !host.backup_pins.is_empty() {
        let backups = host.backup_pins.iter().map(|pin| match host.backup_drills.get(pin) {
            Some(at) => format!("{pin} (last drill {at})"),
            None => format!("{pin} (no drill on record)"),
        });
        lines.push(format!("    backup: {}", backups.collect::<Vec<_>>().join(", ")));
    }
    lines.extend(host.next_keys.iter().map(|key| next_key(&host.host, key)));
    // The line of a published next key already contains the date, so the advice is omitted.
    let has_date =
        |key: &NextKeyReport| matches!(key.state, NextKeyState::Waiting | NextKeyState::Usable);
    let has_line =
        host.next_step.kind == StepKind::ChangeKey && host.next_keys.iter().any(has_date);
    let advice = host.next_step.advice.iter().filter(|_| !has_line);
    lines.extend(advice.map(|line| match line.strip_prefix("    ") {
        Some(command) => format!("        {command}"),
        None => format!("    {line}"),
    }));
    lines
}

/// A note if a presented key is on record as compromised. Clients still accept such a key.
fn compromised(host: &HostReport, store: &Store) -> Vec<String> {
    let pins = distinct(gather::presented_pins(host));
    let why = |pin: &str| store.state.compromised(pin.parse().ok()?).map(Excerpt::new);
    let all = pins.into_iter().filter_map(|pin| Some((pin, why(pin)?)));
    all.map(|(pin, why)| {
        let head = accent(BAD, "compromised:");
        format!("    {head} {pin} (\"{why}\"); whoever has the key can impersonate this host")
    })
    .collect()
}

fn next_key(host: &str, key: &NextKeyReport) -> String {
    let since = match key.published_since {
        Some(since) => format!("published since {since}"),
        None => "not published yet".to_owned(),
    };
    let when = match (key.state, key.usable_from) {
        (NextKeyState::Usable, _) => ", may be used now".to_owned(),
        (NextKeyState::Waiting, Some(at)) => format!(", may be used from {at}"),
        (NextKeyState::NotPublished, _) if key.published_since.is_some() => {
            ", but not by every server".to_owned()
        }
        (NextKeyState::Blocked, _) => ", waits for clients whose pins do not expire".to_owned(),
        _ => String::new(),
    };
    let handed = key.handed_over.map(|at| format!(", handed over {at}")).unwrap_or_default();
    format!("    next key of {host}: {}, {since}{when}{handed}", key.pin)
}

fn served(served: &Served) -> Vec<String> {
    let mut lines = Vec::new();
    for chain in &served.chains {
        let Some(leaf) = chain.first() else { continue };
        let subject = leaf.subject.as_deref().unwrap_or_default();
        let expires = leaf.not_after.as_deref().unwrap_or("never");
        lines.push(format!(
            "    presented at {}: {}  {}, expires {expires}",
            served.address, leaf.pin, subject
        ));
    }
    lines.extend(served.findings.iter().map(|finding| format!("        {}", finding.summary)));
    lines.extend(
        served.locks_out.iter().map(|id| format!("        locks out clients of record {id}")),
    );
    lines.extend(served.errors.iter().map(|error| format!("    {}: {error}", served.address)));
    lines
}

fn next(report: &Report) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for next in report.next.iter().take(NEXT) {
        let what = match next.what {
            Expiry::Pins => format!("pins of {} expire (record {})", next.host, next.of),
            Expiry::Certificate => format!("certificate of {} expires ({})", next.host, next.of),
        };
        let left = next.at.0.saturating_sub(report.at.0);
        let left = match left {
            ..=0 => "expired".to_owned(),
            // From two days on, whole days are enough.
            172_800.. => format!("in {}", duration(left / 86_400 * 86_400)),
            _ => format!("in {}", duration((left / 3_600 * 3_600).max(60))),
        };
        lines.push(format!("next: {} ({left}): {what}", next.at));
    }
    if report.next.len() > NEXT {
        lines.push(format!(
            "and {} more that expire later: --json lists them",
            report.next.len() - NEXT
        ));
    }
    lines
}

fn conclusion(report: &Report, store: &Store) -> String {
    let hosts = |answer| report.hosts.iter().filter(move |host| host.answer == answer);
    let named = |answer| {
        let names: Vec<&str> = hosts(answer).take(3).map(|host| host.host.as_str()).collect();
        let more = hosts(answer).count() - names.len();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!("{}{more}", names.join(", "))
    };
    match report.answer {
        Answer::Yes => accent(GOOD, "yes: clients accept what is presented"),
        Answer::No => {
            let text = format!("no: clients are locked out of {}", named(Answer::No));
            let first = hosts(Answer::No).next().map_or("HOST", |host| host.host.as_str());
            format!("{}; see: {}", accent(BAD, &text), store.command(&format!("why {first}")))
        }
        Answer::Unknown => {
            let names = named(Answer::Unknown);
            accent(NOTE, &format!("unknown: cannot tell whether clients of {names} are locked out"))
        }
        Answer::NotAsked => output::printable("no server was asked"),
    }
}
