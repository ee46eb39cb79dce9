//! What of a blob is asked for, and whether that tells of something that broke.
//!
//! containerd from 2.1 on may fetch a layer in chunks, several at a time. It asks for each of them, from the second
//! on, by an open range, `bytes=N-`, and closes the connection when it has its chunk
//! ([containerd#12476](https://github.com/containerd/containerd/issues/12476)). The rest of a transfer that broke
//! is asked for in the same way. What tells them apart is where they begin: chunks lie at equal
//! distances from where the first began, which is the beginning, or where an earlier transfer broke; and none of
//! them is asked for twice. The length of chunks is set in binary units, so all of them begin at the same place
//! within 64 KiB, where a transfer breaks only by chance. One that did is told by asking for the same once more.
//!
//! Several ranges at once tell of nothing, as podman asks for a blob in many such requests, unless they are the
//! very same ones again.

use oci_mirror::range::ByteRanges;

use super::ladder::{Before, Request};

/// All chunks that are fetched beside each other begin at the same place within so many bytes.
const STEP: u64 = 64 << 10;

/// What of a blob is asked for.
#[derive(Debug, Clone, Copy)]
pub enum Demand<'a> {
    /// The whole.
    Whole,
    /// All from this byte on, which is not the first.
    From(u64),
    /// Several parts.
    Parts(&'a ByteRanges),
}

/// What is remembered of what a client has asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Trace<'a> {
    /// It asked for all from this byte on.
    From(u64),
    /// It asked for something from this place within `STEP` on.
    Chunks(u64),
    /// It asked for these parts.
    Parts(&'a ByteRanges),
}

/// What a demand says by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sign {
    /// It is for the whole.
    Whole,
    /// Something broke.
    Broken,
    /// Something broke, unless the client is at this blob already.
    BrokenOrChunk,
    /// Nothing.
    Nothing,
}

impl<'a> Demand<'a> {
    /// What it says; `meets` leaves a trace, and tells whether it was there.
    pub(super) fn sign(self, meets: impl Fn(Trace<'a>) -> bool) -> Sign {
        match self {
            Self::Whole => Sign::Whole,
            Self::From(first) => {
                let phase = first % STEP;
                let is_repeated = meets(Trace::From(first));
                if !is_repeated && (phase == 0 || meets(Trace::Chunks(phase))) {
                    Sign::BrokenOrChunk
                } else {
                    Sign::Broken
                }
            }
            Self::Parts(ranges) if meets(Trace::Parts(ranges)) => Sign::Broken,
            Self::Parts(_) => Sign::Nothing,
        }
    }
}

impl Sign {
    /// How the client asks that was sent there before.
    pub(super) fn request(self, before: Option<Before>) -> Request {
        match (self, before) {
            (Self::Whole, _) => Request::Whole,
            (Self::Broken, _) | (Self::BrokenOrChunk, None) => Request::Rest,
            (Self::BrokenOrChunk, Some(_)) | (Self::Nothing, _) => Request::Beside,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use oci_mirror::tree::catalog::BlobId;

    use super::super::{Asked, Remembered};
    use super::*;
    use crate::network::HostId;
    use crate::select::rank::ClientKey;

    /// To which of three mirrors each request leads, 0 for here, and how many mirrors are suspected then.
    fn led(fields: &[&str]) -> (Vec<u32>, usize) {
        let remembered = Remembered::default();
        let client = Some(ClientKey::of([192, 0, 2, 1].into()));
        let listed = [1, 2, 3].map(HostId);
        let at = (Instant::now(), Duration::from_secs(120));
        let led = fields.iter().map(|field| {
            let ranges = ByteRanges::parse(&format!("bytes={field}"))
                .unwrap()
                .unwrap();
            let demand = match ranges.resumes_at() {
                _ if ranges.are_several() => Demand::Parts(&ranges),
                Some(first) => Demand::From(first),
                None => Demand::Whole,
            };
            let of = Some((BlobId(1), demand));
            let step = remembered.step(&Asked { client, of }, at, &listed, |host| *host);
            step.map_or(0, |at| listed[at].0)
        });
        (led.collect(), remembered.suspects.hosts().len())
    }

    #[test]
    fn chunks_go_where_the_first_of_them_went_and_what_breaks_goes_elsewhere() {
        // 8 MiB apart, in any order.
        let chunks = ["0-", "8388608-", "25165824-", "16777216-", "33554432-"];
        assert_eq!(led(&chunks), (vec![1; 5], 0));
        // One transfer breaks: it goes on elsewhere, and so do the chunks after it.
        let broken = ["0-", "8388608-", "9000001-", "17388609-", "25777217-"];
        assert_eq!(led(&broken), (vec![1, 1, 2, 2, 2], 1));
        // And breaks once more.
        let again = ["0-", "9000001-", "17388609-", "17400000-", "25788608-"];
        assert_eq!(led(&again), (vec![1, 2, 2, 0, 0], 2));
        // A mirror that answers a chunk with an error is asked for the same chunk.
        let refused = ["0-", "8388608-", "8388608-", "16777216-"];
        assert_eq!(led(&refused), (vec![1, 1, 2, 2], 1));
    }

    #[test]
    fn one_transfer_that_breaks_where_a_chunk_might_begin_is_known_at_its_second_try() {
        assert_eq!(led(&["0-", "65536-", "65536-"]), (vec![1, 1, 2], 1));
        // Nothing is known of it: it was somewhere before.
        assert_eq!(led(&["65536-", "131072-"]), (vec![2, 2], 1));
    }

    #[test]
    fn several_ranges_tell_of_nothing_unless_they_are_the_same_again() {
        let other = ["0-1,5-6", "7-8,9-10", "20-21,23-24"];
        assert_eq!(led(&other), (vec![1; 3], 0));
        let same = ["0-1,5-6", "7-8,9-10", "0-1,5-6", "20-21,23-24", "0-1,5-6"];
        assert_eq!(led(&same), (vec![1, 1, 2, 2, 0], 2));
    }
}
