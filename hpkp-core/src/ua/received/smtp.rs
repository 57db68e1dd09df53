//! SMTP TLS reports (RFC 8460): what mail servers say of a domain's DANE and MTA-STS policies.

use std::sync::Arc;

use serde_json::Value;

use super::report::{Format, MAX_REPORTS, Received, Refusal};
use crate::ua::date;
use crate::ua::host::Host;
use crate::ua::report_reader::ReadReport;

/// The result of the policies that nobody failed.
pub const SUCCESS: &str = "success";

/// One report for each failure that it tells of; for a policy that all connections met, one that says so.
pub(super) fn read(text: &str) -> Result<Vec<Received>, Refusal> {
    let whole: Value = serde_json::from_str(text).map_err(|_| Refusal::NotJson)?;
    let policies = whole["policies"].as_array().ok_or(Refusal::NotAReport)?;
    let end = whole["date-range"]["end-datetime"].as_str().and_then(date::parse);
    let sender = whole["organization-name"].as_str().map(str::to_owned);
    let shared: Arc<str> = text.into();
    let mut found = Vec::new();
    for policy in policies {
        let Some(host) = policy["policy"]["policy-domain"].as_str() else { continue };
        let Some(host) = Host::parse(host).ok() else { continue };
        let new = || {
            let report = ReadReport {
                date_time: end,
                hostname: Some(host.clone()),
                ..ReadReport::default()
            };
            let mut received = Received::new(Format::SmtpTls, host.clone(), report, &shared);
            received.app.clone_from(&sender);
            received.policy = policy["policy"]["policy-type"].as_str().map(str::to_owned);
            received
        };
        let failures = policy["failure-details"].as_array().map_or(&[][..], Vec::as_slice);
        for failure in failures {
            let mut received = new();
            received.result = failure["result-type"].as_str().map(str::to_owned);
            received.server = failure["receiving-mx-hostname"].as_str().map(str::to_owned);
            received.count = failure["failed-session-count"].as_u64().unwrap_or(1).max(1);
            found.push(received);
            if found.len() > MAX_REPORTS {
                return Err(Refusal::TooManyReports);
            }
        }
        let succeeded = policy["summary"]["total-successful-session-count"].as_u64();
        if let Some(count) = succeeded.filter(|count| *count > 0 && failures.is_empty()) {
            let mut received = new();
            received.result = Some(SUCCESS.to_owned());
            received.count = count;
            found.push(received);
        }
    }
    if found.len() > MAX_REPORTS { Err(Refusal::TooManyReports) } else { Ok(found) }
}
