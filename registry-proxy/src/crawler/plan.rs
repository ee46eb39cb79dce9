//! Which blobs of a host are looked at this time.
//!
//! Looking at all of them each time is what mirror admins complain of. So it is looked at what was never
//! told of, at what may have come, at what may be wrong, and at a part of the rest such that within the
//! time of the re-check every blob has had its turn. When that is follows from its digest and the name of
//! the host: nothing has to be remembered, and no two hosts are asked for the same blobs together.

use std::collections::BinaryHeap;
use std::time::Duration;

use jiff::Timestamp;
use oci_mirror::digest::Digest;
use oci_mirror::tree::Catalog;
use oci_mirror::tree::catalog::BlobId;
use roaring::RoaringBitmap;

use super::chance;
use super::visit::Depth;
use crate::db::Known;
use crate::network::HostName;

/// So many blobs held to be there are looked at even if it is nobody's turn: a mirror that has lost
/// everything at once must not keep its clients until it is.
const FEW: usize = 5;

/// So many missing blobs are asked for each time, and up to a hundredth of all.
const FEW_MISSING: u64 = 20;

/// What one blob takes of the bytes that may be read to verify it, at most: longer ones are not read whole.
const SAMPLE: u64 = 1 << 20;

/// What there is to decide from.
#[derive(Debug)]
pub struct Question<'a> {
    /// The host.
    pub host: &'a HostName,
    /// What it should carry is part of this.
    pub catalog: &'a Catalog,
    /// The numbers of what it should carry.
    pub carried: &'a RoaringBitmap,
    /// What is known of it.
    pub known: &'a Known,
    /// Whether its copy of the tree may be another one than last time.
    pub moved: bool,
    /// Blobs of it that may be wrong.
    pub suspects: &'a [BlobId],
    /// What time it is.
    pub now: Timestamp,
    /// Within this time every blob has its turn.
    pub recheck: Duration,
    /// How thorough to be.
    pub depth: Depth,
    /// How many bytes may be read.
    pub budget: u64,
}

/// What is done at a host.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    /// Blobs to look at, in the order of their numbers.
    pub look: RoaringBitmap,
    /// Blobs that were wrong or may be: their bytes are read before all others.
    pub first: Vec<BlobId>,
}

impl Plan {
    /// Decides.
    pub fn of(question: &Question<'_>) -> Self {
        let Question { carried, known, .. } = question;
        let mut first: Vec<BlobId> = (&known.damaged & *carried).iter().map(BlobId).collect();
        for suspect in question.suspects {
            if carried.contains(suspect.0) && !first.contains(suspect) {
                first.push(*suspect);
            }
        }
        let mut look = match question.depth {
            // All bytes are read, which tells more.
            Depth::Full | Depth::Check => RoaringBitmap::new(),
            Depth::Incremental => {
                question.untold() | question.missing() | question.verified(&first)
            }
        };
        for id in &first {
            look.remove(id.0);
        }
        Self { look, first }
    }
}

impl Question<'_> {
    /// What was never told of: all of it the first time, later as much as can be read, the newest first,
    /// and what has its turn.
    fn untold(&self) -> RoaringBitmap {
        let known = self.known;
        let untold = self.carried - &known.verified - &known.missing - &known.damaged;
        if known.finished_at.is_none() {
            return untold;
        }
        let mut room = self.budget;
        let mut chosen = RoaringBitmap::new();
        for number in untold.iter().rev() {
            let blob = self.catalog.blob(BlobId(number));
            let cost = blob.size.min(SAMPLE);
            if room >= cost {
                room -= cost;
                chosen.insert(number);
            } else if self.has_its_turn(&blob.digest) {
                chosen.insert(number);
            }
        }
        chosen
    }

    /// What was not there: if that is little, or the mirror has moved on since.
    fn missing(&self) -> RoaringBitmap {
        let missing = &self.known.missing & self.carried;
        if self.moved || missing.len() <= FEW_MISSING.max(self.carried.len() / 100) {
            return missing;
        }
        self.with_their_turn(&missing)
    }

    /// What is held to be there, and has its turn; if that is next to nothing, some of what comes next.
    fn verified(&self, first: &[BlobId]) -> RoaringBitmap {
        let verified = &self.known.verified & self.carried;
        let mut chosen = self.with_their_turn(&verified);
        let enough = FEW.saturating_sub(first.len());
        if chosen.len() < enough as u64 {
            let mut next = BinaryHeap::with_capacity(enough + 1);
            for number in &verified - &chosen {
                let digest = &self.catalog.blob(BlobId(number)).digest;
                next.push((self.time_to_its_turn(digest), number));
                if next.len() > enough {
                    next.pop();
                }
            }
            chosen.extend(next.into_iter().map(|(_, number)| number));
        }
        chosen
    }

    fn with_their_turn(&self, blobs: &RoaringBitmap) -> RoaringBitmap {
        let digest = |number: &u32| &self.catalog.blob(BlobId(*number)).digest;
        let due = |number: &u32| self.has_its_turn(digest(number));
        blobs.iter().filter(due).collect()
    }

    /// Whether the turn of a blob has come since the last crawl that went through.
    fn has_its_turn(&self, digest: &Digest) -> bool {
        let Some(from) = self.known.finished_at else {
            return false;
        };
        has_turn_in(
            phase(self.host, digest),
            self.recheck,
            (from.as_millisecond(), self.now.as_millisecond()),
        )
    }

    fn time_to_its_turn(&self, digest: &Digest) -> i64 {
        let length = length(self.recheck);
        let phase = phase(self.host, digest).cast_signed();
        (phase.rem_euclid(length) - self.now.as_millisecond()).rem_euclid(length)
    }
}

