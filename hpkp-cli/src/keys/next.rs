//! `hpkp key next`: manages the next key of a host, from its generation to the day on which it may be used.
//!
//! Data flow: the record of next keys ([`super::next_keys`]) and the records of pins are read. A key is
//! made, or an existing one is taken (`make`). The records determine when it may be used (`plan::usable`).
//! Then it is handed over to the ACME client (`hand_over`). `report` prints the result.

mod hand_over;
mod key_file;
mod make;
mod publish;
mod report;
mod today;

use super::next_keys::{NextKey, same_kind};
use crate::acme;
use crate::arguments::NextKeyArguments;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output;
use crate::published::store::Store;
use today::Today;

pub(super) fn run(arguments: &NextKeyArguments) -> Result<Exit, Failure> {
    let directories = arguments.records.directories();
    let store = Store::open(&directories)?;
    let directory = store.path().to_owned();
    let (clients, unread) = acme::of_host(&arguments.acme, arguments.host.as_str());
    unread.iter().for_each(|text| output::complain(&format!("not looked at: {text}")));
    let today = Today { host: arguments.host.clone(), store, directory, clients };
    let mut waiting = today.waiting()?;
    let is_meant =
        |key: &NextKey| arguments.kind.is_none_or(|kind| same_kind(&key.kind, &kind.to_string()));
    waiting.retain(is_meant);
    let hands_over = arguments.csr.is_some() || arguments.to.is_some() || arguments.client;
    if waiting.is_empty() && !arguments.forget && !hands_over {
        waiting.push(make::make(&today, arguments)?);
    } else if arguments.key.is_some() || arguments.take.is_some() {
        let file = waiting.first().map_or_else(String::new, |key| output::path(&key.file));
        return Err(Failure::no(format!(
            "{} has a next key already ({file}); to make another one: hpkp key next {} --forget",
            today.host, today.host
        )));
    }
    if !hands_over && !arguments.forget && arguments.export.is_none() {
        return report::print(&today, &waiting, arguments.records.json);
    }
    let key = the_only(&today, waiting)?;
    match arguments.export {
        Some(format) => publish::export(&today, &key, format),
        None if arguments.forget => hand_over::forget(&today, &key),
        None => hand_over::hand_over(&today, &key, arguments),
    }
}

fn the_only(today: &Today, waiting: Vec<NextKey>) -> Result<NextKey, Failure> {
    let host = &today.host;
    match <[NextKey; 1]>::try_from(waiting) {
        Ok([one]) => Ok(one),
        Err(none) if none.is_empty() => {
            Err(Failure::no(format!("{host} has no next key; to make one: hpkp key next {host}")))
        }
        Err(several) => {
            let kinds: Vec<&str> = several.iter().map(|key| key.kind.as_str()).collect();
            Err(Failure::usage(format!(
                "{host} has several next keys ({}); say which with --type",
                kinds.join(", ")
            )))
        }
    }
}
