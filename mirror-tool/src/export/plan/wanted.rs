//! An image to be exported: where it comes from, and where in the tree it belongs.

use std::sync::Arc;

use oci_mirror::descriptor::Descriptor;
use oci_mirror::digest::Digest;
use oci_mirror::platform::Platform;
use oci_mirror::reference::Tag;
use oci_mirror::tree::RepoDir;

use super::Offer;
use super::choose::Image;
use super::held::Held;
use crate::export::order::Order;
use crate::export::select::DigestTag;
use crate::export::source::{Origin, Wish};

/// An image to be exported.
#[derive(Debug, Clone)]
pub(in crate::export) struct Wanted {
    /// Where it comes from, as a person would write it.
    pub(in crate::export) source: String,
    pub(in crate::export) origin: Origin,
    pub(in crate::export) wish: Wish,
    /// What the source said it is, if it was asked already.
    pub(in crate::export) current: Option<Digest>,
    pub(in crate::export) repo: RepoDir,
    pub(in crate::export) tag: Option<Tag>,
    /// Whether its repository in the tree has images of several origins, so that what is noted there of
    /// one does not hold for all.
    pub(in crate::export) is_mixed: bool,
    /// What it belongs to, when that brought it here.
    pub(in crate::export) subject: Option<Digest>,
    pub(in crate::export) order: Arc<Order>,
    /// What the tree's repository holds now.
    pub(in crate::export) held: Arc<Held>,
}

impl Wanted {
    pub(super) fn new(image: Image, offer: &Offer) -> Self {
        let Image { wish, tag, current } = image;
        Self {
            source: shown(&offer.origin, &wish, tag.as_ref()),
            origin: offer.origin.clone(),
            wish,
            current,
            repo: offer.repo.clone(),
            tag,
            is_mixed: false,
            subject: None,
            order: Arc::clone(&offer.order),
            held: Arc::clone(&offer.held),
        }
    }

    /// What belongs to `subject`, a manifest of this image.
    pub(in crate::export) fn belonging(
        &self,
        wish: Wish,
        tag: Option<Tag>,
        subject: Digest,
    ) -> Self {
        Self {
            source: shown(&self.origin, &wish, tag.as_ref()),
            wish,
            current: None,
            tag,
            subject: Some(subject),
            ..self.clone()
        }
    }

    /// Whether it is no image of its own.
    pub(in crate::export) fn is_belonging(&self) -> bool {
        let named = self.tag.as_ref().and_then(DigestTag::of);
        self.subject.is_some() || named.is_some()
    }

    /// Which images of an index are wanted; of what belongs to an image, all.
    pub(in crate::export) fn platforms(&self) -> &[Platform] {
        if self.is_belonging() {
            &[]
        } else {
            &self.order.platforms
        }
    }

    /// What the tree has under this tag, or digest, now.
    pub(in crate::export) fn present(&self) -> Option<&Descriptor> {
        self.held.target(self.tag.as_ref(), &self.wish)
    }
}

/// An image of a source, as a person would write it.
fn shown(origin: &Origin, wish: &Wish, tag: Option<&Tag>) -> String {
    match (tag, wish) {
        (Some(tag), _) => format!("{origin}:{tag}"),
        (None, Wish::Reference(reference)) => format!("{origin}@{reference}"),
        (None, Wish::Entry(entry)) => format!("{origin}@{}", entry.digest),
    }
}
