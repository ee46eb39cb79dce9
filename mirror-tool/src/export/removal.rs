//! Removal: what has left the source leaves the index of its repository.
//!
//! Only names go here. The content stays until `mirror-tool prune` finds that nothing has needed it for
//! long enough: mirrors and clients may still be in the middle of it. A source that could not be listed,
//! or lists nothing, removes nothing, and one that has lost most of its tags must be confirmed: a
//! registry in trouble looks just like that.

use std::collections::HashMap;
use std::sync::Arc;

use oci_mirror::descriptor::Descriptor;
use oci_mirror::digest::Digest;
use oci_mirror::reference::Tag;
use oci_mirror::tree::{RepoDir, TreeWriter};

use super::error::Error;
use super::plan::Pruned;
use super::report::{ImageReport, Removed};
use super::select::DigestTag;
use super::transfer::blocking;
use super::work::Kept;

/// So few tags may go without being confirmed, whatever part of the repository they are.
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
            Ok(removed) => outcome.removed.extend(removed.iter().map(|entry| Removed {
                repository: name.to_string(),
                tag: entry.ref_name().map(str::to_owned),
                digest: entry.digest,
            })),
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
) -> Result<Vec<Descriptor>, Error> {
    let index = match writer.map(|writer| writer.tree().index(repo)) {
        None => pruned.held.index().clone(),
        Some(Err(error)) if error.is_not_found() => return Ok(Vec::new()),
        Some(index) => index?,
    };
    let has_subject = |digest: &Digest, entry: &Descriptor| {
        let tree = pruned.held.tree();
        // What cannot be read cannot be told from what was asked for by digest.
        let manifest = tree.and_then(|tree| tree.manifest(digest, &entry.media_type).ok());
        manifest.is_some_and(|manifest| manifest.subject().is_some())
    };
    let stays = |entry: &Descriptor| match name(entry) {
        Name::Tag(tag) if pruned.tags.contains(&tag) => true,
        Name::Tag(tag) if DigestTag::of(&tag).is_some() => {
            kept.incomplete || kept.tags.contains(&tag)
        }
        Name::Tag(_) => false,
        Name::Foreign => true,
        // What was asked for by digest stays; what belonged to something that has left does not.
        Name::None => {
            kept.incomplete
                || kept.digests.contains(&entry.digest)
                || !has_subject(&entry.digest, entry)
        }
    };
    let gone: Vec<Descriptor> = index
        .entries()
        .iter()
        .filter(|entry| !stays(entry))
        .cloned()
        .collect();
    let (gone_tags, held) = (count(&gone), count(index.entries()));
    if gone_tags >= FEW && gone_tags * 2 > held && !accept_shrink {
        return Err(Error::Shrunk {
            name: repo.name().clone(),
            what: "tags",
            gone: gone_tags,
            held,
        });
    }
    match writer {
        Some(writer) if !gone.is_empty() => Ok(writer.retain(repo, |entry| !gone.contains(entry))?),
        _ => Ok(gone),
    }
}

enum Name {
    Tag(Tag),
    /// What another tool calls it.
    Foreign,
    None,
}

fn name(entry: &Descriptor) -> Name {
    match entry.ref_name().map(str::parse) {
        Some(Ok(tag)) => Name::Tag(tag),
        Some(Err(_)) => Name::Foreign,
        None => Name::None,
    }
}

fn count(entries: &[Descriptor]) -> usize {
    let tags = entries.iter().filter(|entry| match name(entry) {
        Name::Tag(tag) => DigestTag::of(&tag).is_none(),
        Name::Foreign | Name::None => false,
    });
    tags.count()
}
