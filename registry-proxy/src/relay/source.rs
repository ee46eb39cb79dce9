//! Bytes of a blob from one mirror, from some place in it on.
//!
//! A mirror gets one request for all pieces that are wanted of it. Its answer must be the very bytes asked
//! for, as they are: a part, or the whole if the whole is asked for. It may not come from where the crawler
//! may not go for this mirror, and neither may what it redirects to.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use http::StatusCode;
use http::header::{
    ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, HeaderMap, HeaderName, RANGE,
};
use reqwest::redirect;
use tokio::sync::OnceCell;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use url::Url;

use super::Source;
use crate::authorities;
use crate::crawler::guard::{Guard, Policy};

/// How long to wait for what, while a client waits for us.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// A connection to be made.
    pub(super) connect: Duration,
    /// The head of an answer.
    pub(super) head: Duration,
    /// The next byte; and bytes at [`MIN_SPEED`] for as long.
    pub(super) silence: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            head: Duration::from_secs(10),
            silence: Duration::from_secs(15),
        }
    }
}

/// The slowest transfer that is waited for, in bytes a second.
const MIN_SPEED: u64 = 64 << 10;

/// The way to all mirrors. A client is made when it is first needed, since it reads the system's certificates.
#[derive(Debug)]
pub(super) struct Mirrors {
    limits: Limits,
    /// Files with further certificate authorities: what the crawler could verify can be had here.
    authorities: Arc<[PathBuf]>,
    public_only: OnceCell<reqwest::Client>,
    any: OnceCell<reqwest::Client>,
}

/// Why a mirror sends no bytes.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("cannot make a client of mirrors")]
    Client(#[source] Option<reqwest::Error>),
    #[error(transparent)]
    Authorities(#[from] authorities::Error),
    #[error("its URL is none we may ask")]
    Forbidden,
    #[error("cannot ask it")]
    Ask(#[source] reqwest::Error),
    #[error("it is silent")]
    Silent,
    #[error("it is slower than 64 KiB a second")]
    Slow,
    #[error("it answers {0}, or not with the bytes asked for")]
    Other(StatusCode),
    #[error("its answer breaks off")]
    Broken(#[source] Option<reqwest::Error>),
}

/// An answer of a mirror.
pub(super) struct Transfer {
    chunks: BoxStream<'static, reqwest::Result<Bytes>>,
    /// What came beyond what was taken.
    rest: Bytes,
    silence: Duration,
    /// Since when somebody waits, and for how many bytes by now.
    since: Instant,
    bytes: u64,
}

impl Mirrors {
    pub(super) fn new(limits: Limits, authorities: &[PathBuf]) -> Self {
        Self {
            limits,
            authorities: authorities.into(),
            public_only: OnceCell::new(),
            any: OnceCell::new(),
        }
    }

    /// Asks a mirror for part of a blob of `size` bytes.
    pub(super) async fn open(
        &self,
        source: &Source,
        part: &Range<u64>,
        size: u64,
    ) -> Result<Transfer, Error> {
        let url = Url::parse(&source.url).map_err(|_| Error::Forbidden)?;
        if !source.policy.permits_url(&url) {
            return Err(Error::Forbidden);
        }
        let made = match source.policy {
            Policy::PublicOnly => &self.public_only,
            Policy::Any => &self.any,
        };
        let client = made.get_or_try_init(|| self.client(source.policy)).await?;
        let mut request = client.get(url).header(ACCEPT_ENCODING, "identity");
        let is_whole = *part == (0..size);
        if !is_whole {
            let range = format!("bytes={}-{}", part.start, part.end - 1);
            request = request.header(RANGE, range);
        }
        let asked = timeout(self.limits.head, request.send()).await;
        let answer = asked.map_err(|_| Error::Silent)?.map_err(Error::Ask)?;
        let fields = answer.headers();
        let as_asked = match answer.status() {
            StatusCode::OK => is_whole,
            StatusCode::PARTIAL_CONTENT => {
                let expected = format!("bytes {}-{}/{size}", part.start, part.end - 1);
                says(fields, CONTENT_RANGE, &expected) == Some(true)
            }
            _ => false,
        };
        let length = (part.end - part.start).to_string();
        let is_plain = says(fields, CONTENT_ENCODING, "identity") != Some(false)
            && says(fields, CONTENT_LENGTH, &length) != Some(false);
        if !as_asked || !is_plain {
            return Err(Error::Other(answer.status()));
        }
        Ok(Transfer {
            chunks: answer.bytes_stream().boxed(),
            rest: Bytes::new(),
            silence: self.limits.silence,
            since: Instant::now(),
            bytes: 0,
        })
    }

    async fn client(&self, policy: Policy) -> Result<reqwest::Client, Error> {
        let follow = redirect::Policy::custom(move |attempt| {
            if let Some(reason) = policy.refusal(attempt.previous(), attempt.url()) {
                attempt.error(reason)
            } else {
                attempt.follow()
            }
        });
        let client = reqwest::Client::builder()
            .user_agent(AGENT)
            .dns_resolver(Arc::new(Guard {
                policy,
                family: None,
            }))
            .redirect(follow)
            .connect_timeout(self.limits.connect)
            .referer(false)
            .no_proxy();
        let authorities = Arc::clone(&self.authorities);
        let build = move || {
            let client = client.tls_certs_merge(authorities::read(&authorities)?);
            client.build().map_err(|error| Error::Client(Some(error)))
        };
        spawn_blocking(build)
            .await
            .map_err(|_| Error::Client(None))?
    }
}

impl Transfer {
    /// From now on somebody waits: what it took him to ask for more is not the mirror's fault.
    pub(super) fn start(&mut self) {
        (self.since, self.bytes) = (Instant::now(), 0);
    }

    /// The next bytes: some, and at most so many.
    pub(super) async fn next(&mut self, most: usize) -> Result<Bytes, Error> {
        while self.rest.is_empty() {
            let chunk = timeout(self.silence, self.chunks.next()).await;
            match chunk.map_err(|_| Error::Silent)? {
                Some(Ok(chunk)) => self.rest = chunk,
                Some(Err(error)) => return Err(Error::Broken(Some(error))),
                None => return Err(Error::Broken(None)),
            }
        }
        let bytes = self.rest.split_to(most.min(self.rest.len()));
        self.bytes += bytes.len() as u64;
        if self.since.elapsed() >= self.silence {
            if self.bytes < MIN_SPEED * self.silence.as_secs() {
                return Err(Error::Slow);
            }
            self.start();
        }
        Ok(bytes)
    }
}

/// Whether a field says this; `None` if it is not there.
fn says(fields: &HeaderMap, name: HeaderName, expected: &str) -> Option<bool> {
    let field = fields.get(name)?;
    Some(field.to_str().is_ok_and(|it| it.trim() == expected))
}

/// Who asks.
const AGENT: &str = concat!(
    "registry-proxy/",
    env!("CARGO_PKG_VERSION"),
    " (on behalf of a client)"
);
