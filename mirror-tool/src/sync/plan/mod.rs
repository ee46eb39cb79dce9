//! What has to be done so that one tree becomes what the list of another says.
//!
//! Nothing is read or written here but what is handed in, and nothing of it is believed that can be
//! checked: a list says in several places the same, and its state says in another what it adds up to.
//! What cannot be true is refused before anything is fetched ([`Refusal`]).
//!
//! Both lists are sorted, so they are compared as they are read ([`make`]). What is kept in memory is the
//! difference, and a row for each blob, since a list names blobs long before the links that say which of
//! them are carried.
//!
//! A mirror that carries all of a tree publishes its list and its state byte for byte. One that leaves
//! something out has to say so, in a list and a state of its own (`derive`).

mod carried;
pub mod closure;
pub mod derive;
mod diff;
pub mod filter;
pub mod links;
mod old;
mod part;
pub mod refusal;
mod sum_up;
#[cfg(test)]
mod tests;
mod unproven;

use std::collections::{BTreeMap, BTreeSet};

use oci_mirror::digest::Digest;
use oci_mirror::tree::list::{Kind, ListPath, Sum};
use oci_mirror::tree::{RepoDir, TreePath};

use super::{Proof, Wanted};
use carried::Carried;
pub use closure::closure;
pub use derive::{Derived, derive};
pub use diff::make;
pub use filter::Filter;
pub use links::links;
pub use part::is_directory;
pub use refusal::Refusal;

/// On what terms another tree is followed.
#[derive(Debug, Clone)]
pub struct Terms<'a> {
    /// Which repositories are carried.
    pub filter: &'a Filter,
    /// Most entries its list may have.
    pub max_entries: u64,
    /// Whether it may have lost more than half of what it had. Also when the filter is another one than
    /// last time: then it is here that something is left out.
    pub accept_shrink: bool,
    /// The time it is, in seconds since 1970.
    pub now: i64,
}

/// What the tree here is, as far as it is known.
#[derive(Debug)]
pub struct Here<'a, R> {
    /// What it consists of.
    pub tree: Baseline<R>,
    /// What it has though its list does not, in its grace, with the length it was found to have. What its
    /// path does not name by a digest counts as changed.
    pub gone: &'a BTreeMap<TreePath, u64>,
}

/// What a tree consists of.
#[derive(Debug)]
pub enum Baseline<R> {
    /// It is new.
    Nothing,
    /// It is exactly what this list of its own says.
    List(R),
    /// It was walked, and this was found, in the order of a list.
    Found(Vec<Held>),
}

/// A file or directory that a walk found, and that is right as far as its name says what it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Where it is.
    pub path: ListPath,
    /// What it is.
    pub kind: Kind,
    /// Its length in bytes.
    pub size: u64,
    /// The SHA-256 of what its path does not name by a digest; without it such a file counts as changed.
    pub sum: Option<Sum>,
}

impl Held {
    /// Makes it a file that nothing equals: its content is not what its name says, or nobody knows.
    pub fn disown(&mut self) {
        self.size = DISOWNED;
    }

    /// Whether it is such a file.
    pub fn is_disowned(&self) -> bool {
        self.kind == Kind::File && self.size == DISOWNED
    }
}

/// A length that nothing has.
const DISOWNED: u64 = u64::MAX;

/// What has to be done. All of it is carried, in the order of the list.
#[derive(Debug, Default)]
pub struct Plan {
    /// Blobs to be fetched.
    pub blobs: Vec<Wanted>,
    /// Piece hashes that are not here. Those of `blobs` come of hashing them; of others, they are among
    /// [`wanted`](Self::wanted).
    pub pieces: Vec<PiecesFile>,
    /// Links to be made; also those that are there, of blobs that are not.
    pub links: Vec<(RepoDir, Digest)>,
    /// Repositories that lack their `oci-layout`, which is always the same.
    pub layouts: Vec<RepoDir>,
    /// Indexes to be fetched.
    pub indexes: Vec<Wanted>,
    /// The new `DIRECTORY_SIZES.txt`, if it is followed byte for byte and has changed.
    pub sizes: Option<Wanted>,
    /// Directories to be made, empty ones among them.
    pub directories: Vec<ListPath>,
    /// What is here and not over there, or not carried any more.
    pub gone: Vec<TreePath>,
    /// What was gone and is over there again.
    pub back: Vec<TreePath>,
    /// Whether list and state are published byte for byte; if not, [`derive()`] makes them.
    pub is_verbatim: bool,
    /// Entries of the list that are no part of a tree, or not for everybody.
    pub skipped: u64,
    /// Bytes to be fetched.
    pub bytes: u64,
    /// Bytes of the blobs that are here already.
    pub held_bytes: u64,
    carried: Carried,
}

/// The piece hashes of a blob, as a list has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PiecesFile {
    /// The blob they are of.
    pub digest: Digest,
    /// The SHA-256 of the file. A tree whose file is damaged lists it without.
    pub sum: Option<Sum>,
    /// Its length in bytes, which is the one the length of the blob asks for.
    pub size: u64,
    /// Its time, in seconds since 1970.
    pub time: i64,
}

impl Plan {
    /// All that has to be fetched.
    pub fn wanted(&self) -> Vec<Wanted> {
        let of_pieces = |it: &PiecesFile| {
            let is_computed = self.blobs_have(&it.digest);
            let sum = it.sum.filter(|_| !is_computed)?;
            Some(Wanted {
                path: TreePath::Pieces(it.digest),
                size: it.size,
                proof: Proof::Sum(sum),
                time: it.time,
            })
        };
        let blobs = self.blobs.iter().cloned();
        let others = self.indexes.iter().chain(&self.sizes).cloned();
        blobs
            .chain(self.pieces.iter().filter_map(of_pieces))
            .chain(others)
            .collect()
    }

    /// Whether the tree is as the list says but for times. Its list and state may be others all the same.
    pub fn is_empty(&self) -> bool {
        self.blobs.is_empty()
            && self.pieces.is_empty()
            && self.links.is_empty()
            && self.layouts.is_empty()
            && self.indexes.is_empty()
            && self.sizes.is_none()
            && self.directories.is_empty()
            && self.gone.is_empty()
            && self.back.is_empty()
    }

    /// Repositories of which something changes and that stay: those whose tags have to be looked at.
    pub fn repositories(&self) -> BTreeSet<RepoDir> {
        let of_path = |path: &TreePath| match path {
            TreePath::Link(repo, _) | TreePath::Index(repo) => Some(repo.clone()),
            _ => None,
        };
        let indexes = self.indexes.iter().filter_map(|it| of_path(&it.path));
        let removed = self.gone.iter().filter_map(of_path);
        let linked = self.links.iter().map(|(repo, _)| repo.clone());
        let mut found: BTreeSet<RepoDir> = indexes.chain(removed).chain(linked).collect();
        for path in &self.gone {
            if let TreePath::Index(repo) = path {
                found.remove(repo);
            }
        }
        found
    }

    fn blobs_have(&self, digest: &Digest) -> bool {
        let path = TreePath::Blob(*digest);
        self.blobs
            .binary_search_by(|blob| blob.path.cmp(&path))
            .is_ok()
    }
}
