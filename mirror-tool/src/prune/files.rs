//! Every file of a tree once, repository by repository: only one of them is in memory at a time.
//!
//! What is not a regular file under a name of the tree is nobody's business here: it is neither counted
//! nor removed. Symbolic links are not followed.

use std::collections::BTreeMap;
use std::fs::{self, DirEntry, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use oci_mirror::digest::Digest;
use oci_mirror::tree::writer::TEMPORARY;
use oci_mirror::tree::{RepoDir, TreePath};

use super::blobs::Inode;

/// The files of one repository.
#[derive(Debug)]
pub(super) struct RepoFiles {
    pub(super) repo: RepoDir,
    /// When `index.json` was last written, if there is one.
    pub(super) index: Option<i64>,
    pub(super) has_layout: bool,
    pub(super) links: BTreeMap<Digest, Link>,
    /// When a name was last added to or taken from the directory.
    pub(super) renamed: i64,
}

/// One name a repository has for content.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) size: u64,
    pub(super) inode: Inode,
    /// When the file was last touched in any way.
    pub(super) changed: i64,
}

/// Walks the tree at `root`.
#[derive(Debug)]
pub(super) struct Files<'a> {
    root: &'a Path,
    /// Directories without any entry, relative to the tree.
    pub(super) empty: Vec<PathBuf>,
}

impl<'a> Files<'a> {
    pub(super) fn new(root: &'a Path) -> Self {
        Self {
            root,
            empty: Vec::new(),
        }
    }

    /// Visits the files of `blobs` or `pieces`.
    pub(super) fn content(
        &mut self,
        top: &str,
        mut visit: impl FnMut(TreePath, &Metadata),
    ) -> anyhow::Result<()> {
        self.below(PathBuf::from(top), |path, metadata| {
            if let Some(path) = path.to_str().and_then(|text| text.parse().ok()) {
                visit(path, metadata);
            }
        })
    }

    /// Visits every repository that has files, with or without an index.
    pub(super) fn repositories(&mut self, mut visit: impl FnMut(RepoFiles)) -> anyhow::Result<()> {
        let mut pending = vec![PathBuf::from("repos")];
        while let Some(directory) = pending.pop() {
            let repo = directory.strip_prefix("repos").unwrap_or(&directory);
            let repo = repo.to_str().and_then(|name| name.parse::<RepoDir>().ok());
            let (mut index, mut has_layout, mut blobs) = (None, false, false);
            self.list(&directory, |entry, metadata| {
                let name = entry.file_name();
                if metadata.is_file() {
                    match name.to_str() {
                        Some("index.json") => index = Some(metadata.mtime()),
                        Some("oci-layout") => has_layout = true,
                        _ => {}
                    }
                } else if metadata.is_dir() {
                    let below = directory.join(&name);
                    let parsed = below.strip_prefix("repos").ok().and_then(Path::to_str);
                    if repo.is_some() && name == "blobs" {
                        blobs = true;
                    } else if parsed.is_some_and(|name| name.parse::<RepoDir>().is_ok()) {
                        pending.push(below);
                    }
                }
            })?;
            let Some(repo) = repo else { continue };
            let mut links = BTreeMap::new();
            if blobs {
                self.below(directory.join("blobs"), |path, metadata| {
                    let parsed = path.to_str().and_then(|text| text.parse().ok());
                    if let Some(TreePath::Link(of, digest)) = parsed
                        && of == repo
                    {
                        links.insert(digest, Link::new(metadata));
                    }
                })?;
            }
            if index.is_some() || has_layout || !links.is_empty() {
                let shown = self.root.join(&directory);
                let renamed = fs::metadata(&shown)
                    .with_context(|| format!("cannot look at {}", shown.display()))?
                    .mtime();
                visit(RepoFiles {
                    repo,
                    index,
                    has_layout,
                    links,
                    renamed,
                });
            }
        }
        Ok(())
    }

    /// Visits all regular files below a directory.
    fn below(
        &mut self,
        top: PathBuf,
        mut visit: impl FnMut(&Path, &Metadata),
    ) -> anyhow::Result<()> {
        let mut pending = vec![top];
        while let Some(directory) = pending.pop() {
            self.list(&directory, |entry, metadata| {
                let path = directory.join(entry.file_name());
                if metadata.is_dir() && entry.file_name() != TEMPORARY {
                    pending.push(path);
                } else if metadata.is_file() {
                    visit(&path, metadata);
                }
            })?;
        }
        Ok(())
    }

    /// Visits the entries of one directory, which may not be there.
    fn list(
        &mut self,
        directory: &Path,
        mut visit: impl FnMut(&DirEntry, &Metadata),
    ) -> anyhow::Result<()> {
        let shown = self.root.join(directory);
        let failed = || format!("cannot list {}", shown.display());
        // Through a link, what is somebody else's would be taken for unneeded.
        let entries = match fs::symlink_metadata(&shown) {
            Ok(metadata) if metadata.is_dir() => fs::read_dir(&shown).with_context(failed)?,
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error).with_context(failed),
        };
        let mut is_empty = true;
        for entry in entries {
            let entry = entry.with_context(failed)?;
            is_empty = false;
            match entry.metadata() {
                Ok(metadata) => visit(&entry, &metadata),
                // Only where nothing is to be changed somebody else may be at work.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error).with_context(failed),
            }
        }
        if is_empty && directory.components().count() > 1 {
            self.empty.push(directory.to_owned());
        }
        Ok(())
    }
}

impl Link {
    fn new(metadata: &Metadata) -> Self {
        Self {
            size: metadata.len(),
            inode: inode(metadata),
            changed: metadata.ctime(),
        }
    }
}

pub(super) fn inode(metadata: &Metadata) -> Inode {
    (metadata.dev(), metadata.ino())
}
