//! The section `[log]`: what is said, and how.

use serde::Deserialize;

use crate::observe::access::Which;

/// The section `[log]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Log {
    /// Lines for people or objects for programs.
    pub format: Format,
    /// The least important of what is said; `RUST_LOG` wins over it.
    pub level: Level,
    /// Which requests get a line.
    pub requests: Which,
    /// Whether addresses of clients may appear.
    pub client_addresses: bool,
}

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// Time, level and message, then the fields.
    #[default]
    Text,
    /// One JSON object.
    Json,
}

/// How important a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Somebody must act.
    Error,
    /// Something is degraded.
    Warn,
    /// What an operator counts.
    #[default]
    Info,
    /// Each thing that is done.
    Debug,
    /// Each step of it.
    Trace,
}

impl From<Level> for tracing::Level {
    fn from(level: Level) -> Self {
        match level {
            Level::Error => Self::ERROR,
            Level::Warn => Self::WARN,
            Level::Info => Self::INFO,
            Level::Debug => Self::DEBUG,
            Level::Trace => Self::TRACE,
        }
    }
}
