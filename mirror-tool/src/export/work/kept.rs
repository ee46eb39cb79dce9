//! What was found at the sources of a run, so that it is not taken away afterwards.

use std::collections::{HashMap, HashSet};
use std::sync::{MutexGuard, PoisonError};

use oci_mirror::digest::Digest;
use oci_mirror::reference::Tag;
use oci_mirror::tree::RepoDir;

use super::Work;
use crate::export::plan::Wanted;

/// What of a repository was found at its source in this run, and so is not to be removed.
#[derive(Debug, Default)]
pub(in crate::export) struct Kept {
    /// Tags named after a digest.
    pub(in crate::export) tags: HashSet<Tag>,
    /// What is asked for by digest.
    pub(in crate::export) digests: HashSet<Digest>,
    /// The manifests whose referrers were listed: those are all they have, or all that is wanted.
    pub(in crate::export) listed: HashSet<Digest>,
    /// The same for tags named after them.
    pub(in crate::export) named: HashSet<Digest>,
    /// Whether something could not be looked at, so that there may be more.
    pub(in crate::export) incomplete: bool,
}

impl Work {
    /// Notes that the source has it.
    pub(super) fn keep(&self, wanted: &Wanted) {
        let mut kept = self.kept();
        let kept = kept.entry(wanted.repo.clone()).or_default();
        match (&wanted.tag, wanted.wish.digest()) {
            (Some(tag), _) => drop(kept.tags.replace(tag.clone())),
            (None, Some(digest)) => drop(kept.digests.replace(digest)),
            (None, None) => {}
        }
    }

    /// Notes that what belongs to `manifests` is known; `listed` is whether their referrers are too, and
    /// not only the tags named after them.
    pub(super) fn asked(&self, repo: &RepoDir, manifests: &[Digest], listed: bool) {
        let mut kept = self.kept();
        let kept = kept.entry(repo.clone()).or_default();
        kept.named.extend(manifests);
        if listed {
            kept.listed.extend(manifests);
        }
    }

    pub(super) fn missed(&self, repo: &RepoDir) {
        self.kept().entry(repo.clone()).or_default().incomplete = true;
    }

    pub(super) fn kept(&self) -> MutexGuard<'_, HashMap<RepoDir, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
