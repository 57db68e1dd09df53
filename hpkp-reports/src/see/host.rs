//! The page of one host: its groups by verdict.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use hpkp_core::date;
use maud::{Markup, html};

use super::range::{self, Range};
use super::shared::{Pages, Trouble, ask};
use super::text::{host_name, host_path, number, paging, text};
use super::{chart, layout, overview};
use crate::store::{Count, Group, query};
use crate::understand::finding::{Class, Finding};

/// The number of groups on one page.
const PAGE: i64 = 100;

pub(super) async fn show(
    State(pages): State<Arc<Pages>>,
    Path(host): Path<String>,
    Query(query): Query<range::Query>,
) -> Result<Response, Trouble> {
    let range = Range::of(&query);
    let page = i64::from(query.page());
    let filter = range.filter(Some(&host));
    let asked = ask(&pages, move |backend| {
        let counts = query::counts(backend, &filter)?;
        Ok((counts, query::groups(backend, &filter, PAGE, (page - 1) * PAGE)?))
    });
    let (counts, groups) = asked.await?;
    let all: i64 = counts.iter().map(|count| count.groups).sum();
    let counts: Vec<&Count> = counts.iter().collect();
    let path = host_path(&host);
    let content = html! {
        p.back { a href=(format!("/?{}", range.days())) { "All hosts" } }
        h1 { (host_name(&host)) }
        p.mode { (overview::mode(&pages, &host, &counts)) }
        (overview::notices(&pages))
        (chart::chart(&counts, &range))
        (overview::legend())
        @if groups.is_empty() { p { "No group in this range." } }
        @if all > PAGE { (overview::findings(&counts, &host, &range)) }
        (by_finding(&groups))
        (paging(&path, &range.query(), page, (all + PAGE - 1) / PAGE))
    };
    Ok(layout::page(pages.signs_out(), &host, Some((&range, &path)), &content).into_response())
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
            span.number { (number(group.count)) @if group.count == 1 { " violation" } @else { " violations" } }
            @if !group.detail.is_empty() { span.detail { (text(&group.detail)) } }
        }
    }
}
