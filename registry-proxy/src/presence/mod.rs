//! Which hosts were verified to hold which blob, looked up in two array reads.
//!
//! Mirrors of one tree hold nearly the same, so there are few distinct sets of hosts however many
//! blobs there are. [`Presence`] therefore keeps the distinct sets once, and for each blob the number
//! of its set: 4 bytes a blob. It is built by splitting the sets host by host, so the sets are never
//! compared with each other; when a host or a few have changed, the next table is made from it (`update`).

mod builder;
mod set;
mod update;

use oci_mirror::tree::catalog::BlobId;

pub use builder::Builder;
pub use set::{HostPosition, HostSet};
pub use update::BlobSet;

/// For each blob of a catalog, the hosts verified to hold it.
#[derive(Debug, Clone)]
pub struct Presence {
    class_of: Box<[u32]>,
    /// Row 0 is the empty set, for blobs nobody holds and numbers that are none.
    rows: Vec<HostSet>,
}

impl Presence {
    /// Nobody holds any of `blobs` blobs.
    pub fn empty(blobs: usize) -> Self {
        Builder::new(blobs, 0).finish()
    }

    /// The hosts verified for a blob.
    pub fn of(&self, blob: BlobId) -> &HostSet {
        let class = self.class_of.get(blob.index()).copied().unwrap_or_default();
        &self.rows[class as usize]
    }

    /// How many distinct sets of hosts there are.
    pub fn classes(&self) -> usize {
        self.rows.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_table_answers_for_any_blob() {
        assert!(Presence::empty(3).of(BlobId(2)).is_empty());
        assert!(Presence::empty(0).of(BlobId(7)).is_empty());
    }
}
