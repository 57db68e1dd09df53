//! Collects findings. A finding that several addresses have in common appears once.

use std::collections::BTreeMap;

use hpkp_core::finding::{Class, Code};

use super::report::FindingView;

/// A finding, before the addresses that have it are known.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Found {
    pub(super) class: Class,
    pub(super) code: Code,
    pub(super) text: String,
    pub(super) fix: Vec<String>,
    pub(super) details: Vec<String>,
}

impl Found {
    /// A finding of the code's own class.
    pub(super) fn new(code: Code, text: impl Into<String>) -> Self {
        let text = text.into();
        Self { class: code.class(), code, text, fix: Vec::new(), details: Vec::new() }
    }

    pub(super) fn with_class(self, class: Class) -> Self {
        Self { class, ..self }
    }

    pub(super) fn fix(mut self, line: impl Into<String>) -> Self {
        self.fix.push(line.into());
        self
    }

    pub(super) fn details(mut self, lines: impl IntoIterator<Item = String>) -> Self {
        self.details.extend(lines);
        self
    }
}

/// All findings of a site.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// Each finding with its addresses; without addresses if it is about the whole site.
    all: BTreeMap<Found, Vec<String>>,
}

impl Findings {
    pub(super) fn add(&mut self, found: Found) {
        self.all.entry(found).or_default();
    }

    pub(super) fn extend(&mut self, found: impl IntoIterator<Item = Found>) {
        found.into_iter().for_each(|found| self.add(found));
    }

    pub(super) fn add_at(&mut self, address: &str, found: Found) {
        let addresses = self.all.entry(found).or_default();
        if !addresses.iter().any(|known| known == address) {
            addresses.push(address.to_owned());
        }
    }

    /// The findings, the most serious first. A finding that all `count` addresses have names no address.
    pub(super) fn finish(self, count: usize) -> Vec<FindingView> {
        let views = self.all.into_iter().map(|(found, addresses)| FindingView {
            code: found.code.as_str(),
            class: found.class.as_str(),
            text: found.text,
            addresses: if addresses.len() == count { Vec::new() } else { addresses },
            fix: found.fix,
            details: found.details,
            severity: found.class,
        });
        views.collect()
    }
}
