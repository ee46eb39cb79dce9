//! What a mirror is: a server at one place, or something near everybody.

use std::fmt;
use std::str::FromStr;

use oci_mirror::excerpt::Excerpt;
use serde::{Deserialize, Serialize};

/// What a host is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Kind {
    /// A server at one place.
    #[default]
    Server,
    /// A content delivery network: near everybody, at no place.
    Cdn,
}

impl Kind {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Cdn => "cdn",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Kind {
    type Err = InvalidKind;

    fn from_str(text: &str) -> Result<Self, InvalidKind> {
        match text {
            "server" => Ok(Self::Server),
            "cdn" => Ok(Self::Cdn),
            _ => Err(InvalidKind(Excerpt(text).into())),
        }
    }
}

crate::by_text::by_text!(Kind);

/// The text is no kind of host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} is no kind of mirror: server or cdn")]
pub struct InvalidKind(Box<str>);
