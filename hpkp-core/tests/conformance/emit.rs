//! emit.jsonl, the recommended emitter: the header that the core renders for a policy.
//!
//! The other emitters of the file are those of other software; [`super::received`] reads their fields.

use std::path::Path;
use std::sync::Arc;

use hpkp_core::finding::Location;
use hpkp_core::header::{Header, Kind};
use hpkp_core::policy::{PinSetting, PinSource, PolicySpec};
use serde_json::Value;

use super::string;

/// Whether the case is for this emitter.
pub(super) fn applies(case: &Value) -> bool {
    case["emitter"] == "recommended"
}

pub(super) fn check(_: &Path, case: &Value) -> Result<(), String> {
    let policy = &case["policy"];
    // The core renders a policy once for all requests, and does not know on which requests it is sent. The servers'
    // modules omit it over plain HTTP, which their own tests check.
    let emitted = if policy["secure_request"] == false { None } else { Some(emit(policy)) };
    let expected = &case["expect"];
    match (string(&expected["result"]), emitted) {
        ("nothing", None) | ("refuse", Some(Err(_))) => Ok(()),
        ("emit", Some(Ok(header)))
            if header.kind().field_name() == string(&expected["name"])
                && header.value() == string(&expected["value"]) =>
        {
            Ok(())
        }
        (_, emitted) => Err(format!("{emitted:?} where {expected} is expected")),
    }
}

/// Renders the policy as a server does after it has parsed the directives.
fn emit(policy: &Value) -> Result<Header, String> {
    let kind = match optional(policy, "report_only", Value::as_bool)? {
        Some(true) => Kind::ReportOnly,
        _ => Kind::Enforced,
    };
    let at = Location { file: Arc::from("emit.jsonl"), line: 1 };
    let mut spec = PolicySpec::new("recommended".to_owned(), at.clone());
    let algorithm = optional(policy, "algorithm", Value::as_str)?.unwrap_or("sha256");
    for pin in policy["pins"].as_array().ok_or("no list of pins")? {
        let pin = pin.as_str().ok_or_else(|| format!("no text: {pin}"))?;
        // The corpus has plain base64, which needs no normalisation.
        let text = format!("pin-{algorithm}=\"{pin}\"");
        let source = PinSource::parse(&text, str::to_owned).map_err(|(_, why)| why)?;
        spec.pins.push(PinSetting { source, at: at.clone() });
    }
    spec.max_age = match &policy["max_age"] {
        Value::Null => None,
        // The core gets a number as text, as from a configuration file.
        Value::Number(number) => Some(parse(&number.to_string())?),
        text => Some(parse(text.as_str().ok_or_else(|| format!("no time: {text}"))?)?),
    };
    spec.include_subdomains = optional(policy, "include_subdomains", Value::as_bool)?;
    spec.report_uri = optional(policy, "report_uri", Value::as_str)?.map(parse).transpose()?;
    let resolved = spec.resolve(|path| Err(format!("{path} is no file of the corpus")));
    Header::render(&resolved, kind).map_err(|wrong| format!("{wrong:?}"))
}

/// The value of `key`, or `None` if it is left out or null; an error if `read` does not accept it.
fn optional<'a, T>(
    policy: &'a Value,
    key: &str,
    read: fn(&'a Value) -> Option<T>,
) -> Result<Option<T>, String> {
    match &policy[key] {
        Value::Null => Ok(None),
        value => read(value).map(Some).ok_or_else(|| format!("{key}: {value}")),
    }
}

fn parse<T: std::str::FromStr>(text: &str) -> Result<T, String>
where
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|error: T::Err| format!("{text:?}: {error}"))
}
