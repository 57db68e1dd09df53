//! Prints the answer as SARIF 2.1.0 (OASIS), the format of code scanning.

use std::io;

use hpkp_core::finding::{CODES, Class, Entry, Location};
use serde::Serialize;
use serde_json::{Value, json};

use crate::check::answer::{Answer, Judged, Outcome};
use crate::output;

/// The JSON schema of SARIF.
const SCHEMA: &str = "https://json.schemastore.org/sarif-2.1.0.json";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SarifResult {
    rule_id: &'static str,
    rule_index: usize,
    level: &'static str,
    message: Value,
    locations: Vec<Value>,
    partial_fingerprints: Value,
    properties: Value,
}

pub(super) fn print(answer: &Answer) -> io::Result<()> {
    let rules: Vec<&Entry> = {
        let is_found =
            |entry: &&Entry| answer.judged.iter().any(|judged| judged.finding.code == entry.code);
        CODES.iter().filter(is_found).collect()
    };
    let results: Vec<SarifResult> =
        answer.judged.iter().map(|judged| result(judged, &rules, &answer.name)).collect();
    output::json(&json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "hpkp",
                "semanticVersion": env!("CARGO_PKG_VERSION"),
                "rules": rules.iter().map(|entry| rule(entry)).collect::<Vec<_>>(),
            }},
            "columnKind": "utf16CodeUnits",
            "invocations": [{ "executionSuccessful": answer.outcome != Outcome::Undetermined }],
            "results": results,
        }],
    }))
}

fn rule(entry: &Entry) -> Value {
    json!({
        "id": entry.text,
        "shortDescription": { "text": entry.title },
        "help": { "text": format!("{}. See docs/reference/findings.md#{}", entry.title, entry.text) },
        "defaultConfiguration": { "level": level(entry.class) },
        "properties": { "class": entry.class.as_str(), "reference": entry.reference },
    })
}

fn result(judged: &Judged, rules: &[&Entry], config: &str) -> SarifResult {
    let finding = &judged.finding;
    let hosts = finding.hosts.join(", ");
    let mut lines = vec![match hosts.as_str() {
        "" => finding.text.what.clone(),
        hosts => format!("{hosts}: {}", finding.text.what),
    }];
    lines.extend(finding.further_lines());
    let fingerprint = format!("{}:{hosts}:{}", finding.code, finding.at.file);
    SarifResult {
        rule_id: finding.code.as_str(),
        rule_index: rules.iter().position(|entry| entry.code == finding.code).unwrap_or(0),
        level: if judged.is_refused { "error" } else { "warning" },
        message: json!({ "text": lines.join("\n") }),
        locations: vec![location(&finding.at, config)],
        partial_fingerprints: json!({ "hpkpFinding/v1": fingerprint }),
        properties: json!({
            "class": finding.class.as_str(),
            "answer": judged.answer,
            "hosts": finding.hosts,
            "hostCount": finding.host_count,
        }),
    }
}

fn level(class: Class) -> &'static str {
    match class {
        Class::Invalid | Class::Lockout | Class::Unsure => "error",
        Class::Withhold | Class::Warning => "warning",
    }
}

/// A finding without a line of a file is reported for the configuration as a whole.
fn location(at: &Location, config: &str) -> Value {
    let is_file = !at.file.is_empty() && at.line > 0;
    let file = if is_file { &*at.file } else { config };
    json!({ "physicalLocation": {
        "artifactLocation": { "uri": uri(file) },
        "region": { "startLine": at.line.max(1) },
    }})
}

/// A path as a URI: relative if the path is below the working directory, so that code scanning finds the
/// file in the repository.
fn uri(path: &str) -> String {
    let here = std::env::current_dir().ok();
    let below = here.as_ref().and_then(|here| std::path::Path::new(path).strip_prefix(here).ok());
    let path = below.and_then(|path| path.to_str()).unwrap_or(path);
    let mut uri = String::from(if path.starts_with('/') { "file://" } else { "" });
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                uri.push(char::from(byte));
            }
            byte => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri
}
