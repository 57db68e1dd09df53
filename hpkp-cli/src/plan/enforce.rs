//! The goal `enforce`: decides by the received reports whether a report-only policy may be enforced.
//!
//! The absence of reports proves nothing, because no browser sends them today. The plan therefore requires
//! days with reports, clients that have reported, and an explanation for each report.

use std::collections::BTreeMap;

use hpkp_core::date;
use serde::Deserialize;

use super::model::{Plan, Step};
use super::print;
use crate::arguments::PlanArguments;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::{input, output, time, usage};

/// The largest export, in bytes.
const MAX_FILE: usize = 256 << 20;

/// The version of the export format.
const VERSION: u32 = 1;

/// Seconds in a day.
const DAY: i64 = 86_400;

/// The most days without any report. After a longer time, the export says nothing about the present.
const MAX_SILENCE: i64 = 7;

/// The most findings that are listed.
const MAX_NAMED: usize = 8;

/// A group of reports in the export.
#[derive(Debug, Deserialize)]
struct Group {
    v: u32,
    host: String,
    day: String,
    finding: String,
    class: String,
    #[serde(default)]
    mode: String,
    #[serde(default)]
    format: String,
    count: u64,
    clients: u64,
    last_seen: String,
}

/// The reports about one host.
#[derive(Debug, Default)]
struct Received {
    /// The first day with a report, in seconds since 1970 UTC.
    since: Option<i64>,
    /// The largest number of clients in one group of one day.
    clients: u64,
    /// Unexplained or urgent findings: the number of reports, and the time of the last one.
    open: BTreeMap<String, (u64, i64)>,
    /// The number of such reports for hosts below, to which the policy may apply too.
    open_below: u64,
    /// Whether some clients already enforce the policy.
    is_enforced: bool,
    /// The time of the last report for any host, which is the latest time that the export covers.
    newest: Option<i64>,
}

/// Runs the command.
pub(super) fn run(arguments: &PlanArguments) -> Exit {
    let now = time::now();
    match received(arguments, now) {
        Err(failure) => usage::end(failure),
        Ok(received) => match refused(&received, arguments, now) {
            Some(reason) => output::ended(Exit::No, print::unsafe_plan(arguments, &reason)),
            None => {
                let plan = plan(&received, arguments, now);
                let written = match (arguments.ics, arguments.records.json) {
                    (true, _) => super::ics::print(&plan, now),
                    (false, true) => print::json(&plan),
                    (false, false) => print_text(&plan),
                };
                output::ended(Exit::Fine, written)
            }
        },
    }
}

fn received(arguments: &PlanArguments, now: i64) -> Result<Received, Failure> {
    let Some(path) = &arguments.reports else {
        return Err(Failure::usage("--to enforce needs --reports FILE"));
    };
    let shown = output::path(path);
    let bytes = input::named(path, MAX_FILE).map_err(|error| Failure::unread(&shown, &error))?;
    let text = String::from_utf8(bytes).map_err(|_| Failure::no(format!("{shown}: not UTF-8")))?;
    let from = now - i64::from(arguments.report_days) * DAY;
    let mut received = Received::default();
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
        let group: Group = serde_json::from_str(line).map_err(|error| {
            Failure::no(format!("{shown}:{number}: not an export of hpkp-reports: {error}"))
        })?;
        if group.v != VERSION {
            let v = group.v;
            return Err(Failure::no(format!("{shown}:{number}: version {v}, expected {VERSION}")));
        }
        received
            .take(&group, arguments.host.as_str(), from)
            .ok_or_else(|| Failure::no(format!("{shown}:{number}: invalid time")))?;
    }
    Ok(received)
}

impl Received {
    /// Adds a group of any host.
    fn take(&mut self, group: &Group, host: &str, from: i64) -> Option<()> {
        let last = date::parse(&group.last_seen)?;
        self.newest = self.newest.max(Some(last));
        if group.host.eq_ignore_ascii_case(host) {
            return self.add(group, last, from);
        }
        let name = group.host.to_ascii_lowercase();
        let above = name.strip_suffix(&host.to_ascii_lowercase());
        if above.is_some_and(|rest| rest.ends_with('.')) && last >= from && group.class != "noise" {
            self.open_below = self.open_below.saturating_add(group.count);
        }
        Some(())
    }

