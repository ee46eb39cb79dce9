//! How a run of `sync` ended, in JSON and in text.

use std::fmt;

use serde::Serialize;

use crate::exit::Exit;

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// How it ended.
    pub outcome: Outcome,
    /// Whom it followed, without credentials.
    pub from: Option<String>,
    /// The serial the tree has now.
    pub serial: Option<u64>,
    /// Files fetched.
    pub files: u64,
    /// Bytes of their content.
    pub bytes: u64,
    /// Bytes off the wire, as far as known.
    pub received: u64,
    /// Links made.
    pub links: u64,
    /// Files removed, their grace over.
    pub removed: u64,
    /// Files that are gone over there, kept here for their grace.
    pub kept: u64,
    /// Entries of the list that are no part of a tree, or not for everybody: left out.
    pub skipped: u64,
    /// What was left undone though the tree was followed, and why others were not followed.
    pub notes: Vec<String>,
    /// Why the tree was not followed.
    pub error: Option<String>,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// There is nothing new.
    Unchanged,
    /// The tree is now what the other one is.
    Followed,
    /// The tree is now what the other one is, but something that was asked for beside was left undone.
    Partial,
    /// Nobody to follow could be reached, or they are all behind; nothing was changed.
    Failed,
    /// What the other tree says is not true; nothing was changed.
    Refused,
    /// What would be done was said.
    DryRun,
}

impl Report {
    /// A run that ended so, and of which nothing else is known.
    pub fn of(outcome: Outcome) -> Self {
        Self {
            outcome,
            from: None,
            serial: None,
            files: 0,
            bytes: 0,
            received: 0,
            links: 0,
            removed: 0,
            kept: 0,
            skipped: 0,
            notes: Vec::new(),
            error: None,
        }
    }

    /// The status to exit with.
    pub fn exit(&self) -> Exit {
        match self.outcome {
            Outcome::Unchanged | Outcome::Followed | Outcome::DryRun => Exit::Fine,
            Outcome::Failed => Exit::Failed,
            Outcome::Refused => Exit::Damage,
            Outcome::Partial => Exit::Partial,
        }
    }
}

impl fmt::Display for Report {
    /// One line for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.outcome)
    }
}
