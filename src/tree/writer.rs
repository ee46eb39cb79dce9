//! Writing a tree so that no crash can leave a half-truth in it.
//!
//! A blob is written to `.~tmp~/`, hashed while it is written, and compared with its size and digest
//! before it may be placed. [`TreeWriter::publish`] then works leaves before roots, with the disk
//! told to catch up between the steps:
//!
//! 1. the content of everything staged is made durable;
//! 2. it is renamed to its name: pieces, blobs, child manifests, manifests;
//! 3. the repositories get their hardlinks, and all new names are made durable;
//! 4. each `index.json` is replaced; and, by [`TreeWriter::finish`], `state.json`.
//!
//! Kill it anywhere: what has a name is whole, and a tag that is visible is complete. Syncing is done
//! once per step and batch, not once per file, because with thousands of small blobs the syncs are
//! what an export costs.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use rustix::fs::FlockOperation;
use tempfile::{NamedTempFile, TempPath};
use tracing::{debug, warn};

use super::index::{OCI_LAYOUT, RepoIndex};
use super::path::{RepoDir, TreePath};
use super::pieces::PieceHasher;
use super::reader::{self, Tree};
use super::state::{FORMAT, State, Totals};
use crate::descriptor::Descriptor;
use crate::digest::{Digest, Hasher};
use crate::reference::Tag;

/// Where files grow up. rsync's `--delay-updates` uses the same name, so mirrors already exclude it.
pub const TEMPORARY: &str = ".~tmp~";

/// In [`TEMPORARY`] while the tree may be newer than its `state.json`: from the first new name until the
/// state is written.
pub const DIRTY: &str = "dirty";

/// From how many files or directories on one `syncfs` is cheaper than a sync of each.
const SYNC_EACH: usize = 4;

/// The one writer of a tree; holds the tree's lock as long as it lives.
#[derive(Debug)]
pub struct TreeWriter {
    tree: Tree,
    temporary: PathBuf,
    /// Verified content that has no name in the tree yet.
    staged: Mutex<HashMap<Digest, Staged>>,
    publishing: Mutex<()>,
    copies_announced: AtomicBool,
}

/// Verified content under a temporary name.
#[derive(Debug)]
struct Staged {
    size: u64,
    content: TempPath,
    pieces: Option<TempPath>,
}

impl Staged {
    fn paths(&self) -> impl Iterator<Item = &Path> {
        std::iter::once(&self.content)
            .chain(&self.pieces)
            .map(|path| &**path)
    }
}

