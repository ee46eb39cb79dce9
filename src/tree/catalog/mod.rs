//! What a server keeps in memory of a tree: every tag, every manifest's type, every blob's size.
//!
//! A catalog never changes; the next one shares with it all that is the same, so a reload costs what is
//! new: repositories that have not changed are not read, manifests never again. Blobs are numbered:
//! [`BlobId`] is the row of tables kept beside a catalog, such as which mirror holds what, and these can
//! go on when the next catalog [goes on from](Catalog::goes_on_from) this one.
//!
//! A repository can be asked by digest for all it links, until a prune takes the links away: a tag that
//! moves must not break the pulls that are under way. Tags and referrers are what its index says.

mod blobs;
mod budget;
mod entry;
mod load;
mod mark;
mod repositories;
mod repository;
mod share;
mod tags;
#[cfg(test)]
mod tests;
mod unused;

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;

use self::load::Loader;
use self::mark::Mark;
use self::repositories::Repositories;
use super::reader::{Error, Tree};
use super::state::State;
use crate::digest::Digest;
use crate::reference::{Reference, RepoName};

pub use blobs::{Blob, BlobId, Blobs};
pub use entry::{ManifestEntry, Referrer};
pub use repository::Repository;

/// How many bytes of manifests a catalog keeps in memory; the rest are read from disk when asked for.
pub const MANIFEST_BUDGET: u64 = 256 << 20;

/// How deep indexes may be nested; the deepest seen in practice is two.
pub const MAX_DEPTH: usize = 8;

/// The content of a tree, at one serial.
#[derive(Debug)]
pub struct Catalog {
    state: State,
    blobs: Blobs,
    repositories: Repositories,
    manifest_bytes: u64,
    /// Repositories of which something could not be read.
    damaged: BTreeSet<RepoName>,
}

/// A repository, shared by all catalogs in which it is the same.
#[derive(Debug, Clone)]
struct Held {
    /// How to tell that it has not changed; `None` if it has to be read to be sure.
    mark: Option<Mark>,
    repository: Arc<Repository>,
}

impl Catalog {
    /// Reads the tree, taking over from `previous` all that is the same.
    ///
    /// Fails if a tag points at a manifest that is missing or damaged: a catalog is either right or
    /// not made at all, and the caller keeps the previous one. Where that was [salvaged](Self::salvage),
    /// the damage of then is no reason to stay with it: what is left out stays left out.
    pub fn load(tree: &Tree, previous: Option<&Self>) -> Result<Self, Error> {
        let (mut catalog, damage) = Loader::new(tree, previous, MANIFEST_BUDGET).load()?;
        catalog.damaged = damage.iter().map(|(name, _)| name.clone()).collect();
        let is_known =
            |name: &RepoName| previous.is_some_and(|previous| previous.damaged.contains(name));
        match damage.into_iter().find(|(name, _)| !is_known(name)) {
            Some((_, error)) => Err(error),
            None if catalog.damaged.is_empty() => catalog.complete(tree),
            None => Ok(catalog),
        }
    }

    /// Reads what can be read of a damaged tree; what cannot is left out and returned beside it.
    ///
    /// For a server that has no earlier catalog to keep: one damaged manifest must not take every
    /// other image down with it.
    pub fn salvage(tree: &Tree) -> Result<(Self, Vec<(RepoName, Error)>), Error> {
        let (mut catalog, damage) = Loader::new(tree, None, MANIFEST_BUDGET).load()?;
        catalog.damaged = damage.iter().map(|(name, _)| name.clone()).collect();
        let catalog = if damage.is_empty() {
            catalog.complete(tree)?
        } else {
            catalog
        };
        Ok((catalog, damage))
    }

    /// Whether the tree is for certain what it was when this catalog was made of it.
    ///
    /// Looks at every repository, but reads none. A mirror that is being synced may get its `state.json`
    /// before an index, so the state alone does not tell.
    pub fn is_current(&self, tree: &Tree) -> Result<bool, Error> {
        let (names, now) = (tree.repositories()?, Timestamp::now());
        let is_as_it_was = |repo| {
            let mark = Mark::of(repo, tree, now);
            let held = self.repositories.sorted().get(repo.name());
            mark.is_some() && held.is_some_and(|held| held.mark == mark)
        };
        Ok(tree.state()? == self.state
            && names.len() == self.repositories.sorted().len()
            && names.iter().all(is_as_it_was))
    }

    /// Whether the numbers of `earlier` that are still in use mean the same here.
    pub fn goes_on_from(&self, earlier: &Self) -> bool {
        self.blobs.goes_on_from(&earlier.blobs)
    }

    /// Whether the same is found here as in `earlier`, but for the state.
    pub fn holds_the_same_as(&self, earlier: &Self) -> bool {
        let here = self.repositories.sorted().iter();
        self.repositories.sorted().len() == earlier.repositories.sorted().len()
            && here.zip(earlier.repositories.sorted()).all(|(one, other)| {
                one.0 == other.0 && Arc::ptr_eq(&one.1.repository, &other.1.repository)
            })
    }

    /// How many bytes of manifests are in memory: at most [`MANIFEST_BUDGET`].
    pub fn manifest_bytes(&self) -> u64 {
        self.manifest_bytes
    }

    /// Refuses a tree that has less than its own state says: one that is being synced or unmounted.
    ///
    /// More is fine: an export in progress shows its images before it writes the state.
    fn complete(self, tree: &Tree) -> Result<Self, Error> {
        let totals = &self.state.totals;
        let repositories = self.repositories.sorted().len() as u64;
        let tags: u64 = self
            .repositories
            .sorted()
            .values()
            .map(|held| held.repository.tags().len() as u64)
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
        let held = self.repositories.sorted().iter();
        held.map(|(name, held)| (name, &*held.repository))
    }

    /// The repositories whose names sort after `last`.
    pub fn repositories_after<'a>(&'a self, last: &'a str) -> impl Iterator<Item = &'a RepoName> {
        let bounds = (std::ops::Bound::Excluded(last), std::ops::Bound::Unbounded);
        self.repositories
            .sorted()
            .range::<str, _>(bounds)
            .map(|(name, _)| name)
    }

    /// One repository.
    pub fn repository(&self, name: &RepoName) -> Option<&Repository> {
        self.repositories.get(name)
    }

    /// All blobs; the position of each is its [`BlobId`].
    pub fn blobs(&self) -> &Blobs {
        &self.blobs
    }

    /// One blob.
    pub fn blob(&self, id: BlobId) -> &Blob {
        &self.blobs[id.index()]
    }

    /// The number of a blob, whichever repository it belongs to.
    pub fn id(&self, digest: &Digest) -> Option<BlobId> {
        self.blobs.find(digest)
    }

    /// The number of a blob that `repository` reaches or still links.
    pub fn member(&self, repository: &Repository, digest: &Digest) -> Option<BlobId> {
        self.id(digest).filter(|id| repository.has(*id))
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
