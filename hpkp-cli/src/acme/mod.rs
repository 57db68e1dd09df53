//! `hpkp acme doctor`: which ACME clients will make a new key for which pinned host, and when.
//!
//! Data flow: directories of clients -> certificates and the keys that come next -> for each the check
//! of `hpkp renew-check` -> lines or JSON.

mod clients;
mod of_host;

use hpkp_core::certificate::Certificate;
use hpkp_core::date;
use serde::Serialize;

use crate::arguments::{AcmeArguments, AcmeCommand, DoctorArguments};
use crate::chains;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::published::Judge;
use crate::renew_check::{Renewal, public_key};
use crate::{output, usage};
use clients::{Managed, NextKey};

pub(crate) use of_host::{OfHost, of_host};

/// The JSON output.
#[derive(Debug, Default, Serialize)]
struct Report {
    v: u32,
    certificates: Vec<View>,
    /// Files and directories that could not be read, with the reason.
    unread: Vec<String>,
    /// Directories that belong to no known client.
    unknown: Vec<String>,
}

#[derive(Debug, Serialize)]
struct View {
    client: &'static str,
    name: String,
    certificate: String,
    /// `kept`, `new` or `unknown`.
    next_key: &'static str,
    because: String,
    /// The approximate time of the renewal.
    renews: String,
    /// Whether clients of the host accept the renewed certificate: `yes`, `no` or `unknown`.
    answer: &'static str,
    /// The hosts whose clients may refuse the renewed certificate.
    hosts: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
}

/// Runs the command.
pub(crate) fn run(arguments: &AcmeArguments) -> Exit {
    let AcmeCommand::Doctor(arguments) = &arguments.command;
    doctor(arguments).unwrap_or_else(usage::end)
}

fn doctor(arguments: &DoctorArguments) -> Result<Exit, Failure> {
    let trusted = arguments.trusted_certificate.as_deref();
    let judge = Judge::open(&arguments.records.directories(), trusted)?;
    let places = match &arguments.acme[..] {
        [] => clients::usual(),
        named => named.to_vec(),
    };
    let mut report = Report { v: output::JSON_VERSION, ..Report::default() };
    let mut exit = Exit::Fine;
    for place in &places {
        let Some(found) = clients::in_directory(place) else {
            // A default directory exists also if its client was never used, so it is no finding. A
            // directory that the operator named is.
            report.unknown.extend(arguments.acme.contains(place).then(|| output::path(place)));
            continue;
        };
        report.unread.extend(found.unread);
        for managed in &found.managed {
            match view(managed, &judge) {
                Ok((view, answer)) => {
                    report.certificates.push(view);
                    exit = exit.and(answer);
                }
                Err(failure) => report.unread.push(failure.text),
            }
        }
    }
    if !report.unread.is_empty() || !report.unknown.is_empty() {
        exit = exit.and(Exit::Undetermined);
    }
    Ok(output::ended(exit, print(&report, arguments.records.json)))
}

/// The next key of a certificate, and whether clients accept it.
fn view(managed: &Managed, judge: &Judge) -> Result<(View, Exit), Failure> {
    let file = managed.certificate.to_string_lossy().into_owned();
    let present = vec![(file.clone(), chains::of_file(&file)?)];
    let leaf = &present[0].1[0];
    let key = match &managed.next_key {
        NextKey::Kept(path) => Some(public_key(path.as_os_str())?),
        NextKey::New | NextKey::Unknown => None,
    };
    let renewal = Renewal::new(&present, key.as_deref())?;
    let mut exit = Exit::Fine;
    let mut hosts = Vec::new();
    for host in judge.hosts(leaf.accepted_names().iter()).iter().filter(|host| judge.binds(host)) {
        let judgement = judge.ask(host, &renewal.chains, Some(&renewal))?;
        exit = exit.and(judgement.exit);
        if judgement.exit != Exit::Fine {
            hosts.push(judgement.host);
        }
    }
    // The client may keep its key, so the answer is not certain.
    if managed.next_key == NextKey::Unknown && exit == Exit::No {
        exit = Exit::Undetermined;
    }
    let view = View {
        client: managed.client,
        name: managed.name.clone(),
        certificate: output::path(&managed.certificate),
        next_key: match managed.next_key {
            NextKey::Kept(_) => "kept",
            NextKey::New => "new",
            NextKey::Unknown => "unknown",
        },
        because: managed.because.clone(),
        renews: date::format(renews(managed, leaf)),
        answer: match exit {
            Exit::Fine => "yes",
            Exit::No => "no",
            _ => "unknown",
        },
        fix: (exit != Exit::Fine).then(|| managed.fix.clone()),
        hosts,
    };
    Ok((view, exit))
}

/// The approximate time of the renewal, in seconds since 1970 UTC.
fn renews(managed: &Managed, leaf: &Certificate) -> i64 {
    const DAY: i64 = 86_400;
    let lifetime = leaf.not_after() - leaf.not_before();
    let before = managed.days.map_or(lifetime / 3, |days| days * DAY);
    managed.at.unwrap_or(leaf.not_after() - before)
}

fn print(report: &Report, json: bool) -> std::io::Result<()> {
    for text in &report.unread {
        output::complain(&format!("not looked at: {text}"));
    }
    for directory in &report.unknown {
        output::complain(&format!("{directory}: not the directory of a known ACME client"));
    }
    if json {
        return output::json(report);
    }
    if report.certificates.is_empty() {
        output::complain("found no certificate of an ACME client; name its directory with --acme");
    }
    for view in &report.certificates {
        line(view)?;
    }
    Ok(())
}

fn line(view: &View) -> std::io::Result<()> {
    let style = match view.answer {
        "yes" => output::GOOD,
        "no" => output::BAD,
        _ => output::NOTE,
    };
    let key = match view.next_key {
        "kept" => "renews with an existing key",
        "new" => "renews with a new key",
        _ => "may renew with a new key",
    };
    let answer = output::accent(style, &format!("{}:", view.answer));
    let hosts = match view.hosts.is_empty() {
        true => String::new(),
        false => format!("; locks out clients of {}", view.hosts.join(", ")),
    };
    output::line(&format!(
        "{answer} {} {}: {key} about {} ({}){hosts}",
        view.client, view.name, view.renews, view.because
    ))?;
    view.fix.iter().try_for_each(|fix| output::line(&format!("    to fix: {fix}")))
}
