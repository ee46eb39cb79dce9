//! Walking a tree in the order of its file list.
//!
//! Every directory is opened below the one above it, and no symbolic link is followed, so the walk
//! cannot leave the tree. Sorting by the bytes of whole paths needs no more memory than the names of
//! the directories that are open: `a` comes first, then `a.b`, then `a/`, so a directory is two entries
//! of the one above it, itself and what is below it.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::vec;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use tracing::warn;

use super::list::{Access, Entry, Kind, ListPath};
use super::path::TreePath;
use super::reader::{Error, Tree};
use super::writer::TEMPORARY;
use crate::excerpt::Excerpt;

/// How deep directories are followed. The deepest of a repository's has half as many.
const MAX_DEPTH: usize = 300;

/// A directory of a file system's own at the top of many volumes; mirrors cannot read it.
const LOST_AND_FOUND: &str = "lost+found";

/// The regular files and directories of a tree, sorted by the bytes of their paths.
///
/// What a list does not have is left out: [`TEMPORARY`] at any depth, lists, symbolic links, devices,
/// and names that cannot stand on a line. What vanishes while the walk is on is left out too. After an
/// error it yields nothing more.
#[derive(Debug)]
pub struct Walk {
    root: PathBuf,
    /// The directories that are open, the outermost first.
    levels: Vec<Level>,
}

/// A file or directory as a walk finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What the list says of it.
    pub entry: Entry,
    /// The file system it is on.
    pub device: u64,
}

impl Walk {
    /// Starts a walk over `tree`.
    pub fn new(tree: &Tree) -> Result<Self, Error> {
        let root = tree.root().to_owned();
        let top = Level::open(tree.directory().as_fd(), ".", String::new(), &root)?;
        let levels = Vec::from_iter(top);
        Ok(Self { root, levels })
    }

    fn advance(&mut self) -> Result<Option<Found>, Error> {
        while let Some(level) = self.levels.last_mut() {
            let Some(step) = level.steps.next() else {
                self.levels.pop();
                continue;
            };
            let path = format!("{}{}", level.prefix, step.key);
            let failed = |source: io::Error| Error::Directory {
                path: self.root.join(&path),
                source,
            };
            if let Some(name) = step.key.strip_suffix('/') {
                let parent = level.directory.as_fd();
                let below = Level::open(parent, name, path.clone(), &self.root)?;
                if self.levels.len() == MAX_DEPTH {
                    return Err(failed(io::Error::other(
                        "nested deeper than any directory of a tree",
                    )));
                }
                self.levels.extend(below);
                continue;
            }
            let stat = match stat(level.directory.as_fd(), OsStr::new(&step.key)) {
                Err(Errno::NOENT) => continue,
                stat => stat.map_err(|errno| failed(errno.into()))?,
            };
            // Longer than the system takes is longer than a list takes.
            let (Ok(path), Some(kind)) = (path.parse(), kind(&stat)) else {
                continue;
            };
            let time = i64::max(stat.st_mtime, stat.st_ctime);
            let entry = Entry {
                time,
                kind,
                access: Access::Public,
                size: u64::try_from(stat.st_size).unwrap_or_default(),
                path,
            };
            let device = stat.st_dev;
            return Ok(Some(Found { entry, device }));
        }
        Ok(None)
    }
}

impl Iterator for Walk {
    type Item = Result<Found, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let found = self.advance();
        if found.is_err() {
            self.levels.clear();
        }
        found.transpose()
    }
}

#[derive(Debug)]
struct Level {
    directory: OwnedFd,
    /// The directory's path and a slash; nothing at the top.
    prefix: String,
    steps: vec::IntoIter<Step>,
}

/// Something to be done in a directory.
#[derive(Debug)]
struct Step {
    /// A name; with a slash at its end it stands for what lies below.
    key: String,
}