/// An image to be published: a root and all it reaches, already staged or in the tree.
#[derive(Debug, Clone)]
pub struct Image {
    /// The repository it becomes part of.
    pub repo: RepoDir,
    /// The tag that will point at it; without one it is kept by digest.
    pub tag: Option<Tag>,
    /// The manifest the tag points at.
    pub root: Descriptor,
    /// The digests of all it reaches, itself included, leaves first.
    pub reach: Vec<Digest>,
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
            staged: Mutex::default(),
            publishing: Mutex::default(),
            copies_announced: AtomicBool::new(false),
        };
        writer.remove_leftovers()?;
        if writer.temporary.join(DIRTY).exists() {
            // A run was cut off between making names and making them durable.
            writer.sync_all()?;
        }
        Ok(writer)
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
        let pieces = PieceHasher::new(size);
        let hasher = digest.algorithm().hasher();
        Ok(BlobWriter {
            writer: self,
            file,
            digest,
            size,
            written: 0,
            hasher,
            pieces,
        })
    }

    /// Stages content that is already in memory, such as a manifest.
    pub fn stage_bytes(&self, digest: Digest, bytes: &[u8]) -> Result<(), Error> {
        let mut blob = self.stage(digest, bytes.len() as u64)?;
        blob.write(bytes)?;
        blob.finish()
    }

    /// The bytes of a staged or placed blob, for reading a manifest back.
    pub fn read(&self, digest: &Digest, limit: u64) -> Result<bytes::Bytes, Error> {
        if let Some(staged) = lock(&self.staged).get(digest) {
            let bytes = fs::read(&staged.content)
                .map_err(|source| Error::write(&staged.content, source))?;
            return Ok(bytes.into());
        }
        Ok(self.tree.read(&TreePath::Blob(*digest), limit)?)
    }

    /// Forgets what was staged for images that will not be published, and frees its space.
    pub fn discard_staged(&self) {
        lock(&self.staged).clear();
    }

    /// Makes images visible, all of them with one set of syncs.
    ///
    /// Everything they reach must have been staged or be in the tree already. An `index.json` that would
    /// not change is left alone.
    pub fn publish(&self, images: &[Image]) -> Result<(), Error> {
        let _one_at_a_time = lock(&self.publishing);
        let mut touched = BTreeSet::new();
        let placed = self.place_staged(images, &mut touched)?;
        for image in images {
            self.link(image, &placed, &mut touched)?;
        }
        self.sync_directories(&touched)?;

        let mut updates: BTreeMap<&RepoDir, Vec<&Image>> = BTreeMap::new();
        for image in images {
            updates.entry(&image.repo).or_default().push(image);
        }
        let mut replaced = BTreeSet::new();
        for (repo, images) in updates {
            let mut index = self.index(repo)?;
            let before = index.clone();
            for image in images {
                index.set(image.tag.as_ref(), image.root.clone());
            }
            if index != before {
                self.mark_dirty()?;
                self.replace(&TreePath::Index(repo.clone()), &index.to_bytes())?;
                replaced.insert(self.tree.root().join(repo.to_string()));
            }
        }
        self.sync_directories(&replaced)
    }

    /// Replaces `state.json` if anything was published since it was written; says whether it did.
    ///
    /// `now` becomes the time of creation. The serial only grows, whatever the clock does.
    pub fn finish(&self, now: Timestamp) -> Result<bool, Error> {
        let _one_at_a_time = lock(&self.publishing);
        let old = match self.tree.state() {
            Ok(state) => Some(state),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error.into()),
        };
        let dirty = self.temporary.join(DIRTY);
        if old.is_some() && !dirty.exists() {
            return Ok(false);
        }
        let state = State {
            format: FORMAT,
            serial: old.map_or(1, |old| old.serial + 1),
            created: now,
            list: None,
            totals: self.totals()?,
        };
        self.replace(&TreePath::State, &state.to_bytes())?;
        self.sync_directories(&BTreeSet::from([self.tree.root().to_owned()]))?;
        match fs::remove_file(&dirty) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(Error::write(&dirty, source))
            }
            _ => Ok(true),
        }
    }

    fn index(&self, repo: &RepoDir) -> Result<RepoIndex, Error> {
        match self.tree.index(repo) {
            Err(error) if error.is_not_found() => Ok(RepoIndex::default()),
            index => Ok(index?),
        }
    }

    /// Steps 1 and 2: content durable, then named, leaves first. Returns what got a name now.
    ///
    /// Staged content stays staged until the moment it has its name: somebody else may be reading it.
    fn place_staged(
        &self,
        images: &[Image],
        touched: &mut BTreeSet<PathBuf>,
    ) -> Result<HashSet<Digest>, Error> {
        let mut ready: Vec<Digest> = Vec::new();
        let mut seen = HashSet::new();
        let mut files: Vec<PathBuf> = Vec::new();
        for digest in images.iter().flat_map(|image| &image.reach) {
            let Some(size) = lock(&self.staged).get(digest).map(|staged| staged.size) else {
                continue;
            };
            if self.tree.blob_size(digest)? == Some(size) {
                lock(&self.staged).remove(digest);
            } else if seen.insert(*digest) {
                let staged = lock(&self.staged);
                let paths = staged.get(digest).into_iter().flat_map(Staged::paths);
                files.extend(paths.map(Path::to_owned));
                ready.push(*digest);
            }
        }
        if ready.is_empty() {
            return Ok(HashSet::new());
        }
        self.mark_dirty()?;
        self.sync_files(&files)?;
        for digest in &ready {
            self.place(*digest, touched)?;
        }
        Ok(seen)
    }

    /// Gives staged content its names, pieces first. What fails stays staged, to be tried again.
    fn place(&self, digest: Digest, touched: &mut BTreeSet<PathBuf>) -> Result<(), Error> {
        let pieces = TreePath::Pieces(digest).under(self.tree.root());
        let blob = TreePath::Blob(digest).under(self.tree.root());
        self.make_parents(&blob, touched)?;
        let mut staged = lock(&self.staged);
        let Some(content) = staged.get_mut(&digest) else {
            return Ok(());
        };
        if let Some(path) = &content.pieces {
            self.make_parents(&pieces, touched)?;
            fs::rename(path, &pieces).map_err(|source| Error::write(&pieces, source))?;
            content.pieces = None;
        }
        fs::rename(&content.content, &blob).map_err(|source| Error::write(&blob, source))?;
        staged.remove(&digest);
        Ok(())
    }

    /// Step 3: the repository's own names for what the image reaches.
    ///
    /// What was placed just now replaces a link of the same name: that is what is left of content that
    /// was found damaged.
    fn link(
        &self,
        image: &Image,
        placed: &HashSet<Digest>,
        touched: &mut BTreeSet<PathBuf>,
    ) -> Result<(), Error> {
        let layout = TreePath::Layout(image.repo.clone());
        let layout_path = layout.under(self.tree.root());
        if !layout_path.exists() {
            self.make_parents(&layout_path, touched)?;
            self.replace(&layout, OCI_LAYOUT)?;
        }
        for digest in &image.reach {
            let link = TreePath::Link(image.repo.clone(), *digest).under(self.tree.root());
            let blob = TreePath::Blob(*digest).under(self.tree.root());
            match fs::hard_link(&blob, &link) {
                Ok(()) => remember(&link, touched),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    if placed.contains(digest) {
                        self.replace_link(&blob, &link)?;
                    }
                    // The name may be from a run that did not get to make it durable.
                    remember(&link, touched);
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    if !blob.exists() {
                        return Err(Error::NotStaged {
                            digest: *digest,
                            repo: image.repo.clone(),
                        });
                    }
                    self.make_parents(&link, touched)?;
                    self.link_or_copy(&blob, &link)?;
                }
                Err(_) => {
                    remember(&link, touched);
                    self.link_or_copy(&blob, &link)?;
                }
            }
        }
        Ok(())
    }

    /// Puts a link to `blob` in the place of whatever has the name `link`.
    fn replace_link(&self, blob: &Path, link: &Path) -> Result<(), Error> {
        let failed = |source| Error::write(link, source);
        let spare = self.temporary_file()?.into_temp_path();
        fs::remove_file(&spare).map_err(failed)?;
        self.link_or_copy(blob, &spare)?;
        fs::rename(&spare, link).map_err(failed)
    }

    /// A hardlink, or a verified-by-construction copy where the file system allows no further link.
    fn link_or_copy(&self, blob: &Path, link: &Path) -> Result<(), Error> {
        let error = match fs::hard_link(blob, link) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            Err(error) => error,
        };
        let errno = rustix::io::Errno::from_io_error(&error);
        if !matches!(
            errno,
            Some(rustix::io::Errno::MLINK | rustix::io::Errno::XDEV | rustix::io::Errno::PERM)
        ) {
            return Err(Error::write(link, error));
        }
        if !self.copies_announced.swap(true, Ordering::Relaxed) {
            warn!(path = %link.display(), %error, "cannot hardlink, keeping copies instead");
        }
        let mut copy = self.temporary_file()?;
        let failed = |source| Error::write(link, source);
        let mut source = File::open(blob).map_err(failed)?;
        io::copy(&mut source, copy.as_file_mut()).map_err(failed)?;
        copy.as_file().sync_all().map_err(failed)?;
        copy.persist(link).map_err(|error| failed(error.error))?;
        Ok(())
    }

    /// Replaces a small file whole: written beside, synced, renamed. The directory is not synced.
    fn replace(&self, path: &TreePath, bytes: &[u8]) -> Result<(), Error> {
        let target = path.under(self.tree.root());
        let failed = |source| Error::write(&target, source);
        let mut file = self.temporary_file()?;
        file.write_all(bytes).map_err(failed)?;
        file.as_file().sync_all().map_err(failed)?;
        file.persist(&target).map_err(|error| failed(error.error))?;
        Ok(())
    }

    /// Notes, before the first new name, that `state.json` will be behind.
    fn mark_dirty(&self) -> Result<(), Error> {
        let path = self.temporary.join(DIRTY);
        if path.exists() {
            return Ok(());
        }
        let failed = |source| Error::write(&path, source);
        File::create(&path)
            .and_then(|file| file.sync_all())
            .map_err(failed)?;
        self.sync_directories(&BTreeSet::from([self.temporary.clone()]))
    }

    fn temporary_file(&self) -> Result<NamedTempFile, Error> {
        let failed = |source| Error::write(&self.temporary, source);
        let file = NamedTempFile::new_in(&self.temporary).map_err(failed)?;
        // Made private by the library; mirrors and web servers must be able to read the tree.
        file.as_file()
            .set_permissions(fs::Permissions::from_mode(0o644))
            .map_err(failed)?;
        Ok(file)
    }

    fn make_parents(&self, path: &Path, touched: &mut BTreeSet<PathBuf>) -> Result<(), Error> {
        let Some(parent) = path.parent() else {
            return Ok(());
        };
        if !touched.contains(parent) && !parent.is_dir() {
            make_directory(parent, 0o755).map_err(|source| Error::write(parent, source))?;
            // The new directory's own entry must survive a crash too, and its parents'.
            let above = parent
                .ancestors()
                .skip(1)
                .take_while(|dir| dir.starts_with(self.tree.root()));
            touched.extend(above.map(Path::to_owned));
        }
        remember(path, touched);
        Ok(())
    }

    fn sync_files(&self, files: &[PathBuf]) -> Result<(), Error> {
        if files.len() > SYNC_EACH {
            return self.sync_all();
        }
        for path in files {
            File::open(path)
                .and_then(|file| file.sync_all())
                .map_err(|source| Error::write(path, source))?;
        }
        Ok(())
    }

    fn sync_directories(&self, directories: &BTreeSet<PathBuf>) -> Result<(), Error> {
        if directories.len() > SYNC_EACH {
            return self.sync_all();
        }
        for directory in directories {
            File::open(directory)
                .and_then(|file| file.sync_all())
                .map_err(|source| Error::write(directory, source))?;
        }
        Ok(())
    }

    fn sync_all(&self) -> Result<(), Error> {
        rustix::fs::syncfs(self.tree.directory())
            .map_err(|errno| Error::write(self.tree.root(), errno.into()))
    }

    fn remove_leftovers(&self) -> Result<(), Error> {
        let failed = |source| Error::write(&self.temporary, source);
        for entry in fs::read_dir(&self.temporary).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let is_file = entry.file_type().map_err(failed)?.is_file();
            if !is_file {
                warn!(path = %entry.path().display(), "leaving alone what this program did not make");
            } else if entry.file_name() != DIRTY {
                debug!(path = %entry.path().display(), "removing what an interrupted run left");
                fs::remove_file(entry.path()).map_err(failed)?;
            }
        }
        Ok(())
    }

    fn totals(&self) -> Result<Totals, Error> {
        let mut totals = Totals::default();
        for repo in self.tree.repositories()? {
            totals.repositories += 1;
            match self.tree.index(&repo) {
                Ok(index) => totals.tags += index.tags().count() as u64,
                // One damaged repository must not keep the news of all others from being told.
                Err(error) => {
                    warn!(error = &error as &dyn std::error::Error, %repo, "not counting the tags of a repository");
                }
            }
        }
        let blobs = self.tree.root().join("blobs");
        let mut pending = vec![blobs.clone()];
        while let Some(directory) = pending.pop() {
            let entries = match fs::read_dir(&directory) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                entries => entries.map_err(|source| Error::write(&directory, source))?,
            };
            for entry in entries {
                let metadata = entry
                    .and_then(|entry| Ok((entry.metadata()?, entry.path())))
                    .map_err(|source| Error::write(&directory, source))?;
                match metadata {
                    (metadata, path) if metadata.is_dir() => pending.push(path),
                    (metadata, _) => {
                        totals.blobs += 1;
                        totals.bytes += metadata.size();
                    }
                }
            }
        }
        Ok(totals)
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

