//! The web pages, rendered by the server and without scripts, and the metrics.
//!
//! Data flow: groups of the store and knowledge of the judge → `overview`, `host`, `group` → HTML. maud escapes all
//! text, and `text` makes foreign text printable.

mod access;
mod chart;
mod door;
mod group;
mod host;
mod layout;
mod metrics;
mod overview;
mod range;
mod shared;
mod text;

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use maud::html;

use crate::configuration::Configuration;

pub use access::{Access, first_line};
pub use shared::Pages;

/// The style sheet, the same for all pages.
const STYLE: &str = include_str!("style.css");

/// The icon of the pages: a pin.
const ICON: &str = "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 16 16\">\
    <circle cx=\"8\" cy=\"5\" r=\"4\" fill=\"#b42318\"/><path d=\"M7 8h2l-1 8z\" fill=\"#5b6776\"/></svg>";

/// The URL of the pages: the configured one, else the address of the listener.
#[must_use]
pub fn base_address(configuration: &Configuration) -> Option<String> {
    let pages = &configuration.pages;
    if let Some(url) = &pages.url {
        return Some(url.0.trim_end_matches('/').to_owned());
    }
    let scheme = if configuration.tls.is_some() { "https" } else { "http" };
    pages.listen.map(|listen| format!("{scheme}://{listen}"))
}

/// The routes of the pages.
pub fn routes(pages: &Arc<Pages>) -> Router {
    let readers = Router::new()
        .route("/", get(overview::show))
        .route("/host/{host}", get(host::show))
        .route("/group/{id}", get(group::show))
        .route("/group/{id}/raw", get(group::raw))
        .route("/metrics", get(metrics::show))
        .route_layer(from_fn_with_state(Arc::clone(pages), door::guard));
    Router::new()
        .merge(readers)
        .route("/login", get(door::form).post(door::login))
        .route("/logout", axum::routing::post(door::logout))
        .route("/style.css", get(style))
        .route("/icon.svg", get(icon))
        .fallback(not_found)
        .with_state(Arc::clone(pages))
        .layer(from_fn(secured))
        .merge(health_routes(pages))
}

/// The route `/healthz`, for programs that monitor the process.
pub fn health_routes(pages: &Arc<Pages>) -> Router {
    Router::new().route("/healthz", get(health)).with_state(Arc::clone(pages))
}

async fn health(State(pages): State<Arc<Pages>>) -> StatusCode {
    match pages.writer.health().error {
        None => StatusCode::OK,
        Some(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}

async fn style() -> impl IntoResponse {
    let headers = [(CONTENT_TYPE, "text/css; charset=utf-8"), (CACHE_CONTROL, "max-age=3600")];
    (headers, STYLE)
}

async fn icon() -> impl IntoResponse {
    ([(CONTENT_TYPE, "image/svg+xml"), (CACHE_CONTROL, "max-age=86400")], ICON)
}

async fn not_found() -> Response {
    let content = html! { h1 { "Not found" } p { a href="/" { "Overview" } } };
    (StatusCode::NOT_FOUND, layout::plain("Not found", &content)).into_response()
}

/// Adds header fields that forbid browsers to run scripts, to frame the page or to cache it.
async fn secured(request: axum::extract::Request, next: axum::middleware::Next) -> Response {
    const FIELDS: [(&str, &str); 6] = [
        (
            "content-security-policy",
            "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
        ),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
    ];
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in FIELDS {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}
