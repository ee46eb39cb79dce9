//! Which images of the sources are wanted, and what they are called in the tree.

use std::collections::{HashMap, hash_map};
use std::path::Path;
use std::sync::Arc;

use oci_mirror::descriptor::Descriptor;
use oci_mirror::digest::Digest;
use oci_mirror::reference::{ImageRef, Reference, RegistryHost, RepoName, Tag};
use oci_mirror::registry::Registry;
use oci_mirror::registry::client;
use oci_mirror::registry::credentials::Credentials;
use oci_mirror::tree::index::RepoIndex;
use oci_mirror::tree::{RepoDir, Tree};
use regex::Regex;

use super::error::Error;
use super::layout::{Entry, Layout};
use super::source::{Origin, Source, Wish};
use super::transfer::blocking;

/// Which tags are wanted of a source that names none.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only tags this matches somewhere.
    pub tags: Option<Regex>,
    /// No tag this matches somewhere.
    pub exclude_tags: Option<Regex>,
}

impl Filter {
    fn wants(&self, tag: &str) -> bool {
        let matches = |regex: &Regex| regex.is_match(tag);
        self.tags.as_ref().is_none_or(matches) && !self.exclude_tags.as_ref().is_some_and(matches)
    }
}

/// An image to be exported.
#[derive(Debug)]
pub(super) struct Wanted {
    /// Where it comes from, as a person would write it.
    pub(super) source: String,
    pub(super) origin: Origin,
    pub(super) wish: Wish,
    pub(super) repo: RepoDir,
    pub(super) tag: Option<Tag>,
    /// What the tree has under this tag, or digest, now.
    pub(super) present: Option<Descriptor>,
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
    pub(super) refused: Vec<Refused>,
}

/// How an image is asked for, and its tag in the tree if it will have one.
type Image = (Wish, Option<Tag>);

/// What a source offers, before the names in the tree are known to be free.
struct Offer {
    origin: Origin,
    repo: RepoDir,
    present: Present,
    images: Vec<Image>,
    /// What is wanted too but cannot be had.
    failures: Vec<Error>,
}

/// Makes the plan of a run.
pub(super) struct Planner<'a> {
    pub(super) dest_name: Option<&'a RepoName>,
    pub(super) filter: &'a Filter,
    pub(super) connection: &'a client::Options,
    pub(super) credentials: Arc<Credentials>,
    /// `None` while there is no tree yet.
    pub(super) tree: Option<&'a Tree>,
}

