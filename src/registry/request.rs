//! One request to a registry and its answer: sent in turn, logged in when asked to, bounded, counted.

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, header};
use url::Url;

use super::client::Registry;
use super::envelope;
use super::error::{Error, Hint, Subject, is_temporary};
use super::fields::retry_after;
use super::hub;
use super::login::Pass;
use super::traffic::Slot;
use super::transport::{self, Unread};
use crate::reference::RepoName;

/// Most bytes of an error's body read, in search of its reason.
const MAX_ERROR_BODY: u64 = 16 << 10;

/// An answer whose body is still to come.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) response: reqwest::Response,
    #[expect(dead_code, reason = "held, not read: it is freed with the answer")]
    pub(super) slot: Slot,
}

impl Answer {
    pub(super) fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    pub(super) fn status(&self) -> StatusCode {
        self.response.status()
    }
}

impl Registry {
    pub(super) fn url(&self, name: &RepoName, rest: &str) -> Url {
        let mut url = self.base.clone();
        let name = hub::canonical_name(&self.host, name);
        // Names, tags and digests have no character that would need escaping.
        url.set_path(&format!("/v2/{name}/{rest}"));
        url
    }

    /// Asks as often as the policy allows.
    pub(super) async fn ask<T, F>(&self, question: impl FnMut() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let result = self.retry.run(question).await;
        // That one request is told to come later is no failure, and many are told at once. That a
        // question is still not answered after all its tries is as good as so many failures.
        if result.as_ref().is_err_and(Error::is_throttled) {
            self.traffic.bad(self.retry.tries());
        }
        result
    }

    /// Sends a request when it may be sent; a 401 is met by logging in, once.
    pub(super) async fn send(
        &self,
        method: Method,
        url: &Url,
        headers: &HeaderMap,
        subject: &Subject,
    ) -> Result<Answer, Error> {
        let slot = self.traffic.slot().await;
        let pass = self.gate.pass(subject.name()).await;
        let response = self
            .send_with(method.clone(), url, headers, &pass, subject)
            .await?;
        // Whoever a redirect has led to must not learn the registry's login, nor would the client send it
        // there: its challenge is none of ours.
        let is_ours = response.url().origin() == url.origin();
        if response.status() != StatusCode::UNAUTHORIZED || !is_ours {
            return Ok(Answer { response, slot });
        }
        let response = match self.gate.renew(&pass, response.headers(), subject).await {
            Ok(Some(pass)) => self.send_with(method, url, headers, &pass, subject).await?,
            Ok(None) => response,
            Err(failure) => return Err(failure.about(&self.host, subject)),
        };
        Ok(Answer { response, slot })
    }

    async fn send_with(
        &self,
        method: Method,
        url: &Url,
        headers: &HeaderMap,
        pass: &Pass,
        subject: &Subject,
    ) -> Result<reqwest::Response, Error> {
        self.traffic.turn().await;
        if let Some(failures) = self.traffic.given_up_after() {
            return Err(Error::GivenUp {
                registry: self.host.clone(),
                subject: subject.clone(),
                failures,
            });
        }
        let mut request = self
            .http
            .request(method.clone(), url.clone())
            .headers(headers.clone());
        if let Some(authorization) = &pass.authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let response = tokio::time::timeout(self.answer_timeout, request.send())
            .await
            .map_err(|_| self.too_slow(0, subject))
            .and_then(|sent| sent.map_err(|error| self.broken(error, subject)));
        match &response {
            Err(error) if error.is_retryable() => self.traffic.bad(1),
            Err(_) => {}
            Ok(response) => match response.status() {
                StatusCode::TOO_MANY_REQUESTS => {}
                status if is_temporary(status) => self.traffic.bad(1),
                // Says nothing yet: the token service may be what is broken.
                StatusCode::UNAUTHORIZED => {}
                // Good only once it has come whole.
                status if status.is_success() && method != Method::HEAD => {}
                status if status.is_server_error() => {}
                _ => self.traffic.good(),
            },
        }
        response
    }

    /// Turns an answer that is not a success into the error it is.
    pub(super) async fn expect_success(
        &self,
        answer: Answer,
        subject: &Subject,
    ) -> Result<Answer, Error> {
        let status = answer.status();
        if matches!(status, StatusCode::OK | StatusCode::PARTIAL_CONTENT) {
            return Ok(answer);
        }
        let retry_after = retry_after(answer.headers());
        if let Some(wait) = retry_after {
            self.traffic.quiet_for(wait.min(self.retry.max_retry_after));
        }
        // Without its body the error is still an error.
        let mut response = answer.response;
        let body = transport::read(&mut response, MAX_ERROR_BODY, self.answer_timeout).await;
        Err(Error::Status {
            registry: self.host.clone(),
            subject: subject.clone(),
            status,
            retry_after,
            message: body.ok().and_then(|body| envelope::message(&body)),
        })
    }

    /// Reads a body that may have at most `limit` bytes.
    pub(super) async fn read(
        &self,
        mut answer: Answer,
        limit: u64,
        subject: &Subject,
    ) -> Result<Bytes, Error> {
        let unread = match transport::read(&mut answer.response, limit, self.answer_timeout).await {
            Ok(body) => {
                self.traffic.good();
                return Ok(body);
            }
            Err(unread) => unread,
        };
        if !matches!(unread, Unread::TooLarge) {
            self.traffic.bad(1);
        }
        Err(match unread {
            Unread::TooLarge => Error::TooLarge {
                registry: self.host.clone(),
                subject: subject.clone(),
                limit,
            },
            Unread::TooSlow(received) => self.too_slow(received, subject),
            Unread::Broken(error) => self.broken(error, subject),
        })
    }

    fn too_slow(&self, received: usize, subject: &Subject) -> Error {
        Error::TooSlow {
            registry: self.host.clone(),
            subject: subject.clone(),
            received: received as u64,
            waited: self.answer_timeout,
        }
    }

    fn broken(&self, error: reqwest::Error, subject: &Subject) -> Error {
        // Registries that speak plain HTTP have a port in their name, as good as always.
        let has_port = self.base.scheme() == "https" && self.base.port().is_some();
        let hint = if transport::is_tls_refused(&error) {
            Some(Hint::Certificate)
        } else {
            (error.is_connect() && has_port).then_some(Hint::PlainHttp)
        };
        Error::Request {
            registry: self.host.clone(),
            subject: subject.clone(),
            hint,
            source: error.without_url(),
        }
    }
}
