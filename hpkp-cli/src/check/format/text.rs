//! Prints the answer as text: the server's log lines, then the result.

use std::io;

use crate::check::answer::{Answer, Judged, Outcome};
use crate::output::{self, BAD, GOOD, NOTE};

pub(super) fn print(answer: &Answer) -> io::Result<()> {
    for judged in &answer.judged {
        lines(judged)?;
    }
    let (style, word) = match answer.outcome {
        Outcome::Pass if answer.judged.is_empty() => (GOOD, "pass:"),
        Outcome::Pass => (NOTE, "pass:"),
        Outcome::Refused => (BAD, "refused:"),
        Outcome::Undetermined => (NOTE, "undetermined:"),
    };
    let what = match answer.outcome {
        Outcome::Pass => answer.summary(),
        Outcome::Refused => {
            let count = answer.judged.iter().filter(|judged| judged.is_refused).count();
            let findings = output::counted(count, "finding");
            format!("the server would refuse this configuration for {findings}")
        }
        Outcome::Undetermined => {
            "cannot tell whether clients would be locked out; the server would refuse this \
             configuration"
                .to_owned()
        }
    };
    output::line(&format!("{} {what}", output::accent(style, word)))
}

fn lines(judged: &Judged) -> io::Result<()> {
    let style = if judged.is_refused { BAD } else { NOTE };
    for line in &judged.lines {
        let text = output::printable(line);
        let text = match text.split_once("] ") {
            Some((code, rest)) => format!("{} {rest}", output::accent(style, &format!("{code}]"))),
            None => text,
        };
        output::line(&text)?;
    }
    Ok(())
}
