//! The bytes of a blob, from any position on.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use tokio::time::Instant;

use super::client::{Pace, Paths, Registry};
use super::error::{Error, Subject};
use super::fields::{first_byte, from_text, text};
use super::request::Answer;
use super::traffic::Traffic;
use crate::digest::Digest;
use crate::excerpt::Excerpt;
use crate::reference::{RegistryHost, RepoName};
use crate::tree::TreePath;

impl Registry {
    /// Starts the transfer of a blob at byte `offset`. Tries once: the caller, who knows how far the
    /// transfer has come, decides about asking again.
    pub async fn blob(
        &self,
        name: &RepoName,
        digest: &Digest,
        offset: u64,
    ) -> Result<BlobStream, Error> {
        let subject = Subject::Blob(name.clone(), *digest);
        let url = match self.paths {
            Paths::Registry => self.url(name, &format!("blobs/{digest}")),
            Paths::Tree => {
                let mut url = self.base.clone();
                url.set_path(&format!("{}{}", url.path(), TreePath::Blob(*digest)));
                url
            }
        };
        let mut headers = HeaderMap::new();
        // A blob's bytes are what its digest names; a coding on top of them only gets in the way.
        headers.insert(
            header::ACCEPT_ENCODING,
            HeaderValue::from_static("identity"),
        );
        if offset > 0 {
            headers.insert(header::RANGE, from_text(&format!("bytes={offset}-")));
        }
        let answer = self.send(Method::GET, &url, &headers, &subject).await?;
        let answer = self.expect_success(answer, &subject).await?;
        if let Some(encoding) = answer.headers().get(header::CONTENT_ENCODING)
            && encoding != "identity"
        {
            return Err(Error::Encoded {
                registry: self.host.clone(),
                subject,
                encoding: Excerpt(&String::from_utf8_lossy(encoding.as_bytes())).into(),
            });
        }
        let start = if answer.status() == StatusCode::PARTIAL_CONTENT {
            let range = text(answer.headers(), header::CONTENT_RANGE.as_str());
            if range.and_then(first_byte) != Some(offset) {
                return Err(Error::Range {
                    registry: self.host.clone(),
                    offset,
                    range: Excerpt(range.unwrap_or("absent")).into(),
                    subject,
                });
            }
            offset
        } else {
            0
        };
        Ok(BlobStream {
            registry: self.host.clone(),
            subject,
            start,
            answer,
            traffic: Arc::clone(&self.traffic),
            slowest: self.slowest,
            received: 0,
            waited: Duration::ZERO,
        })
    }
}

/// A blob on its way from a registry.
#[derive(Debug)]
pub struct BlobStream {
    registry: RegistryHost,
    subject: Subject,
    start: u64,
    answer: Answer,
    traffic: Arc<Traffic>,
    slowest: Pace,
    /// What has come since the pace was last found good enough.
    received: u64,
    /// How long we have waited for it. The time our own disk takes is not the peer's fault.
    waited: Duration,
}

impl BlobStream {
    /// The position of the first byte to come: what was asked for, or 0 from a registry that knows
    /// no ranges.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// The next bytes, or `None` at the end.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        let left = self.slowest.per.saturating_sub(self.waited);
        let asked = Instant::now();
        let chunk = tokio::time::timeout(left, self.answer.response.chunk()).await;
        self.waited += asked.elapsed();
        if !matches!(chunk, Ok(Ok(_))) {
            self.traffic.bad(1);
        }
        let Ok(chunk) = chunk else {
            return Err(Error::TooSlow {
                registry: self.registry.clone(),
                subject: self.subject.clone(),
                received: self.received,
                waited: self.waited,
            });
        };
        let chunk = chunk.map_err(|error| Error::Request {
            registry: self.registry.clone(),
            subject: self.subject.clone(),
            hint: None,
            source: error.without_url(),
        })?;
        self.received += chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
        if chunk.is_none() || self.received >= self.slowest.bytes {
            self.traffic.good();
            self.received = 0;
            self.waited = Duration::ZERO;
        }
        Ok(chunk)
    }
}
