//! Blobs that a client has come back for after it was sent to a mirror: the crawler looks there first.
//!
//! A table of fixed size: the same pair is in it once, and one that comes to the place of another is all that
//! is remembered of the two. What clients say is a reason to look and no more.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use oci_mirror::tree::catalog::BlobId;

use crate::network::HostId;

/// Places, of 8 bytes.
const PLACES: usize = 1 << 10;

/// Pairs of a mirror and a blob. The number of no host is zero, so no pair is.
#[derive(Debug)]
pub struct Suspects {
    places: Box<[AtomicU64]>,
    secret: RandomState,
}

impl Default for Suspects {
    fn default() -> Self {
        Self {
            places: std::iter::repeat_with(AtomicU64::default)
                .take(PLACES)
                .collect(),
            secret: RandomState::new(),
        }
    }
}

impl Suspects {
    /// Remembers that a blob may be wrong at a mirror.
    pub fn note(&self, host: HostId, blob: BlobId) {
        let pair = u64::from(host.0) << 32 | u64::from(blob.0);
        let place = self.secret.hash_one(pair) % PLACES as u64;
        self.places[usize::try_from(place).unwrap_or_default()].store(pair, Relaxed);
    }

    /// The blobs that may be wrong at a mirror, which are forgotten then.
    pub fn take(&self, host: HostId) -> Vec<BlobId> {
        let take = |place: &AtomicU64| {
            let pair = place.load(Relaxed);
            let (of, blob) = parts(pair)?;
            let taken = of == host && place.compare_exchange(pair, 0, Relaxed, Relaxed).is_ok();
            taken.then_some(blob)
        };
        self.places.iter().filter_map(take).collect()
    }

    /// The mirrors where some may be.
    pub fn hosts(&self) -> Vec<HostId> {
        let pairs = self.places.iter().map(|place| place.load(Relaxed));
        let mut hosts: Vec<HostId> = pairs.filter_map(parts).map(|(host, _)| host).collect();
        hosts.sort_unstable();
        hosts.dedup();
        hosts
    }
}

fn parts(pair: u64) -> Option<(HostId, BlobId)> {
    let host = u32::try_from(pair >> 32).ok().filter(|host| *host > 0)?;
    let blob = u32::try_from(pair & u64::from(u32::MAX)).ok()?;
    Some((HostId(host), BlobId(blob)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_there_once_until_it_is_taken() {
        let suspects = Suspects::default();
        assert_eq!(suspects.hosts(), []);
        for _ in 0..3 {
            suspects.note(HostId(7), BlobId(0));
        }
        assert_eq!(suspects.take(HostId(8)), []);
        assert_eq!(suspects.hosts(), [HostId(7)]);
        assert_eq!(suspects.take(HostId(7)), [BlobId(0)]);
        assert_eq!(suspects.take(HostId(7)), []);
        assert_eq!(suspects.hosts(), []);
    }

    #[test]
    fn there_are_never_more_than_there_is_room_for() {
        let suspects = Suspects::default();
        for blob in 0..100_000 {
            suspects.note(HostId(blob % 3 + 1), BlobId(blob));
        }
        assert_eq!(suspects.hosts(), [1, 2, 3].map(HostId));
        let taken = (1..4).map(|host| suspects.take(HostId(host)).len());
        let taken: usize = taken.sum();
        assert!((PLACES / 2..=PLACES).contains(&taken), "{taken}");
    }
}
