//! `hpkp-reports export`: prints groups as JSON lines or CSV.

use std::io::{self, BufWriter, Write as _};

use serde::Serialize;

use crate::arguments::{ExportArguments, ExportFormat};
use crate::configuration::Configuration;
use crate::exit::Exit;
use crate::output::{self, log};
use crate::store::{Filter, Group, StoreError, backend::Backend, open_to_read, query};
use crate::time::day_text;
use crate::understand::finding::Finding;

/// The version of the JSON. New members do not change the version.
const VERSION: u32 = 1;

/// Groups that are read at a time.
const PAGE: i64 = 500;

/// A group in the output.
#[derive(Debug, Serialize)]
struct Line<'a> {
    v: u32,
    id: &'a str,
    host: &'a str,
    port: Option<u16>,
    day: String,
    finding: &'a str,
    class: &'static str,
    detail: &'a str,
    client: &'a str,
    format: &'a str,
    mode: &'a str,
    chain: &'a str,
    count: i64,
    clients: i64,
    first_seen: String,
    last_seen: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    raw: Option<String>,
}

const COLUMNS: [&str; 15] = [
    "id",
    "host",
    "port",
    "day",
    "finding",
    "class",
    "detail",
    "client",
    "format",
    "mode",
    "chain",
    "count",
    "clients",
    "first_seen",
    "last_seen",
];

/// Runs the command.
pub(crate) fn run(arguments: &ExportArguments) -> Exit {
    let configuration = match Configuration::read(&arguments.config.config) {
        Ok(configuration) => configuration,
        Err(error) => {
            log(&error.text);
            return if error.is_unreadable { Exit::Failed } else { Exit::Invalid };
        }
    };
    let mut backend = match open_to_read(&configuration.store) {
        Ok(backend) => backend,
        Err(error) => {
            log(&error.to_string());
            return Exit::Failed;
        }
    };
    match print(&mut *backend, arguments) {
        Ok(()) => Exit::Fine,
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Fine,
        Err(Failure::Output(error)) => {
            log(&format!("cannot write the output: {}", output::os(&error)));
            Exit::Failed
        }
        Err(Failure::Store(error)) => {
            log(&error.to_string());
            Exit::Failed
        }
    }
}

enum Failure {
    Output(io::Error),
    Store(StoreError),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

fn print(backend: &mut dyn Backend, arguments: &ExportArguments) -> Result<(), Failure> {
    let mut out = BufWriter::new(io::stdout().lock());
    if matches!(arguments.format, ExportFormat::Csv) {
        let raw = if arguments.raw { ",raw" } else { "" };
        write!(out, "{}{raw}\r\n", COLUMNS.join(","))?;
    }
    let host = arguments.host.clone();
    let filter = Filter { host, text: None, from: i64::MIN, to: i64::MAX };
    let mut after = None;
    loop {
        let groups = query::page(backend, &filter, after.as_ref(), PAGE)?;
        let Some(last) = groups.last() else { break };
        after = Some((last.day, last.id.clone()));
        for group in &groups {
            let raw = match arguments.raw {
                true => {
                    Some(String::from_utf8_lossy(&query::raw(backend, &group.id)?).into_owned())
                }
                false => None,
            };
            let line = line(group, raw);
            match arguments.format {
                ExportFormat::Jsonl => {
                    let text = serde_json::to_string(&line).map_err(io::Error::other)?;
                    writeln!(out, "{}", escaped(&text))?;
                }
                ExportFormat::Csv => write_csv(&mut out, &line)?,
            }
        }
    }
    Ok(out.flush()?)
}

fn line(group: &Group, raw: Option<String>) -> Line<'_> {
    Line {
        v: VERSION,
        id: &group.id,
        host: &group.host,
        port: group.port,
        day: day_text(group.day),
        finding: &group.finding,
        class: Finding::of_code(&group.finding).map_or("unexplained", |one| one.class().name()),
        detail: &group.detail,
        client: &group.client,
        format: &group.format,
        mode: &group.mode,
        chain: &group.chain,
        count: group.count,
        clients: group.clients,
        first_seen: hpkp_core::date::format(group.first_seen),
        last_seen: hpkp_core::date::format(group.last_seen),
        raw,
    }
}

fn write_csv(out: &mut impl io::Write, line: &Line<'_>) -> io::Result<()> {
    let Ok(serde_json::Value::Object(members)) = serde_json::to_value(line) else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    let field = |name: &&str| match members.get(*name) {
        Some(serde_json::Value::String(text)) => csv(text),
        Some(serde_json::Value::Null) | None => String::new(),
        Some(value) => value.to_string(),
    };
    let raw = line.raw.is_some().then_some("raw");
    let fields: Vec<String> = COLUMNS.iter().chain(&raw).map(field).collect();
    write!(out, "{}\r\n", fields.join(","))
}

/// Escapes control and formatting characters in JSON, which could change what a terminal displays; the value stays the
/// same. Such characters occur only in strings, and the ASCII ones are escaped already.
fn escaped(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for c in json.chars() {
        if c.is_control() || output::is_formatting(c) {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                escaped.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            escaped.push(c);
        }
    }
    escaped
}

/// A CSV field (RFC 4180) without terminal control characters. Spreadsheets evaluate text that begins like a formula,
/// even after spaces; a leading apostrophe prevents that.
fn csv(text: &str) -> String {
    let mut field = String::with_capacity(text.len());
    for c in text.chars() {
        let is_space = matches!(c, '\n' | '\r' | '\t');
        if !is_space && (c.is_control() || output::is_formatting(c)) {
            field.extend(c.escape_default());
        } else {
            field.push(c);
        }
    }
    let formulas = ['=', '+', '-', '@', '\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}'];
    let is_formula = field.trim_start().starts_with(formulas) || field.starts_with(['\t', '\r']);
    let guard = if is_formula { "'" } else { "" };
    match field.contains(['"', ',', '\r', '\n']) || is_formula {
        true => format!("\"{guard}{}\"", field.replace('"', "\"\"")),
        false => field,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn csv_fields_are_quoted_and_formulas_get_an_apostrophe() {
        assert_eq!(csv("a"), "a");
        assert_eq!(csv("a,\"b\"\n"), "\"a,\"\"b\"\"\n\"");
        for formula in [
            "=1+1",
            "=cmd|' /C calc'!A0",
            "+1",
            "-1",
            "@SUM(1)",
            " =1",
            "\t=1",
            "\r=1",
            "\n=1",
            "\u{ff1d}1",
        ] {
            assert_eq!(csv(formula), format!("\"'{formula}\""));
        }
        assert_eq!(csv("\u{9b}31m\u{202e}"), "\\u{9b}31m\\u{202e}");
    }

    #[test]
    fn escaped_json_has_no_control_characters_and_the_same_value() {
        let text = "a\u{9b}\u{202e}\u{e0041}\u{1b}\n\u{5e9}";
        let json = serde_json::to_string(text).expect("JSON");
        let line = escaped(&json);
        assert_eq!(line, "\"a\\u009b\\u202e\\udb40\\udc41\\u001b\\n\u{5e9}\"");
        assert_eq!(serde_json::from_str::<String>(&line).expect("JSON"), text);
    }
}
