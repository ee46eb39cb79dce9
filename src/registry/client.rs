//! The client for one registry.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde::Deserialize;
use tokio::time::Instant;
use tracing::warn;
use url::Url;

use super::credentials::Credentials;
use super::error::{Error, Subject, envelope_message, retry_after};
use super::fields::{
    accept_manifests, announced_digest, content_type, first_byte, from_text, text,
};
use super::hub;
use super::link::{Unusable, next_page};
use super::login::{Gate, Pass};
use super::mirror::MirrorUrl;
use super::retry::Retry;
use crate::digest::Digest;
use crate::excerpt::Excerpt;
use crate::manifest::{self, Manifest};
use crate::media_type::MediaType;
use crate::reference::{Reference, RegistryHost, RepoName, Tag};
use crate::tree::TreePath;

/// How we introduce ourselves.
pub const USER_AGENT: &str = concat!("oci-mirror/", env!("CARGO_PKG_VERSION"));

/// Most redirects followed; containerd, docker and podman stop there too.
const MAX_REDIRECTS: usize = 10;

/// Longest page of a tag list, in bytes: room for about 100,000 tags.
const MAX_TAG_PAGE: u64 = 16 << 20;

/// Most pages of a tag list. The smallest page seen in practice has 100 tags.
const MAX_TAG_PAGES: usize = 10_000;

/// Most tags of a repository; what is beyond cannot be meant for a mirror.
const MAX_TAGS: usize = 1_000_000;

/// How many of the texts that are no tags a warning shows.
const EXAMPLES: usize = 3;

/// Most bytes of an error's body read, in search of its reason.
const MAX_ERROR_BODY: u64 = 16 << 10;

/// How to talk to a registry.
#[derive(Debug, Clone)]
pub struct Options {
    /// Use `http://`.
    pub plain_http: bool,
    /// Certificates, in PEM, of authorities to trust beside the system's.
    pub tls_ca: Option<Bytes>,
    /// Accept any certificate.
    pub insecure_skip_tls_verify: bool,
    /// How long a connection may take to be made.
    pub connect_timeout: Duration,
    /// How long the peer may be silent, before an answer and within it.
    pub read_timeout: Duration,
    /// How long the whole of a manifest, of a page of tags or of a token may take to come. A peer that
    /// is never silent for long could otherwise hold us for ever.
    pub answer_timeout: Duration,
    /// The slowest a blob may come; the largest one has no other limit.
    pub slowest: Pace,
    /// After so many questions in a row that failed, each asked as often as `retry` allows, the others
    /// are not asked any more.
    pub give_up_after: usize,
    /// When to ask again.
    pub retry: Retry,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            plain_http: false,
            tls_ca: None,
            insecure_skip_tls_verify: false,
            connect_timeout: Duration::from_secs(15),
            read_timeout: Duration::from_secs(60),
            answer_timeout: Duration::from_secs(180),
            slowest: Pace::default(),
            give_up_after: 20,
            retry: Retry::default(),
        }
    }
}

/// So many bytes in such a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// How many bytes.
    pub bytes: u64,
    /// In what time.
    pub per: Duration,
}

impl Default for Pace {
    /// About 1 KiB/s: a modem is faster.
    fn default() -> Self {
        Self {
            bytes: 64 << 10,
            per: Duration::from_secs(60),
        }
    }
}

/// A registry to read from.
#[derive(Debug)]
pub struct Registry {
    host: RegistryHost,
    base: Url,
    paths: Paths,
    http: reqwest::Client,
    gate: Gate,
    retry: Retry,
    answer_timeout: Duration,
    slowest: Pace,
    give_up_after: usize,
    /// How many questions have failed since the last answer that was none of a broken server.
    failures: AtomicUsize,
    /// When the registry has asked to be left alone, nothing is sent before this.
    quiet_until: Mutex<Option<Instant>>,
}

/// Where below the base blobs are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Paths {
    /// `<name>/blobs/<digest>`
    Registry,
    /// `blobs/<alg>/<hh>/<hex>`, whatever the repository.
    Tree,
}