impl Planner<'_> {
    /// Lists what is wanted of each source. One source that cannot be listed does not stop the rest.
    pub(super) async fn plan(&self, sources: &[Source]) -> Plan {
        let mut registries = HashMap::new();
        let mut names = Names::default();
        let mut plan = Plan::default();
        for source in sources {
            let offer = match self.offer(source, &mut registries).await {
                Ok(offer) => offer,
                Err((repo, error)) => {
                    plan.refused.push(Refused {
                        source: source.to_string(),
                        repo,
                        tag: None,
                        error,
                    });
                    continue;
                }
            };
            plan.refused
                .extend(offer.failures.into_iter().map(|error| Refused {
                    source: source.to_string(),
                    repo: Some(offer.repo.name().clone()),
                    tag: None,
                    error,
                }));
            for (wish, tag) in offer.images {
                match names.claim(&offer.repo, tag.as_ref(), &offer.origin) {
                    Ok(true) => plan.wanted.push(Wanted {
                        source: shown(&offer.origin, &wish, tag.as_ref()),
                        origin: offer.origin.clone(),
                        repo: offer.repo.clone(),
                        present: offer.present.target(tag.as_ref(), &wish),
                        wish,
                        tag,
                    }),
                    // The same image asked for twice is one image.
                    Ok(false) => {}
                    Err(error) => plan.refused.push(Refused {
                        source: shown(&offer.origin, &wish, tag.as_ref()),
                        repo: Some(offer.repo.name().clone()),
                        tag,
                        error,
                    }),
                }
            }
        }
        plan
    }

    /// What one source offers; the error comes with the repository it would have had.
    async fn offer(
        &self,
        source: &Source,
        registries: &mut HashMap<RegistryHost, Arc<Registry>>,
    ) -> Result<Offer, (Option<RepoName>, Error)> {
        let name = match (self.dest_name, source) {
            (Some(name), _) => name.clone(),
            (None, Source::Registry(image)) => image.name.clone(),
            (None, Source::Layout { dir, .. }) => name_of(dir).ok_or((None, Error::NoName))?,
        };
        let offer = async {
            let repo = RepoDir::try_from(name.clone())?;
            let present = self.present(&repo)?;
            let (origin, images, failures) = match source {
                Source::Registry(image) => {
                    let registry = self.registry(&image.registry, registries)?;
                    let images = self.images_of_registry(image, &registry).await?;
                    let name = image.name.clone();
                    (Origin::Registry { registry, name }, images, Vec::new())
                }
                Source::Layout { dir, entry } => {
                    let path = dir.clone();
                    let layout = blocking(move || Layout::read(&path)).await?;
                    let (images, failures) = self.images_of_layout(&layout, entry.as_deref())?;
                    (Origin::Layout(Arc::new(layout)), images, failures)
                }
            };
            Ok(Offer {
                origin,
                repo,
                present,
                images,
                failures,
            })
        };
        offer.await.map_err(|error| (Some(name.clone()), error))
    }

    async fn images_of_registry(
        &self,
        image: &ImageRef,
        registry: &Registry,
    ) -> Result<Vec<Image>, Error> {
        match &image.reference {
            Some(reference @ Reference::Tag(tag)) => Ok(vec![(
                Wish::Reference(reference.clone()),
                Some(tag.clone()),
            )]),
            Some(reference @ Reference::Digest(_)) => {
                Ok(vec![(Wish::Reference(reference.clone()), None)])
            }
            None => {
                let tags = registry.tags(&image.name).await?;
                let reference = |tag: &Tag| Wish::Reference(Reference::Tag(tag.clone()));
                let found = tags.len();
                let images: Vec<_> = tags
                    .into_iter()
                    .filter(|tag| self.filter.wants(tag.as_str()))
                    .map(|tag| (reference(&tag), Some(tag)))
                    .collect();
                if images.is_empty() {
                    return Err(Error::NoTags { found });
                }
                Ok(images)
            }
        }
    }

    /// What is wanted of a layout, and what would be but has no usable name. What has no name at all
    /// is wanted unless a pattern asks for certain ones.
    fn images_of_layout(
        &self,
        layout: &Layout,
        entry: Option<&str>,
    ) -> Result<(Vec<Image>, Vec<Error>), Error> {
        let entries = layout.entries(entry)?;
        let found = entries.len();
        let mut images = Vec::new();
        let mut failures = Vec::new();
        for Entry { tag, descriptor } in entries {
            let name = match &tag {
                Ok(tag) => tag.as_ref().map(Tag::as_str),
                Err(name) => Some(name.as_str()),
            };
            let wanted = match (entry, name) {
                (Some(_), _) => true,
                (None, Some(name)) => self.filter.wants(name),
                (None, None) => self.filter.tags.is_none(),
            };
            match tag {
                _ if !wanted => {}
                Ok(tag) => images.push((Wish::Entry(descriptor), tag)),
                Err(name) => failures.push(layout.no_tag(name).into()),
            }
        }
        if images.is_empty() && failures.is_empty() {
            return Err(Error::NoTags { found });
        }
        Ok((images, failures))
    }

    fn registry(
        &self,
        host: &RegistryHost,
        registries: &mut HashMap<RegistryHost, Arc<Registry>>,
    ) -> Result<Arc<Registry>, Error> {
        if let Some(registry) = registries.get(host) {
            return Ok(Arc::clone(registry));
        }
        let credentials = Arc::clone(&self.credentials);
        let registry = Arc::new(Registry::new(host.clone(), self.connection, credentials)?);
        registries.insert(host.clone(), Arc::clone(&registry));
        Ok(registry)
    }

    fn present(&self, repo: &RepoDir) -> Result<Present, Error> {
        match self.tree.map(|tree| tree.index(repo)) {
            None => Ok(Present::default()),
            Some(Ok(index)) => Ok(Present::new(&index)),
            Some(Err(error)) if error.is_not_found() => Ok(Present::default()),
            Some(Err(error)) => Err(error.into()),
        }
    }
}

/// Which tags of the tree are taken, and by what.
#[derive(Default)]
struct Names(HashMap<(RepoDir, Tag), String>);

impl Names {
    /// Takes a name for an image of `origin`; `false` if it has it already.
    fn claim(&mut self, repo: &RepoDir, tag: Option<&Tag>, origin: &Origin) -> Result<bool, Error> {
        // What is kept by digest is the same whoever it comes from.
        let Some(tag) = tag else {
            return Ok(true);
        };
        let origin = origin.to_string();
        match self.0.entry((repo.clone(), tag.clone())) {
            hash_map::Entry::Vacant(free) => {
                free.insert(origin);
                Ok(true)
            }
            hash_map::Entry::Occupied(taken) if *taken.get() == origin => Ok(false),
            hash_map::Entry::Occupied(taken) => Err(Error::Collision {
                name: format!("{}:{tag}", repo.name()),
                other: taken.get().clone(),
            }),
        }
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

/// The entries of a repository of the tree, ready to be looked up.
#[derive(Default)]
struct Present {
    tagged: HashMap<Tag, Descriptor>,
    untagged: HashMap<Digest, Descriptor>,
}

impl Present {
    fn new(index: &RepoIndex) -> Self {
        let tagged = index
            .tags()
            .map(|(tag, entry)| (tag, entry.clone()))
            .collect();
        let untagged = index
            .entries()
            .iter()
            .map(|entry| (entry.digest, entry.clone()))
            .collect();
        Self { tagged, untagged }
    }

    fn target(&self, tag: Option<&Tag>, wish: &Wish) -> Option<Descriptor> {
        match tag {
            Some(tag) => self.tagged.get(tag).cloned(),
            None => self.untagged.get(&wish.digest()?).cloned(),
        }
    }
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
    fn a_tag_must_match_one_and_must_not_match_the_other() {
        let filter = Filter {
            tags: Some(Regex::new(r"^4\d").unwrap()),
            exclude_tags: Some(Regex::new("-rc").unwrap()),
        };
        for (tag, wanted) in [
            ("43", true),
            ("43-rc1", false),
            ("39", false),
            ("rawhide", false),
        ] {
            assert_eq!(filter.wants(tag), wanted, "{tag}");
        }
        assert!(Filter::default().wants("anything"));
    }

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
