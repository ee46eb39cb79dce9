//! Listings: what a mirror holds, as its rsync daemon says.

use std::path::Path;

use oci_mirror::tree::Catalog;
use roaring::RoaringBitmap;
use tokio::time::Instant;

use super::guard::Policy;
use crate::network::BaseUrl;

/// What a listing says; by the numbers of the catalog.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Listing {
    /// Listed with the right length.
    pub right: RoaringBitmap,
    /// Listed with another.
    pub other: RoaringBitmap,
}

/// Lists what a mirror holds. Nothing is listed yet.
#[expect(clippy::unused_async, reason = "it will ask")]
pub async fn list(
    _program: &Path,
    _url: &BaseUrl,
    _policy: Policy,
    _catalog: &Catalog,
    _deadline: Instant,
) -> Result<Listing, Error> {
    Err(Error::None)
}

/// Why a listing tells nothing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is none.
    #[error("there is no listing")]
    None,
}
