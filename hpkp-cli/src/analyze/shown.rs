//! Prints an analysis as text.

use std::collections::BTreeSet;
use std::io;

use hpkp_core::finding::Class;
use hpkp_core::text::Excerpt;

use super::report::{
    AddressReport, CertificateReport, ChainReport, FindingView, HeaderReport, PinReport, Renewal,
    SiteReport, TargetReport, TestReport, TlsaReport,
};
use super::site::counted;
use crate::output::{self, BAD, GOOD, NOTE, accent, printable};
use crate::parse::action;

pub(super) fn print(reports: &[TargetReport]) -> io::Result<()> {
    for (place, report) in reports.iter().enumerate() {
        if place > 0 {
            output::line("")?;
        }
        target(report)?;
    }
    Ok(())
}

fn target(report: &TargetReport) -> io::Result<()> {
    if report.sites.is_empty() {
        output::line(&printable(&report.target))?;
    }
    for hop in report.hops.iter().filter(|hop| hop.location.is_some()) {
        let location = hop.location.as_deref().map(|text| Excerpt::new(text).to_string());
        let location = location.unwrap_or_default();
        let (url, status) = (&hop.response.url, hop.response.status);
        output::line(&format!("{url}: {status}, redirects to {location}"))?;
    }
    report.sites.iter().try_for_each(site)?;
    report.test_reports.iter().try_for_each(|tests| test_reports(tests))?;
    report.findings.iter().try_for_each(finding)
}

fn test_reports(reports: &[TestReport]) -> io::Result<()> {
    if reports.is_empty() {
        return output::line("  no test report was sent: no header has a report URI");
    }
    reports.iter().try_for_each(|report| {
        let uri = Excerpt::new(&report.uri);
        let answer = match (report.status, &report.error) {
            (Some(status @ 200..300), _) => accent(GOOD, &format!("accepted ({status})")),
            (Some(status), _) => accent(BAD, &format!("refused ({status})")),
            (None, error) => accent(BAD, error.as_deref().unwrap_or("no answer")),
        };
        output::line(&format!("  test report to {uri}: {answer}"))?;
        match report.status {
            // hpkp-reports accepts a report from everybody in the same way, so its status does not show
            // whether it stored the report.
            Some(200..300) => output::line(
                "    a collector may accept what it does not store: look for the test report there",
            ),
            _ => Ok(()),
        }
    })
}

fn site(site: &SiteReport) -> io::Result<()> {
    output::line(&printable(&site.url))?;
    site.addresses.iter().try_for_each(address)?;
    site.headers.iter().try_for_each(header)?;
    if site.headers.is_empty() && site.addresses.iter().any(|one| !one.responses.is_empty()) {
        output::line("  no Public-Key-Pins header")?;
    }
    site.tlsa.iter().try_for_each(tlsa)?;
    site.renewal.iter().try_for_each(renewal)?;
    site.findings.iter().try_for_each(finding)
}

fn address(report: &AddressReport) -> io::Result<()> {
    let versions = match report.tls.is_empty() {
        true => "no TLS".to_owned(),
        false => report.tls.join(", "),
    };
    let responses = match report.responses.len() {
        0 => String::new(),
        count => format!(", {}", counted(count)),
    };
    output::line(&format!("  {}  {versions}{responses}", report.address))?;
    report.chains.iter().try_for_each(chain)
}

fn chain(report: &ChainReport) -> io::Result<()> {
    let accepted = match report.accepted {
        true => accent(GOOD, "accepted"),
        false => accent(BAD, "not accepted"),
    };
    output::line(&format!("    certificate chain ({}): {accepted}", report.seen_with.join(", ")))?;
    let mut tree = Tree { certificates: &report.certificates, seen: BTreeSet::new() };
    tree.branch(0, "      ", true)?;
    let apart = report.certificates.iter().filter(|one| one.role == "superfluous");
    apart.into_iter().try_for_each(|one| output::line(&format!("      ·  {}", certificate(one))))
}

/// Prints the paths from the leaf upwards, each certificate once.
struct Tree<'a> {
    certificates: &'a [CertificateReport],
    seen: BTreeSet<usize>,
}

impl Tree<'_> {
    fn branch(&mut self, at: usize, indent: &str, is_last: bool) -> io::Result<()> {
        let Some(report) = self.certificates.get(at) else { return Ok(()) };
        let joint = if is_last { "└─ " } else { "├─ " };
        if !self.seen.insert(at) {
            let name = printable(&report.subject);
            return output::line(&format!("{indent}{joint}{name} (see above)"));
        }
        output::line(&format!("{indent}{joint}{}", certificate(report)))?;
        let below = format!("{indent}{}", if is_last { "   " } else { "│  " });
        let count = report.issuers.len();
        for (place, issuer) in report.issuers.iter().enumerate() {
            self.branch(*issuer, &below, place + 1 == count)?;
        }
        Ok(())
    }
}

