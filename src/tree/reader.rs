//! Reading a tree: every file is opened below one directory handle and nowhere else.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use rustix::fs::{Dir, FileType, Mode, OFlags, ResolveFlags};

use super::index::{self, RepoIndex};
use super::path::{RepoDir, TreePath};
use super::pieces::{self, Pieces};
use super::state::{self, State};
use crate::digest::Digest;
use crate::manifest::{self, Manifest};
use crate::media_type::MediaType;
use crate::reference::RepoName;

/// A tree on disk, open for reading.
///
/// Cloning is cheap and shares the directory handle: a tree that is renamed while open stays the
/// same tree.
#[derive(Debug, Clone)]
pub struct Tree {
    root: Arc<Path>,
    directory: Arc<OwnedFd>,
    follows: bool,
}

impl Tree {
    /// Opens the directory `root`, whatever it holds so far.
    pub fn open(root: &Path) -> Result<Self, Error> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory =
            rustix::fs::open(root, flags, Mode::empty()).map_err(|errno| Error::Root {
                root: root.to_owned(),
                source: errno.into(),
            })?;
        Ok(Self {
            root: root.into(),
            directory: Arc::new(directory),
            follows: false,
        })
    }

    /// The same tree for answering requests: a file that is not there is looked for in the directory that
    /// has taken the place of this one, if one has.
    ///
    /// Content has one name in all trees, so where it is read from does not matter to those who ask for
    /// it by digest. Whoever reads one document by the light of another must not mix two trees.
    #[must_use]
    pub fn following(self) -> Self {
        Self {
            follows: true,
            ..self
        }
    }

    /// The directory that has taken the place of this one.
    fn successor(&self) -> Option<Self> {
        let other = Self::open(&self.root).ok()?;
        let identity = |tree: &Self| {
            let found = rustix::fs::fstat(tree.directory()).ok()?;
            Some((found.st_dev, found.st_ino))
        };
        (identity(&other)? != identity(self)?).then_some(other)
    }

    /// The directory the tree was opened at.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The handle of the tree's directory.
    pub(crate) fn directory(&self) -> &OwnedFd {
        &self.directory
    }

    /// Opens a regular file of the tree for reading.
    ///
    /// Symbolic links are followed only as long as they stay inside the tree, so that a link planted
    /// in a mirrored directory cannot make a server hand out `/etc/shadow`.
    pub fn open_file(&self, path: &TreePath) -> Result<File, Error> {
        Ok(self.open_regular(path)?.0)
    }

    /// Opens a regular file, and says how long it is.
    fn open_regular(&self, path: &TreePath) -> Result<(File, u64), Error> {
        let failed = |source: io::Error| Error::Read {
            path: path.clone(),
            source,
        };
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let below = path.to_string();
        let opened = match self.open_beneath(&below, flags) {
            Err(error) if self.follows && is_absence(&error) => match self.successor() {
                Some(other) => other.open_beneath(&below, flags),
                None => Err(error),
            },
            opened => opened,
        };
        let file = File::from(opened.map_err(failed)?);
        let metadata = file.metadata().map_err(failed)?;
        if metadata.is_file() {
            Ok((file, metadata.len()))
        } else {
            Err(failed(io::Error::new(
                io::ErrorKind::NotFound,
                "not a regular file",
            )))
        }
    }

    /// Reads a whole file of at most `limit` bytes.
    pub fn read(&self, path: &TreePath, limit: u64) -> Result<Bytes, Error> {
        let (file, length) = self.open_regular(path)?;
        let failed = |source| Error::Read {
            path: path.clone(),
            source,
        };
        if length > limit {
            return Err(Error::TooLarge {
                path: path.clone(),
                bytes: length,
                limit,
            });
        }
        let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
        // No more than it was found to have: nothing in a tree grows.
        file.take(length).read_to_end(&mut bytes).map_err(failed)?;
        Ok(bytes.into())
    }

    /// The tree's `state.json`.
    pub fn state(&self) -> Result<State, Error> {
        let bytes = self.read(&TreePath::State, state::MAX_BYTES)?;
        State::from_bytes(&bytes).map_err(|source| Error::State {
            root: self.root.to_path_buf(),
            source,
        })
    }

    /// The entries of a repository.
    pub fn index(&self, repo: &RepoDir) -> Result<RepoIndex, Error> {
        let path = TreePath::Index(repo.clone());
        let bytes = self.read(&path, index::MAX_BYTES)?;
        RepoIndex::from_bytes(&bytes).map_err(|source| Error::Index { path, source })
    }

    /// A manifest, checked against its digest.
    pub fn manifest(&self, digest: &Digest, declared: &MediaType) -> Result<Manifest, Error> {
        self.manifest_within(digest, declared, manifest::MAX_BYTES)
    }

    /// The same, if it has at most `limit` bytes.
    pub(super) fn manifest_within(
        &self,
        digest: &Digest,
        declared: &MediaType,
        limit: u64,
    ) -> Result<Manifest, Error> {
        let limit = limit.min(manifest::MAX_BYTES);
        let bytes = self.read(&TreePath::Blob(*digest), limit)?;
        Manifest::with_digest(bytes, *digest, Some(declared)).map_err(|source| Error::Manifest {
            digest: *digest,
            source,
        })
    }

    /// The length in bytes of a blob the tree holds, or `None` if it does not.
    pub fn blob_size(&self, digest: &Digest) -> Result<Option<u64>, Error> {
        self.size(&TreePath::Blob(*digest))
    }

    /// The length in bytes of a file of the tree, or `None` if there is none.
    pub fn size(&self, path: &TreePath) -> Result<Option<u64>, Error> {
        let failed = |source| Error::Read {
            path: path.clone(),
            source,
        };
        // A handle that can only be looked at costs less than one to read from.
        let found = match self.open_beneath(&path.to_string(), OFlags::PATH) {
            Ok(handle) => rustix::fs::fstat(handle).map_err(|errno| failed(errno.into()))?,
            Err(error) => {
                let error = failed(error);
                return if error.is_not_found() {
                    Ok(None)
                } else {
                    Err(error)
                };
            }
        };
        let is_file = FileType::from_raw_mode(found.st_mode) == FileType::RegularFile;
        Ok(is_file.then_some(found.st_size.cast_unsigned()))
    }

    /// The piece hashes of a blob of `size` bytes; `None` if it is too small to have any or the file
    /// is absent or does not fit, in which case a metalink goes without.
    pub fn pieces(&self, digest: &Digest, size: u64) -> Result<Option<Pieces>, Error> {
        let count = pieces::count_for(size);
        if count == 0 {
            return Ok(None);
        }
        match self.read(&TreePath::Pieces(*digest), count * pieces::HASH_LEN as u64) {
            Ok(bytes) => Ok(Pieces::from_bytes(&bytes, size)),
            Err(Error::TooLarge { .. }) => Ok(None),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All repositories, sorted by name.
    pub fn repositories(&self) -> Result<Vec<RepoDir>, Error> {
        let mut found = Vec::new();
        // Names to look below, without `repos/`; the empty one is the top.
        let mut pending = vec![String::new()];
        while let Some(parent) = pending.pop() {
            let below = if parent.is_empty() {
                "repos".to_owned()
            } else {
                format!("repos/{parent}")
            };
            let Some(entries) = self.entries(&below)? else {
                // Removed since its name was read, or never there at all.
                continue;
            };
            for (file_name, kind) in entries {
                if file_name == "index.json"
                    && let Ok(repo) = parent.parse()
                {
                    found.push(repo);
                }
                let child = if parent.is_empty() {
                    file_name
                } else {
                    format!("{parent}/{file_name}")
                };
                // Only what can be the start of a repository is entered: never `blobs/`.
                if kind == FileType::Directory && child.parse::<RepoDir>().is_ok() {
                    pending.push(child);
                }
            }
        }
        found.sort();
        Ok(found)
    }

    /// What is in a directory, by name; names that are not UTF-8 are none of the tree. `None` if there is
    /// no such directory.
    pub(super) fn entries(&self, below: &str) -> Result<Option<Vec<(String, FileType)>>, Error> {
        let failed = |source| Error::Directory {
            path: self.root.join(below),
            source,
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let handle = match self.open_beneath(below, flags) {
            Ok(handle) => handle,
            Err(error) if is_absence(&error) => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let directory = Dir::new(handle).map_err(|errno| failed(errno.into()))?;
        let mut entries = Vec::new();
        for entry in directory {
            let entry = entry.map_err(|errno| failed(errno.into()))?;
            let Ok(name) = entry.file_name().to_str() else {
                continue;
            };
            let kind = match entry.file_type() {
                // Not every file system says.
                FileType::Unknown if name != "." && name != ".." => {
                    self.kind(&format!("{below}/{name}")).map_err(failed)?
                }
                kind => kind,
            };
            if name != "." && name != ".." {
                entries.push((name.to_owned(), kind));
            }
        }
        Ok(Some(entries))
    }

    /// What a name in a directory is; a link is a link.
    fn kind(&self, below: &str) -> io::Result<FileType> {
        let handle = self.open_beneath(below, OFlags::PATH | OFlags::NOFOLLOW)?;
        Ok(FileType::from_raw_mode(rustix::fs::fstat(handle)?.st_mode))
    }

    /// Tells a file or directory from what it was or will be; `None` if there is none.
    pub(super) fn mark(&self, below: &str) -> io::Result<Option<FileMark>> {
        match self.open_beneath(below, OFlags::PATH) {
            Ok(handle) => Ok(Some(FileMark::of(&rustix::fs::fstat(handle)?))),
            Err(error) if is_absence(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn open_beneath(&self, below: &str, flags: OFlags) -> io::Result<OwnedFd> {
        let flags = flags | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        loop {
            match rustix::fs::openat2(self.directory.as_fd(), below, flags, Mode::empty(), resolve)
            {
                // The kernel asks for another try when a rename raced with the walk.
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
                result => return Ok(result?),
            }
        }
    }
}

fn is_absence(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// What tells one version of a file from the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileMark {
    device: u64,
    inode: u64,
    size: i64,
    modified: Timestamp,
    changed: Timestamp,
}

impl FileMark {
    fn of(found: &rustix::fs::Stat) -> Self {
        let time = |seconds: i64, nanoseconds: u64| {
            let nanoseconds = i32::try_from(nanoseconds).unwrap_or_default();
            Timestamp::new(seconds, nanoseconds).unwrap_or(Timestamp::MAX)
        };
        Self {
            device: found.st_dev,
            inode: found.st_ino,
            size: found.st_size,
            modified: time(found.st_mtime, found.st_mtime_nsec),
            changed: time(found.st_ctime, found.st_ctime_nsec),
        }
    }

    /// When it was last changed in any way, by the clock of its file system.
    pub(super) fn changed(&self) -> Timestamp {
        self.changed
    }
}

/// Why a tree cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directory itself.
    #[error("cannot open the tree {}", .root.display())]
    Root {
        /// Where it should be.
        root: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// One file.
    #[error("cannot read {path} of the tree")]
    Read {
        /// Which file.
        path: TreePath,
        /// What the system said.
        source: io::Error,
    },
    /// One directory.
    #[error("cannot list {}", .path.display())]
    Directory {
        /// Which directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file larger than one of its kind may be.
    #[error("{path} of the tree has {bytes} bytes, more than the {limit} allowed")]
    TooLarge {
        /// Which file.
        path: TreePath,
        /// How long it is.
        bytes: u64,
        /// How long it may be.
        limit: u64,
    },
    /// `state.json` is torn or of another format.
    #[error("the tree {} has no usable state", .root.display())]
    State {
        /// Which tree.
        root: PathBuf,
        /// What is wrong.
        source: state::Error,
    },
    /// An `index.json` is torn or no image layout's.
    #[error("{path} is not the index of an image layout")]
    Index {
        /// Which file.
        path: TreePath,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// A manifest is damaged.
    #[error("manifest {digest} of the tree is damaged")]
    Manifest {
        /// Which manifest.
        digest: Digest,
        /// What is wrong.
        source: manifest::Error,
    },
    /// The tree holds less than its state says.
    #[error("the tree {} holds {found} where its state says {said}: it is torn or half synced", .root.display())]
    Torn {
        /// Which tree.
        root: PathBuf,
        /// What there is.
        found: String,
        /// What there should be.
        said: String,
    },
    /// A tag points at a manifest the tree does not hold.
    #[error("{name} refers to manifest {digest}, which the tree does not hold")]
    Incomplete {
        /// The repository.
        name: RepoName,
        /// What is missing.
        digest: Digest,
    },
}

impl Error {
    /// Whether the file is simply not there.
    pub fn is_not_found(&self) -> bool {
        match self {
            Self::Root { source, .. }
            | Self::Read { source, .. }
            | Self::Directory { source, .. } => is_absence(source),
            Self::Incomplete { .. } => true,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Algorithm;

    #[test]
    fn a_link_out_of_the_tree_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("tree");
        std::fs::create_dir(&root).unwrap();
        std::fs::write(dir.path().join("secret"), "secret").unwrap();
        for target in ["../secret", dir.path().join("secret").to_str().unwrap()] {
            let link = root.join("state.json");
            std::os::unix::fs::symlink(target, &link).unwrap();
            let error = Tree::open(&root)
                .unwrap()
                .read(&TreePath::State, 100)
                .unwrap_err();
            assert!(matches!(error, Error::Read { .. }), "{target}");
            std::fs::remove_file(link).unwrap();
        }
    }

    #[test]
    fn a_tree_that_was_replaced_is_followed_only_by_who_asked_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("tree");
        std::fs::create_dir(&root).unwrap();
        let tree = Tree::open(&root).unwrap();
        let following = tree.clone().following();
        std::fs::remove_dir(&root).unwrap();
        assert!(
            following
                .open_file(&TreePath::State)
                .unwrap_err()
                .is_not_found()
        );
        std::fs::create_dir(&root).unwrap();
        std::fs::write(root.join("state.json"), "new").unwrap();
        assert_eq!(following.read(&TreePath::State, 3).unwrap(), "new");
        assert!(tree.open_file(&TreePath::State).unwrap_err().is_not_found());
    }

    #[test]
    fn directories_and_pipes_are_not_files() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("state.json")).unwrap();
        assert!(
            Tree::open(dir.path())
                .unwrap()
                .open_file(&TreePath::State)
                .unwrap_err()
                .is_not_found()
        );
    }

    #[test]
    fn a_file_over_the_limit_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("state.json"), [b' '; 11]).unwrap();
        let error = Tree::open(dir.path())
            .unwrap()
            .read(&TreePath::State, 10)
            .unwrap_err();
        assert!(matches!(
            error,
            Error::TooLarge {
                bytes: 11,
                limit: 10,
                ..
            }
        ));
    }

    #[test]
    fn nested_repositories_are_found_and_blobs_are_not_entered() {
        let dir = tempfile::tempdir().unwrap();
        for repo in ["a", "a/b", "c/d/e"] {
            let path = dir.path().join("repos").join(repo);
            std::fs::create_dir_all(path.join("blobs/sha256")).unwrap();
            std::fs::write(path.join("index.json"), "{}").unwrap();
        }
        std::fs::write(dir.path().join("repos/a/blobs/index.json"), "{}").unwrap();
        let tree = Tree::open(dir.path()).unwrap();
        let names: Vec<_> = tree
            .repositories()
            .unwrap()
            .iter()
            .map(|r| r.name().to_string())
            .collect();
        assert_eq!(names, ["a", "a/b", "c/d/e"]);
        assert_eq!(
            tree.blob_size(&Algorithm::Sha256.digest(b"")).unwrap(),
            None
        );
    }
}
