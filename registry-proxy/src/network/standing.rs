//! Whether a host may be used at all, and if not, who or what says so.
//!
//! There is one place that decides it, [`Host::objections`](super::Host::objections); everything that
//! lists, selects, crawls or explains asks there.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::SiteName;

/// Crawls that must fail in a row before a host counts as gone rather than shaky.
pub const FAILURES_TO_DISABLE: u32 = 4;

/// What the crawler last found of a host as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum Health {
    /// Every request got a usable answer.
    #[default]
    Healthy,
    /// It could not be crawled; what it was verified to hold is set aside until it can.
    Failing {
        /// Crawls failed in a row.
        crawls: u32,
        /// Why the last one failed.
        reason: String,
    },
    /// It sent wrong bytes; that it no longer does has to be shown by reading.
    Quarantined {
        /// What was wrong.
        reason: String,
    },
}

impl Health {
    /// By how much the host's bandwidth counts.
    pub const fn factor(&self) -> f64 {
        match self {
            Self::Healthy => 1.0,
            Self::Failing { .. } | Self::Quarantined { .. } => 0.0,
        }
    }
}

/// Why a host is not used; the first in this order comes first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "inactive", rename_all = "kebab-case")]
pub enum Inactive {
    /// An administrator switched its whole site off.
    SiteDisabled {
        /// Which site.
        site: SiteName,
        /// What the administrator wrote.
        reason: String,
    },
    /// An administrator switched it off.
    DisabledByAdmin {
        /// What the administrator wrote.
        reason: String,
    },
    /// Its own people switched its whole site off.
    SiteDisabledBySite {
        /// Which site.
        site: SiteName,
        /// What they wrote.
        reason: String,
    },
    /// Its own people switched it off.
    DisabledBySite {
        /// What they wrote.
        reason: String,
    },
    /// It sent wrong bytes.
    Quarantined {
        /// What was wrong.
        reason: String,
    },
    /// The last crawl failed.
    Failing {
        /// Crawls failed in a row.
        crawls: u32,
        /// Why the last one failed.
        reason: String,
    },
    /// It has no http or https URL, so it can serve other mirrors but no client.
    NoHttpUrl,
}

impl Inactive {
    /// Whether somebody wants it so, rather than the host being in no state to be used.
    pub const fn is_intended(&self) -> bool {
        match self {
            Self::SiteDisabled { .. }
            | Self::DisabledByAdmin { .. }
            | Self::SiteDisabledBySite { .. }
            | Self::DisabledBySite { .. } => true,
            Self::Quarantined { .. } | Self::Failing { .. } | Self::NoHttpUrl => false,
        }
    }
}

impl fmt::Display for Inactive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SiteDisabled { site, reason } => {
                write!(f, "site {site} disabled by an administrator{}", Why(reason))
            }
            Self::DisabledByAdmin { reason } => {
                write!(f, "disabled by an administrator{}", Why(reason))
            }
            Self::SiteDisabledBySite { site, reason } => {
                write!(f, "site {site} disabled by its own people{}", Why(reason))
            }
            Self::DisabledBySite { reason } => {
                write!(f, "disabled by its own people{}", Why(reason))
            }
            Self::Quarantined { reason } => write!(f, "quarantined: {reason}"),
            Self::Failing { crawls, reason } if *crawls >= FAILURES_TO_DISABLE => {
                write!(f, "disabled after {crawls} failed crawls: {reason}")
            }
            Self::Failing { crawls: 1, reason } => write!(f, "the last crawl failed: {reason}"),
            Self::Failing { crawls, reason } => {
                write!(f, "the last {crawls} crawls failed: {reason}")
            }
            Self::NoHttpUrl => f.write_str("it has no http or https URL"),
        }
    }
}

/// A reason that somebody wrote, which may be empty.
struct Why<'a>(&'a str);

impl fmt::Display for Why<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            "" => Ok(()),
            reason => write!(f, ": {reason}"),
        }
    }
}
