//! Prints the answer as JUnit XML, which CI systems display: one test case for each compared server, and
//! one for each other finding.

use std::collections::HashSet;
use std::io::{self, Write as _};

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use crate::check::answer::{Answer, Judged};

/// The name of the suite and of the report.
const NAME: &str = "hpkp check";

pub(super) fn print(answer: &Answer) -> io::Result<()> {
    let mut report = Report::new(NAME);
    let mut suite = TestSuite::new(answer.name.as_str());
    let mut labels = HashSet::new();
    for server in answer.compared() {
        let about = |judged: &&Judged| judged.finding.hosts.contains(&server.label);
        labels.insert(server.label.as_str());
        suite.add_test_case(case(&server.label, answer.judged.iter().filter(about).collect()));
    }
    for judged in &answer.judged {
        let finding = &judged.finding;
        // A finding lists only the first affected servers. If the list is complete, the cases of those
        // servers contain the finding.
        let is_in_cases = finding.host_count == finding.hosts.len()
            && !finding.hosts.is_empty()
            && finding.hosts.iter().all(|host| labels.contains(host.as_str()));
        if !is_in_cases {
            suite.add_test_case(case(finding.code.as_str(), vec![judged]));
        }
    }
    if suite.test_cases.is_empty() {
        let mut case = TestCase::new("configuration", TestCaseStatus::success());
        case.set_classname(NAME).set_system_out(answer.summary());
        suite.add_test_case(case);
    }
    report.add_test_suite(suite);
    let text = report.to_string().map_err(io::Error::other)?;
    io::stdout().lock().write_all(text.as_bytes())
}

/// A test case, which fails if one of its findings makes the config test refuse.
fn case(name: &str, found: Vec<&Judged>) -> TestCase {
    let text = found.iter().flat_map(|judged| judged.lines.clone()).collect::<Vec<_>>().join("\n");
    let status = match found.iter().find(|judged| judged.is_refused) {
        None => TestCaseStatus::success(),
        Some(refused) => {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            let finding = &refused.finding;
            status.set_type(finding.code.as_str()).set_message(finding.text.what.as_str());
            status.set_description(text.as_str());
            status
        }
    };
    let is_refused = found.iter().any(|judged| judged.is_refused);
    let mut case = TestCase::new(name, status);
    case.set_classname(NAME);
    if !is_refused && !text.is_empty() {
        case.set_system_out(text);
    }
    case
}
