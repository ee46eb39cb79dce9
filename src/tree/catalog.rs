//! What a server keeps in memory of a tree: every tag, every manifest's type, every blob's size.
//!
//! A catalog is built whole from the indexes and manifests of a tree and never changes. Because a
//! manifest never changes either, the next catalog takes over what the previous one has parsed, so a
//! reload costs the new images only. Blobs are numbered densely: [`BlobId`] is the row of tables kept
//! beside a catalog, such as which mirror holds what.
//!
//! A repository can be asked by digest for all it links, until a prune takes the links away: a tag that
//! moves must not break the pulls that are under way. Tags and referrers are what its index says.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;

use super::linked;
use super::path::RepoDir;
use super::reader::{Error, Tree};
use super::state::State;
use crate::descriptor::Descriptor;
use crate::digest::Digest;
use crate::manifest::{Child, Manifest};
use crate::media_type::MediaType;
use crate::reference::{Reference, RepoName, Tag};

/// How many bytes of manifests a catalog keeps in memory; the rest are read from disk when asked for.
pub const MANIFEST_BUDGET: u64 = 256 << 20;

/// How deep indexes may be nested; the deepest seen in practice is two.
pub const MAX_DEPTH: usize = 8;

/// The number of a blob in one catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlobId(pub u32);

impl BlobId {
    /// The number as the index of a table.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A blob of the tree: a manifest, config or layer.
#[derive(Debug, Clone)]
pub struct Blob {
    /// Its name.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// What to know about it if it is a manifest.
    pub manifest: Option<Arc<ManifestEntry>>,
}

/// A manifest of the tree.
#[derive(Debug)]
pub struct ManifestEntry {
    /// The type under which it is served.
    pub media_type: MediaType,
    /// Its bytes, unless the budget was spent.
    pub bytes: Option<Bytes>,
    children: Vec<(Descriptor, Kind)>,
    referrer: Option<Referrer>,
}

/// What a manifest with a subject says of itself to those who ask for the subject's referrers.
#[derive(Debug)]
pub struct Referrer {
    /// The manifest it is about.
    pub subject: Digest,
    /// What it is for.
    pub artifact_type: Option<String>,
    /// Its annotations, which the list of referrers repeats.
    pub annotations: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Manifest,
    Blob,
}

impl ManifestEntry {
    /// What it refers to, if it is a signature, an SBOM or the like.
    pub fn referrer(&self) -> Option<&Referrer> {
        self.referrer.as_ref()
    }
}

/// One repository.
#[derive(Debug)]
pub struct Repository {
    /// Sorted by tag.
    tags: Vec<(Tag, BlobId)>,
    /// Sorted.
    members: Vec<BlobId>,
    /// Children of indexes that were left out of the tree on purpose, sorted.
    absent: Vec<Digest>,
    /// By subject; each list sorted.
    referrers: HashMap<Digest, Vec<BlobId>>,
    /// Manifests that this repository declares to be of another type than the repository in which they
    /// were first met. Documents without a `mediaType` of their own are what they are declared to be,
    /// and one repository must not have a say in what is declared in another.
    declared: HashMap<BlobId, MediaType>,
}

impl Repository {
    /// All tags with their targets, sorted by tag.
    pub fn tags(&self) -> &[(Tag, BlobId)] {
        &self.tags
    }

    /// What `tag` points at.
    pub fn tag(&self, tag: &Tag) -> Option<BlobId> {
        let position = self
            .tags
            .binary_search_by(|(candidate, _)| candidate.cmp(tag))
            .ok()?;
        Some(self.tags[position].1)
    }

    /// All the repository reaches or still links, sorted by number.
    pub fn members(&self) -> &[BlobId] {
        &self.members
    }

    /// The manifests whose subject is `digest`, whether that is itself in the tree or not.
    pub fn referrers(&self, digest: &Digest) -> &[BlobId] {
        self.referrers.get(digest).map_or(&[], Vec::as_slice)
    }

    /// The type under which this repository has a manifest.
    pub fn media_type<'a>(&'a self, id: BlobId, entry: &'a ManifestEntry) -> &'a MediaType {
        self.declared.get(&id).unwrap_or(&entry.media_type)
    }

