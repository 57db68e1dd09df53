//! Reads a received field value, and gives the verdict of RFC 7469 on it (sections 2.1 and 2.5).

use std::collections::BTreeSet;
use std::ops::Range;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};

use super::deviation::{Deviation, Effect, Situation};
use super::lexer::{self, Directive, Value};
use super::uri::ReceivedUri;
use super::{FieldKind, MAX_FIELD, have_a_key_in_common};
use crate::pin::{Pin, PinError};

/// The content of a valid field value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// The distinct SHA-256 pins, in the order of their first appearance.
    pub pins: Vec<Pin>,
    /// Whether there were pins of algorithms that RFC 7469 does not define; they are ignored
    /// (section 2.1.1).
    pub unknown_algorithms: bool,
    /// The max-age in seconds, saturated at [`Field::MAX_AGE`]. Always present in an enforced field; without meaning
    /// in a report-only one (section 2.1.2).
    pub max_age: Option<u64>,
    /// Whether the policy reaches the subdomains (section 2.1.3).
    pub include_subdomains: bool,
    /// Where reports go (section 2.1.4).
    pub report_uri: Option<ReceivedUri>,
}

/// What an enforced field asks of a UA, on a connection without errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Asks {
    /// To note the host (section 2.5).
    Note,
    /// To forget the host: `max-age=0` (section 2.3.1), or no pin of a known algorithm is left
    /// (section 2.1.1).
    Forget,
    /// Nothing: no pin is in the validated chain (section 2.5).
    NothingNoLivePin,
    /// Nothing: every pin is in the validated chain, so that there is no backup (section 2.5).
    NothingNoBackupPin,
}

impl Field {
    /// The greatest `max-age`; a greater one counts as this (RFC 7234 section 1.2.1).
    pub const MAX_AGE: u64 = i64::MAX as u64;

    /// Whether a pin is among the keys of the validated chain (section 2.6).
    #[must_use]
    pub fn matches(&self, chain: &[Pin]) -> bool {
        have_a_key_in_common(&self.pins, chain)
    }

    /// What the field asks for, given the keys of the validated chain (section 2.5).
    ///
    /// The RFC leaves two cases open. Here a `max-age=0` without a live and a backup pin asks for nothing, since the
    /// header is not valid, and a field with only pins of unknown algorithms asks to forget the host.
    #[must_use]
    pub fn asks(&self, chain: &[Pin]) -> Asks {
        if self.pins.is_empty() && self.unknown_algorithms {
            return Asks::Forget;
        }
        let chain: BTreeSet<&Pin> = chain.iter().collect();
        let live = self.pins.iter().filter(|pin| chain.contains(pin)).count();
        if live == 0 {
            Asks::NothingNoLivePin
        } else if live == self.pins.len() {
            Asks::NothingNoBackupPin
        } else if self.max_age == Some(0) {
            Asks::Forget
        } else {
            Asks::Note
        }
    }

    /// Whether a report-only policy calls for a report (section 2.3.2). An empty set of pins cannot
    /// be violated.
    #[must_use]
    pub fn report_due(&self, chain: &[Pin]) -> bool {
        let usable = self.report_uri.as_ref().is_some_and(ReceivedUri::is_http);
        usable && !self.pins.is_empty() && !self.matches(chain)
    }
}

/// A field value, read from end to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    field: Field,
    deviations: Vec<Deviation>,
}

impl Reading {
    /// Reads a field value.
    ///
    /// # Errors
    /// More than [`MAX_FIELD`] bytes; nothing was read.
    pub fn of(kind: FieldKind, text: &[u8]) -> Result<Self, TooLong> {
        if text.len() > MAX_FIELD {
            return Err(TooLong { bytes: text.len() });
        }
        let mut deviations = Vec::new();
        let directives = lexer::directives(text, &mut deviations);
        let mut reader = Reader {
            kind,
            field: Field {
                pins: Vec::new(),
                unknown_algorithms: false,
                max_age: None,
                include_subdomains: false,
                report_uri: None,
            },
            pins: BTreeSet::new(),
            found: BTreeSet::new(),
            deviations,
        };
        for directive in &directives {
            reader.directive(directive);
        }
        if kind == FieldKind::Enforced && !reader.found.contains(&Known::MaxAge) {
            reader.deviate(Situation::MissingMaxAge, 0..text.len());
        }
        reader.deviations.sort_by_key(|d| (d.at.start, d.at.end));
        Ok(Self { field: reader.field, deviations: reader.deviations })
    }

    /// The verdict of RFC 7469: any deviation from the grammar voids the field (section 2.1).
    #[must_use]
    pub fn strict(&self) -> Option<&Field> {
        self.unless(Effect::VoidsStrictly)
    }

    /// The verdict of a parser that keeps every rule but allows empty directives and blanks round
    /// `=`, as all known UAs do.
    #[must_use]
    pub fn tolerant(&self) -> Option<&Field> {
        self.unless(Effect::Voids)
    }

    /// All deviations from the RFC, and directives without effect, in the order of the text.
    #[must_use]
    pub fn deviations(&self) -> &[Deviation] {
        &self.deviations
    }

    fn unless(&self, limit: Effect) -> Option<&Field> {
        let sound = |deviation: &Deviation| deviation.situation.effect() < limit;
        self.deviations.iter().all(sound).then_some(&self.field)
    }
}

/// A field value of more than [`MAX_FIELD`] bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the field value is {} bytes long, more than the limit of {MAX_FIELD}", .bytes)]
pub struct TooLong {
    /// Bytes in the value.
    pub bytes: usize,
}

/// The directives that may appear only once.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Known {
    MaxAge,
    IncludeSubDomains,
    ReportUri,
}

