//! Prints the dates of a plan as an iCalendar file (RFC 5545).

use std::io;

use hpkp_core::date;

use super::model::Plan;
use crate::output;

/// The longest line, in bytes. A longer one continues on the next line after a space (RFC 5545 section
/// 3.1).
const MAX_LINE: usize = 75;

/// Prints the file. `now` is the time stamp of its entries.
pub(super) fn print(plan: &Plan, now: i64) -> io::Result<()> {
    let mut lines = vec![
        "BEGIN:VCALENDAR".to_owned(),
        "VERSION:2.0".to_owned(),
        "PRODID:-//hpkp//plan//EN".to_owned(),
    ];
    for (number, step) in (1..).zip(&plan.steps) {
        let description = step.commands.join("\n");
        lines.extend([
            "BEGIN:VEVENT".to_owned(),
            // A calendar replaces the entries of an earlier plan with the same id.
            format!("UID:{}-{}-{number}@hpkp", plan.host, plan.goal),
            format!("DTSTAMP:{}", utc(now)),
            format!("DTSTART:{}", utc(step.from)),
            format!("SUMMARY:{}", escaped(&format!("{}: {}", plan.host, step.what))),
            format!("DESCRIPTION:{}", escaped(&description)),
            "END:VEVENT".to_owned(),
        ]);
    }
    lines.push("END:VCALENDAR".to_owned());
    // Lines end with CR LF; the output function adds the LF.
    lines.iter().try_for_each(|line| output::line(&format!("{}\r", folded(line))))
}

/// Converts `2027-03-01T10:00:00Z` to `20270301T100000Z`.
fn utc(time: i64) -> String {
    date::format(time).replace(['-', ':'], "")
}

/// Escapes a text (RFC 5545 section 3.3.11).
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace(';', "\\;").replace(',', "\\,");
    text.replace('\n', "\\n")
}

fn folded(line: &str) -> String {
    let (mut folded, mut length) = (String::new(), 0);
    for c in line.chars() {
        if length + c.len_utf8() > MAX_LINE {
            folded.push_str("\r\n ");
            length = 1;
        }
        folded.push(c);
        length += c.len_utf8();
    }
    folded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_are_folded_and_texts_escaped() {
        let folded = folded(&"ü".repeat(60));
        assert!(folded.split("\r\n").all(|line| line.len() <= MAX_LINE), "{folded:?}");
        assert_eq!(folded.replace("\r\n ", ""), "ü".repeat(60));
        assert_eq!(escaped("a, b; c\\\nz"), "a\\, b\\; c\\\\\\nz");
        assert_eq!(utc(0), "19700101T000000Z");
    }
}
