//! The digest of a blob and the hashes of its pieces, in one pass over its bytes.
//!
//! Both are SHA-256 of the same bytes. A processor with instructions for it spends most of the time
//! waiting for the round before, so one state after the other would take twice as long. Here every
//! block goes into both states in turn, and the processor works on one while it waits for the other.
//! The block is the right step: of longer runs the processor cannot see far enough ahead to overlap
//! anything. Pieces are whole blocks long, so both states always stand at the same place of a block;
//! and the first piece is the beginning of the blob, so up to its end one state serves both.
//!
//! The rest, padding and output, is as in [FIPS 180-4]. A SHA-512 digest is computed beside its pieces.
//!
//! [FIPS 180-4]: https://doi.org/10.6028/NIST.FIPS.180-4

use std::slice;

use sha2::block_api::compress256;

use super::pieces::{PieceHash, PieceHasher, Pieces};
use crate::digest::{Algorithm, Digest, Hasher};

/// Computes the digest of a blob, and its piece hashes if it has pieces, while it streams by.
///
/// ```
/// use oci_mirror::digest::Algorithm;
/// use oci_mirror::tree::blob_hash::BlobHasher;
/// let blob = vec![7; (1 << 20) + 1];
/// let mut hasher = BlobHasher::new(Algorithm::Sha256, blob.len() as u64);
/// hasher.update(&blob);
/// let (digest, pieces) = hasher.finish();
/// assert_eq!(digest, Algorithm::Sha256.digest(&blob));
/// assert_eq!(pieces.unwrap().hashes().len(), 2);
/// ```
#[derive(Debug)]
pub struct BlobHasher(Way);

#[derive(Debug)]
enum Way {
    Whole(Hasher),
    Apart(Hasher, PieceHasher),
    Together(Twins),
}

impl BlobHasher {
    /// A hasher for a blob of `size` bytes.
    pub fn new(algorithm: Algorithm, size: u64) -> Self {
        Self(match (algorithm, PieceHasher::new(size)) {
            (_, None) => Way::Whole(algorithm.hasher()),
            (Algorithm::Sha256, Some(pieces)) => Way::Together(Twins::new(pieces.length())),
            (Algorithm::Sha512, Some(pieces)) => Way::Apart(algorithm.hasher(), pieces),
        })
    }

    /// Adds the next bytes of the blob.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            Way::Whole(whole) => whole.update(bytes),
            Way::Apart(whole, pieces) => {
                whole.update(bytes);
                pieces.update(bytes);
            }
            Way::Together(twins) => twins.update(bytes),
        }
    }

    /// The hashes of everything added.
    pub fn finish(self) -> (Digest, Option<Pieces>) {
        match self.0 {
            Way::Whole(whole) => (whole.finish(), None),
            Way::Apart(whole, pieces) => (whole.finish(), Some(pieces.finish())),
            Way::Together(twins) => {
                let (digest, pieces) = twins.finish();
                (digest, Some(pieces))
            }
        }
    }
}

/// Bytes that SHA-256 takes in at once.
pub(super) const BLOCK: usize = 64;

pub(super) type State = [u32; 8];

/// FIPS 180-4, 5.3.3.
pub(super) const INITIAL: State = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

/// The states of the blob and of the piece at hand.
#[derive(Debug)]
struct Twins {
    whole: State,
    /// Not in use during the first piece.
    piece: State,
    /// Length of a piece in bytes, a multiple of [`BLOCK`].
    length: u64,
    /// Bytes that are in the states: whole blocks.
    done: u64,
    /// The beginning of the next block.
    rest: [u8; BLOCK],
    rest_len: usize,
    hashes: Vec<PieceHash>,
}

impl Twins {
    fn new(length: u64) -> Self {
        Self {
            whole: INITIAL,
            piece: INITIAL,
            length,
            done: 0,
            rest: [0; BLOCK],
            rest_len: 0,
            hashes: Vec::new(),
        }
    }

    fn update(&mut self, mut bytes: &[u8]) {
        if self.rest_len > 0 {
            let now = bytes.len().min(BLOCK - self.rest_len);
            self.rest[self.rest_len..][..now].copy_from_slice(&bytes[..now]);
            self.rest_len += now;
            bytes = &bytes[now..];
            if self.rest_len < BLOCK {
                return;
            }
            let block = self.rest;
            self.compress(slice::from_ref(&block));
        }
        let (blocks, rest) = bytes.as_chunks();
        self.compress(blocks);
        self.rest[..rest.len()].copy_from_slice(rest);
        self.rest_len = rest.len();
    }

    fn compress(&mut self, mut blocks: &[[u8; BLOCK]]) {
        while !blocks.is_empty() {
            let room = (self.length - self.done % self.length) / BLOCK as u64;
            let room = usize::try_from(room).unwrap_or(usize::MAX);
            let (now, later) = blocks.split_at(room.min(blocks.len()));
            if self.hashes.is_empty() {
                compress256(&mut self.whole, now);
            } else {
                for block in now {
                    compress256(&mut self.whole, slice::from_ref(block));
                    compress256(&mut self.piece, slice::from_ref(block));
                }
            }
            self.done += (now.len() * BLOCK) as u64;
            if self.done.is_multiple_of(self.length) {
                self.end_piece(&[], self.length);
            }
            blocks = later;
        }
    }

    fn end_piece(&mut self, rest: &[u8], length: u64) {
        let state = if self.hashes.is_empty() {
            self.whole
        } else {
            self.piece
        };
        self.hashes.push(output(state, rest, length));
        self.piece = INITIAL;
    }