    /// Whether an index of the repository lists `digest`, which the tree does not carry.
    pub fn leaves_out(&self, digest: &Digest) -> bool {
        self.absent.binary_search(digest).is_ok()
    }
}

/// The content of a tree, at one serial.
#[derive(Debug)]
pub struct Catalog {
    state: State,
    blobs: Vec<Blob>,
    by_digest: HashMap<Digest, BlobId>,
    repositories: BTreeMap<RepoName, Repository>,
}

impl Catalog {
    /// Reads the tree, taking over from `previous` every manifest it already knows.
    ///
    /// Fails if a tag points at a manifest that is missing or damaged: a catalog is either right or
    /// not made at all, and the caller keeps the previous one.
    pub fn load(tree: &Tree, previous: Option<&Self>) -> Result<Self, Error> {
        let mut loader = Loader::new(tree, previous);
        let catalog = loader.load()?;
        match loader.damage.into_iter().next() {
            Some((_, error)) => Err(error),
            None => catalog.complete(tree),
        }
    }

    /// Reads what can be read of a damaged tree; what cannot is left out and returned beside it.
    ///
    /// For a server that has no earlier catalog to keep: one damaged manifest must not take every
    /// other image down with it.
    pub fn salvage(tree: &Tree) -> Result<(Self, Vec<(RepoName, Error)>), Error> {
        let mut loader = Loader::new(tree, None);
        let catalog = loader.load()?;
        let damage = loader.damage;
        let catalog = if damage.is_empty() {
            catalog.complete(tree)?
        } else {
            catalog
        };
        Ok((catalog, damage))
    }

    /// Refuses a tree that has less than its own state says: one that is being synced or unmounted.
    ///
    /// More is fine: an export in progress shows its images before it writes the state.
    fn complete(self, tree: &Tree) -> Result<Self, Error> {
        let totals = &self.state.totals;
        let repositories = self.repositories.len() as u64;
        let tags: u64 = self
            .repositories
            .values()
            .map(|repository| repository.tags.len() as u64)
            .sum();
        if repositories < totals.repositories || tags < totals.tags {
            return Err(Error::Torn {
                root: tree.root().to_owned(),
                found: format!("{repositories} repositories with {tags} tags"),
                said: format!("{} with {}", totals.repositories, totals.tags),
            });
        }
        Ok(self)
    }

    /// The tree's state when it was read.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// All repositories, sorted by name.
    pub fn repositories(&self) -> impl Iterator<Item = (&RepoName, &Repository)> {
        self.repositories.iter()
    }

    /// The repositories whose names sort after `last`.
    pub fn repositories_after<'a>(&'a self, last: &'a str) -> impl Iterator<Item = &'a RepoName> {
        let bounds = (std::ops::Bound::Excluded(last), std::ops::Bound::Unbounded);
        self.repositories
            .range::<str, _>(bounds)
            .map(|(name, _)| name)
    }

    /// One repository.
    pub fn repository(&self, name: &RepoName) -> Option<&Repository> {
        self.repositories.get(name)
    }

    /// All blobs; the position of each is its [`BlobId`].
    pub fn blobs(&self) -> &[Blob] {
        &self.blobs
    }

    /// One blob.
    pub fn blob(&self, id: BlobId) -> &Blob {
        &self.blobs[id.index()]
    }

    /// The number of a blob, whichever repository it belongs to.
    pub fn id(&self, digest: &Digest) -> Option<BlobId> {
        self.by_digest.get(digest).copied()
    }

    /// The number of a blob that `repository` reaches or still links.
    pub fn member(&self, repository: &Repository, digest: &Digest) -> Option<BlobId> {
        let id = self.id(digest)?;
        repository.members.binary_search(&id).ok().map(|_| id)
    }

