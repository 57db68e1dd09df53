//! The state that all pages share, and their queries to the store.

use std::sync::Arc;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use maud::html;

use super::access::Access;
use super::layout;
use super::text::text;
use crate::configuration::Configuration;
use crate::receive::Receiver;
use crate::store::backend::Backend;
use crate::store::{Reader, StoreError, Writer};
use crate::understand::Judge;

/// The state that all pages need.
#[derive(Debug)]
pub struct Pages {
    pub(super) reader: Arc<Reader>,
    pub(super) judge: Arc<Judge>,
    pub(super) receiver: Arc<Receiver>,
    pub(super) writer: Arc<Writer>,
    pub(super) access: Access,
    pub(super) is_secure: bool,
    pub(super) days: u32,
}

impl Pages {
    /// The pages as configured.
    ///
    /// # Errors
    /// The token cannot be read.
    pub fn new(
        configuration: &Configuration,
        reader: Arc<Reader>,
        judge: Arc<Judge>,
        receiver: Arc<Receiver>,
        writer: Arc<Writer>,
    ) -> Result<Arc<Self>, String> {
        let access = Access::read(&configuration.pages, &configuration.trusted_proxies)?;
        let url = configuration.pages.url.as_ref();
        let is_secure =
            configuration.tls.is_some() || url.is_some_and(|url| url.0.starts_with("https://"));
        let days = configuration.retention.days;
        Ok(Arc::new(Self { reader, judge, receiver, writer, access, is_secure, days }))
    }

    /// Whether readers sign in with a token, so that pages need a button to sign out.
    pub(super) const fn signs_out(&self) -> bool {
        self.access.has_token()
    }
}

/// Runs queries on a blocking thread, so that they do not delay other requests.
pub(super) async fn ask<T: Send + 'static>(
    pages: &Arc<Pages>,
    query: impl Fn(&mut dyn Backend) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, Trouble> {
    let pages = Arc::clone(pages);
    let asked = tokio::task::spawn_blocking(move || pages.reader.ask(query));
    asked
        .await
        .map_err(|_| Trouble("the query failed".to_owned()))?
        .map_err(|error| Trouble(error.to_string()))
}

/// The reason why a page cannot be rendered.
pub(super) struct Trouble(String);

impl IntoResponse for Trouble {
    fn into_response(self) -> Response {
        let content = html! { h1 { "The store cannot be read" } p { (text(&self.0)) } };
        (StatusCode::SERVICE_UNAVAILABLE, layout::plain("Error", &content)).into_response()
    }
}
