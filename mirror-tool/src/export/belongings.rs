//! What belongs to a manifest: signatures, attestations, SBOMs and whatever else points at it.
//!
//! There are three ways to find them, and a source may use all at once: the [referrers API], the tag
//! `sha256-<hex>` that stands in for it where there is none, and cosign's tags `sha256-<hex>.sig`,
//! `.att` and `.sbom`. Tags are looked up in one list of tags per repository, since to ask for each of
//! four names per manifest would cost more requests than the images do.
//!
//! [referrers API]: https://github.com/opencontainers/distribution-spec/blob/main/spec.md#listing-referrers

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use oci_mirror::descriptor::Descriptor;
use oci_mirror::digest::Digest;
use oci_mirror::reference::{Reference, RepoName, Tag};
use oci_mirror::registry::Registry;
use tokio::sync::OnceCell;
use tracing::warn;

use super::error::Error;
use super::fetch::MAX_MANIFESTS;
use super::layout::Layout;
use super::select::{DigestTag, Subject};
use super::source::{Origin, Wish};
use super::transfer::blocking;

/// How many questions about one image are under way at most.
const PARALLEL: usize = 8;

/// Most things that belong to one image, directly or to one another.
pub(super) const MAX_BELONGINGS: usize = 2_000;

const TOO_MANY: Error = Error::TooManyBelongings {
    limit: MAX_BELONGINGS,
};

/// What cosign and the fallback of the referrers API append to `sha256-<hex>`.
const SUFFIXES: [&str; 4] = ["", ".sig", ".att", ".sbom"];

/// Something that belongs to a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Belonging {
    /// How it is asked for.
    pub(super) wish: Wish,
    /// Its tag, if it is found by that.
    pub(super) tag: Option<Tag>,
}

impl Belonging {
    pub(super) fn entry(descriptor: Descriptor) -> Self {
        Self {
            wish: Wish::Entry(descriptor),
            tag: None,
        }
    }

    fn tag(tag: &Tag) -> Self {
        Self {
            wish: Wish::Reference(Reference::Tag(tag.clone())),
            tag: Some(tag.clone()),
        }
    }
}

/// A repository of a registry, and what has been learned about it in this run.
#[derive(Debug)]
pub(crate) struct Repository {
    pub(super) registry: Arc<Registry>,
    pub(super) name: RepoName,
    tags: OnceCell<Arc<[Tag]>>,
    digest_tags: OnceCell<Option<DigestTags>>,
    referrers_api: OnceCell<bool>,
    /// What belongs to manifests, by them, with and without the API: tags share manifests.
    found: Mutex<HashMap<(Digest, bool), Answer>>,
}

/// What belongs to a manifest, once that is known.
type Answer = Arc<OnceCell<Vec<Belonging>>>;

/// The tags that are named after a digest, by it.
type DigestTags = HashMap<Subject, Vec<Tag>>;

impl Repository {
    pub(crate) fn new(registry: Arc<Registry>, name: RepoName) -> Self {
        Self {
            registry,
            name,
            tags: OnceCell::new(),
            digest_tags: OnceCell::new(),
            referrers_api: OnceCell::new(),
            found: Mutex::default(),
        }
    }

    /// All its tags, listed once in a run whatever number of sources choose among them.
    pub(super) async fn tags(&self) -> Result<Arc<[Tag]>, Error> {
        let list = async || Ok::<_, Error>(self.registry.tags(&self.name).await?.into());
        Ok(Arc::clone(self.tags.get_or_try_init(list).await?))
    }

    /// Whether there is a referrers API, as far as it was asked for in this run.
    pub(super) fn has_referrers_api(&self) -> Option<bool> {
        self.referrers_api.get().copied()
    }

    /// What belongs to `subject`, asked for once in a run; `api` as for [`find`].
    async fn find(&self, subject: &Digest, api: Option<bool>) -> Result<Vec<Belonging>, Error> {
        let known = {
            let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
            let asks = api != Some(false);
            Arc::clone(found.entry((*subject, asks)).or_default())
        };
        let found = known.get_or_try_init(|| self.ask(subject, api)).await?;
        Ok(found.clone())
    }

