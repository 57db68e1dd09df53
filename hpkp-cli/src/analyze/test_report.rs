//! `--test-report`: sends a report to each report URI of a target's headers, to verify that reports arrive.

use std::collections::BTreeSet;
use std::net::ToSocketAddrs as _;
use std::time::Instant;

use hpkp_core::ua::report::Report;
use openssl::ssl::{HandshakeError, SslConnector, SslMethod};

use super::http;
use super::report::{SiteReport, TargetReport, TestReport};
use super::target::{Protocol, Target};
use crate::arguments::AnalyzeArguments;
use crate::exit::Exit;
use crate::output;
use crate::timed::Timed;

/// The most report URIs of one target.
const MAX_URIS: usize = 16;

/// Sends the reports for one target after the other, because collectors limit the rate of one client.
pub(super) fn send(reports: &mut [TargetReport], arguments: &AnalyzeArguments, now: i64) {
    for target in reports {
        let mut wanted = BTreeSet::new();
        for (place, site) in target.sites.iter().enumerate() {
            let judgements =
                site.headers.iter().map(|one| (&one.header.rfc7469, &one.header.tolerant));
            let uris = judgements.filter_map(|(strict, tolerant)| {
                strict.report_uri.as_ref().or(tolerant.report_uri.as_ref())
            });
            wanted.extend(uris.map(|uri| (uri.clone(), place)));
        }
        let tests: Vec<TestReport> = wanted
            .into_iter()
            .take(MAX_URIS)
            .map(|(uri, place)| test(uri, &target.sites[place], arguments, now))
            .collect();
        let exit = tests.iter().fold(Exit::Fine, |exit, test| match test.status {
            Some(200..300) => exit,
            Some(_) => exit.and(Exit::No),
            None => exit.and(Exit::Undetermined),
        });
        let exit = if tests.is_empty() { Exit::No } else { exit };
        target.ended = target.ended.and(exit);
        target.exit = target.ended.code();
        target.test_reports = Some(tests);
    }
}

fn test(uri: String, site: &SiteReport, arguments: &AnalyzeArguments, now: i64) -> TestReport {
    match post(&uri, &body(site, now), arguments) {
        Ok(status) => TestReport { uri, status: Some(status), error: None },
        Err(error) => TestReport { uri, status: None, error: Some(error) },
    }
}

/// A report of RFC 7469 without certificates, marked as a test. A collector that does not know the mark
/// ignores it.
fn body(site: &SiteReport, now: i64) -> String {
    let pins = site.headers.iter().flat_map(|one| &one.header.rfc7469.pins);
    let report = Report {
        date_time: now,
        hostname: site.host.clone(),
        port: site.port,
        effective_expiration_date: now,
        include_subdomains: false,
        noted_hostname: site.host.clone(),
        served_chain: Vec::new(),
        validated_chain: Vec::new(),
        known_pins: pins.filter_map(|pin| pin.parse().ok()).collect(),
    };
    report.to_json().replacen('{', "{\"test-report\":true,", 1)
}

fn post(uri: &str, body: &str, arguments: &AnalyzeArguments) -> Result<u16, String> {
    let target = Target::parse(uri, Protocol::Https)
        .filter(|target| matches!(target.site.protocol, Protocol::Http | Protocol::Https))
        .ok_or("the report URI is invalid")?;
    let host = target.site.host.as_str().trim_matches(['[', ']']).to_owned();
    let addresses = (host.as_str(), target.site.port)
        .to_socket_addrs()
        .map_err(|error| format!("cannot resolve the host name: {}", output::os(&error)))?;
    let end = Instant::now() + arguments.timeout;
    let mut last = "the host name has no address".to_owned();
    for address in addresses {
        let stream = match Timed::connect(address, end) {
            Ok(stream) => stream,
            Err(error) => {
                last = format!("cannot connect: {}", output::os(&error));
                continue;
            }
        };
        let response = match target.site.protocol {
            Protocol::Http => http::post(stream, &target, body),
            _ => http::post(secured(stream, &host, arguments)?, &target, body),
        };
        return response.map(|response| response.status).map_err(|error| error.to_string());
    }
    Err(last)
}

/// A TLS connection with certificate verification, as clients send reports (RFC 7469 section 2.1.4).
fn secured(
    stream: Timed,
    host: &str,
    arguments: &AnalyzeArguments,
) -> Result<openssl::ssl::SslStream<Timed>, String> {
    let of = |error: openssl::error::ErrorStack| format!("OpenSSL error: {error}");
    let mut builder = SslConnector::builder(SslMethod::tls_client()).map_err(of)?;
    if let Some(file) = &arguments.ca_file {
        builder.set_ca_file(file).map_err(of)?;
        builder.set_default_verify_paths().map_err(of)?;
    }
    let settings = builder.build();
    settings.connect(host, stream).map_err(|error| match error {
        HandshakeError::SetupFailure(error) => of(error),
        HandshakeError::Failure(halted) | HandshakeError::WouldBlock(halted) => {
            let verified = halted.ssl().verify_result();
            match verified == openssl::x509::X509VerifyResult::OK {
                true => format!("no TLS connection: {}", halted.error()),
                false => {
                    format!("the collector's certificate is not valid: {}", verified.error_string())
                }
            }
        }
    })
}
