//! Telling one version of a file from the next without reading it.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Device, inode, length and times of a file: one replaced by rename differs in one of them, and so does
/// one that may be read now and could not be before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileMark {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl FileMark {
    /// The mark of the file as it is now; `None` if it cannot be found. Blocks.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let found = std::fs::metadata(path).ok()?;
        Some(Self {
            device: found.dev(),
            inode: found.ino(),
            length: found.len(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        })
    }

    /// Device and inode: which file it is, whatever is written to it.
    pub(crate) fn identity(&self) -> (u64, u64) {
        (self.device, self.inode)
    }
}
