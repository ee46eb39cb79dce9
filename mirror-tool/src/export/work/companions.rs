//! What belongs to an image, and becomes visible together with it.
//!
//! A registry may list without end, and in circles: how far from the image, how much in all and each
//! thing once, that is where it ends.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError};

use oci_mirror::digest::Digest;
use oci_mirror::reference::Tag;
use oci_mirror::tree::RepoDir;
use oci_mirror::tree::writer::Image;
use tokio::sync::OnceCell;

use super::{Found, Work};
use crate::export::belongings::{self, Belonging, MAX_BELONGINGS};
use crate::export::error::Error;
use crate::export::plan::Wanted;
use crate::export::report::ImageReport;
use crate::export::source::Origin;

/// How far from an image something may be and still belong to it: the signature of an SBOM is at 2.
const MAX_DISTANCE: usize = 4;

/// What belongs to an image, by its place in the tree: two tags of one image share it.
pub(super) type Shared = (RepoDir, Option<Tag>, Option<Digest>);

/// What becomes visible together with each image it belongs to.
#[derive(Debug, Clone)]
pub(super) struct Companion {
    image: Image,
    manifests: Vec<Digest>,
}

impl Work {
    /// Everything that belongs to an image, and to that again.
    pub(super) async fn belongings(&self, wanted: &Wanted, image: &Found) -> Vec<Found> {
        let mut all = Vec::new();
        // What the tree noted when it took an image from a source without the API saves a question per
        // repository, as long as there is nothing new to be fetched.
        let api = match &wanted.origin {
            Origin::Registry(source) if image.image.is_none() => {
                let noted = !wanted.is_mixed && wanted.held.index().has_tag_referrers();
                source.has_referrers_api().or(noted.then_some(false))
            }
            _ => None,
        };
        let mut subjects = image.manifests.clone();
        // A registry may say anything, that two manifests belong to each other too.
        let mut asked: HashSet<Digest> = subjects.iter().copied().collect();
        let mut met = HashSet::new();
        let mut left = MAX_BELONGINGS;
        for _ in 0..MAX_DISTANCE {
            let listed = match self.listed(wanted, &subjects, api, left).await {
                Ok(listed) => listed,
                Err(error) => {
                    self.missed(&wanted.repo);
                    let mut report = ImageReport::from(wanted);
                    report.source = format!("what belongs to {}", wanted.source);
                    report.tag = None;
                    let report = self.failure(report, &error);
                    all.push(Found::unusable(report));
                    break;
                }
            };
            left -= listed.len();
            subjects.clear();
            for (subject, Belonging { wish, tag }) in listed {
                if !met.insert((tag.clone(), wish.digest())) {
                    continue;
                }
                let found = self.belonging(wanted.belonging(wish, tag, subject)).await;
                let new = found.manifests.iter().filter(|found| asked.insert(**found));
                subjects.extend(new);
                all.push(found);
            }
            if subjects.is_empty() {
                break;
            }
        }
        all
    }

    /// Something that belongs to an image. Whoever meets it first fetches and reports it; whoever has it
    /// in common waits, since none of the images may be visible before it.
    async fn belonging(&self, wanted: Wanted) -> Found {
        self.keep(&wanted);
        let mut first = None;
        let fetch = async || {
            let found = self.fetch(&wanted).await.unwrap_or_else(|error| {
                self.missed(&wanted.repo);
                Found::unusable(self.failure(ImageReport::from(&wanted), &error))
            });
            let image = found.image.clone();
            let manifests = found.manifests.clone();
            first = Some(found);
            image.map(|image| Companion { image, manifests })
        };
        let shared = self.shared(&wanted);
        let companion = shared.get_or_init(fetch).await;
        first.unwrap_or_else(|| Found {
            report: None,
            image: companion.as_ref().map(|found| found.image.clone()),
            manifests: companion
                .as_ref()
                .map_or_else(Vec::new, |found| found.manifests.clone()),
        })
    }

    /// At most `most` things that belong to one of `subjects`; more are an error.
    async fn listed(
        &self,
        wanted: &Wanted,
        subjects: &[Digest],
        api: Option<bool>,
        most: usize,
    ) -> Result<Vec<(Digest, Belonging)>, Error> {
        let mut listed = belongings::find(subjects, &wanted.origin, api, most).await?;
        let by_api = match &wanted.origin {
            Origin::Registry(source) => api.or(source.has_referrers_api()) == Some(true),
            Origin::Layout(_) => true,
        };
        self.asked(&wanted.repo, subjects, by_api);
        let unwanted = wanted.order.selection.exclude_tags.as_ref();
        listed.retain(|(_, belonging)| {
            let named = belonging.tag.as_ref().zip(unwanted);
            !named.is_some_and(|(tag, pattern)| pattern.is_match(tag.as_str()))
        });
        Ok(listed)
    }

    fn shared(&self, wanted: &Wanted) -> Arc<OnceCell<Option<Companion>>> {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let place = (
            wanted.repo.clone(),
            wanted.tag.clone(),
            wanted.wish.digest(),
        );
        Arc::clone(shared.entry(place).or_default())
    }
}
