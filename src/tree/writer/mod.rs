//! Writing a tree so that no crash can leave a half-truth in it.
//!
//! A blob is written to `.~tmp~/`, hashed while it is written, and compared with its size and digest
//! before it may be placed. [`TreeWriter::publish`] then works leaves before roots, with the disk
//! told to catch up between the steps:
//!
//! 1. the content of everything staged is made durable;
//! 2. it is renamed to its name: pieces, blobs, child manifests, manifests;
//! 3. the repositories get their hardlinks, and all new names are made durable;
//! 4. each `index.json` is replaced; and, by [`TreeWriter::finish`], the file list and `state.json`.
//!
//! Kill it anywhere: what has a name is whole, and a tag that is visible is complete. Syncing is done
//! once per step and batch, not once per file, because with thousands of small blobs the syncs are
//! what an export costs.
//!
//! What nothing needs any more goes the other way round: [`TreeWriter::remove`]. What is damaged is
//! replaced whole, never edited: [`TreeWriter::replace_blob`].

mod blob;
mod disk;
mod error;
mod finish;
mod links;
mod place;
mod previous;
mod publish;
mod recover;
mod removal;
mod repair;
pub mod replica;
mod survey;
pub mod unreferenced;

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use rustix::fs::FlockOperation;

use super::blob_hash::BlobHasher;
use super::path::{Module, TreePath};
use super::reader::Tree;
use crate::digest::Digest;
use blob::{Content, Held, Staged};
use disk::make_directory;

pub use blob::BlobWriter;
pub use error::Error;
pub use publish::Image;

/// Where files grow up. rsync's `--delay-updates` uses the same name, so mirrors already exclude it.
pub const TEMPORARY: &str = ".~tmp~";

/// In [`TEMPORARY`] while the tree may be newer than its `state.json`: from the first new name until the
/// state is written.
pub const DIRTY: &str = "dirty";

/// In [`TEMPORARY`]: what a mirror that follows another tree keeps from run to run.
pub const SYNC: &str = "sync";

/// The one writer of a tree; holds the tree's lock as long as it lives.
#[derive(Debug)]
pub struct TreeWriter {
    tree: Tree,
    temporary: PathBuf,
    /// What the tree is to be called from now on; `None` keeps the name it has.
    module: Option<Module>,
    /// Verified content that has no name in the tree yet.
    staged: Mutex<HashMap<Digest, Staged>>,
    /// How many bytes of it are in memory.
    held: Arc<AtomicUsize>,
    publishing: Mutex<()>,
    copies_announced: AtomicBool,
}

impl TreeWriter {
    /// Opens the tree at `root` for writing, creating it if it is not there.
    ///
    /// Takes the tree's lock without waiting, and removes what an interrupted writer left behind.
    pub fn open(root: &Path) -> Result<Self, Error> {
        make_directory(root, 0o755).map_err(|source| Error::write(root, source))?;
        let tree = Tree::open(root)?;
        match rustix::fs::flock(
            tree.directory().as_fd(),
            FlockOperation::NonBlockingLockExclusive,
        ) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(Error::Locked {
                    root: root.to_owned(),
                });
            }
            Err(errno) => return Err(Error::write(root, errno.into())),
        }
        // A tree of another format must not be touched; one without a state is new.
        match tree.state() {
            Err(error) if !error.is_not_found() => return Err(error.into()),
            _ => {}
        }
        let temporary = root.join(TEMPORARY);
        make_directory(&temporary, 0o700).map_err(|source| Error::write(&temporary, source))?;
        // Through a link, clearing up would delete files of somebody else.
        match fs::symlink_metadata(&temporary) {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => {
                return Err(Error::write(
                    &temporary,
                    io::ErrorKind::NotADirectory.into(),
                ));
            }
            Err(source) => return Err(Error::write(&temporary, source)),
        }
        let writer = Self {
            tree,
            temporary,
            module: None,
            staged: Mutex::default(),
            held: Arc::default(),
            publishing: Mutex::default(),
            copies_announced: AtomicBool::new(false),
        };
        writer.remove_leftovers()?;
        if writer.temporary.join(DIRTY).exists() {
            writer.recover()?;
        }
        Ok(writer)
    }

    /// Calls the tree `module` in its file list, instead of what it was called so far.
    #[must_use]
    pub fn with_module(mut self, module: Module) -> Self {
        self.module = Some(module);
        self
    }

    /// The tree, for reading.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// The size of `digest` if its content is in the tree or staged for it.
    pub fn holds(&self, digest: &Digest) -> Result<Option<u64>, Error> {
        if let Some(staged) = lock(&self.staged).get(digest) {
            return Ok(Some(staged.size));
        }
        Ok(self.tree.blob_size(digest)?)
    }

    /// Starts writing a blob that must turn out to have this digest and size.
    pub fn stage(&self, digest: Digest, size: u64) -> Result<BlobWriter<'_>, Error> {
        let file = self.temporary_file()?;
        Ok(BlobWriter {
            writer: self,
            file,
            digest,
            size,
            written: 0,
            hasher: BlobHasher::new(digest.algorithm(), size),
        })
    }

    /// Stages content that is already in memory, such as a manifest.
    pub fn stage_bytes(&self, digest: Digest, bytes: &[u8]) -> Result<(), Error> {
        let mut blob = self.stage(digest, bytes.len() as u64)?;
        blob.write(bytes)?;
        blob.finish()
    }

    /// Stages content without waiting for the disk: it stays in memory until it is published.
    ///
    /// `false` if it is too large for that, or enough is held already; then it has to be staged as a file.
    pub fn hold(&self, digest: Digest, bytes: &Bytes) -> Result<bool, Error> {
        let Some(held) = Held::new(bytes, &self.held) else {
            return Ok(false);
        };
        let found = digest.algorithm().digest(bytes);
        if found != digest {
            return Err(Error::Digest {
                expected: digest,
                found,
            });
        }
        let staged = Staged {
            size: bytes.len() as u64,
            content: Content::Memory(held),
            pieces: None,
        };
        lock(&self.staged).insert(digest, staged);
        Ok(true)
    }

    /// The bytes of a staged or placed blob, for reading a manifest back.
    pub fn read(&self, digest: &Digest, limit: u64) -> Result<Bytes, Error> {
        if let Some(staged) = lock(&self.staged).get(digest) {
            return match &staged.content {
                Content::Memory(held) => Ok(held.bytes.clone()),
                Content::File(path) => match fs::read(path) {
                    Ok(bytes) => Ok(bytes.into()),
                    Err(source) => Err(Error::write(path, source)),
                },
            };
        }
        Ok(self.tree.read(&TreePath::Blob(*digest), limit)?)
    }

    /// Forgets what was staged for images that will not be published, and frees its space.
    pub fn discard_staged(&self) {
        lock(&self.staged).clear();
    }
}

impl Drop for TreeWriter {
    /// Frees the lock now, although readers, and a child process about to be started, may share the
    /// handle that carries it.
    fn drop(&mut self) {
        // Closing the last handle frees it too, so there is nothing to be done about an error.
        let _ = rustix::fs::flock(self.tree.directory().as_fd(), FlockOperation::Unlock);
    }
}

/// A lock that a panicking holder left is still good: every critical section leaves whole values.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
