//! Sending it, as often as it takes.

use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, StatusCode};
use oci_mirror::excerpt::Excerpt;
use oci_mirror::registry::fields;
use oci_mirror::registry::retry::{Advice, Retry};
use reqwest::redirect::Policy;
use url::Url;

use super::To;
use super::tell::What;
use super::wire::{Recorded, Refused};
use crate::exit::Usage;

/// Longest answer read, in bytes.
const MAX_ANSWER: usize = 64 << 10;

const RETRY: Retry = Retry {
    retries: 3,
    first_delay: Duration::from_secs(1),
    max_delay: Duration::from_secs(10),
    max_retry_after: Duration::from_secs(60),
};

/// What tells one front end.
#[derive(Debug)]
pub(super) struct Client {
    http: reqwest::Client,
    url: Url,
    authorization: HeaderValue,
}

impl Client {
    pub(super) fn new(to: &To) -> anyhow::Result<Self> {
        let mut url = to.url.clone();
        url.set_query(None);
        url.set_fragment(None);
        url.path_segments_mut()
            .map_err(|()| Usage("a front end is https://HOST"))?
            .pop_if_empty()
            .extend(["api", "v1", "checkin"]);
        let mut authorization = HeaderValue::from_str(&format!("Bearer {}", to.token.reveal()))
            .map_err(|_| Usage("the token is not one line of plain text"))?;
        authorization.set_sensitive(true);
        let mut http = reqwest::Client::builder()
            .user_agent(concat!("mirror-tool/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(Duration::from_secs(10))
            .read_timeout(Duration::from_secs(120))
            // The token is for this front end, and for nobody it sends us to.
            .redirect(Policy::none())
            .referer(false);
        if to.url.scheme() != "https" {
            // A proxy would read the token.
            http = http.no_proxy();
        }
        if let Some(authorities) = &to.tls_ca {
            http = http.tls_certs_merge(authorities.certificates());
        }
        Ok(Self {
            http: http.build().context("cannot use TLS")?,
            url,
            authorization,
        })
    }

    /// Sends it; again if that may end better.
    pub(super) async fn send(&self, what: &What) -> anyhow::Result<Recorded> {
        let body: Bytes = what.to_json()?.into();
        let sent = RETRY.run(|| self.send_once(body.clone())).await;
        sent.with_context(|| format!("cannot check in with {}", self.url))
    }

    async fn send_once(&self, body: Bytes) -> Result<Recorded, Error> {
        let request = self.http.post(self.url.clone());
        let mut response = request
            .header(AUTHORIZATION, self.authorization.clone())
            .header(CONTENT_TYPE, "application/json")
            .body(body)
            .send()
            .await
            .map_err(Error::sending)?;
        let status = response.status();
        let retry_after = fields::retry_after(response.headers());
        let mut text = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(Error::sending)? {
            if text.len() + chunk.len() > MAX_ANSWER {
                return Err(Error::Answer);
            }
            text.extend_from_slice(&chunk);
        }
        if status == StatusCode::OK {
            return serde_json::from_slice(&text).map_err(|_| Error::Answer);
        }
        let reason = match serde_json::from_slice::<Refused>(&text) {
            Ok(refused) => format!(": {}", Excerpt(&refused.reason)),
            Err(_) => String::new(),
        };
        Err(Error::Status {
            status,
            reason,
            retry_after,
        })
    }
}

/// Why it could not be sent.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("no answer came")]
    Sending(#[source] reqwest::Error),
    #[error("the answer is {status}{reason}")]
    Status {
        status: StatusCode,
        reason: String,
        retry_after: Option<Duration>,
    },
    #[error("the answer is not that of a front end")]
    Answer,
}

impl Error {
    fn sending(error: reqwest::Error) -> Self {
        Self::Sending(error.without_url())
    }
}

impl Advice for Error {
    fn is_retryable(&self) -> bool {
        match self {
            Self::Sending(error) => !error.is_builder(),
            Self::Status { status, .. } => {
                status.is_server_error()
                    || matches!(
                        *status,
                        StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT
                    )
            }
            Self::Answer => false,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            Self::Sending(_) | Self::Answer => None,
        }
    }
}
