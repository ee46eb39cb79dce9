//! How old an image is, by what it says of itself.

use std::collections::HashSet;
use std::sync::Arc;

use jiff::Timestamp;
use oci_mirror::descriptor::Descriptor;
use oci_mirror::manifest::{Content, Manifest};
use oci_mirror::platform::Platform;
use oci_mirror::tree::catalog::MAX_DEPTH;

use super::error::Error;
use super::fetch::{MAX_MANIFESTS, choose};
use super::select::created;
use super::source::Origin;
use super::transfer::Transfers;

/// When an image was made; of an index, when the newest of its wanted images was. `None` if none says.
///
/// Each manifest is looked at once, however often indexes list it, and one at a time, so that memory
/// holds no more than the list of those that are left.
pub(super) async fn of_image(
    root: &Arc<Manifest>,
    origin: &Origin,
    platforms: &[Platform],
    transfers: &Transfers,
) -> Result<Option<Timestamp>, Error> {
    let mut newest = None;
    let mut seen = HashSet::from([root.digest()]);
    let mut pending = Vec::new();
    let mut next = Some((Arc::clone(root), 0));
    while let Some((manifest, depth)) = next {
        newest = newest.max(said(&manifest, origin, transfers).await?);
        for child in undated(&manifest, depth, platforms)? {
            if seen.insert(child.digest) {
                pending.push((child.clone(), depth + 1));
            }
        }
        if seen.len() > MAX_MANIFESTS {
            return Err(Error::TooManyManifests {
                digest: root.digest(),
                limit: MAX_MANIFESTS,
            });
        }
        next = match pending.pop() {
            Some((child, depth)) => Some((transfers.manifest(&child, origin).await?.0, depth)),
            None => None,
        };
    }
    Ok(newest)
}

/// What a manifest says of its age, itself or by its config.
async fn said(
    manifest: &Manifest,
    origin: &Origin,
    transfers: &Transfers,
) -> Result<Option<Timestamp>, Error> {
    let annotated = created::of_annotations(manifest.annotations());
    match manifest.content() {
        Content::Image { config, .. }
            if annotated.is_none() && config.size <= created::MAX_CONFIG as u64 =>
        {
            let config = transfers.content(config, origin).await?;
            Ok(created::of_config(&config))
        }
        _ => Ok(annotated),
    }
}

/// The manifests that say when an index was made, if it does not say so itself.
fn undated<'a>(
    manifest: &'a Manifest,
    depth: usize,
    platforms: &[Platform],
) -> Result<Vec<&'a Descriptor>, Error> {
    if depth >= MAX_DEPTH || created::of_annotations(manifest.annotations()).is_some() {
        return Ok(Vec::new());
    }
    match choose(manifest, platforms) {
        // An index below the root may be all of other platforms.
        Err(Error::NoPlatform { .. }) if depth > 0 => Ok(Vec::new()),
        chosen => Ok(chosen?.children),
    }
}
