//! What a mirror remembers from one run to the next: `.~tmp~/sync/last.json`.
//!
//! It says which state was followed last and what was published for it. As long as the one over there and
//! the one here are still these, nothing has to be read or looked at. It is written last, after the state,
//! and nothing depends on it: without it the tree is walked.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use oci_mirror::digest::Digest;
use oci_mirror::tree::TreeWriter;
use oci_mirror::tree::writer::{self, SYNC, TEMPORARY};
use serde::{Deserialize, Serialize};

/// What is remembered of a tree that follows another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    format: u32,
    /// What was followed last; `None` as long as no run has come to its end.
    pub last: Option<Last>,
}

/// What was followed last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Last {
    /// Where from, without credentials.
    pub from: String,
    /// The serial over there.
    pub serial: u64,
    /// The digest of the `state.json` over there.
    pub digest: Digest,
    /// The fingerprint of the filter.
    pub filter: Digest,
    /// The digest of the `state.json` that was published here for it.
    pub published: Digest,
    /// Since when the oldest of what is kept for its grace is gone, in seconds since 1970.
    pub oldest_gone: Option<i64>,
    /// How many files are kept for their grace.
    pub kept: u64,
    /// The files for direct pulls that belong to it.
    pub static_v2: Option<PathBuf>,
}

impl Memory {
    /// What is remembered of a tree of whose content this program is sure, by having made or read it.
    pub fn new(last: Option<Last>) -> Self {
        Self {
            format: FORMAT,
            last,
        }
    }

    /// What is remembered of the tree at `root`; `None` if it never followed another.
    ///
    /// A file that is torn says as much as one of a run that did not come to its end.
    pub fn read(root: &Path) -> io::Result<Option<Self>> {
        let path = root.join(TEMPORARY).join(SYNC).join(NAME);
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let mut bytes = Vec::new();
        file.take(MAX_BYTES).read_to_end(&mut bytes)?;
        let memory = serde_json::from_slice(&bytes).ok();
        let memory = memory.filter(|memory: &Self| memory.format == FORMAT);
        Ok(Some(memory.unwrap_or_else(|| Self::new(None))))
    }

    /// Remembers it, durably.
    pub(super) fn write(&self, writer: &TreeWriter) -> Result<(), writer::Error> {
        let mut bytes = serde_json::to_vec_pretty(self).unwrap_or_default();
        bytes.push(b'\n');
        writer.remember_for_sync(NAME, Some(&bytes))
    }
}

/// Whom the tree at `root` follows, if it does: what is changed there by other means does not last.
pub fn followed(root: &Path) -> Option<String> {
    let memory = Memory::read(root).ok()??;
    Some(memory.last?.from)
}

const NAME: &str = "last.json";

const FORMAT: u32 = 1;

/// Largest such file read, in bytes; a real one has a few hundred.
const MAX_BYTES: u64 = 64 << 10;

#[cfg(test)]
mod tests {
    use oci_mirror::digest::Algorithm;

    use super::*;

    fn memory() -> Memory {
        let digest = Algorithm::Sha256.digest(b"x");
        Memory::new(Some(Last {
            from: "rsync://mirror.example/containers".to_owned(),
            serial: 7,
            digest,
            filter: digest,
            published: digest,
            oldest_gone: Some(-3),
            kept: 2,
            static_v2: Some("/srv/v2".into()),
        }))
    }

    #[test]
    fn what_is_remembered_is_read_by_the_next_run() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Memory::read(dir.path()).unwrap(), None);
        assert_eq!(followed(dir.path()), None);
        let writer = TreeWriter::open(dir.path()).unwrap();
        memory().write(&writer).unwrap();
        drop(writer);
        drop(TreeWriter::open(dir.path()).unwrap());
        assert_eq!(Memory::read(dir.path()).unwrap(), Some(memory()));
        let followed = followed(dir.path());
        assert_eq!(
            followed.as_deref(),
            Some("rsync://mirror.example/containers")
        );
    }

    #[test]
    fn a_torn_memory_is_one_of_nothing_in_particular() {
        let dir = tempfile::tempdir().unwrap();
        let writer = TreeWriter::open(dir.path()).unwrap();
        memory().write(&writer).unwrap();
        let path = dir.path().join(TEMPORARY).join(SYNC).join(NAME);
        let whole = std::fs::read(&path).unwrap();
        let another_format = String::from_utf8(whole.clone()).unwrap();
        let another_format = another_format.replace("\"format\": 1", "\"format\": 2");
        for bytes in [&whole[..whole.len() / 2], b"", another_format.as_bytes()] {
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(Memory::read(dir.path()).unwrap(), Some(Memory::new(None)));
        }
    }
}