impl Level {
    /// Opens a directory and plans what to do in it; one that vanished is `None`.
    fn open(
        parent: BorrowedFd<'_>,
        name: &str,
        prefix: String,
        root: &Path,
    ) -> Result<Option<Self>, Error> {
        let failed = |errno: Errno| Error::Directory {
            path: root.join(&prefix),
            source: errno.into(),
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = match rustix::fs::openat(parent, name, flags, Mode::empty()) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            // No mirror can read it either.
            Err(Errno::ACCESS) => {
                warn!(directory = %prefix, "not listing what is in a directory that cannot be read");
                return Ok(None);
            }
            opened => opened.map_err(failed)?,
        };
        let mut steps = Vec::new();
        for entry in Dir::read_from(&directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if matches!(name.as_bytes(), b"." | b"..") || name == TEMPORARY {
                continue;
            }
            // Not every file system says with the name what it is.
            let kind = match entry.file_type() {
                FileType::RegularFile => Some(Kind::File),
                FileType::Directory => Some(Kind::Directory),
                FileType::Unknown => match stat(directory.as_fd(), name) {
                    Err(Errno::NOENT) => None,
                    stat => kind(&stat.map_err(failed)?),
                },
                _ => None,
            };
            let Some(kind) = kind else {
                continue;
            };
            let Some(key) = name
                .to_str()
                .filter(|name| name.parse::<ListPath>().is_ok())
            else {
                let name = name.to_string_lossy();
                let name = Excerpt(&name);
                warn!(%name, directory = %prefix, "not listing a name that is not plain text");
                continue;
            };
            if prefix.is_empty() && is_left_out_at_top(key) {
                continue;
            }
            if kind == Kind::Directory {
                let key = format!("{key}/");
                steps.push(Step { key });
            }
            let key = key.to_owned();
            steps.push(Step { key });
        }
        steps.sort_unstable_by(|one, other| one.key.cmp(&other.key));
        Ok(Some(Self {
            directory,
            prefix,
            steps: steps.into_iter(),
        }))
    }
}

fn is_left_out_at_top(name: &str) -> bool {
    name == LOST_AND_FOUND || matches!(name.parse(), Ok(TreePath::List(_)))
}

fn stat(directory: BorrowedFd<'_>, name: &OsStr) -> Result<Stat, Errno> {
    rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)
}

fn kind(stat: &Stat) -> Option<Kind> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Some(Kind::File),
        FileType::Directory => Some(Kind::Directory),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, symlink};

    use super::*;

    fn paths(tree: &Path) -> Vec<String> {
        let walk = Walk::new(&Tree::open(tree).unwrap()).unwrap();
        walk.map(|found| found.unwrap().entry.path.to_string())
            .collect()
    }

    #[test]
    fn whole_paths_are_in_the_order_of_their_bytes() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a/b/c", "a-b/c", "a.b", "a/b.c", "a0", "B", "a/é"] {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let found = paths(dir.path());
        assert!(found.is_sorted(), "{found:?}");
        let expected = [
            "B", "a", "a-b", "a-b/c", "a.b", "a/b", "a/b.c", "a/b/c", "a/é", "a0",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn what_no_mirror_should_take_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        for name in [
            ".~tmp~/dirty",
            "blobs/.~tmp~/half",
            "lost+found/x",
            "blobs/new\nline/x",
        ] {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        fs::write(dir.path().join("fullfiletimelist-containers"), "").unwrap();
        symlink("/etc", dir.path().join("etc")).unwrap();
        fs::write(dir.path().join("README"), "").unwrap();
        assert_eq!(paths(dir.path()), ["README", "blobs"]);
    }

    #[test]
    fn the_time_is_the_later_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        fs::write(&path, "four").unwrap();
        let old = std::time::SystemTime::UNIX_EPOCH;
        let file = fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(old).unwrap();
        let found = Walk::new(&Tree::open(dir.path()).unwrap())
            .unwrap()
            .next()
            .unwrap()
            .unwrap();
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!((found.entry.time, found.entry.size), (metadata.ctime(), 4));
        assert_eq!(found.device, metadata.dev());
    }

    #[test]
    fn bottomless_directories_end_in_an_error() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("d/".repeat(MAX_DEPTH + 1))).unwrap();
        let last = Walk::new(&Tree::open(dir.path()).unwrap()).unwrap().last();
        assert!(last.unwrap().is_err());
    }
}
