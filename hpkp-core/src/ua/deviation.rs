//! Deviations of a field value from RFC 7469, with their places.

use std::fmt;
use std::ops::Range;
use std::slice;

use super::uri::UriError;
use crate::pin::PinError;
use crate::text::Excerpt;

/// Something in a field value that departs from RFC 7469, or that has no effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deviation {
    /// The kind of deviation.
    pub situation: Situation,
    /// Its place: a range of bytes in the field value.
    pub at: Range<usize>,
}

impl fmt::Display for Deviation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "byte {}: {}", self.at.start, self.situation)
    }
}

/// The effect of a deviation on the field, in increasing order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Effect {
    /// The verdict is the same without it.
    None,
    /// RFC 7469 voids the field; known UAs do not.
    VoidsStrictly,
    /// Voids the field.
    Voids,
}

/// The ways to deviate from RFC 7469.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Situation {
    /// No directive before, between or after `;` (section 2.1).
    #[error(
        "a directive is missing here; RFC 7469 has no empty directives, so write a ';' between directives only"
    )]
    EmptyDirective,
    /// Spaces or tabs next to `=` (section 2.1).
    #[error("no blank is allowed next to '='")]
    BlankAroundEquals,
    /// `=` without a name before it.
    #[error("the name before '=' is missing")]
    MissingName,
    /// `=` without a value after it.
    #[error("the value after '=' is missing")]
    MissingValue,
    /// More text where a `;` is expected.
    #[error("a ';' is missing")]
    MissingSeparator,
    /// A byte that is not allowed outside quotes.
    #[error("'{}' is not allowed outside quotes", Excerpt::new(slice::from_ref(.byte)))]
    IllegalByte {
        /// That byte.
        byte: u8,
    },
    /// A quoted string without its closing quote.
    #[error("the closing '\"' is missing")]
    UnterminatedQuote,
    /// A control byte in a quoted string, escaped or not.
    #[error("the control character {} is not allowed", Excerpt::new(slice::from_ref(.byte)))]
    ControlInQuotes {
        /// That byte.
        byte: u8,
    },
    /// A directive other than a pin appears twice (section 2.1, rule 2).
    #[error("only pins may be repeated")]
    RepeatedDirective,
    /// An enforced field without `max-age` (section 2.1.2).
    #[error("max-age is missing")]
    MissingMaxAge,
    /// `max-age` without a value, or with one that is not digits (section 2.1.2).
    #[error("max-age takes digits only, a number of seconds")]
    MaxAgeNotDigits,
    /// `max-age` in a report-only field has no meaning (section 2.1.2).
    #[error("max-age has no meaning in a report-only field")]
    MaxAgeWithoutMeaning,
    /// `includeSubDomains` takes no value, not even `true` (section 2.1.3).
    #[error("includeSubDomains takes no value; leave it out to leave subdomains out")]
    IncludeSubDomainsWithValue,
    /// A pin without a value (section 2.1.1).
    #[error("the pin has no value")]
    PinWithoutValue,
    /// A pin whose value is not in double quotes (section 2.1.1).
    #[error("the value of a pin must be in double quotes")]
    PinUnquoted,
    /// A `pin-sha256` that is not a SHA-256 in base64 (section 2.1.1).
    #[error("invalid pin: {0}")]
    MalformedPin(PinError),
    /// A pin whose base64 is not canonical; the decoded pin counts (RFC 4648 section 3.5).
    #[error("the base64 is not canonical; Firefox and wget2 do not match such a pin")]
    PinWithStrayBits,
    /// The pin is the SHA-256 of empty input, which no key has.
    #[error("this is the SHA-256 of nothing, which no key has")]
    PinOfNothing,
    /// A pin that appeared before; it counts once.
    #[error("duplicate pin; it counts once")]
    RepeatedPin,
    /// A pin of another algorithm than SHA-256, ignored (section 2.1.1).
    #[error("pins of this algorithm are ignored")]
    UnknownAlgorithm,
    /// A directive that RFC 7469 does not know, ignored (section 2.1, rule 5).
    #[error("this directive is unknown and ignored")]
    UnknownDirective,
    /// `report-uri` without a value in double quotes (section 2.1.4).
    #[error("the value of report-uri must be in double quotes")]
    ReportUriUnquoted,
    /// `report-uri` holds no URI (section 2.1.4).
    #[error("invalid URI: {0}")]
    ReportUriMalformed(UriError),
    /// `report-uri` is neither HTTP nor HTTPS and is never used (section 2.1.4).
    #[error("reports are sent over http and https only")]
    ReportUriUnusable,
}

impl Situation {
    /// The effect of this deviation on the field.
    #[must_use]
    pub const fn effect(&self) -> Effect {
        match self {
            Self::EmptyDirective | Self::BlankAroundEquals => Effect::VoidsStrictly,
            Self::MaxAgeWithoutMeaning
            | Self::PinWithStrayBits
            | Self::PinOfNothing
            | Self::RepeatedPin
            | Self::UnknownAlgorithm
            | Self::UnknownDirective
            | Self::ReportUriUnusable => Effect::None,
            Self::MissingName
            | Self::MissingValue
            | Self::MissingSeparator
            | Self::IllegalByte { .. }
            | Self::UnterminatedQuote
            | Self::ControlInQuotes { .. }
            | Self::RepeatedDirective
            | Self::MissingMaxAge
            | Self::MaxAgeNotDigits
            | Self::IncludeSubDomainsWithValue
            | Self::PinWithoutValue
            | Self::PinUnquoted
            | Self::MalformedPin(_)
            | Self::ReportUriUnquoted
            | Self::ReportUriMalformed(_) => Effect::Voids,
        }
    }
}
