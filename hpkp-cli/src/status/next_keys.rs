//! Adds the next keys, which wait until clients know them, to the report.

use std::path::Path;

use hpkp_core::check::directory_options;
use hpkp_core::published::Matching;

use super::report::{HostReport, NextKeyReport, NextKeyState, Problem, Time};
use crate::keys::next_keys::{self, NextKey, kind_of};
use crate::output;
use crate::plan::{Planned, Usable, When, usable};
use crate::published::store::Store;

/// Adds the next keys to their hosts.
pub(super) fn add(
    store: &Store,
    paths: &[String],
    hosts: &mut [HostReport],
    problems: &mut Vec<Problem>,
    is_all: bool,
) {
    for path in paths {
        match next_keys::read(Path::new(path)) {
            Ok(keys) => {
                for key in keys {
                    let of_host = |host: &&mut HostReport| {
                        host.name.0 == key.host && host.name.1 != Matching::OneLabel
                    };
                    add_one(store, &key, (hosts.iter_mut().find(of_host), is_all), problems);
                }
            }
            Err(error) => problems
                .push(Problem::unknown(format!("cannot read the record of next keys: {error}"))),
        }
    }
}

fn add_one(
    store: &Store,
    key: &NextKey,
    (host, is_all): (Option<&mut HostReport>, bool),
    problems: &mut Vec<Problem>,
) {
    let kind = kind_of(&key.kind);
    let options = directory_options(&store.absolute_paths());
    let planned = Planned { host: &key.host, pin: key.pin, kind, names: &[], options: &options };
    let Usable { published_since, is_in_use, when, .. } = usable(&store.state, store.now, &planned);
    let is_there = key.file.exists();
    // A key that was never written does not exist, and a key in use is no longer a next key.
    if is_in_use || published_since.is_none() && !is_there {
        return;
    }
    let report = NextKeyReport {
        pin: format!("sha256/{}", key.pin),
        file: output::path(&key.file),
        made: Time(key.made),
        published_since: published_since.map(Time),
        state: match &when {
            When::From(at) if *at <= store.now => NextKeyState::Usable,
            When::From(_) => NextKeyState::Waiting,
            When::NotPublished(_) => NextKeyState::NotPublished,
            When::Blocked(_) => NextKeyState::Blocked,
            When::NothingOnRecord => NextKeyState::Unknown,
        },
        usable_from: match when {
            When::From(at) => Some(Time(at)),
            When::NotPublished(_) | When::Blocked(_) | When::NothingOnRecord => None,
        },
        handed_over: key.handed_over.map(Time),
    };
    if !is_there && (host.is_some() || is_all) {
        let file = output::path(&key.file);
        problems.push(Problem::unknown(format!(
            "{}: the file of its next key ({file}) is missing or cannot be seen; restore it",
            key.host
        )));
    }
    match host {
        Some(host) => host.next_keys.push(report),
        None if is_all => problems.push(Problem::warning(format!(
            "{}: has a next key ({}), and no pins on record",
            key.host, report.pin
        ))),
        None => {}
    }
}
