//! What the tree here is: by its list if that is known to be true, by looking at all of it otherwise.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io::{self, BufReader, Seek as _};
use std::num::NonZero;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use oci_mirror::digest::{Algorithm, Digest};
use oci_mirror::tree::list::Kind;
use oci_mirror::tree::state::{self, State};
use oci_mirror::tree::walk::Walk;
use oci_mirror::tree::{Tree, TreePath, reader};

use super::Mirror;
use super::trouble::{self, Trouble};
use crate::sync::gone::{self, Gone};
use crate::sync::plan::{Baseline, Held, Refusal};
use crate::sync::staging::failed;

/// Whether the tree is what its list says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    ByList,
    /// It has to be looked at.
    Not,
}

/// The list of an earlier run.
#[derive(Debug)]
pub(super) enum Kept {
    /// A copy of the very list, where a new one would be brought.
    Same(PathBuf),
    /// One that the new one may be much like.
    Basis(Option<PathBuf>),
}

/// What is kept for its grace.
pub(super) struct InGrace {
    pub(super) gone: Gone,
    /// What is there of it, and how long it is.
    pub(super) sizes: BTreeMap<TreePath, u64>,
    /// Whether the record of it could be read.
    pub(super) is_whole: bool,
}

/// The list of the other tree, where the one that is published here is another.
pub(super) const UPSTREAM_LIST: &str = "upstream-list";

/// The digest of the state that is published in a tree.
pub(super) fn published(tree: &Tree) -> Option<Digest> {
    let bytes = tree.read(&TreePath::State, state::MAX_BYTES).ok()?;
    Some(Algorithm::Sha256.digest(&bytes))
}

impl Mirror {
    /// Makes room for a new list, and looks for the one of an earlier run: a copy of it if it is the one
    /// that is `wanted`.
    pub(super) fn kept_list(&self, wanted: Option<Digest>) -> Result<Kept, Trouble> {
        let staged = self.staging.list();
        let here = |source: io::Error| Trouble::from(failed(&staged, source));
        // Never written over: it may be the same file as one that is kept.
        remove(&staged).map_err(here)?;
        let of_state = |state: State| state.list.map(|list| TreePath::List(list.module));
        let published = self.writer.tree().state().ok().and_then(of_state);
        let published = published.map(|path| path.under(self.writer.tree().root()));
        let of_upstream = self.staging.directory().join(UPSTREAM_LIST);
        let candidates = [Some(of_upstream), published];
        let candidates = candidates.into_iter().flatten().filter(|it| it.exists());
        let mut basis = None;
        for path in candidates {
            if let Some(wanted) = wanted
                && open_if(&path, &wanted).is_some()
            {
                fs::copy(&path, &staged).map_err(here)?;
                return Ok(Kept::Same(staged));
            }
            basis.get_or_insert(path);
        }
        Ok(Kept::Basis(basis))
    }

    /// What is kept for its grace.
    pub(super) fn gone(&self) -> Result<InGrace, Trouble> {
        let (gone, is_whole) = match gone::read(self.writer.tree()) {
            Ok(gone) => (gone, true),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => (Gone::new(), false),
            Err(error) => {
                let error = anyhow::Error::new(error).context("cannot read what is gone already");
                return Err(Trouble::new(trouble::Kind::Here, error));
            }
        };
        let root = self.writer.tree().root();
        let size = |path: &TreePath| {
            let metadata = fs::symlink_metadata(path.under(root)).ok()?;
            metadata.is_file().then_some(metadata.len())
        };
        let sizes = gone
            .keys()
            .filter_map(|path| Some((path.clone(), size(path)?)))
            .collect();
        Ok(InGrace {
            gone,
            sizes,
            is_whole,
        })
    }

    /// What the tree consists of.
    pub(super) fn baseline(&self, known: Known) -> Result<Baseline<BufReader<File>>, Refusal> {
        if known == Known::ByList
            && let Some(list) = self.published_list()
        {
            return Ok(Baseline::List(buffered(list)));
        }
        let held = self.found().map_err(io::Error::other);
        let held = held.map_err(Refusal::Derive)?;
        if held.is_empty() {
            return Ok(Baseline::Nothing);
        }
        Ok(Baseline::Found(held))
    }

    /// The list that the state here names, if it is there and whole.
    pub(super) fn published_list(&self) -> Option<File> {
        let list = self.writer.tree().state().ok()?.list?;
        let path = TreePath::List(list.module);
        open_if(&path.under(self.writer.tree().root()), &list.digest)
    }