/// What a registry says about a manifest without sending it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The digest of the manifest.
    pub digest: Digest,
    /// Its type, if it was given.
    pub media_type: Option<MediaType>,
    /// Its length in bytes, if it was given.
    pub size: Option<u64>,
}

impl Registry {
    /// A client for `host`; nothing is sent yet.
    pub fn new(
        host: RegistryHost,
        options: &Options,
        credentials: Arc<Credentials>,
    ) -> Result<Self, Error> {
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| Error::Client {
            registry: host.clone(),
            source,
        };
        let scheme = if options.plain_http { "http" } else { "https" };
        let base = Url::parse(&format!("{scheme}://{}/v2/", hub::api_host(&host)))
            .map_err(|error| failed(error.into()))?;
        let http = http_client(options).map_err(|error| failed(error.into()))?;
        let gate =
            Gate::new(host.clone(), options, credentials).map_err(|error| failed(error.into()))?;
        Ok(Self {
            host,
            base,
            paths: Paths::Registry,
            http,
            gate,
            retry: options.retry,
            answer_timeout: options.answer_timeout,
            slowest: options.slowest,
            give_up_after: options.give_up_after,
            failures: AtomicUsize::new(0),
            quiet_until: Mutex::default(),
        })
    }

    /// A client for a mirror, which has nothing to offer but blobs: manifests are blobs there too.
    pub fn mirror(
        mirror: &MirrorUrl,
        options: &Options,
        credentials: Arc<Credentials>,
    ) -> Result<Self, Error> {
        let mut registry = Self::new(mirror.host().clone(), options, credentials)?;
        registry.base = mirror.base().clone();
        registry.paths = Paths::Tree;
        Ok(registry)
    }

    /// The registry's name, as given.
    pub fn host(&self) -> &RegistryHost {
        &self.host
    }

    /// The policy for asking again.
    pub fn retry(&self) -> &Retry {
        &self.retry
    }

    /// All tags of a repository, sorted, over however many pages.
    ///
    /// What is no tag of the grammar cannot be asked for either; it is left out with a warning.
    pub async fn tags(&self, name: &RepoName) -> Result<Vec<Tag>, Error> {
        let subject = Subject::Tags(name.clone());
        let mut tags = BTreeSet::new();
        let mut seen = BTreeSet::new();
        let mut refused = 0;
        let mut examples = Vec::new();
        let mut next = Some(self.url(name, "tags/list"));
        while let Some(page) = next {
            if seen.len() >= MAX_TAG_PAGES || tags.len() > MAX_TAGS || !seen.insert(page.clone()) {
                return Err(Error::TooManyPages {
                    registry: self.host.clone(),
                    subject,
                    pages: seen.len(),
                });
            }
            let (list, following) = self.ask(|| self.tag_page(&subject, &page)).await?;
            for text in list.tags.unwrap_or_default() {
                match text.parse() {
                    Ok(tag) => {
                        tags.insert(tag);
                    }
                    Err(_) => {
                        refused += 1;
                        if examples.len() < EXAMPLES {
                            examples.push(Excerpt(&text).to_string());
                        }
                    }
                }
            }
            next = following;
        }
        if refused > 0 {
            let examples = examples.join(", ");
            warn!(registry = %self.host, repository = %name, refused, examples, "leaving out what is no tag");
        }
        Ok(tags.into_iter().collect())
    }

    /// What `reference` points at now; `None` if the registry does not say without sending it.
    ///
    /// That is so when the digest is missing from the answer, and when `HEAD` is not served at all.
    pub async fn head(
        &self,
        name: &RepoName,
        reference: &Reference,
    ) -> Result<Option<Head>, Error> {
        let subject = Subject::Manifest(name.clone(), reference.clone());
        self.ask(|| self.head_once(&subject, reference)).await
    }