fn certificate(report: &CertificateReport) -> String {
    let pin = report.pin.as_deref().unwrap_or("no pin");
    let name = printable(report.known_as.as_deref().unwrap_or(&report.subject));
    let mut notes = Vec::new();
    if !report.sent {
        notes.push("not sent");
    }
    if report.trusted {
        notes.push("trusted");
    }
    if !report.on_path {
        notes.push("on no path");
    }
    if report.pinned {
        notes.push("pinned");
    }
    let notes = match notes.is_empty() {
        true => String::new(),
        false => format!(" ({})", notes.join(", ")),
    };
    format!("{}: {name}, {pin}, expires {}{notes}", report.role, report.not_after)
}

fn header(report: &HeaderReport) -> io::Result<()> {
    let header = &report.header;
    let valid = match header.rfc7469.valid {
        true => accent(GOOD, "valid"),
        false => accent(BAD, "invalid"),
    };
    let from = match report.from.len() {
        1 => report.from.join(""),
        count => format!("{count} addresses"),
    };
    output::line(&format!("  {}: {valid} (RFC 7469), from {from}", header.name))?;
    for value in &header.values {
        output::line(&format!("    {}", shortened(value)))?;
    }
    report.pin_roles.iter().try_for_each(pin)?;
    let clients = &header.clients;
    for (name, client) in [
        ("RFC 7469", &header.rfc7469.action),
        ("Chromium", &clients.chromium),
        ("Firefox", &clients.firefox),
        ("wget2", &clients.wget2),
    ] {
        let because = header.rfc7469.because.filter(|_| name == "RFC 7469");
        let because = because.map_or_else(String::new, |why| format!(": {why}"));
        output::line(&format!("    {name:<9} {}{because}", action(client)))?;
    }
    Ok(())
}

/// A value in printable ASCII. A value longer than any useful one is cut.
fn shortened(value: &str) -> String {
    const MAX: usize = 2_000;
    let more = if value.chars().count() > MAX { "..." } else { "" };
    let shown = value.chars().take(MAX).flat_map(|c| match c {
        ' '..='~' => c.to_string().chars().collect::<Vec<_>>(),
        other => other.escape_default().collect(),
    });
    format!("{}{more}", shown.collect::<String>())
}

fn pin(report: &PinReport) -> io::Result<()> {
    let name = report.name.as_deref().map_or_else(String::new, |name| format!(": {name}"));
    let backup = if report.role == "known-ca" { ", a backup pin" } else { "" };
    output::line(&printable(&format!("    pin {}  {}{backup}{name}", report.pin, report.role)))
}

fn tlsa(report: &TlsaReport) -> io::Result<()> {
    let dnssec = match report.dnssec {
        "validated" => format!("validated with DNSSEC, says {}", report.resolver),
        _ => format!("not validated with DNSSEC, says {}", report.resolver),
    };
    if report.records.is_empty() {
        return output::line(&format!("  no TLSA records at {} ({dnssec})", report.owner));
    }
    output::line(&format!("  TLSA records at {} ({dnssec})", report.owner))?;
    report.records.iter().try_for_each(|record| {
        let note = match (record.usable, record.matches) {
            (false, _) => accent(NOTE, "cannot be used"),
            (true, true) => accent(GOOD, "matches"),
            (true, false) => accent(NOTE, "no match"),
        };
        output::line(&format!("    {}  {note}", Excerpt::new(&record.record)))
    })
}

fn renewal(report: &Renewal) -> io::Result<()> {
    let style = match report.outcome {
        "safe" | "no-pins" => GOOD,
        "may-lock-out" => BAD,
        _ => NOTE,
    };
    let outcome = accent(style, report.outcome);
    output::line(&printable_except_colours(&format!("  next renewal: {outcome}: "), &report.text))
}

fn printable_except_colours(before: &str, text: &str) -> String {
    format!("{before}{}", printable(text))
}

fn finding(finding: &FindingView) -> io::Result<()> {
    let style = match finding.severity {
        Class::Invalid | Class::Lockout | Class::Withhold => BAD,
        Class::Unsure | Class::Warning => NOTE,
    };
    let class = accent(style, finding.class);
    let at = match finding.addresses.is_empty() {
        true => String::new(),
        false => format!(" ({})", finding.addresses.join(", ")),
    };
    let line = format!("  {class} [{}]{at}: ", finding.code);
    output::line(&printable_except_colours(&line, &finding.text))?;
    for fix in &finding.fix {
        output::line(&printable(&format!("      to fix: {fix}")))?;
    }
    finding.details.iter().try_for_each(|line| output::line(&printable(&format!("      {line}"))))
}
