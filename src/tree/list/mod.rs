//! The full file list of a tree: what a mirror compares instead of walking.
//!
//! The format is version 3 of Fedora's `fullfiletimelist-<module>`, which quick-fedora-mirror reads:
//!
//! ```text
//! [Version]
//! 3
//!
//! [Files]
//! 1767700953<TAB>d<TAB>4096<TAB>blobs
//! 1767700953<TAB>f<TAB>282<TAB>repos/a/index.json
//!
//! [Checksums SHA256]
//! <hex><TAB>repos/a/index.json
//!
//! [End]
//! ```
//!
//! The time is the later of the times of modification and of change, in whole seconds, so that a new
//! hardlink makes both of its names look new and rsync links instead of copying. Paths are relative to
//! the tree's root and sorted by their bytes. Without `[End]` the file is torn.
//!
//! [`Reader`] takes one record after the other and [`Writer`] writes one after the other, so that a
//! list of a million entries costs neither of them memory.

mod read;
mod write;

use std::fmt;
use std::str::FromStr;

use crate::excerpt::Excerpt;

pub use read::{Error, FileList, Line, Reader};
pub use write::Writer;

/// The version written, and the newest that is read.
pub const VERSION: u32 = 3;

/// Longest line read, in bytes: the longest path a system takes, and the columns before it.
pub const MAX_LINE: usize = MAX_PATH + 128;

const MAX_PATH: usize = 4096;

/// The hash of a file that is not named by its digest.
pub type Sum = [u8; 32];

/// What the records of a list are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// A line of `[Files]`.
    Entry(Entry),
    /// A line of `[Checksums SHA256]`.
    Sum(ListPath, Sum),
}

/// One file, directory or symbolic link of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The later of its times of modification and change, in seconds since 1970.
    pub time: i64,
    /// What it is.
    pub kind: Kind,
    /// Who may have it.
    pub access: Access,
    /// Its length in bytes; of a directory whatever its file system says.
    pub size: u64,
    /// Where it is.
    pub path: ListPath,
}

/// What an entry of a list is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `f`: a regular file.
    File,
    /// `d`: a directory.
    Directory,
    /// `l`: a symbolic link.
    Link,
}

/// Who may have an entry of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// No mark: everybody.
    Public,
    /// Marked `-`: not readable by everybody.
    Restricted,
    /// Marked `*`: not readable by everybody until it is released.
    Unreleased,
}

impl Kind {
    const fn letter(self) -> char {
        match self {
            Self::File => 'f',
            Self::Directory => 'd',
            Self::Link => 'l',
        }
    }
}

impl Access {
    const fn mark(self) -> &'static str {
        match self {
            Self::Public => "",
            Self::Restricted => "-",
            Self::Unreleased => "*",
        }
    }
}

impl fmt::Display for Entry {
    /// The line of the list, without its end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            time,
            kind,
            access,
            size,
            path,
        } = self;
        write!(
            f,
            "{time}\t{}{}\t{size}\t{path}",
            kind.letter(),
            access.mark()
        )
    }
}

/// A path in a list: relative, below the root, on one line.
///
/// ```
/// use oci_mirror::tree::list::ListPath;
/// assert!("repos/a/index.json".parse::<ListPath>().is_ok());
/// assert!("repos/../../etc/passwd".parse::<ListPath>().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ListPath(Box<str>);

impl ListPath {
    /// The path as text; `/` separates its parts.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ListPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ListPath {
    type Err = InvalidPath;

    fn from_str(text: &str) -> Result<Self, InvalidPath> {
        let is_right = is_surely_right(text.as_bytes()) || (stays_below(text) && is_one_line(text));
        if text.len() <= MAX_PATH && is_right {
            Ok(Self(text.into()))
        } else {
            Err(InvalidPath(Excerpt(text).into()))
        }
    }
}

