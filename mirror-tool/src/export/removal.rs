//! Removal: what has left the source leaves the index of its repository.
//!
//! Only names go here. The content stays until `mirror-tool prune` finds that nothing has needed it for
//! long enough: mirrors and clients may still be in the middle of it. A source that could not be listed,
//! or lists nothing, removes nothing, and one that has lost most of its tags must be confirmed: a
//! registry in trouble looks just like that.
//!
//! What belongs to an image leaves with it, or when the source was asked what belongs to it and no longer
//! has it. Of an image that stays without having been looked at, because it was asked for by digest once
//! or the one that is to take its place is too young, all that belongs to it stays too.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use oci_mirror::descriptor::Descriptor;
use oci_mirror::digest::Digest;
use oci_mirror::manifest::Child;
use oci_mirror::reference::Tag;
use oci_mirror::tree::index::RepoIndex;
use oci_mirror::tree::on_disk::OnDisk;
use oci_mirror::tree::reach::Reach;
use oci_mirror::tree::{RepoDir, Tree, TreeWriter};

use super::error::Error;
use super::plan::Pruned;
use super::report::{ImageReport, Removed};
use super::select::{DigestTag, Subject};
use super::transfer::blocking;
use super::work::Kept;

/// Fewer may go without being confirmed, whatever part of the repository they are.
const FEW: usize = 10;

/// What was removed, and where that failed.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) removed: Vec<Removed>,
    pub(super) failures: Vec<ImageReport>,
}

/// Removes what is not wanted; without a writer, only says what would be removed.
pub(super) async fn run(
    pruned: HashMap<RepoDir, Pruned>,
    mut kept: HashMap<RepoDir, Kept>,
    accept_shrink: bool,
    writer: Option<&Arc<TreeWriter>>,
) -> Outcome {
    let mut outcome = Outcome::default();
    for (repo, pruned) in pruned {
        let kept = kept.remove(&repo).unwrap_or_default();
        let writer = writer.map(Arc::clone);
        let name = repo.name().clone();
        let removed =
            blocking(move || one(&repo, &pruned, &kept, accept_shrink, writer.as_deref()));
        match removed.await {
            Ok(removed) => outcome.removed.extend(removed),
            Err(error) => outcome.failures.push(ImageReport {
                repository: Some(name.to_string()),
                error: Some(error.chain()),
                ..ImageReport::failed(format!("what has left {name}"))
            }),
        }
    }
    outcome
}

fn one(
    repo: &RepoDir,
    pruned: &Pruned,
    kept: &Kept,
    accept_shrink: bool,
    writer: Option<&TreeWriter>,
) -> Result<Vec<Removed>, Error> {
    let Some(tree) = writer.map(TreeWriter::tree).or(pruned.held.tree()) else {
        return Ok(Vec::new());
    };
    let index = match tree.index(repo) {
        Err(error) if error.is_not_found() => return Ok(Vec::new()),
        index => index?,
    };
    let leaving = Leaving::of(&index, pruned, kept, tree)?;
    if !accept_shrink {
        leaving.confirm(repo, pruned.held.index(), tree)?;
    }
    let places: HashSet<_> = leaving.entries().map(place).collect();
    let removed = removed(repo, &index, &places, tree);
    if let Some(writer) = writer
        && !removed.is_empty()
    {
        writer.retain(repo, |entry| !places.contains(&place(entry)))?;
    }
    Ok(removed)
}

/// What leaves an index, with the bytes that nothing which stays in it needs, each counted once.
fn removed(
    repo: &RepoDir,
    index: &RepoIndex,
    leaving: &HashSet<(Option<&str>, Digest)>,
    tree: &Tree,
) -> Vec<Removed> {
    if leaving.is_empty() {
        return Vec::new();
    }
    let holdings = OnDisk { repo, tree };
    let mut rest = index.clone();
    let gone = rest.retain(|entry| !leaving.contains(&place(entry)));
    let needed = Reach::of(&rest, &holdings, tree).members;
    let mut counted: HashSet<Digest> = needed.into_keys().collect();
    let removed = gone.iter().map(|entry| {
        let mut alone = RepoIndex::default();
        alone.set(None, entry.clone());
        let own = Reach::of(&alone, &holdings, tree).members.into_iter();
        let unneeded = own.filter(|(digest, _)| counted.insert(*digest));
        Removed {
            repository: repo.name().to_string(),
            tag: entry.ref_name().map(str::to_owned),
            digest: entry.digest,
            bytes: unneeded.map(|(_, member)| member.descriptor.size).sum(),
        }
    });
    removed.collect()
}

/// What tells an entry of an index from the others.
fn place(entry: &Descriptor) -> (Option<&str>, Digest) {
    (entry.ref_name(), entry.digest)
}

/// The entries of an index that are to leave it.
#[derive(Default)]
struct Leaving<'a> {
    tags: Vec<&'a Descriptor>,
    /// What belongs to something that leaves, or to nothing.
    orphaned: Vec<&'a Descriptor>,
    /// What belongs to something that stays.
    withdrawn: Vec<&'a Descriptor>,
}

