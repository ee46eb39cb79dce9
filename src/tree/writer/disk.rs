//! Files and directories as a tree needs them: replaced whole, readable by everybody, and durable when
//! that is asked for.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;
use tracing::{debug, warn};

use super::removal::UNREFERENCED;
use super::{DIRTY, Error, TreeWriter};
use crate::tree::path::TreePath;

/// From how many files or directories on one `syncfs` is cheaper than a sync of each.
const SYNC_EACH: usize = 4;

impl TreeWriter {
    /// Replaces a small file whole: written beside, synced, renamed. The directory is not synced.
    pub(super) fn replace(&self, path: &TreePath, bytes: &[u8]) -> Result<(), Error> {
        let target = path.under(self.tree.root());
        let failed = |source| Error::write(&target, source);
        let mut file = self.temporary_file()?;
        file.write_all(bytes).map_err(failed)?;
        file.as_file().sync_all().map_err(failed)?;
        file.persist(&target).map_err(|error| failed(error.error))?;
        Ok(())
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
        let failed = |source| Error::write(&self.temporary, source);
        let file = NamedTempFile::new_in(&self.temporary).map_err(failed)?;
        // Made private by the library; mirrors and web servers must be able to read the tree.
        file.as_file()
            .set_permissions(fs::Permissions::from_mode(0o644))
            .map_err(failed)?;
        Ok(file)
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

    pub(super) fn sync_all(&self) -> Result<(), Error> {
        rustix::fs::syncfs(self.tree.directory())
            .map_err(|errno| Error::write(self.tree.root(), errno.into()))
    }

    pub(super) fn remove_leftovers(&self) -> Result<(), Error> {
        let failed = |source| Error::write(&self.temporary, source);
        for entry in fs::read_dir(&self.temporary).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let is_file = entry.file_type().map_err(failed)?.is_file();
            if !is_file {
                warn!(path = %entry.path().display(), "leaving alone what this program did not make");
            } else if entry.file_name() != DIRTY && entry.file_name() != UNREFERENCED {
                debug!(path = %entry.path().display(), "removing what an interrupted run left");
                fs::remove_file(entry.path()).map_err(failed)?;
            }
        }
        Ok(())
    }
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
    fs::create_dir_all(path)?;
    for directory in missing {
        fs::set_permissions(directory, fs::Permissions::from_mode(mode))?;
    }
    Ok(())
}
