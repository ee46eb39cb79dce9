//! Blobs that a client has come back for after it was sent to a mirror: the crawler looks there first.

use oci_mirror::tree::catalog::BlobId;

use crate::network::HostId;

/// Pairs of a mirror and a blob. Nothing is kept yet.
#[derive(Debug, Default)]
pub struct Suspects;

impl Suspects {
    /// Remembers that a blob may be wrong at a mirror.
    pub fn note(&self, _host: HostId, _blob: BlobId) {}

    /// The blobs that may be wrong at a mirror, which are forgotten then.
    pub fn take(&self, _host: HostId) -> Vec<BlobId> {
        Vec::new()
    }

    /// The mirrors where some may be.
    pub fn hosts(&self) -> Vec<HostId> {
        Vec::new()
    }
}
