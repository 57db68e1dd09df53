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
mod starttls;
mod survey;
mod target;
mod tlsa;
mod walk;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use hpkp_core::ua::host::Host;

use crate::arguments::AnalyzeArguments;
use crate::ca::CaTable;
use crate::exit::Exit;
use crate::input;
use crate::output::{self, JSON_VERSION};
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
        Err(Failed::Usage(text)) => usage::wrong(&text),
        Err(Failed::Other(exit, text)) => {
            output::complain(&text);
            exit
        }
        Ok((targets, anchored, table)) => {
            let knowledge = Knowledge { anchored: &anchored, table: &table, now: time::now() };
            let reports = analyze(&targets, arguments, &knowledge);
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

enum Failed {
    Usage(String),
    Other(Exit, String),
}

/// A target as it was given; none where it is no target.
type Named = (String, Option<Target>);

fn prepare(arguments: &AnalyzeArguments) -> Result<(Vec<Named>, Anchored, CaTable), Failed> {
    if arguments
        .servername
        .as_deref()
        .is_some_and(|name| !matches!(Host::parse(name), Ok(Host::Name(_))))
    {
        return Err(Failed::Usage("--servername: expected a host name".to_owned()));
    }
    let targets = targets(arguments)?;
    let table = CaTable::read(arguments.ca_table.as_deref())
        .map_err(|error| Failed::Other(error.exit(), error.to_string()))?;
    let anchored = Anchored::read(arguments.ca_file.as_deref())
        .map_err(|(exit, text)| Failed::Other(exit, text))?;
    Ok((targets, anchored, table))
}

/// The targets of the command line, and those on standard input.
fn targets(arguments: &AnalyzeArguments) -> Result<Vec<Named>, Failed> {
    let protocol = match arguments.starttls {
        Some(starttls) => starttls.into(),
        None if arguments.no_http => Protocol::Tls,
        None => Protocol::Https,
    };
    if arguments.targets.iter().filter(|target| *target == "-").count() > 1 {
        return Err(Failed::Usage("standard input (-) can be read once only".to_owned()));
    }
    let mut targets: Vec<Named> = Vec::new();
    for text in &arguments.targets {
        if text == "-" {
            let bytes = input::standard(MAX_LIST);
            let bytes = bytes
                .map_err(|error| Failed::Other(error.exit(), format!("standard input: {error}")))?;
            let list = String::from_utf8_lossy(&bytes);
            let lines = list.lines().map(str::trim);
            let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
            // One bad line of a list is not the end of the others.
            targets.extend(lines.map(|line| (line.to_owned(), target(line, protocol))));
            continue;
        }
        let Some(target) = target(text, protocol) else {
            return Err(Failed::Usage(format!(
                "\"{text}\": expected HOST, HOST:PORT or a URL with http or https"
            )));
        };
        targets.push((text.clone(), Some(target)));
    }
    if targets.len() > MAX_TARGETS {
        let text = format!("more than {MAX_TARGETS} targets");
        return Err(Failed::Other(Exit::No, text));
    }
    if targets.is_empty() {
        return Err(Failed::Other(Exit::No, "the list has no targets".to_owned()));
    }
    Ok(targets)
}

/// A target; a URL says itself how its server is spoken to, but for `--no-http`.
fn target(text: &str, protocol: Protocol) -> Option<Target> {
    let mut target = Target::parse(text, protocol)?;
    if protocol != Protocol::Https && target.site.protocol == Protocol::Https {
        target.site.protocol = protocol;
    }
    Some(target)
}

/// Looks at all targets, some of them at a time; the reports are in their order.
fn analyze(
    targets: &[Named],
    arguments: &AnalyzeArguments,
    knowledge: &Knowledge<'_>,
) -> Vec<TargetReport> {
    let progress = Progress::start("asking servers");
    let next = AtomicUsize::new(0);
    let done = AtomicUsize::new(0);
    let reports: Mutex<Vec<(usize, TargetReport)>> = Mutex::new(Vec::new());
    let work = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some((text, target)) = targets.get(at) else { return };
            let report = walk::report(text, target.as_ref(), arguments, knowledge);
            let count = done.fetch_add(1, Ordering::Relaxed) + 1;
            progress
                .set(|| format!("asked {count} of {}", output::counted(targets.len(), "target")));
            if let Ok(mut reports) = reports.lock() {
                reports.push((at, report));
            }
        }
    };
    let workers = usize::from(arguments.parallel).min(targets.len());
    std::thread::scope(|scope| {
        let others: Vec<_> =
            (1..workers).map(|_| std::thread::Builder::new().spawn_scoped(scope, work)).collect();
        work();
        drop(others);
    });
    let mut reports = reports.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    reports.sort_by_key(|(at, _)| *at);
    reports.into_iter().map(|(_, report)| report).collect()
}
