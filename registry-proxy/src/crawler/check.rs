//! One question to a mirror: do you have this blob, and are its bytes right?

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use http::StatusCode;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, HeaderMap};
use oci_mirror::digest::Digest;
use oci_mirror::error_chain::chain;
use oci_mirror::excerpt::Excerpt;
use reqwest::Method;
use reqwest::redirect;
use url::Url;

use super::guard::{Guard, Policy};
use super::pace::Pace;
use super::wire;

/// Most redirects followed at a mirror; clients stop at ten, ours included.
const MAX_REDIRECTS: usize = 5;

/// The slowest transfer still waited for, in bytes a second.
const MIN_SPEED: u64 = 64 << 10;

/// How long a connection rests between two requests. It is back in the pool only a moment after the last
/// byte was read, and whoever asks within that moment opens another one.
const REST: Duration = Duration::from_millis(1);

/// How long to wait for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// A connection to be made.
    pub connect: Duration,
    /// The next byte.
    pub silence: Duration,
    /// A whole answer, beside the time that its bytes take at the slowest speed; a tarpit ends here.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            silence: Duration::from_secs(30),
            grace: Duration::from_secs(60),
        }
    }
}

/// What a mirror answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// All its bytes were read and are right.
    Right,
    /// There, with the right length.
    There,
    /// Not there.
    Missing,
    /// There and wrong.
    Damaged(String),
    /// It could not be told.
    Unknown(String),
    /// Nobody is there to ask.
    Unreachable(String),
}

/// Asks one mirror, over one connection that is kept alive.
#[derive(Debug)]
pub struct Mirror {
    /// Or why there is none.
    client: Result<reqwest::Client, String>,
    policy: Policy,
    limits: Limits,
    pace: Arc<Pace>,
    /// Whether the request under way was redirected.
    redirected: Arc<AtomicBool>,
    /// Bytes of blobs read so far.
    pub bytes: u64,
    /// Requests made so far.
    pub requests: u64,
}

impl Mirror {
    /// One to be asked no faster than `pace`.
    pub(super) fn new(policy: Policy, pace: Arc<Pace>, settings: &wire::Settings) -> Self {
        let redirected = Arc::new(AtomicBool::new(false));
        let client = Self::client(policy, settings, Arc::clone(&redirected));
        Self {
            client: client.map_err(|error| format!("cannot make a client: {error}")),
            policy,
            limits: settings.limits,
            pace,
            redirected,
            bytes: 0,
            requests: 0,
        }
    }

    /// A client for a mirror, with the limits every exchange has.
    pub(super) fn client(
        policy: Policy,
        settings: &wire::Settings,
        redirected: Arc<AtomicBool>,
    ) -> Result<reqwest::Client, reqwest::Error> {
        let follow = redirect::Policy::custom(move |attempt| {
            redirected.store(true, Ordering::Relaxed);
            match refusal(attempt.previous(), attempt.url(), policy) {
                Some(reason) => attempt.error(reason),
                None => attempt.follow(),
            }
        });
        reqwest::Client::builder()
            .user_agent(&*settings.user_agent)
            .dns_resolver(Arc::new(Guard(policy)))
            .redirect(follow)
            .connect_timeout(settings.limits.connect)
            .read_timeout(settings.limits.silence)
            .pool_max_idle_per_host(1)
            .referer(false)
            .no_proxy()
            .build()
    }

    /// Whether a blob is there with the right length; reads it where `HEAD` cannot tell.
    ///
    /// Servers get `HEAD` wrong in ways that harm no client: they refuse it, or name no length, or 0. And a
    /// page sent for everything may name none either. So `HEAD` is believed when it says that the file is
    /// as it should be or is not there, and all else is for the bytes to show.
    pub async fn look(&mut self, url: &str, size: u64, digest: &Digest) -> Answer {
        let response = match self.ask(Method::HEAD, url, 0).await {
            Err(answer) => return answer,
            Ok(response) => response,
        };
        let refused = [StatusCode::METHOD_NOT_ALLOWED, StatusCode::NOT_IMPLEMENTED]
            .contains(&response.status());
        match head(response.status(), response.headers(), size) {
            Ok(Some(_)) => Answer::There,
            Err(answer @ (Answer::Missing | Answer::Unknown(_))) if !refused => answer,
            _ => self.read(url, size, digest).await,
        }
    }

