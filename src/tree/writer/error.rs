//! Why a tree could not be written.

use std::io;
use std::path::{Path, PathBuf};

use crate::digest::Digest;
use crate::tree::index;
use crate::tree::path::RepoDir;
use crate::tree::reader;

/// Why a tree could not be written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another writer is at work.
    #[error("the tree {} is locked: another writer is at work on it", .root.display())]
    Locked {
        /// Which tree.
        root: PathBuf,
    },
    /// The tree as it is cannot be read.
    #[error(transparent)]
    Read(#[from] reader::Error),
    /// A file or directory could not be written.
    #[error("cannot write {}", .path.display())]
    Write {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file or directory that nothing needs could not be removed.
    #[error("cannot remove {}", .path.display())]
    Remove {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The content of a blob could not be written.
    #[error("cannot write blob {digest} to {}", .path.display())]
    Blob {
        /// Which blob.
        digest: Digest,
        /// Its temporary name.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// More bytes came than the descriptor announced.
    #[error("blob {digest} is longer than the {size} bytes its descriptor says")]
    TooLong {
        /// Which blob.
        digest: Digest,
        /// What the descriptor says.
        size: u64,
    },
    /// Fewer bytes came than the descriptor announced.
    #[error("blob {digest} ended after {written} of the {size} bytes its descriptor says")]
    TooShort {
        /// Which blob.
        digest: Digest,
        /// What the descriptor says.
        size: u64,
        /// What came.
        written: u64,
    },
    /// The bytes hash to something else.
    #[error("blob {expected} has wrong content: its digest is {found}")]
    Digest {
        /// What was asked for.
        expected: Digest,
        /// What came.
        found: Digest,
    },
    /// A repository of more tags than any reader would read.
    #[error(
        "the index of {repo} would have {bytes} bytes; the limit is {}",
        index::MAX_BYTES
    )]
    IndexTooLarge {
        /// The repository.
        repo: RepoDir,
        /// How long it would be.
        bytes: usize,
    },
    /// An image reaches something that was neither staged nor placed: a defect of the caller.
    #[error("blob {digest} of {repo} was not fetched before it was published")]
    NotStaged {
        /// What is missing.
        digest: Digest,
        /// Where it is needed.
        repo: RepoDir,
    },
}

impl Error {
    pub(super) fn write(path: &Path, source: io::Error) -> Self {
        Self::Write {
            path: path.to_owned(),
            source,
        }
    }

    /// Whether the disk is at fault, so that going on with other images is pointless.
    pub fn is_out_of_space(&self) -> bool {
        matches!(
            self,
            Self::Write { source, .. } | Self::Blob { source, .. }
                if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::ReadOnlyFilesystem)
        )
    }

    /// Whether the source sent the wrong bytes, so that asking it again may help.
    pub fn is_wrong_content(&self) -> bool {
        matches!(
            self,
            Self::TooLong { .. } | Self::TooShort { .. } | Self::Digest { .. }
        )
    }
}