impl<'a> Leaving<'a> {
    fn of(index: &'a RepoIndex, pruned: &Pruned, kept: &Kept, tree: &Tree) -> Result<Self, Error> {
        let mut leaving = Self::default();
        let mut stays = Vec::new();
        let mut doubtful = Vec::new();
        for entry in index.entries() {
            if entry.ref_name().is_none() && kept.digests.contains(&entry.digest) {
                stays.push(entry);
                continue;
            }
            match name(entry, tree) {
                Name::Tag(tag) if pruned.tags.contains(&tag) => stays.push(entry),
                Name::Tag(_) => leaving.tags.push(entry),
                Name::Belongs(Belongs::Named(tag, _))
                    if pruned.tags.contains(&tag) || kept.tags.contains(&tag) =>
                {
                    stays.push(entry);
                }
                Name::Belongs(_) if kept.incomplete => stays.push(entry),
                Name::Belongs(belongs) => doubtful.push((entry, belongs)),
                Name::Other => stays.push(entry),
            }
        }
        let mut subjects = Subjects::default();
        // What stays keeps what belongs to it, and that keeps what belongs to it in turn.
        while !doubtful.is_empty() && !stays.is_empty() {
            for entry in stays.drain(..) {
                subjects.add(entry, kept, tree)?;
            }
            let kept =
                doubtful.extract_if(.., |(_, belongs)| subjects.asked(belongs) == Some(false));
            stays.extend(kept.map(|(entry, _)| entry));
        }
        for (entry, belongs) in doubtful {
            match subjects.asked(&belongs) {
                Some(_) => leaving.withdrawn.push(entry),
                None => leaving.orphaned.push(entry),
            }
        }
        Ok(leaving)
    }

    fn entries(&self) -> impl Iterator<Item = &'a Descriptor> {
        let belongings = self.orphaned.iter().chain(&self.withdrawn);
        self.tags.iter().chain(belongings).copied()
    }

    /// Fails if these are many, and more than half of what there was `before` the run. What the run has
    /// brought does not count, so that a dry run says the same.
    fn confirm(&self, repo: &RepoDir, before: &RepoIndex, tree: &Tree) -> Result<(), Error> {
        let kinds = [
            ("tags", self.tags.len(), Name::is_tag as fn(&Name) -> bool),
            (
                "signatures and the like",
                self.withdrawn.len(),
                Name::belongs,
            ),
        ];
        for (what, gone, is_one) in kinds {
            if gone < FEW {
                continue;
            }
            let names = before.entries().iter().map(|entry| name(entry, tree));
            let held = names.filter(is_one).count();
            if gone * 2 > held {
                return Err(Error::Shrunk {
                    name: repo.name().clone(),
                    what,
                    gone,
                    held,
                });
            }
        }
        Ok(())
    }
}

/// The manifests that stay, each with whether the source was asked what belongs to it.
#[derive(Default)]
struct Subjects {
    listed: HashMap<Digest, bool>,
    named: HashMap<Subject, bool>,
}

impl Subjects {
    /// Adds a manifest and those below it, as far as the tree has them.
    fn add(&mut self, entry: &Descriptor, kept: &Kept, tree: &Tree) -> Result<(), Error> {
        let mut pending = vec![entry.clone()];
        while let Some(entry) = pending.pop() {
            let digest = entry.digest;
            if self.listed.contains_key(&digest) {
                continue;
            }
            self.listed.insert(digest, kept.listed.contains(&digest));
            let named = kept.named.contains(&digest);
            self.named.insert(Subject::from(&digest), named);
            let manifest = match tree.manifest(&digest, &entry.media_type) {
                Err(error) if error.is_not_found() => continue,
                manifest => manifest?,
            };
            pending.extend(manifest.children().filter_map(|child| match child {
                Child::Manifest(child) => Some(child.clone()),
                Child::Blob(_) => None,
            }));
        }
        Ok(())
    }

    /// Whether the source was asked for this; `None` if what it belongs to does not stay.
    fn asked(&self, belongs: &Belongs) -> Option<bool> {
        match belongs {
            Belongs::Named(_, subject) => self.named.get(subject).copied(),
            Belongs::Refers(subject) => self.listed.get(subject).copied(),
        }
    }
}

enum Name {
    Tag(Tag),
    Belongs(Belongs),
    /// What another tool calls it, or what was asked for by digest.
    Other,
}

impl Name {
    fn is_tag(&self) -> bool {
        matches!(self, Self::Tag(_))
    }

    fn belongs(&self) -> bool {
        matches!(self, Self::Belongs(_))
    }
}

/// How something belongs to a manifest.
enum Belongs {
    /// By its tag.
    Named(Tag, Subject),
    /// By what it says itself.
    Refers(Digest),
}

fn name(entry: &Descriptor, tree: &Tree) -> Name {
    match entry.ref_name().map(str::parse::<Tag>) {
        Some(Ok(tag)) => match DigestTag::of(&tag) {
            Some(named) => Name::Belongs(Belongs::Named(tag, named.subject)),
            None => Name::Tag(tag),
        },
        Some(Err(_)) => Name::Other,
        // What cannot be read cannot be told from what was asked for by digest.
        None => match tree.manifest(&entry.digest, &entry.media_type) {
            Ok(manifest) => match manifest.subject() {
                Some(subject) => Name::Belongs(Belongs::Refers(subject.digest)),
                None => Name::Other,
            },
            Err(_) => Name::Other,
        },
    }
}
