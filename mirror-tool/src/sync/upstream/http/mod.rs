//! A tree over HTTP: from a front end, or from the web server of another mirror.
//!
//! Connections are kept and `jobs` of them are at work at a time. A connection that breaks costs what was on
//! its way: the next one asks for what is lacking. Whom we ask may send us to others, within the bounds of
//! [`redirect`]; that the bytes are right is never theirs to say.

mod body;
mod clients;
mod failure;
mod fetch;
mod part;
mod redirect;

use std::io::Write as _;
use std::num::NonZeroUsize;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, StatusCode, header};
use oci_mirror::bucket::Bucket;
use oci_mirror::tree::TreePath;
use oci_mirror::tree::state::{self, ListRef};
use reqwest::RequestBuilder;
use tokio_util::sync::CancellationToken;
use url::Url;

use self::body::Body;
use self::clients::Clients;
use self::failure::Failure;
use super::patience::Patience;
use super::{Error, Fetched, max_list};
use crate::sync::progress::Progress;
use crate::sync::staging::{Staging, failed};
use crate::sync::{Options, Wanted};

/// A tree over HTTP. Clones share connections and bandwidth.
#[derive(Debug, Clone)]
pub(super) struct Http(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    upstream: Box<str>,
    /// Ends with a slash.
    base: Url,
    clients: Clients,
    jobs: NonZeroUsize,
    retries: u8,
    bucket: Option<Bucket>,
    max_entries: u64,
}

/// How a file is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ask {
    /// As it may lie in caches.
    Any,
    /// From the source itself: what came before was wrong, and may have come from a cache.
    Anew,
    /// From this byte on.
    From(u64),
}

impl Http {
    pub(super) fn new(url: &Url, name: &str, options: &Options) -> Result<Self, Error> {
        let mut base = url.clone();
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", url.path()));
        }
        let clients = Clients::new(&base, options).map_err(|source| Error::Client {
            upstream: name.into(),
            source,
        })?;
        Ok(Self(Arc::new(Inner {
            upstream: name.into(),
            base,
            clients,
            jobs: options.jobs,
            retries: options.retries,
            bucket: options.bandwidth.map(Bucket::per_second),
            max_entries: options.max_entries,
        })))
    }

    /// The bytes of its `state.json`.
    pub(super) async fn state(&self) -> Result<Bytes, Error> {
        let path = TreePath::State;
        let mut patience = Patience::new(self.0.retries);
        loop {
            match self.small(&path, state::MAX_BYTES).await {
                Ok(bytes) => return Ok(bytes),
                Err(failure) => self.again(failure, &path, &mut patience).await?,
            }
        }
    }

    /// Brings a list into staging, and compares it.
    pub(super) async fn list(&self, list: &ListRef, staging: &Staging) -> Result<(), Error> {
        let path = TreePath::List(list.module.clone());
        let mut patience = Patience::new(self.0.retries);
        loop {
            match self.list_once(&path, list, staging).await {
                Ok(()) => return Ok(()),
                Err(failure) => self.again(failure, &path, &mut patience).await?,
            }
        }
    }

    /// Brings files into staging.
    pub(super) async fn fetch(
        &self,
        wanted: Vec<Wanted>,
        staging: &Staging,
        progress: &Progress,
        stop: &CancellationToken,
    ) -> Result<Fetched, Error> {
        fetch::run(self, wanted, staging, progress, stop).await
    }

    async fn small(&self, path: &TreePath, limit: u64) -> Result<Bytes, Failure> {
        let mut body = self.get(path, Ask::Anew).await?;
        if body.length().is_some_and(|length| length > limit) {
            return Err(Failure::TooLarge(limit));
        }
        let mut bytes = BytesMut::new();
        while let Some(chunk) = body.next().await? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() as u64 > limit {
                return Err(Failure::TooLarge(limit));
            }
        }
        Ok(bytes.freeze())
    }

    async fn list_once(
        &self,
        path: &TreePath,
        list: &ListRef,
        staging: &Staging,
    ) -> Result<(), Failure> {
        let limit = max_list(self.0.max_entries);
        let mut body = self.get(path, Ask::Anew).await?;
        if body.length().is_some_and(|length| length > limit) {
            return Err(Failure::TooLarge(limit));
        }
        let target = staging.list();
        let mut file = staging.create(&target).map_err(Failure::Disk)?;
        let mut hasher = list.digest.algorithm().hasher();
        let mut length = 0;
        while let Some(chunk) = body.next().await? {
            length += chunk.len() as u64;
            if length > limit {
                return Err(Failure::TooLarge(limit));
            }
            hasher.update(&chunk);
            file.write_all(&chunk)
                .map_err(|source| Failure::Disk(failed(&target, source)))?;
        }
        let is = hasher.finish();
        if is != list.digest {
            let should = list.digest;
            return Err(Failure::List { should, is });
        }
        Ok(())
    }

    /// Asks for a file; what comes is the body of a success.
    async fn get(&self, path: &TreePath, ask: Ask) -> Result<Body<'_>, Failure> {
        let url = self
            .0
            .base
            .join(&path.to_string())
            .map_err(|_| Failure::Url)?;
        let rest = |request: RequestBuilder| {
            let identity = HeaderValue::from_static("identity");
            let request = request.header(header::ACCEPT_ENCODING, identity);
            match ask {
                Ask::Any => request,
                Ask::Anew => {
                    let value = HeaderValue::from_static("no-cache");
                    request.header(header::CACHE_CONTROL, value)
                }
                Ask::From(start) => request.header(header::RANGE, format!("bytes={start}-")),
            }
        };
        let response = self.0.clients.get(url, rest).await;
        let response = response.map_err(Failure::Broken)?;
        let status = response.status();
        match (status, ask) {
            (StatusCode::OK, _) => {}
            (StatusCode::PARTIAL_CONTENT, Ask::From(start)) => {
                if failure::first_byte(response.headers()) != Some(start) {
                    return Err(Failure::Range);
                }
            }
            (StatusCode::RANGE_NOT_SATISFIABLE, Ask::From(_)) => return Err(Failure::Range),
            (StatusCode::NOT_FOUND | StatusCode::GONE, _) => return Err(Failure::NotFound),
            _ => return Err(Failure::status(&response)),
        }
        let encoding = response.headers().get(header::CONTENT_ENCODING);
        if encoding.is_some_and(|encoding| encoding != "identity") {
            return Err(Failure::Encoded);
        }
        Ok(Body::new(response, self.0.bucket.as_ref()))
    }

    /// Waits before a file is asked for again; an error if it is not.
    async fn again(
        &self,
        failure: Failure,
        path: &TreePath,
        patience: &mut Patience,
    ) -> Result<(), Error> {
        if failure.is_temporary() && patience.wait(failure.retry_after()).await {
            tracing::debug!(upstream = %self.0.upstream, %path, %failure, "asking again");
            return Ok(());
        }
        Err(failure.into_error(&self.0.upstream, path))
    }
}
