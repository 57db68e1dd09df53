//! Who may read: whoever has the token, or whom the proxy in front names. Without either, the pages are on loopback
//! alone, and only for requests that name loopback: a page of a stranger, whose name was led there, may not read.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use axum::extract::{Form, Request, State};
use axum::http::header::{AUTHORIZATION, COOKIE, HOST, LOCATION, SET_COOKIE, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use maud::html;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::{Pages as Shared, layout};
use crate::configuration::Pages;
use crate::output::os;
use crate::receive::Peer;

/// The cookie of a reader.
const COOKIE_NAME: &str = "hpkp-reports";

/// The shortest token: one that can be guessed is none.
const MIN_TOKEN: usize = 16;

/// Who may read.
#[derive(Debug)]
pub struct Access {
    token: Option<[u8; 32]>,
    header: Option<axum::http::HeaderName>,
    proxies: Vec<IpAddr>,
}

/// The first line of a file with a secret.
///
/// # Errors
/// It cannot be read.
pub fn first_line(path: &Path) -> Result<String, String> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("{}: {}", path.display(), os(&error)))?;
    Ok(text.lines().next().unwrap_or_default().trim().to_owned())
}

/// A hash of a secret: two of them are compared without telling how far they agree.
fn hashed(text: &str) -> [u8; 32] {
    Sha256::new().chain_update(b"hpkp-reports\0").chain_update(text).finalize().into()
}

impl Access {
    /// Reads the token.
    ///
    /// # Errors
    /// It cannot be read, or is too short.
    pub fn read(pages: &Pages, proxies: &[IpAddr]) -> Result<Self, String> {
        let token = pages.token_file.as_deref().map(first_line).transpose()?;
        if token.as_ref().is_some_and(|token| token.len() < MIN_TOKEN) {
            return Err(format!(
                "pages.token_file: the token is shorter than {MIN_TOKEN} characters; make one: openssl rand -hex 32"
            ));
        }
        Ok(Self {
            token: token.map(|token| hashed(&token)),
            header: pages.user_header.as_ref().map(|name| name.0.clone()),
            proxies: proxies.to_vec(),
        })
    }

    /// Whether there is a token, so that a form for it makes sense.
    pub(super) const fn has_token(&self) -> bool {
        self.token.is_some()
    }

    fn allows(&self, headers: &HeaderMap, peer: Option<IpAddr>) -> bool {
        if self.token.is_none() && self.header.is_none() {
            return names_loopback(headers);
        }
        let is_named = self.header.as_ref().is_some_and(|name| {
            peer.is_some_and(|peer| self.proxies.contains(&peer))
                && headers.get(name).is_some_and(|value| !value.is_empty())
        });
        is_named || self.token.is_some_and(|token| has_token(headers, token))
    }

    /// The cookie of whoever has the token.
    fn cookie(&self) -> Option<String> {
        self.token.map(session)
    }
}

/// What the cookie says: not the token, and worthless once that changes.
fn session(token: [u8; 32]) -> String {
    let hash = Sha256::new().chain_update(b"session\0").chain_update(token).finalize();
    hash.iter().map(|octet| format!("{octet:02x}")).collect()
}

fn has_token(headers: &HeaderMap, token: [u8; 32]) -> bool {
    let bearer = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let bearer = bearer.and_then(|text| text.strip_prefix("Bearer "));
    if bearer.is_some_and(|text| hashed(text.trim()) == token) {
        return true;
    }
    let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut cookies = cookies.flat_map(|text| text.split(';'));
    let wanted = hashed(&session(token));
    cookies.any(|cookie| {
        let value = cookie.trim().strip_prefix(COOKIE_NAME).and_then(|rest| rest.strip_prefix('='));
        value.is_some_and(|value| hashed(value) == wanted)
    })
}

fn names_loopback(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(HOST).and_then(|value| value.to_str().ok()) else {
        return true;
    };
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Lets readers in, and sends the others to the form.
pub(super) async fn guard(
    State(pages): State<Arc<Shared>>,
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
pub(super) async fn login(State(pages): State<Arc<Shared>>, Form(login): Form<Login>) -> Response {
    let is_right = pages.access.token.is_some_and(|token| hashed(login.token.trim()) == token);
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
