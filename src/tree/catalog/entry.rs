//! What a catalog knows of a manifest.
//!
//! There may be hundreds of thousands, so an entry has numbers in place of descriptors and one of four
//! constants as its type. The manifests an index lists are named by digest: those left out of the tree
//! have no number, and may come later.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::blobs::{BlobId, Blobs};
use crate::digest::Digest;
use crate::manifest::{Child, Manifest};
use crate::media_type::MediaType;

/// A manifest of the tree.
#[derive(Debug, Clone)]
pub struct ManifestEntry {
    /// The type under which it is served.
    pub media_type: MediaType,
    /// Its bytes, unless the budget was spent.
    pub bytes: Option<Bytes>,
    /// Its config and layers.
    pub(super) blobs: Box<[BlobId]>,
    /// Layers that may not be handed on.
    pub(super) withheld: Box<[Digest]>,
    /// What it lists, if it is an index.
    pub(super) manifests: Box<[Listed]>,
    referrer: Option<Box<Referrer>>,
}

/// What a manifest with a subject says of itself to those who ask for the subject's referrers.
#[derive(Debug, Clone)]
pub struct Referrer {
    /// The manifest it is about.
    pub subject: Digest,
    /// What it is for.
    pub artifact_type: Option<String>,
    /// Its annotations, which the list of referrers repeats.
    pub annotations: BTreeMap<String, String>,
}

/// A manifest that an index lists.
#[derive(Debug, Clone)]
pub(super) struct Listed {
    pub(super) digest: Digest,
    pub(super) size: u64,
    pub(super) media_type: MediaType,
}

impl ManifestEntry {
    /// What it refers to, if it is a signature, an SBOM or the like.
    pub fn referrer(&self) -> Option<&Referrer> {
        self.referrer.as_deref()
    }

    /// The same with other numbers.
    pub(super) fn renumbered(&self, number: impl Fn(BlobId) -> BlobId) -> Self {
        Self {
            blobs: self.blobs.iter().map(|id| number(*id)).collect(),
            ..self.clone()
        }
    }
}

/// A manifest as it was read, before its blobs have numbers.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) size: u64,
    pub(super) manifests: Box<[Listed]>,
    media_type: MediaType,
    bytes: Option<Bytes>,
    blobs: Vec<(Digest, u64)>,
    withheld: Box<[Digest]>,
    referrer: Option<Box<Referrer>>,
}

impl Draft {
    pub(super) fn new(manifest: &Manifest) -> Self {
        let (mut blobs, mut withheld, mut manifests) = (Vec::new(), Vec::new(), Vec::new());
        for child in manifest.children() {
            match child {
                Child::Blob(blob) if blob.media_type.is_distributable() => {
                    blobs.push((blob.digest, blob.size));
                }
                Child::Blob(blob) => withheld.push(blob.digest),
                Child::Manifest(manifest) => manifests.push(Listed {
                    digest: manifest.digest,
                    size: manifest.size,
                    media_type: interned(&manifest.media_type),
                }),
            }
        }
        let referrer = manifest.subject().map(|subject| {
            Box::new(Referrer {
                subject: subject.digest,
                artifact_type: manifest.artifact_type().map(str::to_owned),
                annotations: manifest.annotations().clone(),
            })
        });
        Self {
            size: manifest.size(),
            manifests: manifests.into(),
            media_type: interned(manifest.media_type()),
            bytes: Some(manifest.bytes().clone()),
            blobs,
            withheld: withheld.into(),
            referrer,
        }
    }

    /// Without its bytes, which are to be read when they are asked for.
    pub(super) fn without_bytes(self) -> Self {
        Self {
            bytes: None,
            ..self
        }
    }

    /// Enters its blobs.
    pub(super) fn finish(self, blobs: &mut Blobs) -> ManifestEntry {
        let entered = self.blobs.iter();
        ManifestEntry {
            media_type: self.media_type,
            bytes: self.bytes,
            blobs: entered
                .map(|(digest, size)| blobs.enter(*digest, *size))
                .collect(),
            withheld: self.withheld,
            manifests: self.manifests,
            referrer: self.referrer,
        }
    }
}

/// The constant of that name if there is one, which takes no memory of its own.
fn interned(media_type: &MediaType) -> MediaType {
    let known = MediaType::MANIFESTS.into_iter();
    let mut same = known.filter(|known| known == media_type);
    same.next().unwrap_or_else(|| media_type.clone())
}
