//! Which manifests' bytes stay in memory.
//!
//! Each is asked for about as often as the next, as far as we know, and a byte costs the same in any of
//! them; so the small ones stay, and the largest goes first when there is no room.

use std::collections::BinaryHeap;

use super::blobs::{BlobId, Blobs};

/// The bytes of manifests in memory, and how many they may be.
#[derive(Debug)]
pub(super) struct Budget {
    limit: u64,
    kept: u64,
    /// The largest on top; made when there is no room for the first time, which is hardly ever.
    largest: Option<BinaryHeap<(u64, BlobId)>>,
}

impl Budget {
    /// With `kept` bytes in memory already.
    pub(super) fn new(limit: u64, kept: u64) -> Self {
        Self {
            limit,
            kept,
            largest: None,
        }
    }

    /// How many bytes are kept.
    pub(super) fn kept(&self) -> u64 {
        self.kept
    }

    /// Counts the bytes of a manifest that is now among `blobs`, and makes room.
    pub(super) fn add(&mut self, id: BlobId, size: u64, blobs: &mut Blobs) {
        self.kept += size;
        if let Some(largest) = &mut self.largest {
            largest.push((size, id));
        }
        if self.kept <= self.limit {
            return;
        }
        let largest = self.largest.get_or_insert_with(|| {
            let numbered = blobs.ids().zip(blobs.iter());
            let kept = numbered.filter_map(|(id, blob)| {
                let bytes = blob.manifest.as_ref()?.bytes.as_ref()?;
                Some((bytes.len() as u64, id))
            });
            kept.collect()
        });
        while self.kept > self.limit
            && let Some((_, id)) = largest.pop()
        {
            if let Some(bytes) = blobs.give_up_bytes(id) {
                self.kept = self.kept.saturating_sub(bytes.len() as u64);
            }
        }
    }
}
