//! The timeline as lines of text, in ASCII: every terminal and every mail shows it.

use super::drawing::{Bar, BarKind, Drawing, Row};
use crate::output::{self, BAD, GOOD, NOTE};
use crate::status::report::Answer;

/// Columns of the labels.
const LABEL: usize = 26;

/// Columns where nobody says how many there are, and the fewest and the most that are used.
const WIDTH: (usize, usize, usize) = (100, 60, 200);

/// The lines.
pub(super) fn render(drawing: &Drawing, has_colours: bool) -> String {
    let (usual, least, most) = WIDTH;
    let columns = std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok());
    // The words behind the bars have room too, if that leaves the axis half of it.
    let room = columns.unwrap_or(usual).clamp(least, most) - LABEL;
    let axis = room.saturating_sub(longest_end(drawing) + 1).max(room / 2);
    let accent = |style, text: &str| match has_colours {
        true => output::accent(style, text),
        false => text.to_owned(),
    };
    let now = drawing.place(drawing.now, axis - 1);
    let mut lines = vec![heading(drawing, axis, now)];
    for row in &drawing.rows {
        lines.push(match row {
            Row::Host { name, answer } => {
                let answer = match answer {
                    Answer::Yes => accent(GOOD, " (clients accept the presented keys)"),
                    Answer::No => accent(BAD, " (clients are locked out)"),
                    Answer::Unknown => accent(NOTE, " (unknown)"),
                    Answer::NotAsked => " (not asked)".to_owned(),
                };
                format!("{name}{answer}")
            }
            Row::Bar(bar) => {
                format!(
                    "  {:<width$}{} {}",
                    cut(&bar.label),
                    drawn(drawing, bar, axis),
                    bar.end,
                    width = LABEL - 2
                )
            }
            Row::Pin { pin, is_presented } => {
                let mark = if *is_presented { accent(GOOD, "  * ") } else { "    ".to_owned() };
                format!("{mark}{pin}")
            }
            Row::Step { at, text } => {
                let mark = at.map(|at| {
                    let mut line = blank(axis, now);
                    set(&mut line, drawing.place(at, axis - 1), b'!');
                    format!("{:LABEL$}{}\n", "", text_of(line))
                });
                format!("{}  {}", mark.unwrap_or_default(), accent(NOTE, text))
            }
        });
    }
    if drawing.rows.is_empty() {
        lines.push("no recorded pins that clients may still hold".to_owned());
    }
    lines.push(
        "= clients get the pins  - clients hold them  > without end  # presented  * pin of a presented key  \
         | now  ! next step"
            .to_owned(),
    );
    lines.push(String::new());
    lines.join("\n")
}

/// How many columns the longest of the words behind the bars have.
fn longest_end(drawing: &Drawing) -> usize {
    let ends = drawing.rows.iter().map(|row| match row {
        Row::Bar(bar) => bar.end.chars().count(),
        _ => 0,
    });
    ends.max().unwrap_or(0)
}

/// Today at its place, and the days at the ends of the axis where they leave it room.
fn heading(drawing: &Drawing, axis: usize, now: usize) -> String {
    let days = [drawing.start, drawing.now, drawing.end].map(Drawing::day);
    let mut line = vec![b' '; axis];
    let places = [0, now.saturating_sub(days[1].len() / 2), axis - days[2].len()];
    // Today is worth more than either end.
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

/// A label that fits its column.
fn cut(label: &str) -> String {
    let room = LABEL - 3;
    if label.chars().count() <= room {
        return label.to_owned();
    }
    let first: String = label.chars().take(room - 3).collect();
    format!("{first}...")
}
