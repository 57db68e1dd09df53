//! One host: its groups by verdict.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use hpkp_core::date;
use maud::{Markup, html};

use super::range::{self, Range};
use super::shared::{Pages, Trouble, ask, host_path, text};
use super::{chart, layout, overview};
use crate::store::{Count, Group, query};
use crate::understand::finding::{Class, Finding};

/// Groups on one page.
const PAGE: i64 = 100;

pub(super) async fn show(
    State(pages): State<Arc<Pages>>,
    Path(host): Path<String>,
    Query(query): Query<range::Query>,
) -> Result<Response, Trouble> {
    let range = Range::of(&query);
    let number = i64::from(query.page.max(1));
    let filter = range.filter(Some(&host));
    let asked = ask(&pages, move |backend| {
        let counts = query::counts(backend, &filter)?;
        Ok((counts, query::groups(backend, &filter, PAGE + 1, (number - 1) * PAGE)?))
    });
    let (counts, mut groups) = asked.await?;
    let has_more = groups.len() > PAGE as usize;
    groups.truncate(PAGE as usize);
    let counts: Vec<&Count> = counts.iter().collect();
    let path = host_path(&host);
    let content = html! {
        h1 { (text(&host)) }
        p.mode { (overview::mode(&pages, &host, &counts)) }
        (overview::notices(&pages))
        (chart::chart(&counts, &range))
        (overview::legend())
        @if groups.is_empty() { p { "No group in this range." } }
        (by_finding(&groups))
        nav.more aria-label="More groups" {
            @if number > 1 { a href=(format!("{path}?{}&page={}", range.query(), number - 1)) { "Newer groups" } }
            @if has_more { a href=(format!("{path}?{}&page={}", range.query(), number + 1)) { "Older groups" } }
        }
    };
    Ok(layout::page(&host, Some((&range, &path)), &content).into_response())
}

fn by_finding(groups: &[Group]) -> Markup {
    let mut found: BTreeMap<(Reverse<Class>, &str), Vec<&Group>> = BTreeMap::new();
    for group in groups {
        let class = chart::class(&group.finding);
        found.entry((Reverse(class), &group.finding)).or_default().push(group);
    }
    html! {
        @for ((Reverse(class), code), groups) in &found {
            section {
                h2 {
                    span class=(format!("key {}", class.name())) {}
                    (Finding::of_code(code).map_or(*code, |one| one.title()))
                }
                p.code { (class.name()) ", " code { (code) } }
                ul.groups { @for group in groups { (line(group)) } }
            }
        }
    }
}

fn line(group: &Group) -> Markup {
    html! {
        li {
            a href=(format!("/group/{}", group.id)) {
                (date::format(group.last_seen)) ", " (group.client)
            }
            span.number { (group.count) @if group.count == 1 { " violation" } @else { " violations" } }
            @if !group.detail.is_empty() { span.detail { (text(&group.detail)) } }
        }
    }
}
