//! The page of one group: the verdict (an attack, a proxy or our own mistake), the chain as a tree, and our pins.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use hpkp_core::certificate::Certificate;
use hpkp_core::pin::Pin;
use hpkp_core::ua::host::Host;
use hpkp_core::ua::received::{self, Received};
use hpkp_core::{ca_table, date};
use maud::{Markup, html};

use super::shared::{Pages, Trouble, ask};
use super::text::{host_name, host_path, number, text};
use super::{chart, layout};
use crate::names::unicode;
use crate::store::{Group, query};
use crate::time::day_text;
use crate::understand::finding::Finding;
use crate::understand::own::OwnPinOf;
use crate::understand::{Verdict, chain_fingerprint, parsed};

/// The most names that the page lists for a certificate.
const MAX_NAMES: usize = 10;

pub(super) async fn show(
    State(pages): State<Arc<Pages>>,
    Path(id): Path<String>,
) -> Result<Response, Trouble> {
    let asked = ask(&pages, move |backend| {
        let group = query::group(backend, &id)?;
        Ok((group, query::raw(backend, &id)?, query::addresses(backend, &id)?))
    });
    let (Some(group), raw, addresses) = asked.await? else {
        let content = html! {
            h1 { "No such group" }
            p { "It may have been deleted: groups are kept for " (pages.days) " days." }
            p { a href="/" { "Overview" } }
        };
        let page = layout::page(pages.signs_out(), "No such group", None, &content);
        return Ok((StatusCode::NOT_FOUND, page).into_response());
    };
    let contents = received::read(&raw).unwrap_or_default();
    let report = contents.reports.into_iter().find(|report| {
        chain_fingerprint(report) == group.chain && report.host.as_str() == group.host
    });
    let now = report.as_ref().map(|report| pages.judge.verdict(report, group.first_seen));
    let own = Host::parse(&group.host).ok();
    let own = own.map(|host| pages.judge.knowledge().own.pins(&host)).unwrap_or_default();
    let finding =
        Finding::of_code(&group.finding).map_or(group.finding.as_str(), |one| one.title());
    let title = format!("{finding}, {}", group.host);
    let content = html! {
        p.back { a href=(host_path(&group.host)) { "All groups of " (host_name(&group.host)) } }
        (verdict(&group, now.as_ref()))
        (facts(&group, report.as_ref(), &addresses))
        @if let Some(report) = &report {
            div.beside {
                section { h2 { "What was served" } (chain(report, &own)) }
                section { h2 { "Pins" } (pins(report, &own)) }
            }
        }
        @if raw.is_empty() {
            p { "No report of this group is kept." }
        } @else {
            p { a href=(format!("/group/{}/raw", group.id)) { "The first report, as it was received" } }
        }
    };
    Ok(layout::page(pages.signs_out(), &title, None, &content).into_response())
}

/// The first report, as a plain-text download that a browser does not execute.
pub(super) async fn raw(
    State(pages): State<Arc<Pages>>,
    Path(id): Path<String>,
) -> Result<Response, Trouble> {
    let raw = ask(&pages, move |backend| query::raw(backend, &id)).await?;
    if raw.is_empty() {
        return Ok(StatusCode::NOT_FOUND.into_response());
    }
    let headers = [
        (CONTENT_TYPE, "text/plain; charset=utf-8"),
        (CONTENT_DISPOSITION, "attachment; filename=\"report.json\""),
    ];
    Ok((headers, raw).into_response())
}

fn verdict(group: &Group, now: Option<&Verdict>) -> Markup {
    let finding = Finding::of_code(&group.finding);
    let class = chart::class(&group.finding).name();
    let changed = now.filter(|now| Some(now.finding) != finding);
    html! {
        h1 {
            span class=(format!("key {class}")) {}
            (finding.map_or(group.finding.as_str(), |one| one.title()))
        }
        section class=(format!("answer {class}")) {
            h2 { "Is this an attack, a proxy, or our own mistake?" }
            @match finding {
                Some(finding) => {
                    p { strong { (finding.answer()) } }
                    p { "To do: " (advice(finding, &group.host)) }
                }
                None => p { "A later version of the program knows this finding." }
            }
            p.code { (class) ", " code { (group.finding) } }
        }
        @if let Some(now) = changed {
            p.notice {
                strong { "With what is known now, the verdict would be: " } (now.finding.title())
                " (" code { (now.finding.code()) } ")"
            }
        }
    }
}

/// The advice. A command in it gets the host, so that it can be pasted.
fn advice(finding: Finding, host: &str) -> Markup {
    const COMMAND: &str = "hpkp published why HOST";
    let advice = finding.advice();
    let Some((before, after)) = advice.split_once(COMMAND) else { return html! { (advice) } };
    let (options, after) = match after.strip_prefix(" --port 25") {
        Some(after) => (" --port 25", after),
        None => ("", after),
    };
    html! { (before) code { (COMMAND.replace("HOST", host)) (options) } (after) }
}

