//! The choice among what a source has: by name, and where that does not settle it, by age.

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::sync::Arc;

use futures_util::{StreamExt as _, stream};
use jiff::Timestamp;
use oci_mirror::descriptor::Descriptor;
use oci_mirror::digest::Digest;
use oci_mirror::reference::{ImageRef, Reference, Tag};
use regex::Regex;
use tracing::warn;

use super::Planner;
use super::held::Held;
use crate::export::age;
use crate::export::belongings::Repository;
use crate::export::error::Error;
use crate::export::layout::{Entry, Layout};
use crate::export::order::Order;
use crate::export::select::{DigestTag, Newest, Selection, by_time, newest};
use crate::export::source::{Origin, Wish};

/// An image of a source.
pub(super) struct Image {
    /// How it is asked for.
    pub(super) wish: Wish,
    /// Its tag in the tree if it will have one.
    pub(super) tag: Option<Tag>,
    /// What the source said it is, when it was asked for its age.
    pub(super) current: Option<Digest>,
}

/// What of a source is wanted.
#[derive(Default)]
pub(super) struct Found {
    pub(super) images: Vec<Image>,
    pub(super) orphans: Vec<Image>,
    /// What is wanted too but cannot be had.
    pub(super) failures: Vec<Error>,
    /// What may be wanted; since that could not be told, it is neither exported nor removed.
    pub(super) unsure: Vec<Tag>,
    /// Whether these are all there are, so that what is missing has left the source.
    pub(super) all: bool,
}

/// How old an image is cannot be read.
struct Unreadable;

impl Image {
    fn new(wish: Wish, tag: Option<Tag>) -> Self {
        Self {
            wish,
            tag,
            current: None,
        }
    }
}

