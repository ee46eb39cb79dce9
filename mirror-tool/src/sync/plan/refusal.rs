//! Why a tree is not followed.

use oci_mirror::digest::Digest;
use oci_mirror::manifest;
use oci_mirror::tree::catalog::MAX_DEPTH;
use oci_mirror::tree::list::{self, ListPath};
use oci_mirror::tree::{RepoDir, reader};

/// Why a tree is not followed.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The list over there cannot be read to its end.
    #[error("cannot read the file list")]
    List(#[source] list::Error),
    /// The list of the tree here cannot be read, so that nobody knows what it is: it has to be walked.
    #[error("cannot read the file list of the tree here")]
    Here(#[source] list::Error),
    /// An entry of the list cannot be one of a tree.
    #[error("the file list has {path}, {why}")]
    Entry {
        /// Which entry.
        path: ListPath,
        /// What is wrong with it.
        why: Why,
    },
    /// The list is longer than it may be.
    #[error("the file list has more than {0} entries (--max-entries)")]
    TooMany(u64),
    /// The list and the state that names it count differently.
    #[error("state.json counts {state} {what}, but the file list has {list}")]
    Totals {
        /// Of what.
        what: &'static str,
        /// What the state says.
        state: u64,
        /// What the list has, as far as it was read.
        list: u64,
    },
    /// More than half is gone.
    #[error("the tree has shrunk from {was} {what} to {is}; --accept-shrink follows it")]
    Shrunk {
        /// Of what.
        what: &'static str,
        /// How many there are here.
        was: u64,
        /// How many there are over there.
        is: u64,
    },
    /// A link to content that the list does not have.
    #[error("{repo} links to {digest}, but the file list has no such blob")]
    Dangling {
        /// The repository.
        repo: RepoDir,
        /// What it links to.
        digest: Digest,
    },
    /// What a repository needs is not what it links to.
    #[error("{repo} is not complete")]
    Closure {
        /// The repository.
        repo: RepoDir,
        /// What is wrong.
        source: Incomplete,
    },
    /// The index of a repository cannot be read.
    #[error("cannot read the tags of {repo}")]
    Index {
        /// The repository.
        repo: RepoDir,
        /// What went wrong.
        source: reader::Error,
    },
    /// The index of a repository is not the one of the list: the tree over there has gone on.
    #[error("the index.json of {0} is not the one of the file list")]
    IndexChanged(RepoDir),
    /// What is read or written to follow the tree cannot be.
    #[error("cannot make a list of what is carried")]
    Derive(#[source] std::io::Error),
}

/// What is wrong with an entry of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// A list is sorted, and has each path once.
    #[error("which does not stand where it belongs in a sorted list")]
    Unsorted,
    /// Trees have none.
    #[error("a symbolic link")]
    SymbolicLink,
    /// Names of content tell the same length everywhere.
    #[error("of {listed} bytes where {expected} are right")]
    Size {
        /// The length by the list.
        listed: u64,
        /// The length it must have.
        expected: u64,
    },
    /// The list adds up to more bytes than can be counted.
    #[error("with which the files of the list add up to 2^64 bytes and more")]
    TooLarge,
    /// Nothing would prove it.
    #[error("without its SHA-256")]
    NoSum,
    /// All `oci-layout` files are the same.
    #[error("which is not the oci-layout of version 1.0.0")]
    Layout,
}

/// What of a repository is not complete.
#[derive(Debug, thiserror::Error)]
pub enum Incomplete {
    /// It needs something it does not link to.
    #[error("{0} is needed but not linked")]
    NotLinked(Digest),
    /// A descriptor gives it another length than the list.
    #[error("{digest} has {listed} bytes, but its descriptor says {described}")]
    Size {
        /// What it is.
        digest: Digest,
        /// Its length by the list.
        listed: u64,
        /// Its length by the descriptor.
        described: u64,
    },
    /// A manifest cannot be read.
    #[error("cannot read manifest {digest}")]
    Unreadable {
        /// Which.
        digest: Digest,
        /// What the system said.
        source: std::io::Error,
    },
    /// A manifest is none.
    #[error("manifest {digest} is wrong")]
    Manifest {
        /// Which.
        digest: Digest,
        /// What is wrong.
        source: manifest::Error,
    },
    /// Indexes within indexes within indexes.
    #[error("indexes are nested more than {MAX_DEPTH} deep")]
    TooDeep,
}

impl Refusal {
    /// Whether it may be different in a moment: the tree over there is just being changed.
    pub fn may_pass(&self) -> bool {
        match self {
            // A prune counts repositories off before it removes them, and lists what is left at its end.
            Self::Totals { state, list, .. } => state < list,
            Self::IndexChanged(_) => true,
            Self::List(_)
            | Self::Here(_)
            | Self::Entry { .. }
            | Self::TooMany(_)
            | Self::Shrunk { .. }
            | Self::Dangling { .. }
            | Self::Closure { .. }
            | Self::Index { .. }
            | Self::Derive(_) => false,
        }
    }
}