fn facts(group: &Group, report: Option<&Received>, addresses: &[String]) -> Markup {
    let port = group.port.map_or(String::new(), |port| port.to_string());
    let clients = match group.clients {
        1 => "about 1 client".to_owned(),
        many => format!("about {} clients", number(many)),
    };
    let of =
        |get: fn(&Received) -> Option<&str>| report.and_then(get).unwrap_or_default().to_owned();
    let reported = report.and_then(|report| report.report.date_time).map(date::format);
    let facts = [
        ("Host", group.host.clone()),
        ("Written as", unicode(&group.host).unwrap_or_default()),
        ("Port", port),
        ("Detail", group.detail.clone()),
        ("Violations", format!("{}, of {clients}", number(group.count))),
        ("Clients", group.client.clone()),
        ("App", of(|report| report.app.as_deref())),
        ("Reason given", of(|report| report.result.as_deref())),
        ("Mail server", of(|report| report.server.as_deref())),
        ("Policy", group.mode.clone()),
        ("Day", day_text(group.day)),
        ("First received", date::format(group.first_seen)),
        ("Last received", date::format(group.last_seen)),
        ("Time in the first report", reported.unwrap_or_default()),
        ("Format", group.format.clone()),
        ("Addresses", addresses.join(", ")),
    ];
    html! {
        dl.facts {
            @for (name, fact) in facts.iter().filter(|(_, fact)| !fact.is_empty()) {
                div { dt { (name) } dd { (text(fact)) } }
            }
        }
    }
}

/// The chain, from the issuer of the last certificate down to the leaf.
fn chain(report: &Received, own: &[OwnPinOf]) -> Markup {
    let certificates = parsed(report.chain());
    if certificates.is_empty() {
        return html! {
            p { "The report has no certificates." }
            @if !report.served_pins.is_empty() {
                ul.pins { @for pin in &report.served_pins { li { (pin_line(*pin, own)) } } }
            }
        };
    }
    let top = certificates.last().filter(|last| !last.is_self_issued()).map(Certificate::issuer);
    let inner = branch(&certificates, own);
    html! {
        ul.tree {
            @match top {
                Some(issuer) => li {
                    div.certificate.absent { p.subject { (text(issuer)) } p { "not in the report" } }
                    ul { (inner) }
                }
                None => (inner)
            }
        }
    }
}

/// The last certificate, with the certificates that it issued below it.
fn branch(certificates: &[Certificate], own: &[OwnPinOf]) -> Markup {
    let mut inner = html! {};
    for (place, certificate) in certificates.iter().enumerate() {
        let role = match place {
            0 => "leaf",
            _ if certificate.is_self_issued() => "root",
            _ => "intermediate",
        };
        inner = html! {
            li {
                (one(certificate, role, own))
                @if place > 0 { ul { (inner) } }
            }
        };
    }
    inner
}

fn one(certificate: &Certificate, role: &str, own: &[OwnPinOf]) -> Markup {
    let names = certificate.dns_names();
    let first_names =
        names.iter().take(MAX_NAMES).map(String::as_str).collect::<Vec<_>>().join(", ");
    html! {
        div.certificate {
            p.role { (role) }
            p.subject { (text(certificate.subject())) }
            p { "issued by " (text(certificate.issuer())) }
            p { "valid from " (date::format(certificate.not_before())) " to " (certificate.not_after_text()) }
            @if !names.is_empty() {
                p {
                    "for " (text(&first_names))
                    @if names.len() > MAX_NAMES { " and " (names.len() - MAX_NAMES) " more" }
                }
            }
            @match certificate.pin() {
                Some(pin) => p { (pin_line(pin, own)) }
                None => p { "a key without a pin" }
            }
        }
    }
}

/// A pin, and whether it is ours or of a known CA.
fn pin_line(pin: Pin, own: &[OwnPinOf]) -> Markup {
    let is_own = own.iter().any(|one| one.pin == pin);
    let ca = ca_table::find(pin);
    html! {
        code { "sha256/" (pin) }
        @if is_own { " " strong.own { "ours" } }
        @if let Some(ca) = ca { " " span { "key of " (ca.operator) } }
    }
}

fn pins(report: &Received, own: &[OwnPinOf]) -> Markup {
    let served: Vec<Pin> = match report.chain() {
        [] => report.served_pins.clone(),
        chain => chain.iter().map(|one| one.pin).collect(),
    };
    let known = &report.report.known_pins;
    html! {
        h3 { "Our pins now" }
        @if own.is_empty() {
            p { "No pins of ours are on record for this host, so nobody can tell whether a key is ours." }
        }
        ul.pins {
            @for one in own {
                li {
                    code { "sha256/" (one.pin) }
                    " " span { (text(&one.origin)) }
                    @if served.contains(&one.pin) { " " strong.own { "served" } }
                }
            }
        }
        h3 { "Pins that the client holds" }
        @if known.is_empty() { p { "The report does not say." } }
        ul.pins {
            @for pin in known {
                li {
                    (pin_line(*pin, own))
                    @if !own.is_empty() && !own.iter().any(|one| one.pin == *pin) {
                        " " span { "not on record: an old policy, or the report is made up" }
                    }
                }
            }
        }
    }
}
