//! Compares what a command printed with what the document says.
//!
//! A line `...` stands for any lines, `...` within a line for any text. Ids of records differ from
//! run to run: the same id in the document must be the same one in the output. Of times only
//! the day and the hour are compared, because the clock of the machine runs.

use std::collections::BTreeMap;

use crate::markdown::Step;

/// What a command printed and its exit status.
pub struct Ran {
    pub text: String,
    pub status: i32,
}

/// The ids of a document, and the ids of this run that correspond to them.
#[derive(Default)]
pub struct Ids {
    to_run: BTreeMap<String, String>,
    to_document: BTreeMap<String, String>,
}

const ID: usize = 32;

fn is_id(word: &str) -> bool {
    word.len() == ID && word.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// The ids in a text, in their order.
fn ids(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| is_id(word))
}

impl Ids {
    /// What was printed in this run, with the ids of the document where it has them.
    fn in_document(&self, text: &str) -> String {
        let pairs = self.to_document.iter();
        pairs.fold(text.to_owned(), |text, (run, document)| text.replace(run, document))
    }

    /// A command of the document, with the ids of this run.
    pub fn in_this_run(&self, command: &str) -> String {
        let pairs = self.to_run.iter();
        pairs.fold(command.to_owned(), |command, (document, run)| command.replace(document, run))
    }

    fn pair(&mut self, document: &str, run: &str) -> Result<(), String> {
        for (document, run) in ids(document).zip(ids(run)) {
            let there = self.to_run.entry(document.to_owned()).or_insert_with(|| run.to_owned());
            let back =
                self.to_document.entry(run.to_owned()).or_insert_with(|| document.to_owned());
            if *there != run || *back != document {
                return Err(format!("the id {document} is another one here: {run}"));
            }
        }
        Ok(())
    }
}

/// `text` with each id, time and process number in one common form.
fn alike(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let word_begins = !out.ends_with(|c: char| c.is_ascii_alphanumeric());
        let start = Some(rest).filter(|_| word_begins);
        let leads = |length: usize| start.and_then(|start| start.get(..length));
        if let Some(word) = leads(ID).filter(|word| is_id(word)) {
            out.push_str("<id>");
            rest = rest.get(word.len()..).unwrap_or_default();
        } else if let Some(time) = leads(20).filter(|time| fits(time, "0000-00-00T00:00:00Z")) {
            out.push_str(time.get(..14).unwrap_or_default());
            out.push_str("00:00Z");
            rest = rest.get(20..).unwrap_or_default();
        } else if let Some(time) = leads(8).filter(|time| fits(time, "00:00:00")) {
            out.push_str(time.get(..3).unwrap_or_default());
            out.push_str("00:00");
            rest = rest.get(8..).unwrap_or_default();
        } else if let Some(time) = rest.get(..19).filter(|time| fits(time, "0000/00/00 00:00:00")) {
            out.push_str(time.get(..14).unwrap_or_default());
            out.push_str("00:00");
            rest = rest.get(19..).unwrap_or_default();
        } else {
            out.push(c);
            rest = rest.get(c.len_utf8()..).unwrap_or_default();
        }
    }
    without_process(&out)
}

/// Whether `text` has the form of `like`, in which `0` stands for a digit.
fn fits(text: &str, like: &str) -> bool {
    text.len() == like.len()
        && text
            .bytes()
            .zip(like.bytes())
            .all(|(a, b)| if b == b'0' { a.is_ascii_digit() } else { a == b })
}

/// nginx writes `[emerg] PID#TID: ` before a message.
fn without_process(line: &str) -> String {
    let Some((before, after)) = line.split_once("] ") else { return line.to_owned() };
    match after.split_once(": ") {
        Some((numbers, rest)) if numbers.contains('#') && fits_number(numbers) => {
            format!("{before}] 1#1: {rest}")
        }
        _ => line.to_owned(),
    }
}

fn fits_number(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit() || b == b'#')
}

/// Whether a line is what the document's line says, `...` standing for any text.
fn line_fits(expected: &str, line: &str) -> bool {
    let mut parts = expected.split("...");
    let Some(mut rest) = line.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    true
}

/// Pairs the document's lines with those printed; `None` where they do not fit.
fn align<'a>(expected: &[&'a str], lines: &[&'a str]) -> Option<Vec<(&'a str, &'a str)>> {
    let Some((first, later)) = expected.split_first() else {
        return lines.is_empty().then(Vec::new);
    };
    if *first == "..." {
        return (0..=lines.len()).find_map(|skip| align(later, lines.get(skip..)?));
    }
    let (line, after) = lines.split_first()?;
    if !line_fits(&alike(first), &alike(line)) {
        return None;
    }
    let mut pairs = align(later, after)?;
    pairs.insert(0, (first, line));
    Some(pairs)
}

