//! The findings of the readers: text that the server refuses, and text that this command cannot interpret.
//! Every such text is reported.

use std::collections::BTreeMap;

use hpkp_core::finding::{CODES, Code, Finding, Location, Text};
use hpkp_core::text::Excerpt;

/// The error stops reading: the server refuses the text, or the rest cannot be interpreted.
pub(super) type Read<T> = Result<T, Box<Finding>>;

/// The most unknown directives that are reported by name.
const MAX_UNKNOWN: usize = 50;

/// The problems that did not stop reading.
#[derive(Debug, Default)]
pub(super) struct Problems {
    found: Vec<Finding>,
    /// Unknown directives: the place of the first use, and the number of uses.
    unknown: BTreeMap<String, (Location, usize)>,
    /// Whether the command knows any directive of the configuration.
    is_known: bool,
}

impl Problems {
    /// Adds a directive that the check needs and cannot interpret.
    pub(super) fn not_understood(&mut self, at: &Location, text: impl Into<Text>) {
        let finding = Finding::new(Code::ConfigurationNotUnderstood, at.clone(), text.into());
        if !self.found.contains(&finding) {
            self.found.push(finding);
        }
    }

    /// Adds an unknown directive or module, which may affect the check.
    pub(super) fn unknown(&mut self, at: &Location, what: String) {
        self.unknown.entry(what).or_insert_with(|| (at.clone(), 0)).1 += 1;
    }

    /// Whether nothing was found.
    pub(super) fn is_empty(&self) -> bool {
        self.found.is_empty() && self.unknown.is_empty()
    }

    /// Notes that the command knows a directive.
    pub(super) fn known(&mut self) {
        self.is_known = true;
    }

    /// All problems as findings.
    pub(super) fn into_findings(mut self) -> Vec<Finding> {
        let first = self.unknown.values().map(|(at, _)| at).min_by_key(|at| at.line).cloned();
        if let Some(at) = first.filter(|_| !self.is_known) {
            let text = Text::new(
                "this command knows no directive of this configuration, so the file is of \
                           another kind",
            );
            self.not_understood(
                &at,
                text.fix("give the main file, or the kind of this one: --config-format"),
            );
        }
        let mut found = self.found;
        let more = self.unknown.len().saturating_sub(MAX_UNKNOWN);
        for (index, (what, (at, count))) in self.unknown.into_iter().take(MAX_UNKNOWN).enumerate() {
            let times = if count > 1 { format!(" ({count} times)") } else { String::new() };
            let mut text = Text::new(format!(
                "this command does not know {what}{times}; if it changes names, addresses or \
                 certificates, the server's own test may have another answer"
            ));
            if index + 1 == MAX_UNKNOWN && more > 0 {
                text = text.details([format!("{more} more are not known")]);
            }
            found.push(Finding::new(Code::UnknownDirective, at, text));
        }
        found
    }
}

/// The finding for text that the server refuses.
pub(super) fn invalid(at: &Location, text: impl Into<Text>) -> Box<Finding> {
    Box::new(Finding::new(Code::InvalidConfiguration, at.clone(), text.into()))
}

/// The finding for text after which the configuration cannot be interpreted.
pub(super) fn unreadable(at: &Location, text: impl Into<Text>) -> Box<Finding> {
    Box::new(Finding::new(Code::ConfigurationNotUnderstood, at.clone(), text.into()))
}

/// The finding for an error that the parser of a directive's value has returned: a finding with its own
/// code, or an error in the server's words.
pub(super) fn of_directive(at: &Location, error: &str) -> Box<Finding> {
    let coded = error.strip_prefix("hpkp: [").and_then(|rest| rest.split_once("] -: "));
    let found = coded.and_then(|(code, text)| {
        let entry = CODES.iter().find(|entry| entry.text == code)?;
        Some(Finding::new(entry.code, at.clone(), Text::new(text)))
    });
    found.map_or_else(|| invalid(at, error.to_owned()), Box::new)
}

/// A directive's name in the form that messages use.
pub(super) fn directive(name: &str) -> String {
    format!("the directive \"{}\"", Excerpt::new(name))
}

/// Fails if a word was not UTF-8, since the module refuses such words. The readers have replaced invalid
/// bytes by U+FFFD.
pub(super) fn is_utf8<'a>(at: &Location, mut words: impl Iterator<Item = &'a String>) -> Read<()> {
    match words.any(|word| word.contains(char::REPLACEMENT_CHARACTER)) {
        true => Err(invalid(at, "invalid UTF-8 in the directive".to_owned())),
        false => Ok(()),
    }
}
