//! What is unneeded, and since when.
//!
//! A link is unneeded when its repository's index does not lead to it, a blob when no repository needs
//! it or keeps a link to it. Since when is what earlier runs remember; a file found for the first time
//! is unneeded at the latest since its repository's `index.json` was written and it was itself touched.
//! A blob is never unneeded for longer than any of its links, a layer never for longer than a manifest
//! that names it: so nothing goes before what leads to it.

use std::collections::{BTreeMap, HashMap};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use oci_mirror::digest::Digest;
use oci_mirror::error_chain::chain;
use oci_mirror::tree::reach::{Holdings, Reach};
use oci_mirror::tree::writer::{DIRTY, TEMPORARY};
use oci_mirror::tree::{RepoDir, Tree, TreePath};

use super::blobs::{BlobFile, Blobs};
use super::files::{Files, Link, RepoFiles, inode};
use super::rank::{self, Rank};
use super::report::Damaged;
use super::since::Records;

/// The result of looking at a tree.
#[derive(Debug, Default)]
pub(super) struct Survey {
    pub(super) unneeded: Vec<Unneeded>,
    pub(super) damaged: Vec<Damaged>,
    /// Directories without any entry, relative to the tree.
    pub(super) empty: Vec<PathBuf>,
}

/// A file that nothing needs.
#[derive(Debug)]
pub(super) struct Unneeded {
    pub(super) path: TreePath,
    /// Bytes of disk that removing it frees.
    pub(super) bytes: u64,
    /// In seconds since 1970.
    pub(super) since: i64,
    pub(super) rank: Rank,
}

impl Survey {
    pub(super) fn take(tree: &Tree, records: &mut Records, now: i64) -> anyhow::Result<Self> {
        let mut files = Files::new(tree.root());
        let mut blobs = Vec::new();
        files.content("blobs", |path, metadata| {
            if let TreePath::Blob(digest) = path {
                blobs.push(BlobFile {
                    digest,
                    size: metadata.len(),
                    inode: inode(metadata),
                    changed: metadata.ctime(),
                    needed: false,
                    unlinked: None,
                    since: now,
                });
            }
        })?;
        let mut surveyor = Surveyor {
            tree,
            records,
            now,
            torn: is_torn(tree)?,
            blobs: Blobs::new(blobs),
            ranks: HashMap::new(),
            survey: Self::default(),
        };
        files.repositories(|repository| surveyor.repository(repository))?;
        surveyor.unneeded_blobs();
        files.content("pieces", |path, metadata| {
            if let TreePath::Pieces(digest) = path {
                let changed = metadata.ctime();
                surveyor.pieces(digest, metadata.len(), changed);
            }
        })?;
        let mut survey = surveyor.survey;
        survey.empty = files.empty;
        Ok(survey)
    }
}

/// Whether there are fewer repositories than the state says, although no writer was interrupted: one
/// was lost, and with it all knowledge of what it needs.
fn is_torn(tree: &Tree) -> anyhow::Result<Option<String>> {
    let state = match tree.state() {
        Err(error) if error.is_not_found() => return Ok(None),
        state => state?,
    };
    let (found, said) = (tree.repositories()?.len() as u64, state.totals.repositories);
    let interrupted = tree.root().join(TEMPORARY).join(DIRTY).exists();
    let torn = found < said && !interrupted;
    Ok(torn.then(|| format!("the tree's state counts {said} repositories, but there are {found}")))
}

struct Surveyor<'a> {
    tree: &'a Tree,
    records: &'a mut Records,
    now: i64,
    /// What is wrong if a repository is lost.
    torn: Option<String>,
    blobs: Blobs,
    /// Of everything unneeded, with what the manifests among it name.
    ranks: HashMap<Digest, (Rank, Vec<Digest>)>,
    survey: Survey,
}

/// What the survey knows of one repository.
struct Listed<'a> {
    links: &'a BTreeMap<Digest, Link>,
    blobs: &'a Blobs,
}

impl Holdings for Listed<'_> {
    fn is_linked(&self, digest: &Digest) -> bool {
        self.links.contains_key(digest)
    }

    fn size(&self, digest: &Digest) -> Option<u64> {
        self.blobs.get(digest).map(|blob| blob.size)
    }
}

