//! `hpkp install`: installs a renewed certificate and its key for a server, if clients accept them.
//!
//! Data flow: the client's files -> pairs -> checks of faults, names and pins -> a new directory beside the
//! old one -> exchange in one step -> the server's test, its reload, the presented certificate -> done, or
//! the old directory again. A journal on disk describes the install until it is complete.

mod apply;
mod command;
mod digest;
mod durable;
mod journal;
mod layout;
mod pair;
mod pem_file;
mod place;
mod plan;
mod recover;
mod report;
mod served;
mod source;
mod verify;

use crate::arguments::InstallArguments;
use crate::exit::Exit;
use crate::{output, usage};
use place::Place;
use plan::{Plan, files_text};
use report::{Outcome, PairView, Report, Stop};

/// Runs the command.
pub(crate) fn run(arguments: &InstallArguments) -> Exit {
    let mut report = Report::new(output::path(&arguments.to));
    let exit = match install(arguments, &mut report) {
        Ok(exit) => exit,
        Err(stop) if stop.exit == Exit::Usage => return usage::wrong(&stop.text),
        Err(stop) => {
            report.problem(stop.code, stop.text);
            stop.exit
        }
    };
    output::ended(exit, report.print(arguments.records.json))
}

fn install(arguments: &InstallArguments, report: &mut Report) -> Result<Exit, Stop> {
    let patience = (!arguments.dry_run).then_some(arguments.timeout);
    let mut place = Place::open(&arguments.to, patience)?;
    let interrupted = match arguments.dry_run {
        true => recover::preview(&place, report)?,
        false => recover::run(&mut place, arguments, report)?,
    };
    if arguments.recover {
        return Ok(recover::result(interrupted, report));
    }
    let plan = Plan::new(arguments, &place)?;
    describe(&plan, report);
    let records = verify::records(arguments);
    let mut endpoints = verify::endpoints(arguments, &plan, records.as_ref())?;
    let exit = verify::verify(arguments, &plan, records, &mut endpoints, report)?;
    if exit != Exit::Fine {
        report.outcome = Outcome::Refused;
        output::complain(&format!(
            "{}: nothing was changed; the files of the server are as before",
            report.to
        ));
        return Ok(exit);
    }
    if plan.is_in_place() {
        return Ok(apply::unchanged(arguments, &plan, &endpoints, report));
    }
    if arguments.dry_run {
        report.outcome = Outcome::WouldInstall;
        let first = format!("would install: {}", files_text(&plan, report));
        report.lines.insert(0, first);
        return Ok(Exit::Fine);
    }
    apply::apply(arguments, &place, &plan, &endpoints, report)
}

/// Reports what will be installed.
fn describe(plan: &Plan, report: &mut Report) {
    for (place, pair) in plan.pairs.iter().enumerate() {
        let leaf = pair.leaf();
        let view = PairView {
            certificate: output::path(&pair.certificate),
            pin: leaf.pin().map(|pin| format!("sha256/{pin}")),
            dns_names: leaf.dns_names().to_vec(),
            not_after: leaf.not_after_text().to_owned(),
            files: plan.names_of(place),
        };
        report.lines.push(format!(
            "certificate: {}: {}, key {}, expires {}",
            view.certificate,
            leaf.subject(),
            view.pin.as_deref().unwrap_or("without a pin"),
            view.not_after
        ));
        report.pairs.push(view);
    }
}
