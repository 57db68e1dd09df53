//! `hpkp-reports import`: sends reports from a mail message, or from a file, to a collector.
//!
//! The command uses HTTP like any other sender. So the same limits and checks apply to its reports, and a mail server
//! needs no access to the store.

use std::io::{self, Read as _};
use std::path::Path;
use std::time::Duration;

use hpkp_core::ua::report_reader::MAX_BODY;
use ureq::Agent;

use crate::arguments::ImportArguments;
use crate::configuration::WebAddress;
use crate::exit::Exit;
use crate::http;
use crate::mail::{self, MAX_REPORTS};
use crate::output::{log, os};

/// The largest message, in bytes: the largest body in base64, with the rest of the message.
const MAX_MESSAGE: u64 = 2 * MAX_BODY as u64;

/// How long the collector may take.
const TIME: Duration = Duration::from_secs(150);

/// Why a report was not accepted.
enum Failure {
    /// The input has no report, or the collector refuses the report permanently.
    Invalid(String),
    /// Another try may succeed.
    Failed(String),
}

/// Runs the command.
pub(crate) fn run(arguments: &ImportArguments) -> Exit {
    if let Err(error) = WebAddress::try_from(arguments.to.clone()) {
        log(&format!("--to {}: {error}", arguments.to));
        return Exit::Usage;
    }
    let ended = read(&arguments.file).and_then(|input| hand_over(&input, &arguments.to));
    match (ended, arguments.mta) {
        (Ok(()), _) => Exit::Fine,
        (Err(Failure::Invalid(text)), is_mta) => {
            log(&text);
            // With an error status the mail server would send a bounce to the sender, whose address may be forged.
            if is_mta { Exit::Fine } else { Exit::Invalid }
        }
        (Err(Failure::Failed(text)), is_mta) => {
            log(&text);
            if is_mta { Exit::Later } else { Exit::Failed }
        }
    }
}

/// Reads the file, or standard input.
fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let failed = |error: io::Error| Failure::Failed(format!("{}: {}", path.display(), os(&error)));
    let mut input = Vec::new();
    let limit = MAX_MESSAGE + 1;
    if path == Path::new("-") {
        io::stdin().lock().take(limit).read_to_end(&mut input).map_err(failed)?;
    } else {
        let file = std::fs::File::open(path).map_err(failed)?;
        file.take(limit).read_to_end(&mut input).map_err(failed)?;
    }
    match input.len() as u64 > MAX_MESSAGE {
        true => Err(Failure::Invalid(format!("larger than {MAX_MESSAGE} bytes"))),
        false => Ok(input),
    }
}

/// Sends each report to the collector. Returns the worst result.
fn hand_over(input: &[u8], to: &str) -> Result<(), Failure> {
    let reports = mail::reports(input);
    if reports.is_empty() {
        return Err(Failure::Invalid("no report in the message".to_owned()));
    }
    if reports.len() > MAX_REPORTS {
        log(&format!(
            "more than {MAX_REPORTS} reports in the message; the first {MAX_REPORTS} are handed over"
        ));
    }
    let agent = http::agent(TIME, None);
    let mut worst = Ok(());
    for report in reports.iter().take(MAX_REPORTS) {
        worst = match (worst, post(&agent, to, report)) {
            (Err(Failure::Failed(text)), _) | (_, Err(Failure::Failed(text))) => {
                Err(Failure::Failed(text))
            }
            (Err(error), _) | (_, Err(error)) => Err(error),
            (Ok(()), Ok(())) => Ok(()),
        };
    }
    worst
}

fn post(agent: &Agent, to: &str, report: &[u8]) -> Result<(), Failure> {
    // With "Expect: 100-continue" (RFC 9110 section 10.1.1) a collector can refuse a body that is too large before the
    // client sends it.
    let request = agent
        .post(to)
        .header("content-type", "application/tlsrpt+json")
        .header("expect", "100-continue");
    let answer = request
        .send(report)
        .map_err(|error| Failure::Failed(format!("cannot reach {to}: {}", http::reason(&error))))?;
    let text = format!("{to} answered with status {}", answer.status().as_u16());
    match answer.status().as_u16() {
        200..=299 => Ok(()),
        400 | 413 | 415 | 422 => {
            Err(Failure::Invalid(format!("{text}: it accepts no report of this file")))
        }
        _ => Err(Failure::Failed(text)),
    }
}