    async fn ask(&self, subject: &Digest, api: Option<bool>) -> Result<Vec<Belonging>, Error> {
        let mut listed = None;
        let api = match api {
            Some(known) => known,
            // Whoever asks first learns both: whether there is an API, and what it lists here.
            None => {
                let first = async || {
                    let answer = self.registry.referrers(&self.name, subject).await?;
                    let api = answer.is_some();
                    listed = answer;
                    Ok::<_, Error>(api)
                };
                *self.referrers_api.get_or_try_init(first).await?
            }
        };
        if api && listed.is_none() {
            listed = self.registry.referrers(&self.name, subject).await?;
        }
        let listed = listed.unwrap_or_default().into_iter();
        let mut found: Vec<_> = listed.map(Belonging::entry).collect();
        match self.digest_tags.get_or_init(|| self.list()).await {
            Some(tags) => {
                let named = tags.get(&Subject::from(subject)).into_iter().flatten();
                found.extend(named.map(Belonging::tag));
            }
            None => found.extend(self.guess(subject).await?),
        }
        match found.len() {
            0..=MAX_BELONGINGS => Ok(found),
            _ => Err(TOO_MANY),
        }
    }

    /// `None` if the registry does not list tags.
    async fn list(&self) -> Option<DigestTags> {
        match self.tags().await {
            Ok(tags) => Some(by_digest(tags.iter())),
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                warn!(error, repository = %self.name, "asking for signatures by name, since the tags are not listed");
                None
            }
        }
    }

    /// The tags a manifest's belongings would have, as far as they exist.
    async fn guess(&self, subject: &Digest) -> Result<Vec<Belonging>, Error> {
        let mut found = Vec::new();
        for suffix in SUFFIXES {
            let Ok(tag) = format!("{}{suffix}", Subject::from(subject)).parse::<Tag>() else {
                continue;
            };
            let reference = Reference::Tag(tag.clone());
            if self
                .registry
                .try_manifest(&self.name, &reference)
                .await?
                .is_some()
            {
                found.push(Belonging::tag(&tag));
            }
        }
        Ok(found)
    }
}

/// Everything that belongs to one of `subjects`, with what it belongs to; more than `most` are an error.
///
/// `api` is whether the source has a referrers API, when that is known from an earlier run.
pub(super) async fn find(
    subjects: &[Digest],
    origin: &Origin,
    api: Option<bool>,
    most: usize,
) -> Result<Vec<(Digest, Belonging)>, Error> {
    // As many as an image may have; here they may be those of many manifests.
    if subjects.len() > MAX_MANIFESTS {
        return Err(TOO_MANY);
    }
    let mut lists = stream::iter(subjects.iter().copied())
        .map(|subject| async move {
            let found = match origin {
                Origin::Registry(repository) => repository.find(&subject, api).await?,
                Origin::Layout(layout) => of_layout(layout, subject).await?,
            };
            Ok::<_, Error>((subject, found))
        })
        .buffered(PARALLEL);
    let mut all = Vec::new();
    while let Some((subject, found)) = lists.try_next().await? {
        if all.len() + found.len() > most {
            return Err(TOO_MANY);
        }
        all.extend(found.into_iter().map(|belonging| (subject, belonging)));
    }
    Ok(all)
}

async fn of_layout(layout: &Arc<Layout>, subject: Digest) -> Result<Vec<Belonging>, Error> {
    let layout = Arc::clone(layout);
    Ok(blocking(move || layout.belongings(&subject)).await)
}

/// Sorts out the tags that are named after a digest.
pub(super) fn by_digest<'a>(tags: impl IntoIterator<Item = &'a Tag>) -> DigestTags {
    let mut found = DigestTags::new();
    for tag in tags {
        if let Some(named) = DigestTag::of(tag) {
            found.entry(named.subject).or_default().push(tag.clone());
        }
    }
    found
}
