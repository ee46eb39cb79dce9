//! Where repaired content comes from: anything that has blobs under their digests.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use oci_mirror::excerpt::Excerpt;
use oci_mirror::reference::{self, ImageRef, RegistryHost, RepoName};
use oci_mirror::registry::client::{self, Registry};
use oci_mirror::registry::credentials::Credentials;
use oci_mirror::registry::{MirrorUrl, hub, mirror};
use oci_mirror::tree::RepoDir;

use crate::export;
use crate::export::belongings::Repository;
use crate::export::layout::Layout;
use crate::export::source::Origin;
use crate::export::transfer::blocking;

/// One `--repair SOURCE` of the command line.
///
/// ```
/// use mirror_tool::verify::RepairSource;
/// for text in ["docker://quay.io", "docker://quay.io/a/b", "oci:/srv/layout", "https://m.example/tree/"] {
///     assert_eq!(text.parse::<RepairSource>().unwrap().to_string(), text);
/// }
/// assert!("docker://quay.io/a/b:1".parse::<RepairSource>().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RepairSource {
    /// `docker://HOST[:PORT][/NAME]`
    Registry {
        /// The registry.
        host: RegistryHost,
        /// The repository to ask; without one, the name of the repository that needs the content.
        name: Option<RepoName>,
    },
    /// `oci:DIR`
    Layout(PathBuf),
    /// `http://…` or `https://…`: another copy of the tree.
    Mirror(MirrorUrl),
}

impl RepairSource {
    pub(super) async fn open(
        &self,
        connection: &client::Options,
        credentials: &Arc<Credentials>,
    ) -> Result<Opened, export::Error> {
        let credentials = Arc::clone(credentials);
        match self {
            Self::Registry { host, name } => {
                let registry = Registry::new(host.clone(), connection, credentials)?;
                Ok(Opened::Registry(Arc::new(registry), name.clone()))
            }
            Self::Layout(dir) => {
                let dir = dir.clone();
                let layout = blocking(move || Layout::read(&dir)).await?;
                Ok(Opened::Layout(Arc::new(layout)))
            }
            Self::Mirror(url) => {
                let mirror = Registry::mirror(url, connection, credentials)?;
                Ok(Opened::Mirror(Arc::new(mirror)))
            }
        }
    }
}

impl fmt::Display for RepairSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registry { host, name: None } => write!(f, "docker://{host}"),
            Self::Registry {
                host,
                name: Some(name),
            } => write!(f, "docker://{host}/{name}"),
            Self::Layout(dir) => write!(f, "oci:{}", dir.display()),
            Self::Mirror(url) => url.fmt(f),
        }
    }
}

impl FromStr for RepairSource {
    type Err = InvalidSource;

    fn from_str(text: &str) -> Result<Self, InvalidSource> {
        if let Some(dir) = text.strip_prefix("oci:") {
            return if dir.is_empty() {
                Err(InvalidSource::NoDirectory)
            } else {
                Ok(Self::Layout(dir.into()))
            };
        }
        let Some(rest) = text.strip_prefix("docker://") else {
            return match text.split_once("://") {
                Some(("http" | "https", _)) => Ok(Self::Mirror(text.parse()?)),
                _ => Err(InvalidSource::Scheme(Excerpt(text).into())),
            };
        };
        if !rest.contains('/') {
            let (host, name) = (rest.parse()?, None);
            return Ok(Self::Registry { host, name });
        }
        let image: ImageRef = hub::canonical(rest.parse()?);
        match image.reference {
            None => Ok(Self::Registry {
                host: image.registry,
                name: Some(image.name),
            }),
            Some(_) => Err(InvalidSource::Reference(Excerpt(text).into())),
        }
    }
}

/// Why a text is no source of repairs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSource {
    /// Not the name of a registry or repository.
    #[error(transparent)]
    Name(#[from] reference::Error),
    /// Not the address of a mirror.
    #[error(transparent)]
    Mirror(#[from] mirror::InvalidMirror),
    /// Content is fetched by digest, so a tag says nothing.
    #[error("{0} names an image: leave the tag or digest out")]
    Reference(Box<str>),
    /// None of the forms.
    #[error(
        "cannot repair from {0}: write docker://HOST[:PORT][/NAME], oci:DIR or the URL of a mirror"
    )]
    Scheme(Box<str>),
    /// `oci:` with nothing behind it.
    #[error("oci: needs the directory of an image layout")]
    NoDirectory,
}

/// A source that is ready to be asked.
#[derive(Debug)]
pub(super) enum Opened {
    Registry(Arc<Registry>, Option<RepoName>),
    Layout(Arc<Layout>),
    Mirror(Arc<Registry>),
}

impl Opened {
    /// Whom to ask for what `repo` needs.
    pub(super) fn origin(&self, repo: &RepoDir) -> Origin {
        let (registry, name) = match self {
            Self::Layout(layout) => return Origin::Layout(Arc::clone(layout)),
            Self::Registry(registry, name) => (registry, name.as_ref()),
            Self::Mirror(registry) => (registry, None),
        };
        let name = name.unwrap_or(repo.name()).clone();
        Origin::Registry(Arc::new(Repository::new(Arc::clone(registry), name)))
    }

    /// Whether manifests have to be asked for as such; elsewhere they are blobs like others.
    pub(super) fn knows_manifests(&self) -> bool {
        matches!(self, Self::Registry(..))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_source_is_refused() {
        for text in [
            "",
            "quay.io/a",
            "oci:",
            "docker://",
            "docker://quay.io/a:1",
            "docker://quay.io/A",
            "ftp://m.example/",
            "https://",
        ] {
            assert!(text.parse::<RepairSource>().is_err(), "{text}");
        }
    }
}
