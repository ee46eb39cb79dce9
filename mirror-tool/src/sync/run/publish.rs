//! From staging into the tree: nothing is visible before all of it is there, right and complete.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use bytes::Bytes;
use oci_mirror::digest::{Algorithm, Digest};
use oci_mirror::manifest;
use oci_mirror::tree::index::RepoIndex;
use oci_mirror::tree::list::{Kind as EntryKind, Reader, Record};
use oci_mirror::tree::path::Module;
use oci_mirror::tree::state;
use oci_mirror::tree::writer::replica::{Conclusion, Replica};
use oci_mirror::tree::{RepoDir, Tree, TreePath, reader};

use super::attempt::{Planned, Work};
use super::here::{UPSTREAM_LIST, buffered, remove};
use super::trouble::{Kind, Trouble};
use super::{Done, Followed, Mirror};
use crate::sync::gone::{self, Gone};
use crate::sync::memory::{Last, Memory};
use crate::sync::plan::refusal::Incomplete;
use crate::sync::plan::{self, Plan, Refusal};
use crate::sync::upstream::Fetched;

/// Makes the tree what the list says. All that it lacks is in staging.
pub(super) fn publish(
    mirror: &Mirror,
    work: &Work,
    planned: &Planned,
    fetched: &Fetched,
) -> Result<Followed, Trouble> {
    let plan = &planned.plan;
    let next = Next {
        staged: Tree::open(mirror.staging.root()).map_err(here)?,
        fetched: plan.wanted().into_iter().map(|it| it.path).collect(),
        mirror,
    };
    next.check_pieces(plan)?;
    next.check_closures(work, plan)?;
    let documents = if plan.is_verbatim {
        verbatim(mirror, work, plan)
    } else {
        next.derived(work, plan)?
    };
    if is_in_place(mirror, plan, &documents)? {
        // A run was cut off with nothing left to do, or the tree was looked at and is right.
        let gone = mirror.gone()?.gone;
        let last = last(work, &documents, &gone);
        mirror.writer.unmark_stale()?;
        mirror.staging.clear()?;
        Memory::new(Some(last.clone())).write(&mirror.writer)?;
        return Ok(Followed::Unchanged(last));
    }
    // As long as there is nothing in the tree that this program has not read.
    let is_adopted = mirror.memory.is_none();
    if is_adopted && planned.disowned.is_empty() {
        Memory::new(None).write(&mirror.writer)?;
    }
    let blobs = next.blobs_to_name(plan)?;
    let pieces: Vec<Digest> = plan.pieces.iter().map(|it| it.digest).collect();
    let times: HashMap<TreePath, i64> = plan
        .indexes
        .iter()
        .map(|wanted| (wanted.path.clone(), wanted.time))
        .collect();
    let indexes = changed_indexes(plan);
    let links = mirror.writer.replicate(&Replica {
        files: mirror.staging.root(),
        blobs: &blobs,
        pieces: &pieces,
        links: &plan.links,
        layouts: &plan.layouts,
        indexes: &indexes,
        directories: &plan.directories,
        times: &times,
    })?;

    let wrong = wrong_ones(planned);
    if !planned.walked.is_empty() {
        remove_litter(mirror, &wrong, &planned.walked, &documents.list)?;
    }
    if is_adopted && !planned.disowned.is_empty() {
        Memory::new(None).write(&mirror.writer)?;
    }
    // Before the state that does not count it any more.
    let mut gone = mirror.gone()?.gone;
    let removed: HashSet<&TreePath> = wrong.iter().flatten().collect();
    let missed = plan.gone.iter().filter(|path| !removed.contains(path));
    let missed: Vec<TreePath> = missed.cloned().collect();
    gone::update(&mut gone, &missed, &needed(plan), mirror.time());
    gone.retain(|path, _| !removed.contains(path));
    gone::write(&mirror.writer, &gone)?;
    mirror.writer.conclude(&Conclusion {
        sizes: documents.sizes.as_deref(),
        list: &documents.list,
        state: &documents.state,
        module: &documents.module,
    })?;
    let last = last(work, &documents, &gone);
    keep_list(mirror, work, plan).map_err(here)?;
    mirror.staging.clear()?;
    // Last, since nobody clears up after a run that has come to its end.
    Memory::new(Some(last.clone())).write(&mirror.writer)?;
    let done = Done {
        files: fetched.files,
        bytes: fetched.bytes,
        received: fetched.received,
        links,
        kept: last.kept,
        skipped: plan.skipped,
    };
    Ok(Followed::Anew(last, done))
}

/// Whether the tree, its list and its state are what they should be.
fn is_in_place(mirror: &Mirror, plan: &Plan, documents: &Documents) -> Result<bool, Trouble> {
    // The list that is made here of another has its own time in it.
    if !plan.is_verbatim || !plan.is_empty() {
        return Ok(false);
    }
    let state = match mirror
        .writer
        .tree()
        .read(&TreePath::State, state::MAX_BYTES)
    {
        Err(error) if error.is_not_found() => return Ok(false),
        state => state.map_err(here)?,
    };
    Ok(state == documents.state && mirror.published_list().is_some())
}

