//! Writes the timeline as an SVG image, which needs no font file, style sheet or script.

use std::fmt::Write as _;

use super::drawing::{Bar, BarKind, Drawing, Row};
use crate::status::report::Answer;

/// The document that contains the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A file of its own, which contains the style.
    File,
    /// An HTML page, whose style applies.
    Page,
}

const WIDTH: usize = 1_000;
const LEFT: usize = 230;
const AXIS: usize = WIDTH - LEFT - 20;
const LINE: usize = 24;
const TOP: usize = 44;
/// The space for the mark of a step, which would otherwise cover text.
const SIGN: usize = 14;

/// The style of the image, which a page around it uses too.
pub(super) const STYLE: &str = "\
.paper{fill:#fff}.ink{fill:#1b1f24}.soft{fill:#57606a}.host{font-weight:bold}.mono{font-family:monospace}\
.given{fill:#2563eb}.held{fill:#93b4f5}.waived{fill:#b8bec6}.presented{fill:#15803d}\
text{paint-order:stroke;stroke:#fff;stroke-width:4px;stroke-linejoin:round}\
.now{stroke:#c2410c;stroke-width:1.5}.step{fill:#c2410c}.good{fill:#15803d}.bad{fill:#b91c1c}\
@media(prefers-color-scheme:dark){.paper{fill:#14181d}text{stroke:#14181d}.ink{fill:#e6e9ed}.soft{fill:#9aa4ae}\
.step{fill:#fb923c}.held{fill:#1e3a8a}.waived{fill:#4b5560}.good,.presented{fill:#4ade80}.bad{fill:#f87171}}";

/// Writes the image.
pub(super) fn render(drawing: &Drawing, place: Place) -> String {
    let height = TOP + drawing.rows.iter().map(height_of).sum::<usize>() + LINE;
    let mut image = match place {
        Place::File => format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
             viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"12\" role=\"img\">\n\
             <title>Who holds which pins until when</title>\n<style>{STYLE}</style>\n"
        ),
        Place::Page => format!(
            "<svg width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" \
             font-family=\"sans-serif\" font-size=\"12\" role=\"img\" \
             aria-label=\"Who holds which pins until when\">\n"
        ),
    };
    let _ = writeln!(image, "<rect class=\"paper\" width=\"{WIDTH}\" height=\"{height}\"/>");
    axis(&mut image, drawing, height);
    let mut y = TOP;
    for row in &drawing.rows {
        self::row(&mut image, drawing, row, y);
        y += height_of(row);
    }
    image.push_str("</svg>\n");
    image
}

fn height_of(row: &Row) -> usize {
    match row {
        Row::Step { at: Some(_), .. } => LINE + SIGN,
        _ => LINE,
    }
}

/// Escapes a text for XML and HTML.
pub(super) fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // XML does not allow control characters, not even escaped.
            c if c.is_control() => escaped.push('?'),
            c => escaped.push(c),
        }
    }
    escaped
}

fn text(image: &mut String, x: usize, y: usize, class: &str, anchor: &str, words: &str) {
    let words = escaped(words);
    let _ = writeln!(
        image,
        "<text x=\"{x}\" y=\"{y}\" class=\"{class}\" text-anchor=\"{anchor}\">{words}</text>"
    );
}

fn axis(image: &mut String, drawing: &Drawing, height: usize) {
    let now = LEFT + drawing.place(drawing.now, AXIS);
    let day = |time| Drawing::day(time);
    text(image, LEFT, 18, "soft", "start", &day(drawing.start));
    text(image, LEFT + AXIS, 18, "soft", "end", &day(drawing.end));
    text(image, now, 34, "step", "middle", &format!("now, {}", day(drawing.now)));
    let _ = writeln!(
        image,
        "<line class=\"now\" x1=\"{now}\" y1=\"{}\" x2=\"{now}\" y2=\"{height}\"/>",
        TOP - 6
    );
}

fn row(image: &mut String, drawing: &Drawing, row: &Row, y: usize) {
    let base = y + 14;
    match row {
        Row::Host { name, answer } => {
            let (class, words) = match answer {
                Answer::Yes => ("good", "clients accept the presented keys"),
                Answer::No => ("bad", "clients are locked out"),
                Answer::Unknown => ("step", "unknown"),
                Answer::NotAsked => ("soft", "not asked"),
            };
            text(image, 10, base, "ink host", "start", name);
            text(image, LEFT + AXIS, base, class, "end", words);
        }
        Row::Bar(bar) => self::bar(image, drawing, bar, y),
        Row::Pin { pin, is_presented } => {
            let (class, words) = match is_presented {
                true => ("good mono", format!("{pin} (presented)")),
                false => ("soft mono", pin.clone()),
            };
            text(image, 34, base, class, "start", &words);
        }
        Row::Step { at, text: words } => {
            if let Some(at) = at {
                let x = LEFT + drawing.place(*at, AXIS);
                let _ = writeln!(
                    image,
                    "<path class=\"step\" d=\"M{x} {} l5 8 l-5 8 l-5 -8 z\"><title>{}</title></path>",
                    y + 2,
                    escaped(words)
                );
            }
            let base = base + height_of(row) - LINE;
            text(image, 22, base, "step", "start", words);
        }
    }
}

fn bar(image: &mut String, drawing: &Drawing, bar: &Bar, y: usize) {
    let place = |time| LEFT + drawing.place(time, AXIS);
    let (from, end) = (place(bar.from), bar.until.map_or(LEFT + AXIS, place));
    let solid = place(bar.solid_until).clamp(from, end.max(from));
    let (given, held) = match bar.kind {
        BarKind::Held => ("given", "held"),
        BarKind::Waived => ("waived", "waived"),
        BarKind::Presented => ("presented", "presented"),
    };
    let title = escaped(&format!("{}: {}", bar.label, bar.end));
    for (class, begin, end) in [(given, from, solid), (held, solid, end.max(from))] {
        let width = end - begin;
        let _ = writeln!(
            image,
            "<rect class=\"{class}\" x=\"{begin}\" y=\"{}\" width=\"{width}\" height=\"6\">\
             <title>{title}</title></rect>",
            y + 16
        );
    }
    if bar.until.is_none_or(|until| until > drawing.end) {
        let (x, y) = (LEFT + AXIS, y + 12);
        let _ = writeln!(image, "<path class=\"{held}\" d=\"M{x} {y} l9 7 l-9 7 z\"/>");
    }
    let label: String = bar.label.chars().take(32).collect();
    text(image, 22, y + 14, "ink", "start", &label);
    text(image, LEFT + 6, y + 12, "soft", "start", &bar.end);
}
