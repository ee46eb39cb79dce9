//! Giving staged content its names, leaves first.

use std::collections::{BTreeSet, HashSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use tempfile::TempPath;

use super::blob::{Content, Staged};
use super::disk::{Named, rename};
use super::publish::Image;
use super::{Error, TreeWriter, lock};
use crate::digest::Digest;
use crate::tree::path::TreePath;

impl TreeWriter {
    /// Steps 1 and 2: content durable, then named, leaves first. Returns what got a name now.
    ///
    /// Staged content stays staged until the moment it has its name: somebody else may be reading it.
    pub(super) fn place_staged(
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
    pub(super) fn write_held(&self, digest: &Digest) -> Result<(), Error> {
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
    pub(super) fn place(
        &self,
        digest: Digest,
        touched: &mut BTreeSet<PathBuf>,
    ) -> Result<(), Error> {
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

/// Lets go of a temporary name that is no more: dropping it would try to delete it.
fn forget(path: Option<TempPath>) {
    // On the systems a tree lives on, this cannot fail.
    drop(path.map(TempPath::keep));
}
