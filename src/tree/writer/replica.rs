//! Making a tree the same as another one, all of whose content has been brought here and verified.
//!
//! Nothing is decided here. The caller says what the tree lacks; this gives it names, leaves before roots,
//! with three syncs for all of it.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use super::disk::persist;
use super::removal::remove_file;
use super::{Error, TreeWriter};
use crate::digest::Digest;
use crate::tree::list::ListPath;
use crate::tree::path::{Module, RepoDir, TreePath};

/// What a tree lacks to be the same as another.
#[derive(Debug, Clone, Copy)]
pub struct Replica<'a> {
    /// Directory in which everything fetched lies under its path in the tree, verified.
    pub files: &'a Path,
    /// Blobs to be given their names.
    pub blobs: &'a [Digest],
    /// Pieces to be given their names; they lie in `files` too.
    pub pieces: &'a [Digest],
    /// Links to be made, of blobs that are there or in `blobs`.
    pub links: &'a [(RepoDir, Digest)],
    /// Repositories that lack their `oci-layout`.
    pub layouts: &'a [RepoDir],
    /// Repositories whose `index.json` is replaced.
    pub indexes: &'a [RepoDir],
    /// Directories to be made.
    pub directories: &'a [ListPath],
    /// The new `DIRECTORY_SIZES.txt`, if it is replaced.
    pub sizes: Option<&'a Path>,
    /// The new file list.
    pub list: &'a Path,
    /// The bytes of the new `state.json`.
    pub state: &'a [u8],
    /// The name of the tree, which is that of its list.
    pub module: &'a Module,
    /// The times files had over there, in seconds since 1970; a file that has none keeps its own.
    pub times: &'a HashMap<TreePath, i64>,
}

impl TreeWriter {
    /// Makes the tree the same, in the order of publishing: content, links, indexes, list, state.
    pub fn replicate(&self, replica: &Replica<'_>) -> Result<(), Error> {
        let _ = replica;
        Err(Error::write(
            self.tree.root(),
            std::io::ErrorKind::Unsupported.into(),
        ))
    }

    /// Whether the tree may be newer than its `state.json`.
    pub fn is_dirty(&self) -> bool {
        self.temporary.join(super::DIRTY).exists()
    }

    /// Where a mirror keeps what it remembers from run to run; made if it is not there.
    pub fn sync_directory(&self) -> Result<PathBuf, Error> {
        let directory = self.temporary.join(super::SYNC);
        super::disk::make_directory(&directory, 0o700)
            .map_err(|source| Error::write(&directory, source))?;
        Ok(directory)
    }

    /// Replaces a file of [`sync_directory`](Self::sync_directory), durably; `None` removes it.
    pub fn remember_for_sync(&self, name: &str, bytes: Option<&[u8]>) -> Result<(), Error> {
        let directory = self.sync_directory()?;
        let path = directory.join(name);
        match bytes {
            Some(bytes) => persist(self.prepared(bytes)?, &path)?,
            None => remove_file(&path)?,
        }
        self.sync_directories(&BTreeSet::from([directory]))
    }
}
