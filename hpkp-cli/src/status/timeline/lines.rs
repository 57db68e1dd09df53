//! Writes the timeline as lines of ASCII text, which every terminal and mail program displays.

use super::drawing::{Bar, BarKind, Drawing, Row};
use crate::output::{self, BAD, GOOD, NOTE};
use crate::status::report::Answer;

/// The columns of the labels.
const LABEL: usize = 26;

/// The number of columns if it is unknown, and its limits.
const WIDTH: (usize, usize, usize) = (100, 40, 200);

/// The meaning of the characters.
const LEGEND: &str = "= clients get the pins  - clients hold them  > without end  # presented  \
                      * pin of a presented key  | now  ! next step";

/// Writes the lines. Only a pin or a name can be wider than the terminal.
pub(super) fn render(drawing: &Drawing, has_colours: bool) -> String {
    let width = columns();
    // The text after the bars gets at most half of the space.
    let room = width - LABEL;
    let behind = longest_end(drawing, room / 2);
    let axis = if behind > 0 { room - behind - 1 } else { room };
    let accent = |style, text: &str| match has_colours {
        true => output::accent(style, text),
        false => text.to_owned(),
    };
    let now = drawing.place(drawing.now, axis - 1);
    let mut lines = vec![heading(drawing, axis, now)];
    for row in &drawing.rows {
        match row {
            Row::Host { name, answer } => {
                let (style, answer) = match answer {
                    Answer::Yes => (Some(GOOD), "(clients accept the presented keys)"),
                    Answer::No => (Some(BAD), "(clients are locked out)"),
                    Answer::Unknown => (Some(NOTE), "(unknown)"),
                    Answer::NotAsked => (None, "(not asked)"),
                };
                let fits = name.chars().count() + 1 + answer.len() <= width;
                let between = if fits { " " } else { "\n  " };
                let answer = style.map_or_else(|| answer.to_owned(), |style| accent(style, answer));
                lines.push(format!("{name}{between}{answer}"));
            }
            Row::Bar(bar) => {
                let drawn = drawn(drawing, bar, axis);
                let label = format!("  {:<width$}{drawn}", cut(&bar.label), width = LABEL - 2);
                if bar.end.chars().count() <= behind {
                    lines.push(format!("{label} {}", bar.end));
                } else {
                    lines.push(label);
                    lines.extend(wrapped(&bar.end, 6, width));
                }
            }
            Row::Pin { pin, is_presented } => {
                let mark = if *is_presented { accent(GOOD, "  * ") } else { "    ".to_owned() };
                lines.push(format!("{mark}{pin}"));
            }
            Row::Step { at, text } => {
                if let Some(at) = at {
                    let mut line = blank(axis, now);
                    set(&mut line, drawing.place(*at, axis - 1), b'!');
                    lines.push(format!("{:LABEL$}{}", "", text_of(line)).trim_end().to_owned());
                }
                lines.extend(wrapped(text, 2, width).iter().map(|line| accent(NOTE, line)));
            }
        }
    }
    if drawing.rows.is_empty() {
        lines.push(drawing.without_rows.to_owned());
    }
    lines.extend(wrapped(LEGEND, 0, width));
    lines.push(String::new());
    lines.join("\n")
}

/// The width of the text: the value of `COLUMNS`, or else the width of the terminal.
fn columns() -> usize {
    let (usual, least, most) = WIDTH;
    let configured = std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok());
    let terminal = || {
        let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
        (size.ws_col > 0).then_some(usize::from(size.ws_col))
    };
    configured.or_else(terminal).unwrap_or(usual).clamp(least, most)
}

/// The longest text after a bar, of those that fit, in columns.
fn longest_end(drawing: &Drawing, most: usize) -> usize {
    let ends = drawing.rows.iter().map(|row| match row {
        Row::Bar(bar) => bar.end.chars().count(),
        _ => 0,
    });
    ends.filter(|&end| end < most).max().unwrap_or(0)
}

/// Wraps a text at this width. The lines are indented, the later ones by two more columns. Two blanks
/// separate items, which are not split.
fn wrapped(text: &str, indent: usize, width: usize) -> Vec<String> {
    let separator = if text.contains("  ") { "  " } else { " " };
    let mut lines: Vec<String> = Vec::new();
    let mut line = " ".repeat(indent);
    let mut has_word = false;
    for word in text.split(separator) {
        let added = word.chars().count() + if has_word { separator.len() } else { 0 };
        if has_word && line.chars().count() + added > width {
            let next = " ".repeat(indent + 2);
            lines.push(std::mem::replace(&mut line, next));
            has_word = false;
        }
        if has_word {
            line.push_str(separator);
        }
        line.push_str(word);
        has_word = true;
    }
    lines.push(line);
    lines
}

/// Writes the dates at the axis: today, and those of the ends if there is space.
fn heading(drawing: &Drawing, axis: usize, now: usize) -> String {
    let days = [drawing.start, drawing.now, drawing.end].map(Drawing::day);
    let mut line = vec![b' '; axis];
    let places = [0, now.saturating_sub(days[1].len() / 2), axis - days[2].len()];
    // Today takes precedence over the dates of the ends.
    let ends = |at: usize| places[at] + days[at].len();
    for at in [0, 1, 2] {
        let is_apart = ends(at) < places[1] || places[at] > ends(1);
        if at != 1 && !is_apart {
            continue;
        }
        for (offset, byte) in days[at].bytes().enumerate() {
            set(&mut line, places[at] + offset, byte);
        }
    }
    format!("{:LABEL$}{}", "", text_of(line)).trim_end().to_owned()
}

fn drawn(drawing: &Drawing, bar: &Bar, axis: usize) -> String {
    let place = |time| drawing.place(time, axis - 1);
    let now = place(drawing.now);
    let mut line = blank(axis, now);
    let (solid, held) = match bar.kind {
        BarKind::Presented => (b'#', b'#'),
        BarKind::Held | BarKind::Waived => (b'=', b'-'),
    };
    let end = bar.until.map_or(axis - 1, place);
    for at in place(bar.from)..=end {
        let sign = if at <= place(bar.solid_until) { solid } else { held };
        set(&mut line, at, sign);
    }
    set(&mut line, now, b'|');
    if bar.until.is_none_or(|until| until > drawing.end) {
        set(&mut line, axis - 1, b'>');
    }
    text_of(line)
}

fn blank(axis: usize, now: usize) -> Vec<u8> {
    let mut line = vec![b' '; axis];
    set(&mut line, now, b'|');
    line
}

fn set(line: &mut [u8], at: usize, sign: u8) {
    if let Some(place) = line.get_mut(at) {
        *place = sign;
    }
}

fn text_of(line: Vec<u8>) -> String {
    String::from_utf8(line).unwrap_or_default()
}

/// Cuts a label to the width of its column.
fn cut(label: &str) -> String {
    let room = LABEL - 3;
    if label.chars().count() <= room {
        return label.to_owned();
    }
    let first: String = label.chars().take(room - 3).collect();
    format!("{first}...")
}
