//! Every file of a tree, by what its name says it is.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use oci_mirror::digest::Digest;
use oci_mirror::tree::writer::{DIRTY, TEMPORARY};
use oci_mirror::tree::{RepoDir, TreePath};

/// What identifies a file's content without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct File {
    pub(super) size: u64,
    inode: (u64, u64),
}

impl File {
    fn new(metadata: &Metadata) -> Self {
        Self {
            size: metadata.len(),
            inode: (metadata.dev(), metadata.ino()),
        }
    }

    /// Whether two names stand for one file.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.inode == other.inode
    }
}

/// The files of a tree.
#[derive(Debug, Default)]
pub(super) struct Inventory {
    pub(super) blobs: BTreeMap<Digest, File>,
    pub(super) pieces: BTreeMap<Digest, File>,
    /// Repositories that have an index, and so are visible.
    pub(super) repositories: Vec<RepoDir>,
    pub(super) layouts: Vec<RepoDir>,
    pub(super) links: BTreeMap<RepoDir, BTreeMap<Digest, File>>,
    /// Names that are no file's of a tree.
    pub(super) stray: Vec<String>,
    /// Whether a writer left unfinished work.
    pub(super) interrupted: bool,
    has_state: bool,
}

impl Inventory {
    pub(super) fn take(root: &Path) -> anyhow::Result<Self> {
        let mut inventory = Self::default();
        let mut pending = vec![PathBuf::new()];
        while let Some(directory) = pending.pop() {
            let shown = root.join(&directory);
            let entries =
                fs::read_dir(&shown).with_context(|| format!("cannot list {}", shown.display()))?;
            for entry in entries {
                let entry = entry.with_context(|| format!("cannot list {}", shown.display()))?;
                let path = directory.join(entry.file_name());
                let metadata = match entry.metadata() {
                    Ok(metadata) => metadata,
                    // A writer at work next to us.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    Err(error) => {
                        return Err(error)
                            .with_context(|| format!("cannot look at {}", path.display()));
                    }
                };
                if directory.as_os_str().is_empty() && entry.file_name() == TEMPORARY {
                    inventory.interrupted = root.join(&path).join(DIRTY).exists();
                } else if metadata.is_dir() && entry.file_name() == TEMPORARY {
                    // Where rsync keeps what it has not finished, in every directory.
                } else if metadata.is_dir() {
                    pending.push(path);
                } else {
                    inventory.enter(&path, &metadata);
                }
            }
        }
        inventory.repositories.sort();
        Ok(inventory)
    }

    /// Whether there is nothing that could be called a tree.
    pub(super) fn is_empty(&self) -> bool {
        !self.has_state && self.repositories.is_empty() && !self.interrupted
    }

    fn enter(&mut self, path: &Path, metadata: &Metadata) {
        let parsed = path.to_str().and_then(|text| text.parse().ok());
        let (Some(path), true) = (parsed, metadata.is_file()) else {
            self.stray.push(path.to_string_lossy().into_owned());
            return;
        };
        let file = File::new(metadata);
        match path {
            TreePath::Blob(digest) => {
                self.blobs.insert(digest, file);
            }
            TreePath::Pieces(digest) => {
                self.pieces.insert(digest, file);
            }
            TreePath::Link(repo, digest) => {
                self.links.entry(repo).or_default().insert(digest, file);
            }
            TreePath::Index(repo) => self.repositories.push(repo),
            TreePath::Layout(repo) => self.layouts.push(repo),
            TreePath::State => self.has_state = true,
            TreePath::List(_) | TreePath::DirectorySizes => {}
        }
    }
}
