//! Reads the violation reports that a collector receives, in the formats that clients really send.
//!
//! Data flow: body → [`read`] removes the envelope → the reader of its format reads each report → [`Received`].
//! [`Examined`] reads RFC 7469's own format and TrustKit's; the other formats have readers here and in `smtp`. Reports
//! are not authenticated: a report contains what its sender chose to write.

mod member;
mod nel;
mod report;
mod smtp;

use serde_json::Value;
use serde_json::value::RawValue;

use self::member::{flag, text_of, value};
use super::date;
use super::report_reader::{self, Examined, MAX_BODY, ReadReport};
use crate::pin::Pin;

pub use report::{Contents, Format, MAX_REPORTS, Received, Refusal};
pub use smtp::SUCCESS;

/// The reports in a body, at least one. Reports in an envelope that cannot be used are ignored and counted, because a
/// browser puts reports of other kinds into the same envelope.
///
/// # Errors
/// See [`Refusal`].
pub fn read(body: &[u8]) -> Result<Contents, Refusal> {
    if body.len() > MAX_BODY {
        return Err(Refusal::TooLarge);
    }
    // A reader may ignore a byte order mark (RFC 8259 section 8.1). Some libraries for mail and Windows write one.
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let whole: &RawValue = serde_json::from_slice(body).map_err(|_| Refusal::NotJson)?;
    let found = match whole.get().as_bytes().first() {
        Some(b'[') => {
            let items: Vec<&RawValue> =
                serde_json::from_str(whole.get()).map_err(|_| Refusal::NotJson)?;
            envelopes(&items)
        }
        Some(b'{') => object(whole.get())?,
        _ => Contents::default(),
    };
    match (found.reports.len(), found.passed_over) {
        (0, 0) => Err(Refusal::NotAReport),
        (0, count) => Err(Refusal::OtherKinds(count)),
        (count, _) if count > MAX_REPORTS => Err(Refusal::TooManyReports),
        _ => Ok(found),
    }
}

/// The reports in envelopes, and how many items cannot be used.
fn envelopes(items: &[&RawValue]) -> Contents {
    // No format has reports without an envelope in an array.
    let items = items.iter().filter(|item| is_envelope(item.get()));
    let mut contents = Contents::default();
    for item in items {
        match envelope(item) {
            Some(report) => contents.reports.push(report),
            None => contents.passed_over += 1,
        }
    }
    contents
}

fn is_envelope(item: &str) -> bool {
    ["type", "body"].iter().all(|name| report_reader::member(item, name).is_some())
}

/// A report in the Reporting API's envelope: `{"type": …, "age": …, "body": {…}}`.
fn envelope(item: &RawValue) -> Option<Received> {
    let body = report_reader::member(item.get(), "body")?;
    let age = report_reader::member(item.get(), "age");
    let age = age.and_then(|age| age.get().parse().ok());
    let in_body = || plain(body.get()).ok()?.into_iter().next();
    let mut received = match text_of(item.get(), "type")?.as_str() {
        nel::TYPE => nel::read(item.get(), body.get())?,
        _ => in_body()?,
    };
    received.age = age;
    Some(received)
}

/// The reports of a JSON object, with or without an envelope. No format has an envelope in an envelope.
fn object(text: &str) -> Result<Contents, Refusal> {
    let members = report_reader::members(text.as_bytes()).map_err(|_| Refusal::NotJson)?;
    let has = |name: &str| members.iter().any(|(key, _)| key == name);
    if has("type") && has("body") {
        let item: &RawValue = serde_json::from_str(text).map_err(|_| Refusal::NotJson)?;
        return Ok(envelopes(&[item]));
    }
    Ok(Contents { reports: plain(text)?, passed_over: 0 })
}

