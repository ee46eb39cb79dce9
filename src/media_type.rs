//! Media types of manifests, configs and layers.
//!
//! A [`MediaType`] is the `type/subtype` of [RFC 6838], without parameters, because that is what a
//! descriptor holds and what clients compare byte by byte.
//!
//! [RFC 6838]: https://www.rfc-editor.org/rfc/rfc6838#section-4.2

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::excerpt::Excerpt;

/// A `type/subtype`, at most 255 bytes.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MediaType(Cow<'static, str>);

impl MediaType {
    /// An OCI image manifest.
    pub const OCI_MANIFEST: Self =
        Self(Cow::Borrowed("application/vnd.oci.image.manifest.v1+json"));
    /// An OCI image index.
    pub const OCI_INDEX: Self = Self(Cow::Borrowed("application/vnd.oci.image.index.v1+json"));
    /// A docker image manifest, version 2, schema 2.
    pub const DOCKER_MANIFEST: Self = Self(Cow::Borrowed(
        "application/vnd.docker.distribution.manifest.v2+json",
    ));
    /// A docker manifest list.
    pub const DOCKER_LIST: Self = Self(Cow::Borrowed(
        "application/vnd.docker.distribution.manifest.list.v2+json",
    ));

    /// Every manifest type we read, in the order in which a registry is asked for them.
    pub const MANIFESTS: [Self; 4] = [
        Self::OCI_INDEX,
        Self::OCI_MANIFEST,
        Self::DOCKER_LIST,
        Self::DOCKER_MANIFEST,
    ];

    /// The text, as it stands in a `Content-Type` field.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Which manifest this type announces, if it announces one.
    pub fn manifest_kind(&self) -> Option<ManifestKind> {
        if *self == Self::OCI_MANIFEST || *self == Self::DOCKER_MANIFEST {
            Some(ManifestKind::Image)
        } else if *self == Self::OCI_INDEX || *self == Self::DOCKER_LIST {
            Some(ManifestKind::Index)
        } else {
            None
        }
    }

    /// Whether a layer of this type may be handed on: the image specification reserves
    /// `nondistributable`, and docker `foreign`, for layers that may not.
    pub fn is_distributable(&self) -> bool {
        !(self
            .0
            .starts_with("application/vnd.oci.image.layer.nondistributable.")
            || self
                .0
                .starts_with("application/vnd.docker.image.rootfs.foreign."))
    }
}

/// The two shapes of a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ManifestKind {
    /// One image, or an artifact: a config and layers.
    Image,
    /// A list of other manifests.
    Index,
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for MediaType {
    type Err = Error;

    /// Parameters (`; charset=utf-8`) are dropped; names are compared in lower case.
    fn from_str(text: &str) -> Result<Self, Error> {
        let essence = text.split(';').next().unwrap_or_default().trim();
        let restricted_name = |name: &str| {
            !name.is_empty()
                && name.len() <= 127
                && name.as_bytes()[0].is_ascii_alphanumeric()
                && name
                    .bytes()
                    .all(|c| c.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&c))
        };
        let well_formed = essence
            .split_once('/')
            .is_some_and(|(kind, subtype)| restricted_name(kind) && restricted_name(subtype));
        if !well_formed {
            return Err(Error(Excerpt(text).into()));
        }
        let lower = essence.to_ascii_lowercase();
        // The four manifest types are shared constants, so that a catalog of many manifests does
        // not hold many copies of the same text.
        let shared = Self::MANIFESTS.into_iter().find(|known| known.0 == lower);
        Ok(shared.unwrap_or(Self(Cow::Owned(lower))))
    }
}

impl TryFrom<String> for MediaType {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<MediaType> for String {
    fn from(media_type: MediaType) -> Self {
        media_type.0.into_owned()
    }
}

/// The text is not a `type/subtype`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not a media type")]
pub struct Error(Box<str>);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parameters_and_case_do_not_matter() {
        let parsed: MediaType = "Application/VND.oci.image.index.v1+json; charset=utf-8"
            .parse()
            .unwrap();
        assert_eq!(parsed, MediaType::OCI_INDEX);
        assert_eq!(parsed.manifest_kind(), Some(ManifestKind::Index));
    }

    #[test]
    fn rejects_what_could_break_a_header() {
        for text in [
            "",
            "a",
            "a/",
            "/b",
            "a/b/c",
            "a/b\r\nX: y",
            "a/ b",
            "é/b",
            ".a/b",
        ] {
            assert!(text.parse::<MediaType>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn foreign_layers_are_not_distributable() {
        for (text, distributable) in [
            ("application/vnd.oci.image.layer.v1.tar+zstd", true),
            (
                "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
                false,
            ),
            (
                "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
                false,
            ),
        ] {
            assert_eq!(
                text.parse::<MediaType>().unwrap().is_distributable(),
                distributable
            );
        }
    }

    proptest! {
        #[test]
        fn parsing_is_idempotent(text in ".{0,80}") {
            if let Ok(parsed) = text.parse::<MediaType>() {
                prop_assert_eq!(parsed.to_string().parse::<MediaType>(), Ok(parsed));
            }
        }
    }
}
