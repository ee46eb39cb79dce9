//! Which images of the sources are wanted, and what they are called in the tree.

mod choose;
mod held;
mod names;
mod wanted;

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::{StreamExt as _, stream};
use oci_mirror::reference::ImageRef;
use oci_mirror::reference::{RegistryHost, RepoName, Tag};
use oci_mirror::registry::Registry;
use oci_mirror::registry::client;
use oci_mirror::registry::credentials::Credentials;
use oci_mirror::tree::{RepoDir, Tree};

use super::belongings::Repository;
use super::error::Error;
use super::layout::Layout;
use super::order::Order;
use super::source::{Origin, Source};
use super::transfer::{Transfers, blocking};
use choose::Found;
use held::Held;
use names::Names;

pub(super) use wanted::Wanted;

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
    /// Where the images of each repository come from.
    origins: HashMap<RepoDir, HashSet<String>>,
}

/// What is to stay in a repository.
#[derive(Debug)]
pub(super) struct Pruned {
    pub(super) tags: HashSet<Tag>,
    pub(super) held: Arc<Held>,
}

/// What a source offers, before the names in the tree are known to be free.
pub(super) struct Offer {
    order: Arc<Order>,
    origin: Origin,
    repo: RepoDir,
    held: Arc<Held>,
    found: Found,
}

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
        for image in plan.wanted.iter_mut().chain(&mut plan.orphans) {
            let origins = plan.origins.get(&image.repo).map(HashSet::len);
            image.is_mixed = origins.is_some_and(|origins| origins > 1);
        }
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
        self.origins
            .entry(offer.repo.clone())
            .or_default()
            .insert(offer.origin.to_string());
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
                // The same image asked for twice is one image; and what two sources have for the same
                // digest comes with the image, from the first that has it.
                Ok(false) => {}
                Err(_) if orphan => {}
                Err(error) => {
                    self.refused.push(refused(wanted.tag, wanted.source, error));
                }
            }
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