/// Where the turns of a blob at a host fall.
fn phase(host: &HostName, digest: &Digest) -> u64 {
    let bytes = digest.as_bytes().iter().take(8);
    let start = bytes.fold(0, |number, byte| number << 8 | u64::from(*byte));
    chance::mix(start ^ chance::of_text(host.as_str()))
}

/// Whether a turn falls after the first and not after the second of two times, in milliseconds.
fn has_turn_in(phase: u64, recheck: Duration, (from, now): (i64, i64)) -> bool {
    let length = length(recheck);
    let phase = phase.cast_signed().rem_euclid(length);
    let turns = |time: i64| (time - phase).div_euclid(length);
    // A clock that went back: it cannot be told whose turn it was.
    now < from || turns(now) > turns(from)
}

/// In milliseconds, and not nothing.
fn length(recheck: Duration) -> i64 {
    i64::try_from(recheck.as_millis())
        .unwrap_or(i64::MAX)
        .max(1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn however_a_time_is_cut_into_crawls_every_blob_has_one_turn_in_each_recheck(
            phase in any::<u64>(),
            recheck in 1_u64..1_000_000,
            start in -1_000_000_i64..1_000_000_000,
            cuts in prop::collection::vec(0.0_f64..1.0, 0..20),
        ) {
            let (length, recheck) = (recheck.cast_signed(), Duration::from_millis(recheck));
            #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "any times will do")]
            let mut times: Vec<i64> = cuts.iter().map(|cut| start + (cut * length as f64) as i64).collect();
            times.extend([start, start + length]);
            times.sort_unstable();
            let turns = times.windows(2).filter(|window| has_turn_in(phase, recheck, (window[0], window[1])));
            prop_assert_eq!(turns.count(), 1);
            prop_assert!(has_turn_in(phase, recheck, (start, start + length)));
            prop_assert!(!has_turn_in(phase, recheck, (start, start)));
        }
    }

    #[test]
    fn the_turns_of_blobs_spread_over_the_recheck_and_differ_from_host_to_host() {
        let day = Duration::from_secs(24 * 3600);
        let digests: Vec<Digest> = (0..10_000_u32)
            .map(|number| oci_mirror::digest::Algorithm::Sha256.digest(&number.to_be_bytes()))
            .collect();
        let due = |host: &str, hour: i64| -> Vec<bool> {
            let host: HostName = host.parse().unwrap();
            let window = (hour * 3_600_000, (hour + 1) * 3_600_000);
            digests
                .iter()
                .map(|digest| has_turn_in(phase(&host, digest), day, window))
                .collect()
        };
        let count = |due: &[bool]| due.iter().filter(|due| **due).count();
        for hour in 0..24 {
            let (one, other) = (due("a", hour), due("b", hour));
            assert!((330..500).contains(&count(&one)), "{hour}: {}", count(&one));
            let both = one
                .iter()
                .zip(&other)
                .filter(|(one, other)| **one && **other);
            assert!(both.count() < 60, "{hour}");
        }
    }
}
