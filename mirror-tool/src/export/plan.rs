//! Which images of the sources are wanted, and what they are called in the tree.

use std::collections::{HashMap, HashSet, hash_map};
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::{StreamExt as _, stream};
use jiff::Timestamp;
use oci_mirror::descriptor::Descriptor;
use oci_mirror::digest::Digest;
use oci_mirror::platform::Platform;
use oci_mirror::reference::{ImageRef, Reference, RegistryHost, RepoName, Tag};
use oci_mirror::registry::Registry;
use oci_mirror::registry::client;
use oci_mirror::registry::credentials::Credentials;
use oci_mirror::tree::index::RepoIndex;
use oci_mirror::tree::{RepoDir, Tree};
use regex::Regex;
use tracing::warn;

use super::age;
use super::belongings::Repository;
use super::error::Error;
use super::layout::{Entry, Layout};
use super::order::Order;
use super::select::{DigestTag, Newest, Selection, by_time, newest};
use super::source::{Origin, Source, Wish};
use super::transfer::{Transfers, blocking};

/// An image to be exported.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    /// Where it comes from, as a person would write it.
    pub(super) source: String,
    pub(super) origin: Origin,
    pub(super) wish: Wish,
    pub(super) repo: RepoDir,
    pub(super) tag: Option<Tag>,
    /// What it belongs to, when that brought it here.
    pub(super) subject: Option<Digest>,
    pub(super) order: Arc<Order>,
    /// What the tree's repository holds now.
    pub(super) held: Arc<Held>,
}

impl Wanted {
    pub(super) fn new(image: Image, offer: &Offer) -> Self {
        let (wish, tag) = image;
        Self {
            source: shown(&offer.origin, &wish, tag.as_ref()),
            origin: offer.origin.clone(),
            wish,
            repo: offer.repo.clone(),
            tag,
            subject: None,
            order: Arc::clone(&offer.order),
            held: Arc::clone(&offer.held),
        }
    }

    /// What belongs to `subject`, a manifest of this image.
    pub(super) fn belonging(&self, wish: Wish, tag: Option<Tag>, subject: Digest) -> Self {
        Self {
            source: shown(&self.origin, &wish, tag.as_ref()),
            wish,
            tag,
            subject: Some(subject),
            ..self.clone()
        }
    }

    /// Whether it is no image of its own.
    pub(super) fn is_belonging(&self) -> bool {
        let named = self.tag.as_ref().and_then(DigestTag::of);
        self.subject.is_some() || named.is_some()
    }

    /// Which images of an index are wanted; of what belongs to an image, all.
    pub(super) fn platforms(&self) -> &[Platform] {
        if self.is_belonging() {
            &[]
        } else {
            &self.order.platforms
        }
    }

    /// What the tree has under this tag, or digest, now.
    pub(super) fn present(&self) -> Option<&Descriptor> {
        self.held.target(self.tag.as_ref(), &self.wish)
    }
}

/// Something that cannot be exported, known before anything was fetched.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) source: String,
    pub(super) repo: Option<RepoName>,
    pub(super) tag: Option<Tag>,
    pub(super) error: Error,
}

/// What is to be done.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) wanted: Vec<Wanted>,
    /// Tags named after a digest, wanted although they may belong to no image that is.
    pub(super) orphans: Vec<Wanted>,
    pub(super) refused: Vec<Refused>,
    /// The repositories that are to hold nothing but what is wanted, with the tags that are.
    pub(super) pruned: HashMap<RepoDir, Pruned>,
    /// Tags that may be wanted.
    unsure: Vec<(RepoDir, Tag)>,
}

/// What is to stay in a repository.
#[derive(Debug)]
pub(super) struct Pruned {
    pub(super) tags: HashSet<Tag>,
    pub(super) held: Arc<Held>,
}

/// How an image is asked for, and its tag in the tree if it will have one.
pub(super) type Image = (Wish, Option<Tag>);

/// What a source offers, before the names in the tree are known to be free.
pub(super) struct Offer {
    order: Arc<Order>,
    origin: Origin,
    repo: RepoDir,
    held: Arc<Held>,
    found: Found,
}

/// What of a source is wanted.
#[derive(Default)]
struct Found {
    images: Vec<Image>,
    orphans: Vec<Image>,
    /// What is wanted too but cannot be had.
    failures: Vec<Error>,
    /// What may be wanted; since that could not be told, it is neither exported nor removed.
    unsure: Vec<Tag>,
    /// Whether these are all there are, so that what is missing has left the source.
    all: bool,
}

/// How old an image is cannot be read.
struct Unreadable;

