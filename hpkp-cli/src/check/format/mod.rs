//! How the answer is printed.

mod json;
mod junit;
mod sarif;
mod text;

use std::io;

use hpkp_core::finding::Location;

use super::answer::Answer;
use crate::arguments::ReportFormat;

/// Prints the answer.
pub(super) fn print(answer: &Answer, format: ReportFormat) -> io::Result<()> {
    match format {
        ReportFormat::Text => text::print(answer),
        ReportFormat::Json => json::print(answer),
        ReportFormat::Sarif => sarif::print(answer),
        ReportFormat::Junit => junit::print(answer),
    }
}

/// A place for people: what is in no line of a file is named without one.
fn place(at: &Location) -> Option<String> {
    match (&*at.file, at.line) {
        ("-" | "", _) => None,
        (file, 0) => Some(file.to_owned()),
        (file, line) => Some(format!("{file}:{line}")),
    }
}
