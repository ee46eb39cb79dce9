//! Following repositories: is every tag complete, and linked where a layout needs it.

use std::collections::{BTreeMap, HashSet};

use oci_mirror::digest::Digest;
use oci_mirror::error_chain::chain;
use oci_mirror::tree::index::RepoIndex;
use oci_mirror::tree::reach::{Holdings, Incomplete, Reach};
use oci_mirror::tree::{RepoDir, Tree, TreePath, reader};

use super::Damage;
use super::inventory::{File, Inventory};

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
    for (repo, index) in indexes {
        check_layout(repo, inventory, tree, damage);
        reached.repositories += 1;
        let index_path = TreePath::Index(repo.clone());
        let index = match index {
            Ok(index) => index,
            Err(error) => {
                // Which tags there were, only their source knows.
                let problem = format!("{}: export it again", chain(error));
                damage.push(Damage::new(&index_path, problem));
                continue;
            }
        };
        reached.tags += index.tags().count() as u64;
        let links = inventory.links.get(repo);
        let holdings = Listed { links, inventory };
        let reach = Reach::of(index, &holdings, tree);
        for Incomplete { entry, problem } in &reach.problems {
            let entry = &index.entries()[*entry];
            let name = match entry.ref_name() {
                Some(tag) => format!("tag `{}`", tag.escape_debug()),
                None => format!("entry {}", entry.digest),
            };
            let problem = chain(problem.as_ref());
            damage.push(Damage::new(
                &index_path,
                format!("{name} is not complete: {problem}"),
            ));
        }
        for digest in reach.members.keys() {
            if !holdings.is_linked(digest) {
                let link = TreePath::Link(repo.clone(), *digest);
                damage.push(Damage::new(link, "missing"));
            }
        }
        reached.digests.extend(reach.members.into_keys());
        reached.left_out.extend(reach.left_out);
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

/// What the inventory knows of one repository.
pub(super) struct Listed<'a> {
    pub(super) links: Option<&'a BTreeMap<Digest, File>>,
    pub(super) inventory: &'a Inventory,
}

impl Holdings for Listed<'_> {
    fn is_linked(&self, digest: &Digest) -> bool {
        self.links.is_some_and(|links| links.contains_key(digest))
    }

    fn size(&self, digest: &Digest) -> Option<u64> {
        self.inventory.blobs.get(digest).map(|file| file.size)
    }
}
