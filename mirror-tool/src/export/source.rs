//! Where images come from: a registry, or an OCI image layout on disk.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use oci_mirror::descriptor::Descriptor;
use oci_mirror::digest::Digest;
use oci_mirror::excerpt::Excerpt;
use oci_mirror::manifest::Manifest;
use oci_mirror::reference::{self, ImageRef, Reference};
use oci_mirror::registry::blob::BlobStream;
use oci_mirror::registry::hub;
use oci_mirror::registry::retry::Retry;

use super::belongings::Repository;
use super::error::Error;
use super::layout::{self, Layout};
use super::transfer::blocking;

/// One SOURCE of the command line.
///
/// ```
/// use mirror_tool::export::source::Source;
/// let source: Source = "quay.io/fedora/fedora:43".parse().unwrap();
/// assert_eq!(source, "docker://quay.io/fedora/fedora:43".parse().unwrap());
/// assert!("oci:/srv/layout:1.0".parse::<Source>().is_ok());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// `docker://HOST[:PORT]/NAME[:TAG|@DIGEST]`; the scheme may be left out.
    Registry(ImageRef),
    /// `oci:DIR[:REF]`
    Layout {
        /// The directory of the layout.
        dir: PathBuf,
        /// The one entry wanted, by its `org.opencontainers.image.ref.name`.
        entry: Option<String>,
    },
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registry(image) => image.fmt(f),
            Self::Layout { dir, entry: None } => write!(f, "oci:{}", dir.display()),
            Self::Layout {
                dir,
                entry: Some(entry),
            } => write!(f, "oci:{}:{}", dir.display(), entry.escape_debug()),
        }
    }
}

impl FromStr for Source {
    type Err = InvalidSource;

    fn from_str(text: &str) -> Result<Self, InvalidSource> {
        if let Some(rest) = text.strip_prefix("oci:") {
            let (dir, entry) = match rest.split_once(':') {
                Some((dir, entry)) if !entry.is_empty() => (dir, Some(entry.to_owned())),
                Some((dir, _)) => (dir, None),
                None => (rest, None),
            };
            return if dir.is_empty() {
                Err(InvalidSource::NoDirectory)
            } else {
                Ok(Self::Layout {
                    dir: dir.into(),
                    entry,
                })
            };
        }
        let image = text.strip_prefix("docker://").unwrap_or(text);
        if let Some((scheme, _)) = image.split_once("://") {
            return Err(InvalidSource::Scheme(Excerpt(scheme).into()));
        }
        Ok(Self::Registry(hub::canonical(image.parse()?)))
    }
}

/// Why a text is no source.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSource {
    /// Not the name of an image.
    #[error(transparent)]
    Image(#[from] reference::Error),
    /// Another scheme than ours.
    #[error("cannot export from {0}: write docker://HOST/NAME[:TAG|@DIGEST] or oci:DIR[:REF]")]
    Scheme(Box<str>),
    /// `oci:` with nothing behind it.
    #[error("oci: needs the directory of an image layout")]
    NoDirectory,
}

/// The repository or layout that an image's content is fetched from.
#[derive(Debug, Clone)]
pub(crate) enum Origin {
    Registry(Arc<Repository>),
    Layout(Arc<Layout>),
}

impl Origin {
    /// The manifest a tag or digest stands for now.
    pub(crate) async fn manifest(&self, wanted: &Wish) -> Result<Manifest, Error> {
        match (self, wanted) {
            (Self::Registry(source), Wish::Reference(reference)) => {
                Ok(source.registry.manifest(&source.name, reference).await?)
            }
            (Self::Registry(source), Wish::Entry(descriptor)) => {
                let reference = Reference::Digest(descriptor.digest);
                Ok(source.registry.manifest(&source.name, &reference).await?)
            }
            (Self::Layout(layout), Wish::Entry(descriptor)) => {
                let (layout, descriptor) = (Arc::clone(layout), descriptor.clone());
                Ok(blocking(move || layout.manifest(&descriptor)).await?)
            }
            (Self::Layout(layout), Wish::Reference(reference)) => Err(layout::Error::NoSuchEntry {
                dir: layout.dir().to_owned(),
                entry: reference.to_string(),
            }
            .into()),
        }
    }

    /// The digest the source has now, if it says without sending the manifest.
    pub(super) async fn current(&self, wanted: &Wish) -> Result<Option<Digest>, Error> {
        match (self, wanted) {
            (Self::Registry(source), Wish::Reference(reference @ Reference::Tag(_))) => {
                let head = source.registry.head(&source.name, reference).await?;
                Ok(head.map(|head| head.digest))
            }
            (_, wish) => Ok(wish.digest()),
        }
    }

    /// Starts reading a blob at `offset`, once.
    pub(super) async fn blob(&self, digest: &Digest, offset: u64) -> Result<Chunks, Error> {
        match self {
            Self::Registry(source) => {
                let stream = source.registry.blob(&source.name, digest, offset).await?;
                Ok(Chunks::Registry(stream))
            }
            Self::Layout(layout) => Ok(Chunks::File(layout.open(digest).await?)),
        }
    }

    /// When to ask again.
    pub(super) fn retry(&self) -> Retry {
        match self {
            Self::Registry(source) => *source.registry.retry(),
            Self::Layout(_) => Retry {
                retries: 0,
                ..Retry::default()
            },
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registry(source) => write!(f, "{}/{}", source.registry.host(), source.name),
            Self::Layout(layout) => write!(f, "oci:{}", layout.dir().display()),
        }
    }
}

/// How a manifest is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wish {
    /// By tag or digest.
    Reference(Reference),
    /// By a descriptor at hand.
    Entry(Descriptor),
}

impl Wish {
    /// The digest, when it is known beforehand.
    pub(super) fn digest(&self) -> Option<Digest> {
        match self {
            Self::Reference(Reference::Digest(digest)) => Some(*digest),
            Self::Reference(Reference::Tag(_)) => None,
            Self::Entry(descriptor) => Some(descriptor.digest),
        }
    }
}

/// The bytes of a blob, as they come.
#[derive(Debug)]
pub(super) enum Chunks {
    Registry(BlobStream),
    File(layout::Blob),
}

impl Chunks {
    /// The position of the first byte to come.
    pub(super) fn start(&self) -> u64 {
        match self {
            Self::Registry(stream) => stream.start(),
            Self::File(_) => 0,
        }
    }

    /// The next bytes, or `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        match self {
            Self::Registry(stream) => Ok(stream.chunk().await?),
            Self::File(blob) => Ok(blob.chunk().await?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_source_parses() {
        for (text, shown) in [
            ("docker://q.io/a/b", "q.io/a/b"),
            ("q.io/a/b:1", "q.io/a/b:1"),
            ("docker://docker.io/fedora", "docker.io/library/fedora"),
            ("[::1]:5000/a", "[::1]:5000/a"),
            ("oci:dir", "oci:dir"),
            ("oci:/a/dir:", "oci:/a/dir"),
            ("oci:dir:name:1", "oci:dir:name:1"),
        ] {
            assert_eq!(text.parse::<Source>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn what_is_no_source_is_refused() {
        for text in [
            "",
            "fedora",
            "https://q.io/a",
            "dir:/x",
            "oci:",
            "q.io/A",
            "q.io/a:",
        ] {
            assert!(text.parse::<Source>().is_err(), "{text}");
        }
    }
}
