//! The section `[statistics]`: who is told what was used, and how often.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::value::duration;
use crate::observe::statistics::Sink;

/// The section `[statistics]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Statistics {
    /// Time between two reports.
    #[serde(deserialize_with = "duration")]
    pub interval: Duration,
    /// A file that gets a line of JSON for each report.
    pub file: Option<PathBuf>,
    /// A program with its arguments that gets each report on its standard input.
    pub command: Vec<String>,
}

impl Default for Statistics {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(3600),
            file: None,
            command: Vec::new(),
        }
    }
}

impl Statistics {
    /// Where reports go, if they go anywhere.
    pub fn sink(&self) -> Option<Sink> {
        let wanted = self.file.is_some() || !self.command.is_empty();
        wanted.then(|| Sink {
            interval: self.interval,
            file: self.file.clone(),
            command: self.command.clone(),
        })
    }
}
