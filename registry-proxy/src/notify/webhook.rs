//! A notice posted to a URL of the operator's.
//!
//! Such URLs have secrets in them, so no error names them. The answer's body is not read, and redirects are
//! not followed: the notice is for whom the operator named.

use std::path::PathBuf;
use std::time::Duration;

use http::StatusCode;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::redirect;
use url::Url;

use crate::authorities;

/// How long one try may take.
const LIMIT: Duration = Duration::from_secs(10);

/// How often it is tried.
const TRIES: u32 = 3;

/// The pause after the first try; the next is twice as long.
const PAUSE: Duration = Duration::from_secs(1);

/// The longest pause, should the other side ask for one.
const MAX_PAUSE: Duration = Duration::from_secs(15);

/// Where notices are posted.
#[derive(Debug)]
pub(super) struct Webhook {
    client: reqwest::Client,
    url: Url,
    pause: Duration,
}

impl Webhook {
    /// Posts to a URL; `authorities` are files with further ones that are trusted there.
    pub(super) fn new(url: &Url, authorities: &[PathBuf]) -> Result<Self, Error> {
        Self::within(LIMIT, PAUSE, url, authorities)
    }

    fn within(
        limit: Duration,
        pause: Duration,
        url: &Url,
        authorities: &[PathBuf],
    ) -> Result<Self, Error> {
        let client = reqwest::Client::builder()
            .user_agent(concat!("registry-proxy/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .tls_certs_merge(authorities::read(authorities)?)
            .timeout(limit)
            .build();
        Ok(Self {
            client: client.map_err(Error::Client)?,
            url: url.clone(),
            pause,
        })
    }

    /// Posts a JSON object; where another try may help there are some.
    pub(super) async fn post(&self, object: &[u8]) -> Result<(), Error> {
        let mut pause = self.pause;
        for _ in 1..TRIES {
            match self.try_once(object).await {
                Err(error) if error.is_retryable() => {
                    tokio::time::sleep(error.pause().unwrap_or(pause)).await;
                    pause *= 2;
                }
                result => return result,
            }
        }
        self.try_once(object).await
    }

    async fn try_once(&self, object: &[u8]) -> Result<(), Error> {
        let request = self.client.post(self.url.clone());
        let request = request.header(CONTENT_TYPE, "application/json");
        let response = request.body(object.to_vec()).send().await;
        let response = response.map_err(|error| Error::Send(error.without_url()))?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        let seconds = response.headers().get(RETRY_AFTER);
        let seconds = seconds.and_then(|field| field.to_str().ok()?.parse().ok());
        Err(Error::Status {
            status,
            pause: seconds.map(|seconds| Duration::from_secs(seconds).min(MAX_PAUSE)),
        })
    }
}

/// Why a notice was not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// TLS cannot be set up.
    #[error("cannot make a client")]
    Client(#[source] reqwest::Error),
    /// The further certificate authorities cannot be had.
    #[error(transparent)]
    Authorities(#[from] authorities::Error),
    /// There was no answer.
    #[error("there is no answer")]
    Send(#[source] reqwest::Error),
    /// It was refused.
    #[error("the answer is {status}")]
    Status {
        /// How.
        status: StatusCode,
        /// When to try again, if that was said.
        pause: Option<Duration>,
    },
}

impl Error {
    /// Whether the same may be taken at another time.
    fn is_retryable(&self) -> bool {
        match self {
            Self::Client(_) | Self::Authorities(_) => false,
            Self::Send(_) => true,
            Self::Status { status, .. } => {
                status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS
            }
        }
    }

    fn pause(&self) -> Option<Duration> {
        match self {
            Self::Status { pause, .. } => *pause,
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Read as _, Write as _};
    use std::net::TcpListener;
    use std::thread::{self, JoinHandle};

    use super::*;

    /// One that hardly waits between tries.
    fn webhook(limit: Duration, url: &str) -> Webhook {
        let pause = Duration::from_millis(1);
        Webhook::within(limit, pause, &url.parse().unwrap(), &[]).unwrap()
    }

    /// A server that gives these answers, one a connection; what it was asked, head and body.
    fn server(answers: &'static [&'static str]) -> (Webhook, JoinHandle<Vec<(String, String)>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/secret", listener.local_addr().unwrap());
        let webhook = webhook(LIMIT, &url);
        let asked = thread::spawn(move || {
            let mut asked = Vec::new();
            for answer in answers {
                let mut reader = BufReader::new(listener.accept().unwrap().0);
                let (mut head, mut length) = (String::new(), 0);
                while !head.ends_with("\r\n\r\n") {
                    let start = head.len();
                    reader.read_line(&mut head).unwrap();
                    if let Some(value) = head[start..].strip_prefix("content-length: ") {
                        length = value.trim().parse().unwrap();
                    }
                }
                let mut body = vec![0; length];
                reader.read_exact(&mut body).unwrap();
                asked.push((head, String::from_utf8(body).unwrap()));
                reader.get_mut().write_all(answer.as_bytes()).unwrap();
            }
            asked
        });
        (webhook, asked)
    }

    const TAKEN: &str = "HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n";
    const BROKEN: &str = "HTTP/1.1 500 Oops\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

    #[tokio::test]
    async fn a_notice_is_posted_as_json() {
        let (webhook, asked) = server(&[TAKEN]);
        webhook.post(b"{}\n").await.unwrap();
        let asked = asked.join().unwrap();
        let (head, body) = &asked[0];
        assert!(head.starts_with("POST /secret HTTP/1.1\r\n"), "{head}");
        assert!(
            head.contains("content-type: application/json\r\n"),
            "{head}"
        );
        assert!(head.contains("user-agent: registry-proxy/"), "{head}");
        assert_eq!(body, "{}\n");
    }

    #[tokio::test]
    async fn what_may_pass_is_tried_again_and_not_for_ever() {
        let too_many =
            "HTTP/1.1 429 Slow\r\nretry-after: 0\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        let (webhook, asked) = server(Box::leak(Box::new([too_many, "", TAKEN])));
        webhook.post(b"{}").await.unwrap();
        assert_eq!(asked.join().unwrap().len(), 3);

        let (webhook, asked) = server(&[BROKEN, BROKEN, BROKEN]);
        let error = webhook.post(b"{}").await.unwrap_err();
        assert!(matches!(error, Error::Status { status, .. } if status == 500));
        assert_eq!(asked.join().unwrap().len(), 3);
    }

    #[tokio::test]
    async fn a_refusal_and_a_redirect_are_final() {
        for answer in [
            &["HTTP/1.1 404 No\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"],
            &["HTTP/1.1 302 Go\r\nlocation: /b\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"],
        ] {
            let (webhook, asked) = server(answer);
            let error = webhook.post(b"{}").await.unwrap_err();
            assert!(matches!(error, Error::Status { .. }), "{error}");
            assert_eq!(asked.join().unwrap().len(), 1);
        }
    }

    #[tokio::test]
    async fn silence_is_not_waited_out() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let webhook = webhook(Duration::from_millis(100), &url);
        let error = webhook.post(b"{}").await.unwrap_err();
        assert!(matches!(error, Error::Send(_)), "{error}");
    }

    #[tokio::test]
    async fn no_error_names_the_url() {
        let webhook = webhook(LIMIT, "http://127.0.0.1:1/secret");
        let error = webhook.post(b"{}").await.unwrap_err();
        let text = oci_mirror::error_chain::chain(&error);
        assert!(!text.contains("secret"), "{text}");
    }
}
