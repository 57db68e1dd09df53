//! Compares a received header with the presented chains, as the server modules compare a policy.

use std::sync::Arc;

use hpkp_core::check::{Certificates, Context, Deployment, Host as Block, PolicyUse, check};
use hpkp_core::finding::{Check, Class, Code, Finding, Location};
use hpkp_core::max_age::MaxAge;
use hpkp_core::path::Chain;
use hpkp_core::policy::{PinSetting, PinSource, Policy, PolicySpec};
use hpkp_core::report_uri::ReportUri;
use hpkp_core::ua::FieldKind;
use hpkp_core::ua::deviation::{Deviation, Effect, Situation};
use hpkp_core::ua::field::Field;
use hpkp_core::ua::host::Host;

use super::chain::Anchored;
use super::findings::Found;
use crate::published::OpenSsl;
use crate::time::duration;

/// The deviations in the text of a header, one finding for each code.
pub(super) fn text(kind: FieldKind, deviations: &[Deviation]) -> Vec<Found> {
    let name = kind.name();
    let mut found: Vec<Found> = Vec::new();
    for deviation in deviations {
        let Some(code) = code(&deviation.situation) else { continue };
        let line = deviation.to_string();
        match found.iter_mut().find(|known| known.code == code) {
            Some(known) => known.details.push(line),
            None => found.push(Found::new(code, meaning(name, deviation)).details([line])),
        }
    }
    for one in &mut found {
        const SHOWN: usize = 16;
        let more = one.details.len().saturating_sub(SHOWN);
        one.details.truncate(SHOWN);
        if more > 0 {
            one.details.push(format!("and {more} more"));
        }
    }
    found
}

/// The code of a deviation from RFC 7469; `None` if the deviation changes nothing for any client.
fn code(situation: &Situation) -> Option<Code> {
    match situation {
        Situation::MalformedPin(_)
        | Situation::PinUnquoted
        | Situation::PinWithoutValue
        | Situation::PinWithStrayBits => Some(Code::MalformedPin),
        Situation::PinOfNothing => Some(Code::EmptyInputPin),
        Situation::MissingMaxAge => Some(Code::MissingMaxAge),
        Situation::MaxAgeNotDigits => Some(Code::InvalidMaxAge),
        Situation::ReportUriUnquoted
        | Situation::ReportUriMalformed(_)
        | Situation::ReportUriUnusable => Some(Code::InvalidReportUri),
        Situation::RepeatedPin => Some(Code::DuplicatePin),
        Situation::MaxAgeWithoutMeaning
        | Situation::UnknownAlgorithm
        | Situation::UnknownDirective => None,
        _ => Some(Code::InvalidHeader),
    }
}

fn meaning(name: &str, deviation: &Deviation) -> String {
    match (&deviation.situation, deviation.situation.effect()) {
        (Situation::PinWithStrayBits, _) => {
            format!("a pin in {name} is not canonical base64; Firefox and wget2 do not match it")
        }
        (Situation::PinOfNothing, _) => {
            format!("a pin in {name} is the SHA-256 hash of empty input, which no key has")
        }
        (Situation::RepeatedPin, _) => format!("{name} has the same pin twice; it counts once"),
        (Situation::ReportUriUnusable, _) => {
            format!("the report URI of {name} is neither http nor https; clients report nothing")
        }
        (_, Effect::VoidsStrictly) => {
            format!("{name} is invalid by RFC 7469; known clients accept it all the same")
        }
        _ => format!(
            "{name} is invalid; by RFC 7469 clients ignore it, and those that do not are listed with it"
        ),
    }
}

/// The policy that a header expresses.
fn policy_of(kind: FieldKind, field: &Field, at: &Location, found: &mut Vec<Found>) -> Policy {
    let mut spec = PolicySpec::new(kind.name().to_owned(), at.clone());
    spec.pins = field
        .pins
        .iter()
        .map(|pin| PinSetting { source: PinSource::Literal(*pin), at: at.clone() })
        .collect();
    spec.include_subdomains = Some(field.include_subdomains);
    // A max-age above the modules' limit is reported as too long, like the limit itself.
    let age = |seconds| MaxAge::from_seconds(seconds).unwrap_or(MaxAge::MAX);
    spec.max_age = field.max_age.map(age);
    match field.report_uri.as_ref().map(|uri| uri.as_str().parse::<ReportUri>()) {
        None => {}
        Some(Ok(uri)) => spec.report_uri = Some(uri),
        Some(Err(error)) => {
            let name = kind.name();
            let text = format!("the report URI of {name} is invalid for some client: {error}");
            found.push(Found::new(Code::InvalidReportUri, text).with_class(Class::Warning));
        }
    }
    spec.resolve(|_| Err("no files".to_owned()))
}

