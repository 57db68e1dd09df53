//! The header field, rendered once for each policy (RFC 7469 section 2.1).
//!
//! The form is one that every user agent reads in the same way: pins first, `; ` between directives, nothing after the
//! last one, lower-case `pin-sha256`, canonical base64.

use std::fmt::Write as _;

use crate::finding::Code;
use crate::pin::Pin;
use crate::policy::{MAX_PINS, Policy};

/// Which of the two fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `Public-Key-Pins`: noted and enforced.
    Enforced,
    /// `Public-Key-Pins-Report-Only`: evaluated and reported, never noted.
    ReportOnly,
}

impl Kind {
    /// The field's name.
    #[must_use]
    pub const fn field_name(self) -> &'static str {
        match self {
            Self::Enforced => "Public-Key-Pins",
            Self::ReportOnly => "Public-Key-Pins-Report-Only",
        }
    }
}

/// A field value that every user agent reads as the policy from which it was rendered. A policy that lacks something or
/// has too much cannot be rendered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    kind: Kind,
    value: String,
}

impl Header {
    /// Renders `policy` as a field of `kind`. `max_age` has no meaning in a report-only field and
    /// is left out there (RFC 7469 section 2.1.2).
    ///
    /// # Errors What the policy lacks or has too much of, and what is wrong with its files: without the pin of one
    /// file the field would be another policy. The list is empty if the keywords of the policy are not replaced yet.
    pub fn render(policy: &Policy, kind: Kind) -> Result<Self, Vec<Code>> {
        let mut wrong = missing_or_excessive(policy, kind);
        let pins = policy.distinct_pins();
        // Two files may contain the same pin.
        if pins.len() < least_pins(kind) && !wrong.contains(&Code::TooFewPins) {
            wrong.push(Code::TooFewPins);
        }
        wrong.extend(policy.problems.iter().map(|problem| problem.code));
        if !wrong.is_empty() || !policy.is_bound {
            return Err(wrong);
        }
        Ok(Self { kind, value: value(policy, kind, &pins) })
    }

    /// Which field it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The field's value.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.value
    }
}

/// The fewest pins: one in use and one for backup where clients note them (RFC 7469 section 2.5).
const fn least_pins(kind: Kind) -> usize {
    match kind {
        Kind::Enforced => 2,
        Kind::ReportOnly => 1,
    }
}

/// What the text of the policy lacks or has too much of, before any file is read.
pub(crate) fn missing_or_excessive(policy: &Policy, kind: Kind) -> Vec<Code> {
    let spec = &policy.spec;
    let sources = spec.distinct_sources();
    let mut wrong = Vec::new();
    // A report-only field with max-age=0 makes no client forget pins, so it needs pins of its own.
    let has_none = policy.is_completed && kind == Kind::ReportOnly;
    if sources < least_pins(kind) || has_none {
        wrong.push(Code::TooFewPins);
    }
    if sources > MAX_PINS {
        wrong.push(Code::TooManyPins);
    }
    match kind {
        Kind::Enforced if spec.max_age.is_none() => wrong.push(Code::MissingMaxAge),
        Kind::ReportOnly if spec.report_uri.is_none() => {
            wrong.push(Code::ReportOnlyWithoutReportUri);
        }
        _ => {}
    }
    wrong
}

fn value(policy: &Policy, kind: Kind, pins: &[Pin]) -> String {
    let spec = &policy.spec;
    let mut value = String::new();
    for pin in pins {
        push(&mut value, format_args!("pin-sha256=\"{pin}\""));
    }
    if let Some(max_age) = spec.max_age.filter(|_| kind == Kind::Enforced) {
        push(&mut value, format_args!("max-age={}", max_age.seconds()));
    }
    if spec.binds_subdomains() {
        push(&mut value, format_args!("includeSubDomains"));
    }
    if let Some(uri) = &spec.report_uri {
        push(&mut value, format_args!("report-uri=\"{}\"", uri.as_str()));
    }
    value
}

fn push(value: &mut String, directive: std::fmt::Arguments<'_>) {
    let separator = if value.is_empty() { "" } else { "; " };
    // Writing to a String cannot fail.
    let _ = write!(value, "{separator}{directive}");
}
