//! `hpkp published`: manages the records of pins that clients may hold.

mod add;
pub(crate) mod advice;
mod change;
mod compact;
pub(crate) mod export;
pub(crate) mod holders;
mod import;
mod judge;
mod other_hosts;
mod query;
pub(crate) mod replay;
pub(crate) mod store;
pub(crate) mod view;

use hpkp_core::published::State;

use crate::arguments::{PublishedArguments, PublishedCommand as Command, Records};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output;
use crate::usage;
pub(crate) use judge::{Judge, Judgement, hosts_of};
pub(crate) use replay::{OpenSsl, trust};

use store::Store;

/// Runs the command.
pub(crate) fn run(arguments: &PublishedArguments) -> Exit {
    let Records { directory, json } = arguments.records();
    let open = || Store::open(&directory);
    let done = match &arguments.command {
        Command::Init(init) => self::init(init.path.as_ref().or(directory.first()), json),
        Command::List(list) => open().map(|store| query::list(&store, list, json)),
        Command::Show(show) => open().and_then(|store| query::show(&store, show, json)),
        Command::Why(why) => open().and_then(|store| query::why(&store, why, json)),
        Command::Verify(_) => open().map(|store| query::verify(&store, json)),
        Command::Add(add) => open().and_then(|mut store| add::run(&mut store, add, json)),
        Command::Import(import) => {
            open().and_then(|mut store| import::run(&mut store, import, json))
        }
        Command::Export(export) => open().and_then(|store| export::run(&store, export, json)),
        Command::End(end) => open().and_then(|mut store| change::end(&mut store, end, json)),
        Command::Waive(waive) => {
            open().and_then(|mut store| change::waive(&mut store, waive, json))
        }
        Command::Compact(compact) => open().and_then(|store| compact::run(&store, compact, json)),
        Command::Compromised(compromised) => {
            open().and_then(|mut store| change::compromised(&mut store, compromised, json))
        }
    };
    done.unwrap_or_else(usage::end)
}

/// The state of the records in these directories, and the time at which they were read.
///
/// # Errors
/// The records cannot be read.
pub(crate) fn opened(directories: &[String]) -> Result<(State, i64), Failure> {
    Store::open(directories).map(|store| (store.state, store.now))
}

fn init(path: Option<&String>, json: bool) -> Result<Exit, Failure> {
    let path = path.ok_or_else(|| Failure::usage("no directory given"))?;
    hpkp_server::published::init(path).map_err(|error| store::failure(path, &error))?;
    // An existing directory may not be a valid directory of records.
    Store::open(&[path])?;
    let written = if json {
        output::json(&serde_json::json!({ "v": output::JSON_VERSION, "directory": path }))
    } else {
        output::line(&format!("directory for records ready: {}", store::shown(path)))
    };
    Ok(output::ended(Exit::Fine, written))
}
