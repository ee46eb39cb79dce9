//! Files and directories as a tree needs them: replaced whole, readable by everybody, and durable when
//! that is asked for.
//!
//! Any directory of a tree may be a mount of its own. A file cannot be renamed across, so there it grows
//! up a second time, in a directory [`TEMPORARY`] beside its name.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use tempfile::{NamedTempFile, TempPath};

use super::{DIRTY, Error, TEMPORARY, TreeWriter};
use crate::tree::path::TreePath;

/// How the names of temporary files begin.
pub(super) const PREFIX: &str = ".growing-";

/// From how many files or directories on one `syncfs` is cheaper than a sync of each.
const SYNC_EACH: usize = 4;

impl TreeWriter {
    /// Replaces a small file whole: written beside, synced, renamed. The directory is not synced.
    pub(super) fn replace(&self, path: &TreePath, bytes: &[u8]) -> Result<(), Error> {
        let target = path.under(self.tree.root());
        persist(self.prepared(bytes)?, &target)
    }

    /// A file with this content, durable, without a name in the tree.
    pub(super) fn prepared(&self, bytes: &[u8]) -> Result<NamedTempFile, Error> {
        let mut file = self.temporary_file()?;
        file.write_all(bytes)
            .and_then(|()| file.as_file().sync_all())
            .map_err(|source| Error::write(file.path(), source))?;
        Ok(file)
    }

    /// Puts a durable copy of a file in the place of whatever has the name `target`.
    pub(super) fn copy(&self, from: &Path, target: &Path) -> Result<(), Error> {
        let beside = self.beside(target)?;
        let copy = copied(from, beside.path())?;
        rename(&copy, target).map(|_| ())
    }

    /// Where a file can grow up that is to be renamed to `target`.
    pub(super) fn beside(&self, target: &Path) -> Result<Beside, Error> {
        let failed = |source| Error::write(target, source);
        let parent = target.parent().unwrap_or(self.tree.root());
        let device = |path: &Path| fs::metadata(path).map(|metadata| metadata.dev());
        if device(parent).map_err(failed)? == device(&self.temporary).map_err(failed)? {
            return Ok(Beside::There(self.temporary.clone()));
        }
        Beside::make(target).map_err(failed)
    }

    /// Notes, before the first new name, that `state.json` will be behind.
    pub(super) fn mark_dirty(&self) -> Result<(), Error> {
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

    pub(super) fn temporary_file(&self) -> Result<NamedTempFile, Error> {
        temporary_file_in(&self.temporary)
    }

    pub(super) fn make_parents(
        &self,
        path: &Path,
        touched: &mut BTreeSet<PathBuf>,
    ) -> Result<(), Error> {
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

    pub(super) fn sync_files(&self, files: &[PathBuf]) -> Result<(), Error> {
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

    pub(super) fn sync_directories(&self, directories: &BTreeSet<PathBuf>) -> Result<(), Error> {
        if directories.len() <= SYNC_EACH {
            for directory in directories {
                File::open(directory)
                    .and_then(|file| file.sync_all())
                    .map_err(|source| Error::write(directory, source))?;
            }
            return Ok(());
        }
        self.sync_all()?;
        let device = |path: &Path| {
            let metadata = fs::metadata(path).map_err(|source| Error::write(path, source))?;
            Ok::<_, Error>(metadata.dev())
        };
        let mut synced = BTreeSet::from([device(self.tree.root())?]);
        for directory in directories {
            if synced.insert(device(directory)?) {
                sync_file_system(directory)?;
            }
        }
        Ok(())
    }

    /// Makes everything on the file system of the tree's root durable.
    pub(super) fn sync_all(&self) -> Result<(), Error> {
        sync_file_system(self.tree.root())
    }
}

/// A directory for temporary files; one that was made for them goes with them.
#[derive(Debug)]
pub(super) enum Beside {
    /// Was there before.
    There(PathBuf),
    /// Made for one file, on the file system of its target.
    Made(PathBuf),
}

impl Beside {
    fn make(target: &Path) -> io::Result<Self> {
        let parent = target.parent().unwrap_or(target);
        if parent.ends_with(TEMPORARY) {
            return Ok(Self::There(parent.to_owned()));
        }
        let path = parent.join(TEMPORARY);
        make_directory(&path, 0o700)?;
        Ok(Self::Made(path))
    }

    pub(super) fn path(&self) -> &Path {
        match self {
            Self::There(path) | Self::Made(path) => path,
        }
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        if let Self::Made(path) = self {
            // Something else in it is not ours, and stays.
            let _ = fs::remove_dir(path);
        }
    }
}

/// An empty file that everybody may read once it has a name.
pub(super) fn temporary_file_in(directory: &Path) -> Result<NamedTempFile, Error> {
    let failed = |source| Error::write(directory, source);
    let file = NamedTempFile::with_prefix_in(PREFIX, directory).map_err(failed)?;
    // Made private by the library; mirrors and web servers must be able to read the tree.
    file.as_file()
        .set_permissions(fs::Permissions::from_mode(0o644))
        .map_err(failed)?;
    Ok(file)
}

/// A durable copy under a temporary name.
fn copied(from: &Path, directory: &Path) -> Result<TempPath, Error> {
    let mut copy = temporary_file_in(directory)?;
    let mut source = File::open(from).map_err(|source| Error::write(from, source))?;
    io::copy(&mut source, copy.as_file_mut())
        .and_then(|_| copy.as_file().sync_all())
        .map_err(|source| Error::write(copy.path(), source))?;
    Ok(copy.into_temp_path())
}

/// Gives a durable file its name.
pub(super) fn persist(file: NamedTempFile, target: &Path) -> Result<(), Error> {
    rename(&file.into_temp_path(), target).map(|_| ())
}

/// How a file has got its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Named {
    /// The temporary name is gone.
    Moved,
    /// The temporary name still has its content.
    Copied,
}

/// Gives a durable file its name, also on another file system.
pub(super) fn rename(from: &Path, target: &Path) -> Result<Named, Error> {
    let failed = |source| Error::write(target, source);
    match fs::rename(from, target) {
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
            let beside = Beside::make(target).map_err(failed)?;
            let copy = copied(from, beside.path())?;
            fs::rename(&copy, target).map_err(failed)?;
            Ok(Named::Copied)
        }
        renamed => renamed.map(|()| Named::Moved).map_err(failed),
    }
}

/// Makes everything on the file system of a directory durable.
pub(super) fn sync_file_system(directory: &Path) -> Result<(), Error> {
    File::open(directory)
        .and_then(|file| Ok(rustix::fs::syncfs(&file)?))
        .map_err(|source| Error::write(directory, source))
}

/// Notes that the directory of `path` has a name that must be made durable.
pub(super) fn remember(path: &Path, touched: &mut BTreeSet<PathBuf>) {
    if let Some(parent) = path.parent()
        && !touched.contains(parent)
    {
        touched.insert(parent.to_owned());
    }
}

/// Makes a directory and those above it, with the given permissions whatever the umask: a tree that web
/// servers and rsync cannot read is no tree.
pub(super) fn make_directory(path: &Path, mode: u32) -> io::Result<()> {
    let missing: Vec<&Path> = path
        .ancestors()
        .take_while(|dir| !dir.as_os_str().is_empty() && !dir.exists())
        .collect();
    // Never more than that, even for a moment.
    fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)?;
    for directory in missing {
        fs::set_permissions(directory, fs::Permissions::from_mode(mode))?;
    }
    Ok(())
}