/// The findings of the modules' check for a header and these chains of one host.
pub(super) fn compare(
    kind: FieldKind,
    field: &Field,
    host: &Host,
    chains: &[Chain],
    anchored: &Anchored,
    now: i64,
) -> Vec<Found> {
    let at = Location { file: kind.name().into(), line: 0 };
    let mut found = Vec::new();
    let policy = policy_of(kind, field, &at, &mut found);
    let policy_use = PolicyUse { policy: kind.name().to_owned(), at, own: true };
    let (enforced, report_only) = match kind {
        FieldKind::Enforced => (Some(policy_use), None),
        FieldKind::ReportOnly => (None, Some(policy_use)),
    };
    let deployment = Deployment {
        contexts: vec![Context {
            certificates: Certificates::Loaded(chains.to_vec()),
            trust: Arc::clone(&anchored.setting),
        }],
        policies: vec![policy],
        hosts: vec![Block {
            label: host.to_string(),
            names: vec![host.to_string()],
            tls: true,
            contexts: vec![0],
            check: Check::Refuse,
            enforced,
            report_only,
            accepted: Vec::new(),
            serving: Vec::new(),
        }],
        ..Deployment::default()
    };
    let verdict = check(&deployment, now, &OpenSsl);
    found.extend(verdict.findings.iter().filter_map(|one| in_words(one, kind, field)));
    found
}

/// The finding, worded for a header instead of a configuration.
fn in_words(finding: &Finding, kind: FieldKind, field: &Field) -> Option<Found> {
    let name = kind.name();
    let text = match finding.code {
        // This command has no records, so findings about them do not apply.
        Code::PublishedPinsNoWriter | Code::KeywordPinWithoutPublishedPins => return None,
        Code::NoPinInChain if kind == FieldKind::ReportOnly => {
            format!("no pin in {name} matches a key in the certificate chain; clients report a violation")
        }
        Code::NoPinInChain => format!(
            "no pin in {name} matches a key in the certificate chain; clients that know these pins \
             refuse the connection, browsers ignore the header, and wget2 locks itself out"
        ),
        Code::NoBackupPin => format!(
            "{name} has no backup pin: every pin is of a key in the chain or of no key; browsers ignore \
             the header, and wget2 notes it"
        ),
        Code::TooFewPins => format!(
            "{name} has {}; clients ignore a header without the pin of the key in use and a backup pin",
            crate::output::counted(field.pins.len(), "different pin")
        ),
        Code::TooManyPins => format!(
            "{name} has {} pins; some clients (Firefox) ignore a header with so many",
            field.pins.len()
        ),
        Code::MaxAgeTooLong => format!(
            "the max-age of {name} is {}; browsers limit it to 60 days, other clients remember a mistake \
             for the whole time",
            duration(i64::try_from(field.max_age.unwrap_or(0)).unwrap_or(i64::MAX))
        ),
        Code::ReportOnlyWithoutReportUri => {
            format!("{name} has no report-uri, so clients report nothing")
        }
        Code::PartialPathMatch => format!(
            "the pins in {name} match on some certificate paths only; a client that builds another path \
             refuses the connection"
        ),
        Code::RootOnlyMatch => format!(
            "the pins in {name} match only keys that the server does not send; clients that look at the \
             sent chain alone (wget2) refuse the connection"
        ),
        Code::SuperfluousCertificateMatch => format!(
            "a pin in {name} matches only a certificate that is sent and lies on no path; clients that \
             validate the path do not count it"
        ),
        Code::ReportUriOnPinnedHost => {
            "reports go to a host that has the same pins; a client that refuses its certificate cannot \
             send its report there"
                .to_owned()
        }
        Code::IpAddressHost => {
            format!("the host is an IP address; clients ignore {name} for addresses")
        }
        Code::PinNotSpkiHash => {
            format!("a pin in {name} is the hash of something other than a public key; no key matches it")
        }
        _ => finding.text.what.clone(),
    };
    let details = finding.text.details.iter();
    // Removes the place of a directive: the header comes from no configuration file.
    let details = details.map(|line| line.replace(&format!(" ({name}:0)"), ""));
    Some(Found::new(finding.code, text).with_class(finding.class).details(details))
}
