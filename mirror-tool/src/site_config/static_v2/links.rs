//! What the files of one repository are to be.

use std::collections::{BTreeMap, HashSet};

use oci_mirror::digest::Digest;
use oci_mirror::media_type::MediaType;
use oci_mirror::reference::Tag;
use oci_mirror::tree::Tree;
use oci_mirror::tree::index::RepoIndex;
use oci_mirror::tree::reach::{Kind, Reach};

/// The names of manifests, and the tags.
#[derive(Debug, Default)]
pub(super) struct Links {
    /// Which manifest each name stands for.
    pub(super) names: BTreeMap<String, Digest>,
    pub(super) tags: Vec<Tag>,
    /// Entries of the index of which the tree lacks something.
    pub(super) left_out: u64,
}

impl Links {
    /// What a repository offers, of what its index reaches.
    pub(super) fn of(index: &RepoIndex, reach: &Reach, tree: &Tree) -> Self {
        let incomplete: HashSet<usize> = reach.problems.iter().map(|it| it.entry).collect();
        let damaged: HashSet<Digest> = reach
            .problems
            .iter()
            .filter_map(|it| it.problem.digest())
            .chain(
                incomplete
                    .iter()
                    .filter_map(|entry| Some(index.entries().get(*entry)?.digest)),
            )
            .collect();
        let mut links = Self {
            left_out: incomplete.len() as u64,
            ..Self::default()
        };
        let mut extensions = BTreeMap::new();
        for (digest, member) in &reach.members {
            if member.kind == Kind::Manifest
                && !damaged.contains(digest)
                && let Some(extension) = extension(digest, &member.descriptor.media_type, tree)
            {
                links.names.insert(format!("{digest}.{extension}"), *digest);
                extensions.insert(*digest, extension);
            }
        }
        for (tag, entry) in index.tags() {
            if let Some(extension) = extensions.get(&entry.digest) {
                links
                    .names
                    .insert(format!("{tag}.{extension}"), entry.digest);
                links.tags.push(tag);
            }
        }
        links.tags.sort();
        links
    }
}

/// The extension of a manifest; its own word for its type if its descriptor has none.
fn extension(digest: &Digest, described: &MediaType, tree: &Tree) -> Option<&'static str> {
    let known = |media_type: &MediaType| {
        let mut all = super::EXTENSIONS.iter();
        all.find(|(known, _)| known == media_type)
            .map(|(_, extension)| *extension)
    };
    known(described).or_else(|| known(tree.manifest(digest, described).ok()?.media_type()))
}
