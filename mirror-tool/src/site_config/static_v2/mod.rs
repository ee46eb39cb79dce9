//! Files beside a tree by which a plain web server answers pulls without a front end.
//!
//! A client takes a manifest only with its exact media type, which no web server knows and no redirect can carry.
//! So beside the tree there is a name for each manifest with an extension that tells the type, and the site
//! that `site-config` prints tries them all:
//!
//! ```text
//! DIR/
//!   _v2                                  the answer to `/v2/`
//!   <name>/_manifests/<tag>.<ext>        a link to the manifest in the tree
//!   <name>/_manifests/<digest>.<ext>     and by digest, with the children of indexes
//!   <name>/_tags                         the answer to `tags/list`
//!   <name>/_made                         what all this was made from, written last
//! ```
//!
//! No component of a repository's name begins with `_`, so no repository can be in the way of another's files.
//! It is not in the tree itself: lists and mirrors would take it for a part of it. Every name is
//! replaced in one step, what is new comes before what is old goes, and a run that is cut short is made good by the
//! next. What is not whole in the tree is not offered.

mod files;
mod links;

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use anyhow::Context as _;
use oci_mirror::digest::Algorithm;
use oci_mirror::media_type::MediaType;
use oci_mirror::tree::index::{self, RepoIndex};
use oci_mirror::tree::on_disk::OnDisk;
use oci_mirror::tree::reach::Reach;
use oci_mirror::tree::{RepoDir, Tree, TreePath};

use files::Files;
use links::Links;

/// The extension that tells each type; in the order in which they are tried.
pub(super) const EXTENSIONS: [(MediaType, &str); 4] = [
    (MediaType::OCI_INDEX, "oii"),
    (MediaType::OCI_MANIFEST, "oim"),
    (MediaType::DOCKER_LIST, "dml"),
    (MediaType::DOCKER_MANIFEST, "dm2"),
];

/// What an update did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Updated {
    /// Repositories whose files were made anew, or removed.
    pub repositories: u64,
    /// Tags and manifests left out, because the tree does not have all of them.
    pub left_out: u64,
}

impl fmt::Display for Updated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "files for direct pulls of {} repositories made anew",
            self.repositories
        )?;
        match self.left_out {
            0 => Ok(()),
            count => write!(
                f,
                "; {count} manifests are not whole in the tree and were left out"
            ),
        }
    }
}

/// Repositories whose files are, in part, still those of an older tree.
#[derive(Debug)]
pub struct Behind {
    /// Which ones.
    pub repositories: BTreeSet<RepoDir>,
    /// What was in the way, of the first at least.
    pub error: anyhow::Error,
}

/// Brings the files in `directory` up to date with the tree.
///
/// One repository that fails keeps no other from being brought up to date.
pub fn update(tree: &Tree, directory: &Path) -> anyhow::Result<Updated> {
    match update_each(tree, directory)? {
        (updated, None) => Ok(updated),
        (_, Some(behind)) => Err(behind.error),
    }
}

/// The same, for who has to know which repositories have failed. An error says that it may be all of them.
pub fn update_each(tree: &Tree, directory: &Path) -> anyhow::Result<(Updated, Option<Behind>)> {
    let files = Files::open(tree.root(), directory)?;
    let mut updated = Updated::default();
    let repositories = tree.repositories()?;
    let mut failed = Vec::new();
    for repo in &repositories {
        let made = repository(tree, &files, repo, &mut updated)
            .with_context(|| format!("cannot make the files of {}", repo.name()));
        failed.extend(made.err().map(|error| (repo.clone(), error)));
    }
    for repo in files.repositories()? {
        if repositories.binary_search(&repo).is_err() {
            match files.remove(&repo) {
                Ok(()) => updated.repositories += 1,
                Err(error) => failed.push((repo, error)),
            }
        }
    }
    let (repositories, errors): (BTreeSet<_>, Vec<_>) = failed.into_iter().unzip();
    let count = errors.len();
    let behind = errors.into_iter().next().map(|error| Behind {
        repositories,
        error: match count {
            1 => error,
            _ => error.context(format!("{count} repositories, of which the first")),
        },
    });
    Ok((updated, behind))
}

fn repository(
    tree: &Tree,
    files: &Files,
    repo: &RepoDir,
    updated: &mut Updated,
) -> anyhow::Result<()> {
    let bytes = match tree.read(&TreePath::Index(repo.clone()), index::MAX_BYTES) {
        Ok(bytes) => bytes,
        // It went since the repositories were listed; the next run takes its files away.
        Err(error) if error.is_not_found() => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let stamp = files.stamp(&Algorithm::Sha256.digest(&bytes));
    if files.is_made_from(repo, &stamp) {
        return Ok(());
    }
    let index = RepoIndex::from_bytes(&bytes)?;
    let links = Links::of(
        &index,
        &Reach::of(&index, &OnDisk { repo, tree }, tree),
        tree,
    );
    // Without the stamp, the next run looks again whether the tree has become whole.
    let stamp = (links.left_out == 0).then_some(stamp);
    files.replace(repo, &links, stamp.as_deref())?;
    updated.repositories += 1;
    updated.left_out += links.left_out;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, chown};

    use super::*;

    /// A tree with repositories that have nothing, beside a directory `v2` that is not there yet.
    fn tree(names: &[&str]) -> (tempfile::TempDir, Tree) {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("tree");
        for name in names {
            let repo = root.join("repos").join(name);
            fs::create_dir_all(&repo).unwrap();
            let index = r#"{"schemaVersion":2,"manifests":[]}"#;
            fs::write(repo.join("index.json"), index).unwrap();
        }
        let tree = Tree::open(&root).unwrap();
        (directory, tree)
    }

    #[test]
    fn one_repository_that_fails_is_said_and_keeps_no_other_back() {
        let (directory, tree) = tree(&["a", "b", "c"]);
        let pulls = directory.path().join("v2");
        fs::create_dir(&pulls).unwrap();
        for name in ["a", "b"] {
            fs::write(pulls.join(name), "in the way").unwrap();
        }
        let said = format!("{:#}", update(&tree, &pulls).unwrap_err());
        assert!(said.starts_with("2 repositories, of which"), "{said}");
        assert!(said.contains("the files of a: "), "{said}");
        assert!(pulls.join("c/_made").exists());
        fs::remove_file(pulls.join("a")).unwrap();
        let said = format!("{:#}", update(&tree, &pulls).unwrap_err());
        assert!(said.starts_with("cannot make the files of b: "), "{said}");
    }

    #[test]
    fn the_owner_of_the_tree_can_go_on_with_what_root_has_made() {
        let (directory, tree) = tree(&["a/b"]);
        let own = fs::metadata(tree.root()).unwrap();
        // Nobody else can give anything away; the directories are its own then.
        let (user, group) = match own.uid() {
            0 => (65534, 65533),
            user => (user, own.gid()),
        };
        chown(tree.root(), Some(user), Some(group)).unwrap();
        let pulls = directory.path().join("v2");
        update(&tree, &pulls).unwrap();
        for name in ["", "a", "a/b", "a/b/_manifests"] {
            let made = fs::metadata(pulls.join(name)).unwrap();
            assert_eq!((made.uid(), made.gid()), (user, group), "{name:?}");
            assert_eq!(made.mode() & 0o777, 0o755, "{name:?}");
        }
    }
}
