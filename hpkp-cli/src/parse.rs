//! `hpkp parse`: shows how clients read a header, and how the header deviates from RFC 7469.

pub(crate) mod header;
mod shown;
mod text;

use hpkp_core::pin::Pin;
use hpkp_core::ua::host::Host;
use hpkp_core::ua::{FieldKind, MAX_FIELD};
use serde::Serialize;

use crate::arguments::ParseArguments;
use crate::chains;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::input;
use crate::output::{self, JSON_VERSION};
use crate::usage;
use header::Header;
pub(crate) use shown::action;
use text::Values;

/// The JSON output.
#[derive(Debug, Serialize)]
struct Report {
    v: u32,
    /// Each kind of header in the text, `Public-Key-Pins` first.
    headers: Vec<Header>,
}

/// Runs the command.
pub(crate) fn run(arguments: &ParseArguments) -> Exit {
    let host = match Host::parse(&arguments.host) {
        Ok(host) => host,
        Err(error) => return usage::wrong(&format!("--host: invalid host name: {error}")),
    };
    let headers = fields(arguments).and_then(|found| {
        let chain = chain(&arguments.chain)?;
        let kinds = found.into_iter().filter(|(_, values)| !values.is_empty());
        let headers = kinds.map(|(kind, values)| {
            let header = Header::new(kind, values, &host, chain.as_deref(), !arguments.no_tls);
            header.map_err(|error| Failure::no(error.to_string()))
        });
        headers.collect()
    });
    let headers: Vec<Header> = match headers {
        Ok(headers) => headers,
        Err(failure) => return usage::end(failure),
    };
    let is_valid = headers.iter().all(|header| header.rfc7469.valid);
    let written = if arguments.json {
        output::json(&Report { v: JSON_VERSION, headers })
    } else {
        headers.iter().try_for_each(|header| shown::print(header, arguments.chain.is_empty()))
    };
    output::ended(if is_valid { Exit::Fine } else { Exit::No }, written)
}

/// The end of the first and last line of a private key in PEM.
const PRIVATE_KEY: &[u8] = b"PRIVATE KEY-----";

/// The values of both kinds of header in the input.
fn fields(arguments: &ParseArguments) -> Result<Vec<Values>, Failure> {
    let kind = if arguments.report_only { FieldKind::ReportOnly } else { FieldKind::Enforced };
    let (text, is_argument) = match arguments.header.as_str() {
        "-" => {
            let read = input::standard(2 * MAX_FIELD);
            let text = read.map_err(|error| Failure::unread("standard input", &error))?;
            (text, false)
        }
        text => (text.as_bytes().to_vec(), true),
    };
    // An error message quotes the header, so a text with a private key is refused before it is parsed.
    if text.windows(PRIVATE_KEY.len()).any(|part| part == PRIVATE_KEY) {
        return Err(Failure::no("contains a private key; expected a header"));
    }
    let found = text::headers(&text);
    if found.iter().any(|(_, values)| !values.is_empty()) {
        return Ok(found);
    }
    let value = text::without_line_end(&text);
    if value.contains(&b'\n') {
        return Err(Failure::no("no Public-Key-Pins header in these lines"));
    }
    if value.is_empty() && !is_argument {
        return Err(Failure::no("standard input is empty"));
    }
    Ok(vec![(kind, vec![value.to_vec()])])
}

/// The pins of the certificate chain that clients validated; `None` without `--chain`.
fn chain(given: &[String]) -> Result<Option<Vec<Pin>>, Failure> {
    if given.is_empty() {
        return Ok(None);
    }
    let mut pins = Vec::new();
    for one in given {
        if let Ok(pin) = one.parse() {
            pins.push(pin);
            continue;
        }
        pins.extend(chains::of_file(one)?.iter().filter_map(|certificate| certificate.pin()));
    }
    Ok(Some(pins))
}