impl Surveyor<'_> {
    fn repository(&mut self, files: RepoFiles) {
        let RepoFiles {
            repo,
            index,
            has_layout,
            mut links,
            renamed,
        } = files;
        // Nothing is certain before the index was last written or, without one, lost its name.
        let certain = index.unwrap_or(renamed);
        let mut is_needed = false;
        let needs = match index {
            None => self.torn.clone().map_or(Ok(Vec::new()), Err),
            Some(_) => self.needs(&repo, &links, &mut is_needed),
        };
        match needs {
            Ok(needs) => {
                for digest in needs {
                    self.blobs.need(&digest);
                    links.remove(&digest);
                }
            }
            Err(problem) => {
                for digest in links.keys() {
                    self.blobs.need(digest);
                }
                self.survey.damaged.push(Damaged {
                    repository: Some(repo.name().to_string()),
                    problem,
                });
                return;
            }
        }
        let mut last = None;
        for (digest, link) in &links {
            let since = self.unneeded_link(&repo, digest, link, certain);
            last = last.max(Some(since));
        }
        // Needed links keep their repository, since then the index is not empty.
        if is_needed {
            return;
        }
        let frame = [
            (index.is_some(), TreePath::Index(repo.clone())),
            (has_layout, TreePath::Layout(repo)),
        ];
        for (_, path) in frame.into_iter().filter(|(is_there, _)| *is_there) {
            let since = self.records.unneeded(&path, certain, self.now);
            let since = last.map_or(since, |last| since.max(last));
            let bytes = self.tree.size(&path).ok().flatten().unwrap_or_default();
            self.enter(path, bytes, since, Rank::Leaf);
        }
    }

    /// All that the index of a repository leads to; the error says why that is not known. Then what is
    /// known is needed all the same.
    fn needs(
        &mut self,
        repo: &RepoDir,
        links: &BTreeMap<Digest, Link>,
        is_needed: &mut bool,
    ) -> Result<Vec<Digest>, String> {
        let index = self.tree.index(repo).map_err(|error| chain(&error))?;
        *is_needed = !index.entries().is_empty();
        let holdings = Listed {
            links,
            blobs: &self.blobs,
        };
        let reach = Reach::of(&index, &holdings, self.tree);
        let unlinked = reach
            .members
            .keys()
            .find(|digest| !links.contains_key(digest));
        let problem = match (reach.problems.first(), unlinked) {
            (Some(incomplete), _) => Some(chain(incomplete.problem.as_ref())),
            (None, Some(digest)) => Some(format!("{digest} is not linked")),
            (None, None) => None,
        };
        match problem {
            None => Ok(reach.members.into_keys().collect()),
            Some(problem) => {
                for digest in reach.members.keys() {
                    self.blobs.need(digest);
                }
                Err(problem)
            }
        }
    }

    fn unneeded_link(&mut self, repo: &RepoDir, digest: &Digest, link: &Link, certain: i64) -> i64 {
        let path = TreePath::Link(repo.clone(), *digest);
        let certain = certain.max(link.changed);
        let since = self.records.unneeded(&path, certain, self.now);
        let mut bytes = link.size;
        if let Some(blob) = self.blobs.get_mut(digest) {
            blob.unlinked = blob.unlinked.max(Some(since));
            if blob.inode == link.inode {
                bytes = 0;
            }
        }
        let rank = self.rank(digest);
        self.enter(path, bytes, since, rank);
        since
    }

    fn unneeded_blobs(&mut self) {
        if let Some(problem) = &self.torn {
            // What no repository links may be all that is left of the lost one.
            for blob in self.blobs.iter_mut().filter(|blob| blob.unlinked.is_none()) {
                blob.needed = true;
            }
            self.survey.damaged.push(Damaged {
                repository: None,
                problem: problem.clone(),
            });
        }
        for blob in self.blobs.iter_mut().filter(|blob| !blob.needed) {
            let certain = blob.changed.max(blob.unlinked.unwrap_or(i64::MIN));
            let path = TreePath::Blob(blob.digest);
            let since = self.records.unneeded(&path, certain, self.now);
            blob.since = since.max(blob.unlinked.unwrap_or(i64::MIN));
        }
        let unneeded: Vec<Digest> = self.blobs.unneeded().map(|blob| blob.digest).collect();
        let mut parents: Vec<(Rank, Digest)> = unneeded
            .iter()
            .map(|digest| (self.rank(digest), *digest))
            .collect();
        parents.retain(|(rank, _)| *rank != Rank::Leaf);
        parents.sort_unstable();
        for (_, parent) in parents {
            self.keep_below(&parent);
        }
        for digest in unneeded {
            let rank = self.rank(&digest);
            if let Some(blob) = self.blobs.get(&digest) {
                let (size, since) = (blob.size, blob.since);
                self.enter(TreePath::Blob(digest), size, since, rank);
            }
        }
    }

    /// What a manifest names is unneeded only since the manifest is. No cycle is possible, since a
    /// document cannot contain its own digest; and each step down raises a time.
    fn keep_below(&mut self, parent: &Digest) {
        let mut pending = vec![*parent];
        while let Some(parent) = pending.pop() {
            let Some(since) = self.blobs.get(&parent).map(|blob| blob.since) else {
                continue;
            };
            let Some((_, children)) = self.ranks.get(&parent) else {
                continue;
            };
            for child in children {
                if let Some(child) = self.blobs.get_mut(child)
                    && child.since < since
                {
                    child.since = since;
                    pending.push(child.digest);
                }
            }
        }
    }

    /// Pieces go with their blob; without one they are what an interrupted export left.
    fn pieces(&mut self, digest: Digest, size: u64, changed: i64) {
        let path = TreePath::Pieces(digest);
        match self.blobs.get(&digest) {
            Some(blob) if blob.needed => {}
            Some(blob) => {
                let since = blob.since;
                self.enter(path, size, since, Rank::Leaf);
            }
            None => {
                let since = self.records.unneeded(&path, changed, self.now);
                self.enter(path, size, since, Rank::Leaf);
            }
        }
    }

    fn rank(&mut self, digest: &Digest) -> Rank {
        let rank = self.ranks.entry(*digest);
        rank.or_insert_with(|| rank::of(digest, self.tree)).0
    }

    fn enter(&mut self, path: TreePath, bytes: u64, since: i64, rank: Rank) {
        self.survey.unneeded.push(Unneeded {
            path,
            bytes,
            since,
            rank,
        });
    }
}