    fn finish(mut self) -> (Digest, Pieces) {
        let rest = self.rest;
        let rest = &rest[..self.rest_len];
        let filled = self.done % self.length + rest.len() as u64;
        if filled > 0 {
            self.end_piece(rest, filled);
        }
        let whole = output(self.whole, rest, self.done + rest.len() as u64);
        (Digest::Sha256(whole), Pieces::new(self.length, self.hashes))
    }
}

/// The hash of a message of `length` bytes that ends with `rest`, less than a block, all before it
/// being in `state`.
pub(super) fn output(mut state: State, rest: &[u8], length: u64) -> [u8; 32] {
    const LENGTH: usize = size_of::<u64>();
    let mut padded = [0; 2 * BLOCK];
    padded[..rest.len()].copy_from_slice(rest);
    padded[rest.len()] = 0x80;
    let end = if rest.len() < BLOCK - LENGTH {
        BLOCK
    } else {
        2 * BLOCK
    };
    // SHA-256 counts bits, modulo 2^64.
    padded[end - LENGTH..end].copy_from_slice(&(length << 3).to_be_bytes());
    let (blocks, _) = padded[..end].as_chunks();
    compress256(&mut state, blocks);
    let mut hash = [0; 32];
    for (bytes, word) in hash.as_chunks_mut().0.iter_mut().zip(state) {
        *bytes = word.to_be_bytes();
    }
    hash
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sha2::Digest as _;

    use super::*;
    use crate::tree::pieces::length_for;

    const MIB: usize = 1 << 20;

    fn blob(size: usize) -> Vec<u8> {
        (0..=250).cycle().take(size).collect()
    }

    #[track_caller]
    fn agrees(algorithm: Algorithm, blob: &[u8], cuts: &[usize]) {
        let mut hasher = BlobHasher::new(algorithm, blob.len() as u64);
        let mut rest = blob;
        for cut in cuts.iter().cycle() {
            let (now, later) = rest.split_at((*cut).min(rest.len()));
            hasher.update(now);
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        let (digest, pieces) = hasher.finish();
        assert_eq!(digest, algorithm.digest(blob));
        let length = length_for(blob.len() as u64);
        assert_eq!(pieces.as_ref().map(Pieces::length), length);
        if let (Some(pieces), Some(length)) = (pieces, length) {
            let expected: Vec<PieceHash> = blob
                .chunks(usize::try_from(length).unwrap())
                .map(|piece| sha2::Sha256::digest(piece).into())
                .collect();
            assert_eq!(pieces.hashes(), expected);
        }
    }

    #[test]
    fn sizes_around_pieces_and_blocks_agree_with_the_plain_hashes() {
        for size in [
            0,
            1,
            MIB,
            MIB + 1,
            MIB + 55,
            MIB + 56,
            MIB + 63,
            MIB + 64,
            MIB + 65,
            2 * MIB - 1,
            2 * MIB,
            2 * MIB + 1,
            3 * MIB + 119,
        ] {
            for algorithm in Algorithm::ALL {
                agrees(algorithm, &blob(size), &[usize::MAX]);
            }
        }
    }

    #[test]
    fn longer_pieces_agree_with_the_plain_hashes() {
        agrees(Algorithm::Sha256, &blob(65 * MIB + 7), &[MIB, 1, MIB - 3]);
    }

    #[test]
    fn every_length_of_the_last_block_is_padded_right() {
        for size in 0..2 * BLOCK + 2 {
            let message = blob(size);
            let mut twins = Twins::new(BLOCK as u64);
            twins.update(&message);
            let (digest, pieces) = twins.finish();
            assert_eq!(digest, Algorithm::Sha256.digest(&message), "{size}");
            let expected: Vec<PieceHash> = message
                .chunks(BLOCK)
                .map(|piece| sha2::Sha256::digest(piece).into())
                .collect();
            assert_eq!(pieces.hashes(), expected, "{size}");
        }
    }

    /// A transfer that broke, or a file that was cut short while it was read.
    #[test]
    fn fewer_bytes_than_announced_give_the_hashes_of_those() {
        for size in [0, 5, MIB - 1, MIB, MIB + 5] {
            let cut = blob(size);
            let mut hasher = BlobHasher::new(Algorithm::Sha256, 8 * MIB as u64);
            hasher.update(&cut);
            let (digest, pieces) = hasher.finish();
            assert_eq!(digest, Algorithm::Sha256.digest(&cut), "{size}");
            assert_eq!(pieces.unwrap().hashes().len(), size.div_ceil(MIB), "{size}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn how_the_bytes_come_does_not_matter(
            blocks in 0_usize..3 * (MIB / BLOCK),
            odd in 0_usize..BLOCK,
            cuts in prop::collection::vec(
                prop_oneof![1_usize..3 * BLOCK, MIB - 70..MIB + 70, 1_usize..2 * MIB], 1..6),
        ) {
            agrees(Algorithm::Sha256, &blob(blocks * BLOCK + odd), &cuts);
        }

        #[test]
        fn any_pieces_of_whole_blocks_do(
            size in 0_usize..4000,
            blocks in 1_u64..8,
            cuts in prop::collection::vec(0_usize..300, 1..20),
        ) {
            let message = blob(size);
            let length = blocks * BLOCK as u64;
            let mut twins = Twins::new(length);
            let mut rest = &message[..];
            for cut in cuts {
                let (now, later) = rest.split_at(cut.min(rest.len()));
                twins.update(now);
                rest = later;
            }
            twins.update(rest);
            let (digest, pieces) = twins.finish();
            prop_assert_eq!(digest, Algorithm::Sha256.digest(&message));
            let expected: Vec<PieceHash> = message
                .chunks(usize::try_from(length).unwrap())
                .map(|piece| sha2::Sha256::digest(piece).into())
                .collect();
            prop_assert_eq!(pieces.hashes(), &expected[..]);
        }
    }
}
