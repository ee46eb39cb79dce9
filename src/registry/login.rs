//! Logging in: from a 401 to the `Authorization` field that the next request carries.
//!
//! It happens after a 401 and not before, by the challenge in that very answer, and once per repository
//! however many requests met the 401 at the same moment; when it fails, it has failed for all of
//! them. A token that says how long it lives is renewed before its end.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use http::{HeaderMap, HeaderValue, header};
use tokio::time::Instant;
use tracing::debug;

use super::challenge::{self, Challenge, scoped_repository};
use super::client::Options;
use super::credentials::{self, Credentials, Login};
use super::error::{Error, Subject};
use super::hub;
use super::retry::Advice as _;
use super::token::{self, Realm, Token, TokenClient, basic, field};
use super::traffic::Traffic;
use crate::excerpt::Excerpt;
use crate::reference::{RegistryHost, RepoName};

/// What requests for one repository carry.
#[derive(Debug, Clone, Default)]
pub(super) struct Pass {
    /// Counts tries to log in, so that a request can tell whether its 401 met the newest pass.
    tries: u64,
    /// `None` before the first login.
    pub(super) authorization: Option<HeaderValue>,
}

/// The way into one repository.
#[derive(Debug, Default)]
struct Door {
    pass: Pass,
    /// How to renew the pass before it expires, and when.
    renewal: Option<(Instant, Challenge)>,
    /// Why the last try to log in failed, if it did.
    failure: Option<Failure>,
}

/// Why there is no pass. Shared by all requests that have waited for it.
#[derive(Debug, Clone)]
pub(super) enum Failure {
    Credentials(Arc<credentials::Error>),
    Token(Arc<token::Error>),
}

/// The passes of one registry.
#[derive(Debug)]
pub(super) struct Gate {
    registry: RegistryHost,
    plain_http: bool,
    /// How often the token service is asked at most.
    tries: usize,
    traffic: Arc<Traffic>,
    tokens: TokenClient,
    credentials: Arc<Credentials>,
    doors: Mutex<HashMap<RepoName, Arc<tokio::sync::Mutex<Door>>>>,
}

impl Gate {
    pub(super) fn new(
        registry: RegistryHost,
        options: Options,
        credentials: Arc<Credentials>,
        traffic: Arc<Traffic>,
    ) -> Self {
        Self {
            registry,
            plain_http: options.plain_http,
            tries: options.retry.tries(),
            traffic,
            tokens: TokenClient::new(options),
            credentials,
            doors: Mutex::default(),
        }
    }

    /// The pass requests for `name` carry at present, renewed if it is about to expire.
    pub(super) async fn pass(&self, name: &RepoName) -> Pass {
        let door = self.door(name);
        let mut door = door.lock().await;
        if let Some((_, challenge)) = door.renewal.take_if(|(at, _)| *at <= Instant::now()) {
            match self.log_in(name, challenge).await {
                Ok(token) => door.open(token),
                // The old one may still do; if not, the 401 will say so.
                Err(failure) => debug!(%name, ?failure, "cannot renew a token"),
            }
        }
        door.pass.clone()
    }

    /// A better pass than `refused`: the one another request has got meanwhile, or a new one, as the
    /// answer with the fields `refusal` asks for.
    ///
    /// `None` when there is no login that could help.
    pub(super) async fn renew(
        &self,
        refused: &Pass,
        refusal: &HeaderMap,
        subject: &Subject,
    ) -> Result<Option<Pass>, Failure> {
        let door = self.door(subject.name());
        let mut door = door.lock().await;
        if door.pass.tries == refused.tries {
            let result = match wanted(refusal) {
                Ok(Some(challenge)) => self.log_in(subject.name(), challenge).await,
                Ok(None) => Ok(None),
                Err(error) => Err(error.into()),
            };
            match result {
                Ok(token) => door.open(token),
                Err(failure) => {
                    // Counted once, however many requests it is told to.
                    if failure.is_temporary() {
                        self.traffic.bad(self.tries);
                    }
                    door.close(failure);
                }
            }
        }
        match &door.failure {
            Some(failure) => Err(failure.clone()),
            None => Ok(door.pass.authorization.is_some().then(|| door.pass.clone())),
        }
    }

    /// Answers a challenge. `None` if there is no login for it.
    async fn log_in(
        &self,
        name: &RepoName,
        challenge: Challenge,
    ) -> Result<Option<Admission>, Failure> {
        let name = hub::canonical_name(&self.registry, name);
        let login = self.credentials.login(&self.registry, &name).await?;
        debug!(registry = %self.registry, repository = %name, anonymous = login.is_none(), "logging in");
        let (realm, service, scope) = match (&challenge, &login) {
            (
                Challenge::Bearer {
                    realm,
                    service,
                    scope,
                },
                _,
            ) => (realm, service, scope),
            (_, None) => return Ok(None),
            (_, Some(Login::IdentityToken(_))) => return Err(token::Error::NoPassword.into()),
            (_, Some(Login::Password { user, password })) => {
                let authorization = field(&basic(user, password.reveal()));
                return Ok(authorization.map(|authorization| Admission {
                    authorization,
                    renewal: None,
                }));
            }
        };
        let realm = Realm::parse(realm)?;
        if login.is_some() && realm.is_plain() && !self.plain_http {
            let service = realm.shown();
            return Err(token::Error::Plain { service }.into());
        }
        let ours = format!("repository:{name}:pull");
        let asked = scope.as_deref().filter(|scope| {
            // A scope for another repository would get us a token that is refused.
            scope
                .split_ascii_whitespace()
                .any(|scope| scoped_repository(scope) == Some(name.as_str()))
        });
        let request = token::Request {
            realm: &realm,
            service: service.as_deref(),
            scope: asked.unwrap_or(&ours),
            login: login.as_ref(),
        };
        let Token {
            authorization,
            renew_at,
        } = self.tokens.token(&request).await?;
        Ok(Some(Admission {
            authorization,
            renewal: renew_at.map(|at| (at, challenge)),
        }))
    }

