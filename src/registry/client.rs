//! The client for one registry.

use std::num::NonZero;
use std::sync::Arc;
use std::time::Duration;

use url::Url;

use super::authorities::Authorities;
use super::credentials::Credentials;
use super::error::Error;
use super::hub;
use super::login::Gate;
use super::mirror::MirrorUrl;
use super::rate::Rate;
use super::retry::Retry;
use super::traffic::Traffic;
use super::transport::{self, Redirects};
use crate::reference::RegistryHost;

/// How to talk to a registry.
#[derive(Debug, Clone)]
pub struct Options {
    /// Use `http://`.
    pub plain_http: bool,
    /// Authorities to trust beside the system's.
    pub tls_ca: Option<Authorities>,
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
    /// How many requests the registry is to get in a time. Those to a token service, and to where a
    /// redirect leads, are not its own.
    pub rate: Option<Rate>,
    /// How many requests may be under way at once. A blob is, until its [`BlobStream`] is dropped.
    ///
    /// [`BlobStream`]: super::blob::BlobStream
    pub max_concurrent: Option<NonZero<usize>>,
    /// After as many failed requests in a row as so many questions make, each asked as often as `retry`
    /// allows, nothing is asked any more.
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
            rate: None,
            max_concurrent: None,
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
///
/// Its questions are beside it, one file each: [`tags`](Self::tags), [`head`](Self::head),
/// [`manifest`](Self::manifest), [`referrers`](Self::referrers), [`blob`](Self::blob).
#[derive(Debug)]
pub struct Registry {
    pub(super) host: RegistryHost,
    pub(super) base: Url,
    pub(super) paths: Paths,
    pub(super) http: reqwest::Client,
    pub(super) gate: Gate,
    pub(super) retry: Retry,
    pub(super) answer_timeout: Duration,
    pub(super) slowest: Pace,
    pub(super) traffic: Arc<Traffic>,
}

/// Where below the base blobs are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Paths {
    /// `<name>/blobs/<digest>`
    Registry,
    /// `blobs/<alg>/<hh>/<hex>`, whatever the repository.
    Tree,
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
        let http = transport::client(options, Redirects::Anywhere)
            .map_err(|error| failed(error.into()))?;
        let give_up_at = options.give_up_after.saturating_mul(options.retry.tries());
        let traffic = Traffic::new(options.rate, options.max_concurrent, give_up_at);
        let traffic = Arc::new(traffic);
        Ok(Self {
            gate: Gate::new(
                host.clone(),
                options.clone(),
                credentials,
                Arc::clone(&traffic),
            ),
            host,
            base,
            paths: Paths::Registry,
            http,
            retry: options.retry,
            answer_timeout: options.answer_timeout,
            slowest: options.slowest,
            traffic,
        })
    }

    /// A client for a mirror, which has nothing to offer but blobs: manifests are blobs there too.
    ///
    /// A mirror is asked by the scheme of its address. A login stored for its host goes there by plain
    /// HTTP only if `options` say that registries are talked to like that.
    pub fn mirror(
        mirror: &MirrorUrl,
        options: &Options,
        credentials: Arc<Credentials>,
    ) -> Result<Self, Error> {
        let is_safe = mirror.base().scheme() == "https" || options.plain_http;
        let credentials = if is_safe { credentials } else { Arc::default() };
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
