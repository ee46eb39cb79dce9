//! Logging in: from a 401 to the `Authorization` field that the next request carries.
//!
//! The flow itself (challenge, token service) is `oci-client`'s. Here is when it runs: after a 401
//! and not before, once per repository however many requests met the 401 at the same moment, and
//! again when the token has expired.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use http::HeaderValue;
use oci_client::RegistryOperation;
use oci_client::errors::OciDistributionError;
use oci_client::secrets::RegistryAuth;
use tracing::debug;

use super::client::Options;
use super::credentials::{Credentials, Login};
use super::error::{Error, Subject, envelope_message};
use super::hub;
use crate::excerpt::Excerpt;
use crate::reference::{RegistryHost, RepoName};

/// What requests for one repository carry.
#[derive(Debug, Clone, Default)]
pub(super) struct Pass {
    /// Counts logins, so that a request can tell whether its 401 met the newest pass.
    generation: u64,
    /// `None` before the first login.
    pub(super) authorization: Option<HeaderValue>,
}

type Slot = Arc<tokio::sync::Mutex<Pass>>;

/// The passes of one registry.
pub(super) struct Gate {
    registry: RegistryHost,
    client: oci_client::Client,
    credentials: Arc<Credentials>,
    timeout: std::time::Duration,
    slots: Mutex<HashMap<RepoName, Slot>>,
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate")
            .field("registry", &self.registry)
            .finish_non_exhaustive()
    }
}

impl Gate {
    pub(super) fn new(
        registry: RegistryHost,
        options: &Options,
        credentials: Arc<Credentials>,
    ) -> Result<Self, OciDistributionError> {
        use oci_client::client::{Certificate, CertificateEncoding, ClientConfig, ClientProtocol};
        let certificates = options.tls_ca.iter().map(|pem| Certificate {
            encoding: CertificateEncoding::Pem,
            data: pem.to_vec(),
        });
        let client = oci_client::Client::try_from(ClientConfig {
            protocol: if options.plain_http {
                ClientProtocol::Http
            } else {
                ClientProtocol::Https
            },
            accept_invalid_certificates: options.insecure_skip_tls_verify,
            extra_root_certificates: certificates.collect(),
            connect_timeout: Some(options.connect_timeout),
            read_timeout: Some(options.read_timeout),
            user_agent: super::client::USER_AGENT,
            ..ClientConfig::default()
        })?;
        Ok(Self {
            registry,
            client,
            credentials,
            timeout: options.answer_timeout,
            slots: Mutex::default(),
        })
    }

    /// The pass requests for `name` carry at present.
    pub(super) async fn pass(&self, name: &RepoName) -> Pass {
        self.slot(name).lock().await.clone()
    }

    /// A better pass than `refused`: the one another request has got meanwhile, or a new one.
    ///
    /// `None` when there is no login that could help.
    pub(super) async fn renew(
        &self,
        refused: &Pass,
        subject: &Subject,
    ) -> Result<Option<Pass>, Error> {
        let slot = self.slot(subject.name());
        let mut pass = slot.lock().await;
        if pass.generation == refused.generation {
            let authorization = self.log_in(subject).await?;
            pass.generation += 1;
            pass.authorization = authorization;
        }
        Ok(pass.authorization.is_some().then(|| pass.clone()))
    }

