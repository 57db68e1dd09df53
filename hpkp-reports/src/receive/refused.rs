//! The reasons for refusing a request, each with its status and its name in metrics.

use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

use crate::store::StoreError;

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// No report of a known format.
    Invalid,
    /// Envelopes with only reports of other kinds.
    OtherKinds,
    /// No host on the list. Nothing is stored. The answer is the same as for a stored report, so that strangers do not
    /// learn which hosts are listed.
    Host,
    /// The request took too long.
    Slow,
    /// Too large, before or after gzip.
    Large,
    /// An unsupported type or encoding.
    Type,
    /// More chains than are verified for one body.
    Chains,
    /// Too many requests of the client.
    Client,
    /// Too many reports for the host.
    HostRate,
    /// Too many reports in total.
    Total,
    /// The database is unavailable.
    Away,
    /// The database has no space.
    Full,
}

impl Refused {
    /// All reasons.
    pub const ALL: [Self; 12] = [
        Self::Invalid,
        Self::OtherKinds,
        Self::Host,
        Self::Slow,
        Self::Large,
        Self::Type,
        Self::Chains,
        Self::Client,
        Self::HostRate,
        Self::Total,
        Self::Away,
        Self::Full,
    ];

    /// The name of the reason in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::OtherKinds => "other-kinds",
            Self::Host => "host",
            Self::Slow => "slow",
            Self::Large => "large",
            Self::Type => "type",
            Self::Chains => "chains",
            Self::Client => "client-rate",
            Self::HostRate => "host-rate",
            Self::Total => "total-rate",
            Self::Away => "database-away",
            Self::Full => "database-full",
        }
    }

    /// The HTTP status.
    #[must_use]
    pub const fn status(self) -> StatusCode {
        match self {
            Self::Invalid | Self::OtherKinds => StatusCode::BAD_REQUEST,
            Self::Host => StatusCode::NO_CONTENT,
            Self::Slow => StatusCode::REQUEST_TIMEOUT,
            Self::Large => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Type => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Chains => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Client | Self::HostRate | Self::Total => StatusCode::TOO_MANY_REQUESTS,
            Self::Away => StatusCode::SERVICE_UNAVAILABLE,
            Self::Full => StatusCode::INSUFFICIENT_STORAGE,
        }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        if matches!(self, Self::Client | Self::HostRate | Self::Total | Self::Away) {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("60"));
        }
        response
    }
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Full => Self::Full,
            StoreError::Away(_) | StoreError::Conflict(_) | StoreError::Failed(_) => Self::Away,
        }
    }
}
