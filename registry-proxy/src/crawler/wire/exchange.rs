//! One question to a mirror, and the answer, wherever redirects lead.
//!
//! Everything is bounded: redirects in number, each answer in time. The time that our own [`Pace`] makes us
//! wait is not the mirror's and does not count.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONNECTION, HeaderMap, HeaderValue, LOCATION, RANGE};
use http::{Method, StatusCode, Version};
use oci_mirror::error_chain::chain;
use oci_mirror::excerpt::Excerpt;
use tokio::time::{Instant, timeout_at};
use url::Url;

use super::super::check::{Answer, Limits};
use super::super::guard::Policy;
use super::super::identity::Identity;
use super::super::pace::Pace;
use super::rest;

/// The slowest transfer still waited for, in bytes a second.
const MIN_SPEED: u64 = 64 << 10;

/// What is asked, and as whom.
#[derive(Debug)]
pub(in crate::crawler) struct Question<'a> {
    pub(in crate::crawler) method: Method,
    pub(in crate::crawler) url: &'a str,
    pub(in crate::crawler) identity: Identity,
    /// How many bytes are to come.
    pub(in crate::crawler) size: u64,
    /// Which bytes; none: all.
    pub(in crate::crawler) range: Option<Range<u64>>,
    /// Encodings that are said to be understood.
    pub(in crate::crawler) encodings: &'static str,
}

impl<'a> Question<'a> {
    /// For a whole file as it is.
    pub(in crate::crawler) fn new(
        method: Method,
        url: &'a str,
        size: u64,
        identity: Identity,
    ) -> Self {
        Self {
            method,
            url,
            identity,
            size,
            range: None,
            encodings: "identity",
        }
    }
}

/// The way to one mirror.
#[derive(Debug)]
pub(in crate::crawler) struct Way {
    pub(in crate::crawler) client: reqwest::Client,
    pub(in crate::crawler) policy: Policy,
    pub(in crate::crawler) limits: Limits,
    /// Who we are.
    pub(in crate::crawler) name: HeaderValue,
    pub(in crate::crawler) pace: Arc<Pace>,
    /// Whether the last answer left a connection to go on with.
    pub(in crate::crawler) is_kept: bool,
}

/// Why there is no answer.
#[derive(Debug)]
pub(in crate::crawler) enum Failure {
    /// Nobody is there to ask; the error, if it came to a connection.
    Unreachable(String, Option<reqwest::Error>),
    /// None that can be used.
    Unusable(String),
}

impl From<Failure> for Answer {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Unreachable(reason, _) => Self::Unreachable(reason),
            Failure::Unusable(reason) => Self::Unknown(reason),
        }
    }
}

impl Way {
    /// Asks, and follows redirects.
    pub(in crate::crawler) async fn ask(
        &mut self,
        question: Question<'_>,
    ) -> Result<Exchange, Failure> {
        let unreachable = |reason: String| Failure::Unreachable(reason, None);
        let mut url = Url::parse(question.url).map_err(|error| unreachable(error.to_string()))?;
        if !self.policy.permits_url(&url) {
            return Err(unreachable("its address is not public".to_owned()));
        }
        let mut fields = question.identity.fields(&self.name);
        let encodings = HeaderValue::from_static(question.encodings);
        fields.insert(ACCEPT_ENCODING, encodings);
        if let Some(range) = &question.range {
            let field = format!("bytes={}-{}", range.start, range.end.saturating_sub(1));
            fields.extend(HeaderValue::try_from(field).map(|field| (RANGE, field)));
        }
        let limit = self.limits.grace + Duration::from_secs(question.size / MIN_SPEED);
        let mut end = Instant::now() + limit;
        let mut previous = Vec::new();
        loop {
            let waiting = Instant::now();
            self.pace.request().await;
            end += waiting.elapsed();
            let request = self.client.request(question.method.clone(), url.clone());
            let is_kept = std::mem::take(&mut self.is_kept);
            let sending = rest::over(is_kept, request.headers(fields.clone()).send());
            let response = match timeout_at(end, sending).await {
                Ok(Ok(response)) => response,
                // Where a redirect leads to may be unreachable; that says nothing about the mirror itself.
                Ok(Err(error)) if error.is_connect() && previous.is_empty() => {
                    return Err(Failure::Unreachable(chain(&error), Some(error)));
                }
                Ok(Err(error)) => return Err(Failure::Unusable(chain(&error))),
                Err(_) => return Err(Failure::Unusable(format!("no answer within {limit:?}"))),
            };
            self.is_kept = is_kept_open(response.version(), response.headers());
            let Some(next) = target(response.status(), response.headers(), &url) else {
                return Ok(Exchange {
                    response,
                    limit,
                    end,
                });
            };
            previous.push(url);
            url = next.map_err(Failure::Unusable)?;
            if let Some(reason) = self.policy.refusal(&previous, &url) {
                return Err(Failure::Unusable(reason.to_owned()));
            }
        }
    }
}