struct Reader {
    kind: FieldKind,
    field: Field,
    pins: BTreeSet<Pin>,
    found: BTreeSet<Known>,
    deviations: Vec<Deviation>,
}

impl Reader {
    fn deviate(&mut self, situation: Situation, at: Range<usize>) {
        self.deviations.push(Deviation { situation, at });
    }

    fn directive(&mut self, directive: &Directive<'_>) {
        let name = directive.name;
        let known = if name.eq_ignore_ascii_case(b"max-age") {
            Known::MaxAge
        } else if name.eq_ignore_ascii_case(b"includeSubDomains") {
            Known::IncludeSubDomains
        } else if name.eq_ignore_ascii_case(b"report-uri") {
            Known::ReportUri
        } else {
            return self.unknown_or_pin(directive);
        };
        if !self.found.insert(known) {
            return self.deviate(Situation::RepeatedDirective, directive.at.clone());
        }
        // A directive that breaks the grammar has voided the field already.
        if directive.sound {
            match known {
                Known::MaxAge => self.max_age(directive),
                Known::IncludeSubDomains => self.include_subdomains(directive),
                Known::ReportUri => self.report_uri(directive),
            }
        }
    }

    fn unknown_or_pin(&mut self, directive: &Directive<'_>) {
        if !directive.sound {
            return;
        }
        // `pin-` alone lacks the token of a pin directive, so it is some other directive.
        let algorithm = match directive.name.split_at_checked(4) {
            Some((pin, token)) if pin.eq_ignore_ascii_case(b"pin-") && !token.is_empty() => token,
            _ => return self.deviate(Situation::UnknownDirective, directive.at.clone()),
        };
        let value = match &directive.value {
            None => return self.deviate(Situation::PinWithoutValue, directive.at.clone()),
            Some(value) if !value.quoted => {
                return self.deviate(Situation::PinUnquoted, value.at.clone());
            }
            Some(value) => value,
        };
        if algorithm.eq_ignore_ascii_case(b"sha256") {
            self.pin(value);
        } else {
            self.field.unknown_algorithms = true;
            self.deviate(Situation::UnknownAlgorithm, directive.at.clone());
        }
    }

    fn pin(&mut self, value: &Value<'_>) {
        let pin = match decode_pin(&value.bytes) {
            Ok((pin, spelling)) => {
                if spelling == Spelling::StrayBits {
                    self.deviate(Situation::PinWithStrayBits, value.at.clone());
                }
                pin
            }
            Err(error) => {
                return self.deviate(Situation::MalformedPin(error), value.at.clone());
            }
        };
        if pin == Pin::OF_NOTHING {
            self.deviate(Situation::PinOfNothing, value.at.clone());
        }
        if self.pins.insert(pin) {
            self.field.pins.push(pin);
        } else {
            self.deviate(Situation::RepeatedPin, value.at.clone());
        }
    }

    fn max_age(&mut self, directive: &Directive<'_>) {
        let digits = directive.value.as_ref().map(|value| &value.bytes[..]);
        self.field.max_age = digits.and_then(seconds);
        if self.kind == FieldKind::ReportOnly {
            self.deviate(Situation::MaxAgeWithoutMeaning, directive.at.clone());
        } else if self.field.max_age.is_none() {
            self.deviate(Situation::MaxAgeNotDigits, directive.at.clone());
        }
    }

    fn include_subdomains(&mut self, directive: &Directive<'_>) {
        self.field.include_subdomains = true;
        if let Some(value) = &directive.value {
            self.deviate(Situation::IncludeSubDomainsWithValue, value.at.clone());
        }
    }

    fn report_uri(&mut self, directive: &Directive<'_>) {
        let Some(value) = directive.value.as_ref().filter(|value| value.quoted) else {
            return self.deviate(Situation::ReportUriUnquoted, directive.at.clone());
        };
        match ReceivedUri::parse(&value.bytes) {
            Ok(uri) => {
                if !uri.is_http() {
                    self.deviate(Situation::ReportUriUnusable, value.at.clone());
                }
                self.field.report_uri = Some(uri);
            }
            Err(error) => self.deviate(Situation::ReportUriMalformed(error), value.at.clone()),
        }
    }
}

/// `delta-seconds` (RFC 7234 section 1.2.1); too large a number saturates.
fn seconds(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let add = |sum: u64, digit: &u8| {
        let digit = u64::from(digit - b'0');
        sum.saturating_mul(10).saturating_add(digit)
    };
    Some(digits.iter().fold(0, add).min(Field::MAX_AGE))
}

/// How the base64 of a pin was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spelling {
    Canonical,
    StrayBits,
}

/// Standard base64 with padding, whose unused bits may have any value, as Chromium decodes it.
const STRAY_BITS: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

/// Reads the base64 of a `pin-sha256`.
///
/// Unlike [`Pin::from_base64`] it accepts the hash of empty input, which is useless but a valid pin, and unused bits
/// that are not zero, which user agents accept.
pub(super) fn decode_pin(text: &[u8]) -> Result<(Pin, Spelling), PinError> {
    let text = std::str::from_utf8(text).map_err(|_| PinError::NotBase64)?;
    match Pin::from_base64(text) {
        Ok(pin) => Ok((pin, Spelling::Canonical)),
        Err(PinError::OfNothing) => Ok((Pin::OF_NOTHING, Spelling::Canonical)),
        Err(PinError::StrayBits) => STRAY_BITS
            .decode(text)
            .ok()
            .and_then(|bytes| bytes.try_into().ok())
            .map(|bytes| (Pin::from_bytes(bytes), Spelling::StrayBits))
            .ok_or(PinError::StrayBits),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
