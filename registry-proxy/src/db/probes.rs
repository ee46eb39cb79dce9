//! Probes: what was tried at a host as a client would, besides fetching blobs.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

/// One thing that was tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Probe {
    /// What was tried.
    pub name: ProbeName,
    /// What came of it.
    pub result: ProbeResult,
    /// More of it, for people.
    pub detail: String,
}

/// What is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProbeName {
    /// Whether its certificate is one that clients accept.
    Tls,
    /// Whether it answers over IPv4.
    Ipv4,
    /// Whether it answers over IPv6.
    Ipv6,
    /// Whether it sends the part of a file that is asked for.
    Range,
    /// Whether it sends files as they are, whatever encodings are accepted.
    Encoding,
}

/// What came of a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProbeResult {
    /// It is as it should be.
    Passed,
    /// It is not.
    Failed,
    /// There is nothing to try, as an address of that family.
    Absent,
    /// It could not be tried from here.
    Unknown,
}

impl ProbeName {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Tls,
        Self::Ipv4,
        Self::Ipv6,
        Self::Range,
        Self::Encoding,
    ];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tls => "tls",
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
            Self::Range => "range",
            Self::Encoding => "encoding",
        }
    }
}

impl ProbeResult {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Passed, Self::Failed, Self::Absent, Self::Unknown];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Absent => "absent",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for ProbeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Display for ProbeResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for ProbeName {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        let mut all = Self::ALL.into_iter();
        all.find(|name| name.as_str() == text).ok_or(UnknownWord)
    }
}

impl FromStr for ProbeResult {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        let mut all = Self::ALL.into_iter();
        all.find(|result| result.as_str() == text)
            .ok_or(UnknownWord)
    }
}

/// The word is none of a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no word of a probe")]
pub struct UnknownWord;
