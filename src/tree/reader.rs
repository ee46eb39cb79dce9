//! Reading a tree: every file is opened below one directory handle and nowhere else.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};

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
        })
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
        let file = File::from(self.open_beneath(path, flags).map_err(failed)?);
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
        // One byte more than allowed, so that a file that grows meanwhile is noticed.
        file.take(limit + 1)
            .read_to_end(&mut bytes)
            .map_err(failed)?;
        match bytes.len() as u64 {
            length if length > limit => Err(Error::TooLarge {
                path: path.clone(),
                bytes: length,
                limit,
            }),
            _ => Ok(bytes.into()),
        }
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
        let bytes = self.read(&TreePath::Blob(*digest), manifest::MAX_BYTES)?;
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
        let found = match self.open_beneath(path, OFlags::PATH) {
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
            let directory = self.root.join("repos").join(&parent);
            let failed = |source| Error::Directory {
                path: directory.clone(),
                source,
            };
            let entries = match std::fs::read_dir(&directory) {
                Err(error) if error.kind() == io::ErrorKind::NotFound && parent.is_empty() => {
                    return Ok(found);
                }
                entries => entries.map_err(failed)?,
            };
            for entry in entries {
                let entry = entry.map_err(failed)?;
                let file_name = entry.file_name();
                let Some(file_name) = file_name.to_str() else {
                    continue;
                };
                if file_name == "index.json"
                    && let Ok(repo) = parent.parse()
                {
                    found.push(repo);
                }
                let child = if parent.is_empty() {
                    file_name.to_owned()
                } else {
                    format!("{parent}/{file_name}")
                };
                // Only what can be the start of a repository is entered: never `blobs/`.
                let enterable = child.parse::<RepoDir>().is_ok();
                if enterable && entry.file_type().map_err(failed)?.is_dir() {
                    pending.push(child);
                }
            }
        }
        found.sort();
        Ok(found)
    }

    fn open_beneath(&self, path: &TreePath, flags: OFlags) -> io::Result<OwnedFd> {
        let path = path.to_string();
        let flags = flags | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        loop {
            match rustix::fs::openat2(
                self.directory.as_fd(),
                path.as_str(),
                flags,
                Mode::empty(),
                resolve,
            ) {
                // The kernel asks for another try when a rename raced with the walk.
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
                result => return Ok(result?),
            }
        }
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
            | Self::Directory { source, .. } => {
                matches!(
                    source.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                )
            }
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