    /// Reads a whole blob and compares length and digest.
    pub async fn read(&mut self, url: &str, size: u64, digest: &Digest) -> Answer {
        let response = match self.ask(Method::GET, url, size).await {
            Err(answer) => return answer,
            Ok(response) => response,
        };
        if let Err(answer) = head(response.status(), response.headers(), size) {
            return answer;
        }
        let mut hasher = digest.algorithm().hasher();
        let mut received: u64 = 0;
        let mut body = response.bytes_stream();
        while let Some(chunk) = body.next().await {
            let chunk = match chunk {
                Ok(chunk) => chunk,
                Err(error) => return Answer::Unknown(chain(&error)),
            };
            received += chunk.len() as u64;
            self.bytes += chunk.len() as u64;
            self.pace.bytes(chunk.len() as u64).await;
            if received > size {
                return Answer::Damaged(format!("more than the {size} bytes it should have"));
            }
            hasher.update(&chunk);
        }
        let found = hasher.finish();
        if received != size {
            Answer::Damaged(format!("{received} bytes instead of {size}"))
        } else if found != *digest {
            Answer::Damaged(format!("bytes with the digest {found}"))
        } else {
            Answer::Right
        }
    }

    /// A small file that is no blob, of at most `most` bytes; a longer one is damaged.
    pub async fn fetch(&mut self, url: &str, most: u64) -> Result<Vec<u8>, Answer> {
        let response = self.ask(Method::GET, url, most).await?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND | StatusCode::GONE | StatusCode::FORBIDDEN => {
                return Err(Answer::Missing);
            }
            status => return Err(Answer::Unknown(format!("status {status}"))),
        }
        let mut content = Vec::new();
        let mut body = response.bytes_stream();
        while let Some(chunk) = body.next().await {
            let chunk = chunk.map_err(|error| Answer::Unknown(chain(&error)))?;
            self.pace.bytes(chunk.len() as u64).await;
            if (content.len() + chunk.len()) as u64 > most {
                return Err(Answer::Damaged(format!("more than {most} bytes")));
            }
            content.extend_from_slice(&chunk);
        }
        Ok(content)
    }

    async fn ask(
        &mut self,
        method: Method,
        url: &str,
        size: u64,
    ) -> Result<reqwest::Response, Answer> {
        let url = Url::parse(url).map_err(|error| Answer::Unreachable(error.to_string()))?;
        if !self.policy.permits_url(&url) {
            return Err(Answer::Unreachable("its address is not public".to_owned()));
        }
        let client = match &self.client {
            Ok(client) => client,
            Err(reason) => return Err(Answer::Unreachable(reason.clone())),
        };
        self.pace.request().await;
        if self.requests > 0 {
            tokio::time::sleep(REST).await;
        }
        self.requests += 1;
        self.redirected.store(false, Ordering::Relaxed);
        let limit = self.limits.grace + Duration::from_secs(size / MIN_SPEED);
        let request = client
            .request(method, url)
            .header(ACCEPT_ENCODING, "identity")
            .timeout(limit);
        request.send().await.map_err(|error| {
            // Where a redirect leads to may be unreachable; that says nothing about the mirror itself.
            if error.is_connect() && !self.redirected.load(Ordering::Relaxed) {
                Answer::Unreachable(chain(&error))
            } else {
                Answer::Unknown(chain(&error))
            }
        })
    }
}

/// Why a redirect is not followed, if it is not.
fn refusal(previous: &[Url], next: &Url, policy: Policy) -> Option<&'static str> {
    let from_https = previous.last().is_some_and(|url| url.scheme() == "https");
    if previous.len() > MAX_REDIRECTS {
        Some("too many redirects")
    } else if from_https && next.scheme() != "https" {
        Some("redirected from https to http")
    } else if !policy.permits_url(next) {
        Some("redirected to an address that is not public")
    } else {
        None
    }
}

