//! SMTP TLS reports (RFC 8460), in which mail servers report on a domain's DANE and MTA-STS policies.

use std::sync::Arc;

use serde_json::Value;

use super::report::{Format, MAX_REPORTS, Received, Refusal};
use crate::ua::date;
use crate::ua::host::Host;
use crate::ua::report_reader::ReadReport;

/// The result of a policy without failures.
pub const SUCCESS: &str = "success";

/// Reads the body: one report for each kind of failure, however many machines failed, and one with [`SUCCESS`] for each
/// policy without failures.
pub(super) fn read(text: &str) -> Result<Vec<Received>, Refusal> {
    let whole: Value = serde_json::from_str(text).map_err(|_| Refusal::NotJson)?;
    let end = whole["date-range"]["end-datetime"].as_str().and_then(date::parse);
    let sender = whole["organization-name"].as_str().map(str::to_owned);
    let shared: Arc<str> = text.into();
    let mut found: Vec<Received> = Vec::new();
    for policy in list(&whole["policies"]) {
        let Some(host) = policy["policy"]["policy-domain"].as_str() else { continue };
        let Ok(host) = Host::parse(host) else { continue };
        let report =
            ReadReport { date_time: end, hostname: Some(host.clone()), ..ReadReport::default() };
        let mut blank = Received::new(Format::SmtpTls, host, report, &shared);
        blank.app.clone_from(&sender);
        blank.policy = lower(&policy["policy"]["policy-type"]);
        for received in of_policy(policy, &blank) {
            let is_same = |known: &Received| {
                (&known.host, &known.policy, &known.result, &known.server)
                    == (&received.host, &received.policy, &received.result, &received.server)
            };
            let place = found.iter().position(is_same);
            if let Some(known) = place.and_then(|place| found.get_mut(place)) {
                known.count = known.count.saturating_add(received.count);
            } else if found.len() == MAX_REPORTS {
                return Err(Refusal::TooManyReports);
            } else {
                found.push(received);
            }
        }
    }
    Ok(found)
}

/// The reports about one policy.
fn of_policy(policy: &Value, blank: &Received) -> Vec<Received> {
    let mut found = Vec::new();
    let mut detailed: u64 = 0;
    for failure in list(&policy["failure-details"]) {
        let mut received = blank.clone();
        received.result = lower(&failure["result-type"]);
        received.server = lower(&failure["receiving-mx-hostname"]);
        received.count = number(&failure["failed-session-count"]).unwrap_or(1).max(1);
        detailed = detailed.saturating_add(received.count);
        found.push(received);
    }
    let summary = &policy["summary"];
    let failed = number(&summary["total-failure-session-count"]).unwrap_or_default();
    // The details are optional (RFC 8460 section 4.4); a failure without details counts as well.
    if failed > detailed {
        found.push(Received { count: failed - detailed, ..blank.clone() });
    }
    if found.is_empty() {
        let count = number(&summary["total-successful-session-count"]).unwrap_or_default().max(1);
        found.push(Received { count, result: Some(SUCCESS.to_owned()), ..blank.clone() });
    }
    found
}

/// The items of an array; some senders write a single item without the array.
fn list(value: &Value) -> &[Value] {
    match value {
        Value::Array(items) => items,
        Value::Object(_) => std::slice::from_ref(value),
        _ => &[],
    }
}

/// A number; some senders write it as text.
fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.trim().parse().ok())
}

/// A name, which has no case.
fn lower(value: &Value) -> Option<String> {
    value.as_str().map(|text| text.trim().to_ascii_lowercase())
}
