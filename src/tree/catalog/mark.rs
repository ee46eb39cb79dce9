//! Telling a repository that has not changed without reading it.
//!
//! A repository is read again when its `index.json` or the directories of its links are not what they
//! were. Nobody can set the time of a change (`ctime`), so it is part of the mark; but two changes within
//! one tick of the kernel's clock have the same. What has changed a moment before it was marked is
//! therefore not trusted to be the same later.

use jiff::{SignedDuration, Timestamp};

use crate::digest::Algorithm;
use crate::tree::path::{RepoDir, TreePath};
use crate::tree::reader::{FileMark, Tree};

/// How long after a change another one is sure to have another time: two ticks of the coarsest clock
/// among file systems.
const SETTLED: SignedDuration = SignedDuration::from_secs(2);

/// What a repository looked like before it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mark {
    index: FileMark,
    /// The directories of links, by algorithm; one that is not there has no mark.
    links: [Option<FileMark>; Algorithm::ALL.len()],
}

impl Mark {
    /// The mark of a repository at `now`; `None` if it cannot be told from what it will be after the
    /// next change.
    pub(super) fn of(repo: &RepoDir, tree: &Tree, now: Timestamp) -> Option<Self> {
        let index = tree
            .mark(&TreePath::Index(repo.clone()).to_string())
            .ok()??;
        let links = Algorithm::ALL.map(|algorithm| tree.mark(&format!("{repo}/blobs/{algorithm}")));
        let mark = match links {
            [Ok(sha256), Ok(sha512)] => Self {
                index,
                links: [sha256, sha512],
            },
            _ => return None,
        };
        let mut files = [Some(mark.index), mark.links[0], mark.links[1]]
            .into_iter()
            .flatten();
        let is_settled = files.all(|file| now.duration_since(file.changed()) >= SETTLED);
        is_settled.then_some(mark)
    }
}
