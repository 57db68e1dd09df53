//! Network Error Logging, which has one error for violated pins.

use super::member::text_of;
use super::report::{Format, Received};
use crate::ua::host::Host;
use crate::ua::report_reader::ReadReport;

/// The type of the envelope.
pub(super) const TYPE: &str = "network-error";

/// The error for violated pins.
const PINS: &str = "tls.cert.pinned_key_not_in_cert_chain";

/// The report in an envelope, whose `url` is the one that the client asked for.
pub(super) fn read(item: &str, body: &str) -> Option<Received> {
    let error = text_of(body, "type").filter(|error| error == PINS)?;
    let (host, port) = origin(&text_of(item, "url")?)?;
    let report = ReadReport { hostname: Some(host.clone()), port, ..ReadReport::default() };
    let mut received = Received::new(Format::NetworkError, host, report, &item.into());
    received.enforced = Some(true);
    received.result = Some(error);
    received.server = text_of(body, "server_ip");
    Some(received)
}

/// The host and the port of a URL.
fn origin(url: &str) -> Option<(Host, Option<u16>)> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("wss://"))?;
    let authority = rest.split(['/', '?', '#']).next().filter(|text| text.is_ascii())?;
    let (host, port) = match authority.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')) {
        Some((host, port)) => (host, Some(port.parse().ok()?)),
        None => (authority, Some(443)),
    };
    Some((Host::parse(host).ok()?, port))
}
