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

use std::fmt;
use std::path::Path;

use anyhow::Context as _;
use oci_mirror::digest::{Algorithm, Digest};
use oci_mirror::media_type::MediaType;
use oci_mirror::tree::index::{self, RepoIndex};
use oci_mirror::tree::reach::{Holdings, Reach};
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

/// Brings the files in `directory` up to date with the tree.
pub fn update(tree: &Tree, directory: &Path) -> anyhow::Result<Updated> {
    let files = Files::open(tree.root(), directory)?;
    let mut updated = Updated::default();
    let repositories = tree.repositories()?;
    for repo in &repositories {
        repository(tree, &files, repo, &mut updated)
            .with_context(|| format!("cannot make the files of {}", repo.name()))?;
    }
    for name in files.repositories()? {
        if repositories.binary_search(&name).is_err() {
            files.remove(&name)?;
            updated.repositories += 1;
        }
    }
    Ok(updated)
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

/// What a repository has, looked up when it is asked for.
struct OnDisk<'a> {
    repo: &'a RepoDir,
    tree: &'a Tree,
}

impl Holdings for OnDisk<'_> {
    fn is_linked(&self, digest: &Digest) -> bool {
        let path = TreePath::Link(self.repo.clone(), *digest);
        self.tree.size(&path).is_ok_and(|size| size.is_some())
    }

    fn size(&self, digest: &Digest) -> Option<u64> {
        self.tree.blob_size(digest).ok().flatten()
    }
}
