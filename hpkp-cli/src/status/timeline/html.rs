//! Writes the timeline as one HTML page: the image, and further information as text.

use std::fmt::Write as _;

use super::drawing::Drawing;
use super::svg::{self, STYLE, escaped};
use crate::status::report::{Answer, Expiry, Level, Report, Time};

/// The style of the page around the image.
const PAGE: &str = "\
body{font-family:sans-serif;margin:1.5em;color:#1b1f24;background:#fff}\
h1{font-size:1.3em}h2{font-size:1.1em}table{border-collapse:collapse}\
th,td{text-align:left;padding:.25em .8em .25em 0;vertical-align:top;font-size:.9em}\
td.mono{font-family:monospace}figure{margin:0;overflow-x:auto}.key span{margin-right:1.2em}\
.error{color:#b91c1c}\
@media(prefers-color-scheme:dark){body{color:#e6e9ed;background:#14181d}.error{color:#f87171}}";

/// Writes the page.
pub(super) fn render(drawing: &Drawing, report: &Report) -> String {
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>hpkp status</title>\n<style>{STYLE}{PAGE}</style>\n</head>\n<body>\n\
         <h1>hpkp status, {}</h1>\n<p>{}</p>\n",
        report.at,
        match report.answer {
            Answer::Yes => "Clients accept what is presented.",
            Answer::No => "<strong class=\"error\">Clients are locked out.</strong>",
            Answer::Unknown => "It is unknown whether clients accept what is presented.",
            Answer::NotAsked => "No server was asked.",
        }
    );
    problems(&mut page, report);
    let _ = write!(
        page,
        "<figure>\n{}</figure>\n<p class=\"key\"><span>dark bar: clients get the pins</span>\
         <span>light bar: clients hold them</span><span>arrow: without end</span>\
         <span>green bar: presented until its certificate expires</span>\
         <span>diamond: next step</span></p>\n",
        svg::render(drawing, svg::Place::Page)
    );
    next(&mut page, report);
    writers(&mut page, report);
    page.push_str("</body>\n</html>\n");
    page
}

fn problems(page: &mut String, report: &Report) {
    if report.problems.is_empty() {
        return;
    }
    page.push_str("<h2>Problems</h2>\n<ul>\n");
    for problem in &report.problems {
        let class = if problem.level == Level::Warning { "" } else { " class=\"error\"" };
        let _ = writeln!(page, "<li{class}>{}</li>", escaped(&problem.what));
    }
    page.push_str("</ul>\n");
}

fn next(page: &mut String, report: &Report) {
    if report.next.is_empty() {
        return;
    }
    page.push_str("<h2>What expires next</h2>\n<table>\n<tr><th>When<th>Host<th>What<th>\n");
    for next in &report.next {
        let what = match next.what {
            Expiry::Pins => "pins",
            Expiry::Certificate => "certificate",
        };
        let _ = writeln!(
            page,
            "<tr><td>{}<td>{}<td>{what}<td class=\"mono\">{}",
            next.at,
            escaped(&next.host),
            escaped(&next.of)
        );
    }
    page.push_str("</table>\n");
}

fn writers(page: &mut String, report: &Report) {
    page.push_str("<h2>Who writes records</h2>\n<table>\n");
    page.push_str("<tr><th>Writer<th>Last accepted configuration<th>Last record\n");
    for writer in &report.writers {
        let copy = if writer.own { "" } else { " (copy)" };
        let time = |at: Option<Time>| at.map_or_else(|| "-".to_owned(), |at| at.to_string());
        let _ = writeln!(
            page,
            "<tr><td>{}{copy}<td>{}<td>{}",
            escaped(&writer.writer),
            time(writer.last_configuration),
            time(writer.last_record)
        );
    }
    page.push_str("</table>\n");
}
