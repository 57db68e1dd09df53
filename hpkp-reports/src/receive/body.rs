//! Reads the body of a request, with limits on its type, its size before and after gzip, and its time.

use std::io::Read as _;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use flate2::read::MultiGzDecoder;
use http_body_util::BodyExt as _;
use serde_json::Value;

use super::limits::Limits;
use super::refused::Refused;

/// The media types of reports, besides those that end with `+json`. A web page may send `text/plain` and forms without
/// a preflight.
const TYPES: [&str; 9] = [
    "application/json",
    "application/csp-report",
    "application/tlsrpt+gzip",
    "application/gzip",
    "application/x-gzip",
    "application/octet-stream",
    "application/x-www-form-urlencoded",
    "text/json",
    "text/plain",
];

/// The first bytes of gzip (RFC 1952 section 2.3.1).
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Members with personal data: they identify one device, machine or visit.
const PERSONAL: [&str; 3] = ["app-vendor-id", "referrer", "sending-mta-ip"];

/// The member with a URL, whose path may identify a person.
const ADDRESS: &str = "url";

/// Reads the body and unpacks it. The first bytes decide whether it is gzip: some senders declare the wrong type, and
/// some proxies unpack the body but keep the header field.
pub(super) async fn read(request: Request, limits: &Limits) -> Result<Bytes, Refused> {
    check_type(request.headers())?;
    let length = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    let length = length.and_then(|text| text.parse::<usize>().ok());
    if length.is_some_and(|length| length > limits.body) {
        return Err(Refused::Large);
    }
    let time = Duration::from_secs(limits.seconds);
    let reading = tokio::time::timeout(time, collect(request.into_body(), limits));
    let body = reading.await.map_err(|_| Refused::Slow)??;
    if body.starts_with(&GZIP) { unpack(&body, limits.body) } else { Ok(body) }
}

/// Reads the whole body. Room is reserved as data arrives, so that a slow sender holds little of it.
async fn collect(mut body: Body, limits: &Limits) -> Result<Bytes, Refused> {
    let mut whole = Vec::new();
    let mut room = None;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| Refused::Invalid)?.into_data() else { continue };
        if whole.len() + data.len() > limits.body {
            return Err(Refused::Large);
        }
        limits.grow(&mut room, whole.len() + data.len()).await;
        whole.extend_from_slice(&data);
    }
    Ok(whole.into())
}

/// Checks that type and encoding are supported. A body without a type is accepted.
fn check_type(headers: &HeaderMap) -> Result<(), Refused> {
    let text = |name| headers.get(name).map_or("", |value| value.to_str().unwrap_or("?"));
    let kind = text(CONTENT_TYPE);
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let encoding = text(CONTENT_ENCODING).trim().to_ascii_lowercase();
    let is_known = kind.is_empty() || kind.ends_with("+json") || TYPES.contains(&kind.as_str());
    let is_read = matches!(encoding.as_str(), "" | "identity" | "gzip" | "x-gzip");
    if is_known && is_read { Ok(()) } else { Err(Refused::Type) }
}

/// Unpacks gzip up to the limit, as a protection against bombs.
fn unpack(packed: &[u8], limit: usize) -> Result<Bytes, Refused> {
    let mut whole = Vec::new();
    let mut decoder = MultiGzDecoder::new(packed).take(limit as u64 + 1);
    decoder.read_to_end(&mut whole).map_err(|_| Refused::Invalid)?;
    if whole.len() > limit { Err(Refused::Large) } else { Ok(whole.into()) }
}

/// Whether a report may contain personal data. A quick check of the text, before the JSON is parsed.
pub(super) fn may_be_personal(text: &str) -> bool {
    PERSONAL.iter().any(|name| text.contains(name))
}

/// A URL without its path.
fn origin(url: &str) -> &str {
    let begin = url.find("://").map_or(0, |place| place + 3);
    let end = url[begin..].find(['/', '?', '#']).unwrap_or(url.len() - begin);
    &url[..begin + end]
}

/// Removes personal data from a report.
pub(super) fn without_personal_data(text: &str) -> Vec<u8> {
    fn redact(value: &mut Value) {
        match value {
            Value::Object(members) => {
                for (name, value) in members {
                    if PERSONAL.contains(&name.as_str()) {
                        *value = Value::from("(not kept)");
                    } else if name == ADDRESS {
                        *value = Value::from(value.as_str().map_or("", origin));
                    } else {
                        redact(value);
                    }
                }
            }
            Value::Array(values) => values.iter_mut().for_each(redact),
            _ => {}
        }
    }
    // The report has been parsed before, so this cannot fail.
    let Ok(mut value) = serde_json::from_str(text) else { return Vec::new() };
    redact(&mut value);
    serde_json::to_vec(&value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn personal_data_is_removed_and_the_rest_kept() {
        let kept = without_personal_data(
            r#"{"a":[{"sending-mta-ip":"192.0.2.1","b":1}],"app-vendor-id":"x","url":"https://h:1/a?b"}"#,
        );
        let kept = String::from_utf8(kept).expect("UTF-8");
        assert!(!kept.contains("192.0.2.1") && !kept.contains("\"x\"") && kept.contains("\"b\":1"));
        assert!(kept.contains("\"url\":\"https://h:1\""), "{kept}");
        assert_eq!(["https://h", "h?x", ""].map(origin), ["https://h", "h", ""]);
    }
}
