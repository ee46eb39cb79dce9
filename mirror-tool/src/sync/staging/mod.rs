//! Where what is fetched lies until all of it is there and right: `.~tmp~/sync/files/`.
//!
//! Below it every file lies under its path in the tree. That a file is there says nothing: an earlier run
//! may have been killed while it was written, or the disk may have lost it. Right is only what this run has
//! read and compared, and [`Staging`] remembers that. Nothing here is synced; whoever publishes does that,
//! once for all of it.
//!
//! A thread of a transfer that was abandoned may come to its end when all is cleared away. What it has found then is
//! of a generation that is over, and counts no more.

mod adopt;
mod check;

use std::collections::HashSet;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use oci_mirror::digest::Digest;
use oci_mirror::tree::{TreePath, TreeWriter, writer};
use rustix::fs::{Mode, OFlags};

pub(super) use check::{Comparison, Identity, discard, make_readable};
pub use check::{Verified, Wrong};

use super::Wanted;

/// Where fetched files lie, under their paths in the tree. Clones are the same staging.
#[derive(Debug, Clone)]
pub struct Staging(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    directory: PathBuf,
    files: PathBuf,
    /// The directory `files`.
    handle: OwnedFd,
    /// What this run has read and found right.
    right: Mutex<Right>,
    /// Directories that are there, so that nobody makes them for every file.
    made: Mutex<HashSet<PathBuf>>,
}

#[derive(Debug, Default)]
struct Right {
    generation: Generation,
    paths: HashSet<TreePath>,
}

/// Of all that was fetched between two clearings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Generation(u64);

/// What is added to the name of a file that is not whole yet.
const PART: &str = ".part";

/// The directories in which rsync keeps what is not whole yet.
pub(super) const PARTIAL_DIRECTORY: &str = ".~part~";

impl Staging {
    /// The staging directory of a tree; made if it is not there.
    pub fn open(writer: &TreeWriter) -> Result<Self, writer::Error> {
        Self::at(writer.sync_directory()?)
    }

    fn at(directory: PathBuf) -> Result<Self, writer::Error> {
        let files = directory.join("files");
        make_directory(&files).map_err(|source| failed(&files, source))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = rustix::fs::open(&files, flags, Mode::empty())
            .map_err(|errno| failed(&files, errno.into()))?;
        Ok(Self(Arc::new(Inner {
            directory,
            files,
            handle,
            right: Mutex::default(),
            made: Mutex::default(),
        })))
    }

    /// The directory below which fetched files lie.
    pub fn root(&self) -> &Path {
        &self.0.files
    }

    /// Where a file of the tree lies until it gets its name.
    pub fn path(&self, path: &TreePath) -> PathBuf {
        path.under(self.root())
    }

    /// Where the list lies that is being followed.
    pub fn list(&self) -> PathBuf {
        self.directory().join("list.new")
    }

    /// The directory itself, for what is remembered from run to run.
    pub fn directory(&self) -> &Path {
        &self.0.directory
    }

    /// Whether this run has found a file right.
    pub fn is_right(&self, path: &TreePath) -> bool {
        self.right().paths.contains(path)
    }

    /// The pieces file of a blob that was found right in this run; `None` if it has none. The same bytes lie
    /// in [`root`](Self::root) under the path of the pieces.
    pub fn pieces_of(&self, digest: &Digest) -> Option<Vec<u8>> {
        let is_right = self.is_right(&TreePath::Blob(*digest));
        // One that is too small has no such file.
        is_right.then(|| fs::read(self.path(&TreePath::Pieces(*digest))).ok())?
    }

