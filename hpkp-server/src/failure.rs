//! The failure table: what the server does about a finding, by its class and the phase of the server's life. No other
//! module decides this.

use hpkp_core::check::Verdict;
use hpkp_core::finding::{Check, Class, Code, Finding, Location};

use crate::living::{self, Pid};

/// The phase of a server's life in which the check runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// A configuration test.
    Test,
    /// A reload that can be refused: the old configuration stays in force.
    Reload,
    /// Nothing is serving yet.
    Start,
    /// A reload inside the running parent, where an error ends the server (httpd).
    Restart,
}

/// What a start does about a lock-out or an unsure answer (`hpkp_on_start`, `HPKPOnStart`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnStart {
    /// Start without the host's header and report it: a stopped server would lock out all clients.
    #[default]
    Warn,
    /// Do not start.
    Refuse,
}

/// What the server does about one finding. If the configuration passes, the headers of the affected hosts have already
/// been removed from the verdict, unless the class is a warning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The configuration is refused.
    Refuse,
    /// The configuration passes in spite of a lock-out or an unsure answer.
    Alarm,
    /// The configuration passes, and a header is not sent.
    Withhold,
    /// The configuration passes.
    Warn,
}

/// The answer to one finding, from the table.
#[must_use]
pub const fn answer(class: Class, check: Check, phase: Phase, on_start: OnStart) -> Answer {
    match (class, phase) {
        (Class::Withhold, _) => Answer::Withhold,
        (Class::Warning, _) => Answer::Warn,
        // No finding may end a server that is serving clients.
        (_, Phase::Restart) => Answer::Alarm,
        (Class::Invalid, _) => Answer::Refuse,
        (Class::Lockout | Class::Unsure, phase) => match (check, phase, on_start) {
            (Check::Warn, ..) => Answer::Alarm,
            (Check::Refuse | Check::Keep, Phase::Start, OnStart::Warn) => Answer::Alarm,
            (Check::Refuse | Check::Keep, ..) => Answer::Refuse,
        },
    }
}

/// A line for the server's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// How serious it is.
    pub answer: Answer,
    /// The text; it begins `hpkp: [code] host:`.
    pub text: String,
    /// In the first line of a finding, the directive that causes it.
    pub at: Option<Location>,
}

/// The result of a verdict in one phase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// Whether the configuration is refused.
    pub refused: bool,
    /// What to write into the log, in order.
    pub lines: Vec<LogLine>,
}

/// Applies the table to all findings.
#[must_use]
pub fn judge(verdict: &Verdict, phase: Phase, on_start: OnStart) -> Judgement {
    let mut judgement = Judgement { refused: false, lines: Vec::new() };
    for finding in &verdict.findings {
        let answer = match finding.code {
            // The operator has to act, at once or before the kept certificate expires.
            Code::KeptCertificateServed | Code::KeptCertificateNotUsed if phase != Phase::Test => {
                Answer::Alarm
            }
            _ => answer(finding.class, finding.check, phase, on_start),
        };
        judgement.refused |= answer == Answer::Refuse;
        judgement.lines.extend(lines(finding, answer, phase));
    }
    judgement
}

/// [`judge`] for a start while another server may be running. If one is, the start is judged like a reload, since
/// after a refusal the other server keeps running. `find` returns the process of that server. It is called only if the
/// result matters, and again while the other server may be ending.
#[must_use]
pub fn judge_beside(
    verdict: &Verdict,
    phase: Phase,
    on_start: OnStart,
    find: impl FnMut() -> Option<Pid>,
) -> Judgement {
    let judgement = judge(verdict, phase, on_start);
    if phase != Phase::Start || judgement.refused {
        return judgement;
    }
    let mut refused = judge(verdict, Phase::Reload, on_start);
    let beside = if refused.refused { living::stays(find) } else { None };
    let Some(pid) = beside else { return judgement };
    let text = format!(
        "hpkp: process {pid} already serves an address of this configuration, or has the same writer \
         name, so this start is refused like a reload; that server keeps its certificate. Last resort, \
         locks out those clients: stop that process before this start"
    );
    refused.lines.push(LogLine { answer: Answer::Refuse, text, at: None });
    refused
}

