//! The end of a run: `state.json`, written last.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;

use jiff::Timestamp;
use tracing::warn;

use super::{DIRTY, Error, TreeWriter, lock};
use crate::tree::path::TreePath;
use crate::tree::state::{FORMAT, State, Totals};

impl TreeWriter {
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

    pub(super) fn totals(&self) -> Result<Totals, Error> {
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
