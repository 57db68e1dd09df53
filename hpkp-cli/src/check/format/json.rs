//! Prints the answer as one line of JSON.

use std::io;

use serde::Serialize;

use crate::check::answer::{Answer, Judged, Outcome, ServerView};
use crate::output::{self, JSON_VERSION};

#[derive(Serialize)]
struct Report<'a> {
    v: u32,
    /// The configuration or the certificates that were checked.
    config: &'a str,
    /// Whether a reload would pass.
    answer: Outcome,
    findings: Vec<FindingView<'a>>,
    servers: &'a [ServerView],
    /// Whether certificates were compared with records of published pins.
    published: bool,
}

#[derive(Serialize)]
struct FindingView<'a> {
    code: &'static str,
    class: &'static str,
    /// What the config test does about the finding: refuse, alarm, withhold or warn.
    answer: &'static str,
    /// The first three servers that are affected.
    hosts: &'a [String],
    host_count: usize,
    file: &'a str,
    line: usize,
    summary: &'a str,
    fix: &'a [String],
    details: &'a [String],
    last_resort: &'a [String],
}

impl<'a> From<&'a Judged> for FindingView<'a> {
    fn from(judged: &'a Judged) -> Self {
        let finding = &judged.finding;
        Self {
            code: finding.code.as_str(),
            class: finding.class.as_str(),
            answer: judged.answer,
            hosts: &finding.hosts,
            host_count: finding.host_count,
            file: &finding.at.file,
            line: finding.at.line,
            summary: &finding.text.what,
            fix: &finding.text.fix,
            details: &finding.text.details,
            last_resort: &finding.text.last_resort,
        }
    }
}

pub(super) fn print(answer: &Answer) -> io::Result<()> {
    output::json(&Report {
        v: JSON_VERSION,
        config: &answer.name,
        answer: answer.outcome,
        findings: answer.judged.iter().map(Into::into).collect(),
        servers: &answer.servers,
        published: answer.has_records,
    })
}
