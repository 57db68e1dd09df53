//! `hpkp install`: a renewed certificate and its key in the server's place, if clients accept them.
//!
//! Data flow: the client's files -> pairs -> faults, names and pins -> a new directory beside the old
//! one -> exchanged in one step -> the server's test, its reload, what it presents -> done, or the old
//! directory again. A journal stands on disk as long as this is not decided.

mod apply;
mod command;
mod digest;
mod journal;
mod layout;
mod pair;
mod pem_file;
mod place;
mod recover;
mod report;
mod served;
mod source;
mod verify;

use std::collections::BTreeMap;
use std::sync::Arc;

use hpkp_core::certificate::Certificate;

use crate::arguments::InstallArguments;
use crate::exit::Exit;
use crate::{output, usage};
use layout::Written;
use pair::{Pair, Role};
use place::{Entry, Place, Present};
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

/// Everything that is known before something is changed.
struct Plan {
    pairs: Vec<Pair>,
    present: Present,
    written: BTreeMap<String, Written>,
    /// For each pair the chain in its place now.
    old: Vec<Option<Vec<Arc<Certificate>>>>,
    /// Whether the server reads another directory than the client writes.
    is_detached: bool,
}

impl Plan {
    fn new(arguments: &InstallArguments, place: &Place) -> Result<Self, Stop> {
        let to = place.path().canonicalize().ok();
        let is_same =
            to.is_some() && arguments.from.iter().any(|from| from.canonicalize().ok() == to);
        let is_link = matches!(place.form, journal::Form::Link(_));
        if is_same && !is_link {
            return Err(Stop::usage(
                "--from and --to are the same directory; the client must write where the server does not read",
            ));
        }
        let pairs = source::pairs(arguments)?;
        let present = place.present()?;
        let written = layout::files(&pairs, &present.entries)?;
        let old = (0..pairs.len()).map(|pair| old_chain(pair, &written, &present)).collect();
        // A link that leads to the client's directory is led to one of the server's own.
        Ok(Self { pairs, present, written, old, is_detached: !is_same })
    }

    /// Whether every file is there already, with the content that it would have.
    fn is_in_place(&self) -> bool {
        self.is_detached
            && self.written.iter().all(|(name, new)| match self.present.entries.get(name) {
                Some(Entry::Pem(file)) => file.bytes == new.content,
                _ => false,
            })
    }

    /// The leaves in the order of the pairs; an empty one where there is none yet.
    fn leaves(&self) -> served::Leaves {
        let old = self.old.iter().map(|chain| {
            chain.as_ref().and_then(|chain| chain.first()).map(served::der).unwrap_or_default()
        });
        let new = self.pairs.iter().map(|pair| served::der(pair.leaf()));
        served::Leaves { old: old.collect(), new: new.collect() }
    }

    fn names_of(&self, pair: usize) -> Vec<String> {
        let ours = self.written.iter().filter(|(_, written)| written.pair == pair);
        ours.map(|(name, _)| name.clone()).collect()
    }
}

/// The longest chain in the files that a pair replaces.
fn old_chain(
    pair: usize,
    written: &BTreeMap<String, Written>,
    present: &Present,
) -> Option<Vec<Arc<Certificate>>> {
    let ours = written.iter().filter(|(_, new)| {
        new.pair == pair && matches!(new.role, Role::Full | Role::Leaf | Role::Combined)
    });
    let chains = ours.filter_map(|(name, _)| match present.entries.get(name) {
        Some(Entry::Pem(file)) if !file.certificates.is_empty() => Some(file.certificates.clone()),
        _ => None,
    });
    chains.max_by_key(Vec::len)
}

fn install(arguments: &InstallArguments, report: &mut Report) -> Result<Exit, Stop> {
    let patience = (!arguments.dry_run).then_some(arguments.timeout);
    let mut place = Place::open(&arguments.to, patience)?;
    let interrupted = match arguments.dry_run {
        true => recover::foretold(&place, report)?,
        false => recover::run(&mut place, arguments, report)?,
    };
    if arguments.recover {
        return Ok(recover::result(interrupted, report));
    }
    let plan = Plan::new(arguments, &place)?;
    describe(&plan, report);
    let mut endpoints = verify::endpoints(arguments, &plan)?;
    let exit = verify::verify(arguments, &plan, &mut endpoints, report)?;
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

/// Notes what is going to be installed.
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
            crate::encoded::label(leaf.subject(), leaf.dns_names()),
            view.pin.as_deref().unwrap_or("without a pin"),
            view.not_after
        ));
        report.pairs.push(view);
    }
}

fn files_text(plan: &Plan, report: &Report) -> String {
    let names: Vec<String> = plan.written.keys().map(|name| output::path(name.as_ref())).collect();
    format!("{}: {}", report.to, names.join(", "))
}
