//! One repository of a catalog.

use std::collections::HashMap;

use roaring::RoaringBitmap;

use super::blobs::BlobId;
use super::entry::ManifestEntry;
use super::tags::Tags;
use crate::digest::Digest;
use crate::media_type::MediaType;
use crate::reference::Tag;

/// One repository.
#[derive(Debug, PartialEq, Eq)]
pub struct Repository {
    pub(super) tags: Tags,
    /// In runs: what is pushed together is numbered together.
    pub(super) members: RoaringBitmap,
    /// Children of indexes that were left out of the tree on purpose, sorted.
    pub(super) absent: Vec<Digest>,
    /// By subject; each list sorted.
    pub(super) referrers: HashMap<Digest, Vec<BlobId>>,
    /// Manifests that this repository declares to be of another type than the repository in which they
    /// were first met. Documents without a `mediaType` of their own are what they are declared to be,
    /// and one repository must not have a say in what is declared in another.
    pub(super) declared: HashMap<BlobId, MediaType>,
}

impl Repository {
    /// All tags with their targets, sorted by tag.
    pub fn tags(&self) -> &[(Tag, BlobId)] {
        self.tags.sorted()
    }

    /// What `tag` points at.
    pub fn tag(&self, tag: &Tag) -> Option<BlobId> {
        self.tags.get(tag)
    }

    /// All the repository reaches or still links, sorted by number.
    pub fn members(&self) -> impl Iterator<Item = BlobId> + '_ {
        self.members.iter().map(BlobId)
    }

    /// Whether the repository reaches or still links a blob.
    pub fn has(&self, id: BlobId) -> bool {
        self.members.contains(id.0)
    }

    /// The manifests whose subject is `digest`, whether that is itself in the tree or not.
    pub fn referrers(&self, digest: &Digest) -> &[BlobId] {
        self.referrers.get(digest).map_or(&[], Vec::as_slice)
    }

    /// The type under which this repository has a manifest.
    pub fn media_type<'a>(&'a self, id: BlobId, entry: &'a ManifestEntry) -> &'a MediaType {
        self.declared.get(&id).unwrap_or(&entry.media_type)
    }

    /// Whether an index of the repository lists `digest`, which the tree does not carry.
    pub fn leaves_out(&self, digest: &Digest) -> bool {
        self.absent.binary_search(digest).is_ok()
    }

    /// The same with other numbers.
    pub(super) fn renumbered(&self, number: impl Fn(BlobId) -> BlobId) -> Self {
        let all = |ids: &[BlobId]| -> Vec<BlobId> {
            let mut ids: Vec<BlobId> = ids.iter().map(|id| number(*id)).collect();
            ids.sort_unstable();
            ids
        };
        let tags = self.tags().iter();
        let referrers = self.referrers.iter();
        let declared = self.declared.iter();
        Self {
            tags: Tags::new(tags.map(|(tag, id)| (tag.clone(), number(*id))).collect()),
            members: runs(self.members().map(&number)),
            absent: self.absent.clone(),
            referrers: referrers
                .map(|(subject, ids)| (*subject, all(ids)))
                .collect(),
            declared: declared
                .map(|(id, media_type)| (number(*id), media_type.clone()))
                .collect(),
        }
    }
}

/// The set of the numbers, kept as runs where these are shorter.
pub(super) fn runs(ids: impl Iterator<Item = BlobId>) -> RoaringBitmap {
    let mut runs: RoaringBitmap = ids.map(|id| id.0).collect();
    runs.optimize();
    runs
}
