//! Which of a list is carried, kept from planning for the list that is made of it.
//!
//! A row for each blob of the list: 48 bytes, so that a list of millions fits in memory.

use std::collections::{BTreeMap, HashSet};

use oci_mirror::digest::Digest;
use oci_mirror::tree::list::ListPath;
use oci_mirror::tree::{RepoDir, TreePath};

/// Which of a list is carried.
#[derive(Debug, Default)]
pub(super) struct Carried {
    /// In the order of the list: all SHA-256 before all SHA-512, each by its bytes.
    sha256: Vec<[u8; 32]>,
    sha512: Vec<[u8; 64]>,
    rows: Vec<Row>,
    /// Those with anything that is carried; whether their index is.
    repositories: BTreeMap<RepoDir, bool>,
    /// The last that was entered: a list has all of a repository in one place.
    last: Option<RepoDir>,
    /// What has something carried in it; `None` if all directories are carried.
    directories: Option<HashSet<Box<str>>>,
}

/// What a list says of a blob and its pieces, and what is here of it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Row {
    pub(super) size: u64,
    pub(super) time: u32,
    pub(super) marks: u8,
}

/// What is known of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Mark {
    /// It is carried.
    Carried = 1,
    /// It is in the tree here, and as long as the list says.
    Held = 1 << 1,
    /// It belongs to what the tree here consists of.
    Old = 1 << 2,
    /// The list has its pieces.
    Pieces = 1 << 3,
    /// Its pieces are in the tree here, and as many as they must be.
    PiecesHeld = 1 << 4,
    /// Its pieces belong to what the tree here consists of.
    PiecesOld = 1 << 5,
    /// The list has the sum of its pieces.
    PiecesSum = 1 << 6,
}

impl Row {
    pub(super) fn set(&mut self, mark: Mark, is_set: bool) {
        if is_set {
            self.marks |= mark as u8;
        }
    }

    pub(super) fn is(&self, mark: Mark) -> bool {
        self.marks & mark as u8 != 0
    }
}

impl Carried {
    /// Adds a blob, in the order of the list.
    pub(super) fn push(&mut self, digest: &Digest, row: Row) {
        match digest {
            Digest::Sha256(bytes) => self.sha256.push(*bytes),
            Digest::Sha512(bytes) => self.sha512.push(*bytes),
        }
        self.rows.push(row);
    }

    fn position(&self, digest: &Digest) -> Option<usize> {
        match digest {
            Digest::Sha256(bytes) => position(&self.sha256, bytes),
            Digest::Sha512(bytes) => Some(self.sha256.len() + position(&self.sha512, bytes)?),
        }
    }

    pub(super) fn row(&self, digest: &Digest) -> Option<&Row> {
        self.rows.get(self.position(digest)?)
    }

    pub(super) fn row_mut(&mut self, digest: &Digest) -> Option<&mut Row> {
        let position = self.position(digest)?;
        self.rows.get_mut(position)
    }

    /// All blobs, carried or not.
    pub(super) fn rows(&self) -> impl Iterator<Item = (Digest, &Row)> {
        let sha256 = self.sha256.iter().map(|bytes| Digest::Sha256(*bytes));
        let sha512 = self.sha512.iter().map(|bytes| Digest::Sha512(*bytes));
        sha256.chain(sha512).zip(&self.rows)
    }

    /// Something of a repository is carried.
    pub(super) fn enter(&mut self, repo: &RepoDir, is_index: bool) {
        if !is_index && self.last.as_ref() == Some(repo) {
            return;
        }
        self.last = Some(repo.clone());
        match self.repositories.get_mut(repo) {
            Some(has_index) => *has_index |= is_index,
            None => {
                self.repositories.insert(repo.clone(), is_index);
            }
        }
    }

    /// Every blob is carried, whether a repository links to it or not, and every directory.
    pub(super) fn carry_all(&mut self) {
        for row in &mut self.rows {
            row.set(Mark::Carried, true);
        }
        self.directories = None;
    }

