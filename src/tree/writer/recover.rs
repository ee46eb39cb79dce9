//! What an interrupted run leaves: temporary files, and names that are not durable yet.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use tracing::{debug, warn};

use super::disk::{PREFIX, sync_file_system};
use super::survey::Survey;
use super::unreferenced::UNREFERENCED;
use super::{DIRTY, Error, SYNC, TEMPORARY, TreeWriter};

impl TreeWriter {
    /// Removes the temporary files at the root.
    pub(super) fn remove_leftovers(&self) -> Result<(), Error> {
        let failed = |source| Error::write(&self.temporary, source);
        for entry in fs::read_dir(&self.temporary).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let is_file = entry.file_type().map_err(failed)?.is_file();
            if entry.file_name() == SYNC {
                continue;
            }
            if !is_file {
                warn!(path = %entry.path().display(), "leaving alone what this program did not make");
            } else if entry.file_name() != DIRTY && entry.file_name() != UNREFERENCED {
                debug!(path = %entry.path().display(), "removing what an interrupted run left");
                fs::remove_file(entry.path()).map_err(failed)?;
            }
        }
        Ok(())
    }

    /// Makes durable what a run that was cut off gave a name, and removes the temporary files it left on
    /// other file systems.
    pub(super) fn recover(&self) -> Result<(), Error> {
        self.sync_all()?;
        let root = self.tree.root();
        let metadata = fs::metadata(root).map_err(|source| Error::write(root, source))?;
        let mut synced = BTreeSet::from([metadata.dev()]);
        let mut pending = vec![root.to_owned()];
        while let Some(directory) = pending.pop() {
            let failed = |source| Error::write(&directory, source);
            let entries = match fs::read_dir(&directory) {
                // No writer made it, then.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => continue,
                entries => entries.map_err(failed)?,
            };
            for entry in entries {
                let entry = entry.map_err(failed)?;
                let path = entry.path();
                if !entry.file_type().map_err(failed)?.is_dir() || path == self.temporary {
                    continue;
                }
                if entry.file_name() == TEMPORARY {
                    remove_ours(&path).map_err(|source| Error::write(&path, source))?;
                    continue;
                }
                if synced.insert(entry.metadata().map_err(failed)?.dev()) {
                    sync_file_system(&path)?;
                }
                pending.push(path);
            }
        }
        Ok(())
    }

    /// Makes durable what is on other file systems than the root, before the state says it is there.
    pub(super) fn sync_mounts(&self, survey: &Survey) -> Result<(), Error> {
        survey
            .mounts
            .values()
            .try_for_each(|directory| sync_file_system(&self.tree.root().join(directory.as_str())))
    }
}

/// Removes the temporary files of this program, and their directory if that leaves it empty. rsync's have
/// the names of what they are going to be.
fn remove_ours(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let is_ours = entry.file_name().to_string_lossy().starts_with(PREFIX);
        if is_ours && entry.file_type()?.is_file() {
            debug!(path = %entry.path().display(), "removing what an interrupted run left");
            fs::remove_file(entry.path())?;
        }
    }
    match fs::remove_dir(directory) {
        Err(error) if error.kind() != io::ErrorKind::DirectoryNotEmpty => Err(error),
        _ => Ok(()),
    }
}
