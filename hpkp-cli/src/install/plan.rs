//! The plan of an install.

use std::collections::BTreeMap;
use std::sync::Arc;

use hpkp_core::certificate::Certificate;

use super::journal::Form;
use super::layout::{self, Written};
use super::pair::{Pair, Role};
use super::place::{Entry, Place, Present};
use super::report::{Report, Stop};
use super::{served, source};
use crate::arguments::InstallArguments;
use crate::output;

/// Everything that is determined before a file is changed.
pub(super) struct Plan {
    pub(super) pairs: Vec<Pair>,
    pub(super) present: Present,
    pub(super) written: BTreeMap<String, Written>,
    /// The chain that each pair replaces.
    pub(super) old: Vec<Option<Vec<Arc<Certificate>>>>,
    /// Whether the server reads from another directory than the one to which the client writes.
    pub(super) is_detached: bool,
}

impl Plan {
    pub(super) fn new(arguments: &InstallArguments, place: &Place) -> Result<Self, Stop> {
        let to = place.path().canonicalize().ok();
        let is_same =
            to.is_some() && arguments.from.iter().any(|from| from.canonicalize().ok() == to);
        let is_link = matches!(place.form, Form::Link(_));
        if is_same && !is_link {
            return Err(Stop::usage(
                "--from and --to are the same directory; the client must write where the server does not read",
            ));
        }
        let pairs = source::pairs(arguments)?;
        let present = place.present()?;
        let written = layout::files(&pairs, &present.entries)?;
        let old = (0..pairs.len()).map(|pair| old_chain(pair, &written, &present)).collect();
        // If `--to` is a link to the client's directory, the install creates a directory for the server and
        // changes the link.
        Ok(Self { pairs, present, written, old, is_detached: !is_same })
    }

    /// Whether all files are already in place with the same content.
    pub(super) fn is_in_place(&self) -> bool {
        self.is_detached
            && self.written.iter().all(|(name, new)| match self.present.entries.get(name) {
                Some(Entry::Pem(file)) => file.bytes == new.content,
                _ => false,
            })
    }

    /// The leaves in the order of the pairs. An old leaf is empty if the pair replaces none.
    pub(super) fn leaves(&self) -> served::Leaves {
        let old = self.old.iter().map(|chain| {
            chain.as_ref().and_then(|chain| chain.first()).map(served::der).unwrap_or_default()
        });
        let new = self.pairs.iter().map(|pair| served::der(pair.leaf()));
        served::Leaves { old: old.collect(), new: new.collect() }
    }

    pub(super) fn names_of(&self, pair: usize) -> Vec<String> {
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

/// The directory and the names of the files.
pub(super) fn files_text(plan: &Plan, report: &Report) -> String {
    let names: Vec<String> = plan.written.keys().map(|name| output::path(name.as_ref())).collect();
    format!("{}: {}", report.to, names.join(", "))
}
