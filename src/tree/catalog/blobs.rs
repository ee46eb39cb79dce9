//! The blobs of a catalog by number, and their numbers by digest.
//!
//! A catalog and its successor differ in a few blobs out of a million. The table is therefore cut into
//! pieces that both share, and a number never changes its meaning: what is new gets the next number,
//! and what is gone leaves a hole. Tables kept beside a catalog stay right as long as the next one
//! [goes on](Blobs::goes_on_from) from it. Only when holes are many is everything numbered anew.
//!
//! The digests are not repeated as keys: the index holds numbers only, 5 bytes a blob. Who pushes images
//! chooses digests, so their bits are mixed with a secret before they choose a place.

use std::hash::{BuildHasher as _, RandomState};
use std::ops::Index;
use std::sync::Arc;

use bytes::Bytes;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::entry::ManifestEntry;
use crate::digest::Digest;

/// The number of a blob in one catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlobId(pub u32);

impl BlobId {
    /// The number as the index of a table.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A blob of the tree: a manifest, config or layer.
#[derive(Debug, Clone)]
pub struct Blob {
    /// Its name.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// What to know about it if it is a manifest.
    pub manifest: Option<Arc<ManifestEntry>>,
}

impl Blob {
    /// What stands at numbers not given yet.
    const NONE: Self = Self {
        digest: Digest::Sha256([0; 32]),
        size: 0,
        manifest: None,
    };
}

/// How many blobs successive catalogs share or do not share at once.
const PIECE: usize = 512;

/// The blobs of neighbouring numbers, and nothing at those not given yet.
type Piece = [Blob];

/// Blobs by number.
#[derive(Debug, Clone)]
pub struct Blobs {
    pieces: Vec<Arc<Piece>>,
    len: usize,
    /// The numbers in use.
    by_digest: HashTable<u32>,
    secret: Secret,
    /// Shared by all tables in which a number means the same.
    numbering: Arc<()>,
}

impl Default for Blobs {
    fn default() -> Self {
        Self {
            pieces: Vec::new(),
            len: 0,
            by_digest: HashTable::new(),
            secret: Secret::new(),
            numbering: Arc::new(()),
        }
    }
}

impl Blobs {
    /// How many numbers there are, those out of use among them: the length of a table beside this one.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no blob.
    pub fn is_empty(&self) -> bool {
        self.in_use() == 0
    }

    /// How many blobs there are.
    pub fn in_use(&self) -> usize {
        self.by_digest.len()
    }

    /// The blobs by number, with what was left at numbers that are out of use.
    pub fn iter(&self) -> impl Iterator<Item = &Blob> {
        let all = self.pieces.iter().flat_map(|piece| piece.iter());
        all.take(self.len)
    }

    /// All numbers, those out of use among them.
    pub(super) fn ids(&self) -> impl Iterator<Item = BlobId> + use<> {
        (0_u32..).map(BlobId).take(self.len)
    }

    /// The number of a blob.
    pub(super) fn find(&self, digest: &Digest) -> Option<BlobId> {
        let hash = self.secret.hash(digest);
        let is_it = |number: &u32| self[*number as usize].digest == *digest;
        self.by_digest.find(hash, is_it).copied().map(BlobId)
    }

    /// Whether every number of `earlier` that is still in use means the same here.
    pub(super) fn goes_on_from(&self, earlier: &Self) -> bool {
        Arc::ptr_eq(&self.numbering, &earlier.numbering)
    }

    /// The number of a blob, which is entered unless it is known.
    pub(super) fn enter(&mut self, digest: Digest, size: u64) -> BlobId {
        let (pieces, secret) = (&self.pieces, &self.secret);
        let named = |number: u32| &pieces[number as usize / PIECE][number as usize % PIECE].digest;
        let next = u32::try_from(self.len).expect("a tree has fewer than 2^32 blobs");
        let entry = self.by_digest.entry(
            secret.hash(&digest),
            |number| *named(*number) == digest,
            |number| secret.hash(named(*number)),
        );
        match entry {
            Entry::Occupied(known) => return BlobId(*known.get()),
            Entry::Vacant(place) => drop(place.insert(next)),
        }
        if self.len.is_multiple_of(PIECE) {
            self.pieces.push(vec![Blob::NONE; PIECE].into());
        }
        self.len += 1;
        *self.get_mut(BlobId(next)) = Blob {
            digest,
            size,
            manifest: None,
        };
        BlobId(next)
    }