/// What is remembered of this.
fn last(work: &Work, documents: &Documents, gone: &Gone) -> Last {
    Last {
        from: work.said.from.clone(),
        serial: work.said.serial,
        digest: work.said.digest,
        filter: work.filter,
        published: Algorithm::Sha256.digest(&documents.state),
        oldest_gone: gone::oldest(gone),
        kept: gone.len() as u64,
        static_v2: None,
    }
}

/// The tree as it is going to be: what is staged stands before what is there.
struct Next<'a> {
    mirror: &'a Mirror,
    /// What lies in staging.
    staged: Tree,
    /// The files of it that count.
    fetched: HashSet<TreePath>,
}

impl Next<'_> {
    /// The hashes of pieces come of reading the blobs, and must be those that the list has.
    fn check_pieces(&self, plan: &Plan) -> Result<(), Trouble> {
        for pieces in &plan.pieces {
            let path = TreePath::Pieces(pieces.digest);
            if self.fetched.contains(&path) {
                continue;
            }
            let found = self.mirror.staging.pieces_of(&pieces.digest);
            let found = found.with_context(|| format!("there is no {path}"));
            let found = found.map_err(|error| Trouble::new(Kind::Here, error))?;
            let sum = pieces.sum.map(Digest::Sha256);
            let is_right = sum.is_none_or(|sum| sum == Algorithm::Sha256.digest(&found));
            if !is_right || found.len() as u64 != pieces.size {
                let error = anyhow::anyhow!("{path} of the file list is not of that blob");
                return Err(Trouble::new(Kind::Lie, error));
            }
        }
        Ok(())
    }

    /// Checks every repository that changes: its tags must have all they need.
    fn check_closures(&self, work: &Work, plan: &Plan) -> Result<(), Trouble> {
        let repositories = plan.repositories();
        if repositories.is_empty() {
            return Ok(());
        }
        let mut links = plan::links(open(&work.list)?, &repositories)?;
        for repo in &repositories {
            let linked = links.remove(repo).unwrap_or_default();
            let index = match self.index(repo) {
                // It has none over there either, so nobody asks.
                Err(error) if error.is_not_found() && !plan.has_index(repo) => continue,
                index => index
                    .map_err(|source| Refusal::Index {
                        repo: repo.clone(),
                        source,
                    })
                    .map_err(|refusal| self.blame(refusal))?,
            };
            let mut manifest = |digest: &Digest| self.manifest(digest).map_err(io::Error::other);
            let complete = plan::closure(repo, &index, &linked, &mut manifest);
            complete.map_err(|refusal| self.blame(refusal))?;
        }
        Ok(())
    }

    /// Tells what is false over there from what is damaged here.
    fn blame(&self, refusal: Refusal) -> Trouble {
        let path = match &refusal {
            Refusal::Index { repo, .. } | Refusal::IndexChanged(repo) => {
                Some(TreePath::Index(repo.clone()))
            }
            Refusal::Closure {
                source: Incomplete::Unreadable { digest, .. } | Incomplete::Manifest { digest, .. },
                ..
            } => {
                let is_right = |bytes: Bytes| digest.algorithm().digest(&bytes) == *digest;
                let is_damaged = !self.manifest(digest).is_ok_and(is_right);
                is_damaged.then_some(TreePath::Blob(*digest))
            }
            Refusal::Closure { .. }
            | Refusal::List(_)
            | Refusal::Here(_)
            | Refusal::Entry { .. }
            | Refusal::TooMany(_)
            | Refusal::Totals { .. }
            | Refusal::Shrunk { .. }
            | Refusal::Dangling { .. }
            | Refusal::Derive(_) => None,
        };
        match path.filter(|path| !self.fetched.contains(path)) {
            Some(path) => Trouble::damaged(path, refusal),
            None => refusal.into(),
        }
    }

    fn tree_of(&self, path: &TreePath) -> &Tree {
        if self.fetched.contains(path) {
            &self.staged
        } else {
            self.mirror.writer.tree()
        }
    }

    fn index(&self, repo: &RepoDir) -> Result<RepoIndex, reader::Error> {
        self.tree_of(&TreePath::Index(repo.clone())).index(repo)
    }

    fn manifest(&self, digest: &Digest) -> Result<Bytes, reader::Error> {
        let path = TreePath::Blob(*digest);
        self.tree_of(&path).read(&path, manifest::MAX_BYTES)
    }

    /// What a tree publishes that leaves something out.
    fn derived(&self, work: &Work, plan: &Plan) -> Result<Documents, Trouble> {
        let directory = self.mirror.staging.directory();
        let (list, sizes) = (directory.join("list.part"), directory.join("sizes.part"));
        for path in [&list, &sizes] {
            remove(path).map_err(here)?;
        }
        let mut to = BufWriter::new(File::create(&list).map_err(here)?);
        let terms = self.mirror.terms(work);
        let mut index = |repo: &RepoDir| self.index(repo);
        let from = open(&work.list)?;
        let derived = plan::derive(from, &work.state, plan, &terms, &mut index, &mut to)
            .map_err(|refusal| self.blame(refusal))?;
        to.flush().map_err(here)?;
        fs::write(&sizes, &derived.sizes).map_err(here)?;
        Ok(Documents {
            sizes: Some(sizes),
            list,
            state: derived.state.to_bytes(),
            module: module(work),
        })
    }

    /// The blobs that get a name. One whose pieces alone were lacking has it, and its links.
    fn blobs_to_name(&self, plan: &Plan) -> Result<Vec<Digest>, Trouble> {
        let mut blobs = Vec::new();
        for wanted in &plan.blobs {
            let TreePath::Blob(digest) = &wanted.path else {
                continue;
            };
            let size = self.mirror.writer.tree().blob_size(digest).map_err(here)?;
            if !plan.holds(digest) || size != Some(wanted.size) {
                blobs.push(*digest);
            }
        }
        Ok(blobs)
    }
}

