//! An OCI image layout on disk, read as a source.
//!
//! Nothing in it is trusted: what is copied is hashed like what comes over a wire. See the
//! [image layout](https://github.com/opencontainers/image-spec/blob/main/image-layout.md).

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use bytes::{Bytes, BytesMut};
use oci_mirror::descriptor::Descriptor;
use oci_mirror::digest::Digest;
use oci_mirror::manifest::{self, Manifest};
use oci_mirror::reference::Tag;
use oci_mirror::tree::index::{self, RepoIndex};
use tokio::io::AsyncReadExt as _;

use super::belongings::Belonging;
use super::select::{DigestTag, Subject};
use super::source::Wish;

/// How much of a blob is read at once.
const CHUNK: usize = 1 << 20;

/// A layout, its entries read.
#[derive(Debug)]
pub(super) struct Layout {
    dir: PathBuf,
    index: RepoIndex,
    belongings: OnceLock<HashMap<Subject, Vec<Belonging>>>,
}

impl Layout {
    pub(super) fn read(dir: &Path) -> Result<Self, Error> {
        let path = dir.join("index.json");
        let bytes = read_bounded(&path, index::MAX_BYTES)?;
        let index =
            RepoIndex::from_bytes(&bytes).map_err(|source| Error::Index { path, source })?;
        Ok(Self {
            dir: dir.to_owned(),
            index,
            belongings: OnceLock::new(),
        })
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The entries wanted, with the tags they will have: the one named `entry`, or all that are named,
    /// or the only one there is. An entry whose name is no tag is an error of its own.
    pub(super) fn entries(&self, entry: Option<&str>) -> Result<Vec<Entry>, Error> {
        if let (None, [only]) = (entry, self.index.entries())
            && only.ref_name().is_none()
        {
            return Ok(vec![Entry {
                tag: Ok(None),
                descriptor: only.clone(),
            }]);
        }
        let named = self.index.entries().iter().filter_map(|descriptor| {
            let name = descriptor.ref_name()?;
            (entry.is_none_or(|wanted| wanted == name)).then_some((name, descriptor))
        });
        let mut found = Vec::new();
        for (name, descriptor) in named {
            let tag = tag_of(name).map(Some).ok_or_else(|| name.to_owned());
            found.push(Entry {
                tag,
                descriptor: descriptor.clone(),
            });
        }
        match (entry, found.is_empty()) {
            (_, false) => Ok(found),
            (Some(entry), true) => Err(Error::NoSuchEntry {
                dir: self.dir.clone(),
                entry: entry.to_owned(),
            }),
            (None, true) => Err(Error::NoEntries {
                dir: self.dir.clone(),
            }),
        }
    }

    /// What belongs to `subject`: entries without a name whose manifest says so, and those that are named
    /// after it.
    pub(super) fn belongings(&self, subject: &Digest) -> Vec<Belonging> {
        let all = self.belongings.get_or_init(|| self.all_belongings());
        all.get(&Subject::from(subject))
            .cloned()
            .unwrap_or_default()
    }

    fn all_belongings(&self) -> HashMap<Subject, Vec<Belonging>> {
        let mut found: HashMap<Subject, Vec<Belonging>> = HashMap::new();
        for entry in self.index.entries() {
            let tag = entry.ref_name().and_then(tag_of);
            let subject = match &tag {
                Some(tag) => DigestTag::of(tag).map(|named| named.subject),
                None if entry.ref_name().is_some() => None,
                // What cannot be read says of nothing that it belongs there.
                None => self
                    .manifest(entry)
                    .ok()
                    .and_then(|manifest| Some(Subject::from(&manifest.subject()?.digest))),
            };
            if let Some(subject) = subject {
                let wish = Wish::Entry(entry.clone());
                found
                    .entry(subject)
                    .or_default()
                    .push(Belonging { wish, tag });
            }
        }
        found
    }

    /// The error of an entry whose name is no tag.
    pub(super) fn no_tag(&self, entry: String) -> Error {
        Error::NoTag {
            dir: self.dir.clone(),
            entry,
        }
    }

    pub(super) fn manifest(&self, descriptor: &Descriptor) -> Result<Manifest, Error> {
        let bytes = read_bounded(&self.path(&descriptor.digest), manifest::MAX_BYTES)?;
        Manifest::with_digest(bytes, descriptor.digest, Some(&descriptor.media_type)).map_err(
            |source| Error::Manifest {
                dir: self.dir.clone(),
                digest: descriptor.digest,
                source,
            },
        )
    }

    pub(super) async fn open(&self, digest: &Digest) -> Result<Blob, Error> {
        let path = self.path(digest);
        match tokio::fs::File::open(&path).await {
            Ok(mut file) => {
                file.set_max_buf_size(CHUNK);
                Ok(Blob { path, file })
            }
            Err(source) => Err(Error::Read { path, source }),
        }
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        let mut path = self.dir.join("blobs");
        path.push(digest.algorithm().name());
        path.push(digest.hex().to_string());
        path
    }
}

/// One entry of the index.
#[derive(Debug)]
pub(super) struct Entry {
    /// Its tag, if it has one; or its name, if that is none.
    pub(super) tag: Result<Option<Tag>, String>,
    pub(super) descriptor: Descriptor,
}

/// Many tools write a full `name:tag` where only a tag should stand.
fn tag_of(ref_name: &str) -> Option<Tag> {
    let last = ref_name.rsplit(':').next().unwrap_or(ref_name);
    ref_name.parse().or_else(|_| last.parse()).ok()
}

fn read_bounded(path: &Path, limit: u64) -> Result<Bytes, Error> {
    let failed = |source| Error::Read {
        path: path.to_owned(),
        source,
    };
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(limit + 1).read_to_end(&mut bytes))
        .map_err(failed)?;
    if bytes.len() as u64 > limit {
        return Err(failed(io::ErrorKind::FileTooLarge.into()));
    }
    Ok(bytes.into())
}

