//! The token service: where a login becomes a token that the registry accepts.
//!
//! [The protocol][token] is a `GET` with the login in `Authorization`, or without any, and for an identity
//! token [a form by `POST`][oauth2]. Realm and answer come from outside: the answer is bounded in
//! size and time, and a login goes over an unencrypted connection only if the registry is spoken to
//! like that too. Nothing in here is shown that could be a secret.
//!
//! [token]: https://distribution.github.io/distribution/spec/auth/token/
//! [oauth2]: https://distribution.github.io/distribution/spec/auth/oauth/

mod answer;

use std::time::Duration;

use base64::Engine as _;
use http::{HeaderValue, StatusCode, header};
use tokio::sync::OnceCell;
use tokio::time::Instant;
use url::{Url, form_urlencoded};

use super::client::Options;
use super::credentials::Login;
use super::error::{Detail, is_temporary};
use super::fields::retry_after;
use super::retry::Advice;
use super::transport::{self, Redirects, Unread};
use crate::excerpt::Excerpt;
pub(super) use answer::Token;
use answer::{parse, reason};

/// Longest answer read, in bytes. Tokens with many claims have a few thousand.
const MAX_ANSWER: u64 = 64 << 10;

/// How we introduce ourselves to a service that wants to know.
const CLIENT_ID: &str = "oci-mirror";

/// Asks token services; the connection is set up when one is asked for the first time.
#[derive(Debug)]
pub(super) struct TokenClient {
    options: Options,
    http: OnceCell<reqwest::Client>,
}

/// What is asked for.
#[derive(Debug)]
pub(super) struct Request<'a> {
    pub(super) realm: &'a Realm,
    pub(super) service: Option<&'a str>,
    /// Separated by spaces.
    pub(super) scope: &'a str,
    /// Without one, anonymously.
    pub(super) login: Option<&'a Login>,
}

/// The address of a token service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Realm(Url);

impl Realm {
    /// Only a web address will do. What it may say of a user is dropped: the login is ours.
    pub(super) fn parse(text: &str) -> Result<Self, Error> {
        let unusable = || Error::Realm(Excerpt(text).into());
        let mut url = Url::parse(text).map_err(|_| unusable())?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(unusable());
        }
        url.set_username("").map_err(|()| unusable())?;
        url.set_password(None).map_err(|()| unusable())?;
        url.set_fragment(None);
        Ok(Self(url))
    }

    /// Whether what is sent there can be read on the way.
    pub(super) fn is_plain(&self) -> bool {
        self.0.scheme() == "http"
    }

    /// The host, fit to be shown.
    pub(super) fn shown(&self) -> Box<str> {
        Excerpt(self.0.host_str().unwrap_or_default()).into()
    }
}

impl TokenClient {
    pub(super) fn new(options: Options) -> Self {
        Self {
            options,
            http: OnceCell::new(),
        }
    }

    /// Gets a token, asking as often as the policy allows.
    pub(super) async fn token(&self, request: &Request<'_>) -> Result<Token, Error> {
        self.options.retry.run(|| self.once(request)).await
    }

    async fn once(&self, request: &Request<'_>) -> Result<Token, Error> {
        let service = || request.realm.shown();
        let http = self
            .http
            .get_or_try_init(async || transport::client(&self.options, Redirects::SameHost))
            .await
            .map_err(Error::Client)?;
        let broken = |error: reqwest::Error| Error::Request {
            service: service(),
            source: error.without_url(),
        };
        let patience = self.options.answer_timeout;
        let too_slow = || Error::TooSlow {
            service: service(),
            waited: patience,
        };
        let mut response = tokio::time::timeout(patience, request.build(http).send())
            .await
            .map_err(|_| too_slow())?
            .map_err(broken)?;
        let received = Instant::now();
        let body = match transport::read(&mut response, MAX_ANSWER, patience).await {
            Ok(body) => Ok(body),
            Err(Unread::TooLarge) => Err(Error::TooLarge { service: service() }),
            Err(Unread::TooSlow(_)) => Err(too_slow()),
            Err(Unread::Broken(error)) => Err(broken(error)),
        };
        let status = response.status();
        if status != StatusCode::OK {
            let body = body.unwrap_or_default();
            return Err(Error::Refused {
                service: service(),
                status,
                retry_after: retry_after(response.headers()),
                reason: reason(&body, request.login),
            });
        }
        parse(&body?, received).ok_or_else(|| Error::NoToken { service: service() })
    }
}

impl Request<'_> {
    fn build(&self, http: &reqwest::Client) -> reqwest::RequestBuilder {
        let scopes = self.scope.split_ascii_whitespace();
        let (user, password) = match self.login {
            Some(Login::IdentityToken(token)) => {
                let mut form = form_urlencoded::Serializer::new(String::new());
                form.append_pair("grant_type", "refresh_token")
                    .extend_pairs(self.service.map(|service| ("service", service)))
                    .append_pair("scope", &scopes.collect::<Vec<_>>().join(" "))
                    .append_pair("client_id", CLIENT_ID)
                    .append_pair("refresh_token", token.reveal());
                return http
                    .post(self.realm.0.clone())
                    .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
                    .body(form.finish());
            }
            Some(Login::Password { user, password }) => (Some(user), Some(password)),
            None => (None, None),
        };
        let mut url = self.realm.0.clone();
        url.query_pairs_mut()
            .extend_pairs(self.service.map(|service| ("service", service)))
            .extend_pairs(scopes.map(|scope| ("scope", scope)))
            .extend_pairs(user.map(|user| ("account", user)));
        let mut request = http.get(url);
        if let (Some(user), Some(password)) = (user, password) {
            request = request.basic_auth(user, Some(password.reveal()));
        }
        request
    }
}

