//! Making images visible, and taking them out of sight: what a repository's index says.

use std::collections::{BTreeMap, BTreeSet};

use super::{Error, TreeWriter, lock};
use crate::descriptor::Descriptor;
use crate::digest::Digest;
use crate::reference::Tag;
use crate::tree::index::{self, RepoIndex};
use crate::tree::path::{RepoDir, TreePath};

/// An image to be published: a root and all it reaches, already staged or in the tree.
#[derive(Debug, Clone)]
pub struct Image {
    /// The repository it becomes part of.
    pub repo: RepoDir,
    /// The tag that will point at it; without one it is kept by digest.
    pub tag: Option<Tag>,
    /// The manifest the tag points at.
    pub root: Descriptor,
    /// The digests of all it reaches, itself included, leaves first.
    pub reach: Vec<Digest>,
    /// Whether its source keeps referrers under tags, for lack of an API; `None` if that is not known.
    pub tag_referrers: Option<bool>,
}

impl TreeWriter {
    /// Makes images visible, all of them with one set of syncs.
    ///
    /// Everything they reach must have been staged or be in the tree already. An `index.json` that would
    /// not change is left alone.
    pub fn publish(&self, images: &[Image]) -> Result<(), Error> {
        let _one_at_a_time = lock(&self.publishing);
        let mut touched = BTreeSet::new();
        let placed = self.place_staged(images, &mut touched)?;
        for image in images {
            if !self.is_linked(image) {
                self.mark_dirty()?;
            }
            self.link(image, &placed, &mut touched)?;
        }
        self.sync_directories(&touched)?;

        self.forget_unreferenced(images)?;
        let mut updates: BTreeMap<&RepoDir, Vec<&Image>> = BTreeMap::new();
        for image in images {
            updates.entry(&image.repo).or_default().push(image);
        }
        let mut replaced = BTreeSet::new();
        for (repo, images) in updates {
            let mut index = self.index(repo)?;
            let before = index.clone();
            index.set_all(
                images
                    .iter()
                    .map(|image| (image.tag.as_ref(), image.root.clone())),
            );
            if let Some(by_tag) = images.iter().rev().find_map(|image| image.tag_referrers) {
                index.set_tag_referrers(by_tag);
            }
            if index != before {
                let bytes = index.to_bytes();
                if bytes.len() as u64 > index::MAX_BYTES {
                    return Err(Error::IndexTooLarge {
                        repo: repo.clone(),
                        bytes: bytes.len(),
                    });
                }
                self.mark_dirty()?;
                self.replace(&TreePath::Index(repo.clone()), &bytes)?;
                replaced.insert(self.tree.root().join(repo.to_string()));
            }
        }
        self.sync_directories(&replaced)
    }

    /// Takes every entry that is not to be kept out of a repository's index, and returns what went.
    ///
    /// The content stays where it is, for those who are reading it, until it is pruned.
    pub fn retain(
        &self,
        repo: &RepoDir,
        keep: impl FnMut(&Descriptor) -> bool,
    ) -> Result<Vec<Descriptor>, Error> {
        let _one_at_a_time = lock(&self.publishing);
        let mut index = self.index(repo)?;
        let gone = index.retain(keep);
        if !gone.is_empty() {
            self.mark_dirty()?;
            let is_tag = |entry: &&Descriptor| entry.ref_name().is_some();
            self.lower_totals(0, gone.iter().filter(is_tag).count())?;
            self.replace(&TreePath::Index(repo.clone()), &index.to_bytes())?;
            let directory = self.tree.root().join(repo.to_string());
            self.sync_directories(&BTreeSet::from([directory]))?;
        }
        Ok(gone)
    }

    fn index(&self, repo: &RepoDir) -> Result<RepoIndex, Error> {
        match self.tree.index(repo) {
            Err(error) if error.is_not_found() => Ok(RepoIndex::default()),
            index => Ok(index?),
        }
    }
}
