//! The way to mirrors: what all crawls of a process share of it.

use std::path::PathBuf;
use std::sync::Arc;

use super::check::{Limits, Mirror};
use super::guard::Policy;
use super::identity::user_agent;
use super::pace::Pace;

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
    settings: Arc<Settings>,
}

impl Wire {
    /// Makes sure that mirrors can be asked.
    pub fn new(settings: &Settings) -> Result<Self, Error> {
        // The authorities are not read yet.
        Mirror::client(Policy::Any, settings, Arc::default()).map_err(Error::Client)?;
        Ok(Self {
            settings: Arc::new(settings.clone()),
        })
    }

    /// Asks one mirror, no faster than `pace`.
    pub fn mirror(&self, policy: Policy, pace: Arc<Pace>) -> Mirror {
        Mirror::new(policy, pace, &self.settings)
    }
}

/// Why no mirror can be asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// TLS cannot be set up, or the name we give ourselves is none.
    #[error("cannot make a client of mirrors")]
    Client(#[source] reqwest::Error),
}
