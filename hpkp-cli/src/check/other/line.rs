//! The lines of a configuration.

use std::collections::BTreeMap;

use hpkp_core::finding::Location;

/// A line and its place.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) text: String,
    pub(super) at: Location,
}

/// The lines of a file.
pub(super) fn lines(file: &str, text: &[u8]) -> Vec<Line> {
    let text = String::from_utf8_lossy(text);
    let line = |(text, line): (&str, usize)| Line {
        text: text.trim_end().to_owned(),
        at: Location { file: file.into(), line },
    };
    text.lines().zip(1..).map(line).collect()
}

/// Settings of the form `name = value`; the last one of each name counts.
pub(super) fn assignments(lines: &[Line]) -> BTreeMap<String, (String, Location)> {
    let mut all = BTreeMap::new();
    for line in lines {
        if let Some((name, value)) = line.text.split_once('=') {
            let value = (value.trim().to_owned(), line.at.clone());
            all.insert(name.trim().to_ascii_lowercase(), value);
        }
    }
    all
}