/// Whether it can be seen at a glance that a path is right, as it can of nearly all: printable ASCII, in which no
/// part is empty or begins with a dot. Lists have millions of paths, and this looks at sixteen bytes at a time.
fn is_surely_right(path: &[u8]) -> bool {
    let is_odd = |byte: u8| !(b' '..=b'~').contains(&byte);
    let begins_badly = |byte: u8| byte == b'/' || byte == b'.';
    let (Some(first), Some(last)) = (path.first(), path.last()) else {
        return false;
    };
    let mut is_wrong = begins_badly(*first) || *last == b'/' || is_odd(*last);
    for (byte, next) in path.iter().zip(&path[1..]) {
        is_wrong |= is_odd(*byte) | ((*byte == b'/') & begins_badly(*next));
    }
    !is_wrong
}

/// Whether a path has only parts that lead further down.
fn stays_below(path: &str) -> bool {
    path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

/// Whether a text has no control characters.
fn is_one_line(text: &str) -> bool {
    !text.chars().any(char::is_control)
}

/// A text that is no path a list may have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not a path below the root of a tree")]
pub struct InvalidPath(Box<str>);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_that_leave_the_tree_or_break_the_line_are_refused() {
        for path in [
            "",
            "/",
            "/etc",
            "..",
            ".",
            "a/",
            "a//b",
            "a/./b",
            "a/../b",
            "a\tb",
            "a\nb",
            "a\u{7f}",
            "\u{85}",
            &"a/".repeat(3000),
        ] {
            assert!(path.parse::<ListPath>().is_err(), "{path:?}");
        }
        for path in ["a", "a b", "...", "a/..b", ".hidden/-", "é"] {
            assert_eq!(path.parse::<ListPath>().unwrap().as_str(), path);
        }
    }

    proptest! {
        #[test]
        fn what_is_right_at_a_glance_is_right(path in "[a./ é\\x00\\x7f]{0,8}") {
            if is_surely_right(path.as_bytes()) {
                prop_assert!(stays_below(&path) && is_one_line(&path), "{path:?}");
            }
        }
    }

    fn path() -> impl Strategy<Value = ListPath> {
        "[a-z .é]{1,9}(/[a-z*-]{1,9}){0,4}".prop_filter_map("no path", |text| text.parse().ok())
    }

    fn entry() -> impl Strategy<Value = Entry> {
        let kind = prop_oneof![Just(Kind::File), Just(Kind::Directory), Just(Kind::Link)];
        let access = prop_oneof![
            Just(Access::Public),
            Just(Access::Restricted),
            Just(Access::Unreleased)
        ];
        (any::<i64>(), kind, access, any::<u64>(), path()).prop_map(
            |(time, kind, access, size, path)| Entry {
                time,
                kind,
                access,
                size,
                path,
            },
        )
    }

    fn written(list: &FileList) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new()).unwrap();
        for entry in &list.entries {
            writer.entry(entry).unwrap();
        }
        for (path, sum) in &list.sums {
            writer.sum(path, sum).unwrap();
        }
        writer.finish().unwrap().0
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            entries in proptest::collection::vec(entry(), 0..6),
            sums in proptest::collection::vec((path(), any::<Sum>()), 0..3),
        ) {
            let list = FileList { entries, sums };
            prop_assert_eq!(FileList::read(&written(&list)[..]).unwrap(), list);
        }

        #[test]
        fn every_truncation_is_refused(
            entries in proptest::collection::vec(entry(), 0..4),
            sums in proptest::collection::vec((path(), any::<Sum>()), 0..2),
        ) {
            let bytes = written(&FileList { entries, sums });
            for length in 0..bytes.len() {
                prop_assert!(FileList::read(&bytes[..length]).is_err(), "{}", length);
            }
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes: Vec<u8>) {
            let mut list = b"[Version]\n3\n[Files]\n".to_vec();
            list.extend(bytes);
            let _ = FileList::read(&list[..]);
        }
    }
}