    /// Forgets and removes all that was fetched: it has its names, or nobody wants it.
    pub fn clear(&self) -> Result<(), writer::Error> {
        self.forget();
        let removed = |path: PathBuf, result: io::Result<()>| match result {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(writer::Error::Remove { path, source })
            }
            _ => Ok(()),
        };
        let list = self.list();
        removed(list.clone(), fs::remove_file(&list))?;
        let entries = fs::read_dir(self.root()).map_err(|source| failed(self.root(), source))?;
        for entry in entries {
            let entry = entry.map_err(|source| failed(self.root(), source))?;
            let path = entry.path();
            let result = discard(&path);
            removed(path, result)?;
        }
        // What somebody has read and found right while it was removed.
        self.forget();
        Ok(())
    }

    fn forget(&self) {
        let mut right = self.right();
        right.generation.0 += 1;
        right.paths.clear();
        self.made().clear();
    }

    /// What is fetched now is of this one.
    pub(super) fn generation(&self) -> Generation {
        self.right().generation
    }

    /// Writes a small file whose bytes have been compared.
    pub(super) fn place(&self, wanted: &Wanted, bytes: &[u8]) -> Result<(), writer::Error> {
        let generation = self.generation();
        let path = self.path(&wanted.path);
        let mut file = self.create(&path)?;
        file.write_all(bytes)
            .and_then(|()| check::make_readable(&file, Some(wanted.time)))
            .map_err(|source| failed(&path, source))?;
        self.note(&wanted.path, generation);
        Ok(())
    }

    /// Where a file grows up that comes in many steps.
    pub(super) fn part(&self, path: &TreePath) -> PathBuf {
        let mut part = self.path(path).into_os_string();
        part.push(PART);
        part.into()
    }

    /// Creates or empties a file below [`root`](Self::root).
    pub(super) fn create(&self, path: &Path) -> Result<File, writer::Error> {
        self.make_parent(path)?;
        fs::OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o644)
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .open(path)
            .map_err(|source| failed(path, source))
    }

    /// Makes the directory of a file, unless this run has.
    pub(super) fn make_parent(&self, path: &Path) -> Result<(), writer::Error> {
        let Some(parent) = path.parent() else {
            return Ok(());
        };
        if !self.made().contains(parent) {
            make_directory(parent).map_err(|source| failed(parent, source))?;
            self.made().insert(parent.to_owned());
        }
        Ok(())
    }

    /// Fails if the disk has no room for so many bytes.
    pub(super) fn make_sure_of_room(&self, bytes: u64) -> Result<(), writer::Error> {
        let found = rustix::fs::fstatvfs(&self.0.handle)
            .map_err(|errno| failed(self.root(), errno.into()))?;
        let free = found.f_bavail.saturating_mul(found.f_frsize);
        if bytes.saturating_add(bytes / 100) > free {
            let full = io::Error::from(io::ErrorKind::StorageFull);
            return Err(failed(self.root(), full));
        }
        Ok(())
    }

    /// Remembers that a file is right which was fetched, or read, since a generation began; not once that is over.
    pub(super) fn note(&self, path: &TreePath, generation: Generation) {
        let mut right = self.right();
        if right.generation == generation {
            right.paths.insert(path.clone());
        }
    }

    fn right(&self) -> MutexGuard<'_, Right> {
        self.0.right.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn made(&self) -> MutexGuard<'_, HashSet<PathBuf>> {
        self.0.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) fn failed(path: &Path, source: io::Error) -> writer::Error {
    writer::Error::Write {
        path: path.to_owned(),
        source,
    }
}

/// Nobody but us looks in there.
fn make_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[cfg(test)]
mod tests {

    use super::*;

    #[test]
    fn what_was_begun_before_a_clearing_is_not_right_after_it() {
        let dir = tempfile::tempdir().unwrap();
        let writer = TreeWriter::open(&dir.path().join("tree")).unwrap();
        let staging = Staging::open(&writer).unwrap();
        let wanted = Wanted::blob(b"bytes");
        staging.place(&wanted, b"bytes").unwrap();
        assert!(staging.is_right(&wanted.path));
        let before = staging.generation();
        staging.clear().unwrap();
        staging.note(&wanted.path, before);
        assert!(!staging.is_right(&wanted.path));
        staging.note(&wanted.path, staging.generation());
        assert!(staging.is_right(&wanted.path));
    }
}
