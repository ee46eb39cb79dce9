//! What the tree has already: an image that has not moved is not fetched again.

use std::collections::HashMap;

use oci_mirror::descriptor::Descriptor;
use oci_mirror::digest::Digest;
use oci_mirror::reference::Tag;
use oci_mirror::tree::Tree;
use oci_mirror::tree::index::RepoIndex;

use crate::export::source::Wish;

/// What a repository of the tree holds, ready to be looked up.
#[derive(Debug, Default)]
pub(in crate::export) struct Held {
    tagged: HashMap<Tag, Descriptor>,
    untagged: HashMap<Digest, Descriptor>,
    index: RepoIndex,
    tree: Option<Tree>,
}

impl Held {
    pub(super) fn new(index: RepoIndex, tree: Tree) -> Self {
        let tagged = index
            .tags()
            .map(|(tag, entry)| (tag, entry.clone()))
            .collect();
        // A tag may move away from what is to stay by digest.
        let untagged = index
            .entries()
            .iter()
            .filter(|entry| entry.ref_name().is_none())
            .map(|entry| (entry.digest, entry.clone()))
            .collect();
        Self {
            tagged,
            untagged,
            index,
            tree: Some(tree),
        }
    }

    /// The tree it was read from; `None` if there is nothing yet.
    pub(in crate::export) fn tree(&self) -> Option<&Tree> {
        self.tree.as_ref()
    }

    /// The index as it was read.
    pub(in crate::export) fn index(&self) -> &RepoIndex {
        &self.index
    }

    pub(super) fn target(&self, tag: Option<&Tag>, wish: &Wish) -> Option<&Descriptor> {
        match tag {
            Some(tag) => self.tagged.get(tag),
            None => self.untagged.get(&wish.digest()?),
        }
    }
}
