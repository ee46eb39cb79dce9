//! Blobs that clients ask for most: what is wrong with one of them harms many.
//!
//! Each blob has one place in a table of fixed size, and shares it with others. A place belongs to a blob and
//! counts: up for that blob, down for any other, and at nothing the next one takes it over. So a blob that is
//! asked for more often than all that share its place together has it in the end.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use oci_mirror::tree::catalog::BlobId;

/// Places, of 8 bytes.
const PLACES: usize = 1 << 12;

/// Nothing counts higher: so what was popular last year gives way in time.
const MOST: u64 = 1 << 16;

/// Blobs, and about how often each was asked for.
#[derive(Debug)]
pub struct Popular(Box<[AtomicU64]>);

impl Default for Popular {
    fn default() -> Self {
        let places = std::iter::repeat_with(AtomicU64::default).take(PLACES);
        Self(places.collect())
    }
}

impl Popular {
    /// Counts a request for a blob.
    pub fn note(&self, blob: BlobId) {
        // The numbers are ours, in the order of the tree: nobody chooses them.
        let place = &self.0[blob.0 as usize % PLACES];
        let before = place.load(Relaxed);
        let (of, count) = parts(before);
        let after = if of == blob {
            entry(of, (count + 1).min(MOST))
        } else if count == 0 {
            entry(blob, 1)
        } else {
            entry(of, count - 1)
        };
        if after != before {
            // Of two requests at the same moment one may go uncounted.
            place.store(after, Relaxed);
        }
    }

    /// The blobs asked for most, at most so many.
    pub fn most(&self, count: usize) -> Vec<BlobId> {
        let places = self.0.iter().map(|place| parts(place.load(Relaxed)));
        let mut counted: Vec<(BlobId, u64)> = places.filter(|(_, count)| *count > 0).collect();
        counted.sort_unstable_by_key(|(blob, count)| (std::cmp::Reverse(*count), blob.0));
        counted.truncate(count);
        counted.into_iter().map(|(blob, _)| blob).collect()
    }
}

fn entry(blob: BlobId, count: u64) -> u64 {
    u64::from(blob.0) << 32 | count
}

fn parts(entry: u64) -> (BlobId, u64) {
    let blob = u32::try_from(entry >> 32).unwrap_or_default();
    (BlobId(blob), entry & u64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_most_comes_first() {
        let popular = Popular::default();
        assert_eq!(popular.most(10), []);
        for (blob, count) in [(0, 5), (1, 50), (2, 500)] {
            (0..count).for_each(|_| popular.note(BlobId(blob)));
        }
        assert_eq!(popular.most(2), [BlobId(2), BlobId(1)]);
        assert_eq!(popular.most(10).len(), 3);
    }

    #[test]
    fn of_those_that_share_a_place_the_most_popular_has_it() {
        let popular = Popular::default();
        let room = u32::try_from(PLACES).unwrap();
        for round in 0..1000 {
            popular.note(BlobId(room + 3));
            popular.note(BlobId(room * (2 + round % 7) + 3));
            popular.note(BlobId(room + 3));
        }
        assert_eq!(popular.most(10), [BlobId(room + 3)]);
    }

    #[test]
    fn nothing_stays_popular_for_ever() {
        let popular = Popular::default();
        let (old, new) = (BlobId(3), BlobId(3 + u32::try_from(PLACES).unwrap()));
        (0..10 * MOST).for_each(|_| popular.note(old));
        (0..MOST + 2).for_each(|_| popular.note(new));
        assert_eq!(popular.most(1), [new]);
    }
}