    async fn log_in(&self, subject: &Subject) -> Result<Option<HeaderValue>, Error> {
        let name = hub::canonical_name(&self.registry, subject.name());
        let stored = self
            .credentials
            .login(&self.registry, &name)
            .await
            .map_err(|source| Error::Credentials {
                registry: self.registry.clone(),
                source,
            })?;
        debug!(registry = %self.registry, repository = %name, anonymous = stored.is_none(), "logging in");
        let auth = match &stored {
            Some(login) => {
                RegistryAuth::Basic(login.user.clone(), login.password.reveal().to_owned())
            }
            None => RegistryAuth::Anonymous,
        };
        let failed = |retryable, source: Box<dyn std::error::Error + Send + Sync>| Error::Login {
            registry: self.registry.clone(),
            subject: subject.clone(),
            retryable,
            source,
        };
        let image = oci_client::Reference::with_tag(
            hub::api_host(&self.registry).to_owned(),
            name.to_string(),
            "latest".to_owned(),
        );
        let flow = self.client.auth(&image, &auth, RegistryOperation::Pull);
        let token = match tokio::time::timeout(self.timeout, flow).await {
            Err(elapsed) => return Err(failed(true, elapsed.into())),
            Ok(Err(OciDistributionError::RequestError(error))) => {
                return Err(failed(!error.is_redirect(), error.without_url().into()));
            }
            Ok(Err(error)) => {
                return Err(failed(false, Refusal::new(error, stored.as_ref()).into()));
            }
            Ok(Ok(token)) => token,
        };
        Ok(match (token, &stored) {
            (Some(token), _) => field(&format!("Bearer {token}")),
            (None, Some(login)) => field(&basic(login)),
            (None, None) => None,
        })
    }

    fn slot(&self, name: &RepoName) -> Slot {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = slots.get(name) {
            return Arc::clone(slot);
        }
        Arc::clone(slots.entry(name.clone()).or_default())
    }
}

/// Why the token service gives no token, fit to be printed.
#[derive(Debug, thiserror::Error)]
#[error("{what}{}", Reason(.reason.as_deref()))]
struct Refusal {
    what: &'static str,
    /// In its words, already excerpted.
    reason: Option<Box<str>>,
}

impl Refusal {
    /// The words are foreign, and some services repeat what they were sent.
    fn new(error: OciDistributionError, login: Option<&Login>) -> Self {
        let (what, text) = match error {
            OciDistributionError::AuthenticationFailure(body) => {
                ("the token service refuses", body)
            }
            error => ("the token service cannot be used", error.to_string()),
        };
        let secret = login.is_some_and(|login| {
            let encoded = basic(login);
            let encoded = encoded.trim_start_matches("Basic ");
            [login.password.reveal(), encoded]
                .iter()
                .any(|secret| !secret.is_empty() && text.contains(secret))
        });
        let reason = if secret || text.trim().is_empty() {
            None
        } else {
            Some(envelope_message(text.as_bytes()).unwrap_or_else(|| Excerpt(text.trim()).into()))
        };
        Self { what, reason }
    }
}

struct Reason<'a>(Option<&'a str>);

impl std::fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.map_or(Ok(()), |reason| write!(f, ": {reason}"))
    }
}

fn basic(login: &Login) -> String {
    let pair = format!("{}:{}", login.user, login.password.reveal());
    let encoded = base64::engine::general_purpose::STANDARD.encode(pair);
    format!("Basic {encoded}")
}

/// A token that is no header value cannot be sent; the request then goes without.
fn field(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_short_and_shows_no_secret() {
        let login = Login {
            user: "me".to_owned(),
            password: "secret".to_owned().into(),
        };
        let long = "x".repeat(100_000);
        for (body, shown) in [
            ("no\u{1b}[2J", r": `no\u{1b}[2J`"),
            (
                r#"{"errors":[{"code":"DENIED","message":"no"}]}"#,
                ": `DENIED: no`",
            ),
            ("wrong password `secret`", ""),
            ("you sent Basic bWU6c2VjcmV0", ""),
            (" ", ""),
            (long.as_str(), "x…`"),
        ] {
            let error = OciDistributionError::AuthenticationFailure(body.to_owned());
            let text = Refusal::new(error, Some(&login)).to_string();
            assert!(text.starts_with("the token service refuses"), "{text}");
            assert!(text.len() < 200 && text.ends_with(shown), "{text}");
            assert!(!text.contains("secret") && !text.contains("bWU6"), "{text}");
        }
    }
}