/// The `Authorization` field for a user and password.
pub(super) fn basic(user: &str, password: &str) -> String {
    let pair = format!("{user}:{password}");
    let encoded = base64::engine::general_purpose::STANDARD.encode(pair);
    format!("Basic {encoded}")
}

/// A field that logs do not show. A text that is no header value cannot be sent.
pub(super) fn field(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// What the registry wants to see is not written as the standard says.
    #[error("the registry's challenge {0} cannot be understood")]
    Challenge(Box<str>),
    /// The realm is no web address.
    #[error("{0} is not the address of a token service")]
    Realm(Box<str>),
    /// The login could be read on the way, which it cannot on the way to the registry.
    #[error("the login is not sent to the token service {service} by plain HTTP")]
    Plain { service: Box<str> },
    /// The registry wants a password, the login is none.
    #[error("it wants user and password, but the stored login is an identity token")]
    NoPassword,
    /// The HTTP client could not be made.
    #[error("cannot set up the connection to a token service")]
    Client(#[source] reqwest::Error),
    /// No answer, or one that broke off.
    #[error("cannot get a token from the token service {service}")]
    Request {
        service: Box<str>,
        source: reqwest::Error,
    },
    /// No whole answer in time.
    #[error("the token service {service} does not answer within {} s", .waited.as_secs_f32())]
    TooSlow { service: Box<str>, waited: Duration },
    /// Another answer than a token. A redirect elsewhere is one: the login is not for there.
    #[error("the token service {service} refuses with {status}{}", Detail(.reason.as_deref()))]
    Refused {
        service: Box<str>,
        status: StatusCode,
        retry_after: Option<Duration>,
        /// In its words, already excerpted.
        reason: Option<Box<str>>,
    },
    /// The answer is longer than one may be.
    #[error("the answer of the token service {service} is longer than {MAX_ANSWER} bytes")]
    TooLarge { service: Box<str> },
    /// The answer is something else.
    #[error("the answer of the token service {service} is not the JSON of a token")]
    NoToken { service: Box<str> },
}

impl Advice for Error {
    fn is_retryable(&self) -> bool {
        match self {
            Self::Request { source, .. } => transport::is_temporary(source),
            Self::TooSlow { .. } => true,
            Self::Refused { status, .. } => is_temporary(*status),
            _ => false,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password() -> Login {
        Login::Password {
            user: "me".to_owned(),
            password: "secret".to_owned().into(),
        }
    }

    fn built(login: Option<&Login>, realm: &str, service: Option<&str>) -> reqwest::Request {
        let request = Request {
            realm: &Realm::parse(realm).unwrap(),
            service,
            scope: "repository:a/b:pull  repository:c:pull",
            login,
        };
        request.build(&reqwest::Client::new()).build().unwrap()
    }

    #[test]
    fn a_token_is_asked_for_as_the_protocol_says() {
        let anonymous = built(None, "https://u:p@h/t?a=b#f", Some("r & s"));
        assert_eq!(
            anonymous.url().as_str(),
            "https://h/t?a=b&service=r+%26+s&scope=repository%3Aa%2Fb%3Apull&scope=repository%3Ac%3Apull"
        );
        assert!(!anonymous.headers().contains_key(header::AUTHORIZATION));

        let login = built(Some(&password()), "https://h/t", None);
        let query = login.url().query().unwrap();
        assert!(
            query.ends_with("&account=me") && !query.contains("service"),
            "{query}"
        );
        let authorization = &login.headers()[header::AUTHORIZATION];
        assert_eq!(authorization, &basic("me", "secret"));
        assert!(authorization.is_sensitive());

        let token = Login::IdentityToken("a&b".to_owned().into());
        let form = built(Some(&token), "https://h/t", Some("r"));
        assert_eq!(
            (form.method().as_str(), form.url().as_str()),
            ("POST", "https://h/t")
        );
        assert_eq!(
            form.body().unwrap().as_bytes().unwrap(),
            b"grant_type=refresh_token&service=r&scope=repository%3Aa%2Fb%3Apull+repository%3Ac%3Apull\
              &client_id=oci-mirror&refresh_token=a%26b"
        );
    }

    #[test]
    fn only_a_web_address_is_a_realm() {
        for text in [
            "",
            "/token",
            "token",
            "ftp://h/t",
            "file:///etc/passwd",
            "https://",
        ] {
            assert!(Realm::parse(text).is_err(), "{text}");
        }
        assert!(Realm::parse("http://h/t").unwrap().is_plain());
        assert!(!Realm::parse("HTTPS://h/t").unwrap().is_plain());
    }
}
