//! As whom a mirror is asked: a mirror that tells its crawler from its clients must not get away with it.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

/// As whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Identity {
    /// As ourselves, with an address for complaints.
    #[default]
    Crawler,
    /// As a browser would.
    Browser,
}

impl Identity {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Crawler => "crawler",
            Self::Browser => "browser",
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Identity {
    type Err = UnknownIdentity;

    fn from_str(text: &str) -> Result<Self, UnknownIdentity> {
        match text {
            "crawler" => Ok(Self::Crawler),
            "browser" => Ok(Self::Browser),
            _ => Err(UnknownIdentity),
        }
    }
}

/// The word is nobody we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no identity of the crawler")]
pub struct UnknownIdentity;

/// How we introduce ourselves to mirror admins, who find out more at `contact`.
pub fn user_agent(_contact: &str) -> String {
    concat!(
        "registry-proxy/",
        env!("CARGO_PKG_VERSION"),
        " (crawler; verifies what this mirror holds)"
    )
    .to_owned()
}
