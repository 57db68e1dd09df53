//! JUnit's XML, as CI systems show test results: a case for each server that was compared, and one for each
//! finding that would keep a reload from passing.

use std::io::{self, Write as _};

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use super::place;
use crate::check::answer::{Answer, Judged};

/// The name of the suite and of the report.
const NAME: &str = "hpkp check";

pub(super) fn print(answer: &Answer) -> io::Result<()> {
    let mut report = Report::new(NAME);
    let mut suite = TestSuite::new(answer.name.as_str());
    for server in answer.compared() {
        let mut case = TestCase::new(server.label.as_str(), TestCaseStatus::success());
        case.set_classname(NAME);
        let about = |judged: &&Judged| judged.finding.hosts.contains(&server.label);
        let output: Vec<String> = answer.judged.iter().filter(about).flat_map(lines).collect();
        if !output.is_empty() {
            case.set_system_out(output.join("\n"));
        }
        suite.add_test_case(case);
    }
    for judged in &answer.judged {
        suite.add_test_case(of_finding(judged));
    }
    if answer.judged.is_empty() {
        let mut case = TestCase::new("configuration", TestCaseStatus::success());
        case.set_classname(NAME).set_system_out(answer.summary());
        suite.add_test_case(case);
    }
    report.add_test_suite(suite);
    let text = report.to_string().map_err(io::Error::other)?;
    io::stdout().lock().write_all(text.as_bytes())
}

fn of_finding(judged: &Judged) -> TestCase {
    let finding = &judged.finding;
    let code = finding.code.as_str();
    let hosts = finding.hosts.join(", ");
    let name = if hosts.is_empty() { code.to_owned() } else { format!("{code}: {hosts}") };
    let text = lines(judged).collect::<Vec<_>>().join("\n");
    let mut status = match judged.is_refused {
        true => TestCaseStatus::non_success(NonSuccessKind::Failure),
        false => TestCaseStatus::success(),
    };
    if judged.is_refused {
        status
            .set_type(code)
            .set_message(finding.text.what.as_str())
            .set_description(text.as_str());
    }
    let mut case = TestCase::new(name, status);
    case.set_classname(NAME);
    if !judged.is_refused {
        case.set_system_out(text);
    }
    case
}

fn lines(judged: &Judged) -> impl Iterator<Item = String> + '_ {
    judged.lines.iter().map(|line| match line.at.as_ref().and_then(place) {
        Some(place) => format!("{} (configured at {place})", line.text),
        None => line.text.clone(),
    })
}
