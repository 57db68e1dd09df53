//! Draws violations by day as bars: an SVG in the page, without its own styles.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::range::Range;
use super::text::number;
use crate::store::Count;
use crate::time::day_text;
use crate::understand::finding::{Class, Finding};

/// The most bars. With more days, several days share a bar.
const BARS: i64 = 60;

/// The height, and the width of a bar with the gap after it.
const HEIGHT: f64 = 48.0;
const STEP: i64 = 6;

/// The class of a finding in the store. A code of a later version counts as unexplained.
pub(super) fn class(code: &str) -> Class {
    Finding::of_code(code).map_or(Class::Unexplained, Finding::class)
}

/// A chart of these counts.
pub(super) fn chart(counts: &[&Count], range: &Range) -> Markup {
    let days = (range.to - range.from + 1).max(1);
    let each = (days + BARS - 1) / BARS;
    let bars = (days + each - 1) / each;
    let mut by_bar: BTreeMap<i64, [i64; 3]> = BTreeMap::new();
    for count in counts {
        let place = match class(&count.finding) {
            Class::Urgent => 0,
            Class::Unexplained => 1,
            Class::Noise => 2,
        };
        by_bar.entry((count.day - range.from) / each).or_default()[place] += count.count;
    }
    let most = by_bar.values().map(|bar| bar.iter().sum::<i64>()).max().unwrap_or_default().max(1);
    let total: i64 = by_bar.values().flatten().sum();
    let (from, to) = (day_text(range.from), day_text(range.to));
    let label = format!("{total} violations from {from} to {to}; at most {most} in one bar");
    html! {
        svg.chart viewBox=(format!("0 0 {} {HEIGHT}", bars * STEP)) preserveAspectRatio="none" role="img"
            aria-label=(label) {
            line.axis x1="0" y1=(HEIGHT) x2=(bars * STEP) y2=(HEIGHT) {}
            @for (bar, counts) in &by_bar { (column(*bar, counts, most, range.from + bar * each)) }
        }
        p.scale aria-hidden="true" { span { (from) } span { "max. " (number(most)) } span { (to) } }
    }
}

/// One bar, with the urgent part at the bottom.
fn column(bar: i64, counts: &[i64; 3], most: i64, day: i64) -> Markup {
    let mut parts = Vec::new();
    let mut y = HEIGHT;
    for (count, class) in counts.iter().zip([Class::Urgent, Class::Unexplained, Class::Noise]) {
        if *count > 0 {
            // Small counts get a minimum height, to stay visible.
            let height = (*count as f64 / most as f64 * (HEIGHT - 2.0)).max(1.5);
            y = (y - height).max(0.0);
            parts.push((class.name(), y, height, *count));
        }
    }
    html! {
        g {
            title { (day_text(day)) @for (name, _, _, count) in &parts { ", " (name) " " (count) } }
            @for (name, y, height, _) in &parts {
                rect class=(name) x=(bar * STEP) y=(format!("{y:.1}")) width=(STEP - 1)
                    height=(format!("{height:.1}")) {}
            }
        }
    }
}
