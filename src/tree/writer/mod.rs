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
mod previous;
mod recover;
mod removal;
mod repair;
pub mod replica;
mod survey;
pub mod unreferenced;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use rustix::fs::FlockOperation;
use tempfile::TempPath;

use super::blob_hash::BlobHasher;
use super::index::{self, RepoIndex};
use super::path::{Module, RepoDir, TreePath};
use super::reader::Tree;
use crate::descriptor::Descriptor;
use crate::digest::Digest;
use crate::reference::Tag;
use blob::{Content, Held, Staged};
use disk::{Named, make_directory, rename};

pub use blob::BlobWriter;
pub use error::Error;

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
    /// Whether its source keeps referrers under tags, for lack of an API; `None` if that is not known.
    pub tag_referrers: Option<bool>,
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

    /// Makes images visible, all of them with one set of syncs.
    ///
    /// Everything they reach must have been staged or be in the tree already. An `index.json` that would
    /// not change is left alone.
    pub fn publish(&self, images: &[Image]) -> Result<(), Error> {
        let _one_at_a_time = lock(&self.publishing);
        let mut touched = BTreeSet::new();
        let placed = self.place_staged(images, &mut touched)?;
        for image in images {
            if !self.is_linked(image) {
                self.mark_dirty()?;
            }
            self.link(image, &placed, &mut touched)?;
        }
        self.sync_directories(&touched)?;

        self.forget_unreferenced(images)?;
        let mut updates: BTreeMap<&RepoDir, Vec<&Image>> = BTreeMap::new();
        for image in images {
            updates.entry(&image.repo).or_default().push(image);
        }
        let mut replaced = BTreeSet::new();
        for (repo, images) in updates {
            let mut index = self.index(repo)?;
            let before = index.clone();
            index.set_all(
                images
                    .iter()
                    .map(|image| (image.tag.as_ref(), image.root.clone())),
            );
            if let Some(by_tag) = images.iter().rev().find_map(|image| image.tag_referrers) {
                index.set_tag_referrers(by_tag);
            }
            if index != before {
                let bytes = index.to_bytes();
                if bytes.len() as u64 > index::MAX_BYTES {
                    return Err(Error::IndexTooLarge {
                        repo: repo.clone(),
                        bytes: bytes.len(),
                    });
                }
                self.mark_dirty()?;
                self.replace(&TreePath::Index(repo.clone()), &bytes)?;
                replaced.insert(self.tree.root().join(repo.to_string()));
            }
        }
        self.sync_directories(&replaced)
    }

    /// Takes every entry that is not to be kept out of a repository's index, and returns what went.
    ///
    /// The content stays where it is, for those who are reading it, until it is pruned.
    pub fn retain(
        &self,
        repo: &RepoDir,
        keep: impl FnMut(&Descriptor) -> bool,
    ) -> Result<Vec<Descriptor>, Error> {
        let _one_at_a_time = lock(&self.publishing);
        let mut index = self.index(repo)?;
        let gone = index.retain(keep);
        if !gone.is_empty() {
            self.mark_dirty()?;
            let is_tag = |entry: &&Descriptor| entry.ref_name().is_some();
            self.lower_totals(0, gone.iter().filter(is_tag).count())?;
            self.replace(&TreePath::Index(repo.clone()), &index.to_bytes())?;
            let directory = self.tree.root().join(repo.to_string());
            self.sync_directories(&BTreeSet::from([directory]))?;
        }
        Ok(gone)
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
                self.write_held(digest)?;
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

    /// Writes a file for content that is in memory.
    fn write_held(&self, digest: &Digest) -> Result<(), Error> {
        let bytes = match lock(&self.staged).get(digest) {
            Some(Staged {
                content: Content::Memory(held),
                ..
            }) => held.bytes.clone(),
            _ => return Ok(()),
        };
        let mut file = self.temporary_file()?;
        file.write_all(&bytes)
            .map_err(|source| Error::write(file.path(), source))?;
        if let Some(staged) = lock(&self.staged).get_mut(digest) {
            staged.content = Content::File(file.into_temp_path());
        }
        Ok(())
    }

    /// Gives staged content its names, pieces first. What fails stays staged, to be tried again.
    fn place(&self, digest: Digest, touched: &mut BTreeSet<PathBuf>) -> Result<(), Error> {
        let pieces = TreePath::Pieces(digest).under(self.tree.root());
        let blob = TreePath::Blob(digest).under(self.tree.root());
        self.make_parents(&blob, touched)?;
        let mut staged = lock(&self.staged);
        let Some(Staged {
            content: Content::File(content),
            pieces: pieces_path,
            ..
        }) = staged.get_mut(&digest)
        else {
            return Ok(());
        };
        if let Some(path) = pieces_path {
            self.make_parents(&pieces, touched)?;
            if rename(path, &pieces)? == Named::Moved {
                forget(pieces_path.take());
            }
            *pieces_path = None;
        }
        let named = rename(content, &blob)?;
        if let Some(Staged {
            content: Content::File(content),
            ..
        }) = staged.remove(&digest)
            && named == Named::Moved
        {
            forget(Some(content));
        }
        Ok(())
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

/// Lets go of a temporary name that is no more: dropping it would try to delete it.
fn forget(path: Option<TempPath>) {
    // On the systems a tree lives on, this cannot fail.
    drop(path.map(TempPath::keep));
}

/// A lock that a panicking holder left is still good: every critical section leaves whole values.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;
    use std::sync::atomic::Ordering;

    use jiff::Timestamp;

    use super::*;
    use crate::digest::Algorithm;
    use crate::media_type::MediaType;
    use crate::tree::state::Totals;

    fn publish_one(writer: &TreeWriter, tag: &str, content: &[u8]) -> Digest {
        let digest = Algorithm::Sha256.digest(content);
        writer.stage_bytes(digest, content).unwrap();
        let root = Descriptor::new(MediaType::OCI_MANIFEST, digest, content.len() as u64);
        let image = Image {
            repo: "a/b".parse().unwrap(),
            tag: Some(tag.parse().unwrap()),
            root,
            reach: vec![digest],
            tag_referrers: None,
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
    fn a_state_never_counts_what_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let writer = TreeWriter::open(dir.path()).unwrap();
        publish_one(&writer, "1", b"one");
        publish_one(&writer, "2", b"two");
        writer.finish(Timestamp::UNIX_EPOCH).unwrap();
        let repo: RepoDir = "a/b".parse().unwrap();
        let gone = writer.retain(&repo, |entry| entry.ref_name() == Some("2"));
        assert_eq!(gone.unwrap().len(), 1);
        // As if the run were cut off here.
        let state = writer.tree().state().unwrap();
        assert_eq!((state.totals.tags, state.serial), (1, 2));
        assert!(writer.finish(Timestamp::UNIX_EPOCH).unwrap());
        assert_eq!(writer.tree().state().unwrap().serial, 3);
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
                    tag_referrers: None,
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
