//! A blob on its way into the tree: hashed while it is written, compared before it may have a name.

use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use tempfile::{NamedTempFile, TempPath};

use super::{Error, TreeWriter, lock};
use crate::digest::Digest;
use crate::tree::blob_hash::BlobHasher;

/// A blob on its way into the tree.
///
/// Dropping it before [`finish`](Self::finish) leaves nothing behind.
#[derive(Debug)]
pub struct BlobWriter<'a> {
    pub(super) writer: &'a TreeWriter,
    pub(super) file: NamedTempFile,
    pub(super) digest: Digest,
    pub(super) size: u64,
    pub(super) written: u64,
    pub(super) hasher: BlobHasher,
}

impl BlobWriter<'_> {
    /// How many bytes have been written: where a broken transfer has to go on.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Writes the next bytes; refuses more than the blob may have, so that an endless body ends here.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.written += bytes.len() as u64;
        if self.written > self.size {
            return Err(Error::TooLong {
                digest: self.digest,
                size: self.size,
            });
        }
        self.hasher.update(bytes);
        self.file.write_all(bytes).map_err(|source| Error::Blob {
            digest: self.digest,
            path: self.file.path().to_owned(),
            source,
        })
    }

    /// Starts over, for a source that cannot resume.
    pub fn restart(&mut self) -> Result<(), Error> {
        let file = self.file.as_file_mut();
        io::Seek::rewind(file)
            .and_then(|()| file.set_len(0))
            .map_err(|source| Error::Blob {
                digest: self.digest,
                path: self.file.path().to_owned(),
                source,
            })?;
        self.written = 0;
        self.hasher = BlobHasher::new(self.digest.algorithm(), self.size);
        Ok(())
    }

    /// Compares size and digest and hands the blob over to be published.
    pub fn finish(self) -> Result<(), Error> {
        if self.written != self.size {
            return Err(Error::TooShort {
                digest: self.digest,
                size: self.size,
                written: self.written,
            });
        }
        let (found, pieces) = self.hasher.finish();
        if found != self.digest {
            return Err(Error::Digest {
                expected: self.digest,
                found,
            });
        }
        let pieces = match pieces {
            None => None,
            Some(pieces) => {
                let mut file = self.writer.temporary_file()?;
                file.write_all(&pieces.to_bytes())
                    .map_err(|source| Error::write(file.path(), source))?;
                Some(file.into_temp_path())
            }
        };
        let staged = Staged {
            size: self.size,
            content: Content::File(self.file.into_temp_path()),
            pieces,
        };
        lock(&self.writer.staged).insert(self.digest, staged);
        Ok(())
    }
}

/// Verified content without a name in the tree yet.
#[derive(Debug)]
pub(super) struct Staged {
    pub(super) size: u64,
    pub(super) content: Content,
    pub(super) pieces: Option<TempPath>,
}

/// Where staged content is.
#[derive(Debug)]
pub(super) enum Content {
    File(TempPath),
    /// Small, and still in memory: who stages thousands of it need not wait for the disk each time.
    Memory(Held),
}

impl Staged {
    pub(super) fn paths(&self) -> impl Iterator<Item = &Path> {
        let content = match &self.content {
            Content::File(path) => Some(path),
            Content::Memory(_) => None,
        };
        content.into_iter().chain(&self.pieces).map(|path| &**path)
    }
}

/// Content in memory, counted as long as it is there.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) bytes: Bytes,
    total: Arc<AtomicUsize>,
}

impl Held {
    /// `None` if that would be too much, by itself or with all the rest.
    pub(super) fn new(bytes: &Bytes, total: &Arc<AtomicUsize>) -> Option<Self> {
        if bytes.len() > MAX_HELD_EACH {
            return None;
        }
        let held = Self {
            bytes: bytes.clone(),
            total: Arc::clone(total),
        };
        let before = total.fetch_add(bytes.len(), Ordering::Relaxed);
        // Too much is given back by dropping it.
        (before + bytes.len() <= MAX_HELD).then_some(held)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.total.fetch_sub(self.bytes.len(), Ordering::Relaxed);
    }
}

/// Most bytes of one piece of content that is kept in memory until it is published.
const MAX_HELD_EACH: usize = 64 << 10;

/// Most bytes of all such content.
const MAX_HELD: usize = 8 << 20;
