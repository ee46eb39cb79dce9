//! What keeps a run from following an upstream, and what is to be done about it.

use std::fmt;

use oci_mirror::tree::{TreePath, writer};

use super::judge::Said;
use crate::sync::plan::Refusal;
use crate::sync::upstream;

/// What keeps a run from following an upstream.
#[derive(Debug)]
pub(super) struct Trouble {
    pub(super) kind: Kind,
    /// Whether the disk here is full.
    pub(super) is_full: bool,
    /// What is damaged here, and can be brought again.
    pub(super) damaged: Option<TreePath>,
    error: anyhow::Error,
}

/// What is to be done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// It cannot be reached, or has nothing for us: another one may.
    Away,
    /// It is not whole, perhaps because it is just being changed: it is asked again.
    Passing,
    /// What it says is false, and will be.
    Lie,
    /// The tree here cannot be read or written.
    Here,
    /// The run was ended from outside.
    Stopped,
}

impl Trouble {
    pub(super) fn new(kind: Kind, error: impl Into<anyhow::Error>) -> Self {
        Self {
            kind,
            is_full: false,
            damaged: None,
            error: error.into(),
        }
    }

    /// It is older than what was followed last.
    pub(super) fn behind(said: &Said, last: u64) -> Self {
        let Said { from, serial, .. } = said;
        let error = anyhow::anyhow!(
            "{from} is behind: its serial is {serial}, and this tree is at {last}; --accept-older follows it"
        );
        Self::new(Kind::Away, error)
    }

    /// It is as new as what was followed last, and something else.
    pub(super) fn sibling(said: &Said) -> Self {
        let Said { from, serial, .. } = said;
        let error = anyhow::anyhow!(
            "{from} has serial {serial} as this tree, but not all of it, and is not the one that was followed"
        );
        Self::new(Kind::Away, error)
    }

    /// A file of the tree here is not what it was.
    pub(super) fn damaged(path: TreePath, error: impl Into<anyhow::Error>) -> Self {
        let error = error.into();
        let error = error.context(format!(
            "{path} is damaged here (--check looks at the tree)"
        ));
        Self {
            damaged: Some(path),
            ..Self::new(Kind::Here, error)
        }
    }

    /// Says which upstream it is about.
    pub(super) fn of(self, upstream: &str) -> Self {
        match self.kind {
            Kind::Passing | Kind::Lie => Self {
                error: self.error.context(format!("cannot follow {upstream}")),
                ..self
            },
            Kind::Away | Kind::Here | Kind::Stopped => self,
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.error)
    }
}

impl From<writer::Error> for Trouble {
    fn from(error: writer::Error) -> Self {
        Self {
            kind: Kind::Here,
            is_full: error.is_out_of_space(),
            damaged: None,
            error: error.into(),
        }
    }
}

impl From<upstream::Error> for Trouble {
    fn from(error: upstream::Error) -> Self {
        let kind = match &error {
            upstream::Error::Digest { .. } | upstream::Error::NotFound { .. } => Kind::Passing,
            upstream::Error::TooLarge { .. } => Kind::Lie,
            upstream::Error::Disk(_) => Kind::Here,
            upstream::Error::Stopped => Kind::Stopped,
            upstream::Error::Unreachable { .. }
            | upstream::Error::Program { .. }
            | upstream::Error::Client { .. } => Kind::Away,
        };
        Self {
            kind,
            is_full: error.is_out_of_space(),
            damaged: None,
            error: error.into(),
        }
    }
}

impl From<Refusal> for Trouble {
    fn from(refusal: Refusal) -> Self {
        let kind = match &refusal {
            refusal if refusal.may_pass() => Kind::Passing,
            Refusal::Derive(_) | Refusal::Here(_) => Kind::Here,
            Refusal::List(_)
            | Refusal::Entry { .. }
            | Refusal::TooMany(_)
            | Refusal::Totals { .. }
            | Refusal::Shrunk { .. }
            | Refusal::Dangling { .. }
            | Refusal::Closure { .. }
            | Refusal::Index { .. }
            | Refusal::IndexChanged(_) => Kind::Lie,
        };
        Self::new(kind, refusal)
    }
}
