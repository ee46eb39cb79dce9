//! How much a host can send, which is how much of the load it gets.

use std::fmt;
use std::str::FromStr;

use oci_mirror::excerpt::Excerpt;
use serde::{Deserialize, Serialize};

/// Bandwidth in Mbit/s, 1 to 100,000.
///
/// Larger numbers count as the largest: a host that claims a petabit would otherwise draw every client
/// of its continent, and nobody's claim is checked.
///
/// ```
/// use registry_proxy::network::Bandwidth;
/// assert_eq!("1000".parse::<Bandwidth>().unwrap().mbit(), 1000);
/// assert_eq!("1000000".parse::<Bandwidth>().unwrap().mbit(), 100_000);
/// assert!("0".parse::<Bandwidth>().is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u32")]
pub struct Bandwidth(u32);

impl Bandwidth {
    /// The most a host counts for, in Mbit/s.
    pub const MAX: u32 = 100_000;

    /// A bandwidth in Mbit/s, or `None` for zero.
    pub fn from_mbit(mbit: u64) -> Option<Self> {
        (mbit > 0).then(|| Self(u32::try_from(mbit).unwrap_or(Self::MAX).min(Self::MAX)))
    }

    /// The value in Mbit/s.
    pub const fn mbit(self) -> u32 {
        self.0
    }
}

impl Default for Bandwidth {
    /// What a volunteer's line has at least: 100 Mbit/s.
    fn default() -> Self {
        Self(100)
    }
}

impl fmt::Display for Bandwidth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0.to_string())
    }
}

impl FromStr for Bandwidth {
    type Err = InvalidBandwidth;

    fn from_str(text: &str) -> Result<Self, InvalidBandwidth> {
        let parsed = text.parse().ok().and_then(Self::from_mbit);
        parsed.ok_or_else(|| InvalidBandwidth(Excerpt(text).into()))
    }
}

impl TryFrom<u64> for Bandwidth {
    type Error = InvalidBandwidth;

    fn try_from(mbit: u64) -> Result<Self, InvalidBandwidth> {
        Self::from_mbit(mbit).ok_or_else(|| InvalidBandwidth("0".into()))
    }
}

impl From<Bandwidth> for u32 {
    fn from(bandwidth: Bandwidth) -> Self {
        bandwidth.0
    }
}

/// The text is not a bandwidth.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not a bandwidth: a whole number of Mbit/s, 1 or more")]
pub struct InvalidBandwidth(Box<str>);
