//! The overview: a card for each host.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use hpkp_core::ua::host::Host;
use maud::{Markup, html};

use super::range::{self, Range};
use super::shared::{Pages, Trouble, ask};
use super::text::{escaped, host_name, host_path, number, paging, text};
use super::{chart, layout};
use crate::configuration::Mode;
use crate::store::{Count, query};
use crate::understand::finding::{Class, Finding};

/// The number of hosts on one page.
const PAGE: usize = 60;

pub(super) async fn show(
    State(pages): State<Arc<Pages>>,
    Query(query): Query<range::Query>,
) -> Result<Response, Trouble> {
    let range = Range::of(&query);
    let filter = range.filter(None);
    let counts = ask(&pages, move |backend| query::counts(backend, &filter)).await?;
    let mut hosts: BTreeMap<&str, Vec<&Count>> = BTreeMap::new();
    for count in &counts {
        hosts.entry(&count.host).or_default().push(count);
    }
    let mut hosts: Vec<(&str, Vec<&Count>)> = hosts.into_iter().collect();
    hosts.sort_by_key(|(host, counts)| (std::cmp::Reverse(urgency(counts)), *host));
    let count = hosts.len().div_ceil(PAGE).max(1);
    let page = usize::try_from(query.page()).unwrap_or(1).clamp(1, count);
    let content = html! {
        h1 { "Violation reports by host" }
        (notices(&pages))
        @if hosts.is_empty() { (nothing(&pages, &range)) }
        @if count > 1 { p { (number(hosts.len() as i64)) " hosts, the most urgent first. Search for one to see it alone." } }
        @if !hosts.is_empty() { (legend()) }
        ul.cards {
            @for (host, counts) in hosts.iter().skip((page - 1) * PAGE).take(PAGE) {
                (card(&pages, host, counts, &range))
            }
        }
        (paging("/", &range.query(), page as i64, count as i64))
    };
    Ok(layout::page(pages.signs_out(), "Overview", Some((&range, "/")), &content).into_response())
}

fn urgency(counts: &[&Count]) -> (Option<Class>, i64) {
    let class = counts.iter().map(|count| chart::class(&count.finding)).max();
    (class, counts.iter().map(|count| count.count).sum())
}

/// Notices about problems that may make verdicts wrong or prevent storing.
pub(super) fn notices(pages: &Pages) -> Markup {
    let knowledge = pages.judge.knowledge();
    let problems: Vec<&String> = knowledge.problems().collect();
    let error = pages.writer.health().error;
    html! {
        @if let Some(error) = error {
            p.notice role="alert" { strong { "Reports are not being stored. " } (text(&error.to_string())) }
        }
        @if !problems.is_empty() {
            div.notice {
                p { strong { "Verdicts may be wrong: " } "the records or the trusted certificates could not be read." }
                ul { @for problem in problems { li { (text(problem)) } } }
            }
        }
    }
}

/// The text for a range without reports, which proves nothing.
fn nothing(pages: &Pages, range: &Range) -> Markup {
    html! {
        p {
            "No report from " (range.first_day()) " to " (range.last_day())
            @if !range.text.is_empty() { " for \"" (text(&range.text)) "\"" }
            "."
        }
        p {
            "That proves nothing: no browser sends these reports today, so silence may also mean that nobody "
            "reports. To see that reports arrive: " code { "hpkp analyze HOST --test-report" } ". "
            "Reports are kept for " (pages.days) " days."
        }
    }
}

/// The legend of the colours.
pub(super) fn legend() -> Markup {
    html! {
        ul.legend aria-label="Colours" {
            li { span.key.urgent {} "urgent" }
            li { span.key.unexplained {} "unexplained" }
            li { span.key.noise {} "noise" }
        }
    }
}

fn card(pages: &Pages, host: &str, counts: &[&Count], range: &Range) -> Markup {
    html! {
        li.card {
            h2 { a href=(format!("{}?{}", host_path(host), range.query())) { (host_name(host)) } }
            p.mode { (mode(pages, host, counts)) }
            (chart::chart(counts, range))
            (findings(counts, host, range))
        }
    }
}

/// The mode, enforced or report-only: from the configuration or records, else from reports.
pub(super) fn mode(pages: &Pages, host: &str, counts: &[&Count]) -> &'static str {
    let configured =
        Host::parse(host).ok().and_then(|host| pages.judge.knowledge().own.mode(&host));
    match configured {
        Some(Mode::Enforced) => "enforced",
        Some(Mode::ReportOnly) => "report-only",
        None if counts.iter().any(|count| count.mode == "enforced") => "enforced, as clients say",
        None if counts.iter().any(|count| count.mode == "report-only") => {
            "report-only, as clients say"
        }
        None => "no policy of ours is known",
    }
}

/// Violations and groups by finding, the most urgent first.
pub(super) fn findings(counts: &[&Count], host: &str, range: &Range) -> Markup {
    let mut sums: BTreeMap<&str, (i64, i64)> = BTreeMap::new();
    for count in counts {
        let sum = sums.entry(&count.finding).or_default();
        sum.0 += count.count;
        sum.1 += count.groups;
    }
    let mut sums: Vec<(&str, (i64, i64))> = sums.into_iter().collect();
    sums.sort_by_key(|(code, (count, _))| {
        (std::cmp::Reverse(chart::class(code)), std::cmp::Reverse(*count))
    });
    html! {
        ul.findings {
            @for (code, (count, groups)) in sums {
                @let title = Finding::of_code(code).map_or(code, |one| one.title());
                li {
                    span class=(format!("key {}", chart::class(code).name())) {}
                    a.title href=(format!(
                        "{}?from={}&to={}&q={}", host_path(host), range.first_day(), range.last_day(), escaped(code)
                    )) { (title) }
                    span.number {
                        (number(count)) " in " (number(groups)) @if groups == 1 { " group" } @else { " groups" }
                    }
                }
            }
        }
    }
}
