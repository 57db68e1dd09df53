//! The door: lets readers in, and takes the token of the others.

use std::sync::Arc;

use axum::extract::{Form, Request, State};
use axum::http::header::{AUTHORIZATION, LOCATION, SET_COOKIE, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use maud::html;
use serde::Deserialize;

use super::access::COOKIE_NAME;
use super::layout;
use super::shared::Pages;
use crate::receive::Peer;

/// Lets readers in, and sends the others to the form.
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
        (true, false) => to("/login"),
        (false, _) => {
            let content = html! {
                h1 { "Not allowed" }
                p { "These pages are for readers whom the proxy in front names, or on loopback under its own name." }
            };
            (StatusCode::FORBIDDEN, layout::page("Not allowed", None, &content)).into_response()
        }
    }
}

fn to(path: &'static str) -> Response {
    (StatusCode::SEE_OTHER, [(LOCATION, path)]).into_response()
}

/// The form for the token.
pub(super) async fn form() -> Response {
    entry(false).into_response()
}

fn entry(is_wrong: bool) -> maud::Markup {
    let content = html! {
        h1 { "Violation reports" }
        form.login method="post" action="/login" {
            label for="token" { "Token" }
            input #token name="token" type="password" autocomplete="current-password" required
                aria-describedby=[is_wrong.then_some("wrong")];
            @if is_wrong {
                p #wrong.urgent role="alert" { "That is not the token." }
            }
            button type="submit" { "Read" }
        }
    };
    layout::page("Sign in", None, &content)
}

/// What the form sends.
#[derive(Debug, Deserialize)]
pub(super) struct Login {
    token: String,
}

/// Takes the token.
pub(super) async fn login(State(pages): State<Arc<Pages>>, Form(login): Form<Login>) -> Response {
    let is_right = pages.access.is_token(login.token.trim());
    let Some(cookie) = pages.access.cookie().filter(|_| is_right) else {
        // Whoever guesses waits.
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        return (StatusCode::FORBIDDEN, entry(true)).into_response();
    };
    let secure = if pages.is_secure { "; Secure" } else { "" };
    let cookie = format!("{COOKIE_NAME}={cookie}; Path=/; HttpOnly; SameSite=Strict{secure}");
    (StatusCode::SEE_OTHER, [(LOCATION, "/".to_owned()), (SET_COOKIE, cookie)]).into_response()
}

/// Forgets the reader.
pub(super) async fn logout() -> Response {
    let cookie = format!("{COOKIE_NAME}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0");
    (StatusCode::SEE_OTHER, [(LOCATION, "/login".to_owned()), (SET_COOKIE, cookie)]).into_response()
}
