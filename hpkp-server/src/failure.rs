//! The failure table: what is done about a finding, by its class and the phase of the server's
//! life. This is the one place where it is decided.

use hpkp_core::check::Verdict;
use hpkp_core::finding::{Check, Class, Finding, Location};

/// Where a server stands in its life when the check runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// A configuration test.
    Test,
    /// A reload that can be refused: the old configuration goes on.
    Reload,
    /// Nothing is serving yet.
    Start,
    /// A reload inside the living parent, where an error ends the site (httpd).
    Restart,
}

/// What is done at a start about a lock-out or an unsure answer (`hpkp_on_start`, `HPKPOnStart`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnStart {
    /// Start without the host's header and say so: a stopped server locks out everybody.
    #[default]
    Warn,
    /// Do not start.
    Refuse,
}

/// What is done about one finding. Where the configuration goes on, the header of the hosts
/// concerned has already been taken out of the verdict, unless the class is a warning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The configuration is refused.
    Refuse,
    /// It goes on in spite of something grave.
    Alarm,
    /// It goes on, and a header is not sent.
    Withhold,
    /// It goes on.
    Warn,
}

/// The table.
#[must_use]
pub const fn answer(class: Class, check: Check, phase: Phase, on_start: OnStart) -> Answer {
    match (class, phase) {
        (Class::Withhold, _) => Answer::Withhold,
        (Class::Warning, _) => Answer::Warn,
        // Nothing that we find may end a site that is being served.
        (_, Phase::Restart) => Answer::Alarm,
        (Class::Invalid, _) => Answer::Refuse,
        (Class::Lockout | Class::Unsure, phase) => match (check, phase, on_start) {
            (Check::Warn, ..) => Answer::Alarm,
            (Check::Refuse, Phase::Start, OnStart::Warn) => Answer::Alarm,
            (Check::Refuse, ..) => Answer::Refuse,
        },
    }
}

/// A line for the server's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// How grave it is.
    pub answer: Answer,
    /// The text; it begins `hpkp: [code] host:`.
    pub text: String,
    /// In the first line of a finding, the directive that causes it.
    pub at: Option<Location>,
}

/// What a verdict comes to.
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
        let answer = answer(finding.class, finding.check, phase, on_start);
        judgement.refused |= answer == Answer::Refuse;
        judgement.lines.extend(lines(finding, answer, phase));
    }
    judgement
}

/// The log lines of what was found after the configuration had been accepted.
pub fn lines_after(finding: &Finding, phase: Phase) -> impl Iterator<Item = LogLine> {
    lines(finding, answer(finding.class, finding.check, phase, OnStart::Warn), phase)
}

/// The log lines of one finding.
fn lines(finding: &Finding, answer: Answer, phase: Phase) -> impl Iterator<Item = LogLine> {
    let mut finding = finding.clone();
    if answer == Answer::Alarm {
        // Said first: it is what differs from a refusal.
        finding.details.insert(
            0,
            match (phase, finding.has_header) {
                (Phase::Test, true) => "the server would go on WITHOUT this header",
                (_, true) => "the server goes on WITHOUT this header",
                (Phase::Test, false) => "the server would go on in spite of it",
                (_, false) => "the server goes on in spite of it",
            }
            .to_owned(),
        );
    }
    let mut at = Some(finding.at.clone());
    let texts: Vec<String> = finding.lines().collect();
    texts.into_iter().map(move |text| LogLine { answer, text, at: at.take() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use Answer::{Alarm, Refuse, Warn};
    const HOLD: Answer = Answer::Withhold;
    use Class::{Invalid, Lockout, Unsure, Warning, Withhold};
    use Phase::{Reload, Restart, Start, Test};

    /// Every class, phase and setting, against the table of the design written out.
    #[test]
    fn the_whole_table() {
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
            }
        }
        assert_eq!(rows.len(), 5 * 4, "a row is missing or stands twice");
    }
}
