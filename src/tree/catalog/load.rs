//! Building a catalog from a tree, and from the catalog before it.
//!
//! Repositories are read a group at a time, in three steps. All processors look at the repositories of
//! the group; those that are [as they were](super::mark) are taken over as they are. Then all processors
//! read the manifests nobody has read yet, level by level. Last, one walk from each index says what its
//! repository reaches. That walk alone decides what is complete and what is damaged: where the step
//! before it was of no help, it reads for itself.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::blobs::{BlobId, Blobs};
use super::budget::Budget;
use super::entry::{Draft, Listed};
use super::mark::Mark;
use super::repository::{Repository, runs};
use super::tags::Tags;
use super::{Catalog, Held, MAX_DEPTH, share};
use crate::digest::Digest;
use crate::media_type::MediaType;
use crate::reference::{RepoName, Tag};
use crate::tree::index::RepoIndex;
use crate::tree::linked;
use crate::tree::path::RepoDir;
use crate::tree::reader::{Error, Tree};

/// How many repositories are in memory as documents at once.
const GROUP: usize = 64;

/// How many manifests, and how many bytes of them, are read before they are entered.
const READ_AHEAD: (usize, u64) = (2048, 16 << 20);

/// A catalog in the making.
pub(super) struct Loader<'a> {
    tree: &'a Tree,
    previous: Option<&'a Catalog>,
    now: Timestamp,
    threads: usize,
    blobs: Blobs,
    budget: Budget,
    seen: Seen,
    /// Manifests that were looked for and are not in the tree.
    missing: HashSet<Digest>,
    /// What could not be read, and where.
    damage: Vec<(RepoName, Error)>,
}

/// A repository as it was found.
enum Found {
    AsItWas(Held),
    Read(Content),
}

/// The documents of a repository.
struct Content {
    mark: Option<Mark>,
    index: RepoIndex,
    links: Vec<Digest>,
}

/// What one repository reaches, while it is being found out.
#[derive(Default)]
struct Reached {
    members: Vec<BlobId>,
    absent: Vec<Digest>,
    declared: HashMap<BlobId, MediaType>,
}

impl<'a> Loader<'a> {
    /// With `limit` bytes of manifests to be kept in memory.
    pub(super) fn new(tree: &'a Tree, previous: Option<&'a Catalog>, limit: u64) -> Self {
        let threads = match previous {
            Some(_) => share::half_the_processors(),
            None => share::all_processors(),
        };
        Self {
            tree,
            previous,
            now: Timestamp::now(),
            threads,
            blobs: previous.map(|it| it.blobs.clone()).unwrap_or_default(),
            budget: Budget::new(limit, previous.map_or(0, |it| it.manifest_bytes)),
            seen: Seen::default(),
            missing: HashSet::new(),
            damage: Vec::new(),
        }
    }

    /// Reads state and repositories; damage below that is returned beside what could be read.
    pub(super) fn load(mut self) -> Result<(Catalog, Vec<(RepoName, Error)>), Error> {
        let state = self.tree.state()?;
        let mut repositories = BTreeMap::new();
        let names = self.tree.repositories()?;
        for group in names.chunks(GROUP) {
            let found = share::map(group, self.threads, |repo| self.look(repo));
            let read = found.iter().filter_map(|found| match found {
                Ok(Found::Read(content)) => Some(&content.index),
                _ => None,
            });
            self.read_ahead(read);
            for (repo, found) in group.iter().zip(found) {
                let held = match found {
                    Ok(Found::AsItWas(held)) => held,
                    Ok(Found::Read(content)) => self.repository(repo, &content),
                    Err(error) => {
                        self.damage.push((repo.name().clone(), error));
                        continue;
                    }
                };
                repositories.insert(repo.name().clone(), held);
            }
        }
        let mut catalog = Catalog {
            state,
            blobs: self.blobs,
            repositories: repositories.into(),
            manifest_bytes: self.budget.kept(),
            damaged: BTreeSet::new(),
        };
        catalog.retire_unused();
        Ok((catalog, self.damage))
    }