    /// Says what is to be known of a manifest; its bytes say how long it is.
    pub(super) fn describe(&mut self, id: BlobId, size: u64, manifest: Arc<ManifestEntry>) {
        let blob = self.get_mut(id);
        blob.size = size;
        blob.manifest = Some(manifest);
    }

    /// Gives up the bytes of a manifest, which is read from the tree from then on.
    pub(super) fn give_up_bytes(&mut self, id: BlobId) -> Option<Bytes> {
        let manifest = self.get_mut(id).manifest.as_mut()?;
        Arc::make_mut(manifest).bytes.take()
    }

    /// Takes a number out of use; returns what was known of it as a manifest.
    pub(super) fn retire(&mut self, id: BlobId) -> Option<Arc<ManifestEntry>> {
        let digest = self[id.index()].digest;
        let hash = self.secret.hash(&digest);
        let entry = self.by_digest.find_entry(hash, |number| *number == id.0);
        entry.ok()?.remove();
        self[id.index()].manifest.as_ref()?;
        self.get_mut(id).manifest.take()
    }

    /// Whether a number is in use.
    pub(super) fn is_in_use(&self, id: BlobId) -> bool {
        self.find(&self[id.index()].digest) == Some(id)
    }

    fn get_mut(&mut self, id: BlobId) -> &mut Blob {
        &mut Arc::make_mut(&mut self.pieces[id.index() / PIECE])[id.index() % PIECE]
    }
}

impl Index<usize> for Blobs {
    type Output = Blob;

    fn index(&self, number: usize) -> &Blob {
        &self.pieces[number / PIECE][number % PIECE]
    }
}

/// What nobody outside knows, so that nobody can choose digests that meet in one place.
#[derive(Debug, Clone)]
struct Secret(u64, u64);

impl Secret {
    fn new() -> Self {
        let random = RandomState::new();
        Self(random.hash_one(0), random.hash_one(1))
    }

    /// A digest is random already; one multiplication hides which of its bits choose the place.
    fn hash(&self, digest: &Digest) -> u64 {
        let word = |at: usize| {
            let bytes = digest.as_bytes().get(at..at + 8);
            u64::from_le_bytes(bytes.and_then(|it| it.try_into().ok()).unwrap_or_default())
        };
        let product = u128::from(word(0) ^ self.0) * u128::from(word(8) ^ self.1);
        let [low, high] = [product & u128::from(u64::MAX), product >> 64];
        u64::try_from(low ^ high).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Algorithm;

    fn digest(number: u32) -> Digest {
        let algorithm = Algorithm::ALL[number as usize % 2];
        algorithm.digest(&number.to_le_bytes())
    }

    #[test]
    fn numbers_stay_when_others_come_and_go() {
        let mut blobs = Blobs::default();
        for number in 0..3000 {
            assert_eq!(blobs.enter(digest(number), 1), BlobId(number));
        }
        let before = blobs.clone();
        for number in (0..3000).step_by(3) {
            blobs.retire(BlobId(number));
        }
        assert_eq!(blobs.enter(digest(1), 1), BlobId(1));
        assert_eq!(
            blobs.enter(digest(0), 1),
            BlobId(3000),
            "a hole is not filled"
        );
        assert!(blobs.goes_on_from(&before) && !Blobs::default().goes_on_from(&before));
        assert_eq!((blobs.len(), blobs.in_use()), (3001, 2001));
        for number in 0..3000 {
            assert_eq!(before.find(&digest(number)), Some(BlobId(number)));
            let expected = match number {
                0 => Some(BlobId(3000)),
                number if number % 3 == 0 => None,
                number => Some(BlobId(number)),
            };
            assert_eq!(blobs.find(&digest(number)), expected);
            assert_eq!(blobs.is_in_use(BlobId(number)), number % 3 != 0);
        }
    }

    #[test]
    fn a_successor_shares_all_pieces_but_those_that_changed() {
        let mut blobs = Blobs::default();
        for number in 0..3000 {
            blobs.enter(digest(number), 1);
        }
        let mut next = blobs.clone();
        next.enter(digest(3000), 1);
        let shared = blobs.pieces.iter().zip(&next.pieces);
        let apart = shared
            .filter(|(one, other)| !Arc::ptr_eq(one, other))
            .count();
        assert_eq!(apart, 1);
    }
}
