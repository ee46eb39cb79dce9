//! How hosts are called.

use std::fmt;
use std::str::FromStr;

use oci_mirror::excerpt::Excerpt;
use serde::{Deserialize, Serialize};

/// Longest host name, in characters.
pub const MAX_LEN: usize = 64;

/// The number of a host in the database; never used again after the host is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct HostId(
    /// The number.
    pub u32,
);

impl fmt::Display for HostId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The name of a host: 1 to 64 letters, digits, `.`, `_` and `-`, not starting with `-`.
///
/// ```
/// use registry_proxy::network::HostName;
/// assert!("mirror.example.org".parse::<HostName>().is_ok());
/// assert!("--name".parse::<HostName>().is_err());
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostName(Box<str>);

impl HostName {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for HostName {
    type Err = InvalidHostName;

    fn from_str(text: &str) -> Result<Self, InvalidHostName> {
        let legal = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-');
        let right = (1..=MAX_LEN).contains(&text.len())
            && text.bytes().all(legal)
            && !text.starts_with('-');
        right
            .then(|| Self(text.into()))
            .ok_or_else(|| InvalidHostName(Excerpt(text).into()))
    }
}

crate::by_text::by_text!(HostName);

/// The text cannot be the name of a host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0} is not a host name: 1 to {MAX_LEN} letters, digits, `.`, `_` or `-`, not starting with `-`"
)]
pub struct InvalidHostName(Box<str>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejects_what_is_no_name() {
        for text in ["", "-x", "a b", "a/b", "é", "a\n", &"x".repeat(65)] {
            assert!(text.parse::<HostName>().is_err(), "{text}");
        }
        assert!("x".repeat(64).parse::<HostName>().is_ok());
    }
}
