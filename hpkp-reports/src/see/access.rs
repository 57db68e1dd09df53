//! Access control of the pages: readers need the token, or must be named by the reverse proxy. With neither configured,
//! the pages are served only on loopback, and only for requests whose Host is a loopback name. This stops websites
//! whose DNS name points to loopback (DNS rebinding).

use std::net::IpAddr;
use std::path::Path;

use axum::http::HeaderMap;
use axum::http::header::{AUTHORIZATION, COOKIE, HOST};
use sha2::{Digest as _, Sha256};

use crate::configuration::Pages;
use crate::output::os;
use crate::proxies::Proxies;

/// The name of the session cookie.
pub(super) const COOKIE_NAME: &str = "hpkp-reports";

/// The shortest allowed token: a token must not be guessable.
const MIN_TOKEN: usize = 16;

/// The access settings.
#[derive(Debug)]
pub struct Access {
    token: Option<[u8; 32]>,
    header: Option<axum::http::HeaderName>,
    proxies: Proxies,
}

/// The first line of a file with a secret.
///
/// # Errors
/// The file cannot be read.
pub fn first_line(path: &Path) -> Result<String, String> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("{}: {}", path.display(), os(&error)))?;
    Ok(text.lines().next().unwrap_or_default().trim().to_owned())
}

/// Hashes a secret, so that the time of a comparison does not reveal how many characters match.
fn hashed(text: &str) -> [u8; 32] {
    Sha256::new().chain_update(b"hpkp-reports\0").chain_update(text).finalize().into()
}

impl Access {
    /// Reads the token.
    ///
    /// # Errors
    /// The token cannot be read, or is too short.
    pub fn read(pages: &Pages, proxies: &Proxies) -> Result<Self, String> {
        let token = pages.token_file.as_deref().map(first_line).transpose();
        let token = token.map_err(|error| format!("pages.token_file: {error}"))?;
        if token.as_ref().is_some_and(|token| token.len() < MIN_TOKEN) {
            return Err(format!(
                "pages.token_file: the token is shorter than {MIN_TOKEN} characters; make one: openssl rand -hex 32"
            ));
        }
        Ok(Self {
            token: token.map(|token| hashed(&token)),
            header: pages.user_header.as_ref().map(|name| name.0.clone()),
            proxies: proxies.clone(),
        })
    }

    /// Whether a token is configured, so that readers can sign in with it.
    pub(super) const fn has_token(&self) -> bool {
        self.token.is_some()
    }

    pub(super) fn allows(&self, headers: &HeaderMap, peer: Option<IpAddr>) -> bool {
        if self.token.is_none() && self.header.is_none() {
            return names_loopback(headers);
        }
        let is_named = self.header.as_ref().is_some_and(|name| {
            // With two values, the client may have sent one that the proxy did not remove.
            let mut values = headers.get_all(name).iter();
            let is_one = values.next().is_some_and(|value| !value.is_empty());
            is_one && values.next().is_none() && peer.is_some_and(|peer| self.proxies.contain(peer))
        });
        is_named || self.token.is_some_and(|token| has_token(headers, token))
    }

    /// Whether a text is the token.
    pub(super) fn is_token(&self, text: &str) -> bool {
        self.token.is_some_and(|token| hashed(text) == token)
    }

    /// The value of the session cookie for a reader with the token.
    pub(super) fn cookie(&self) -> Option<String> {
        self.token.map(session)
    }
}

/// The value of the session cookie: derived from the token, so that it does not reveal the token and becomes invalid
/// when the token changes.
fn session(token: [u8; 32]) -> String {
    let hash = Sha256::new().chain_update(b"session\0").chain_update(token).finalize();
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
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