/// An answer whose body is yet to come.
#[derive(Debug)]
pub(in crate::crawler) struct Exchange {
    response: reqwest::Response,
    limit: Duration,
    end: Instant,
}

impl Exchange {
    pub(in crate::crawler) fn status(&self) -> StatusCode {
        self.response.status()
    }

    pub(in crate::crawler) fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// The next bytes of the body; `None` at its end.
    pub(in crate::crawler) async fn chunk(&mut self, pace: &Pace) -> Result<Option<Bytes>, String> {
        let chunk = match timeout_at(self.end, self.response.chunk()).await {
            Ok(Ok(chunk)) => chunk,
            Ok(Err(error)) => return Err(chain(&error)),
            Err(_) => return Err(format!("not sent whole within {:?}", self.limit)),
        };
        if let Some(chunk) = &chunk {
            let waiting = Instant::now();
            pace.bytes(chunk.len() as u64).await;
            self.end += waiting.elapsed();
        }
        Ok(chunk)
    }
}

/// Whether a connection may go on after such an answer.
fn is_kept_open(version: Version, headers: &HeaderMap) -> bool {
    let mut options = headers.get_all(CONNECTION).iter();
    let closes = options.any(|options| {
        let options = String::from_utf8_lossy(options.as_bytes());
        let mut options = options.split(',').map(str::trim);
        options.any(|option| option.eq_ignore_ascii_case("close"))
    });
    version >= Version::HTTP_11 && !closes
}

/// Where an answer leads to instead of being one.
fn target(status: StatusCode, headers: &HeaderMap, from: &Url) -> Option<Result<Url, String>> {
    if !matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let location = headers.get(LOCATION)?;
    let text = String::from_utf8_lossy(location.as_bytes());
    let next = from.join(&text);
    Some(next.map_err(|error| format!("redirected to {}: {error}", Excerpt(&text))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_goes_on_unless_the_answer_says_otherwise() {
        for (version, options, kept) in [
            (Version::HTTP_11, &[][..], true),
            (Version::HTTP_2, &[], true),
            (Version::HTTP_10, &[], false),
            (Version::HTTP_11, &["keep-alive"], true),
            (Version::HTTP_11, &["keep-alive", "upgrade, Close"], false),
        ] {
            let fields = options
                .iter()
                .map(|text| (CONNECTION, HeaderValue::from_static(text)));
            assert_eq!(
                is_kept_open(version, &fields.collect()),
                kept,
                "{options:?}"
            );
        }
    }

    #[test]
    fn only_a_redirect_leads_elsewhere() {
        let from = Url::parse("http://m.example/a/b").unwrap();
        let target = |status: u16, location: &'static [u8]| {
            let location = HeaderValue::from_bytes(location).unwrap();
            let headers = HeaderMap::from_iter([(LOCATION, location)]);
            let target = super::target(StatusCode::from_u16(status).unwrap(), &headers, &from)?;
            Some(target.map(String::from))
        };
        for status in [200, 206, 300, 304, 404] {
            assert_eq!(target(status, b"/c"), None, "{status}");
        }
        for status in [301, 302, 303, 307, 308] {
            let found = target(status, b"c").unwrap().unwrap();
            assert_eq!(found, "http://m.example/a/c", "{status}");
        }
        assert!(target(302, b"http://[").unwrap().is_err());
        assert!(target(302, b"\xff").unwrap().is_ok(), "it is escaped");
        assert!(super::target(StatusCode::FOUND, &HeaderMap::new(), &from).is_none());
    }
}
