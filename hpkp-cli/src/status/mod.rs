//! `hpkp status`: reports the records, the presented keys, whether clients accept them, and what expires
//! next.
//!
//! Data flow: directories -> records ([`gather`]) -> endpoints -> presented keys ([`served`]) -> report
//! -> text, JSON, metrics or a timeline.

mod gather;
mod next_keys;
mod prometheus;
mod report;
mod served;
mod target;
mod text;
mod timeline;
mod write;

use crate::arguments::StatusArguments;
use crate::exit::Exit;
use crate::output;
use crate::published::replay;
use crate::published::store::Store;
use crate::usage;
use report::{Answer, Level, Problem, Report};
use target::{Connect, Target};

/// Runs the command.
pub(crate) fn run(arguments: &StatusArguments) -> Exit {
    let (targets, connect) = match wanted(arguments) {
        Ok(wanted) => wanted,
        Err(text) => return usage::wrong(&text),
    };
    let trust = match replay::trust(arguments.trusted_certificate.as_deref()) {
        Ok(trust) => trust,
        Err(failure) => {
            output::complain(&failure.text);
            return failure.exit;
        }
    };
    let survey = Store::open_each(&arguments.directories());
    let mut report = gather::report(&survey, &arguments.directories(), &targets);
    report.offline = arguments.offline;
    if !arguments.offline {
        let asking = served::Asking {
            store: &survey.store,
            connect,
            timeout: arguments.timeout,
            starttls: arguments.starttls.clone(),
        };
        asking.ask(&mut report, &targets, trust);
    }
    gather::conclude(&survey.store, &mut report);
    for problem in &report.problems {
        output::complain(&problem.what);
    }
    let text = match (arguments.timeline, arguments.prometheus) {
        (Some(format), _) => timeline::render(&report, format, arguments.output.is_none()),
        (None, true) => prometheus::render(&report),
        (None, false) if arguments.json => match serde_json::to_string(&report) {
            Ok(json) => format!("{json}\n"),
            Err(error) => {
                output::complain(&format!("cannot write the output: {error}"));
                return Exit::Undetermined;
            }
        },
        (None, false) => text::render(&report, &survey.store),
    };
    let exit = exit(&report);
    match &arguments.output {
        None => output::ended(exit, write::standard(&text)),
        Some(path) => match write::file(path, &text) {
            Ok(()) => exit,
            Err(error) => {
                output::complain(&format!(
                    "cannot write {}: {}",
                    output::path(path),
                    output::os(&error)
                ));
                exit.and(Exit::Undetermined)
            }
        },
    }
}

/// The hosts and addresses of the command line.
fn wanted(arguments: &StatusArguments) -> Result<(Vec<Target>, Vec<Connect>), String> {
    let targets = arguments.hosts.iter().map(|text| Target::parse(text));
    let connect = arguments.connect.iter().map(|text| Connect::parse(text));
    Ok((targets.collect::<Result<_, _>>()?, connect.collect::<Result<_, _>>()?))
}

fn exit(report: &Report) -> Exit {
    let of_problem = |problem: &Problem| match problem.level {
        Level::Error => Exit::No,
        Level::Unknown => Exit::Undetermined,
        Level::Warning => Exit::Fine,
    };
    let of_answer = match report.answer {
        Answer::Yes | Answer::NotAsked => Exit::Fine,
        Answer::No => Exit::No,
        Answer::Unknown => Exit::Undetermined,
    };
    report.problems.iter().fold(of_answer, |exit, problem| exit.and(of_problem(problem)))
}
