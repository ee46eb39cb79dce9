//! What of an answer has to be read from the disk first.
//!
//! The functions that answer wait for nothing: one that lacks something of the tree says what it
//! [wants](Want), and is asked again with what was [read](Found). So most requests are answered in one
//! call, and only those that read have a task to be kept somewhere meanwhile.

use std::sync::Arc;

use bytes::Bytes;
use oci_mirror::digest::Digest;
use oci_mirror::http::files::Opened;
use oci_mirror::manifest;
use oci_mirror::tree::{Tree, TreePath};
use tokio::task::spawn_blocking;

use super::error::Error;
use crate::metalink::pieces::Known;
use crate::snapshot::Snapshot;

/// Something to be read from the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// The file of a blob, which should have this length.
    Blob(Digest, u64),
    /// The bytes of a manifest that is not kept in memory.
    Manifest(Digest),
    /// The piece hashes of a blob of this length.
    Pieces(Digest, u64),
}

/// What was read.
#[derive(Debug)]
pub enum Found {
    /// A file to be sent.
    Blob(Result<Opened, Error>),
    /// Bytes, checked against their digest.
    Manifest(Result<Bytes, Error>),
    /// Piece hashes; `None` if they cannot be read, which is told to the operator.
    Pieces(Option<Arc<Known>>),
}

/// Why there is no answer yet.
#[derive(Debug)]
pub enum Halt {
    /// There is none but an error.
    Error(Error),
    /// This has to be read first.
    Wants(Want),
}

impl<E: Into<Error>> From<E> for Halt {
    fn from(error: E) -> Self {
        Self::Error(error.into())
    }
}

impl Want {
    /// Reads it, beside the threads that answer.
    pub async fn read(self, snapshot: &Snapshot) -> Found {
        let tree = snapshot.tree.clone();
        match self {
            Self::Blob(digest, size) => {
                let opened = spawn_blocking(move || open(&tree, &digest, size)).await;
                Found::Blob(opened.unwrap_or(Err(Error::Internal)))
            }
            Self::Manifest(digest) => {
                let bytes = spawn_blocking(move || sound(&tree, &digest)).await;
                Found::Manifest(bytes.unwrap_or(Err(Error::Internal)))
            }
            Self::Pieces(digest, size) => {
                let read = spawn_blocking(move || tree.pieces(&digest, size)).await;
                let Ok(read) = read else {
                    return Found::Pieces(None);
                };
                let pieces = read.inspect_err(|error| {
                    // The whole digest is in the document all the same.
                    tracing::warn!(error = error as &dyn std::error::Error, blob = %digest, "a metalink goes without pieces");
                });
                Found::Pieces(
                    pieces
                        .ok()
                        .map(|pieces| snapshot.pieces.keep(digest, pieces)),
                )
            }
        }
    }
}

fn open(tree: &Tree, digest: &Digest, size: u64) -> Result<Opened, Error> {
    let opened = Opened::open(tree, &TreePath::Blob(*digest)).map_err(Error::Tree)?;
    if opened.length() == size {
        Ok(opened)
    } else {
        Err(Error::Truncated {
            digest: *digest,
            found: opened.length(),
            size,
        })
    }
}

/// The bytes of a manifest, which a client by tag cannot check: so they are checked here.
fn sound(tree: &Tree, digest: &Digest) -> Result<Bytes, Error> {
    let path = TreePath::Blob(*digest);
    let bytes = tree.read(&path, manifest::MAX_BYTES).map_err(Error::Tree)?;
    if digest.algorithm().digest(&bytes) == *digest {
        Ok(bytes)
    } else {
        Err(Error::Damaged(*digest))
    }
}

#[cfg(test)]
mod tests {
    use oci_mirror::digest::Algorithm;

    use super::*;

    /// A tree with one blob in it, under the name of another.
    fn tree_with(digest: &Digest, bytes: &[u8]) -> (tempfile::TempDir, Tree) {
        let directory = tempfile::tempdir().unwrap();
        let tree = Tree::open(directory.path()).unwrap();
        let path = TreePath::Blob(*digest).under(directory.path());
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
        (directory, tree)
    }

    #[test]
    fn a_manifest_that_is_not_what_its_name_says_is_not_sent() {
        let digest = Algorithm::Sha256.digest(b"{}");
        let (_directory, tree) = tree_with(&digest, b"{}");
        assert_eq!(sound(&tree, &digest).unwrap(), "{}");
        let (_directory, tree) = tree_with(&digest, b"[]");
        assert!(matches!(sound(&tree, &digest), Err(Error::Damaged(found)) if found == digest));
    }

    #[test]
    fn a_blob_of_another_length_is_not_sent() {
        let digest = Algorithm::Sha256.digest(b"blob");
        let (_directory, tree) = tree_with(&digest, b"blo");
        assert!(matches!(
            open(&tree, &digest, 4),
            Err(Error::Truncated {
                found: 3,
                size: 4,
                ..
            })
        ));
        assert_eq!(open(&tree, &digest, 3).unwrap().length(), 3);
    }
}
