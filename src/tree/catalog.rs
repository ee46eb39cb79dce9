//! What a server keeps in memory of a tree: every tag, every manifest's type, every blob's size.
//!
//! A catalog is built whole from the indexes and manifests of a tree and never changes. Because a
//! manifest never changes either, the next catalog takes over what the previous one has parsed, so a
//! reload costs the new images only. Blobs are numbered densely: [`BlobId`] is the row of tables kept
//! beside a catalog, such as which mirror holds what.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;

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
    subject: Option<Digest>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Manifest,
    Blob,
}

impl ManifestEntry {
    /// The manifest this one is about, if any.
    pub fn subject(&self) -> Option<&Digest> {
        self.subject.as_ref()
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

    /// All the repository reaches, sorted by number.
    pub fn members(&self) -> &[BlobId] {
        &self.members
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
        let state = tree.state()?;
        let mut loader = Loader {
            tree,
            previous,
            blobs: Vec::new(),
            by_digest: HashMap::new(),
            budget: MANIFEST_BUDGET,
        };
        let mut repositories = BTreeMap::new();
        for repo in tree.repositories()? {
            let index = tree.index(&repo)?;
            let name = repo.name().clone();
            let repository = loader.repository(&name, &index)?;
            repositories.insert(name, repository);
        }
        Ok(Self {
            state,
            blobs: loader.blobs,
            by_digest: loader.by_digest,
            repositories,
        })
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

    /// The number of a blob that `repository` reaches.
    pub fn member(&self, repository: &Repository, digest: &Digest) -> Option<BlobId> {
        let id = self.id(digest)?;
        repository.members.binary_search(&id).ok().map(|_| id)
    }

    /// The manifest that `reference` names in `repository`.
    pub fn manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Option<(&Blob, &Arc<ManifestEntry>)> {
        let id = match reference {
            Reference::Tag(tag) => repository.tag(tag),
            Reference::Digest(digest) => self.member(repository, digest),
        }?;
        let blob = self.blob(id);
        blob.manifest.as_ref().map(|manifest| (blob, manifest))
    }
}

struct Loader<'a> {
    tree: &'a Tree,
    previous: Option<&'a Catalog>,
    blobs: Vec<Blob>,
    by_digest: HashMap<Digest, BlobId>,
    budget: u64,
}

impl Loader<'_> {
    fn repository(
        &mut self,
        name: &RepoName,
        index: &super::index::RepoIndex,
    ) -> Result<Repository, Error> {
        let mut members = HashSet::new();
        let mut absent = HashSet::new();
        for entry in index.entries() {
            if !self.reach(entry, 0, &mut members, &mut absent)? {
                return Err(Error::Incomplete {
                    name: name.clone(),
                    digest: entry.digest,
                });
            }
        }
        let mut tags = Vec::new();
        for (tag, entry) in index.tags() {
            tags.push((tag, self.by_digest[&entry.digest]));
        }
        tags.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        let mut members: Vec<BlobId> = members.into_iter().collect();
        members.sort_unstable();
        let mut absent: Vec<Digest> = absent.into_iter().collect();
        absent.sort_unstable();
        Ok(Repository {
            tags,
            members,
            absent,
        })
    }

    /// Enters a manifest and all below it; `false` if the tree does not hold it.
    fn reach(
        &mut self,
        entry: &Descriptor,
        depth: usize,
        members: &mut HashSet<BlobId>,
        absent: &mut HashSet<Digest>,
    ) -> Result<bool, Error> {
        if depth > MAX_DEPTH {
            return Ok(false);
        }
        let id = match self.by_digest.get(&entry.digest) {
            Some(id) if members.contains(id) => return Ok(true),
            Some(id) if self.blobs[id.index()].manifest.is_some() => *id,
            _ => match self.manifest(entry)? {
                Some(id) => id,
                None => return Ok(false),
            },
        };
        members.insert(id);
        let Some(manifest) = self.blobs[id.index()].manifest.clone() else {
            return Ok(true);
        };
        for (child, kind) in &manifest.children {
            match kind {
                Kind::Blob if child.media_type.is_distributable() => {
                    members.insert(self.enter(child.digest, child.size, None));
                }
                Kind::Blob => {
                    absent.insert(child.digest);
                }
                Kind::Manifest => {
                    if !self.reach(child, depth + 1, members, absent)? {
                        absent.insert(child.digest);
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
            subject: manifest.subject().map(|subject| subject.digest),
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
        let (blob, manifest) = catalog.manifest(a, &"1".parse().unwrap()).unwrap();
        assert_eq!(
            (blob.digest, &manifest.media_type),
            (one.digest, &MediaType::OCI_MANIFEST)
        );
        assert_eq!(catalog.blobs().len(), 5);
        assert_eq!(catalog.repositories_after("a").count(), 1);
    }

    #[test]
    fn a_reload_reuses_parsed_manifests_even_without_their_files() {
        let dir = tempfile::tempdir().unwrap();
        let writer = TreeWriter::open(dir.path()).unwrap();
        let one = publish(&writer, "a", "1", b"one");
        writer.finish(jiff::Timestamp::UNIX_EPOCH).unwrap();
        let first = Catalog::load(writer.tree(), None).unwrap();
        std::fs::remove_file(super::super::TreePath::Blob(one.digest).under(dir.path())).unwrap();
        assert!(Catalog::load(writer.tree(), Some(&first)).is_ok());
        assert!(matches!(
            Catalog::load(writer.tree(), None),
            Err(Error::Incomplete { .. })
        ));
    }
}
