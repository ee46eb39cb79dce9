//! The tags of a repository: in order for those who list them, and found at once by those who pull.
//!
//! A search of the sorted list looks at a dozen names, each somewhere else in memory. Tags come from
//! whoever pushes images, so what finds them is keyed with a secret.

use std::hash::{BuildHasher as _, RandomState};

use hashbrown::HashTable;

use super::blobs::BlobId;
use crate::reference::Tag;

/// Tags with their targets.
#[derive(Debug, Clone)]
pub(super) struct Tags {
    /// Sorted by tag.
    sorted: Vec<(Tag, BlobId)>,
    /// Where in the list each is.
    places: HashTable<u32>,
    secret: RandomState,
}

impl Tags {
    /// Takes tags in any order; of one that is there twice, one counts.
    pub(super) fn new(mut tags: Vec<(Tag, BlobId)>) -> Self {
        tags.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        let (mut places, secret) = (HashTable::with_capacity(tags.len()), RandomState::new());
        let hash = |place: &u32| secret.hash_one(tags[*place as usize].0.as_str());
        for place in (0..).take(tags.len()) {
            places.insert_unique(hash(&place), place, hash);
        }
        Self {
            sorted: tags,
            places,
            secret,
        }
    }

    /// What a tag points at.
    pub(super) fn get(&self, tag: &Tag) -> Option<BlobId> {
        let hash = self.secret.hash_one(tag.as_str());
        let is_it = |place: &u32| self.sorted[*place as usize].0 == *tag;
        let place = self.places.find(hash, is_it)?;
        Some(self.sorted[*place as usize].1)
    }

    /// All of them, sorted by tag.
    pub(super) fn sorted(&self) -> &[(Tag, BlobId)] {
        &self.sorted
    }
}

impl PartialEq for Tags {
    fn eq(&self, other: &Self) -> bool {
        self.sorted == other.sorted
    }
}

impl Eq for Tags {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tag_is_found_and_no_other() {
        let tag = |number: u32| -> Tag { format!("v{number}").parse().unwrap() };
        let all: Vec<_> = (0..1000).rev().map(|it| (tag(it), BlobId(it))).collect();
        let tags = Tags::new(all);
        for number in 0..1000 {
            assert_eq!(tags.get(&tag(number)), Some(BlobId(number)));
        }
        assert_eq!(tags.get(&tag(1000)), None);
        assert!(tags.sorted().is_sorted_by(|(a, _), (b, _)| a < b));
        let again = Tags::new(tags.sorted().to_vec());
        assert_eq!(again, tags, "whatever their secrets are");
        assert_ne!(Tags::new(Vec::new()), tags);
    }
}
