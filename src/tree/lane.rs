//! Two files hashed side by side, for whoever has many to hash.
//!
//! SHA-256 leaves half of a processor's hashing unit idle, since every round waits for the one before
//! (see [`blob_hash`](super::blob_hash)). Another file is as good a companion as a blob's own pieces:
//! its blocks are taken in turn with those of the first. Files have different lengths, so each is in a
//! [`Lane`] of its own, and whoever comes to the end of one starts the next in the same lane.

use std::slice;

use sha2::block_api::compress256;

use super::blob_hash::{BLOCK, INITIAL, State, output};
use crate::digest::Digest;

/// The SHA-256 of one file, in progress.
///
/// ```
/// use oci_mirror::digest::Algorithm;
/// use oci_mirror::tree::lane::Lane;
/// let (mut one, mut other) = (Lane::default(), Lane::default());
/// Lane::update_both(&mut one, b"long enough", &mut other, b"short");
/// assert_eq!(one.finish(), Algorithm::Sha256.digest(b"long enough"));
/// assert_eq!(other.finish(), Algorithm::Sha256.digest(b"short"));
/// ```
#[derive(Debug)]
pub struct Lane {
    state: State,
    /// Bytes that are in the state: whole blocks.
    done: u64,
    /// The beginning of the next block.
    rest: [u8; BLOCK],
    rest_len: usize,
}

impl Default for Lane {
    fn default() -> Self {
        Self {
            state: INITIAL,
            done: 0,
            rest: [0; BLOCK],
            rest_len: 0,
        }
    }
}

impl Lane {
    /// Adds the next bytes of one file alone.
    pub fn update(&mut self, bytes: &[u8]) {
        let (blocks, rest) = self.begin(bytes);
        compress256(&mut self.state, blocks);
        self.end(blocks, rest);
    }

    /// Adds the next bytes of two files.
    pub fn update_both(one: &mut Self, of_one: &[u8], other: &mut Self, of_other: &[u8]) {
        let (ones, rest_of_one) = one.begin(of_one);
        let (others, rest_of_other) = other.begin(of_other);
        let both = ones.len().min(others.len());
        for (block, companion) in ones[..both].iter().zip(&others[..both]) {
            compress256(&mut one.state, slice::from_ref(block));
            compress256(&mut other.state, slice::from_ref(companion));
        }
        compress256(&mut one.state, &ones[both..]);
        compress256(&mut other.state, &others[both..]);
        one.end(ones, rest_of_one);
        other.end(others, rest_of_other);
    }

    /// The digest of everything added.
    pub fn finish(self) -> Digest {
        let length = self.done + self.rest_len as u64;
        Digest::Sha256(output(self.state, &self.rest[..self.rest_len], length))
    }

    /// Completes the block that was begun; returns the whole ones that follow, and what is behind them.
    fn begin<'a>(&mut self, bytes: &'a [u8]) -> (&'a [[u8; BLOCK]], &'a [u8]) {
        if self.rest_len == 0 {
            return bytes.as_chunks();
        }
        let now = bytes.len().min(BLOCK - self.rest_len);
        self.rest[self.rest_len..][..now].copy_from_slice(&bytes[..now]);
        self.rest_len += now;
        if self.rest_len < BLOCK {
            return (&[], &[]);
        }
        compress256(&mut self.state, slice::from_ref(&self.rest));
        self.done += BLOCK as u64;
        self.rest_len = 0;
        bytes[now..].as_chunks()
    }

    /// Counts the blocks that are in the state now, and keeps the beginning of the next.
    fn end(&mut self, blocks: &[[u8; BLOCK]], rest: &[u8]) {
        self.done += (blocks.len() * BLOCK) as u64;
        if !rest.is_empty() {
            self.rest[..rest.len()].copy_from_slice(rest);
            self.rest_len = rest.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::digest::Algorithm;

    proptest! {
        #[test]
        fn both_files_hash_as_they_would_alone(
            one in proptest::collection::vec(any::<u8>(), 0..1000),
            other in proptest::collection::vec(any::<u8>(), 0..1000),
            cuts in proptest::collection::vec(0_usize..200, 1..20),
        ) {
            let (mut lane, mut next) = (Lane::default(), Lane::default());
            let (mut left, mut right) = (one.as_slice(), other.as_slice());
            for pair in cuts.windows(2) {
                let (a, b) = (pair[0].min(left.len()), pair[1].min(right.len()));
                Lane::update_both(&mut lane, &left[..a], &mut next, &right[..b]);
                (left, right) = (&left[a..], &right[b..]);
            }
            lane.update(left);
            next.update(right);
            prop_assert_eq!(lane.finish(), Algorithm::Sha256.digest(&one));
            prop_assert_eq!(next.finish(), Algorithm::Sha256.digest(&other));
        }
    }
}
