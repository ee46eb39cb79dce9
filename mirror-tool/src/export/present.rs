//! What is there already: an image that the tree holds whole is not brought again.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use oci_mirror::descriptor::Descriptor;
use oci_mirror::digest::Digest;
use oci_mirror::manifest::Child;
use oci_mirror::platform::Platform;
use oci_mirror::tree::catalog::MAX_DEPTH;
use oci_mirror::tree::{RepoDir, Tree, TreePath, reader};

use super::error::Error;
use super::fetch::choose;

/// The manifests of an image of `repo`, if the tree holds all that is wanted of it.
///
/// What is damaged or lost, as far as that shows without reading every byte, counts as not held: the
/// export then brings it again. What belongs to a repository is what is linked there; that the tree has
/// it for another one is not enough.
pub(super) fn complete(
    root: &Descriptor,
    repo: &RepoDir,
    platforms: &[Platform],
    linked: &Linked,
) -> Result<Option<Vec<Digest>>, Error> {
    let tree = &linked.tree;
    let mut pending = vec![(root.clone(), 0)];
    let mut seen = HashSet::new();
    while let Some((entry, depth)) = pending.pop() {
        if depth > MAX_DEPTH || !seen.insert(entry.digest) {
            continue;
        }
        if !linked.has(&entry, repo)? {
            return Ok(None);
        }
        let manifest = match tree.manifest(&entry.digest, &entry.media_type) {
            Ok(manifest) => manifest,
            Err(reader::Error::Manifest { .. }) => return Ok(None),
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        for child in manifest.children() {
            if let Child::Blob(blob) = child
                && blob.media_type.is_distributable()
                && !linked.has(blob, repo)?
            {
                return Ok(None);
            }
        }
        let children = match choose(&manifest, platforms) {
            Err(Error::NoPlatform { .. }) if depth > 0 => continue,
            chosen => chosen?.children,
        };
        pending.extend(children.into_iter().map(|child| (child.clone(), depth + 1)));
    }
    Ok(Some(seen.into_iter().collect()))
}

/// What the repositories of a tree hold, looked up once in a run: their images share most layers.
///
/// Only what is there is remembered. Nothing leaves a tree while images are being worked on.
#[derive(Debug)]
pub(super) struct Linked {
    tree: Tree,
    found: Mutex<HashMap<RepoDir, HashSet<(Digest, u64)>>>,
}

impl Linked {
    pub(super) fn new(tree: Tree) -> Self {
        Self {
            tree,
            found: Mutex::default(),
        }
    }

    /// Whether content of the right length is in the tree and in the repository.
    fn has(&self, entry: &Descriptor, repo: &RepoDir) -> Result<bool, Error> {
        let key = (entry.digest, entry.size);
        if self.found().get(repo).is_some_and(|of| of.contains(&key)) {
            return Ok(true);
        }
        for path in [
            TreePath::Blob(entry.digest),
            TreePath::Link(repo.clone(), entry.digest),
        ] {
            if self.tree.size(&path)? != Some(entry.size) {
                return Ok(false);
            }
        }
        self.found().entry(repo.clone()).or_default().insert(key);
        Ok(true)
    }

    fn found(&self) -> MutexGuard<'_, HashMap<RepoDir, HashSet<(Digest, u64)>>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
