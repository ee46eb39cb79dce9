//! What a repository has, looked up when it is asked for.
//!
//! For those who walk one repository: whoever walks many has listed what there is before.

use super::path::{RepoDir, TreePath};
use super::reach::Holdings;
use super::reader::Tree;
use crate::digest::Digest;

/// What a repository has, looked up when it is asked for; what cannot be looked at is not there.
#[derive(Debug, Clone, Copy)]
pub struct OnDisk<'a> {
    /// Which repository.
    pub repo: &'a RepoDir,
    /// Of which tree.
    pub tree: &'a Tree,
}

impl Holdings for OnDisk<'_> {
    fn is_linked(&self, digest: &Digest) -> bool {
        let path = TreePath::Link(self.repo.clone(), *digest);
        self.tree.size(&path).is_ok_and(|size| size.is_some())
    }

    fn size(&self, digest: &Digest) -> Option<u64> {
        self.tree.blob_size(digest).ok().flatten()
    }
}
