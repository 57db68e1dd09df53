//! The HTTP client for webhooks and for `import`.

use std::time::Duration;

use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};
use ureq::{Agent, Proxy};

use crate::output::os;

/// The text of an error of the client.
pub(crate) fn reason(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Io(error) => os(error),
        other => other.to_string(),
    }
}

/// A client that trusts the trust anchors of this machine, follows no redirection, and returns every status as an
/// answer.
pub(crate) fn agent(time: Duration, proxy: Option<Proxy>) -> Agent {
    let roots = rustls_native_certs::load_native_certs().certs;
    let roots: Vec<_> = roots.iter().map(|root| Certificate::from_der(root).to_owned()).collect();
    let tls = TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .root_certs(RootCerts::new_with_certs(&roots))
        .unversioned_rustls_crypto_provider(std::sync::Arc::new(
            rustls::crypto::ring::default_provider(),
        ))
        .build();
    let config = Agent::config_builder()
        .timeout_global(Some(time))
        .max_redirects(0)
        .proxy(proxy)
        .http_status_as_error(false)
        .tls_config(tls)
        .build();
    config.into()
}
