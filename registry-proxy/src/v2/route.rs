//! Paths of the registry API, read from the right, because a repository name may contain anything
//! that looks like an API word: `foo/manifests/bar` is a legal name.

use oci_mirror::digest::Digest;
use oci_mirror::reference::{Reference, RepoName};

use super::error::Error;
use crate::observe::Kind;

/// What a path under `/v2/` asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// `/v2/`: is this a registry?
    Base,
    /// `/v2/_catalog`: which repositories are there?
    Catalog,
    /// `/v2/<name>/tags/list`.
    Tags {
        /// The repository.
        name: RepoName,
    },
    /// `/v2/<name>/manifests/<reference>`.
    Manifest {
        /// The repository.
        name: RepoName,
        /// The tag or digest asked for.
        reference: Reference,
    },
    /// `/v2/<name>/blobs/<digest>`.
    Blob {
        /// The repository.
        name: RepoName,
        /// The digest asked for.
        digest: Digest,
    },
    /// `/v2/<name>/referrers/<digest>`.
    Referrers {
        /// The repository.
        name: RepoName,
        /// The manifest whose referrers are asked for.
        digest: Digest,
    },
}

impl Route {
    /// Parses a decoded path; every way it can be wrong has the error code of the specification.
    ///
    /// ```
    /// use registry_proxy::v2::route::Route;
    /// assert_eq!(Route::parse("/v2/").unwrap(), Route::Base);
    /// assert!(Route::parse("/v2/../etc/passwd").is_err());
    /// ```
    pub fn parse(path: &str) -> Result<Self, Error> {
        let path = path.strip_prefix("/v2").ok_or(Error::NotFound)?;
        let path = match path {
            "" | "/" => return Ok(Self::Base),
            "/_catalog" => return Ok(Self::Catalog),
            path => path.strip_prefix('/').ok_or(Error::NotFound)?,
        };
        if let Some(name) = path.strip_suffix("/tags/list") {
            return Ok(Self::Tags {
                name: name.parse()?,
            });
        }
        let (rest, last) = path.rsplit_once('/').ok_or(Error::NotFound)?;
        let (name, kind) = rest.rsplit_once('/').ok_or(Error::NotFound)?;
        match kind {
            "manifests" => {
                let name = name.parse()?;
                // A tag that no tag can be names nothing; a digest that is none is the client's error.
                let reference = match last.parse() {
                    Ok(reference) => reference,
                    Err(_) if !last.contains(':') => return Err(Error::tag_unknown(&name, last)),
                    Err(_) => return Err(Error::digest_invalid(last)),
                };
                Ok(Self::Manifest { name, reference })
            }
            "blobs" => Ok(Self::Blob {
                name: name.parse()?,
                digest: digest(last)?,
            }),
            "referrers" => Ok(Self::Referrers {
                name: name.parse()?,
                digest: digest(last)?,
            }),
            _ => Err(Error::NotFound),
        }
    }
}

impl Route {
    /// What kind of request it is.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Base => Kind::Base,
            Self::Catalog => Kind::Catalog,
            Self::Tags { .. } => Kind::Tags,
            Self::Manifest {
                reference: Reference::Tag(_),
                ..
            } => Kind::Tag,
            Self::Manifest { .. } => Kind::Manifest,
            Self::Blob { .. } => Kind::Blob,
            Self::Referrers { .. } => Kind::Referrers,
        }
    }
}

fn digest(text: &str) -> Result<Digest, Error> {
    text.parse().map_err(|_| Error::digest_invalid(text))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DIGEST: &str = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";

    #[test]
    fn reads_from_the_right() {
        let route = Route::parse(&format!("/v2/a/manifests/b/blobs/{DIGEST}")).unwrap();
        assert!(matches!(route, Route::Blob { name, .. } if name.as_str() == "a/manifests/b"));
        let route = Route::parse("/v2/tags/list/tags/list").unwrap();
        assert!(matches!(route, Route::Tags { name } if name.as_str() == "tags/list"));
    }

    #[test]
    fn each_mistake_has_its_code() {
        for (path, code) in [
            ("/v2/A/manifests/latest", "NAME_INVALID"),
            ("/v2/../manifests/latest", "NAME_INVALID"),
            ("/v2/a/../../manifests/latest", "NAME_INVALID"),
            ("/v2//manifests/latest", "NAME_INVALID"),
            ("/v2/a/manifests/sha256:00", "DIGEST_INVALID"),
            ("/v2/a/manifests/.hidden", "MANIFEST_UNKNOWN"),
            ("/v2/a/blobs/latest", "DIGEST_INVALID"),
            ("/v2/a/blobs/md5:00", "DIGEST_INVALID"),
            ("/v2/a/referrers/x", "DIGEST_INVALID"),
            ("/v2/a", "UNSUPPORTED"),
            ("/v2/a/b/c", "UNSUPPORTED"),
            ("/v2x/a", "UNSUPPORTED"),
        ] {
            assert_eq!(Route::parse(path).unwrap_err().code(), code, "{path}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics(path in "/v2/.{0,120}|.{0,60}") {
            drop(Route::parse(&path));
        }

        #[test]
        fn names_survive(name in "[a-z]{1,5}(/[a-z]{1,5}){0,4}", tag in "[A-Za-z0-9_][A-Za-z0-9._-]{0,20}") {
            let route = Route::parse(&format!("/v2/{name}/manifests/{tag}")).unwrap();
            let expected = Route::Manifest { name: name.parse().unwrap(), reference: tag.parse().unwrap() };
            prop_assert_eq!(route, expected);
        }
    }
}
