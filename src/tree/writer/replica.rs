//! Making a tree the same as another one, all of whose content has been brought here and verified.
//!
//! Nothing is decided here. The caller says what the tree lacks; this gives it names, leaves before roots,
//! with the disk told to catch up between the steps, once for each step and not for each file:
//!
//! 1. [`TreeWriter::replicate`] makes the content durable, names it, links it, makes the names durable,
//!    and only then replaces what names others, each `index.json`;
//! 2. [`TreeWriter::conclude`] replaces the list and, last, `state.json`;
//! 3. [`TreeWriter::remove_unlisted`] takes away, much later, what the list no longer has.
//!
//! Kill it anywhere: an `index.json` that can be seen has all it names, be it the old one or the new, and
//! as long as the list is not that of the state, the tree is marked.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::thread;

use rustix::fs::{Timespec, Timestamps, UTIME_OMIT};
use tempfile::TempPath;

use super::disk::{Named, make_directory, persist, remember, rename, sync_file_system};
use super::finish::remove_if_there;
use super::removal::remove_file;
use super::{Error, TreeWriter, lock};
use crate::digest::Digest;
use crate::tree::index::OCI_LAYOUT;
use crate::tree::list::ListPath;
use crate::tree::path::{Module, RepoDir, TreePath};

/// What a tree lacks to have what another has.
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
    /// The times files had over there, in seconds since 1970; a file that has none keeps its own.
    pub times: &'a HashMap<TreePath, i64>,
}

/// What says of a tree what it is.
#[derive(Debug, Clone, Copy)]
pub struct Conclusion<'a> {
    /// The new `DIRECTORY_SIZES.txt`, if it is replaced.
    pub sizes: Option<&'a Path>,
    /// The new file list.
    pub list: &'a Path,
    /// The bytes of the new `state.json`.
    pub state: &'a [u8],
    /// The name of the tree, which is that of its list.
    pub module: &'a Module,
}

impl TreeWriter {
    /// Gives the tree what it lacks: content, then links, then indexes. Returns how many links were made.
    pub fn replicate(&self, replica: &Replica<'_>) -> Result<u64, Error> {
        let _one_at_a_time = lock(&self.publishing);
        let layouts = self.make_durable(replica)?;
        self.mark_dirty()?;
        let mut touched = BTreeSet::new();
        for directory in replica.directories {
            let below = self.tree.root().join(directory.as_str()).join("-");
            self.make_parents(&below, &mut touched)?;
        }
        let pieces = replica.pieces.iter().map(|it| TreePath::Pieces(*it));
        let blobs = replica.blobs.iter().map(|it| TreePath::Blob(*it));
        for path in pieces.chain(blobs) {
            self.name(&path, replica.files, &mut touched)?;
        }
        for (layout, repo) in layouts.iter().zip(replica.layouts) {
            let target = TreePath::Layout(repo.clone()).under(self.tree.root());
            self.make_parents(&target, &mut touched)?;
            rename(layout, &target)?;
        }
        let made = self.link_all(replica.links, &mut touched)?;
        self.sync_directories(&touched)?;

        // Whatever happens from here on, all that an index names is there for good.
        let mut replaced = BTreeSet::new();
        for repo in replica.indexes {
            let path = TreePath::Index(repo.clone());
            self.name(&path, replica.files, &mut replaced)?;
        }
        self.sync_directories(&replaced)?;
        Ok(made)
    }

