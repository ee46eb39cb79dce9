//! Whether people want a mirror, or a site, used, and who says so.

use serde::Serialize;

use super::Reason;

/// Who turns a switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// An administrator of the network.
    Admin,
    /// The people of the site.
    Site,
}

/// Whether somebody wants a host, or a site, used.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum Switch {
    /// Yes.
    #[default]
    Enabled,
    /// No.
    Disabled {
        /// Why; may be empty.
        reason: String,
    },
}

impl Switch {
    /// Why it is off, if it is.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Enabled => None,
            Self::Disabled { reason } => Some(reason),
        }
    }
}

impl From<Option<String>> for Switch {
    /// Off, with a reason; on without.
    fn from(reason: Option<String>) -> Self {
        reason.map_or(Self::Enabled, |reason| Self::Disabled { reason })
    }
}

impl From<Option<Reason>> for Switch {
    fn from(reason: Option<Reason>) -> Self {
        Self::from(reason.map(String::from))
    }
}
