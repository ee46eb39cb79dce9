//! Why an image could not be exported.

use std::sync::Arc;
use std::time::Duration;

use oci_mirror::digest::Digest;
use oci_mirror::error_chain;
use oci_mirror::manifest;
use oci_mirror::reference::RepoName;
use oci_mirror::registry;
use oci_mirror::registry::retry::Advice;
use oci_mirror::tree::{catalog, path, reader, writer};

use super::layout;

/// Why an image could not be exported.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The registry did not deliver.
    #[error(transparent)]
    Registry(#[from] registry::Error),
    /// The layout did not deliver.
    #[error(transparent)]
    Layout(#[from] layout::Error),
    /// The tree did not take it.
    #[error(transparent)]
    Tree(#[from] writer::Error),
    /// The tree as it is cannot be read.
    #[error(transparent)]
    Read(#[from] reader::Error),
    /// The repository's name cannot be kept in a tree.
    #[error(transparent)]
    Name(#[from] path::Error),
    /// The same failure has befallen another image that needs the same content.
    #[error(transparent)]
    Shared(Arc<Error>),
    /// A manifest that the tree holds cannot be used the way this image refers to it.
    #[error("cannot use manifest {digest}")]
    Manifest {
        /// Which manifest.
        digest: Digest,
        /// What is wrong.
        source: manifest::Error,
    },
    /// A descriptor gives another length than the content has.
    #[error("{digest} has {size} bytes, but its descriptor says {described}")]
    Size {
        /// Which content.
        digest: Digest,
        /// The length its descriptor says.
        described: u64,
        /// The length it has.
        size: u64,
    },
    /// Indexes within indexes within indexes.
    #[error("index {digest} is nested more than {} deep", catalog::MAX_DEPTH)]
    TooDeep {
        /// The index too many.
        digest: Digest,
    },
    /// An image of a great many manifests.
    #[error("image {digest} has more than {limit} manifests")]
    TooManyManifests {
        /// The root of the image.
        digest: Digest,
        /// How many it may have.
        limit: usize,
    },
    /// An image of large manifests.
    #[error("image {digest} has more than {limit} bytes of manifests")]
    TooManyBytes {
        /// The root of the image.
        digest: Digest,
        /// How many it may have.
        limit: u64,
    },
    /// An image with a great many signatures and the like.
    #[error("more than {limit} manifests claim to belong to one image")]
    TooManyBelongings {
        /// How many there may be.
        limit: usize,
    },
    /// `--prune` would take most of a repository away.
    #[error(
        "{gone} of the {held} {what} of {name} have left the source; if that is right, use --accept-shrink"
    )]
    Shrunk {
        /// The repository.
        name: RepoName,
        /// What most of would go.
        what: &'static str,
        /// How many would go.
        gone: usize,
        /// Of how many.
        held: usize,
    },
    /// `--platform` leaves nothing of an index.
    #[error("index {digest} has no image for the platforms asked for")]
    NoPlatform {
        /// The index.
        digest: Digest,
    },
    /// No tag of a source is wanted.
    #[error("no tag of it is wanted; it has {found}")]
    NoTags {
        /// How many tags it has.
        found: usize,
    },
    /// Two sources would have the same name in the tree.
    #[error("{name} is exported from {other} already; use --dest-name for one of them")]
    Collision {
        /// The name in the tree.
        name: String,
        /// The source that has it.
        other: String,
    },
    /// A layout has no name of its own and its directory's is none.
    #[error("a layout needs a name in the tree: use --dest-name")]
    NoName,
    /// The run was stopped before it was this image's turn, or in the middle of it.
    #[error("not exported: the run was stopped")]
    Stopped,
}

impl Error {
    /// Whether the disk is at fault, so that going on with other images is pointless.
    pub fn is_out_of_space(&self) -> bool {
        match self {
            Self::Tree(error) => error.is_out_of_space(),
            Self::Shared(error) => error.is_out_of_space(),
            _ => false,
        }
    }

    /// Whether the source sent the wrong bytes, so that asking it once more may help.
    pub fn is_wrong_content(&self) -> bool {
        matches!(self, Self::Tree(error) if error.is_wrong_content())
    }

    /// Whether the source does not go on in the middle of a blob.
    pub fn is_range_refused(&self) -> bool {
        matches!(self, Self::Registry(error) if error.is_range_refused())
    }

    /// The error and its causes, as one line.
    pub fn chain(&self) -> String {
        error_chain::chain(self)
    }
}

impl Advice for Error {
    fn is_retryable(&self) -> bool {
        matches!(self, Self::Registry(error) if error.is_retryable())
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Registry(error) => error.retry_after(),
            _ => None,
        }
    }
}
