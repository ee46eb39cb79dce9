//! By whom an upstream is asked.
//!
//! To speak TLS, the certificates of the system have to be read, which takes about as long as everything else where
//! nothing is new. So who follows a plain `http` tree does it only when that sends us to `https`, or when the proxy on
//! the way there speaks TLS itself.

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
    /// `None` if TLS is needed for whatever is asked.
    plain: Option<Client>,
    secure: OnceLock<Client>,
    jobs: usize,
    authorities: Option<Authorities>,
}

impl Clients {
    /// Whoever is needed to ask for what is below `base`.
    pub(super) fn new(base: &Url, options: &Options) -> reqwest::Result<Self> {
        let jobs = options.jobs.get();
        let mut clients = Self {
            plain: None,
            secure: OnceLock::new(),
            jobs,
            authorities: options.tls_ca.clone(),
        };
        if base.scheme() == "https" || has_proxy_with_tls(|name| std::env::var(name).ok()) {
            clients.secure()?;
        } else {
            let builder = builder(jobs, redirect::policy_of_plain());
            clients.plain = Some(builder.tls_certs_only([]).build()?);
        }
        Ok(clients)
    }

    /// Asks for what a URL names; the rest of the request is up to the caller.
    pub(super) async fn get(
        &self,
        url: Url,
        rest: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> reqwest::Result<Response> {
        let Some(plain) = self.plain.as_ref().filter(|_| url.scheme() != "https") else {
            return rest(self.secure()?.get(url)).send().await;
        };
        let response = rest(plain.get(url.clone())).send().await?;
        match to_https(&url, &response) {
            Some(onward) => rest(self.secure()?.get(onward)).send().await,
            None => Ok(response),
        }
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

/// Where the plain client was sent, was allowed to go and did not.
fn to_https(asked: &Url, response: &Response) -> Option<Url> {
    // What is followed; other answers with a `Location` nobody has judged.
    let is_redirect = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
    let location = response.headers().get(header::LOCATION)?.to_str().ok()?;
    let onward = response.url().join(location).ok()?;
    let previous = [asked.clone(), response.url().clone()];
    let is_right = is_redirect && onward.scheme() == "https";
    (is_right && redirect::judge(&previous, &onward).is_ok()).then_some(onward)
}

/// Whether what is asked in the clear may go to a proxy over TLS.
fn has_proxy_with_tls(variable: impl Fn(&str) -> Option<String>) -> bool {
    let names = ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"];
    let mut values = names.into_iter().filter_map(variable);
    values.any(|value| {
        value
            .trim_start()
            .to_ascii_lowercase()
            .starts_with("https:")
    })
}

#[cfg(test)]
mod tests {
    use reqwest::ResponseBuilderExt as _;

    use super::*;

    fn answer(status: u16, location: &str) -> Response {
        let response = http::Response::builder()
            .status(status)
            .header(header::LOCATION, location)
            .url("http://front.example/tree/state.json".parse().unwrap());
        response.body("").unwrap().into()
    }

    #[test]
    fn only_a_redirect_that_is_allowed_leads_to_https() {
        let asked = "http://front.example/tree/state.json".parse().unwrap();
        for (status, location, leads) in [
            (301, "https://mirror.example/x", true),
            (308, "https://front.example/x", true),
            (300, "https://mirror.example/x", false),
            (304, "https://mirror.example/x", false),
            (305, "https://mirror.example/x", false),
            (302, "https://10.0.0.1/x", false),
            (302, "https://localhost/x", false),
            (302, "/elsewhere", false),
            (200, "https://mirror.example/x", false),
        ] {
            let onward = to_https(&asked, &answer(status, location));
            assert_eq!(onward.is_some(), leads, "{status} {location}");
        }
    }

    #[test]
    fn a_proxy_that_speaks_tls_is_known_by_its_url() {
        let with = |name: &'static str, value: &'static str| {
            has_proxy_with_tls(|asked| (asked == name).then(|| value.to_owned()))
        };
        assert!(with("http_proxy", "https://proxy.example:3129"));
        assert!(with("ALL_PROXY", " HTTPS://proxy.example"));
        assert!(!with("http_proxy", "http://proxy.example:3128"));
        assert!(!with("https_proxy", "https://proxy.example"));
        assert!(!has_proxy_with_tls(|_| None));
    }
}