    fn door(&self, name: &RepoName) -> Arc<tokio::sync::Mutex<Door>> {
        let mut doors = self.doors.lock().unwrap_or_else(PoisonError::into_inner);
        // Most requests find their door there; only the first needs a name of its own.
        if let Some(door) = doors.get(name) {
            return Arc::clone(door);
        }
        Arc::clone(doors.entry(name.clone()).or_default())
    }
}

/// What a login brought.
#[derive(Debug)]
struct Admission {
    authorization: HeaderValue,
    renewal: Option<(Instant, Challenge)>,
}

impl Door {
    fn open(&mut self, admission: Option<Admission>) {
        self.pass.tries += 1;
        self.failure = None;
        let (authorization, renewal) = admission.map_or((None, None), |found| {
            (Some(found.authorization), found.renewal)
        });
        self.pass.authorization = authorization;
        self.renewal = renewal;
    }

    fn close(&mut self, failure: Failure) {
        self.pass.tries += 1;
        self.failure = Some(failure);
    }
}

impl Failure {
    /// Whether the token service may answer better later.
    fn is_temporary(&self) -> bool {
        matches!(self, Self::Token(error) if error.is_retryable())
    }

    /// The error of a request that needed the login.
    pub(super) fn about(self, registry: &RegistryHost, subject: &Subject) -> Error {
        match self {
            Self::Credentials(source) => Error::Credentials {
                registry: registry.clone(),
                source,
            },
            Self::Token(source) => Error::Login {
                registry: registry.clone(),
                subject: subject.clone(),
                source,
            },
        }
    }
}

impl From<credentials::Error> for Failure {
    fn from(error: credentials::Error) -> Self {
        Self::Credentials(Arc::new(error))
    }
}

impl From<token::Error> for Failure {
    fn from(error: token::Error) -> Self {
        Self::Token(Arc::new(error))
    }
}

/// The challenge to answer: for a token, if the registry takes tokens; `None` if there is none we know.
fn wanted(refusal: &HeaderMap) -> Result<Option<Challenge>, token::Error> {
    let mut basic = None;
    let mut malformed = None;
    for field in refusal.get_all(header::WWW_AUTHENTICATE) {
        let text = String::from_utf8_lossy(field.as_bytes());
        let Ok(challenges) = challenge::parse(&text) else {
            malformed = Some(token::Error::Challenge(Excerpt(&text).into()));
            continue;
        };
        for challenge in challenges {
            match challenge {
                Challenge::Bearer { .. } => return Ok(Some(challenge)),
                Challenge::Basic => basic = Some(challenge),
                Challenge::Other => {}
            }
        }
    }
    match (basic, malformed) {
        (Some(basic), _) => Ok(Some(basic)),
        (None, Some(error)) => Err(error),
        (None, None) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_preferred_and_a_malformed_field_matters_only_alone() {
        let chosen = |fields: &[&str]| {
            let fields = fields
                .iter()
                .map(|field| (header::WWW_AUTHENTICATE, field.parse().unwrap()));
            wanted(&fields.collect::<HeaderMap>())
        };
        let is_bearer = |challenge: Option<Challenge>| matches!(challenge, Some(Challenge::Bearer { realm, .. }) if realm == "http://h");
        let bearer = r#"Bearer realm="http://h""#;
        assert!(is_bearer(chosen(&["Basic realm=x", bearer]).unwrap()));
        assert!(is_bearer(
            chosen(&["Basic, Bearer realm=\"http://h\""]).unwrap()
        ));
        assert!(is_bearer(
            chosen(&["=", bearer, "Bearer realm=\"http://later\""]).unwrap()
        ));
        assert_eq!(
            chosen(&["=", "Negotiate, Basic"]).unwrap(),
            Some(Challenge::Basic)
        );
        assert_eq!(chosen(&["Negotiate"]).unwrap(), None);
        assert_eq!(chosen(&[]).unwrap(), None);
        let error = chosen(&["Bearer realm=\"x"]).unwrap_err().to_string();
        assert!(error.contains("Bearer realm"), "{error}");
    }

    #[tokio::test]
    async fn no_login_leaves_an_encrypted_registry_for_a_plain_service() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), r#"{"auths":{"q.io":{"auth":"dTpw"}}}"#).unwrap();
        let credentials = Credentials::load(Some(file.path())).unwrap();
        // Nothing listens on port 1.
        let challenge = Challenge::Bearer {
            realm: "http://127.0.0.1:1/token".to_owned(),
            service: None,
            scope: None,
        };
        for (credentials, plain_http, refused) in [
            (credentials.clone(), false, true),
            (credentials, true, false),
            (Credentials::none(), false, false),
        ] {
            let mut options = Options {
                plain_http,
                ..Options::default()
            };
            options.retry.retries = 0;
            let traffic = Arc::new(Traffic::new(None, None, 1));
            let host = "q.io".parse().unwrap();
            let gate = Gate::new(host, options, Arc::new(credentials), traffic);
            let name = "a".parse().unwrap();
            let failure = gate.log_in(&name, challenge.clone()).await.unwrap_err();
            let Failure::Token(error) = failure else {
                panic!("{failure:?}")
            };
            assert_eq!(
                matches!(*error, token::Error::Plain { .. }),
                refused,
                "{error}"
            );
        }
    }
}