    /// Walks the tree.
    ///
    /// A name says that the content is right where this program has given it. A tree that somebody else
    /// has made is read once.
    fn found(&self) -> Result<Vec<Held>, reader::Error> {
        let tree = self.writer.tree();
        let mut held = Vec::new();
        for found in Walk::new(tree)? {
            let entry = found?.entry;
            let sum = match entry.path.as_str().parse() {
                Ok(
                    path @ (TreePath::Index(_)
                    | TreePath::Layout(_)
                    | TreePath::Pieces(_)
                    | TreePath::DirectorySizes),
                ) => tree
                    .open_file(&path)
                    .ok()
                    .and_then(|file| Algorithm::Sha256.digest_of(file).ok()),
                Ok(
                    TreePath::Blob(_) | TreePath::Link(..) | TreePath::State | TreePath::List(_),
                )
                | Err(_) => None,
            };
            let sum = match sum {
                Some(Digest::Sha256(sum)) => Some(sum),
                Some(Digest::Sha512(_)) | None => None,
            };
            held.push(Held {
                path: entry.path,
                kind: entry.kind,
                size: entry.size,
                sum,
            });
        }
        if self.memory.is_none() {
            disown_what_is_wrong(&mut held, tree);
        }
        let damaged = self.damaged();
        for held in held.iter_mut().filter(|held| held.kind == Kind::File) {
            let path = held.path.as_str().parse::<TreePath>();
            if !damaged.is_empty() && path.is_ok_and(|path| damaged.contains(&path)) {
                held.disown();
            }
        }
        drop(damaged);
        Ok(held)
    }
}

/// Reads all blobs, and gives those that are not what their names say a length that nothing has; and all
/// links that are files of their own, since nobody has read these.
fn disown_what_is_wrong(held: &mut [Held], tree: &Tree) {
    let blobs: Vec<Digest> = held
        .iter()
        .filter(|held| held.kind == Kind::File)
        .filter_map(|held| match held.path.as_str().parse() {
            Ok(TreePath::Blob(digest)) => Some(digest),
            _ => None,
        })
        .collect();
    let right = right_ones(&blobs, tree);
    for held in held {
        let is_right = match held.path.as_str().parse() {
            Ok(TreePath::Blob(digest)) => right.contains(&digest),
            Ok(TreePath::Link(repo, digest)) => {
                let blob = TreePath::Blob(digest).under(tree.root());
                let link = TreePath::Link(repo, digest).under(tree.root());
                right.contains(&digest) && is_same_file(&blob, &link)
            }
            _ => true,
        };
        if !is_right && held.kind == Kind::File {
            tracing::info!(path = %held.path, "not taken over: its content is not known to be right");
            held.disown();
        }
    }
}

/// Those of the blobs whose content is what their names say, found out on all cores.
fn right_ones(blobs: &[Digest], tree: &Tree) -> HashSet<Digest> {
    let next = AtomicUsize::new(0);
    let right = Mutex::new(HashSet::new());
    let work = || {
        while let Some(digest) = blobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let file = tree.open_file(&TreePath::Blob(*digest)).ok();
            let found = file.and_then(|file| digest.algorithm().digest_of(file).ok());
            if found == Some(*digest) {
                let mut right = right.lock().unwrap_or_else(PoisonError::into_inner);
                right.insert(*digest);
            }
        }
    };
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    thread::scope(|scope| {
        for _ in 1..cores.min(blobs.len()) {
            scope.spawn(work);
        }
        work();
    });
    right.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn is_same_file(one: &Path, other: &Path) -> bool {
    let identity = |path| fs::symlink_metadata(path).map(|it| (it.dev(), it.ino()));
    matches!((identity(one), identity(other)), (Ok(one), Ok(other)) if one == other)
}

/// Opens a file if its content has this digest.
fn open_if(path: &Path, digest: &Digest) -> Option<File> {
    let mut file = File::open(path).ok()?;
    let found = digest.algorithm().digest_of(&file).ok()?;
    file.rewind().ok()?;
    (found == *digest).then_some(file)
}

/// A file list to be read from beginning to end.
pub(super) fn buffered(list: File) -> BufReader<File> {
    BufReader::with_capacity(128 << 10, list)
}

/// Removes a file that may not be there.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
