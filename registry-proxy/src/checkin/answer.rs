//! Why a mirror cannot check in, and how it is told: the one place that knows the status of it.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use serde_json::json;

/// Why a mirror cannot check in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// What it says cannot be understood.
    #[error("{0}")]
    Malformed(String),
    /// It has no token, or one that is no mirror's, or not any more.
    #[error("the token is not known here")]
    Unknown,
    /// An administrator has taken it out of service.
    #[error("{0}")]
    OutOfService(String),
    /// It says more than can be read.
    #[error("that is more than {0} bytes")]
    TooLarge(u64),
    /// It speaks another language.
    #[error("what is sent has to be {0}, and not compressed")]
    Type(&'static str),
    /// It comes too often.
    #[error("that is too often")]
    TooOften(Duration),
    /// It takes too long.
    #[error("what was announced did not come in time")]
    Late,
    /// Others are being read.
    #[error("others are checking in")]
    Busy,
    /// It cannot be written down now.
    #[error("nothing can be recorded now")]
    Unavailable,
}

impl Refusal {
    fn status(&self) -> StatusCode {
        match self {
            Self::Malformed(_) => StatusCode::BAD_REQUEST,
            Self::Unknown => StatusCode::UNAUTHORIZED,
            Self::OutOfService(_) => StatusCode::FORBIDDEN,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Type(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooOften(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Late => StatusCode::REQUEST_TIMEOUT,
            Self::Busy | Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// After how many seconds it may be tried again.
    fn wait(&self) -> Option<u64> {
        match self {
            // Never too early.
            Self::TooOften(wait) => Some(wait.as_secs() + 1),
            Self::Busy => Some(10),
            Self::Unavailable => Some(60),
            Self::Malformed(_)
            | Self::Unknown
            | Self::OutOfService(_)
            | Self::TooLarge(_)
            | Self::Type(_)
            | Self::Late => None,
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = json!({"status": "refused", "reason": self.to_string()});
        let mut response = (self.status(), format!("{body}\n")).into_response();
        let fields = response.headers_mut();
        fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if self == Self::Unknown {
            fields.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(wait) = self.wait() {
            fields.insert(RETRY_AFTER, wait.into());
        }
        response
    }
}