/// What status and header fields say already; the length if they name it and it is right.
fn head(status: StatusCode, headers: &HeaderMap, size: u64) -> Result<Option<u64>, Answer> {
    match status {
        StatusCode::OK => {}
        StatusCode::NOT_FOUND | StatusCode::GONE | StatusCode::FORBIDDEN => {
            return Err(Answer::Missing);
        }
        status => return Err(Answer::Unknown(format!("status {status}"))),
    }
    // Every client would take the decoded bytes, or the encoded ones, for damage.
    if let Some(encoding) = headers
        .get(CONTENT_ENCODING)
        .filter(|encoding| *encoding != "identity")
    {
        let encoding = String::from_utf8_lossy(encoding.as_bytes());
        return Err(Answer::Damaged(format!(
            "Content-Encoding {}",
            Excerpt(&encoding)
        )));
    }
    let length = headers
        .get(http::header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    match length {
        Some(length) if length != size => Err(Answer::Damaged(format!(
            "Content-Length {length} instead of {size}"
        ))),
        length => Ok(length),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_lead_neither_in_circles_nor_to_the_clear_nor_to_the_inside() {
        let urls = |urls: &[&str]| -> Vec<Url> {
            urls.iter().map(|url| Url::parse(url).unwrap()).collect()
        };
        let (public, any) = (Policy::PublicOnly, Policy::Any);
        for (previous, next, policy, reason) in [
            (
                &["http://m.example/x"][..],
                "http://n.example/x",
                public,
                None,
            ),
            (&["http://m.example/x"], "https://m.example/x", public, None),
            (
                &["https://m.example/x"],
                "https://n.example/x",
                public,
                None,
            ),
            (&["http://a.example"; 5], "http://a.example", public, None),
            (
                &["http://a.example"; 6],
                "http://a.example",
                any,
                Some("too many"),
            ),
            (
                &["https://m.example/x"],
                "http://m.example/x",
                any,
                Some("to http"),
            ),
            (
                &["http://m.example", "https://m.example"],
                "http://m.example",
                public,
                Some("to http"),
            ),
            (
                &["http://m.example"],
                "http://127.0.0.1/",
                public,
                Some("not public"),
            ),
            (&["http://m.example"], "http://127.0.0.1/", any, None),
            (
                &["http://m.example"],
                "http://[::ffff:10.0.0.1]/",
                public,
                Some("not public"),
            ),
            (
                &["http://m.example"],
                "http://169.254.169.254/",
                public,
                Some("not public"),
            ),
            (
                &["http://m.example"],
                "http://0xa9fea9fe/",
                public,
                Some("not public"),
            ),
            (
                &["http://m.example"],
                "file:///etc/passwd",
                public,
                Some("not public"),
            ),
            (
                &["https://m.example"],
                "file:///etc/passwd",
                any,
                Some("to http"),
            ),
        ] {
            let found = refusal(&urls(previous), &Url::parse(next).unwrap(), policy);
            match reason {
                None => assert_eq!(found, None, "{previous:?} {next}"),
                Some(reason) => assert!(
                    found.is_some_and(|found| found.contains(reason)),
                    "{previous:?} {next}: {found:?}"
                ),
            }
        }
    }

    #[test]
    fn the_head_of_an_answer_tells_right_from_wrong_and_from_neither() {
        let head = |status: u16, fields: &[(&'static str, &'static str)]| {
            let fields = fields
                .iter()
                .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
            super::head(StatusCode::from_u16(status).unwrap(), &fields.collect(), 10)
        };
        assert_eq!(head(200, &[("content-length", "10")]), Ok(Some(10)));
        assert_eq!(head(200, &[]), Ok(None));
        assert_eq!(head(200, &[("content-encoding", "identity")]), Ok(None));
        for fields in [
            &[("content-length", "11")][..],
            &[("content-length", "10"), ("content-encoding", "br")],
        ] {
            assert!(matches!(head(200, fields), Err(Answer::Damaged(_))));
        }
        for status in [403, 404, 410] {
            assert_eq!(head(status, &[]), Err(Answer::Missing));
        }
        for status in [204, 206, 304, 400, 401, 408, 429, 451, 500, 502, 503] {
            let answer = head(status, &[("content-length", "10")]);
            assert!(matches!(answer, Err(Answer::Unknown(_))), "{status}");
        }
    }
}
