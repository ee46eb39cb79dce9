//! Why an answer was no use.

use std::time::Duration;

use http::{HeaderMap, StatusCode, header};
use oci_mirror::digest::Digest;
use oci_mirror::error_chain::chain;
use oci_mirror::registry::fields;
use oci_mirror::tree::{TreePath, writer};

use super::super::Error;
use crate::sync::staging::Wrong;

/// Why an answer was no use.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("its URL cannot be built")]
    Url,
    #[error("not found")]
    NotFound,
    #[error("it answers {status}")]
    Status {
        status: StatusCode,
        retry_after: Option<Duration>,
    },
    #[error("the answer is another part than was asked for")]
    Range,
    #[error("the answer is compressed though that was not asked for")]
    Encoded,
    #[error("next to nothing comes")]
    Stalled,
    #[error("the connection failed")]
    Broken(#[source] reqwest::Error),
    #[error("longer than {0} bytes")]
    TooLarge(u64),
    #[error("the list is {is}, not {should}")]
    List { should: Digest, is: Digest },
    #[error("the file is wrong")]
    Wrong(#[source] Wrong),
    #[error("the disk failed")]
    Disk(#[source] writer::Error),
}

impl Failure {
    pub(super) fn status(response: &reqwest::Response) -> Self {
        Self::Status {
            status: response.status(),
            retry_after: fields::retry_after(response.headers()),
        }
    }

    /// Whether the same question may be answered better later.
    pub(super) fn is_temporary(&self) -> bool {
        match self {
            Self::Status { status, .. } => {
                status.is_server_error()
                    || matches!(
                        *status,
                        StatusCode::REQUEST_TIMEOUT
                            | StatusCode::TOO_EARLY
                            | StatusCode::TOO_MANY_REQUESTS
                    )
            }
            Self::Broken(error) => !error.is_redirect() && !error.is_builder(),
            Self::Stalled => true,
            Self::Url
            | Self::NotFound
            | Self::Range
            | Self::Encoded
            | Self::TooLarge(_)
            | Self::List { .. }
            | Self::Wrong(_)
            | Self::Disk(_) => false,
        }
    }

    /// How long we are asked to wait.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    pub(super) fn into_error(self, upstream: &str, path: &TreePath) -> Error {
        let upstream = upstream.into();
        match self {
            Self::NotFound => Error::NotFound {
                upstream,
                path: path.clone(),
            },
            Self::TooLarge(limit) => Error::TooLarge {
                upstream,
                path: path.clone(),
                limit,
            },
            Self::List { should, is } => Error::Digest {
                upstream,
                should,
                is,
            },
            Self::Disk(error) | Self::Wrong(Wrong::Disk(error)) => Error::Disk(error),
            Self::Url
            | Self::Status { .. }
            | Self::Range
            | Self::Encoded
            | Self::Stalled
            | Self::Broken(_)
            | Self::Wrong(_) => Error::Unreachable {
                upstream,
                why: format!("{path}: {}", chain(&self)).into(),
            },
        }
    }
}

impl From<Wrong> for Failure {
    fn from(wrong: Wrong) -> Self {
        match wrong {
            Wrong::Disk(error) => Self::Disk(error),
            wrong => Self::Wrong(wrong),
        }
    }
}

/// The `N` of `Content-Range: bytes N-M/L`.
pub(super) fn first_byte(headers: &HeaderMap) -> Option<u64> {
    let text = headers.get(header::CONTENT_RANGE)?.to_str().ok()?;
    let (first, _) = text.strip_prefix("bytes ")?.split_once('-')?;
    first.trim().parse().ok()
}
