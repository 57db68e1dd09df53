//! Fuzzes the reader of violation reports.

use hpkp_core::ua::report::Report;
use hpkp_core::ua::report_reader::{Certificate, Examined, MAX_BODY, ReadReport};

/// The bytes are a body.
pub fn run(data: &[u8]) {
    let Ok(examined) = Examined::of(data) else {
        assert!(data.len() > MAX_BODY);
        return;
    };
    assert!(examined.problems().is_sorted());
    if let Some(report) = examined.acceptable() {
        assert!(report.hostname.is_some());
    }
    if examined.problems().is_empty() {
        assert!(examined.acceptable().is_some());
        let report = examined.report();
        let again = conforming(report).map(|report| report.to_json());
        let again = again.and_then(|body| Examined::of(body.as_bytes()).ok());
        assert_eq!(again.as_ref(), Some(&examined));
    }
}

/// A report that conforms has every value.
fn conforming(report: &ReadReport) -> Option<Report> {
    let chain = |chain: &[Certificate]| chain.iter().map(|one| one.der.clone()).collect();
    Some(Report {
        date_time: report.date_time?,
        hostname: report.hostname.as_ref()?.to_string(),
        port: report.port?,
        effective_expiration_date: report.effective_expiration_date?,
        include_subdomains: report.include_subdomains?,
        noted_hostname: report.noted_hostname.as_ref()?.to_string(),
        served_chain: chain(report.served_chain.as_ref()?),
        validated_chain: chain(report.validated_chain.as_ref()?),
        known_pins: report.known_pins.clone(),
    })
}
