//! What a prune has done: one entry for each file, and the sums.

use std::fmt;

use jiff::Timestamp;
use oci_mirror::digest::Digest;
use oci_mirror::size::ByteSize;
use oci_mirror::tree::TreePath;
use serde::{Deserialize, Serialize};

use super::survey::Unneeded;
use crate::exit::Exit;

/// The result of a run; with `--json` it is written to standard output.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Report {
    /// Whether nothing was changed, and `removed` is what would have gone.
    pub dry_run: bool,
    /// The files that went, in the order in which they did.
    pub removed: Vec<Removed>,
    /// What is unneeded too, but not for long enough yet.
    pub kept: Kept,
    /// Bytes of disk that became free.
    pub freed: u64,
    /// Repositories that keep all they link, since nobody knows what they need.
    pub damaged: Vec<Damaged>,
}

/// A file that went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// The file, relative to the tree.
    pub path: String,
    /// The repository it was part of, if it was part of one.
    pub repository: Option<String>,
    /// The content it had, if it was named by that.
    pub digest: Option<Digest>,
    /// Bytes of disk that this freed: a link frees none, the last name of a blob does.
    pub bytes: u64,
    /// Since when it was unneeded.
    pub since: Timestamp,
}

/// What is unneeded but stays for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Kept {
    /// How many files.
    pub files: u64,
    /// The bytes of disk they take.
    pub bytes: u64,
}

/// A repository that was left alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Damaged {
    /// Its name; `None` if one is lost and not even that is known.
    pub repository: Option<String>,
    /// Why nobody knows what it needs.
    pub problem: String,
}

impl Report {
    /// The exit status that sums it up.
    pub fn exit(&self) -> Exit {
        if self.damaged.is_empty() {
            Exit::Fine
        } else {
            Exit::Damage
        }
    }
}

impl Removed {
    pub(super) fn new(unneeded: &Unneeded) -> Self {
        let (repo, digest) = match &unneeded.path {
            TreePath::Link(repo, digest) => (Some(repo), Some(*digest)),
            TreePath::Index(repo) | TreePath::Layout(repo) => (Some(repo), None),
            TreePath::Blob(digest) | TreePath::Pieces(digest) => (None, Some(*digest)),
            TreePath::State | TreePath::List(_) | TreePath::DirectorySizes => (None, None),
        };
        Self {
            path: unneeded.path.to_string(),
            repository: repo.map(|repo| repo.name().to_string()),
            digest,
            bytes: unneeded.bytes,
            since: Timestamp::from_second(unneeded.since).unwrap_or_default(),
        }
    }
}

impl fmt::Display for Removed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, unneeded since {}", self.path, self.since)
    }
}

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.repository {
            Some(name) => write!(f, "{name} keeps all it links: {}", self.problem),
            None => write!(f, "blobs without a link are kept: {}", self.problem),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (verb, freed) = if self.dry_run {
            ("to remove", "to free")
        } else {
            ("removed", "freed")
        };
        write!(
            f,
            "{} files {verb}, {} {freed}; {} unneeded files ({}) kept in grace",
            self.removed.len(),
            ByteSize(self.freed),
            self.kept.files,
            ByteSize(self.kept.bytes)
        )?;
        match self.damaged.len() {
            0 => Ok(()),
            count => write!(f, "; {count} damaged: verify says more"),
        }
    }
}
