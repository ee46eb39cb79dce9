//! What an unneeded blob is: only that says what must go before what.

use oci_mirror::digest::Digest;
use oci_mirror::manifest::Content;
use oci_mirror::tree::{Tree, linked};

/// How far from the leaves a blob is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Rank {
    /// Names manifests.
    Index,
    /// Names blobs.
    Manifest,
    /// Names nothing.
    Leaf,
}

/// The rank of a blob, and what it names. What is damaged or unreadable names nothing.
pub(super) fn of(digest: &Digest, tree: &Tree) -> (Rank, Vec<Digest>) {
    let Some(manifest) = linked::manifest(digest, tree) else {
        return (Rank::Leaf, Vec::new());
    };
    let rank = match manifest.content() {
        Content::Index { .. } => Rank::Index,
        Content::Image { .. } => Rank::Manifest,
    };
    let children = manifest.children();
    (rank, children.map(|it| it.descriptor().digest).collect())
}