/// The log lines of a finding after the configuration was accepted.
pub fn lines_after(finding: &Finding, phase: Phase) -> impl Iterator<Item = LogLine> {
    lines(finding, answer(finding.class, finding.check, phase, OnStart::Warn), phase)
}

/// The log lines of a finding from a handshake that an operator has to correct.
pub fn lines_of_alarm(finding: &Finding) -> impl Iterator<Item = LogLine> {
    lines(finding, Answer::Alarm, Phase::Restart)
}

/// The log lines of one finding.
fn lines(finding: &Finding, answer: Answer, phase: Phase) -> impl Iterator<Item = LogLine> {
    let mut finding = finding.clone();
    finding.outcome = match finding.code {
        Code::KeptCertificateServed | Code::KeptCertificateNotUsed => None,
        _ => outcome(answer, phase, finding.has_header),
    };
    let mut at = Some(finding.at.clone());
    let texts: Vec<String> = finding.lines().collect();
    texts.into_iter().map(move |text| LogLine { answer, text, at: at.take() })
}

/// What the server does now, if that differs from what it would do without the finding.
const fn outcome(answer: Answer, phase: Phase, has_header: bool) -> Option<&'static str> {
    match (answer, phase, has_header) {
        (Answer::Refuse, Phase::Test | Phase::Reload, _) => {
            Some("nothing was changed; the running server keeps its certificate")
        }
        (Answer::Refuse, Phase::Start | Phase::Restart, _) => Some("the server does not start"),
        (Answer::Alarm, Phase::Test, true) => {
            Some("the test passes; the server would continue without this header")
        }
        (Answer::Alarm, Phase::Test, false) => {
            Some("the test passes; the server would use this configuration")
        }
        (Answer::Alarm, _, true) => Some("continuing without this header"),
        (Answer::Alarm, _, false) => Some("continuing with this configuration"),
        (Answer::Withhold | Answer::Warn, ..) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hpkp_core::finding::{Code, Text};

    use Answer::{Alarm, Refuse, Warn};
    const HOLD: Answer = Answer::Withhold;
    use Class::{Invalid, Lockout, Unsure, Warning, Withhold};
    use Phase::{Reload, Restart, Start, Test};

    /// Compares every class, phase and setting with the table of the design, written out here.
    #[test]
    fn the_answers_match_the_table_of_the_design() {
        // Columns: check refuse and on_start warn, check refuse and on_start refuse, check warn
        // and on_start warn, check warn and on_start refuse.
        let table = [
            (Invalid, Test, [Refuse, Refuse, Refuse, Refuse]),
            (Invalid, Reload, [Refuse, Refuse, Refuse, Refuse]),
            (Invalid, Start, [Refuse, Refuse, Refuse, Refuse]),
            (Invalid, Restart, [Alarm, Alarm, Alarm, Alarm]),
            (Lockout, Test, [Refuse, Refuse, Alarm, Alarm]),
            (Lockout, Reload, [Refuse, Refuse, Alarm, Alarm]),
            (Lockout, Start, [Alarm, Refuse, Alarm, Alarm]),
            (Lockout, Restart, [Alarm, Alarm, Alarm, Alarm]),
            (Unsure, Test, [Refuse, Refuse, Alarm, Alarm]),
            (Unsure, Reload, [Refuse, Refuse, Alarm, Alarm]),
            (Unsure, Start, [Alarm, Refuse, Alarm, Alarm]),
            (Unsure, Restart, [Alarm, Alarm, Alarm, Alarm]),
            (Withhold, Test, [HOLD, HOLD, HOLD, HOLD]),
            (Withhold, Reload, [HOLD, HOLD, HOLD, HOLD]),
            (Withhold, Start, [HOLD, HOLD, HOLD, HOLD]),
            (Withhold, Restart, [HOLD, HOLD, HOLD, HOLD]),
            (Warning, Test, [Warn, Warn, Warn, Warn]),
            (Warning, Reload, [Warn, Warn, Warn, Warn]),
            (Warning, Start, [Warn, Warn, Warn, Warn]),
            (Warning, Restart, [Warn, Warn, Warn, Warn]),
        ];
        let settings = [
            (Check::Refuse, OnStart::Warn),
            (Check::Refuse, OnStart::Refuse),
            (Check::Warn, OnStart::Warn),
            (Check::Warn, OnStart::Refuse),
        ];
        let mut rows = std::collections::HashSet::new();
        for (class, phase, answers) in table {
            rows.insert((class, format!("{phase:?}")));
            for ((check, on_start), expected) in settings.into_iter().zip(answers) {
                let got = answer(class, check, phase, on_start);
                assert_eq!(got, expected, "{class:?} {phase:?} {check:?} {on_start:?}");
                // With `keep`, a lock-out that no kept certificate has replaced is treated as with `refuse`.
                if check == Check::Refuse {
                    assert_eq!(super::answer(class, Check::Keep, phase, on_start), expected);
                }
            }
        }
        assert_eq!(rows.len(), 5 * 4, "a row is missing or stands twice");
    }

    fn verdict(class: Class) -> Verdict {
        let at = Location { file: "a".into(), line: 1 };
        let finding = Finding::new(Code::NoPinInChain, at, Text::new("a"));
        let finding = Finding { class, has_header: true, ..finding };
        Verdict { findings: vec![finding], hosts: Vec::new(), paths: Vec::new() }
    }

    /// A start is refused only for a lock-out while another server keeps running. The other server is looked for only
    /// if the result matters.
    #[test]
    fn a_start_with_a_lock_out_is_refused_beside_a_running_server() {
        let nobody = || panic!("nobody is looked for");
        for (class, phase, refused) in [
            (Warning, Start, false),
            (Withhold, Start, false),
            (Invalid, Start, true),
            (Lockout, Reload, true),
            (Lockout, Restart, false),
        ] {
            let judgement = judge_beside(&verdict(class), phase, OnStart::Warn, nobody);
            assert_eq!(judgement.refused, refused, "{class:?} {phase:?}");
        }
        for class in [Lockout, Unsure] {
            let judged = |find: &mut dyn FnMut() -> Option<Pid>| {
                judge_beside(&verdict(class), Start, OnStart::Warn, find)
            };
            assert!(!judged(&mut || None).refused);
            // The other server ends while the start waits.
            let mut left = 3;
            let mut ending = || {
                left -= 1;
                (left > 0).then_some(7)
            };
            assert!(!judged(&mut ending).refused);
            let judgement = judged(&mut || Some(7));
            assert!(judgement.refused);
            let last = judgement.lines.last().unwrap();
            assert!(last.text.contains("process 7 already serves"), "{last:?}");
        }
    }

    /// After a refused test or reload, the second line says that nothing was changed.
    #[test]
    fn the_second_line_says_what_the_server_does() {
        for (class, phase, expected) in [
            (Lockout, Test, Some("nothing was changed; the running server keeps its certificate")),
            (
                Lockout,
                Reload,
                Some("nothing was changed; the running server keeps its certificate"),
            ),
            (Lockout, Start, Some("continuing without this header")),
            (Invalid, Start, Some("the server does not start")),
            (Withhold, Test, None),
            (Warning, Reload, None),
        ] {
            let judgement = judge(&verdict(class), phase, OnStart::Warn);
            let second = judgement.lines.get(1).map(|line| line.text.as_str());
            let expected =
                expected.map(|expected| format!("hpkp: [no-pin-in-chain] -: {expected}"));
            assert_eq!(second, expected.as_deref(), "{class:?} {phase:?}");
        }
    }
}
