//! One request, its answer whole, redirects not followed.

use std::path::Path;
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, StatusCode};

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// A header field as text; empty if it is absent.
    pub(crate) fn field(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }
}

#[track_caller]
pub(crate) fn get(url: &str, fields: &[(&'static str, &str)]) -> Answer {
    send(Method::GET, url, fields)
}

/// Asks over TLS, where only the authority of a certificate is trusted.
#[track_caller]
pub(crate) fn get_trusting(authority: &Path, url: &str, fields: &[(&'static str, &str)]) -> Answer {
    let authority = std::fs::read(authority).unwrap();
    let authority = reqwest::Certificate::from_pem(&authority).unwrap();
    let client = reqwest::Client::builder().tls_certs_only([authority]);
    send_by(client, Method::GET, url, fields)
}

#[track_caller]
pub(crate) fn send(method: Method, url: &str, fields: &[(&'static str, &str)]) -> Answer {
    send_by(reqwest::Client::builder(), method, url, fields)
}

#[track_caller]
fn send_by(
    client: reqwest::ClientBuilder,
    method: Method,
    url: &str,
    fields: &[(&'static str, &str)],
) -> Answer {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(
            HeaderName::from_static(name),
            HeaderValue::from_str(value).unwrap(),
        );
    }
    let request = async move {
        let client = client
            .redirect(reqwest::redirect::Policy::none())
            .timeout(Duration::from_secs(60))
            .no_proxy()
            .build()?;
        let response = client.request(method, url).headers(headers).send().await?;
        let (status, headers) = (response.status(), response.headers().clone());
        Ok::<_, reqwest::Error>(Answer {
            status,
            headers,
            body: response.bytes().await?.to_vec(),
        })
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime
        .block_on(request)
        .unwrap_or_else(|error| panic!("{url}: {error:?}"))
}