/// A blob of a layout, open for reading.
#[derive(Debug)]
pub(super) struct Blob {
    path: PathBuf,
    file: tokio::fs::File,
}

impl Blob {
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        let mut buffer = BytesMut::with_capacity(CHUNK);
        match self.file.read_buf(&mut buffer).await {
            Ok(0) => Ok(None),
            Ok(_) => Ok(Some(buffer.freeze())),
            Err(source) => Err(Error::Read {
                path: self.path.clone(),
                source,
            }),
        }
    }
}

/// Why a layout cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("cannot read {}", .path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// `index.json` is not the index of a layout.
    #[error("{} is not the index of an image layout", .path.display())]
    Index {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// A manifest is damaged.
    #[error("cannot use manifest {digest} of {}", .dir.display())]
    Manifest {
        /// The layout.
        dir: PathBuf,
        /// Which manifest.
        digest: Digest,
        /// What is wrong.
        source: manifest::Error,
    },
    /// The entry asked for is not there.
    #[error("{} has no entry `{}`", .dir.display(), .entry.escape_debug())]
    NoSuchEntry {
        /// The layout.
        dir: PathBuf,
        /// The name asked for.
        entry: String,
    },
    /// No entry of the layout has a name.
    #[error("{} has no entry with a name", .dir.display())]
    NoEntries {
        /// The layout.
        dir: PathBuf,
    },
    /// The name of an entry does not end in a tag.
    #[error("{} has an entry `{}`, which is no tag", .dir.display(), .entry.escape_debug())]
    NoTag {
        /// The layout.
        dir: PathBuf,
        /// The name of the entry.
        entry: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_name_gives_its_tag() {
        for (name, tag) in [
            ("1.0", Some("1.0")),
            ("quay.io/a/b:1.0", Some("1.0")),
            ("localhost:5000/a", None),
            ("a:", None),
        ] {
            let found = tag_of(name);
            assert_eq!(found.as_ref().map(Tag::as_str), tag, "{name}");
        }
    }
}
