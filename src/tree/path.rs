//! Paths inside a tree: every file of format 1 has a shape, and nothing else is a path.
//!
//! A [`TreePath`] can only be built from parsed parts, so a request such as
//! `/tree/../../etc/passwd` fails to parse instead of being filtered: there is no shape with `..`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::digest::{self, Algorithm, Digest};
use crate::excerpt::Excerpt;
use crate::reference::{self, RepoName};

/// Names that a repository's own files take inside its directory.
const RESERVED: [&str; 3] = ["blobs", "index.json", "oci-layout"];

/// A file of a tree, relative to its root.
///
/// ```
/// use oci_mirror::tree::TreePath;
/// let path: TreePath = "repos/fedora/fedora/index.json".parse().unwrap();
/// assert_eq!(path.to_string(), "repos/fedora/fedora/index.json");
/// assert!("repos/../state.json".parse::<TreePath>().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TreePath {
    /// `blobs/<alg>/<hh>/<hex>`: content, once.
    Blob(Digest),
    /// `pieces/<alg>/<hh>/<hex>`: the piece hashes of a large blob.
    Pieces(Digest),
    /// `repos/<name>/oci-layout`: marks the directory as an OCI image layout.
    Layout(RepoDir),
    /// `repos/<name>/index.json`: the tags.
    Index(RepoDir),
    /// `repos/<name>/blobs/<alg>/<hex>`: a link to content the repository reaches.
    Link(RepoDir, Digest),
    /// `state.json`: what the tree is, replaced last.
    State,
    /// `fullfiletimelist-<module>`: every file with its time.
    List(Module),
    /// `DIRECTORY_SIZES.txt`: what each repository costs.
    DirectorySizes,
}

impl TreePath {
    /// The path on disk, below the tree's `root`.
    pub fn under(&self, root: &Path) -> PathBuf {
        root.join(self.to_string())
    }
}

impl fmt::Display for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fanned = |f: &mut fmt::Formatter<'_>, top: &str, digest: &Digest| {
            let hex = digest.hex();
            write!(
                f,
                "{top}/{}/{:02x}/{hex}",
                digest.algorithm(),
                digest.as_bytes()[0]
            )
        };
        match self {
            Self::Blob(digest) => fanned(f, "blobs", digest),
            Self::Pieces(digest) => fanned(f, "pieces", digest),
            Self::Layout(repo) => write!(f, "{repo}/oci-layout"),
            Self::Index(repo) => write!(f, "{repo}/index.json"),
            Self::Link(repo, digest) => {
                write!(f, "{repo}/blobs/{}/{}", digest.algorithm(), digest.hex())
            }
            Self::State => f.write_str("state.json"),
            Self::List(module) => write!(f, "fullfiletimelist-{}", module.0),
            Self::DirectorySizes => f.write_str("DIRECTORY_SIZES.txt"),
        }
    }
}

impl FromStr for TreePath {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || Error::Shape(Excerpt(text).into());
        let digest = |algorithm: &str, hex: &str| {
            Ok::<_, Error>(Digest::from_parts(algorithm.parse::<Algorithm>()?, hex)?)
        };
        match text {
            "state.json" => return Ok(Self::State),
            "DIRECTORY_SIZES.txt" => return Ok(Self::DirectorySizes),
            _ => {}
        }
        if let Some(module) = text.strip_prefix("fullfiletimelist-") {
            return Ok(Self::List(module.parse()?));
        }
        if let Some(rest) = text.strip_prefix("repos/") {
            // From the right, since a name may itself contain `blobs` and the like.
            let (repo, last) = rest.rsplit_once('/').ok_or_else(wrong)?;
            return match last {
                "oci-layout" => Ok(Self::Layout(repo.parse()?)),
                "index.json" => Ok(Self::Index(repo.parse()?)),
                hex => {
                    let (repo, algorithm) = repo.rsplit_once('/').ok_or_else(wrong)?;
                    let repo = repo.strip_suffix("/blobs").ok_or_else(wrong)?;
                    Ok(Self::Link(repo.parse()?, digest(algorithm, hex)?))
                }
            };
        }
        let (top, rest) = text.split_once('/').ok_or_else(wrong)?;
        let mut parts = rest.splitn(3, '/');
        let mut next = || parts.next().ok_or_else(wrong);
        let (algorithm, fan, hex) = (next()?, next()?, next()?);
        let digest = digest(algorithm, hex)?;
        if hex.get(..2) != Some(fan) {
            return Err(wrong());
        }
        match top {
            "blobs" => Ok(Self::Blob(digest)),
            "pieces" => Ok(Self::Pieces(digest)),
            _ => Err(wrong()),
        }
    }
}

/// A repository that can have a directory in the tree: its path is not one of the tree's own files.
///
/// `foo/blobs` is a legal repository name, but its directory would be that of the blobs of `foo`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RepoDir(RepoName);

impl RepoDir {
    /// The repository's name.
    pub fn name(&self) -> &RepoName {
        &self.0
    }
}

