//! Following repositories: is every tag complete, and linked where a layout needs it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use oci_mirror::descriptor::Descriptor;
use oci_mirror::digest::Digest;
use oci_mirror::manifest::{Child, Manifest};
use oci_mirror::tree::catalog::MAX_DEPTH;
use oci_mirror::tree::index::RepoIndex;
use oci_mirror::tree::{RepoDir, Tree, TreePath, reader};

use super::Damage;
use super::inventory::Inventory;

/// Largest `oci-layout` read, in bytes.
const MAX_LAYOUT: u64 = 4096;

/// What repositories reach.
#[derive(Debug, Default)]
pub(super) struct Reached {
    pub(super) digests: HashSet<Digest>,
    pub(super) left_out: HashSet<Digest>,
    pub(super) repositories: u64,
    pub(super) tags: u64,
}

/// The indexes of all repositories, each read or not.
pub(super) type Indexes = BTreeMap<RepoDir, Result<RepoIndex, reader::Error>>;

/// Reads every index. Done before anything else is looked at: what an index reaches was there before
/// it, so an export beside us cannot make a sound tree look damaged.
pub(super) fn indexes(tree: &Tree) -> Result<Indexes, reader::Error> {
    let repositories = tree.repositories()?.into_iter();
    Ok(repositories
        .map(|repo| {
            let index = tree.index(&repo);
            (repo, index)
        })
        .collect())
}

/// Follows every repository that has an index.
pub(super) fn check(
    indexes: &Indexes,
    inventory: &Inventory,
    tree: &Tree,
    damage: &mut Vec<Damage>,
) -> Reached {
    let mut reached = Reached::default();
    let mut manifests = HashMap::new();
    for (repo, index) in indexes {
        check_layout(repo, inventory, tree, damage);
        reached.repositories += 1;
        let index_path = TreePath::Index(repo.clone());
        let index = match index {
            Ok(index) => index,
            Err(error) => {
                damage.push(Damage::error(&index_path, error));
                continue;
            }
        };
        reached.tags += index.tags().count() as u64;
        let mut walk = Walk {
            repo,
            inventory,
            tree,
            manifests: &mut manifests,
            members: BTreeSet::new(),
            left_out: &mut reached.left_out,
        };
        for entry in index.entries() {
            if let Err(problem) = walk.manifest(entry, 0) {
                let name = match entry.ref_name() {
                    Some(tag) => format!("tag `{}`", tag.escape_debug()),
                    None => format!("entry {}", entry.digest),
                };
                damage.push(Damage::new(
                    &index_path,
                    format!("{name} is not complete: {problem}"),
                ));
            }
        }
        let members = walk.members;
        let links = inventory.links.get(repo);
        for digest in &members {
            if links.is_none_or(|links| !links.contains_key(digest)) {
                damage.push(Damage::new(
                    TreePath::Link(repo.clone(), *digest),
                    "missing",
                ));
            }
        }
        reached.digests.extend(members);
    }
    // A link to nothing is content that only an image layout's reader would find.
    for (repo, links) in &inventory.links {
        for digest in links.keys() {
            // Asked again, since the link may be younger than the list of blobs.
            let held = inventory.blobs.contains_key(digest)
                || tree.blob_size(digest).is_ok_and(|size| size.is_some());
            if !held {
                damage.push(Damage::new(
                    TreePath::Blob(*digest),
                    format!("missing, but {repo} links to it"),
                ));
            }
        }
    }
    reached
}

fn check_layout(repo: &RepoDir, inventory: &Inventory, tree: &Tree, damage: &mut Vec<Damage>) {
    let path = TreePath::Layout(repo.clone());
    if !inventory.layouts.contains(repo) {
        damage.push(Damage::new(&path, "missing"));
        return;
    }
    // Other tools write the same with other white space.
    let version = |bytes: &[u8]| {
        let layout: Option<serde_json::Value> = serde_json::from_slice(bytes).ok();
        layout.and_then(|layout| Some(layout.get("imageLayoutVersion")?.as_str()? == "1.0.0"))
    };
    match tree.read(&path, MAX_LAYOUT) {
        Ok(bytes) if version(&bytes) == Some(true) => {}
        Ok(_) | Err(reader::Error::TooLarge { .. }) => {
            damage.push(Damage::new(&path, "not the oci-layout of version 1.0.0"));
        }
        Err(error) => damage.push(Damage::error(&path, &error)),
    }
}

struct Walk<'a> {
    repo: &'a RepoDir,
    inventory: &'a Inventory,
    tree: &'a Tree,
    /// Parsed before, for whichever repository.
    manifests: &'a mut HashMap<Digest, Arc<Manifest>>,
    members: BTreeSet<Digest>,
    left_out: &'a mut HashSet<Digest>,
}

impl Walk<'_> {
    /// Follows one manifest; the error says what is missing or wrong below it.
    fn manifest(&mut self, entry: &Descriptor, depth: usize) -> Result<(), String> {
        if depth > MAX_DEPTH {
            return Err(format!("indexes are nested more than {MAX_DEPTH} deep"));
        }
        if self.members.contains(&entry.digest) {
            return Ok(());
        }
        // What belongs to a repository is what is linked there: the tree may hold for another one what
        // was left out of this one on purpose.
        if depth > 0 && !self.is_linked(&entry.digest) {
            self.left_out.insert(entry.digest);
            return Ok(());
        }
        if !self.inventory.blobs.contains_key(&entry.digest) {
            return Err(format!("manifest {} is missing", entry.digest));
        }
        self.has_size(entry)?;
        let manifest = self.read(entry)?;
        self.members.insert(entry.digest);
        for child in manifest.children() {
            match child {
                Child::Manifest(child) => self.manifest(child, depth + 1)?,
                Child::Blob(blob) if blob.media_type.is_distributable() => {
                    self.has_size(blob)?;
                    self.members.insert(blob.digest);
                }
                Child::Blob(_) => {}
            }
        }
        Ok(())
    }

    fn is_linked(&self, digest: &Digest) -> bool {
        let links = self.inventory.links.get(self.repo);
        links.is_some_and(|links| links.contains_key(digest))
    }

    fn read(&mut self, entry: &Descriptor) -> Result<Arc<Manifest>, String> {
        if let Some(manifest) = self.manifests.get(&entry.digest) {
            return Ok(Arc::clone(manifest));
        }
        let manifest = self
            .tree
            .manifest(&entry.digest, &entry.media_type)
            .map_err(|error| Damage::error("", &error).problem)?;
        let manifest = Arc::new(manifest);
        self.manifests.insert(entry.digest, Arc::clone(&manifest));
        Ok(manifest)
    }

    fn has_size(&self, descriptor: &Descriptor) -> Result<(), String> {
        match self.inventory.blobs.get(&descriptor.digest) {
            None => Err(format!("blob {} is missing", descriptor.digest)),
            Some(file) if file.size == descriptor.size => Ok(()),
            Some(file) => Err(format!(
                "blob {} has {} bytes, but its descriptor says {}",
                descriptor.digest, file.size, descriptor.size
            )),
        }
    }
}
