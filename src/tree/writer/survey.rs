//! What a tree holds, in one walk: its list, its totals and what its parts cost.
//!
//! Entries and sums go to two spools in [`TEMPORARY`](super::TEMPORARY), themselves lists, because
//! `DIRECTORY_SIZES.txt` sorts first and is known last. In memory is one table by digest
//! ([`Sizes`]) and the names of the directories that are open ([`Walk`]); a million
//! files take tens of megabytes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, BufWriter, Seek as _};
use std::os::fd::AsFd as _;

use tempfile::NamedTempFile;
use tracing::warn;

use super::previous::Previous;
use super::{Error, TreeWriter};
use crate::digest::{Algorithm, Digest};
use crate::tree::index::{self, RepoIndex};
use crate::tree::list::{Entry, Kind, ListPath, Reader, Sum, Writer};
use crate::tree::path::{RepoDir, TreePath};
use crate::tree::sizes::Sizes;
use crate::tree::state::Totals;
use crate::tree::walk::Walk;

/// What a walk found.
pub(super) struct Survey {
    pub(super) totals: Totals,
    pub(super) sizes: Sizes,
    /// The entry of `DIRECTORY_SIZES.txt`, if there is one: as the list in place has it if that is still
    /// right, since the file may have its name a second later than the list was made.
    pub(super) sizes_entry: Option<Entry>,
    /// Every `index.json` that is not as the list in place says.
    pub(super) changed: Vec<RepoDir>,
    /// A directory on each other file system.
    pub(super) mounts: BTreeMap<u64, ListPath>,
    /// All entries but those of `DIRECTORY_SIZES.txt` and `state.json`.
    pub(super) entries: NamedTempFile,
    /// The sums of what is not named by its digest, but for `DIRECTORY_SIZES.txt`.
    pub(super) sums: NamedTempFile,
}

impl TreeWriter {
    /// Walks the tree; sums of what has not changed are taken over from the `previous` list.
    pub(super) fn survey(&self, mut previous: Option<Previous>) -> Result<Survey, Error> {
        let mut survey = Survey {
            totals: Totals::default(),
            sizes: Sizes::default(),
            sizes_entry: None,
            changed: Vec::new(),
            mounts: BTreeMap::new(),
            entries: self.temporary_file()?,
            sums: self.temporary_file()?,
        };
        let failed = |source| Error::write(&self.temporary, source);
        let device = rustix::fs::fstat(self.tree.directory().as_fd())
            .map_err(|errno| Error::write(self.tree.root(), errno.into()))?
            .st_dev;
        let reopened = |file: &NamedTempFile| file.as_file().try_clone().map_err(failed);
        let entries = BufWriter::new(reopened(&survey.entries)?);
        let sums = BufWriter::new(reopened(&survey.sums)?);
        let mut entries = Writer::new(entries).map_err(failed)?;
        let mut sums = Writer::new(sums).map_err(failed)?;
        for found in Walk::new(&self.tree)? {
            let found = found?;
            let entry = found.entry;
            if entry.kind != Kind::File {
                if found.device != device {
                    survey
                        .mounts
                        .entry(found.device)
                        .or_insert(entry.path.clone());
                }
                entries.entry(&entry).map_err(failed)?;
                continue;
            }
            let path: Option<TreePath> = entry.path.as_str().parse().ok();
            let (before, sum_before) = match &mut previous {
                Some(previous) => previous.at(&entry.path),
                None => (None, None),
            };
            let is_unchanged = before.as_ref() == Some(&entry);
            survey.sizes.add(path.as_ref(), entry.size);
            let sum = match &path {
                Some(TreePath::State) => continue,
                Some(TreePath::DirectorySizes) => {
                    let listed = before.filter(|before| before.size == entry.size);
                    survey.sizes_entry = Some(listed.unwrap_or(entry));
                    continue;
                }
                Some(TreePath::Blob(_)) => {
                    survey.totals.blobs += 1;
                    survey.totals.bytes += entry.size;
                    None
                }
                // Times have only a second's resolution, and an index may change twice in one.
                Some(TreePath::Index(repo)) => {
                    let (sum, tags) = self.index_sum(repo);
                    survey.totals.repositories += 1;
                    survey.totals.tags += tags;
                    if !is_unchanged || sum != sum_before {
                        survey.changed.push(repo.clone());
                    }
                    sum
                }
                Some(path @ (TreePath::Pieces(_) | TreePath::Layout(_))) => {
                    match (&before, sum_before) {
                        (_, Some(sum)) if is_unchanged => Some(sum),
                        (None, _) => self.file_sum(path),
                        // These never change, so nobody vouches for one that has; `verify` then looks at
                        // what it is about.
                        (Some(_), listed) => self.file_sum(path).filter(|sum| listed == Some(*sum)),
                    }
                }
                _ => None,
            };
            entries.entry(&entry).map_err(failed)?;
            if let Some(sum) = sum {
                sums.sum(&entry.path, &sum).map_err(failed)?;
            }
        }
        entries.finish().map_err(failed)?;
        sums.finish().map_err(failed)?;
        Ok(survey)
    }

    /// The sum of an index and the number of its tags. One that cannot be read has neither: a damaged
    /// repository must not keep the news of all others from being told.
    fn index_sum(&self, repo: &RepoDir) -> (Option<Sum>, u64) {
        let path = TreePath::Index(repo.clone());
        let bytes = match self.tree.read(&path, index::MAX_BYTES) {
            Ok(bytes) => bytes,
            Err(error) => {
                warn!(error = &error as &dyn std::error::Error, %repo, "not counting the tags of a repository");
                return (None, 0);
            }
        };
        let tags = match RepoIndex::from_bytes(&bytes) {
            Ok(index) => index.tags().count() as u64,
            Err(error) => {
                warn!(error = &error as &dyn std::error::Error, %repo, "not counting the tags of a repository");
                0
            }
        };
        (as_sum(Algorithm::Sha256.digest(&bytes)), tags)
    }

    fn file_sum(&self, path: &TreePath) -> Option<Sum> {
        let opened = self.tree.open_file(path);
        let opened = opened.map_err(std::io::Error::other);
        let sum = opened.and_then(|file| Algorithm::Sha256.digest_of(file));
        match sum {
            Ok(digest) => as_sum(digest),
            Err(error) => {
                warn!(error = &error as &dyn std::error::Error, %path, "listing a file without its sum");
                None
            }
        }
    }
}

/// A spool, read from its start.
pub(super) fn spooled(spool: &mut NamedTempFile) -> std::io::Result<Reader<BufReader<&File>>> {
    spool.as_file_mut().rewind()?;
    Ok(Reader::new(BufReader::new(spool.as_file())))
}

/// The bytes of a SHA-256.
pub(super) fn as_sum(digest: Digest) -> Option<Sum> {
    match digest {
        Digest::Sha256(sum) => Some(sum),
        Digest::Sha512(_) => None,
    }
}
