//! Prints a header with each deviation from RFC 7469 at its place, and the reaction of each client.

use std::io;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use hpkp_core::ua::deviation::{Deviation, Effect};

use super::header::{Action, Header, Judgement};
use crate::output;
use crate::time::duration;

/// The most deviations that are displayed. A field can have thousands.
const MAX_SHOWN: usize = 32;

pub(super) fn print(header: &Header, is_assumed: bool) -> io::Result<()> {
    let (source, places) = printable(&header.bytes);
    let shown = header.departures.iter().take(MAX_SHOWN);
    let groups: Vec<Group<'_>> = shown.map(|one| group(header, &source, &places, one)).collect();
    if !groups.is_empty() {
        let renderer = match output::stdout_has_colours() {
            true => Renderer::styled(),
            // A file has no line width, so lines are not cut.
            false => Renderer::plain().term_width(4_096),
        };
        output::line(&renderer.render(&groups))?;
        if header.departures.len() > MAX_SHOWN {
            output::line(&format!("and {} more", header.departures.len() - MAX_SHOWN))?;
        }
        output::line("")?;
    }
    if header.values.len() > 1 {
        let name = header.name;
        output::line(&format!(
            "{name} is sent {} times; RFC 7469 reads the first only",
            header.values.len()
        ))?;
    }
    verdicts(header, is_assumed)
}

/// A deviation at its place in the text.
fn group<'a>(
    header: &Header,
    source: &'a str,
    places: &[usize],
    deviation: &Deviation,
) -> Group<'a> {
    let level = match deviation.situation.effect() {
        Effect::Voids => Level::ERROR,
        Effect::VoidsStrictly => Level::WARNING,
        Effect::None => Level::NOTE,
    };
    let place = |byte: usize| places.get(byte).copied().unwrap_or(source.len());
    let span: Range<usize> = place(deviation.at.start)..place(deviation.at.end);
    let label = match deviation.situation.effect() {
        Effect::Voids if header.is_noted() => "RFC 7469 ignores the header; some clients do not",
        Effect::Voids => "clients ignore the header",
        Effect::VoidsStrictly => "RFC 7469 ignores the header; known clients do not",
        Effect::None => "no effect on the rest of the header",
    };
    let snippet = Snippet::source(source).path(header.name);
    let annotation = AnnotationKind::Primary.span(span).label(label);
    level.primary_title(deviation.situation.to_string()).element(snippet.annotation(annotation))
}

/// The value in printable ASCII, and the position of each of its bytes in that text.
fn printable(value: &[u8]) -> (String, Vec<usize>) {
    let (mut shown, mut places) = (String::new(), Vec::with_capacity(value.len()));
    for byte in value {
        places.push(shown.len());
        if byte.is_ascii_graphic() || *byte == b' ' {
            shown.push(char::from(*byte));
        } else {
            shown.extend(byte.escape_ascii().map(char::from));
        }
    }
    (shown, places)
}

fn verdicts(header: &Header, is_assumed: bool) -> io::Result<()> {
    let name = header.name;
    let valid = match header.rfc7469.valid {
        true => output::accent(output::GOOD, "valid"),
        false => output::accent(output::BAD, "invalid"),
    };
    output::line(&format!("{name}: {valid} (RFC 7469)"))?;
    print_field(if header.rfc7469.valid { &header.rfc7469 } else { &header.tolerant })?;
    if is_assumed && header.name == hpkp_core::ua::FieldKind::Enforced.name() {
        output::line(
            "assumed: the first pin is in the validated chain, the others are not (--chain)",
        )?;
    }
    let rfc = &header.rfc7469;
    let because = rfc.because.map_or_else(String::new, |why| format!(": {why}"));
    output::line(&format!("{:<9} {}{because}", "RFC 7469", action(&rfc.action)))?;
    let clients = &header.clients;
    for (name, client) in
        [("Chromium", &clients.chromium), ("Firefox", &clients.firefox), ("wget2", &clients.wget2)]
    {
        let differs = match *client == rfc.action {
            true => String::new(),
            false => format!("  {}", output::accent(output::NOTE, "(differs from RFC 7469)")),
        };
        output::line(&format!("{name:<9} {}{differs}", action(client)))?;
    }
    Ok(())
}

/// Prints the contents of the field.
fn print_field(field: &Judgement) -> io::Result<()> {
    field.pins.iter().try_for_each(|pin| output::line(&format!("    pin {pin}")))?;
    if let Some(age) = field.max_age {
        output::line(&format!("    max-age {}", seconds(age)))?;
    }
    if field.include_subdomains {
        output::line("    includeSubDomains")?;
    }
    field
        .report_uri
        .iter()
        .try_for_each(|uri| output::line(&format!("    report-uri {}", output::printable(uri))))
}

pub(crate) fn action(action: &Action) -> String {
    let subdomains = match action.noted_with_subdomains {
        Some(true) => " and its subdomains",
        _ => "",
    };
    let long = action.noted_for.map(seconds).unwrap_or_default();
    match action.verdict.as_str() {
        "note" => format!("notes the host{subdomains} for {long}"),
        "note-then-refuse" => {
            format!("notes the host{subdomains} for {long}, and refuses it from then on")
        }
        "delete" => "forgets the host".to_owned(),
        "evaluate" if action.report == Some(true) => "sends a report".to_owned(),
        "evaluate" => "evaluates the pins; no report is due".to_owned(),
        "unsupported" => "does not know this header".to_owned(),
        _ => "ignores the header".to_owned(),
    }
}

fn seconds(seconds: u64) -> String {
    duration(i64::try_from(seconds).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_byte_has_its_column_in_the_printed_header() {
        let (shown, places) = printable(b"a\x1b\xffb");
        assert_eq!(shown, "a\\x1b\\xffb");
        assert_eq!(places, [0, 1, 5, 9]);
    }
}
