//! What an entry of a list is to a tree.

use oci_mirror::digest::Algorithm;
use oci_mirror::tree::list::{Access, Entry, Kind};
use oci_mirror::tree::{RepoDir, TreePath};

/// What an entry of a list is to a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    /// One of its files.
    File(TreePath),
    /// A directory that one of its files can be in.
    Directory,
    /// Not for everybody, whatever it is.
    Hidden(Option<TreePath>),
    /// Something that somebody else put there.
    Foreign,
}

/// What an entry is to a tree; a symbolic link is nothing.
pub(super) fn part(entry: &Entry) -> Part {
    let file = || entry.path.as_str().parse::<TreePath>().ok();
    match (entry.kind, entry.access) {
        (Kind::File, Access::Public) => match file() {
            // A list is never among its own entries.
            None | Some(TreePath::List(_)) => Part::Foreign,
            Some(path) => Part::File(path),
        },
        (Kind::Directory, Access::Public) if is_directory(entry.path.as_str()) => Part::Directory,
        (Kind::File, Access::Restricted | Access::Unreleased) => Part::Hidden(file()),
        (Kind::Directory | Kind::Link, _) => Part::Foreign,
    }
}

/// The time that a file is given: nothing is from before 1970, or newer than tomorrow.
pub(super) fn time(entry: &Entry, now: i64) -> u32 {
    let latest = now.saturating_add(DAY).max(0);
    u32::try_from(entry.time.clamp(0, latest)).unwrap_or(u32::MAX)
}

const DAY: i64 = 24 * 60 * 60;

/// Whether a file of a tree can be below such a directory.
pub fn is_directory(path: &str) -> bool {
    let Some((top, below)) = path.split_once('/') else {
        return matches!(path, "blobs" | "pieces" | "repos");
    };
    let is_algorithm = |name: &str| name.parse::<Algorithm>().is_ok();
    if top == "repos" {
        let above = match below.rsplit_once('/') {
            Some((above, algorithm)) if is_algorithm(algorithm) => above,
            _ => below,
        };
        let of_blobs = above.strip_suffix("/blobs");
        return [Some(below), of_blobs]
            .into_iter()
            .flatten()
            .any(|repo| repo.parse::<RepoDir>().is_ok());
    }
    let is_byte = |name: &str| {
        name.len() == 2 && name.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'))
    };
    let (algorithm, fan) = below.split_once('/').unwrap_or((below, "00"));
    matches!(top, "blobs" | "pieces") && is_algorithm(algorithm) && is_byte(fan)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_of_a_tree_are_those_that_files_can_be_in() {
        for path in [
            "blobs",
            "pieces",
            "repos",
            "blobs/sha256",
            "pieces/sha512",
            "blobs/sha256/0f",
            "repos/a",
            "repos/a/b",
            "repos/a/blobs",
            "repos/a/b/blobs/sha256",
            "repos/blobs",
            "repos/blobs/sha256",
            "repos/sha256",
            "repos/a/sha256",
        ] {
            assert!(is_directory(path), "{path}");
        }
        for path in [
            "iso",
            "blobs/md5",
            "blobs/sha256/0",
            "blobs/sha256/0g",
            "blobs/sha256/00/x",
            "blobs/00",
            "repos/A",
            "repos/a/blobs/x",
            "repos/a/blobs/md5",
            "repos/a/index.json",
            "repos/.x",
            "other/sha256/00",
            "repos/a/blobs/sha256/b",
        ] {
            assert!(!is_directory(path), "{path}");
        }
    }
}
