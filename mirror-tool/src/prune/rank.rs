//! What an unneeded blob is: only that says what must go before what.
//!
//! Nothing names it any more, so nothing says its type either, and its bytes have to. Almost all blobs
//! are layers, which one byte tells.

use std::io::Read as _;

use oci_mirror::digest::Digest;
use oci_mirror::manifest::{self, Content, Manifest};
use oci_mirror::tree::{Tree, TreePath};

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
    let Some(manifest) = read(digest, tree) else {
        return (Rank::Leaf, Vec::new());
    };
    let rank = match manifest.content() {
        Content::Index { .. } => Rank::Index,
        Content::Image { .. } => Rank::Manifest,
    };
    let children = manifest.children();
    (rank, children.map(|it| it.descriptor().digest).collect())
}

fn read(digest: &Digest, tree: &Tree) -> Option<Manifest> {
    let mut file = tree.open_file(&TreePath::Blob(*digest)).ok()?;
    let mut bytes = vec![0];
    file.read_exact(&mut bytes).ok()?;
    if !matches!(bytes[0], b'{' | b' ' | b'\t' | b'\r' | b'\n') {
        return None;
    }
    file.take(manifest::MAX_BYTES)
        .read_to_end(&mut bytes)
        .ok()?;
    Manifest::with_digest(bytes.into(), *digest, None).ok()
}
