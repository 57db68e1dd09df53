//! Metrics for Prometheus (text format 0.0.4).

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};

use super::chart;
use super::shared::{Pages, Trouble, ask};
use crate::receive::Refused;
use crate::store::{Filter, alarms, query};
use crate::time::{day, now};

pub(super) async fn show(State(pages): State<Arc<Pages>>) -> Result<Response, Trouble> {
    let today = day(now());
    let filter = Filter { from: today, to: today, ..Filter::default() };
    let counts = ask(&pages, move |backend| query::counts(backend, &filter)).await?;
    let counters = &pages.receiver.counters;
    let mut text = String::new();
    let mut metric = |name: &str, kind: &str, help: &str, lines: &[(String, u64)]| {
        let _ =
            write!(text, "# HELP hpkp_reports_{name} {help}\n# TYPE hpkp_reports_{name} {kind}\n");
        for (labels, value) in lines {
            let _ = writeln!(text, "hpkp_reports_{name}{labels} {value}");
        }
    };
    let accepted = counters.accepted.load(Ordering::Relaxed);
    metric("accepted_total", "counter", "Reports that are stored.", &[(String::new(), accepted)]);
    let passed_over = counters.passed_over.load(Ordering::Relaxed);
    let help = "Items in envelopes that are reports of other kinds, or cannot be used.";
    metric("passed_over_total", "counter", help, &[(String::new(), passed_over)]);
    let refused = Refused::ALL.iter().zip(&counters.refused).map(|(why, count)| {
        (format!("{{reason=\"{}\"}}", why.name()), count.load(Ordering::Relaxed))
    });
    metric("refused_total", "counter", "Requests that were refused.", &refused.collect::<Vec<_>>());
    let today = counts.iter().map(|count| {
        let class = chart::class(&count.finding).name();
        let labels = format!(
            "{{host=\"{}\",finding=\"{}\",class=\"{class}\"}}",
            label(&count.host),
            label(&count.finding)
        );
        (labels, u64::try_from(count.count).unwrap_or_default())
    });
    let help = "Violations that were reported today.";
    metric("violations_today", "gauge", help, &today.collect::<Vec<_>>());
    let health = pages.writer.health();
    let is_up = u64::from(health.error.is_none());
    metric(
        "store_up",
        "gauge",
        "Whether the last transaction succeeded.",
        &[(String::new(), is_up)],
    );
    metric("commits_total", "counter", "Transactions.", &[(String::new(), health.commits)]);
    if let Some(size) = health.size {
        metric("store_bytes", "gauge", "Bytes of the database.", &[(String::new(), size.used)]);
        metric(
            "store_limit_bytes",
            "gauge",
            "Limit of the database in bytes.",
            &[(String::new(), size.limit)],
        );
    }
    let waiting = ask(&pages, alarms::waiting).await?;
    let waiting = u64::try_from(waiting).unwrap_or_default();
    let help = "Alarms that are not sent yet.";
    metric("alarms_waiting", "gauge", help, &[(String::new(), waiting)]);
    let problems = pages.judge.knowledge().problems().count() as u64;
    let help = "Records and trusted certificates that could not be read.";
    metric("problems", "gauge", help, &[(String::new(), problems)]);
    Ok(([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response())
}

fn label(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
