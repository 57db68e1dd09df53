//! Reads octoDNS' YAML: the records of one zone, under their names. The name of the file is the zone.
//!
//! A name has one record or a list of them; a record has `value` or a list of `values`. Other YAML syntax
//! is not supported; the check of pins that were not read reports records in it.

use super::super::{ImportError, Problem};
use super::zone::{self, Record};

/// The member that has the data.
const DATA: &str = "certificate_association_data";

/// Whether a text has a TLSA record in this notation.
pub(super) fn is_octodns(text: &str) -> bool {
    let is_type = |line: &str| {
        let mut kinds = line.match_indices("type:").map(|(at, mark)| &line[at + mark.len()..]);
        kinds.any(|kind| plain(kind).starts_with("TLSA"))
    };
    text.contains(DATA) && text.lines().any(is_type)
}

/// Reads the records of a text. The zone is the name of the file.
///
/// # Errors
/// The zone is not known, or a value is incomplete.
pub(super) fn records(text: &str, file: Option<&str>) -> Result<Vec<Record>, ImportError> {
    let mut reader = Reader { zone: file.and_then(zone_of), ..Reader::default() };
    for (line, content) in (1..).zip(text.lines()) {
        let content = match content.find(" #") {
            _ if content.trim_start().starts_with('#') => "",
            Some(at) => &content[..at],
            None => content,
        };
        let trimmed = content.trim_start();
        if trimmed.is_empty() || trimmed == "---" {
            continue;
        }
        reader.line(line, content.len() - trimmed.len(), trimmed)?;
    }
    reader.finish_record()?;
    Ok(reader.records)
}

/// The zone: `example.com` for `zones/example.com.yaml` and for `zones/example.com./www.yaml`.
fn zone_of(file: &str) -> Option<String> {
    let mut parts = file.rsplit('/');
    let name = parts.next()?;
    let directory = parts.next().and_then(|name| name.strip_suffix('.'));
    let stem = name.strip_suffix(".yaml").or_else(|| name.strip_suffix(".yml"))?;
    let zone = directory.unwrap_or(stem).trim_end_matches('.');
    zone.contains('.').then(|| zone.to_owned())
}

/// A scalar without its quotation marks.
fn plain(text: &str) -> &str {
    text.trim().trim_matches(['"', '\'', ',', '}', ' '])
}

#[derive(Default)]
struct Reader {
    zone: Option<String>,
    records: Vec<Record>,
    owner: String,
    /// The indentation of the hyphens of the name's list of records, if it has a list.
    list: Option<usize>,
    /// Whether nothing of the current name has been read.
    is_first: bool,
    kind: String,
    ttl: Option<u32>,
    values: Vec<Value>,
}

#[derive(Default)]
struct Value {
    line: usize,
    /// Usage, selector, matching type, data.
    parts: [Option<String>; 4],
}

impl Reader {
    fn line(&mut self, line: usize, indent: usize, content: &str) -> Result<(), ImportError> {
        let (hyphen, rest) = match content.strip_prefix('-') {
            Some(rest) if rest.is_empty() || rest.starts_with(' ') => (true, rest.trim_start()),
            _ => (false, content),
        };
        if indent == 0 && !hyphen {
            self.finish_record()?;
            let (name, value) = rest.split_once(':').unwrap_or((rest, ""));
            plain(name).clone_into(&mut self.owner);
            (self.list, self.is_first) = (None, true);
            return self.pairs(line, value, false);
        }
        if std::mem::take(&mut self.is_first) && hyphen {
            self.list = Some(indent);
        }
        if hyphen && self.list == Some(indent) {
            self.finish_record()?;
            return self.pairs(line, rest, false);
        }
        self.pairs(line, rest, hyphen)
    }

    /// Reads the pairs of a line, which may be in braces.
    fn pairs(&mut self, line: usize, text: &str, begins: bool) -> Result<(), ImportError> {
        if begins {
            self.values.push(Value { line, ..Value::default() });
        }
        for piece in text.split(['{', '}', '[', ']', ',']) {
            let Some((key, value)) = piece.split_once(':') else { continue };
            let value = plain(value).to_owned();
            let part = match plain(key) {
                "type" => {
                    self.kind = value;
                    continue;
                }
                "ttl" => {
                    self.ttl = zone::time(&value);
                    continue;
                }
                "certificate_usage" => 0,
                "selector" => 1,
                "matching_type" => 2,
                DATA => 3,
                _ => continue,
            };
            let is_new = self.values.last().is_none_or(|last| last.parts[part].is_some());
            if is_new {
                self.values.push(Value { line, ..Value::default() });
            }
            if let Some(last) = self.values.last_mut() {
                last.parts[part] = Some(value);
                // The check of pins that were not read expects the line of the data.
                last.line = if part == 3 { line } else { last.line };
            }
        }
        Ok(())
    }

    fn finish_record(&mut self) -> Result<(), ImportError> {
        let (kind, ttl) = (std::mem::take(&mut self.kind), self.ttl.take());
        for value in std::mem::take(&mut self.values) {
            if kind != "TLSA" || value.parts.iter().all(Option::is_none) {
                continue;
            }
            let line = value.line;
            let zone = self.zone.as_ref().ok_or_else(|| {
                Problem::unsupported(
                    &self.owner,
                    "the zone of octoDNS' records is the name of their file: give the file itself, under \
                     a name such as example.com.yaml",
                )
                .at(line)
            })?;
            let words: Option<Vec<String>> = value.parts.into_iter().collect();
            let words = words.ok_or_else(|| {
                Problem::unexpected("TLSA", "a value with usage, selector, matching type and data")
                    .at(line)
            })?;
            let owner = match self.owner.as_str() {
                "" | "@" => zone.clone(),
                name => format!("{name}.{zone}"),
            };
            self.records.push(Record::tlsa(line, owner, ttl, words));
        }
        Ok(())
    }
}