    /// Adds a group of the host. Groups from before `from` count only for the first day with reports.
    fn add(&mut self, group: &Group, last: i64, from: i64) -> Option<()> {
        let day = date::parse(&format!("{}T00:00:00Z", group.day))?;
        // A test proves that reports arrive, but not that clients send reports.
        if group.finding == "report-test" {
            return Some(());
        }
        // Mail servers report about the same name, and clients that already enforce a policy say nothing
        // about the report-only one.
        let is_trial = group.mode != "enforced" && group.format != "smtp-tls";
        if is_trial {
            self.since = Some(self.since.map_or(day, |since| since.min(day)));
        }
        self.is_enforced |= group.mode == "enforced";
        if last < from {
            return Some(());
        }
        if group.class == "noise" && is_trial {
            self.clients = self.clients.max(group.clients);
        } else if group.class != "noise" {
            let open = self.open.entry(group.finding.clone()).or_default();
            *open = (open.0 + group.count, open.1.max(last));
        }
        Some(())
    }
}

/// Why the policy should not be enforced, if there is a reason.
fn refused(received: &Received, arguments: &PlanArguments, now: i64) -> Option<String> {
    let (host, days) = (&arguments.host, i64::from(arguments.report_days));
    let Some(since) = received.since else {
        if received.is_enforced {
            return Some(format!(
                "all reports for {host} are from clients that enforce a policy already; that proves \
                 nothing about the report-only policy, for which nobody has reported anything"
            ));
        }
        return Some(format!(
            "nobody has reported anything for {host}; no browser sends reports today, so silence proves nothing. \
             To see whether reports arrive: hpkp analyze {host} --test-report"
        ));
    };
    if !received.open.is_empty() {
        let named = received.open.iter().take(MAX_NAMED).map(|(finding, (count, last))| {
            format!("{finding} ({count}, last at {})", date::format(*last))
        });
        let named = named.collect::<Vec<_>>().join(", ");
        let last = received.open.values().map(|(_, last)| *last).max().unwrap_or(now);
        return Some(format!(
            "reports of the last {days} days are not explained: {named}. Explain them first; with no more of them, \
             not before {}",
            date::format(last + days * DAY)
        ));
    }
    if since > now - days * DAY {
        return Some(format!(
            "reports have come in since {} only; wait for {days} days, until {}",
            date::format(since),
            date::format(since + days * DAY)
        ));
    }
    // The export does not show reports that arrived later, nor whether the collector failed.
    let silence = (days / 2 + 1).min(MAX_SILENCE) * DAY;
    if let Some(newest) = received.newest.filter(|newest| *newest < now - silence) {
        return Some(format!(
            "the last report of all hosts in the file came in at {}; export again, and see whether reports still \
             arrive: hpkp analyze {host} --test-report",
            date::format(newest)
        ));
    }
    let wanted = u64::from(arguments.report_clients);
    (received.clients < wanted).then(|| {
        format!(
            "about {} clients have reported for {host} in the last {days} days, fewer than {wanted}: silence of the \
             others proves nothing, since most clients report nothing",
            received.clients
        )
    })
}

fn plan(received: &Received, arguments: &PlanArguments, now: i64) -> Plan {
    let host = &arguments.host;
    let mut notes = vec![format!(
        "about {} clients have reported, and each report of the last {} days is explained",
        received.clients, arguments.report_days
    )];
    if received.open_below > 0 {
        notes.push(format!(
            "{} violations for hosts below {host} are not explained: do not include subdomains until they are",
            received.open_below
        ));
    }
    if received.is_enforced {
        notes.push("some of the clients that reported enforce a policy already".to_owned());
    }
    let step = Step {
        from: now,
        what: "enforce the policy that was report-only; begin with a short max_age".to_owned(),
        keys: Vec::new(),
        policy: None,
        commands: vec![
            "in the configuration: hpkp_report_only NAME (HPKPUseReportOnly NAME) becomes hpkp NAME (HPKPUse NAME)".to_owned(),
            "nginx -t && nginx -s reload    or    apachectl -t && apachectl graceful".to_owned(),
        ],
    };
    Plan {
        host: host.to_string(),
        goal: arguments.to.as_str(),
        servers: Vec::new(),
        policy_name: String::new(),
        steps: vec![step],
        notes,
    }
}

fn print_text(plan: &Plan) -> std::io::Result<()> {
    output::line(&format!("plan for {}: {}", plan.host, plan.goal))?;
    for step in &plan.steps {
        let from = output::accent(output::GOOD, &date::format(step.from));
        output::line("")?;
        output::line(&format!("step 1, not before {from}: {}", step.what))?;
        step.commands.iter().try_for_each(|command| output::line(&format!("    {command}")))?;
    }
    output::line("")?;
    plan.notes.iter().try_for_each(|note| {
        output::line(&format!("{} {note}", output::accent(output::NOTE, "note:")))
    })
}
