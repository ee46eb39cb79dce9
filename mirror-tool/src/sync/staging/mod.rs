//! Where what is fetched lies until all of it is there and right: `.~tmp~/sync/files/`.
//!
//! Below it every file lies under its path in the tree. That a file is there says nothing: an earlier run
//! may have been killed while it was written, or the disk may have lost it. Right is only what this run has
//! read and compared, and [`Staging`] remembers that.

mod check;

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use oci_mirror::digest::Digest;
use oci_mirror::tree::pieces::Pieces;
use oci_mirror::tree::{TreePath, TreeWriter, writer};

pub use check::Wrong;

use super::Wanted;

/// Where fetched files lie, under their paths in the tree.
#[derive(Debug, Clone)]
pub struct Staging {
    directory: PathBuf,
    files: PathBuf,
}

/// What is known of a file that is right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The hashes of its pieces, if it is a blob that has any.
    pub pieces: Option<Pieces>,
}

impl Staging {
    /// The staging directory of a tree; made if it is not there.
    pub fn open(writer: &TreeWriter) -> Result<Self, writer::Error> {
        let directory = writer.sync_directory()?;
        Ok(Self {
            files: directory.join("files"),
            directory,
        })
    }

    /// The directory below which fetched files lie.
    pub fn root(&self) -> &Path {
        &self.files
    }

    /// Where a file of the tree lies until it gets its name.
    pub fn path(&self, path: &TreePath) -> PathBuf {
        path.under(&self.files)
    }

    /// Where the list lies that is being followed.
    pub fn list(&self) -> PathBuf {
        self.directory.join("list.new")
    }

    /// The directory itself, for what is remembered from run to run.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Looks through what earlier runs have left: what is wanted and right stays, and is returned; the
    /// beginnings of what is wanted stay too; all else goes.
    pub fn adopt(&self, wanted: &[Wanted]) -> Result<HashSet<TreePath>, writer::Error> {
        let _ = (self, wanted);
        Ok(HashSet::new())
    }

    /// Whether a file is there and right; one that is not is removed.
    pub fn verify(&self, wanted: &Wanted) -> Result<Verified, Wrong> {
        let _ = (self, wanted);
        Err(Wrong::Missing)
    }

    /// The pieces file of a blob that was found right in this run; `None` if it has none. The same bytes lie
    /// in [`root`](Self::root) under the path of the pieces.
    pub fn pieces_of(&self, digest: &Digest) -> Option<Vec<u8>> {
        let _ = (self, digest);
        None
    }

    /// Forgets and removes all that was fetched: it has its names, or nobody wants it.
    pub fn clear(&self) -> Result<(), writer::Error> {
        let _ = self;
        Ok(())
    }
}