impl fmt::Display for RepoDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "repos/{}", self.0)
    }
}

impl TryFrom<RepoName> for RepoDir {
    type Error = Error;

    fn try_from(name: RepoName) -> Result<Self, Error> {
        let reserved = name
            .components()
            .skip(1)
            .find(|component| RESERVED.contains(component));
        match reserved.map(Box::from) {
            Some(component) => Err(Error::Reserved { component, name }),
            None => Ok(Self(name)),
        }
    }
}

impl FromStr for RepoDir {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        text.parse::<RepoName>()?.try_into()
    }
}

/// The name under which a mirror network knows a tree: the last part of its list's file name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Module(Box<str>);

impl Default for Module {
    /// What a tree is called that nobody named.
    fn default() -> Self {
        Self("containers".into())
    }
}

impl fmt::Display for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Module {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let word = |c: u8| c.is_ascii_alphanumeric() || c == b'_' || c == b'-' || c == b'.';
        if !text.is_empty() && text.len() <= 64 && text.bytes().all(word) && !text.starts_with('.')
        {
            Ok(Self(text.into()))
        } else {
            Err(Error::Module(Excerpt(text).into()))
        }
    }
}

/// Why a text is not the path of a file in a tree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No file of a tree has such a path.
    #[error("{0} is not the path of a file in a tree")]
    Shape(Box<str>),
    /// The digest in it is malformed.
    #[error(transparent)]
    Digest(#[from] digest::Error),
    /// The repository name in it is malformed.
    #[error(transparent)]
    Name(#[from] reference::Error),
    /// The directory of the repository would collide with a file of another.
    #[error(
        "repository {name} cannot be kept in a tree: `{component}` is the name of a file there; export it under another with --dest-name"
    )]
    Reserved {
        /// The component that collides.
        component: Box<str>,
        /// The whole name.
        name: RepoName,
    },
    /// The name of a module is malformed.
    #[error("{0} is not a module name (letters, digits, `_`, `-`, `.`)")]
    Module(Box<str>),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEX: &str = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";

    #[test]
    fn every_shape_round_trips() {
        for path in [
            format!("blobs/sha256/44/{HEX}"),
            format!("pieces/sha256/44/{HEX}"),
            format!("blobs/sha512/44/{HEX}{HEX}"),
            "repos/a/oci-layout".to_owned(),
            "repos/blobs/b/index.json".to_owned(),
            format!("repos/a/b/blobs/sha256/{HEX}"),
            "state.json".to_owned(),
            "fullfiletimelist-containers".to_owned(),
            "DIRECTORY_SIZES.txt".to_owned(),
        ] {
            assert_eq!(path.parse::<TreePath>().unwrap().to_string(), path);
        }
    }

    #[test]
    fn nothing_else_is_a_path() {
        for path in [
            "",
            "/",
            "..",
            "blobs",
            "blobs/",
            "../state.json",
            "/state.json",
            "./state.json",
            "state.json/",
            "repos/../state.json",
            "repos//index.json",
            "repos/index.json",
            "repos/a/../b/index.json",
            "repos/a/blobs/index.json",
            "fullfiletimelist-",
            "fullfiletimelist-a/b",
            "fullfiletimelist-..",
            ".~tmp~/x",
            &format!("blobs/sha256/45/{HEX}"),
            &format!("blobs/sha256/{HEX}"),
            &format!("blobs/sha256/44/{HEX}/x"),
            &format!("blobs/md5/44/{HEX}"),
            &format!("repos/blobs/sha256/{HEX}"),
            &format!("secrets/sha256/44/{HEX}"),
        ] {
            assert!(path.parse::<TreePath>().is_err(), "{path}");
        }
    }

    #[test]
    fn a_colliding_name_is_refused_and_named() {
        for name in [
            "foo/blobs",
            "foo/blobs/sha256",
            "foo/index.json",
            "a/b/oci-layout",
        ] {
            let error = RepoDir::try_from(name.parse::<RepoName>().unwrap()).unwrap_err();
            assert!(error.to_string().contains(name), "{error}");
        }
        assert!("blobs".parse::<RepoDir>().is_ok());
    }

    proptest! {
        #[test]
        fn a_parsed_path_displays_as_written_and_stays_inside(text in "[a-z0-9./~-]{0,60}|.{0,40}") {
            if let Ok(path) = text.parse::<TreePath>() {
                prop_assert_eq!(path.to_string(), text.clone());
                prop_assert!(Path::new(&text).components().all(|part| matches!(part, std::path::Component::Normal(_))));
            }
        }

        #[test]
        fn paths_of_digests_round_trip(bytes: [u8; 32]) {
            let digest = Digest::Sha256(bytes);
            for path in [TreePath::Blob(digest), TreePath::Pieces(digest)] {
                prop_assert_eq!(path.to_string().parse::<TreePath>(), Ok(path));
            }
        }
    }
}