    /// The number of the manifest that `reference` names in `repository`.
    pub fn manifest_id(&self, repository: &Repository, reference: &Reference) -> Option<BlobId> {
        let id = match reference {
            Reference::Tag(tag) => repository.tag(tag),
            Reference::Digest(digest) => self.member(repository, digest),
        }?;
        self.blob(id).manifest.is_some().then_some(id)
    }
}

struct Loader<'a> {
    tree: &'a Tree,
    previous: Option<&'a Catalog>,
    blobs: Vec<Blob>,
    by_digest: HashMap<Digest, BlobId>,
    budget: u64,
    /// What could not be read, and where.
    damage: Vec<(RepoName, Error)>,
}

/// What one repository reaches, while it is being found out.
#[derive(Default)]
struct Reached {
    members: HashSet<BlobId>,
    absent: HashSet<Digest>,
    declared: HashMap<BlobId, MediaType>,
}

impl<'a> Loader<'a> {
    fn new(tree: &'a Tree, previous: Option<&'a Catalog>) -> Self {
        Self {
            tree,
            previous,
            blobs: Vec::new(),
            by_digest: HashMap::new(),
            budget: MANIFEST_BUDGET,
            damage: Vec::new(),
        }
    }

    /// Reads state and repositories; damage below that is collected.
    fn load(&mut self) -> Result<Catalog, Error> {
        let state = self.tree.state()?;
        let mut repositories = BTreeMap::new();
        for repo in self.tree.repositories()? {
            match self.tree.index(&repo) {
                Ok(index) => {
                    let repository = self.repository(&repo, &index);
                    repositories.insert(repo.name().clone(), repository);
                }
                Err(error) => self.damage.push((repo.name().clone(), error)),
            }
        }
        let blobs = std::mem::take(&mut self.blobs);
        let by_digest = std::mem::take(&mut self.by_digest);
        Ok(Catalog {
            state,
            blobs,
            by_digest,
            repositories,
        })
    }

    fn repository(&mut self, repo: &RepoDir, index: &super::index::RepoIndex) -> Repository {
        let (name, known_damage) = (repo.name(), self.damage.len());
        let mut reached = Reached::default();
        let mut sound = HashSet::new();
        for entry in index.entries() {
            match self.reach(entry, 0, &mut reached) {
                Ok(true) => {
                    sound.insert(entry.digest);
                }
                Ok(false) => {
                    let error = Error::Incomplete {
                        name: name.clone(),
                        digest: entry.digest,
                    };
                    self.damage.push((name.clone(), error));
                }
                Err(error) => self.damage.push((name.clone(), error)),
            }
        }
        let tags = index
            .tags()
            .filter(|(_, entry)| sound.contains(&entry.digest));
        let mut tags: Vec<(Tag, BlobId)> = tags
            .map(|(tag, entry)| (tag, self.by_digest[&entry.digest]))
            .collect();
        tags.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        let mut referrers: HashMap<Digest, Vec<BlobId>> = HashMap::new();
        for &id in &reached.members {
            let manifest = self.blobs[id.index()].manifest.as_ref();
            if let Some(referrer) = manifest.and_then(|manifest| manifest.referrer()) {
                referrers.entry(referrer.subject).or_default().push(id);
            }
        }
        for ids in referrers.values_mut() {
            ids.sort_unstable();
        }
        // What is damaged would come back as a blob.
        if self.damage.len() == known_damage {
            self.linger(repo, &mut reached);
        }
        let mut members: Vec<BlobId> = reached.members.into_iter().collect();
        members.sort_unstable();
        let mut absent: Vec<Digest> = reached.absent.into_iter().collect();
        absent.sort_unstable();
        Repository {
            tags,
            members,
            absent,
            referrers,
            declared: reached.declared,
        }
    }

    /// Enters what the repository still links although its index no longer leads there. Nobody relies on
    /// it being complete, so what cannot be read is passed over.
    fn linger(&mut self, repo: &RepoDir, reached: &mut Reached) {
        let digests = linked::digests(repo, self.tree).unwrap_or_default();
        for digest in digests {
            let known = self.by_digest.get(&digest).copied();
            reached
                .members
                .extend(known.or_else(|| self.lingering(digest)));
        }
    }

