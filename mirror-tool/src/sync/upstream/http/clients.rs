//! By whom an upstream is asked.
//!
//! To speak TLS, the certificates of the system have to be read, which takes about as long as everything else where
//! nothing is new. So who follows a plain `http` tree does it only when that sends us to `https`.

use std::sync::OnceLock;
use std::time::Duration;

use http::header;
use oci_mirror::registry::authorities::Authorities;
use reqwest::redirect::Policy;
use reqwest::{Client, RequestBuilder, Response};
use url::Url;

use super::redirect;
use crate::sync::Options;

/// How we introduce ourselves.
const USER_AGENT: &str = concat!("oci-mirror/", env!("CARGO_PKG_VERSION"));

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(10);

/// How long nothing at all may come.
const SILENCE: Duration = Duration::from_secs(30);

/// Those who ask. Each of them follows redirects, but the plain one none to `https`.
#[derive(Debug)]
pub(super) struct Clients {
    plain: Client,
    secure: OnceLock<Client>,
    jobs: usize,
    authorities: Option<Authorities>,
}

impl Clients {
    /// Whoever is needed to ask for what is below `base`.
    pub(super) fn new(base: &Url, options: &Options) -> reqwest::Result<Self> {
        let jobs = options.jobs.get();
        let clients = Self {
            plain: builder(jobs, redirect::policy_of_plain())
                .tls_certs_only([])
                .build()?,
            secure: OnceLock::new(),
            jobs,
            authorities: options.tls_ca.clone(),
        };
        if base.scheme() == "https" {
            clients.secure()?;
        }
        Ok(clients)
    }

    /// Asks for what a URL names; the rest of the request is up to the caller.
    pub(super) async fn get(
        &self,
        url: Url,
        rest: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> reqwest::Result<Response> {
        let onward = if url.scheme() == "https" {
            url
        } else {
            let response = rest(self.plain.get(url)).send().await?;
            match to_https(&response) {
                Some(onward) => onward,
                None => return Ok(response),
            }
        };
        rest(self.secure()?.get(onward)).send().await
    }

    fn secure(&self) -> reqwest::Result<&Client> {
        if let Some(client) = self.secure.get() {
            return Ok(client);
        }
        let mut builder = builder(self.jobs, redirect::policy());
        if let Some(authorities) = &self.authorities {
            builder = builder.tls_certs_merge(authorities.certificates());
        }
        // If two made one at the same time, one of them is enough.
        let client = builder.build()?;
        Ok(self.secure.get_or_init(|| client))
    }
}

fn builder(jobs: usize, redirects: Policy) -> reqwest::ClientBuilder {
    Client::builder()
        .user_agent(USER_AGENT)
        .connect_timeout(CONNECT)
        .read_timeout(SILENCE)
        .pool_max_idle_per_host(jobs)
        .redirect(redirects)
        .referer(false)
        .http2_adaptive_window(true)
        .no_gzip()
        .no_brotli()
        .no_zstd()
        .no_deflate()
}

/// Where the plain client was sent and did not go.
fn to_https(response: &Response) -> Option<Url> {
    if !response.status().is_redirection() {
        return None;
    }
    let location = response.headers().get(header::LOCATION)?.to_str().ok()?;
    let onward = response.url().join(location).ok()?;
    (onward.scheme() == "https").then_some(onward)
}