/// A blob on its way into the tree.
///
/// Dropping it before [`finish`](Self::finish) leaves nothing behind.
#[derive(Debug)]
pub struct BlobWriter<'a> {
    writer: &'a TreeWriter,
    file: NamedTempFile,
    digest: Digest,
    size: u64,
    written: u64,
    hasher: Hasher,
    pieces: Option<PieceHasher>,
}

impl BlobWriter<'_> {
    /// How many bytes have been written: where a broken transfer has to go on.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Writes the next bytes; refuses more than the blob may have, so that an endless body ends here.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.written += bytes.len() as u64;
        if self.written > self.size {
            return Err(Error::TooLong {
                digest: self.digest,
                size: self.size,
            });
        }
        self.hasher.update(bytes);
        if let Some(pieces) = &mut self.pieces {
            pieces.update(bytes);
        }
        self.file.write_all(bytes).map_err(|source| Error::Blob {
            digest: self.digest,
            path: self.file.path().to_owned(),
            source,
        })
    }

    /// Starts over, for a source that cannot resume.
    pub fn restart(&mut self) -> Result<(), Error> {
        let file = self.file.as_file_mut();
        io::Seek::rewind(file)
            .and_then(|()| file.set_len(0))
            .map_err(|source| Error::Blob {
                digest: self.digest,
                path: self.file.path().to_owned(),
                source,
            })?;
        self.written = 0;
        self.hasher = self.digest.algorithm().hasher();
        self.pieces = PieceHasher::new(self.size);
        Ok(())
    }

    /// Compares size and digest and hands the blob over to be published.
    pub fn finish(self) -> Result<(), Error> {
        if self.written != self.size {
            return Err(Error::TooShort {
                digest: self.digest,
                size: self.size,
                written: self.written,
            });
        }
        let found = self.hasher.finish();
        if found != self.digest {
            return Err(Error::Digest {
                expected: self.digest,
                found,
            });
        }
        let pieces = match self.pieces {
            None => None,
            Some(pieces) => {
                let mut file = self.writer.temporary_file()?;
                file.write_all(&pieces.finish().to_bytes())
                    .map_err(|source| Error::write(file.path(), source))?;
                Some(file.into_temp_path())
            }
        };
        let staged = Staged {
            size: self.size,
            content: self.file.into_temp_path(),
            pieces,
        };
        lock(&self.writer.staged).insert(self.digest, staged);
        Ok(())
    }
}

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
    fn write(path: &Path, source: io::Error) -> Self {
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

/// Notes that the directory of `path` has a name that must be made durable.
fn remember(path: &Path, touched: &mut BTreeSet<PathBuf>) {
    if let Some(parent) = path.parent()
        && !touched.contains(parent)
    {
        touched.insert(parent.to_owned());
    }
}

/// Makes a directory and those above it, with the given permissions whatever the umask: a tree that web
/// servers and rsync cannot read is no tree.
fn make_directory(path: &Path, mode: u32) -> io::Result<()> {
    let missing: Vec<&Path> = path
        .ancestors()
        .take_while(|dir| !dir.as_os_str().is_empty() && !dir.exists())
        .collect();
    fs::create_dir_all(path)?;
    for directory in missing {
        fs::set_permissions(directory, fs::Permissions::from_mode(mode))?;
    }
    Ok(())
}

/// A lock that a panicking holder left is still good: every critical section leaves whole values.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Algorithm;
    use crate::media_type::MediaType;

    fn publish_one(writer: &TreeWriter, tag: &str, content: &[u8]) -> Digest {
        let digest = Algorithm::Sha256.digest(content);
        writer.stage_bytes(digest, content).unwrap();
        let root = Descriptor::new(MediaType::OCI_MANIFEST, digest, content.len() as u64);
        let image = Image {
            repo: "a/b".parse().unwrap(),
            tag: Some(tag.parse().unwrap()),
            root,
            reach: vec![digest],
        };
        writer.publish(&[image]).unwrap();
        digest
    }

    #[test]
    fn published_content_is_linked_readable_and_counted() {
        let dir = tempfile::tempdir().unwrap();
        let writer = TreeWriter::open(dir.path()).unwrap();
        let digest = publish_one(&writer, "1", b"one");
        assert!(writer.finish(Timestamp::UNIX_EPOCH).unwrap());
        let blob = TreePath::Blob(digest).under(dir.path());
        let link = TreePath::Link("a/b".parse().unwrap(), digest).under(dir.path());
        let (blob, link) = (fs::metadata(blob).unwrap(), fs::metadata(link).unwrap());
        assert_eq!(
            (blob.ino(), blob.nlink(), blob.mode() & 0o777),
            (link.ino(), 2, 0o644)
        );
        let state = writer.tree().state().unwrap();
        assert_eq!(
            state.totals,
            Totals {
                repositories: 1,
                tags: 1,
                blobs: 1,
                bytes: 3
            }
        );
        assert_eq!(state.serial, 1);
    }

    #[test]
    fn publishing_the_same_again_changes_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let writer = TreeWriter::open(dir.path()).unwrap();
        publish_one(&writer, "1", b"one");
        writer.finish(Timestamp::UNIX_EPOCH).unwrap();
        let index = TreePath::Index("a/b".parse().unwrap()).under(dir.path());
        let before = fs::metadata(&index).unwrap();
        publish_one(&writer, "1", b"one");
        assert!(!writer.finish(Timestamp::now()).unwrap());
        let after = fs::metadata(&index).unwrap();
        assert_eq!(
            (before.ino(), before.mtime_nsec()),
            (after.ino(), after.mtime_nsec())
        );
    }

    #[test]
    fn the_serial_grows_even_when_the_clock_goes_back() {
        let dir = tempfile::tempdir().unwrap();
        let writer = TreeWriter::open(dir.path()).unwrap();
        publish_one(&writer, "1", b"one");
        writer.finish(Timestamp::now()).unwrap();
        publish_one(&writer, "1", b"two");
        writer.finish(Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(writer.tree().state().unwrap().serial, 2);
    }

    #[test]
    fn a_run_killed_before_its_state_is_made_up_for() {
        let dir = tempfile::tempdir().unwrap();
        let writer = TreeWriter::open(dir.path()).unwrap();
        publish_one(&writer, "1", b"one");
        writer.finish(Timestamp::UNIX_EPOCH).unwrap();
        publish_one(&writer, "2", b"two");
        fs::write(dir.path().join(TEMPORARY).join("half"), "x").unwrap();
        drop(writer);
        let writer = TreeWriter::open(dir.path()).unwrap();
        assert!(writer.finish(Timestamp::UNIX_EPOCH).unwrap());
        assert_eq!(writer.tree().state().unwrap().totals.tags, 2);
        assert_eq!(fs::read_dir(dir.path().join(TEMPORARY)).unwrap().count(), 0);
    }

    #[test]
    fn a_second_writer_is_turned_away() {
        let dir = tempfile::tempdir().unwrap();
        let _first = TreeWriter::open(dir.path()).unwrap();
        assert!(matches!(
            TreeWriter::open(dir.path()),
            Err(Error::Locked { .. })
        ));
    }

    #[test]
    fn what_is_staged_can_be_read_at_every_moment_of_publishing() {
        let dir = tempfile::tempdir().unwrap();
        let writer = TreeWriter::open(dir.path()).unwrap();
        let contents: Vec<Vec<u8>> = (0..60_u8).map(|number| vec![number; 100]).collect();
        let digests: Vec<Digest> = contents
            .iter()
            .map(|content| Algorithm::Sha256.digest(content))
            .collect();
        for (content, digest) in contents.iter().zip(&digests) {
            writer.stage_bytes(*digest, content).unwrap();
        }
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    for digest in &digests {
                        assert_eq!(writer.holds(digest).unwrap(), Some(100));
                        assert_eq!(writer.read(digest, 100).unwrap().len(), 100);
                    }
                }
            });
            for (number, digest) in digests.iter().enumerate() {
                let root = Descriptor::new(MediaType::OCI_MANIFEST, *digest, 100);
                let tag = format!("t{number}").parse().ok();
                let image = Image {
                    repo: "a".parse().unwrap(),
                    tag,
                    root,
                    reach: vec![*digest],
                };
                writer.publish(&[image]).unwrap();
            }
            done.store(true, Ordering::Relaxed);
        });
    }

    #[test]
    fn damaged_content_is_replaced_under_every_name() {
        let dir = tempfile::tempdir().unwrap();
        let writer = TreeWriter::open(dir.path()).unwrap();
        let digest = publish_one(&writer, "1", b"whole");
        let link = TreePath::Link("a/b".parse().unwrap(), digest).under(dir.path());
        fs::write(&link, b"cut").unwrap();
        publish_one(&writer, "1", b"whole");
        for path in [link, TreePath::Blob(digest).under(dir.path())] {
            assert_eq!(fs::read(path).unwrap(), b"whole");
        }
    }

    #[test]
    fn one_damaged_index_does_not_hold_the_state_back() {
        let dir = tempfile::tempdir().unwrap();
        let writer = TreeWriter::open(dir.path()).unwrap();
        publish_one(&writer, "1", b"one");
        writer.finish(Timestamp::UNIX_EPOCH).unwrap();
        fs::create_dir(dir.path().join("repos/z")).unwrap();
        fs::write(dir.path().join("repos/z/index.json"), "{").unwrap();
        publish_one(&writer, "2", b"two");
        assert!(writer.finish(Timestamp::UNIX_EPOCH).unwrap());
        assert_eq!(writer.tree().state().unwrap().totals.tags, 2);
    }

    #[test]
    fn foreign_things_among_the_temporary_files_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join(TEMPORARY).join("theirs")).unwrap();
        drop(TreeWriter::open(dir.path()).unwrap());
        assert!(dir.path().join(TEMPORARY).join("theirs").exists());

        let linked = dir.path().join("linked");
        fs::create_dir(&linked).unwrap();
        fs::write(dir.path().join(TEMPORARY).join("file"), "").unwrap();
        std::os::unix::fs::symlink(dir.path().join(TEMPORARY), linked.join(TEMPORARY)).unwrap();
        assert!(TreeWriter::open(&linked).is_err());
        assert!(dir.path().join(TEMPORARY).join("file").exists());
    }

    #[test]
    fn wrong_content_never_gets_a_name() {
        let dir = tempfile::tempdir().unwrap();
        let writer = TreeWriter::open(dir.path()).unwrap();
        let digest = Algorithm::Sha256.digest(b"right");
        for (bytes, size) in [
            (&b"wrong"[..], 5),
            (b"righ", 5),
            (b"rightly", 5),
            (b"right", 6),
        ] {
            let mut blob = writer.stage(digest, size).unwrap();
            let result = blob.write(bytes).and_then(|()| blob.finish());
            assert!(result.unwrap_err().is_wrong_content());
        }
        assert_eq!(writer.holds(&digest).unwrap(), None);
        assert_eq!(fs::read_dir(dir.path().join(TEMPORARY)).unwrap().count(), 0);
    }

    #[test]
    fn a_tree_of_another_format_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("state.json"), r#"{"format":9}"#).unwrap();
        assert!(TreeWriter::open(dir.path()).is_err());
        assert!(!dir.path().join(TEMPORARY).exists());
    }
}