    /// Only directories are carried that have something in them.
    pub(super) fn find_directories(&mut self) {
        let mut found = HashSet::new();
        let mut enter = |path: String| {
            let mut path = path.as_str();
            while let Some((above, _)) = path.rsplit_once('/') {
                if !found.insert(Box::from(above)) {
                    break;
                }
                path = above;
            }
        };
        for (digest, row) in self.rows() {
            if row.is(Mark::Carried) {
                enter(TreePath::Blob(digest).to_string());
                if row.is(Mark::Pieces) {
                    enter(TreePath::Pieces(digest).to_string());
                }
            }
        }
        for repo in self.repositories.keys() {
            enter(TreePath::Index(repo.clone()).to_string());
            for algorithm in oci_mirror::digest::Algorithm::ALL {
                enter(format!("{repo}/blobs/{algorithm}/x"));
            }
        }
        self.directories = Some(found);
    }

    /// Whether a directory of a tree is carried.
    pub(super) fn has_directory(&self, path: &ListPath) -> bool {
        let directories = self.directories.as_ref();
        directories.is_none_or(|found| found.contains(path.as_str()))
    }

    /// Whether a file of a tree is carried, but for those that are made anew.
    pub(super) fn has_file(&self, path: &TreePath) -> bool {
        match path {
            TreePath::Blob(digest) => self.row(digest).is_some_and(|row| row.is(Mark::Carried)),
            TreePath::Pieces(digest) => self
                .row(digest)
                .is_some_and(|row| row.is(Mark::Carried) && row.is(Mark::Pieces)),
            TreePath::Link(repo, _) | TreePath::Index(repo) | TreePath::Layout(repo) => {
                self.repositories.contains_key(repo)
            }
            TreePath::State | TreePath::List(_) | TreePath::DirectorySizes => false,
        }
    }

    /// The repositories whose index is carried.
    pub(super) fn indexes(&self) -> impl Iterator<Item = &RepoDir> {
        let with_index = self
            .repositories
            .iter()
            .filter(|(_, has_index)| **has_index);
        with_index.map(|(repo, _)| repo)
    }
}

/// Where a digest stands among others in their order.
///
/// Digests are spread evenly, so each says about where it is: the search begins there, and ends after a few steps in
/// one place of memory. Digests that somebody has chosen cost as many steps as any search by halves, twice.
fn position<const N: usize>(sorted: &[[u8; N]], digest: &[u8; N]) -> Option<usize> {
    let head = u64::from_be_bytes(*digest.first_chunk()?);
    let guess = (u128::from(head) * sorted.len() as u128) >> u64::BITS;
    let guess = usize::try_from(guess).ok()?;
    let is_before = |at: usize| sorted.get(at).is_some_and(|other| other < digest);
    let (mut low, mut high, mut step) = (guess, guess, 16);
    while low > 0 && !is_before(low) {
        low = low.saturating_sub(step);
        step *= 2;
    }
    step = 16;
    while high < sorted.len() && is_before(high) {
        high = (high + step).min(sorted.len());
        step *= 2;
    }
    let end = sorted.len().min(high + 1);
    let found = sorted.get(low..end)?.binary_search(digest).ok()?;
    Some(low + found)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::position;

    proptest! {
        #[test]
        fn what_is_there_is_found_where_it_is_and_nothing_else(
            mut all in prop::collection::vec(prop_oneof![
                any::<[u8; 32]>(),
                // All at one end, as no digests are.
                any::<u8>().prop_map(|last| { let mut it = [0; 32]; it[31] = last; it }),
            ], 0..300),
            other: [u8; 32],
        ) {
            all.sort_unstable();
            all.dedup();
            for (at, digest) in all.iter().enumerate() {
                prop_assert_eq!(position(&all, digest), Some(at));
            }
            prop_assert_eq!(position(&all, &other), all.binary_search(&other).ok());
        }
    }
}
