//! What a mirror keeps for a while though the tree it follows has it no more.

use std::collections::HashSet;

use oci_mirror::tree::list::ListPath;
use oci_mirror::tree::state::Totals;
use oci_mirror::tree::{Tree, TreePath};
use tracing::warn;

use super::closure::{Indexes, Reached};
use super::inventory::Inventory;
use crate::sync::gone::{self, Gone};

/// What a mirror keeps for a while though the tree it follows has it no more: whole, since somebody may be
/// reading it, but in no list and no total.
#[derive(Debug, Default)]
pub(super) struct Grace {
    gone: Gone,
    /// The directories it is in.
    directories: HashSet<Box<str>>,
}

impl Grace {
    /// What is kept in a tree. Nothing if that cannot be read: what there is of it is then told.
    pub(super) fn of(tree: &Tree) -> Self {
        let gone = gone::read(tree).unwrap_or_else(|error| {
            warn!(
                error = &error as &dyn std::error::Error,
                "cannot read what is kept in its grace"
            );
            Gone::new()
        });
        let mut directories = HashSet::new();
        for path in gone.keys() {
            let path = path.to_string();
            let mut path = path.as_str();
            while let Some((above, _)) = path.rsplit_once('/') {
                if !directories.insert(Box::from(above)) {
                    break;
                }
                path = above;
            }
        }
        Self { gone, directories }
    }

    /// Whether something that is in no list is kept for its grace, or has only such in it.
    pub(super) fn has(&self, path: &ListPath) -> bool {
        let path = path.as_str();
        self.directories.contains(path)
            || (!self.gone.is_empty()
                && path
                    .parse()
                    .is_ok_and(|path: TreePath| self.gone.contains_key(&path)))
    }

    /// What a tree holds that is not kept for its grace only.
    pub(super) fn totals(
        &self,
        inventory: &Inventory,
        indexes: &Indexes,
        reached: &Reached,
    ) -> Totals {
        let mut totals = Totals {
            repositories: reached.repositories,
            tags: reached.tags,
            blobs: inventory.blobs.len() as u64,
            bytes: inventory.blobs.values().map(|file| file.size).sum(),
        };
        for path in self.gone.keys() {
            match path {
                TreePath::Blob(digest) => {
                    if let Some(file) = inventory.blobs.get(digest) {
                        totals.blobs -= 1;
                        totals.bytes -= file.size;
                    }
                }
                TreePath::Index(repo) => {
                    if let Some(index) = indexes.get(repo) {
                        let tags = index.as_ref().map_or(0, |index| index.tags().count());
                        totals.repositories = totals.repositories.saturating_sub(1);
                        totals.tags = totals.tags.saturating_sub(tags as u64);
                    }
                }
                TreePath::Pieces(_)
                | TreePath::Layout(_)
                | TreePath::Link(..)
                | TreePath::State
                | TreePath::List(_)
                | TreePath::DirectorySizes => {}
            }
        }
        totals
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use jiff::Timestamp;
    use oci_mirror::digest::Algorithm;
    use oci_mirror::tree::TreeWriter;
    use oci_mirror::tree::index::{OCI_LAYOUT, RepoIndex};
    use oci_mirror::tree::writer::{SYNC, TEMPORARY};

    use super::*;

    fn put(root: &Path, path: &TreePath, content: &[u8]) {
        let path = path.under(root);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn repository(root: &Path, name: &str, content: &str) -> [TreePath; 4] {
        let digest = Algorithm::Sha256.digest(content.as_bytes());
        let paths = [
            TreePath::Blob(digest),
            TreePath::Link(name.parse().unwrap(), digest),
            TreePath::Layout(name.parse().unwrap()),
            TreePath::Index(name.parse().unwrap()),
        ];
        let index = RepoIndex::default().to_bytes();
        let content = content.as_bytes();
        for (path, content) in paths.iter().zip([content, content, OCI_LAYOUT, &index[..]]) {
            put(root, path, content);
        }
        paths
    }

    #[test]
    fn what_is_kept_for_its_grace_is_no_damage_but_must_be_whole() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let writer = TreeWriter::open(root).unwrap();
        repository(root, "stays", "one");
        writer.mark_stale().unwrap();
        writer.finish(Timestamp::UNIX_EPOCH).unwrap();
        drop(writer);
        let paths = repository(root, "goes/soon", "two");
        let run = || crate::verify::run(root).unwrap();
        assert!(!run().damage.is_empty());

        let lines = paths.each_ref().map(|path| format!("7 {path}\n")).concat();
        let directory = root.join(TEMPORARY).join(SYNC);
        fs::create_dir_all(&directory).unwrap();
        fs::write(
            directory.join("gone"),
            format!("gone 1\n{lines}end {}\n", paths.len()),
        )
        .unwrap();
        assert_eq!(run().damage, []);
        // And nothing else is.
        put(
            root,
            &TreePath::Layout("stray".parse().unwrap()),
            OCI_LAYOUT,
        );
        let damage = run().damage;
        assert!(
            damage.iter().all(|it| !it.path.contains("goes")),
            "{damage:?}"
        );
        assert!(
            damage.iter().any(|it| it.path == "repos/stray"),
            "{damage:?}"
        );
        fs::remove_dir_all(root.join("repos/stray")).unwrap();

        put(root, &paths[0], b"six");
        let damage = run().damage;
        assert!(
            damage.iter().any(|it| it.path == paths[0].to_string()),
            "{damage:?}"
        );
    }
}
