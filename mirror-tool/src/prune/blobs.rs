//! The blobs of a tree, as a table: a tree may have a million of them.

use oci_mirror::digest::Digest;

/// What identifies a file's content without reading it.
pub(super) type Inode = (u64, u64);

/// All blobs, sorted by digest.
#[derive(Debug, Default)]
pub(super) struct Blobs(Vec<BlobFile>);

/// One blob.
#[derive(Debug)]
pub(super) struct BlobFile {
    pub(super) digest: Digest,
    pub(super) size: u64,
    pub(super) inode: Inode,
    /// When the file was last touched in any way, in seconds since 1970.
    pub(super) changed: i64,
    /// Whether some repository needs it, or may.
    pub(super) needed: bool,
    /// Since when the last repository that links it has done without; `None` if none does.
    pub(super) unlinked: Option<i64>,
    /// Since when nobody needs it, once that is found out.
    pub(super) since: i64,
}

impl Blobs {
    pub(super) fn new(mut files: Vec<BlobFile>) -> Self {
        files.sort_unstable_by_key(|blob| blob.digest);
        Self(files)
    }

    pub(super) fn get(&self, digest: &Digest) -> Option<&BlobFile> {
        Some(&self.0[self.position(digest)?])
    }

    pub(super) fn get_mut(&mut self, digest: &Digest) -> Option<&mut BlobFile> {
        let position = self.position(digest)?;
        Some(&mut self.0[position])
    }

    /// Notes that a repository needs a blob, or may.
    pub(super) fn need(&mut self, digest: &Digest) {
        if let Some(blob) = self.get_mut(digest) {
            blob.needed = true;
        }
    }

    pub(super) fn unneeded(&self) -> impl Iterator<Item = &BlobFile> {
        self.0.iter().filter(|blob| !blob.needed)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut BlobFile> {
        self.0.iter_mut()
    }

    fn position(&self, digest: &Digest) -> Option<usize> {
        self.0.binary_search_by(|blob| blob.digest.cmp(digest)).ok()
    }
}
