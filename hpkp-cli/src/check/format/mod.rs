//! The output formats of the answer.

mod json;
mod junit;
mod sarif;
mod text;

use std::io;

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