    fn lingering(&mut self, digest: Digest) -> Option<BlobId> {
        let known = self.previous.and_then(|previous| {
            let blob = previous.blob(previous.id(&digest)?);
            Some((blob.size, blob.manifest.clone()))
        });
        let (size, manifest) = match known {
            Some(known) => known,
            None => {
                let size = self.tree.blob_size(&digest).ok()??;
                let manifest = linked::manifest(&digest, self.tree);
                (
                    size,
                    manifest.map(|manifest| Arc::new(self.entry(&manifest))),
                )
            }
        };
        if manifest.as_ref().is_some_and(|it| it.bytes.is_some()) {
            self.budget = self.budget.saturating_sub(size);
        }
        Some(self.enter(digest, size, manifest))
    }

    /// Enters a manifest and all below it; `false` if the tree does not hold it.
    fn reach(
        &mut self,
        entry: &Descriptor,
        depth: usize,
        reached: &mut Reached,
    ) -> Result<bool, Error> {
        if depth > MAX_DEPTH {
            return Ok(false);
        }
        let id = match self.by_digest.get(&entry.digest) {
            Some(id) if self.blobs[id.index()].manifest.is_some() => *id,
            _ => match self.manifest(entry)? {
                Some(id) => id,
                None => return Ok(false),
            },
        };
        let Some(manifest) = self.blobs[id.index()].manifest.clone() else {
            return Ok(true);
        };
        if manifest.media_type != entry.media_type && entry.media_type.manifest_kind().is_some() {
            reached
                .declared
                .entry(id)
                .or_insert_with(|| entry.media_type.clone());
        }
        if !reached.members.insert(id) {
            return Ok(true);
        }
        for (child, kind) in &manifest.children {
            match kind {
                Kind::Blob if child.media_type.is_distributable() => {
                    let id = self.enter(child.digest, child.size, None);
                    reached.members.insert(id);
                }
                Kind::Blob => {
                    reached.absent.insert(child.digest);
                }
                Kind::Manifest => {
                    if !self.reach(child, depth + 1, reached)? {
                        reached.absent.insert(child.digest);
                    }
                }
            }
        }
        Ok(true)
    }

    /// Reads a manifest, unless the previous catalog has; `None` if the tree does not hold it.
    fn manifest(&mut self, entry: &Descriptor) -> Result<Option<BlobId>, Error> {
        let known = self.previous.and_then(|previous| {
            let blob = previous.blob(previous.id(&entry.digest)?);
            Some((blob.size, blob.manifest.clone()?))
        });
        let (size, manifest) = match known {
            Some(known) => known,
            None => match self.tree.manifest(&entry.digest, &entry.media_type) {
                Ok(manifest) => (manifest.size(), Arc::new(self.entry(&manifest))),
                Err(error) if error.is_not_found() => return Ok(None),
                Err(error) => return Err(error),
            },
        };
        if manifest.bytes.is_some() {
            self.budget = self.budget.saturating_sub(size);
        }
        Ok(Some(self.enter(entry.digest, size, Some(manifest))))
    }

    fn entry(&self, manifest: &Manifest) -> ManifestEntry {
        let children = manifest.children().map(|child| match child {
            Child::Manifest(descriptor) => (slim(descriptor), Kind::Manifest),
            Child::Blob(descriptor) => (slim(descriptor), Kind::Blob),
        });
        ManifestEntry {
            media_type: manifest.media_type().clone(),
            bytes: (manifest.size() <= self.budget).then(|| manifest.bytes().clone()),
            children: children.collect(),
            referrer: manifest.subject().map(|subject| Referrer {
                subject: subject.digest,
                artifact_type: manifest.artifact_type().map(str::to_owned),
                annotations: manifest.annotations().clone(),
            }),
        }
    }

    fn enter(&mut self, digest: Digest, size: u64, manifest: Option<Arc<ManifestEntry>>) -> BlobId {
        let next =
            BlobId(u32::try_from(self.blobs.len()).expect("a tree has fewer than 2^32 blobs"));
        let id = *self.by_digest.entry(digest).or_insert(next);
        if id == next {
            self.blobs.push(Blob {
                digest,
                size,
                manifest,
            });
        } else if manifest.is_some() {
            // The same bytes were first seen as a plain blob.
            self.blobs[id.index()].manifest = manifest;
        }
        id
    }
}

