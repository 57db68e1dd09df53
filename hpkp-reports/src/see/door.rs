//! Signs readers in and out: requests without access get the form for the token.

use std::sync::Arc;

use axum::extract::{Form, Query, Request, State};
use axum::http::header::{AUTHORIZATION, LOCATION, SET_COOKIE, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use maud::html;
use serde::Deserialize;

use super::access::COOKIE_NAME;
use super::layout;
use super::shared::Pages;
use super::text::escaped;
use crate::receive::Peer;

/// Lets authorised requests through, and redirects others to the form.
pub(super) async fn guard(
    State(pages): State<Arc<Pages>>,
    request: Request,
    next: Next,
) -> Response {
    let peer = request.extensions().get::<Peer>().map(|peer| peer.0);
    if pages.access.allows(request.headers(), peer) {
        return next.run(request).await;
    }
    let is_machine =
        request.uri().path() == "/metrics" || request.headers().contains_key(AUTHORIZATION);
    match (pages.access.has_token(), is_machine) {
        (true, true) => {
            let challenge = [(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))];
            (StatusCode::UNAUTHORIZED, challenge).into_response()
        }
        (true, false) => {
            to(&login_path(request.uri().path_and_query().map_or("/", |to| to.as_str())))
        }
        (false, _) => {
            let content = html! {
                h1 { "Not allowed" }
                p { "Only readers whom the proxy in front names may see these pages, and readers on this \
                     machine by its loopback address." }
            };
            (StatusCode::FORBIDDEN, layout::plain("Not allowed", &content)).into_response()
        }
    }
}

fn to(path: &str) -> Response {
    (StatusCode::SEE_OTHER, [(LOCATION, path)]).into_response()
}

/// The path of the form, with the wanted page as a parameter.
fn login_path(wanted: &str) -> String {
    match inner(wanted) {
        "/" => "/login".to_owned(),
        wanted => format!("/login?to={}", escaped(wanted)),
    }
}

/// The path if it is one of these pages, else that of the overview. This prevents redirects to other sites.
fn inner(path: &str) -> &str {
    let is_page = ["/host/", "/group/", "/?"].iter().any(|start| path.starts_with(start));
    let is_plain = path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    if is_page && is_plain { path } else { "/" }
}

/// The form for the token.
pub(super) async fn form(Query(wanted): Query<Wanted>) -> Response {
    entry(false, inner(&wanted.to)).into_response()
}

/// The parameters of the form.
#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    #[serde(default)]
    to: String,
}

fn entry(is_wrong: bool, wanted: &str) -> maud::Markup {
    let content = html! {
        h1 { "Violation reports" }
        // The cookie is SameSite=Strict: a browser sends it after a click on this link, but not on one in a mail.
        @if wanted != "/" && !is_wrong { p { a href=(wanted) { "Continue, if you have signed in already" } } }
        form.login method="post" action="/login" {
            input type="hidden" name="to" value=(wanted);
            label for="token" { "Token" }
            input #token name="token" type="password" autocomplete="current-password" required
                aria-describedby=[is_wrong.then_some("wrong")];
            @if is_wrong {
                p #wrong.urgent role="alert" { "That is not the token." }
            }
            button type="submit" { "Read" }
        }
    };
    layout::plain("Sign in", &content)
}

/// The fields of the form.
#[derive(Debug, Deserialize)]
pub(super) struct Login {
    token: String,
    #[serde(default)]
    to: String,
}

/// Checks the token and sets the session cookie.
pub(super) async fn login(State(pages): State<Arc<Pages>>, Form(login): Form<Login>) -> Response {
    let is_right = pages.access.is_token(login.token.trim());
    let Some(cookie) = pages.access.cookie().filter(|_| is_right) else {
        // The pause slows down guessing.
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        return (StatusCode::FORBIDDEN, entry(true, inner(&login.to))).into_response();
    };
    let wanted = inner(&login.to).to_owned();
    let cookie = set(&pages, &cookie, "");
    (StatusCode::SEE_OTHER, [(LOCATION, wanted), (SET_COOKIE, cookie)]).into_response()
}

fn set(pages: &Pages, value: &str, more: &str) -> String {
    let secure = if pages.is_secure { "; Secure" } else { "" };
    format!("{COOKIE_NAME}={value}; Path=/; HttpOnly; SameSite=Strict{secure}{more}")
}

/// Deletes the session cookie.
pub(super) async fn logout(State(pages): State<Arc<Pages>>) -> Response {
    let cookie = set(&pages, "", "; Max-Age=0");
    (StatusCode::SEE_OTHER, [(LOCATION, "/login".to_owned()), (SET_COOKIE, cookie)]).into_response()
}