impl Planner<'_> {
    pub(super) async fn of_registry(
        &self,
        image: &ImageRef,
        source: &Arc<Repository>,
        order: &Order,
        held: &Held,
    ) -> Result<Found, Error> {
        match &image.reference {
            Some(reference) => {
                let tag = match reference {
                    Reference::Tag(tag) => Some(tag.clone()),
                    Reference::Digest(_) => None,
                };
                let image = Image::new(Wish::Reference(reference.clone()), tag);
                Ok(Found {
                    images: vec![image],
                    ..Found::default()
                })
            }
            None => {
                let tags = source.tags().await?;
                let images = tags.iter().map(|tag| {
                    let wish = Wish::Reference(Reference::Tag(tag.clone()));
                    Image::new(wish, Some(tag.clone()))
                });
                let origin = Origin::Registry(Arc::clone(source));
                self.choose(images.collect(), &origin, order, held).await
            }
        }
    }

    /// What is wanted of a layout, and what would be but has no usable name. What has no name at all
    /// is wanted unless a pattern asks for certain ones, or it belongs to something that has.
    pub(super) async fn of_layout(
        &self,
        layout: &Arc<Layout>,
        entry: Option<&str>,
        order: &Order,
        held: &Held,
    ) -> Result<Found, Error> {
        let entries = layout.entries(entry)?;
        if entry.is_some() {
            let mut found = Found::default();
            for Entry { tag, descriptor } in entries {
                match tag {
                    Ok(tag) => found.images.push(Image::new(Wish::Entry(descriptor), tag)),
                    Err(name) => found.failures.push(layout.no_tag(name).into()),
                }
            }
            return Ok(found);
        }
        let mut images = Vec::new();
        let mut failures = Vec::new();
        for Entry { tag, descriptor } in entries {
            match tag {
                Ok(None) if !order.selection.wants_untagged() => {}
                Ok(tag) => images.push(Image::new(Wish::Entry(descriptor), tag)),
                Err(name) if !order.selection.wants(&name) => {}
                Err(name) => failures.push(layout.no_tag(name).into()),
            }
        }
        let origin = Origin::Layout(Arc::clone(layout));
        match self.choose(images, &origin, order, held).await {
            Ok(found) => Ok(Found { failures, ..found }),
            Err(Error::NoTags { .. }) if !failures.is_empty() => Ok(Found {
                failures,
                ..Found::default()
            }),
            Err(error) => Err(error),
        }
    }

    /// Of all that a source has, what is wanted.
    async fn choose(
        &self,
        offered: Vec<Image>,
        origin: &Origin,
        order: &Order,
        held: &Held,
    ) -> Result<Found, Error> {
        let selection = &order.selection;
        let count = offered.len();
        let mut found = Found {
            all: true,
            ..Found::default()
        };
        for image in offered {
            let tag = image.tag.as_ref();
            if tag.is_some_and(|tag| DigestTag::of(tag).is_some()) {
                // It comes with what it belongs to; by itself only if nothing but a pattern is asked for.
                if order.referrers && tag.is_some_and(|tag| wanted_alone(tag, selection)) {
                    found.orphans.push(image);
                }
            } else if tag.is_none_or(|tag| selection.wants(tag.as_str())) {
                found.images.push(image);
            }
        }
        if let Some(count) = selection.latest {
            let images = std::mem::take(&mut found.images);
            (found.images, found.unsure) = self.newest(count, images, origin, order, held).await;
        }
        if found.images.is_empty() && found.orphans.is_empty() {
            return Err(Error::NoTags { found: count });
        }
        Ok(found)
    }

    /// The newest of `images`, and the tags whose age could not be read; those without a tag do not count
    /// and stay.
    async fn newest(
        &self,
        count: NonZeroUsize,
        mut images: Vec<Image>,
        origin: &Origin,
        order: &Order,
        held: &Held,
    ) -> (Vec<Image>, Vec<Tag>) {
        let mut unsure = Vec::new();
        let tags = images
            .iter()
            .filter_map(|image| image.tag.clone())
            .collect();
        let kept: HashSet<Tag> = match newest(count, tags) {
            Newest::Known(tags) => tags.into_iter().collect(),
            Newest::NeedsTimes {
                sure,
                undated,
                open,
            } => {
                let undated: HashSet<Tag> = undated.into_iter().collect();
                let asked = images.iter_mut().filter_map(|image| {
                    let tag = image.tag.clone().filter(|tag| undated.contains(tag))?;
                    Some((image, tag))
                });
                let mut ages = stream::iter(asked)
                    .map(|(image, tag)| async move {
                        let held = held.target(Some(&tag), &image.wish);
                        let created = self.created(image, held, origin, order).await;
                        (tag, created)
                    })
                    .buffer_unordered(self.jobs.max(1));
                let mut times = Vec::new();
                while let Some((tag, created)) = ages.next().await {
                    if created.is_err() {
                        unsure.push(tag.clone());
                    }
                    times.push((tag, created.unwrap_or_default()));
                }
                sure.into_iter().chain(by_time(times, open)).collect()
            }
        };
        let keep = |image: &Image| image.tag.as_ref().is_none_or(|tag| kept.contains(tag));
        images.retain(keep);
        (images, unsure)
    }

    /// When an image was made. One that cannot be read counts as old: whether it is wanted at all depends
    /// on it, and the others must not. The error is told here.
    async fn created(
        &self,
        image: &mut Image,
        held: Option<&Descriptor>,
        origin: &Origin,
        order: &Order,
    ) -> Result<Option<Timestamp>, Unreadable> {
        let created = async {
            image.current = origin.current(&image.wish).await?;
            let root = match held.filter(|held| image.current == Some(held.digest)) {
                Some(held) => self.reading.manifest(held, origin).await?.0,
                None => Arc::new(origin.manifest(&image.wish).await?),
            };
            age::of_image(&root, origin, &order.platforms, self.reading).await
        };
        created.await.map_err(|error: Error| {
            let error = &error as &dyn std::error::Error;
            warn!(error, %origin, "cannot tell how old an image is");
            Unreadable
        })
    }
}

/// Whether a tag named after a digest is wanted although it belongs to no image that is: only when
/// nothing but a pattern was asked for, and it fits.
fn wanted_alone(tag: &Tag, selection: &Selection) -> bool {
    let matches = |pattern: &Regex| pattern.is_match(tag.as_str());
    selection.semver.is_none()
        && selection.latest.is_none()
        && selection.tags.as_ref().is_none_or(matches)
        && !selection.exclude_tags.as_ref().is_some_and(matches)
}