    /// Reads a repository, unless it is as it was.
    fn look(&self, repo: &RepoDir) -> Result<Found, Error> {
        // Before it is read: what changes meanwhile is then seen the next time.
        let mark = Mark::of(repo, self.tree, self.now);
        let known = self
            .previous
            .and_then(|it| it.repositories.sorted().get(repo.name()));
        if let Some(known) = known.filter(|known| mark.is_some() && known.mark == mark) {
            return Ok(Found::AsItWas(known.clone()));
        }
        let index = self.tree.index(repo)?;
        // Nobody relies on what only lingers, so what cannot be read of it is passed over.
        let (links, mark) = match linked::digests(repo, self.tree) {
            Ok(links) => (links, mark),
            Err(_) => (Vec::new(), None),
        };
        Ok(Found::Read(Content { mark, index, links }))
    }

    /// Reads the manifests that `indexes` lead to, as far as they can be read.
    fn read_ahead<'b>(&mut self, indexes: impl Iterator<Item = &'b RepoIndex>) {
        let entries = indexes.flat_map(RepoIndex::entries);
        let mut level: Vec<Listed> = entries
            .map(|entry| Listed {
                digest: entry.digest,
                size: entry.size,
                media_type: entry.media_type.clone(),
            })
            .collect();
        for _ in 0..=MAX_DEPTH {
            let mut wanted = HashSet::new();
            level.retain(|it| !self.is_known(&it.digest) && wanted.insert(it.digest));
            let mut next = Vec::new();
            let mut rest = level.as_slice();
            while !rest.is_empty() {
                let (some, others) = rest.split_at(first_few(rest));
                rest = others;
                let tree = self.tree;
                let read = share::map(some, self.threads, |it| {
                    let manifest = tree.manifest_within(&it.digest, &it.media_type, it.size);
                    manifest.map(|manifest| Draft::new(&manifest))
                });
                for (listed, read) in some.iter().zip(read) {
                    match read {
                        Ok(draft) => {
                            next.extend(draft.manifests.iter().cloned());
                            self.enter(listed.digest, draft);
                        }
                        Err(error) if error.is_not_found() => {
                            self.missing.insert(listed.digest);
                        }
                        // Said by the walk, which knows who refers to it.
                        Err(_) => {}
                    }
                }
            }
            level = next;
        }
    }

    fn is_known(&self, digest: &Digest) -> bool {
        let known = self.blobs.find(digest);
        known.is_some_and(|id| self.blobs[id.index()].manifest.is_some())
            || self.missing.contains(digest)
    }

    fn repository(&mut self, repo: &RepoDir, content: &Content) -> Held {
        let (name, known_damage) = (repo.name(), self.damage.len());
        self.seen.begin();
        let mut reached = Reached::default();
        let mut sound = HashSet::new();
        for entry in content.index.entries() {
            let entry = Listed {
                digest: entry.digest,
                size: entry.size,
                media_type: entry.media_type.clone(),
            };
            match self.reach(&entry, 0, &mut reached) {
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
        let tags = content.index.tags();
        let tags = tags.filter(|(_, entry)| sound.contains(&entry.digest));
        let tags: Vec<(Tag, BlobId)> = tags
            .filter_map(|(tag, entry)| Some((tag, self.blobs.find(&entry.digest)?)))
            .collect();
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
        let is_sound = self.damage.len() == known_damage;
        // What is damaged would come back as a blob.
        if is_sound {
            self.linger(&content.links, &mut reached);
        }
        reached.absent.sort_unstable();
        reached.absent.dedup();
        let repository = Repository {
            tags: Tags::new(tags),
            members: runs(reached.members.into_iter()),
            absent: reached.absent,
            referrers,
            declared: reached.declared,
        };
        let known = self
            .previous
            .and_then(|it| it.repositories.sorted().get(name));
        let known = known.map(|known| &known.repository);
        Held {
            // One that is damaged is looked at every time until it is not.
            mark: content.mark.clone().filter(|_| is_sound),
            repository: match known.filter(|known| ***known == repository) {
                Some(known) => Arc::clone(known),
                None => Arc::new(repository),
            },
        }
    }

    /// Enters what the repository still links although its index no longer leads there. Nobody relies on
    /// it being complete, so what cannot be read is passed over.
    fn linger(&mut self, links: &[Digest], reached: &mut Reached) {
        let mut unknown = Vec::new();
        for digest in links {
            match self.blobs.find(digest) {
                Some(id) => drop(self.add(id, reached)),
                None => unknown.push(*digest),
            }
        }
        for some in unknown.chunks(READ_AHEAD.0) {
            let tree = self.tree;
            let read = share::map(some, self.threads, |digest| {
                let size = tree.blob_size(digest).ok()??;
                let manifest = linked::manifest(digest, tree);
                // Hardly anybody asks for it, so its bytes are not kept.
                let draft = manifest.map(|manifest| Draft::new(&manifest).without_bytes());
                Some((size, draft))
            });
            for (digest, read) in some.iter().zip(read) {
                let id = match read {
                    Some((_, Some(draft))) => self.enter(*digest, draft),
                    Some((size, None)) => self.blobs.enter(*digest, size),
                    None => continue,
                };
                self.add(id, reached);
            }
        }
    }

    /// Makes a blob a member, and says whether it is a new one.
    fn add(&mut self, id: BlobId, reached: &mut Reached) -> bool {
        let is_new = self.seen.insert(id);
        if is_new {
            reached.members.push(id);
        }
        is_new
    }

    /// Adds a manifest and all below it; `false` if the tree does not hold it.
    fn reach(
        &mut self,
        entry: &Listed,
        depth: usize,
        reached: &mut Reached,
    ) -> Result<bool, Error> {
        if depth > MAX_DEPTH {
            return Ok(false);
        }
        let known = self.blobs.find(&entry.digest);
        let id = match known.filter(|id| self.blobs[id.index()].manifest.is_some()) {
            Some(id) => id,
            None => match self.manifest(entry)? {
                Some(id) => id,
                None => return Ok(false),
            },
        };
        let Some(manifest) = self.blobs[id.index()].manifest.clone() else {
            return Ok(true);
        };
        if manifest.media_type != entry.media_type && entry.media_type.manifest_kind().is_some() {
            let declared = reached.declared.entry(id);
            declared.or_insert_with(|| entry.media_type.clone());
        }
        if !self.add(id, reached) {
            return Ok(true);
        }
        for id in &manifest.blobs {
            self.add(*id, reached);
        }
        reached.absent.extend(&manifest.withheld);
        for child in &manifest.manifests {
            if !self.reach(child, depth + 1, reached)? {
                reached.absent.push(child.digest);
            }
        }
        Ok(true)
    }

    /// Reads one manifest; `None` if the tree does not hold it.
    fn manifest(&mut self, entry: &Listed) -> Result<Option<BlobId>, Error> {
        if self.missing.contains(&entry.digest) {
            return Ok(None);
        }
        match self.tree.manifest(&entry.digest, &entry.media_type) {
            Ok(manifest) => Ok(Some(self.enter(entry.digest, Draft::new(&manifest)))),
            Err(error) if error.is_not_found() => {
                self.missing.insert(entry.digest);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn enter(&mut self, digest: Digest, draft: Draft) -> BlobId {
        let size = draft.size;
        let id = self.blobs.enter(digest, size);
        let entry = draft.finish(&mut self.blobs);
        let is_kept = entry.bytes.is_some();
        self.blobs.describe(id, size, Arc::new(entry));
        if is_kept {
            self.budget.add(id, size, &mut self.blobs);
        }
        id
    }
}

/// How many of `listed` are read before they are entered: at least one.
fn first_few(listed: &[Listed]) -> usize {
    let (most, mut room) = READ_AHEAD;
    let few = listed.iter().take(most).take_while(|it| {
        let has_room = room > 0;
        room = room.saturating_sub(it.size);
        has_room
    });
    few.count()
}

/// Which blobs were met since the last [`begin`](Self::begin).
#[derive(Default)]
struct Seen {
    /// The turn in which each was met last.
    met: Vec<u32>,
    turn: u32,
}

impl Seen {
    /// Forgets all, which costs nothing: there are as many turns as repositories.
    fn begin(&mut self) {
        self.turn += 1;
    }

    /// Whether it was not met before.
    fn insert(&mut self, id: BlobId) -> bool {
        if id.index() >= self.met.len() {
            self.met.resize((id.index() + 1).next_power_of_two(), 0);
        }
        std::mem::replace(&mut self.met[id.index()], self.turn) != self.turn
    }
}
