//! The report as a picture: who holds which pins until when, which keys are presented, and when the
//! next step is allowed.

mod drawing;
mod html;
mod lines;
mod svg;

use super::report::Report;
use crate::arguments::TimelineFormat;
use drawing::Drawing;

/// The picture in that format. Text has colours where it goes to a terminal.
pub(super) fn render(report: &Report, format: TimelineFormat, to_stdout: bool) -> String {
    let drawing = Drawing::new(report);
    match format {
        TimelineFormat::Text => lines::render(&drawing, to_stdout),
        TimelineFormat::Svg => svg::render(&drawing, svg::Place::File),
        TimelineFormat::Html => html::render(&drawing, report),
    }
}