    /// Makes the tree say that it is what it has become: sizes and list, then the state.
    pub fn conclude(&self, conclusion: &Conclusion<'_>) -> Result<(), Error> {
        let _one_at_a_time = lock(&self.publishing);
        self.mark_dirty()?;
        let old = match self.tree.state() {
            Ok(state) => state.list.map(|list| list.module),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error.into()),
        };
        let target = |path: TreePath| path.under(self.tree.root());
        let list = TreePath::List(conclusion.module.clone());
        let documents = [
            (conclusion.sizes, TreePath::DirectorySizes),
            (Some(conclusion.list), list),
        ];
        let state = self.prepared(conclusion.state)?;
        for (from, path) in documents {
            let Some(from) = from else {
                continue;
            };
            set_mode_and_time(from, None)?;
            File::open(from)
                .and_then(|file| file.sync_all())
                .map_err(|source| Error::write(from, source))?;
            moved(from, &target(path))?;
        }
        if let Some(old) = old.filter(|old| old != conclusion.module) {
            remove_if_there(&target(TreePath::List(old)))?;
        }
        let root = BTreeSet::from([self.tree.root().to_owned()]);
        self.sync_directories(&root)?;
        persist(state, &target(TreePath::State))?;
        self.sync_directories(&root)?;
        self.unmark_dirty()
    }

    /// Removes files that the list does not have, one step after the other, and then the directories that
    /// this leaves empty and those of `empty` that are, but for those that it has (`listed`); both are
    /// relative to the tree.
    ///
    /// What is gone already is no error, since a run may have been cut off in the middle.
    pub fn remove_unlisted(
        &self,
        steps: &[Vec<TreePath>],
        empty: &[PathBuf],
        listed: &HashSet<PathBuf>,
    ) -> Result<(), Error> {
        let _one_at_a_time = lock(&self.publishing);
        let mut emptied = BTreeSet::new();
        for step in steps {
            let mut touched = BTreeSet::new();
            for path in step {
                let path = path.under(self.tree.root());
                remove_file(&path)?;
                remember(&path, &mut touched);
            }
            self.sync_remaining(&touched)?;
            emptied.append(&mut touched);
        }
        emptied.extend(empty.iter().map(|path| self.tree.root().join(path)));
        let stays = |below: &Path| below.as_os_str().is_empty() || listed.contains(below);
        let touched = self.remove_empty(emptied, stays)?;
        self.sync_remaining(&touched)
    }

    /// Whether the tree may be newer than its `state.json`.
    pub fn is_dirty(&self) -> bool {
        self.temporary.join(super::DIRTY).exists()
    }

    /// Takes that mark back: the caller has looked, and the tree is what its state says.
    pub fn unmark_stale(&self) -> Result<(), Error> {
        self.unmark_dirty()
    }

    /// Where a mirror keeps what it remembers from run to run; made if it is not there.
    pub fn sync_directory(&self) -> Result<PathBuf, Error> {
        let directory = self.temporary.join(super::SYNC);
        make_directory(&directory, 0o700).map_err(|source| Error::write(&directory, source))?;
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

    /// Makes all content durable that is to get a name, readable by everybody, and as old as over there.
    /// Returns a file for each layout, which nobody needs to fetch.
    fn make_durable(&self, replica: &Replica<'_>) -> Result<Vec<TempPath>, Error> {
        let mut files = Vec::new();
        let pieces = replica.pieces.iter().map(|it| TreePath::Pieces(*it));
        let blobs = replica.blobs.iter().map(|it| TreePath::Blob(*it));
        let indexes = replica.indexes.iter().cloned().map(TreePath::Index);
        for path in pieces.chain(blobs).chain(indexes) {
            let file = path.under(replica.files);
            set_mode_and_time(&file, replica.times.get(&path).copied())?;
            files.push(file);
        }
        let mut layouts = Vec::new();
        for _ in replica.layouts {
            let mut file = self.temporary_file()?;
            file.write_all(OCI_LAYOUT)
                .map_err(|source| Error::write(file.path(), source))?;
            files.push(file.path().to_owned());
            layouts.push(file.into_temp_path());
        }
        if files.len() > SYNC_EACH {
            // They lie on this file system, whatever the tree has mounted.
            sync_file_system(&self.temporary)?;
        } else {
            self.sync_files(&files)?;
        }
        Ok(layouts)
    }

    /// Gives a fetched file its name, in the place of whatever has it.
    fn name(
        &self,
        path: &TreePath,
        files: &Path,
        touched: &mut BTreeSet<PathBuf>,
    ) -> Result<(), Error> {
        let target = path.under(self.tree.root());
        self.make_parents(&target, touched)?;
        moved(&path.under(files), &target)
    }

    /// Makes the links, a part of them in each of some threads: a system call each is all they cost.
    fn link_all(
        &self,
        links: &[(RepoDir, Digest)],
        touched: &mut BTreeSet<PathBuf>,
    ) -> Result<u64, Error> {
        let lanes = thread::available_parallelism().map_or(1, |count| count.get().min(4));
        let part = links.len().div_ceil(lanes).max(1000);
        let parts = thread::scope(|scope| {
            let parts: Vec<_> = links
                .chunks(part)
                .map(|links| scope.spawn(|| self.link_part(links)))
                .collect();
            let joined = parts.into_iter().map(|part| match part.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            });
            joined.collect::<Result<Vec<_>, Error>>()
        })?;
        let mut made = 0;
        for (count, mut directories) in parts {
            made += count;
            touched.append(&mut directories);
        }
        Ok(made)
    }

    fn link_part(&self, links: &[(RepoDir, Digest)]) -> Result<(u64, BTreeSet<PathBuf>), Error> {
        let mut touched = BTreeSet::new();
        let mut made = 0;
        for (repo, digest) in links {
            let link = TreePath::Link(repo.clone(), *digest).under(self.tree.root());
            let blob = TreePath::Blob(*digest).under(self.tree.root());
            self.make_parents(&link, &mut touched)?;
            match fs::hard_link(&blob, &link) {
                Ok(()) => made += 1,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    // Of the same content, or what is left of damaged content.
                    if !is_same_file(&blob, &link) {
                        self.replace_link(&blob, &link)?;
                        made += 1;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Err(Error::NotStaged {
                        digest: *digest,
                        repo: repo.clone(),
                    });
                }
                Err(_) => {
                    self.link_or_copy(&blob, &link)?;
                    made += 1;
                }
            }
        }
        Ok((made, touched))
    }
}

/// Lets everybody read a file, whatever the umask was, and gives it a time.
fn set_mode_and_time(path: &Path, seconds: Option<i64>) -> Result<(), Error> {
    let failed = |source| Error::write(path, source);
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).map_err(failed)?;
    let Some(seconds) = seconds else {
        return Ok(());
    };
    let time = |tv_sec, tv_nsec| Timespec { tv_sec, tv_nsec };
    let times = Timestamps {
        last_access: time(0, UTIME_OMIT),
        last_modification: time(seconds, 0),
    };
    File::open(path)
        .and_then(|file| Ok(rustix::fs::futimens(&file, &times)?))
        .map_err(failed)
}

/// Renames a file that may be on another file system than its name.
fn moved(from: &Path, target: &Path) -> Result<(), Error> {
    match rename(from, target)? {
        Named::Moved => Ok(()),
        Named::Copied => remove_file(from),
    }
}

fn is_same_file(one: &Path, other: &Path) -> bool {
    let identity = |path: &Path| {
        let metadata = fs::symlink_metadata(path).ok()?;
        Some((metadata.dev(), metadata.ino()))
    };
    identity(one).is_some_and(|found| identity(other) == Some(found))
}

/// Up to how many files are synced one by one.
const SYNC_EACH: usize = 4;

#[cfg(test)]
mod tests;
