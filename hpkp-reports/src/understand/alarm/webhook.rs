//! Alarms by a `POST` of JSON.

use std::time::Duration;

use ureq::Agent;
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};

use super::message::Message;
use crate::configuration::Webhook;

/// How long the other end may take.
const TIME: Duration = Duration::from_secs(20);

pub(super) struct Way {
    agent: Agent,
    url: String,
}

impl Way {
    pub(super) fn new(settings: &Webhook) -> Self {
        let roots = rustls_native_certs::load_native_certs().certs;
        let roots: Vec<_> =
            roots.iter().map(|root| Certificate::from_der(root).to_owned()).collect();
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .root_certs(RootCerts::new_with_certs(&roots))
            .unversioned_rustls_crypto_provider(std::sync::Arc::new(
                rustls::crypto::ring::default_provider(),
            ))
            .build();
        let config = Agent::config_builder()
            .timeout_global(Some(TIME))
            .max_redirects(0)
            .tls_config(tls)
            .build();
        Self { agent: config.into(), url: settings.url.0.clone() }
    }

    pub(super) fn send(&self, message: &Message<'_>) -> Result<(), String> {
        let body = serde_json::to_vec(message).map_err(|error| error.to_string())?;
        let request = self.agent.post(&self.url).header("content-type", "application/json");
        let answer = request.send(&body[..]).map_err(|error| error.to_string())?;
        // A redirection is not followed, and whoever sent it has not taken the alarm.
        match answer.status().is_success() {
            true => Ok(()),
            false => Err(format!("http status: {}", answer.status())),
        }
    }
}