/// What loading needs of a descriptor.
fn slim(descriptor: &Descriptor) -> Descriptor {
    Descriptor::new(
        descriptor.media_type.clone(),
        descriptor.digest,
        descriptor.size,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Algorithm;
    use crate::tree::TreePath;
    use crate::tree::writer::{Image, TreeWriter};

    /// Publishes an image of one layer and returns its manifest's descriptor.
    fn publish(writer: &TreeWriter, name: &str, tag: &str, layer: &[u8]) -> Descriptor {
        let config = b"{}";
        let (config_digest, layer_digest) = (
            Algorithm::Sha256.digest(config),
            Algorithm::Sha256.digest(layer),
        );
        let manifest = format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{config_digest}","size":2}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{layer_digest}","size":{}}}]}}"#,
            layer.len()
        );
        let digest = Algorithm::Sha256.digest(manifest.as_bytes());
        writer.stage_bytes(config_digest, config).unwrap();
        writer.stage_bytes(layer_digest, layer).unwrap();
        writer.stage_bytes(digest, manifest.as_bytes()).unwrap();
        let root = Descriptor::new(MediaType::OCI_MANIFEST, digest, manifest.len() as u64);
        let image = Image {
            repo: name.parse().unwrap(),
            tag: Some(tag.parse().unwrap()),
            root: root.clone(),
            reach: vec![config_digest, layer_digest, digest],
            tag_referrers: None,
        };
        writer.publish(&[image]).unwrap();
        root
    }

    #[test]
    fn blobs_belong_to_the_repositories_that_reach_them() {
        let dir = tempfile::tempdir().unwrap();
        let writer = TreeWriter::open(dir.path()).unwrap();
        let one = publish(&writer, "a", "1", b"one");
        publish(&writer, "b", "1", b"two");
        writer.finish(jiff::Timestamp::UNIX_EPOCH).unwrap();
        let catalog = Catalog::load(writer.tree(), None).unwrap();
        let (a, b) = (&"a".parse().unwrap(), &"b".parse().unwrap());
        let (a, b) = (
            catalog.repository(a).unwrap(),
            catalog.repository(b).unwrap(),
        );
        let layer = Algorithm::Sha256.digest(b"one");
        assert!(catalog.member(a, &layer).is_some() && catalog.member(b, &layer).is_none());
        let id = catalog.manifest_id(a, &"1".parse().unwrap()).unwrap();
        let (blob, manifest) = (
            catalog.blob(id),
            catalog.blob(id).manifest.as_ref().unwrap(),
        );
        assert_eq!(
            (blob.digest, &manifest.media_type),
            (one.digest, &MediaType::OCI_MANIFEST)
        );
        assert_eq!(catalog.blobs().len(), 5);
        assert_eq!(catalog.repositories_after("a").count(), 1);
    }

    #[test]
    fn what_a_tag_has_left_is_known_by_digest_until_its_link_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let writer = TreeWriter::open(dir.path()).unwrap();
        let old = publish(&writer, "a", "1", b"old");
        let layer = Algorithm::Sha256.digest(b"old");
        publish(&writer, "b", "1", b"other");
        writer.finish(jiff::Timestamp::UNIX_EPOCH).unwrap();
        let before = Catalog::load(writer.tree(), None).unwrap();
        let new = publish(&writer, "a", "1", b"new");
        writer.finish(jiff::Timestamp::UNIX_EPOCH).unwrap();
        let holds = |catalog: &Catalog, name: &str, digest: Digest| {
            let repository = catalog.repository(&name.parse().unwrap()).unwrap();
            let manifest = catalog.manifest_id(repository, &Reference::Digest(digest));
            let tag = repository.tag(&"1".parse().unwrap()).unwrap();
            assert!(name != "a" || catalog.blob(tag).digest == new.digest);
            let as_blob = catalog.member(repository, &digest).is_some();
            (as_blob, manifest.is_some())
        };
        for previous in [None, Some(&before)] {
            let catalog = Catalog::load(writer.tree(), previous).unwrap();
            assert_eq!(holds(&catalog, "a", old.digest), (true, true));
            assert_eq!(holds(&catalog, "a", layer), (true, false));
            assert_eq!(holds(&catalog, "b", old.digest), (false, false));
        }
        let link = TreePath::Link("a".parse().unwrap(), old.digest);
        std::fs::remove_file(link.under(dir.path())).unwrap();
        let catalog = Catalog::load(writer.tree(), Some(&before)).unwrap();
        assert_eq!(holds(&catalog, "a", old.digest), (false, false));
    }

    #[test]
    fn what_another_repository_declares_does_not_matter() {
        let dir = tempfile::tempdir().unwrap();
        let writer = TreeWriter::open(dir.path()).unwrap();
        let root = publish(&writer, "victim", "1", b"layer");
        let reach = vec![root.digest];
        let root = Descriptor {
            media_type: MediaType::DOCKER_MANIFEST,
            ..root
        };
        let evil = Image {
            repo: "evil".parse().unwrap(),
            tag: "1".parse().ok(),
            root,
            reach,
            tag_referrers: None,
        };
        writer.publish(&[evil]).unwrap();
        writer.finish(jiff::Timestamp::UNIX_EPOCH).unwrap();
        let catalog = Catalog::load(writer.tree(), None).unwrap();
        for (name, expected) in [
            ("evil", MediaType::DOCKER_MANIFEST),
            ("victim", MediaType::OCI_MANIFEST),
        ] {
            let repository = catalog.repository(&name.parse().unwrap()).unwrap();
            let id = catalog
                .manifest_id(repository, &"1".parse().unwrap())
                .unwrap();
            let entry = catalog.blob(id).manifest.as_ref().unwrap();
            assert_eq!(*repository.media_type(id, entry), expected, "{name}");
        }
    }

    #[test]
    fn a_tree_with_less_than_its_state_says_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let writer = TreeWriter::open(dir.path()).unwrap();
        publish(&writer, "a", "1", b"one");
        publish(&writer, "b", "1", b"two");
        writer.finish(jiff::Timestamp::UNIX_EPOCH).unwrap();
        assert!(Catalog::load(writer.tree(), None).is_ok());
        std::fs::remove_dir_all(dir.path().join("repos/b")).unwrap();
        assert!(matches!(
            Catalog::load(writer.tree(), None),
            Err(Error::Torn { .. })
        ));
    }

    #[test]
    fn one_damaged_manifest_costs_only_its_tag() {
        let dir = tempfile::tempdir().unwrap();
        let writer = TreeWriter::open(dir.path()).unwrap();
        let bad = publish(&writer, "a", "1", b"one");
        publish(&writer, "a", "2", b"two");
        writer.finish(jiff::Timestamp::UNIX_EPOCH).unwrap();
        std::fs::write(TreePath::Blob(bad.digest).under(dir.path()), "nonsense").unwrap();
        assert!(matches!(
            Catalog::load(writer.tree(), None),
            Err(Error::Manifest { .. })
        ));
        let (catalog, damage) = Catalog::salvage(writer.tree()).unwrap();
        let repository = catalog.repository(&"a".parse().unwrap()).unwrap();
        let tags: Vec<_> = repository
            .tags()
            .iter()
            .map(|(tag, _)| tag.as_str())
            .collect();
        assert_eq!((tags, damage.len()), (vec!["2"], 1));
    }

    #[test]
    fn a_reload_reuses_parsed_manifests_even_without_their_files() {
        let dir = tempfile::tempdir().unwrap();
        let writer = TreeWriter::open(dir.path()).unwrap();
        let one = publish(&writer, "a", "1", b"one");
        writer.finish(jiff::Timestamp::UNIX_EPOCH).unwrap();
        let first = Catalog::load(writer.tree(), None).unwrap();
        std::fs::remove_file(TreePath::Blob(one.digest).under(dir.path())).unwrap();
        assert!(Catalog::load(writer.tree(), Some(&first)).is_ok());
        assert!(matches!(
            Catalog::load(writer.tree(), None),
            Err(Error::Incomplete { .. })
        ));
    }
}