    /// The manifest behind `reference`, checked against the digest it was asked for by and the one
    /// the registry announces.
    pub async fn manifest(
        &self,
        name: &RepoName,
        reference: &Reference,
    ) -> Result<Manifest, Error> {
        let subject = Subject::Manifest(name.clone(), reference.clone());
        self.ask(|| self.manifest_once(&subject, reference)).await
    }

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
        let response = self.send(Method::GET, &url, &headers, &subject).await?;
        let response = self.expect_success(response, &subject).await?;
        if let Some(encoding) = response.headers().get(header::CONTENT_ENCODING)
            && encoding != "identity"
        {
            return Err(Error::Encoded {
                registry: self.host.clone(),
                subject,
                encoding: Excerpt(&String::from_utf8_lossy(encoding.as_bytes())).into(),
            });
        }
        let start = if response.status() == StatusCode::PARTIAL_CONTENT {
            let range = text(response.headers(), header::CONTENT_RANGE.as_str());
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
            response,
            slowest: self.slowest,
            received: 0,
            waited: Duration::ZERO,
        })
    }

    /// Asks as often as the policy allows, and keeps count of what fails all the same.
    async fn ask<T, F>(&self, question: impl FnMut() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let result = self.retry.run(question).await;
        if let Err(error) = &result
            && error.is_retryable()
        {
            self.failures.fetch_add(1, Ordering::Relaxed);
        }
        result
    }

    async fn tag_page(
        &self,
        subject: &Subject,
        page: &Url,
    ) -> Result<(TagList, Option<Url>), Error> {
        let response = self
            .send(Method::GET, page, &HeaderMap::new(), subject)
            .await?;
        let response = self.expect_success(response, subject).await?;
        let next = self.following(page, response.headers(), subject)?;
        let body = self.read(response, MAX_TAG_PAGE, subject).await?;
        let list = serde_json::from_slice(&body).map_err(|source| Error::TagList {
            registry: self.host.clone(),
            subject: subject.clone(),
            source,
        })?;
        Ok((list, next))
    }

    /// The page after `page`. One that is announced but cannot be asked for is not the end.
    fn following(
        &self,
        page: &Url,
        headers: &HeaderMap,
        subject: &Subject,
    ) -> Result<Option<Url>, Error> {
        for field in headers.get_all(header::LINK) {
            let text = String::from_utf8_lossy(field.as_bytes());
            match next_page(page, &text) {
                Ok(None) => {}
                Ok(next) => return Ok(next),
                Err(Unusable) => {
                    return Err(Error::NextPage {
                        registry: self.host.clone(),
                        subject: subject.clone(),
                        link: Excerpt(&text).into(),
                    });
                }
            }
        }
        Ok(None)
    }

    async fn head_once(
        &self,
        subject: &Subject,
        reference: &Reference,
    ) -> Result<Option<Head>, Error> {
        let url = self.url(subject.name(), &format!("manifests/{reference}"));
        let response = self
            .send(Method::HEAD, &url, &accept_manifests(), subject)
            .await?;
        // Some registries serve manifests to GET only; the GET that follows gives the real reason.
        if matches!(
            response.status(),
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED
        ) {
            return Ok(None);
        }
        let response = self.expect_success(response, subject).await?;
        let headers = response.headers();
        Ok(announced_digest(headers).map(|digest| Head {
            digest,
            media_type: content_type(headers),
            size: text(headers, header::CONTENT_LENGTH.as_str())
                .and_then(|length| length.parse().ok()),
        }))
    }

    async fn manifest_once(
        &self,
        subject: &Subject,
        reference: &Reference,
    ) -> Result<Manifest, Error> {
        let url = self.url(subject.name(), &format!("manifests/{reference}"));
        let response = self
            .send(Method::GET, &url, &accept_manifests(), subject)
            .await?;
        let response = self.expect_success(response, subject).await?;
        let announced = announced_digest(response.headers());
        let declared = content_type(response.headers());
        let bytes = self.read(response, manifest::MAX_BYTES, subject).await?;
        let manifest = match reference {
            Reference::Digest(digest) => Manifest::with_digest(bytes, *digest, declared.as_ref()),
            Reference::Tag(_) => match announced {
                // A registry may name its tags' targets by another algorithm than ours.
                Some(announced) => {
                    let found = announced.algorithm().digest(&bytes);
                    if found != announced {
                        return Err(Error::Announced {
                            registry: self.host.clone(),
                            subject: subject.clone(),
                            announced,
                            found,
                        });
                    }
                    Manifest::with_digest(bytes, announced, declared.as_ref())
                }
                None => Manifest::parse(bytes, declared.as_ref()),
            },
        };
        manifest.map_err(|source| Error::Manifest {
            registry: self.host.clone(),
            subject: subject.clone(),
            source,
        })
    }

    fn url(&self, name: &RepoName, rest: &str) -> Url {
        let mut url = self.base.clone();
        let name = hub::canonical_name(&self.host, name);
        // Names, tags and digests have no character that would need escaping.
        url.set_path(&format!("/v2/{name}/{rest}"));
        url
    }

    /// Sends a request; a 401 is met by logging in, once.
    async fn send(
        &self,
        method: Method,
        url: &Url,
        headers: &HeaderMap,
        subject: &Subject,
    ) -> Result<reqwest::Response, Error> {
        self.keep_quiet().await;
        let failures = self.failures.load(Ordering::Relaxed);
        if failures >= self.give_up_after {
            return Err(Error::GivenUp {
                registry: self.host.clone(),
                subject: subject.clone(),
                failures,
            });
        }
        let pass = self.gate.pass(subject.name()).await;
        let response = self
            .send_with(method.clone(), url, headers, &pass, subject)
            .await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        match self.gate.renew(&pass, subject).await? {
            Some(pass) => self.send_with(method, url, headers, &pass, subject).await,
            None => Ok(response),
        }
    }

    async fn send_with(
        &self,
        method: Method,
        url: &Url,
        headers: &HeaderMap,
        pass: &Pass,
        subject: &Subject,
    ) -> Result<reqwest::Response, Error> {
        let mut request = self
            .http
            .request(method, url.clone())
            .headers(headers.clone());
        if let Some(authorization) = &pass.authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let response = tokio::time::timeout(self.answer_timeout, request.send())
            .await
            .map_err(|_| self.too_slow(0, subject))?
            .map_err(|error| self.broken(error, subject))?;
        // A 401 says nothing yet: the token service may be what is broken.
        let status = response.status();
        if !status.is_server_error() && status != StatusCode::UNAUTHORIZED {
            self.failures.store(0, Ordering::Relaxed);
        }
        Ok(response)
    }

    fn too_slow(&self, received: usize, subject: &Subject) -> Error {
        Error::TooSlow {
            registry: self.host.clone(),
            subject: subject.clone(),
            received: received as u64,
            waited: self.answer_timeout,
        }
    }

    /// Turns an answer that is not a success into the error it is.
    async fn expect_success(
        &self,
        response: reqwest::Response,
        subject: &Subject,
    ) -> Result<reqwest::Response, Error> {
        let status = response.status();
        if matches!(status, StatusCode::OK | StatusCode::PARTIAL_CONTENT) {
            return Ok(response);
        }
        let retry_after = retry_after(response.headers());
        if let Some(wait) = retry_after {
            self.quiet_for(wait.min(self.retry.max_retry_after));
        }
        // Without its body the error is still an error.
        let message = match self.read(response, MAX_ERROR_BODY, subject).await {
            Ok(body) => envelope_message(&body),
            Err(_) => None,
        };
        Err(Error::Status {
            registry: self.host.clone(),
            subject: subject.clone(),
            status,
            retry_after,
            message,
        })
    }

    /// One request has been told to come later: so will the others be, and each that tries anyway
    /// counts against us.
    fn quiet_for(&self, wait: Duration) {
        let until = Instant::now() + wait;
        let mut quiet = self
            .quiet_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *quiet = (*quiet).max(Some(until));
    }

    async fn keep_quiet(&self) {
        loop {
            let until = *self
                .quiet_until
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            match until {
                Some(until) if until > Instant::now() => tokio::time::sleep_until(until).await,
                _ => return,
            }
        }
    }

    /// Reads a body that may have at most `limit` bytes.
    async fn read(
        &self,
        mut response: reqwest::Response,
        limit: u64,
        subject: &Subject,
    ) -> Result<Bytes, Error> {
        let too_large = || Error::TooLarge {
            registry: self.host.clone(),
            subject: subject.clone(),
            limit,
        };
        if response
            .content_length()
            .is_some_and(|length| length > limit)
        {
            return Err(too_large());
        }
        let mut body = BytesMut::new();
        let deadline = Instant::now() + self.answer_timeout;
        loop {
            let chunk = tokio::time::timeout_at(deadline, response.chunk())
                .await
                .map_err(|_| self.too_slow(body.len(), subject))?;
            match chunk.map_err(|error| self.broken(error, subject))? {
                None => return Ok(body.freeze()),
                Some(chunk) if (body.len() + chunk.len()) as u64 > limit => {
                    return Err(too_large());
                }
                Some(chunk) => body.extend_from_slice(&chunk),
            }
        }
    }

    fn broken(&self, error: reqwest::Error, subject: &Subject) -> Error {
        Error::Request {
            registry: self.host.clone(),
            subject: subject.clone(),
            // Registries that speak plain HTTP have a port in their name, as good as always.
            hint: error.is_connect() && self.base.scheme() == "https" && self.base.port().is_some(),
            source: error.without_url(),
        }
    }
}