/// What is gone and was not what its name says, in the steps in which it is removed. In its grace it would
/// be taken for right once it comes back. An index that is gone too goes before what it names.
fn wrong_ones(planned: &Planned) -> [Vec<TreePath>; 3] {
    let mut steps = [Vec::new(), Vec::new(), Vec::new()];
    let [indexes, links, blobs] = &mut steps;
    let gone: BTreeSet<&TreePath> = planned.plan.gone.iter().collect();
    for path in &planned.disowned {
        if !gone.contains(path) {
            continue;
        }
        if let TreePath::Link(repo, _) = path {
            let index = TreePath::Index(repo.clone());
            if gone.contains(&index) && indexes.last() != Some(&index) {
                indexes.push(index);
            }
            links.push(path.clone());
        } else {
            blobs.push(path.clone());
        }
    }
    steps
}

/// Removes files that must not stay, and the directories that are empty and not in the list: those of a run
/// that was cut off before it had put anything there, for a tree that is another one now.
fn remove_litter(
    mirror: &Mirror,
    wrong: &[Vec<TreePath>],
    walked: &[PathBuf],
    list: &Path,
) -> Result<(), Trouble> {
    let mut listed = HashSet::new();
    for record in Reader::new(open(list)?) {
        match record.map_err(here)? {
            Record::Entry(entry) if entry.kind == EntryKind::Directory => {
                listed.insert(PathBuf::from(entry.path.as_str()));
            }
            Record::Entry(_) => {}
            Record::Sum(..) => break,
        }
    }
    let litter: Vec<PathBuf> = walked
        .iter()
        .filter(|path| !listed.contains(*path))
        .cloned()
        .collect();
    mirror.writer.remove_unlisted(wrong, &litter, &listed)?;
    Ok(())
}

/// What says of the tree what it is.
struct Documents {
    sizes: Option<PathBuf>,
    list: PathBuf,
    state: Vec<u8>,
    module: Module,
}

/// What the other tree publishes, byte for byte.
fn verbatim(mirror: &Mirror, work: &Work, plan: &Plan) -> Documents {
    let sizes = plan.sizes.as_ref();
    let sizes = sizes.map(|wanted| mirror.staging.path(&wanted.path));
    Documents {
        sizes,
        list: work.list.clone(),
        state: work.state_bytes.to_vec(),
        module: module(work),
    }
}

fn module(work: &Work) -> Module {
    let list = work.state.list.as_ref();
    list.map(|list| list.module.clone()).unwrap_or_default()
}

fn changed_indexes(plan: &Plan) -> Vec<RepoDir> {
    let of_path = |path: &TreePath| match path {
        TreePath::Index(repo) => Some(repo.clone()),
        _ => None,
    };
    let found: BTreeSet<RepoDir> = plan
        .indexes
        .iter()
        .filter_map(|wanted| of_path(&wanted.path))
        .collect();
    found.into_iter().collect()
}

/// What is not gone, whatever was written down.
fn needed(plan: &Plan) -> Vec<TreePath> {
    let wanted = plan.blobs.iter().chain(&plan.indexes);
    let wanted = wanted.map(|wanted| wanted.path.clone());
    let pieces = plan.pieces.iter().map(|it| TreePath::Pieces(it.digest));
    let links = plan.links.iter();
    let links = links.map(|(repo, digest)| TreePath::Link(repo.clone(), *digest));
    let layouts = plan.layouts.iter().cloned().map(TreePath::Layout);
    let back = plan.back.iter().cloned();
    wanted
        .chain(pieces)
        .chain(links)
        .chain(layouts)
        .chain(back)
        .collect()
}

/// Keeps the list of the other tree if the one published here is another: the next may be much like it.
fn keep_list(mirror: &Mirror, work: &Work, plan: &Plan) -> io::Result<()> {
    let kept = mirror.staging.directory().join(UPSTREAM_LIST);
    if plan.is_verbatim {
        remove(&kept)
    } else {
        fs::rename(&work.list, kept)
    }
}

fn open(path: &Path) -> Result<BufReader<File>, Trouble> {
    let list = File::open(path).with_context(|| format!("cannot read {}", path.display()));
    list.map(buffered).map_err(here)
}

fn here(error: impl Into<anyhow::Error>) -> Trouble {
    Trouble::new(Kind::Here, error)
}
