//! `hpkp plan`: plans the steps from today's pins and certificates to others, with their dates.
//!
//! Data flow: `site` reads the present state (`configured`: the configuration, `certificates`). `goals`
//! makes the steps. For their dates it asks `future`, which adds the records that the servers will write
//! and lets the core compute the dates. `print` and `ics` print the result.

mod blocked;
mod certificates;
mod configuration;
mod configured;
mod enforce;
mod future;
mod goals;
mod ics;
mod model;
mod print;
mod site;
mod today;
mod usable;

use crate::arguments::{Goal, PlanArguments};
use crate::exit::Exit;
use crate::{output, usage};

pub(crate) use usable::{Planned, Usable, When, in_use, leaves_in_use, publication, usable};

/// Runs the command.
pub(crate) fn run(arguments: &PlanArguments) -> Exit {
    if arguments.to == Goal::Enforce {
        let is_named = arguments.configuration.config.is_some() || arguments.server.is_some();
        if is_named || !arguments.cert.is_empty() {
            return usage::wrong(
                "the goal enforce looks at the reports alone; for the rest: hpkp check --config FILE",
            );
        }
        return enforce::run(arguments);
    }
    let planned = site::Site::read(arguments).and_then(|site| {
        let plan = goals::plan(&site, arguments.to)?;
        Ok((site, plan))
    });
    match planned {
        Ok((site, plan)) => {
            let written = match (arguments.ics, arguments.records.json) {
                (true, _) => ics::print(&plan, site.now),
                (false, true) => print::json(&plan),
                (false, false) => print::text(&plan),
            };
            output::ended(Exit::Fine, written)
        }
        Err(failure) => match failure.exit {
            Exit::No => output::ended(Exit::No, print::unsafe_plan(arguments, &failure.text)),
            _ => usage::end(failure),
        },
    }
}
