//! How old an image is, by what it says of itself.

use std::sync::Arc;

use jiff::Timestamp;
use oci_mirror::manifest::{Content, Manifest};
use oci_mirror::platform::Platform;
use oci_mirror::tree::catalog::MAX_DEPTH;

use super::error::Error;
use super::fetch::choose;
use super::select::created;
use super::source::Origin;
use super::transfer::Transfers;

/// When an image was made; of an index, when the newest of its wanted images was. `None` if none says.
pub(super) async fn of_image(
    root: &Arc<Manifest>,
    origin: &Origin,
    platforms: &[Platform],
    transfers: &Transfers,
) -> Result<Option<Timestamp>, Error> {
    let mut newest = None;
    let mut pending = vec![(Arc::clone(root), 0)];
    while let Some((manifest, depth)) = pending.pop() {
        if let Some(said) = created::of_annotations(manifest.annotations()) {
            newest = newest.max(Some(said));
            continue;
        }
        match manifest.content() {
            Content::Image { config, .. } if config.size <= created::MAX_CONFIG as u64 => {
                let config = transfers.content(config, origin).await?;
                newest = newest.max(created::of_config(&config));
            }
            Content::Image { .. } => {}
            Content::Index { .. } if depth >= MAX_DEPTH => {}
            Content::Index { .. } => {
                for child in choose(&manifest, platforms)?.children {
                    let (child, _) = transfers.manifest(child, origin).await?;
                    pending.push((child, depth + 1));
                }
            }
        }
    }
    Ok(newest)
}
