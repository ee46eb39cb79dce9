//! Piece hashes: the sha-256 of each piece of a large blob, by which a metalink client tells which
//! mirror sent the bad bytes and fetches only those again.
//!
//! The file `pieces/<alg>/<hh>/<hex>` is the raw 32-byte hashes one after the other. How long a
//! piece is follows from the size of the blob, so the file needs no header, and its length proves
//! whether it is whole. Pieces are always hashed with SHA-256, which every metalink client can check.

use sha2::Digest as _;

/// Bytes of one piece hash.
pub const HASH_LEN: usize = 32;

/// The hash of one piece.
pub type PieceHash = [u8; HASH_LEN];

const MIB: u64 = 1 << 20;

/// The length of the pieces of a blob of `size` bytes, or `None` when it is too small to have any.
///
/// ```
/// use oci_mirror::tree::pieces::length_for;
/// assert_eq!(length_for(1 << 20), None);
/// assert_eq!(length_for((1 << 20) + 1), Some(1 << 20));
/// assert_eq!(length_for(65 << 20), Some(4 << 20));
/// ```
pub const fn length_for(size: u64) -> Option<u64> {
    if size <= MIB {
        None
    } else if size <= 64 * MIB {
        Some(MIB)
    } else if size <= 4096 * MIB {
        Some(4 * MIB)
    } else {
        Some(16 * MIB)
    }
}

/// How many pieces a blob of `size` bytes has.
pub const fn count_for(size: u64) -> u64 {
    match length_for(size) {
        Some(length) => size.div_ceil(length),
        None => 0,
    }
}

/// The piece hashes of one blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pieces {
    length: u64,
    hashes: Vec<PieceHash>,
}

impl Pieces {
    pub(super) fn new(length: u64, hashes: Vec<PieceHash>) -> Self {
        Self { length, hashes }
    }

    /// Reads the content of a pieces file for a blob of `size` bytes; `None` if it is not that.
    pub fn from_bytes(bytes: &[u8], size: u64) -> Option<Self> {
        let (hashes, rest) = bytes.as_chunks::<HASH_LEN>();
        let whole = rest.is_empty() && hashes.len() as u64 == count_for(size);
        whole.then_some(Self {
            length: length_for(size)?,
            hashes: hashes.to_vec(),
        })
    }

    /// The content of the pieces file.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.hashes.concat()
    }

    /// The length of every piece but the last, in bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The hashes, in the order of the file.
    pub fn hashes(&self) -> &[PieceHash] {
        &self.hashes
    }
}

/// Computes piece hashes while a blob of known size streams by.
///
/// Who needs the digest of the blob too takes a [`BlobHasher`](super::blob_hash::BlobHasher), which
/// has both for little more than the price of one.
#[derive(Debug)]
pub struct PieceHasher {
    pieces: Pieces,
    current: sha2::Sha256,
    filled: u64,
}

impl PieceHasher {
    /// A hasher for a blob of `size` bytes; `None` when it is too small to have pieces.
    pub fn new(size: u64) -> Option<Self> {
        Some(Self {
            pieces: Pieces::new(length_for(size)?, Vec::new()),
            current: sha2::Sha256::new(),
            filled: 0,
        })
    }

    /// The length of every piece but the last, in bytes.
    pub fn length(&self) -> u64 {
        self.pieces.length
    }

    /// Adds the next bytes of the blob.
    pub fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = usize::try_from(self.pieces.length - self.filled).unwrap_or(usize::MAX);
            let (now, rest) = bytes.split_at(room.min(bytes.len()));
            self.current.update(now);
            self.filled += now.len() as u64;
            if self.filled == self.pieces.length {
                self.close();
            }
            bytes = rest;
        }
    }

    /// The hashes of everything added.
    pub fn finish(mut self) -> Pieces {
        if self.filled > 0 {
            self.close();
        }
        self.pieces
    }

    fn close(&mut self) {
        self.pieces
            .hashes
            .push(self.current.finalize_reset().into());
        self.filled = 0;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_length_steps_where_the_format_says() {
        for (size, length) in [
            (0, None),
            (MIB, None),
            (MIB + 1, Some(MIB)),
            (64 * MIB, Some(MIB)),
            (64 * MIB + 1, Some(4 * MIB)),
            (4096 * MIB, Some(4 * MIB)),
            (4096 * MIB + 1, Some(16 * MIB)),
        ] {
            assert_eq!(length_for(size), length, "{size}");
        }
    }

    #[test]
    fn a_file_of_the_wrong_length_is_no_pieces_file() {
        assert_eq!(Pieces::from_bytes(&[0; 32], 2 * MIB), None);
        assert_eq!(Pieces::from_bytes(&[0; 65], 2 * MIB), None);
        assert!(Pieces::from_bytes(&[0; 64], 2 * MIB).is_some());
        assert_eq!(Pieces::from_bytes(&[], MIB), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn chunking_does_not_matter(size in MIB + 1..3 * MIB, step in 1_usize..700_000) {
            let blob: Vec<u8> = (0..size).map(|i| (i * 31 % 251) as u8).collect();
            let mut hasher = PieceHasher::new(size).unwrap();
            blob.chunks(step).for_each(|chunk| hasher.update(chunk));
            let pieces = hasher.finish();
            let expected: Vec<PieceHash> =
                blob.chunks(1 << 20).map(|piece| sha2::Sha256::digest(piece).into()).collect();
            prop_assert_eq!(pieces.hashes(), &expected[..]);
            prop_assert_eq!(Pieces::from_bytes(&pieces.to_bytes(), size), Some(pieces));
        }
    }
}