/// Makes the plan of a run.
pub(super) struct Planner<'a> {
    pub(super) connection: &'a client::Options,
    /// Registries that are talked to in another way.
    pub(super) connections: &'a HashMap<RegistryHost, client::Options>,
    pub(super) credentials: Arc<Credentials>,
    /// `None` while there is no tree yet.
    pub(super) tree: Option<&'a Tree>,
    /// Reads what tells an image's age, and fetches nothing into the tree.
    pub(super) reading: &'a Transfers,
    pub(super) jobs: usize,
    pub(super) known: Known,
}

/// What the sources of a plan share.
#[derive(Default)]
pub(super) struct Known {
    registries: Mutex<HashMap<RegistryHost, Arc<Registry>>>,
    repositories: Mutex<HashMap<(RegistryHost, RepoName), Arc<Repository>>>,
    held: Mutex<HashMap<RepoDir, Arc<Held>>>,
}

impl Planner<'_> {
    /// Lists what is wanted of each source. One source that cannot be listed does not stop the rest.
    pub(super) async fn plan(&self, orders: &[Order]) -> Plan {
        let mut offers = stream::iter(orders.iter().cloned().map(Arc::new))
            .map(|order| async move {
                let offer = self.offer(&order).await;
                (order, offer)
            })
            .buffered(self.jobs.max(1));
        let mut names = Names::default();
        let mut plan = Plan::default();
        // Repositories of which it is not known what their sources have.
        let mut unlisted = HashSet::new();
        while let Some((order, offer)) = offers.next().await {
            match offer {
                Ok(offer) => plan.take(offer, &mut names),
                Err((repo, error)) => {
                    unlisted.extend(repo.clone());
                    plan.refused.push(Refused {
                        source: order.source.to_string(),
                        repo,
                        tag: None,
                        error,
                    });
                }
            }
        }
        plan.pruned
            .retain(|repo, _| !unlisted.contains(repo.name()));
        // Whatever else is wanted in a pruned repository is to stay too.
        let wanted = plan.wanted.iter().chain(&plan.orphans);
        let wanted = wanted.filter_map(|image| Some((&image.repo, image.tag.as_ref()?)));
        let unsure = plan.unsure.iter().map(|(repo, tag)| (repo, tag));
        for (repo, tag) in wanted.chain(unsure) {
            if let Some(pruned) = plan.pruned.get_mut(repo) {
                pruned.tags.insert(tag.clone());
            }
        }
        plan
    }

    /// What one source offers; the error comes with the repository it would have had.
    async fn offer(&self, order: &Arc<Order>) -> Result<Offer, (Option<RepoName>, Error)> {
        let name = match (&order.dest_name, &order.source) {
            (Some(name), _) => name.clone(),
            (None, Source::Registry(image)) => image.name.clone(),
            (None, Source::Layout { dir, .. }) => name_of(dir).ok_or((None, Error::NoName))?,
        };
        let offer = async {
            let repo = RepoDir::try_from(name.clone())?;
            let held = self.held(&repo)?;
            let (origin, found) = match &order.source {
                Source::Registry(image) => {
                    let source = self.repository(image)?;
                    let origin = Origin::Registry(Arc::clone(&source));
                    let found = self.of_registry(image, &source, order, &held).await?;
                    (origin, found)
                }
                Source::Layout { dir, entry } => {
                    let path = dir.clone();
                    let layout = Arc::new(blocking(move || Layout::read(&path)).await?);
                    let origin = Origin::Layout(Arc::clone(&layout));
                    let found = self
                        .of_layout(&layout, entry.as_deref(), order, &held)
                        .await?;
                    (origin, found)
                }
            };
            Ok(Offer {
                order: Arc::clone(order),
                origin,
                repo,
                held,
                found,
            })
        };
        offer.await.map_err(|error| (Some(name.clone()), error))
    }

    async fn of_registry(
        &self,
        image: &ImageRef,
        source: &Arc<Repository>,
        order: &Order,
        held: &Held,
    ) -> Result<Found, Error> {
        let wish = |reference: &Reference| Wish::Reference(reference.clone());
        match &image.reference {
            Some(reference @ Reference::Tag(tag)) => {
                Ok(Found::one((wish(reference), Some(tag.clone()))))
            }
            Some(reference @ Reference::Digest(_)) => Ok(Found::one((wish(reference), None))),
            None => {
                let tags = source.registry.tags(&source.name).await?;
                source.listed(&tags);
                let images = tags.into_iter().map(|tag| {
                    let wish = Wish::Reference(Reference::Tag(tag.clone()));
                    (wish, Some(tag))
                });
                let origin = Origin::Registry(Arc::clone(source));
                self.choose(images.collect(), &origin, order, held).await
            }
        }
    }

    /// What is wanted of a layout, and what would be but has no usable name. What has no name at all
    /// is wanted unless a pattern asks for certain ones, or it belongs to something that has.
    async fn of_layout(
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
                    Ok(tag) => found.images.push((Wish::Entry(descriptor), tag)),
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
                Ok(tag) => images.push((Wish::Entry(descriptor), tag)),
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
            let tag = image.1.as_ref();
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
        images: Vec<Image>,
        origin: &Origin,
        order: &Order,
        held: &Held,
    ) -> (Vec<Image>, Vec<Tag>) {
        let mut unsure = Vec::new();
        let tags = images.iter().filter_map(|(_, tag)| tag.clone()).collect();
        let kept: HashSet<Tag> = match newest(count, tags) {
            Newest::Known(tags) => tags.into_iter().collect(),
            Newest::NeedsTimes {
                sure,
                undated,
                open,
            } => {
                let undated: HashSet<Tag> = undated.into_iter().collect();
                let asked = images.iter().filter_map(|(wish, tag)| {
                    let tag = tag.as_ref().filter(|tag| undated.contains(*tag))?;
                    Some((wish, tag))
                });
                let mut ages = stream::iter(asked)
                    .map(|(wish, tag)| async move {
                        let held = held.target(Some(tag), wish);
                        (tag.clone(), self.created(wish, held, origin, order).await)
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
        let keep = |(_, tag): &Image| tag.as_ref().is_none_or(|tag| kept.contains(tag));
        (images.into_iter().filter(keep).collect(), unsure)
    }

    /// When an image was made. One that cannot be read counts as old: whether it is wanted at all depends
    /// on it, and the others must not. The error is told here.
    async fn created(
        &self,
        wish: &Wish,
        held: Option<&Descriptor>,
        origin: &Origin,
        order: &Order,
    ) -> Result<Option<Timestamp>, Unreadable> {
        let created = async {
            let current = origin.current(wish).await?;
            let root = match held.filter(|held| current == Some(held.digest)) {
                Some(held) => self.reading.manifest(held, origin).await?.0,
                None => Arc::new(origin.manifest(wish).await?),
            };
            age::of_image(&root, origin, &order.platforms, self.reading).await
        };
        created.await.map_err(|error: Error| {
            let error = &error as &dyn std::error::Error;
            warn!(error, %origin, "cannot tell how old an image is");
            Unreadable
        })
    }

    fn repository(&self, image: &ImageRef) -> Result<Arc<Repository>, Error> {
        let registry = self.registry(&image.registry)?;
        let key = (image.registry.clone(), image.name.clone());
        let make = || Arc::new(Repository::new(registry, image.name.clone()));
        Ok(Arc::clone(
            lock(&self.known.repositories)
                .entry(key)
                .or_insert_with(make),
        ))
    }

    fn registry(&self, host: &RegistryHost) -> Result<Arc<Registry>, Error> {
        let mut registries = lock(&self.known.registries);
        if let Some(registry) = registries.get(host) {
            return Ok(Arc::clone(registry));
        }
        let credentials = Arc::clone(&self.credentials);
        let connection = self.connections.get(host).unwrap_or(self.connection);
        let registry = Arc::new(Registry::new(host.clone(), connection, credentials)?);
        registries.insert(host.clone(), Arc::clone(&registry));
        Ok(registry)
    }

    fn held(&self, repo: &RepoDir) -> Result<Arc<Held>, Error> {
        let mut known = lock(&self.known.held);
        if let Some(held) = known.get(repo) {
            return Ok(Arc::clone(held));
        }
        let held = Arc::new(match self.tree.map(|tree| (tree, tree.index(repo))) {
            None => Held::default(),
            Some((tree, Ok(index))) => Held::new(index, tree.clone()),
            Some((_, Err(error))) if error.is_not_found() => Held::default(),
            Some((_, Err(error))) => return Err(error.into()),
        });
        known.insert(repo.clone(), Arc::clone(&held));
        Ok(held)
    }
}

impl Found {
    fn one(image: Image) -> Self {
        Self {
            images: vec![image],
            ..Self::default()
        }
    }
}

impl Plan {
    /// Takes over what an offer brings, as far as its names are free.
    fn take(&mut self, mut offer: Offer, names: &mut Names) {
        let found = std::mem::take(&mut offer.found);
        let refused = |tag: Option<Tag>, source: String, error| Refused {
            source,
            repo: Some(offer.repo.name().clone()),
            tag,
            error,
        };
        let failures = found.failures.into_iter();
        let source = offer.order.source.to_string();
        self.refused
            .extend(failures.map(|error| refused(None, source.clone(), error)));
        if offer.order.prune && found.all {
            self.pruned
                .entry(offer.repo.clone())
                .or_insert_with(|| Pruned {
                    tags: HashSet::new(),
                    held: Arc::clone(&offer.held),
                });
        }
        let unsure = found.unsure.into_iter();
        self.unsure
            .extend(unsure.map(|tag| (offer.repo.clone(), tag)));
        let images = found.images.into_iter().map(|image| (image, false));
        let orphans = found.orphans.into_iter().map(|image| (image, true));
        for (image, orphan) in images.chain(orphans) {
            let wanted = Wanted::new(image, &offer);
            match names.claim(&wanted) {
                Ok(true) if orphan => self.orphans.push(wanted),
                Ok(true) => self.wanted.push(wanted),
                // The same image asked for twice is one image.
                Ok(false) => {}
                Err(error) => {
                    self.refused.push(refused(wanted.tag, wanted.source, error));
                }
            }
        }
    }
}

/// Which tags of the tree are taken, and by what.
#[derive(Default)]
struct Names(HashMap<(RepoDir, Tag), (String, Option<Digest>)>);

impl Names {
    /// Takes the name of an image; `false` if the same image has it already.
    fn claim(&mut self, image: &Wanted) -> Result<bool, Error> {
        // What is kept by digest is the same whoever it comes from.
        let Some(tag) = image.tag.clone() else {
            return Ok(true);
        };
        let origin = image.origin.to_string();
        match self.0.entry((image.repo.clone(), tag)) {
            hash_map::Entry::Vacant(free) => {
                free.insert((origin, image.wish.digest()));
                Ok(true)
            }
            hash_map::Entry::Occupied(taken) => {
                let (other, digest) = taken.get();
                // Names of a layout that end in the same tag may be those of two images.
                if *other == origin && *digest == image.wish.digest() {
                    return Ok(false);
                }
                let (repo, tag) = taken.key();
                Err(Error::Collision {
                    name: format!("{}:{tag}", repo.name()),
                    other: other.clone(),
                })
            }
        }
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

/// An image of a source, as a person would write it.
fn shown(origin: &Origin, wish: &Wish, tag: Option<&Tag>) -> String {
    match (tag, wish) {
        (Some(tag), _) => format!("{origin}:{tag}"),
        (None, Wish::Reference(reference)) => format!("{origin}@{reference}"),
        (None, Wish::Entry(entry)) => format!("{origin}@{}", entry.digest),
    }
}

/// What a repository of the tree holds, ready to be looked up.
#[derive(Debug, Default)]
pub(super) struct Held {
    tagged: HashMap<Tag, Descriptor>,
    untagged: HashMap<Digest, Descriptor>,
    index: RepoIndex,
    tree: Option<Tree>,
}

impl Held {
    fn new(index: RepoIndex, tree: Tree) -> Self {
        let tagged = index
            .tags()
            .map(|(tag, entry)| (tag, entry.clone()))
            .collect();
        // A tag may move away from what is to stay by digest.
        let untagged = index
            .entries()
            .iter()
            .filter(|entry| entry.ref_name().is_none())
            .map(|entry| (entry.digest, entry.clone()))
            .collect();
        Self {
            tagged,
            untagged,
            index,
            tree: Some(tree),
        }
    }

    /// The tree it was read from; `None` if there is nothing yet.
    pub(super) fn tree(&self) -> Option<&Tree> {
        self.tree.as_ref()
    }

    /// The index as it was read.
    pub(super) fn index(&self) -> &RepoIndex {
        &self.index
    }

    fn target(&self, tag: Option<&Tag>, wish: &Wish) -> Option<&Descriptor> {
        match tag {
            Some(tag) => self.tagged.get(tag),
            None => self.untagged.get(&wish.digest()?),
        }
    }
}

/// A lock that a panicking holder left is still good: nothing is ever half entered.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A layout is called like its directory, if that is a repository name.
fn name_of(dir: &Path) -> Option<RepoName> {
    let resolved = dir.canonicalize();
    let dir = resolved.as_deref().unwrap_or(dir);
    dir.file_name()?.to_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layout_takes_the_name_of_its_directory() {
        assert_eq!(
            name_of(Path::new("/no/such/fedora"))
                .map(String::from)
                .as_deref(),
            Some("fedora")
        );
        assert_eq!(name_of(Path::new("/no/such/Fedora!")), None);
    }
}
