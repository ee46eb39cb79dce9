//! Taking away what nothing names any more: the opposite of publishing, in the opposite order.
//!
//! [`TreeWriter::remove`] is told what goes, in steps. A step is durable before the next begins, so
//! that roots go before leaves whatever the file system reorders: killed anywhere, nothing that is left
//! names what is gone.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::disk::remember;
use super::{Error, TreeWriter, lock};
use crate::tree::path::TreePath;

impl TreeWriter {
    /// Removes files, one step after the other, and then the directories that this leaves empty, with
    /// those of `empty` (relative to the tree) that are.
    ///
    /// The caller promises that no `index.json` needs what goes. What is gone already is no error, since
    /// a run may have been cut off in the middle.
    pub fn remove(&self, steps: &[Vec<TreePath>], empty: &[PathBuf]) -> Result<(), Error> {
        let _one_at_a_time = lock(&self.publishing);
        if empty.is_empty() && steps.iter().all(Vec::is_empty) {
            return Ok(());
        }
        self.mark_dirty()?;
        let is_repository = |path: &&TreePath| matches!(path, TreePath::Index(_));
        let mut emptied = BTreeSet::new();
        for step in steps {
            // Only now, since it takes a block: on a full disk the steps before have freed some.
            self.lower_totals(step.iter().filter(is_repository).count(), 0)?;
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
        // `blobs`, `repos` and `pieces` themselves stay.
        let is_top = |below: &Path| below.components().count() < 2;
        let touched = self.remove_empty(emptied, is_top)?;
        self.sync_remaining(&touched)
    }

    /// Removes those of `directories` that are empty, and the ones above that this leaves empty, but for
    /// what `stays` (relative to the tree); returns the directories that lost one.
    pub(super) fn remove_empty(
        &self,
        directories: BTreeSet<PathBuf>,
        stays: impl Fn(&Path) -> bool,
    ) -> Result<BTreeSet<PathBuf>, Error> {
        let mut pending = directories;
        let mut touched = BTreeSet::new();
        // The last in order has nothing of the set below it.
        while let Some(directory) = pending.pop_last() {
            let below = directory.strip_prefix(self.tree.root());
            if !below.is_ok_and(|below| !stays(below)) {
                continue;
            }
            match fs::remove_dir(&directory) {
                Ok(()) => {
                    touched.remove(&directory);
                    remember(&directory, &mut touched);
                    remember(&directory, &mut pending);
                }
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::DirectoryNotEmpty
                            | io::ErrorKind::NotFound
                            | io::ErrorKind::NotADirectory
                            | io::ErrorKind::ResourceBusy
                            // It is empty, and not ours: it hurts nobody.
                            | io::ErrorKind::PermissionDenied
                            | io::ErrorKind::ReadOnlyFilesystem
                    ) => {}
                Err(source) => {
                    return Err(Error::Remove {
                        path: directory,
                        source,
                    });
                }
            }
        }
        Ok(touched)
    }

    /// Makes removals durable, in directories that may be gone themselves by now.
    pub(super) fn sync_remaining(&self, directories: &BTreeSet<PathBuf>) -> Result<(), Error> {
        let remaining = directories.iter().filter(|path| path.is_dir());
        self.sync_directories(&remaining.cloned().collect())
    }
}

/// Removes a file that may be gone already.
pub(super) fn remove_file(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(source)
            if !matches!(
                source.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Err(Error::Remove {
                path: path.to_owned(),
                source,
            })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Algorithm;

    #[test]
    fn directories_go_with_their_last_file_and_others_stay() {
        let dir = tempfile::tempdir().unwrap();
        let writer = TreeWriter::open(dir.path()).unwrap();
        let (gone, kept) = (
            TreePath::Index("a/b/c".parse().unwrap()),
            TreePath::Index("a".parse().unwrap()),
        );
        for path in [&gone, &kept] {
            let path = path.under(dir.path());
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "{}").unwrap();
        }
        let blob = TreePath::Blob(Algorithm::Sha256.digest(b"gone already"));
        fs::create_dir_all(dir.path().join("blobs/sha256/ab")).unwrap();
        writer
            .remove(
                &[vec![gone], vec![blob]],
                &[PathBuf::from("blobs/sha256/ab")],
            )
            .unwrap();
        assert!(kept.under(dir.path()).exists());
        assert!(!dir.path().join("repos/a/b").exists());
        assert!(!dir.path().join("blobs/sha256").exists());
        assert!(dir.path().join("blobs").exists());
        // The state has to be written anew.
        assert!(
            dir.path()
                .join(super::super::TEMPORARY)
                .join(super::super::DIRTY)
                .exists()
        );
    }

    #[test]
    fn nothing_to_remove_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let writer = TreeWriter::open(dir.path()).unwrap();
        writer.remove(&[Vec::new()], &[]).unwrap();
        assert_eq!(
            fs::read_dir(dir.path().join(super::super::TEMPORARY))
                .unwrap()
                .count(),
            0
        );
    }
}