fn lines(text: &str) -> Vec<&str> {
    text.lines().map(str::trim_end).collect()
}

/// Compares the output with the document; the error contains the actual output.
pub fn compare(step: &Step, ran: &Ran, ids: &mut Ids) -> Result<(), String> {
    let printed = lines(&ran.text);
    let outcome: Vec<&str> = match &step.output {
        Some((_, lines)) => lines.iter().map(|line| line.trim_end()).collect(),
        None => Vec::new(),
    };
    // If the document shows no output, the command must succeed.
    if outcome.is_empty() && ran.status != 0 {
        return Err(format!("exit status {}\n{}", ran.status, ran.text));
    }
    if step.output.is_none() {
        return Ok(());
    }
    let pairs = align(&outcome, &printed).ok_or_else(|| {
        format!("the document says:\n{}\nprinted was:\n{}", outcome.join("\n"), printed.join("\n"))
    })?;
    pairs.into_iter().try_for_each(|(outcome, line)| ids.pair(outcome, line))
}

/// The new lines for the document. Where it leaves lines or text out, the new lines do too.
pub fn updated(step: &Step, ran: &Ran, ids: &Ids) -> Vec<String> {
    let text = ids.in_document(&ran.text);
    let printed: Vec<String> = lines(&text).into_iter().map(tidy).collect();
    let outcome = step.output.as_ref().map(|(_, lines)| lines.as_slice()).unwrap_or_default();
    let cut = |outcome: &str, line: &String| match outcome.split_once("...") {
        _ if line_fits(&alike(outcome), &alike(line)) && outcome.contains("...") => {
            outcome.to_owned()
        }
        Some((before, _)) if before.len() < line.len() => {
            let end =
                (0..=before.len().min(line.len())).rev().find(|end| line.is_char_boundary(*end));
            format!("{}...", line.get(..end.unwrap_or(0)).unwrap_or_default())
        }
        _ => line.clone(),
    };
    match outcome.iter().position(|line| line == "...") {
        None => printed
            .iter()
            .enumerate()
            .map(|(at, line)| {
                outcome.get(at).map_or_else(|| line.clone(), |outcome| cut(outcome, line))
            })
            .collect(),
        Some(before) => {
            let after = outcome.len() - before - 1;
            let mut new: Vec<String> = outcome
                .iter()
                .zip(&printed)
                .take(before)
                .map(|(outcome, line)| cut(outcome, line))
                .collect();
            new.push("...".to_owned());
            new.extend(
                printed.iter().skip(printed.len().saturating_sub(after).max(before)).cloned(),
            );
            new
        }
    }
}

/// Rounds times to the full hour, so that the next update changes nothing; the end of a day is not rounded.
fn tidy(line: &str) -> String {
    let mut out = line.to_owned();
    for (at, _) in line.match_indices(':') {
        let Some(start) = at.checked_sub(2) else { continue };
        if line
            .get(start..start + 8)
            .is_some_and(|time| fits(time, "00:00:00") && !time.ends_with(":59:59"))
        {
            out.replace_range(start + 3..start + 8, "00:00");
        }
    }
    out
}

#[test]
fn outputs_match_up_to_dots_and_the_minutes_of_times() {
    for (outcome, printed, fits) in [
        ("a", "a", true),
        ("a", "b", false),
        ("a", "a\nb", false),
        ("a\n...\nx", "a\nb\nc\nx", true),
        ("a\n...\nx", "a\nb\nc", false),
        ("one ... three", "one two three", true),
        ("one ... three", "one two", false),
        ("until 2027-04-01T10:00:00Z", "until 2027-04-01T10:59:01Z", true),
        ("until 2027-04-01T10:00:00Z", "until 2027-04-02T10:00:00Z", false),
        ("2027/03/01 10:00:00 [emerg] 7#7: x", "2027/03/01 10:00:03 [emerg] 12#12: x", true),
    ] {
        let output = Some((1, outcome.lines().map(str::to_owned).collect()));
        let step = Step { line: 1, command: String::new(), output };
        let ran = Ran { text: printed.to_owned(), status: 0 };
        let fault = compare(&step, &ran, &mut Ids::default());
        assert_eq!(fault.is_ok(), fits, "{outcome:?} and {printed:?}: {fault:?}");
    }
}

#[test]
fn ids_are_replaced_one_for_one() {
    let (a, b) = ("0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210");
    let mut ids = Ids::default();
    ids.pair(&format!("{a}  x"), &format!("{b}  x")).unwrap();
    assert_eq!(ids.in_this_run(&format!("end {a}")), format!("end {b}"));
    ids.pair(a, a).unwrap_err();
    ids.pair(b, b).unwrap_err();
}
