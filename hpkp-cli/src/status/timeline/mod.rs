//! Draws the report as a timeline: who holds which pins until when, which keys are presented, and when the
//! next step is possible.

mod drawing;
mod html;
mod lines;
mod svg;

use super::report::Report;
use crate::arguments::TimelineFormat;
use drawing::Drawing;

/// Draws the timeline in this format. Text has colours on a terminal.
pub(super) fn render(report: &Report, format: TimelineFormat, to_stdout: bool) -> String {
    let drawing = Drawing::new(report);
    match format {
        TimelineFormat::Text => lines::render(&drawing, to_stdout),
        TimelineFormat::Svg => svg::render(&drawing, svg::Place::File),
        TimelineFormat::Html => html::render(&drawing, report),
    }
}