/// The reports of a JSON object of any known format.
fn plain(text: &str) -> Result<Vec<Received>, Refusal> {
    let members = report_reader::members(text.as_bytes()).map_err(|_| Refusal::NotJson)?;
    let has = |name: &str| members.iter().any(|(key, _)| key == name);
    let one = |received: Option<Received>| Ok(received.into_iter().collect());
    if has("policies") && (has("date-range") || has("report-id")) {
        return smtp::read(text);
    }
    match members.as_slice() {
        [(name, inner)] if name.ends_with("-report") => {
            return one(rfc7469(inner.get()).or_else(|| expect_ct(inner.get())));
        }
        _ => {}
    }
    if has("served-pins") {
        return one(react_native(text));
    }
    one(rfc7469(text))
}

/// RFC 7469 section 3, and TrustKit, which adds keys of its own and leaves out others.
fn rfc7469(text: &str) -> Option<Received> {
    let examined = Examined::of(text.as_bytes()).ok()?;
    let report = examined.acceptable()?.clone();
    let is_trustkit = report_reader::member(text, "trustkit-version").is_some()
        || report_reader::member(text, "app-bundle-id").is_some();
    let format = if is_trustkit { Format::TrustKit } else { Format::Rfc7469 };
    let host = report.hostname.clone()?;
    let mut received = Received::new(format, host, report, &text.into());
    received.is_test = flag(text, "test-report").unwrap_or(false);
    if is_trustkit {
        received.enforced = flag(text, "enforce-pinning");
        received.app = text_of(text, "app-bundle-id");
        received.platform = text_of(text, "app-platform");
        received.result = text_of(text, "validation-result");
    }
    Some(received)
}

/// react-native-ssl-manager.
fn react_native(text: &str) -> Option<Received> {
    report_reader::members(text.as_bytes()).ok().filter(|members| are_distinct(members))?;
    let host = report_reader::host(&value(text, "hostname")?)?;
    let date_time = match value(text, "date-time") {
        Some(time) => Some(date::parse(time.as_str()?)?),
        None => None,
    };
    let known_pins = pins(text, "known-pins")?;
    let report =
        ReadReport { date_time, hostname: Some(host.clone()), known_pins, ..ReadReport::default() };
    let mut received = Received::new(Format::ReactNative, host, report, &text.into());
    received.served_pins = pins(text, "served-pins")?;
    received.enforced = flag(text, "enforced");
    received.result = text_of(text, "message");
    received.is_test = flag(text, "test-report").unwrap_or(false);
    Some(received)
}

fn are_distinct(members: &[(String, &RawValue)]) -> bool {
    let mut names: Vec<&str> = members.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    names.windows(2).all(|pair| pair[0] != pair[1])
}

/// The pins of a list, in the spellings of RFC 7469 and of OkHttp.
fn pins(text: &str, name: &str) -> Option<Vec<Pin>> {
    let list = value(text, name)?;
    let pin = |pin: &Value| {
        let text = pin.as_str()?;
        report_reader::conforming_pin(text).or_else(|| text.parse().ok())
    };
    list.as_array()?.iter().map(pin).collect()
}

/// A report in the format of Expect-CT: a chain without pins. A report without certificates is useless.
fn expect_ct(text: &str) -> Option<Received> {
    let members = report_reader::members(text.as_bytes()).ok()?;
    are_distinct(&members).then_some(())?;
    let host = report_reader::host(&value(text, "hostname")?)?;
    let time = |name: &str| date::parse(value(text, name)?.as_str()?);
    let chain = |name: &str| report_reader::chain(&value(text, name)?);
    let report = ReadReport {
        date_time: time("date-time"),
        hostname: Some(host.clone()),
        port: value(text, "port").and_then(|port| u16::try_from(port.as_u64()?).ok()),
        effective_expiration_date: time("effective-expiration-date"),
        served_chain: chain("served-certificate-chain"),
        validated_chain: chain("validated-certificate-chain"),
        ..ReadReport::default()
    };
    let mut received = Received::new(Format::ExpectCt, host, report, &text.into());
    received.enforced = text_of(text, "failure-mode").map(|mode| mode == "enforce");
    received.is_test = flag(text, "test-report").unwrap_or(false);
    (!received.chain().is_empty()).then_some(received)
}

#[cfg(test)]
mod tests;
