//! Opens the bucket that a URL names, with its credentials. Settings that the URL does not have come from the
//! environment.

use std::sync::Arc;

use hpkp_core::text::Excerpt;
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::{ClientOptions, ObjectStore, RetryConfig};
use percent_encoding::percent_decode_str;
use url::Url;

use super::contract::Options;
use super::error::StoreError;

type Built = Result<Arc<dyn ObjectStore>, object_store::Error>;

/// The bucket of a URL.
///
/// # Errors
/// See [`StoreError`].
pub(super) fn bucket(url: &Url, options: &Options) -> Result<Arc<dyn ObjectStore>, StoreError> {
    let (known, build): (&[&str], fn(&Place<'_>) -> Built) = match url.scheme() {
        "s3" => (&["region", "endpoint"], amazon),
        "az" => (&["account", "endpoint"], azure),
        _ => (&["endpoint"], google),
    };
    if let Some((other, _)) = url.query_pairs().find(|(name, _)| !known.contains(&&**name)) {
        return Err(StoreError::Failed(format!("unsupported parameter {other} of the store")));
    }
    build(&Place { url, options }).map_err(|error| failure(&error))
}

/// The URL and the options of a bucket.
struct Place<'a> {
    url: &'a Url,
    options: &'a Options,
}

impl Place<'_> {
    fn name(&self) -> &str {
        self.url.host_str().unwrap_or_default()
    }

    fn parameter(&self, wanted: &str) -> Option<String> {
        let mut pairs = self.url.query_pairs();
        pairs.find(|(name, _)| name == wanted).map(|(_, value)| value.into_owned())
    }

    /// The URL of the server: the parameter of the store's URL, else the first of these variables that is set.
    fn endpoint(&self, variables: &[&str]) -> Option<String> {
        let variable = || variables.iter().find_map(|name| std::env::var(name).ok());
        self.parameter("endpoint").or_else(variable)
    }

    /// The HTTP options. Without TLS only servers on this machine are allowed, unless AWS_ALLOW_HTTP is "true".
    fn client(&self, endpoint: Option<&str>) -> ClientOptions {
        let is_allowed = std::env::var("AWS_ALLOW_HTTP").is_ok_and(|value| value == "true");
        ClientOptions::new()
            .with_timeout(self.options.timeout)
            .with_connect_timeout(self.options.timeout)
            .with_allow_http(is_allowed || endpoint.is_some_and(is_local))
    }

    fn retry(&self) -> RetryConfig {
        RetryConfig {
            max_retries: 3,
            retry_timeout: self.options.timeout,
            ..RetryConfig::default()
        }
    }
}

fn amazon(place: &Place<'_>) -> Built {
    let endpoint = place.endpoint(&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"]);
    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(place.name())
        .with_client_options(place.client(endpoint.as_deref()))
        .with_retry(place.retry());
    if let Some(region) = place.parameter("region") {
        builder = builder.with_region(region);
    }
    if let Some(endpoint) = endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    if let Some(secret) = place.url.password() {
        // Both often contain "/" and "+", which are encoded in a URL.
        builder = builder
            .with_access_key_id(decoded(place.url.username()))
            .with_secret_access_key(decoded(secret));
    }
    Ok(Arc::new(builder.build()?))
}

fn azure(place: &Place<'_>) -> Built {
    let endpoint = place.endpoint(&["AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"]);
    let mut builder = MicrosoftAzureBuilder::from_env()
        .with_container_name(place.name())
        .with_client_options(place.client(endpoint.as_deref()))
        .with_retry(place.retry());
    if let Some(account) = place.parameter("account") {
        builder = builder.with_account(account);
    }
    if let Some(endpoint) = endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    Ok(Arc::new(builder.build()?))
}

fn google(place: &Place<'_>) -> Built {
    let endpoint = place.endpoint(&[]);
    let mut builder = GoogleCloudStorageBuilder::from_env()
        .with_bucket_name(place.name())
        .with_client_options(place.client(endpoint.as_deref()))
        .with_retry(place.retry());
    if let Some(endpoint) = endpoint {
        builder = builder.with_base_url(&endpoint);
    }
    Ok(Arc::new(builder.build()?))
}

fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// Whether the host of a URL is this machine.
fn is_local(text: &str) -> bool {
    let url = Url::parse(text).ok();
    let host = url.as_ref().and_then(Url::host_str).unwrap_or_default();
    ["127.0.0.1", "[::1]", "localhost"].contains(&host)
}

/// Converts an error: its innermost cause, and whether rights are missing.
pub(super) fn failure(error: &object_store::Error) -> StoreError {
    let mut text = String::new();
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    // The innermost error is the cause; the outer ones repeat it.
    while let Some(one) = cause {
        text = one.to_string();
        cause = one.source();
    }
    let text = hpkp_cli::sync::os(&std::io::Error::other(text));
    let text = Excerpt::new(text.lines().next().unwrap_or_default()).to_string();
    match error {
        object_store::Error::PermissionDenied { .. }
        | object_store::Error::Unauthenticated { .. } => StoreError::Denied(text),
        _ => StoreError::Failed(text),
    }
}
