//! `hpkp analyze`: servers as clients see them, from outside.

mod chain;
mod dns;
mod findings;
mod http;
mod policy;
mod renewal;
mod report;
mod shown;
mod site;
mod survey;
mod target;
mod test_report;
mod tlsa;
mod walk;

use hpkp_core::ua::host::Host;

use crate::arguments::AnalyzeArguments;
use crate::ca::CaTable;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::input;
use crate::output::{self, JSON_VERSION};
use crate::parallel;
use crate::progress::Progress;
use crate::time;
use crate::usage;
use chain::Anchored;
use report::{Report, TargetReport};
use site::Knowledge;
use target::{Protocol, Target};

/// The largest list on standard input, in bytes.
const MAX_LIST: usize = 8 << 20;

/// The most targets of one run.
const MAX_TARGETS: usize = 100_000;

/// Runs the command.
pub(crate) fn run(arguments: &AnalyzeArguments) -> Exit {
    match prepare(arguments) {
        Err(failure) => usage::end(failure),
        Ok((targets, anchored, table)) => {
            let knowledge = Knowledge { anchored: &anchored, table: &table, now: time::now() };
            let mut reports = analyze(&targets, arguments, &knowledge);
            if arguments.test_report {
                test_report::send(&mut reports, arguments, knowledge.now);
            }
            let exit = reports.iter().fold(Exit::Fine, |exit, one| exit.and(one.ended));
            let written = if arguments.json {
                let ca_table = table.date().to_owned();
                output::json(&Report { v: JSON_VERSION, ca_table, targets: reports })
            } else {
                shown::print(&reports)
            };
            output::ended(exit, written)
        }
    }
}

/// A target as the user wrote it. `None` if the text is no host and no URL.
type Named = (String, Option<Target>);

fn prepare(arguments: &AnalyzeArguments) -> Result<(Vec<Named>, Anchored, CaTable), Failure> {
    if arguments
        .servername
        .as_deref()
        .is_some_and(|name| !matches!(Host::parse(name), Ok(Host::Name(_))))
    {
        return Err(Failure::usage("--servername: expected a host name"));
    }
    let targets = targets(arguments)?;
    let table = CaTable::read(arguments.ca_table.as_deref())
        .map_err(|error| Failure { exit: error.exit(), text: error.to_string() })?;
    let anchored = Anchored::read(arguments.ca_file.as_deref())?;
    Ok((targets, anchored, table))
}

/// The targets of the command line and of standard input.
fn targets(arguments: &AnalyzeArguments) -> Result<Vec<Named>, Failure> {
    let protocol = match arguments.starttls {
        Some(starttls) => Protocol::Starttls(starttls),
        None if arguments.no_http => Protocol::Tls,
        None => Protocol::Https,
    };
    if arguments.targets.iter().filter(|target| *target == "-").count() > 1 {
        return Err(Failure::usage("standard input (-) can be read once only"));
    }
    let mut targets: Vec<Named> = Vec::new();
    for text in &arguments.targets {
        if text == "-" {
            let bytes = input::standard(MAX_LIST)
                .map_err(|error| Failure::unread("standard input", &error))?;
            let list = String::from_utf8_lossy(&bytes);
            let lines = list.lines().map(str::trim);
            let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
            // An invalid line is reported; the other lines are still analyzed.
            targets.extend(lines.map(|line| (line.to_owned(), target(line, protocol))));
            continue;
        }
        let Some(target) = target(text, protocol) else {
            return Err(Failure::usage(format!(
                "\"{text}\": expected HOST, HOST:PORT or a URL with http or https"
            )));
        };
        targets.push((text.clone(), Some(target)));
    }
    if targets.len() > MAX_TARGETS {
        return Err(Failure::no(format!("more than {MAX_TARGETS} targets")));
    }
    if targets.is_empty() {
        return Err(Failure::no("the list has no targets"));
    }
    Ok(targets)
}

/// Parses a target. A URL contains its protocol; `--no-http` overrides it.
fn target(text: &str, protocol: Protocol) -> Option<Target> {
    let mut target = Target::parse(text, protocol)?;
    if protocol != Protocol::Https && target.site.protocol == Protocol::Https {
        target.site.protocol = protocol;
    }
    Some(target)
}

/// Analyzes the targets, several at a time. The reports have the order of the targets.
fn analyze(
    targets: &[Named],
    arguments: &AnalyzeArguments,
    knowledge: &Knowledge<'_>,
) -> Vec<TargetReport> {
    let progress = Progress::start("asking servers");
    let all = output::counted(targets.len(), "target");
    parallel::map(
        targets,
        usize::from(arguments.parallel),
        |(text, target)| walk::report(text, target.as_ref(), arguments, knowledge),
        |done| progress.set(|| format!("asked {done} of {all}")),
    )
}