/// A blob on its way from a registry.
#[derive(Debug)]
pub struct BlobStream {
    registry: RegistryHost,
    subject: Subject,
    start: u64,
    response: reqwest::Response,
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
        let chunk = tokio::time::timeout(left, self.response.chunk()).await;
        self.waited += asked.elapsed();
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
            hint: false,
            source: error.without_url(),
        })?;
        self.received += chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
        if self.received >= self.slowest.bytes {
            self.received = 0;
            self.waited = Duration::ZERO;
        }
        Ok(chunk)
    }
}

#[derive(Deserialize)]
struct TagList {
    /// distribution writes `null` for none.
    tags: Option<Vec<String>>,
}

fn http_client(options: &Options) -> Result<reqwest::Client, reqwest::Error> {
    let redirects = reqwest::redirect::Policy::custom(|attempt| {
        let was_secure = attempt
            .previous()
            .last()
            .is_some_and(|url| url.scheme() == "https");
        if attempt.previous().len() > MAX_REDIRECTS {
            attempt.error("too many redirects")
        } else if was_secure && attempt.url().scheme() != "https" {
            attempt.error("redirect from https to plain http")
        } else {
            attempt.follow()
        }
    });
    let mut builder = reqwest::Client::builder()
        .user_agent(USER_AGENT)
        .connect_timeout(options.connect_timeout)
        .read_timeout(options.read_timeout)
        .redirect(redirects)
        .referer(false)
        .http2_adaptive_window(true)
        .no_gzip()
        .no_brotli()
        .no_zstd()
        .no_deflate()
        .tls_danger_accept_invalid_certs(options.insecure_skip_tls_verify);
    if let Some(pem) = &options.tls_ca {
        builder = builder.tls_certs_merge(reqwest::Certificate::from_pem_bundle(pem)?);
    }
    builder.build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_hub_is_reached_at_its_own_host() {
        let hub = Registry::new(
            "docker.io".parse().unwrap(),
            &Options::default(),
            Arc::default(),
        )
        .unwrap();
        assert_eq!(
            hub.url(&"fedora".parse().unwrap(), "tags/list").as_str(),
            "https://registry-1.docker.io/v2/library/fedora/tags/list"
        );
    }

    #[tokio::test]
    async fn a_registry_that_needs_plain_http_gets_the_hint() {
        let options = Options {
            retry: Retry {
                retries: 0,
                ..Retry::default()
            },
            ..Options::default()
        };
        // Nothing listens on port 1.
        let registry =
            Registry::new("127.0.0.1:1".parse().unwrap(), &options, Arc::default()).unwrap();
        let error = registry.tags(&"a".parse().unwrap()).await.unwrap_err();
        assert!(error.to_string().contains("--plain-http"), "{error}");
    }
}
