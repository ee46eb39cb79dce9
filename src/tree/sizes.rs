//! `DIRECTORY_SIZES.txt`: what each part of a tree costs a mirror.
//!
//! Whoever mirrors only some repositories wants to know what that takes before it starts. Content is
//! counted by digest, not by file, so that the figures are the same on every mirror, whether it kept the
//! hardlinks or not.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

use super::path::{RepoDir, TreePath};
use crate::digest::Digest;

const HEADER: &str = "\
# What each part of this tree costs a mirror. The columns are separated by tabs:
#   BYTES  what a mirror of only that part has to keep
#   OWN    what of it nothing else in the tree needs; of blobs, what no repository needs
#   PATH   the part: the whole tree, a directory, or one repository
# Content that has several names in one part is counted once, as `rsync --hard-links` keeps it.
# Neither the file list nor state.json nor this file is counted.
# BYTES\tOWN\tPATH
";

/// What the parts of a tree cost, added up file by file.
///
/// It needs some fifty bytes for each distinct blob that a repository links to.
#[derive(Debug, Default)]
pub struct Sizes {
    blobs: u64,
    pieces: u64,
    /// Indexes, layouts, and what is no file of a tree.
    others: u64,
    /// Content that some repository links to.
    linked: u64,
    costs: Vec<Cost>,
    repositories: BTreeMap<RepoDir, usize>,
    /// Which repository links to some content; `None` once there are two.
    owners: HashMap<u128, Option<usize>>,
}

#[derive(Debug, Default)]
struct Cost {
    bytes: u64,
    own: u64,
}

impl Sizes {
    /// Counts one file; `None` is one that no tree has by itself.
    pub fn add(&mut self, path: Option<&TreePath>, size: u64) {
        match path {
            Some(TreePath::Blob(_)) => add(&mut self.blobs, size),
            Some(TreePath::Pieces(_)) => add(&mut self.pieces, size),
            Some(TreePath::Layout(repo) | TreePath::Index(repo)) => {
                add(&mut self.others, size);
                let repo = self.repository(repo);
                add(&mut self.costs[repo].bytes, size);
                add(&mut self.costs[repo].own, size);
            }
            Some(TreePath::Link(repo, digest)) => {
                let repo = self.repository(repo);
                add(&mut self.costs[repo].bytes, size);
                self.link(digest, repo, size);
            }
            Some(TreePath::State | TreePath::List(_) | TreePath::DirectorySizes) => {}
            None => add(&mut self.others, size),
        }
    }

    /// The content of the file.
    pub fn to_text(&self) -> String {
        let mut text = String::from(HEADER);
        let mut line = |bytes: u64, own: u64, path: &str| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{bytes}\t{own}\t{path}");
        };
        let all = self.blobs.saturating_add(self.pieces);
        let all = all.saturating_add(self.others);
        line(all, all, ".");
        line(self.blobs, self.blobs.saturating_sub(self.linked), "blobs");
        line(self.pieces, self.pieces, "pieces");
        for (repo, index) in &self.repositories {
            let Cost { bytes, own } = self.costs[*index];
            line(bytes, own, &repo.to_string());
        }
        text
    }

    fn link(&mut self, digest: &Digest, repo: usize, size: u64) {
        // Half of the shortest digest is unique enough, and the table is the largest thing here.
        let half = digest.as_bytes().first_chunk().copied();
        let key = u128::from_be_bytes(half.unwrap_or_default());
        match self.owners.insert(key, Some(repo)) {
            None => {
                add(&mut self.linked, size);
                add(&mut self.costs[repo].own, size);
            }
            Some(first) => {
                if let Some(first) = first {
                    let own = &mut self.costs[first].own;
                    *own = own.saturating_sub(size);
                }
                self.owners.insert(key, None);
            }
        }
    }

    fn repository(&mut self, repo: &RepoDir) -> usize {
        if let Some(index) = self.repositories.get(repo) {
            return *index;
        }
        let index = self.costs.len();
        self.costs.push(Cost::default());
        self.repositories.insert(repo.clone(), index);
        index
    }
}

/// A list of a stranger may name any size.
fn add(sum: &mut u64, size: u64) {
    *sum = sum.saturating_add(size);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Algorithm;

    #[test]
    fn shared_content_is_counted_in_each_repository_and_owned_by_none() {
        let digest = |text: &str| Algorithm::Sha256.digest(text.as_bytes());
        let repo = |name: &str| name.parse::<RepoDir>().unwrap();
        let (shared, own, lost) = (digest("shared"), digest("own"), digest("lost"));
        let mut sizes = Sizes::default();
        for (path, size) in [
            (TreePath::DirectorySizes, 1 << 40),
            (TreePath::Blob(shared), 1000),
            (TreePath::Blob(own), 100),
            (TreePath::Blob(lost), 10),
            (TreePath::Pieces(shared), 32),
            (TreePath::Index(repo("b")), 1),
            (TreePath::Link(repo("b"), shared), 1000),
            (TreePath::Link(repo("b/c"), shared), 1000),
            (TreePath::Index(repo("a")), 2),
            (TreePath::Link(repo("a"), shared), 1000),
            (TreePath::Link(repo("a"), own), 100),
        ] {
            sizes.add(Some(&path), size);
        }
        sizes.add(None, 5);
        let text = sizes.to_text();
        let lines: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(
            lines,
            [
                "1150\t1150\t.",
                "1110\t10\tblobs",
                "32\t32\tpieces",
                "1102\t102\trepos/a",
                "1001\t1\trepos/b",
                "1000\t0\trepos/b/c",
            ]
        );
    }
}
