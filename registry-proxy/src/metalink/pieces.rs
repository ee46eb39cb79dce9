//! Piece hashes of the blobs asked for lately, so that a metalink does not read a file each time.
//!
//! A table of slots, each swapped whole: readers take no lock and wait for nobody. A blob can be in a
//! few neighbouring slots only, so nothing has to be searched and nothing grows: 16,384
//! slots of at most 128 hashes are 64 MiB. That a blob has no pieces is remembered too;
//! whoever keeps a cache drops it when the tree has changed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::ArcSwapOption;
use oci_mirror::digest::Digest;
use oci_mirror::tree::pieces::Pieces;

/// Groups of slots.
const SETS: usize = 1 << 12;

/// Slots in which one blob may be.
const WAYS: usize = 4;

/// Longest list kept: 4 KiB of hashes, a blob of 128 MiB to 512 MiB. Of the larger ones there are few.
const MAX_HASHES: usize = 128;

/// The cache.
#[derive(Debug)]
pub struct PieceCache {
    slots: Box<[[ArcSwapOption<Known>; WAYS]]>,
    /// Which way was replaced last.
    turn: AtomicUsize,
}

/// What is known of one blob.
#[derive(Debug)]
pub struct Known {
    digest: Digest,
    /// Its pieces, if it has any.
    pub pieces: Option<Pieces>,
}

impl Default for PieceCache {
    fn default() -> Self {
        let empty = |_| std::array::from_fn(|_| ArcSwapOption::empty());
        Self {
            slots: (0..SETS).map(empty).collect(),
            turn: AtomicUsize::new(0),
        }
    }
}

impl PieceCache {
    /// What is known of the pieces of a blob.
    pub fn find(&self, digest: &Digest) -> Option<Arc<Known>> {
        let is_wanted = |known: &&Arc<Known>| known.digest == *digest;
        self.ways(digest)
            .iter()
            .find_map(|slot| slot.load().as_ref().filter(is_wanted).map(Arc::clone))
    }

    /// Remembers the pieces of a blob, unless there are too many; returns what is now known.
    pub fn keep(&self, digest: Digest, pieces: Option<Pieces>) -> Arc<Known> {
        let small = pieces
            .as_ref()
            .is_none_or(|pieces| pieces.hashes().len() <= MAX_HASHES);
        let known = Arc::new(Known { digest, pieces });
        if small {
            let ways = self.ways(&digest);
            let free = ways.iter().position(|slot| slot.load().is_none());
            let way = free.unwrap_or_else(|| self.turn.fetch_add(1, Ordering::Relaxed) % WAYS);
            ways[way].store(Some(Arc::clone(&known)));
        }
        known
    }

    /// The slots in which a blob may be.
    fn ways(&self, digest: &Digest) -> &[ArcSwapOption<Known>; WAYS] {
        // Digests are evenly spread whoever chose the bytes, or at a cost of his own.
        let bytes = digest.as_bytes();
        &self.slots[(usize::from(bytes[1]) << 8 | usize::from(bytes[2])) % SETS]
    }
}

#[cfg(test)]
mod tests {
    use oci_mirror::digest::Algorithm;
    use oci_mirror::tree::pieces::count_for;

    use super::*;

    fn pieces(size: u64) -> Option<Pieces> {
        let bytes = vec![7; 32 * usize::try_from(count_for(size)).unwrap()];
        Pieces::from_bytes(&bytes, size)
    }

    #[test]
    fn what_was_kept_is_found_and_nothing_else() {
        let cache = PieceCache::default();
        let digest = Algorithm::Sha256.digest(b"a");
        assert!(cache.find(&digest).is_none());
        cache.keep(digest, pieces(2 << 20));
        assert_eq!(cache.find(&digest).unwrap().pieces, pieces(2 << 20));
        let without = Algorithm::Sha512.digest(b"b");
        cache.keep(without, None);
        assert_eq!(cache.find(&without).unwrap().pieces, None);
        assert!(cache.find(&Algorithm::Sha256.digest(b"c")).is_none());
    }

    #[test]
    fn long_lists_are_returned_but_not_kept() {
        let cache = PieceCache::default();
        let digest = Algorithm::Sha256.digest(b"a");
        let long = pieces(4 << 30);
        assert_eq!(cache.keep(digest, long.clone()).pieces, long);
        assert!(cache.find(&digest).is_none());
    }

    #[test]
    fn a_full_set_forgets_one_and_keeps_the_newest() {
        let cache = PieceCache::default();
        let mut digests = Vec::new();
        for number in 0..=u8::try_from(WAYS).unwrap() {
            let mut bytes = [0; 32];
            bytes[31] = number;
            let digest = Digest::Sha256(bytes);
            cache.keep(digest, None);
            assert!(cache.find(&digest).is_some());
            digests.push(digest);
        }
        let known = digests.iter().filter(|it| cache.find(it).is_some());
        assert_eq!(known.count(), WAYS);
    }
}
