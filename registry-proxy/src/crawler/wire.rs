//! The way to mirrors: what all crawls of a process share of it.
//!
//! There is one client for each policy, made once: each that is made reads the system's certificates anew.
//! Redirects are followed by `exchange`, not by the client, so that each hop is judged and paced.

pub(super) mod exchange;
mod rest;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use reqwest::Certificate;
use reqwest::redirect;

use super::check::{Limits, Mirror};
use super::guard::{Family, Guard, Policy};
use super::identity::user_agent;
use super::pace::Pace;
use crate::authorities;
use exchange::Way;
use rest::OneAtATime;

/// How long a connection nobody uses is kept: shorter than servers keep theirs.
const IDLE: Duration = Duration::from_secs(10);

/// How mirrors are asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// How we introduce ourselves.
    pub user_agent: Arc<str>,
    /// How long to wait for what.
    pub limits: Limits,
    /// Files with further certificate authorities.
    pub authorities: Vec<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            user_agent: user_agent("").into(),
            limits: Limits::default(),
            authorities: Vec::new(),
        }
    }
}

/// What asks mirrors; cloning is cheap.
#[derive(Debug, Clone)]
pub struct Wire {
    shared: Arc<Shared>,
    public_only: reqwest::Client,
    any: reqwest::Client,
}

#[derive(Debug)]
struct Shared {
    limits: Limits,
    name: HeaderValue,
    authorities: Vec<Certificate>,
}

impl Wire {
    /// Makes sure that mirrors can be asked. Reads the files of the authorities.
    pub fn new(settings: &Settings) -> Result<Self, Error> {
        let shared = Shared {
            limits: settings.limits,
            name: HeaderValue::from_str(&settings.user_agent).map_err(Error::Name)?,
            authorities: authorities::read(&settings.authorities)?,
        };
        let client = |policy| {
            shared.client(Guard {
                policy,
                family: None,
            })
        };
        Ok(Self {
            public_only: client(Policy::PublicOnly)?,
            any: client(Policy::Any)?,
            shared: Arc::new(shared),
        })
    }

    /// Asks one mirror, no faster than `pace`.
    pub fn mirror(&self, policy: Policy, pace: Arc<Pace>) -> Mirror {
        let client = match policy {
            Policy::PublicOnly => &self.public_only,
            Policy::Any => &self.any,
        };
        self.mirror_by(client.clone(), policy, pace)
    }

    /// Asks one mirror over addresses of one family only.
    pub(super) fn pinned(
        &self,
        policy: Policy,
        family: Family,
        pace: Arc<Pace>,
    ) -> Result<Mirror, Error> {
        let client = self.shared.client(Guard {
            policy,
            family: Some(family),
        })?;
        Ok(self.mirror_by(client, policy, pace))
    }

    fn mirror_by(&self, client: reqwest::Client, policy: Policy, pace: Arc<Pace>) -> Mirror {
        Mirror::new(Way {
            client,
            policy,
            limits: self.shared.limits,
            name: self.shared.name.clone(),
            pace,
            is_kept: false,
        })
    }
}

impl Shared {
    fn client(&self, guard: Guard) -> Result<reqwest::Client, Error> {
        reqwest::Client::builder()
            .dns_resolver(Arc::new(guard))
            .redirect(redirect::Policy::none())
            .connect_timeout(self.limits.connect)
            .read_timeout(self.limits.silence)
            .pool_max_idle_per_host(1)
            .pool_idle_timeout(IDLE)
            .connector_layer(OneAtATime)
            .tls_certs_merge(self.authorities.iter().cloned())
            .referer(false)
            .no_proxy()
            .build()
            .map_err(Error::Client)
    }
}

/// Why no mirror can be asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// TLS cannot be set up.
    #[error("cannot make a client of mirrors")]
    Client(#[source] reqwest::Error),
    /// The name we give ourselves cannot be sent.
    #[error("the name of the crawler cannot be sent to mirrors")]
    Name(#[source] http::header::InvalidHeaderValue),
    /// The further certificate authorities cannot be had.
    #[error(transparent)]
    Authorities(#[from] authorities::Error),
}
