//! Manifests: the documents that say what an image consists of.
//!
//! Four types are read: OCI image manifest and index, docker schema 2 manifest and list. The bytes
//! are kept exactly as received, because the digest names them; what is parsed beside them is only
//! what mirroring needs. Formats: [manifest], [index], and docker's [schema 2].
//!
//! [manifest]: https://github.com/opencontainers/image-spec/blob/main/manifest.md
//! [index]: https://github.com/opencontainers/image-spec/blob/main/image-index.md
//! [schema 2]: https://distribution.github.io/distribution/spec/manifest-v2-2/

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Deserialize;

use crate::descriptor::{Descriptor, null_as_default};
use crate::digest::{Algorithm, Digest};
use crate::excerpt::Excerpt;
use crate::media_type::{self, ManifestKind, MediaType};

/// Largest manifest accepted, in bytes.
///
/// Registries refuse larger ones on push (distribution's limit is 4 MiB), so a larger answer is an
/// attack on our memory.
pub const MAX_BYTES: u64 = 4 << 20;

/// Most children a manifest may name.
///
/// A 4 MiB document has room for about 30,000; each costs a request, so the bound is lower.
pub const MAX_CHILDREN: usize = 10_000;

/// A manifest: its bytes, its type and what it refers to.
///
/// ```
/// use oci_mirror::digest::Algorithm;
/// use oci_mirror::manifest::Manifest;
/// use oci_mirror::media_type::MediaType;
/// let bytes = br#"{"schemaVersion":2,"manifests":[]}"#.as_slice();
/// let manifest = Manifest::parse(bytes.into(), Some(&MediaType::OCI_INDEX)).unwrap();
/// assert_eq!(manifest.digest(), Algorithm::Sha256.digest(bytes));
/// ```
#[derive(Debug, Clone)]
pub struct Manifest {
    bytes: Bytes,
    digest: Digest,
    media_type: MediaType,
    subject: Option<Descriptor>,
    artifact_type: Option<String>,
    annotations: BTreeMap<String, String>,
    content: Content,
}

/// What a manifest refers to.
#[derive(Debug, Clone)]
pub enum Content {
    /// An image or artifact.
    Image {
        /// The config blob.
        config: Descriptor,
        /// The layers, lowest first.
        layers: Vec<Descriptor>,
    },
    /// An index.
    Index {
        /// The manifests it lists, in order of preference.
        manifests: Vec<Descriptor>,
    },
}

impl Manifest {
    /// Parses a document received under `declared`, the type its descriptor or the response gave.
    ///
    /// The digest is computed with SHA-256; [`Manifest::with_digest`] checks against a given one.
    pub fn parse(bytes: Bytes, declared: Option<&MediaType>) -> Result<Self, Error> {
        let digest = Algorithm::Sha256.digest(&bytes);
        Self::parse_as(bytes, digest, declared)
    }

    /// Parses a document that must have the digest `expected`.
    pub fn with_digest(
        bytes: Bytes,
        expected: Digest,
        declared: Option<&MediaType>,
    ) -> Result<Self, Error> {
        let found = expected.algorithm().digest(&bytes);
        if found == expected {
            Self::parse_as(bytes, expected, declared)
        } else {
            Err(Error::Digest { expected, found })
        }
    }

    fn parse_as(bytes: Bytes, digest: Digest, declared: Option<&MediaType>) -> Result<Self, Error> {
        if bytes.len() as u64 > MAX_BYTES {
            return Err(Error::TooLarge {
                bytes: bytes.len() as u64,
            });
        }
        let document: Document = serde_json::from_slice(&bytes).map_err(Error::Json)?;
        if document.schema_version != 2 {
            return Err(Error::SchemaVersion(document.schema_version));
        }
        let media_type = media_type_of(&document, declared)?;
        let (kind, content) = match (document.config, document.layers, document.manifests) {
            (Some(config), layers, None) => (
                ManifestKind::Image,
                Content::Image {
                    config,
                    layers: layers.unwrap_or_default(),
                },
            ),
            (None, None, Some(manifests)) => (ManifestKind::Index, Content::Index { manifests }),
            // A document that reads as both is how one digest shows two images to two clients
            // (CVE-2021-41190).
            (_, _, Some(_)) => return Err(Error::Ambiguous),
            (None, _, None) => return Err(Error::Empty),
        };
        if media_type.manifest_kind() != Some(kind) {
            return Err(Error::MediaTypeMismatch {
                declared: media_type.to_string().into(),
            });
        }
        let manifest = Self {
            bytes,
            digest,
            media_type,
            subject: document.subject,
            artifact_type: document.artifact_type,
            annotations: document.annotations,
            content,
        };
        match manifest.children().count() {
            0..=MAX_CHILDREN => Ok(manifest),
            count => Err(Error::TooManyChildren { count }),
        }
    }

    /// The document, byte for byte as received.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The digest of the document.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The type under which the document is served.
    pub fn media_type(&self) -> &MediaType {
        &self.media_type
    }

    /// The length of the document in bytes.
    pub fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// The manifest this one is about, when it is a signature, an SBOM or the like.
    pub fn subject(&self) -> Option<&Descriptor> {
        self.subject.as_ref()
    }

    /// What the manifest refers to.
    pub fn content(&self) -> &Content {
        &self.content
    }

    /// What an artifact is for: the manifest's own `artifactType`, else the config's media type.
    pub fn artifact_type(&self) -> Option<&str> {
        match (&self.artifact_type, &self.content) {
            (Some(artifact_type), _) if !artifact_type.is_empty() => Some(artifact_type),
            (_, Content::Image { config, .. }) => Some(config.media_type.as_str()),
            (_, Content::Index { .. }) => None,
        }
    }

    /// The document's own annotations.
    pub fn annotations(&self) -> &BTreeMap<String, String> {
        &self.annotations
    }

    /// Everything the document refers to, in the order of the document, as what it is.
    pub fn children(&self) -> impl Iterator<Item = Child<'_>> {
        let (config, rest) = match &self.content {
            Content::Image { config, layers } => (Some(config), layers),
            Content::Index { manifests } => (None, manifests),
        };
        let is_index = matches!(self.content, Content::Index { .. });
        config
            .into_iter()
            .map(Child::Blob)
            .chain(rest.iter().map(move |descriptor| {
                // Types unknown to us in an index are passed on, not refused, as the image
                // specification asks.
                if is_index && descriptor.media_type.manifest_kind().is_some() {
                    Child::Manifest(descriptor)
                } else {
                    Child::Blob(descriptor)
                }
            }))
    }

    /// A descriptor that points at this document.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::new(self.media_type.clone(), self.digest, self.size())
    }
}

/// Something a manifest refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Child<'a> {
    /// A further manifest, listed by an index.
    Manifest(&'a Descriptor),
    /// A config or layer.
    Blob(&'a Descriptor),
}

impl<'a> Child<'a> {
    /// The descriptor, whatever it points at.
    pub fn descriptor(self) -> &'a Descriptor {
        match self {
            Self::Manifest(descriptor) | Self::Blob(descriptor) => descriptor,
        }
    }
}

/// Why bytes are not a manifest we can mirror.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Longer than [`MAX_BYTES`].
    #[error("manifest of {bytes} bytes is larger than the {MAX_BYTES} bytes any registry accepts")]
    TooLarge {
        /// How long it is.
        bytes: u64,
    },
    /// The bytes do not hash to the digest they were asked for by.
    #[error("manifest has digest {found} where {expected} was asked for")]
    Digest {
        /// The digest asked for.
        expected: Digest,
        /// The digest of the bytes received.
        found: Digest,
    },
    /// Not JSON, or not the JSON of a manifest.
    #[error("manifest is not valid JSON of its type")]
    Json(#[source] serde_json::Error),
    /// Docker schema 1, or something from the future.
    #[error("manifest has schema version {0}; only 2 is supported")]
    SchemaVersion(u64),
    /// It has both a list of manifests and a config or layers.
    #[error("manifest is ambiguous: it has `manifests` beside `config` or `layers`")]
    Ambiguous,
    /// It has neither.
    #[error("manifest has neither `manifests` nor `config`")]
    Empty,
    /// The type in the document or its descriptor contradicts the content.
    #[error("manifest is declared as {declared}, which its content contradicts")]
    MediaTypeMismatch {
        /// The type that was declared.
        declared: Box<str>,
    },
    /// `mediaType` is no media type.
    #[error("manifest has a malformed mediaType")]
    MediaType(#[from] media_type::Error),
    /// No type was declared anywhere and the content does not tell docker from OCI.
    #[error("manifest of unknown media type {0}")]
    UnknownMediaType(Box<str>),
    /// More than [`MAX_CHILDREN`].
    #[error("manifest refers to {count} others; the limit is {MAX_CHILDREN}")]
    TooManyChildren {
        /// How many it refers to.
        count: usize,
    },
}

/// The JSON shape shared by all four types.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    schema_version: u64,
    media_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    subject: Option<Descriptor>,
    artifact_type: Option<String>,
    #[serde(default, deserialize_with = "null_as_default")]
    annotations: BTreeMap<String, String>,
}

/// The declared type when it is a manifest's, else the document's own, else what the shape says.
///
/// A document that contradicts its declared type is refused: clients refuse it too.
fn media_type_of(document: &Document, declared: Option<&MediaType>) -> Result<MediaType, Error> {
    let inner = document
        .media_type
        .as_deref()
        .filter(|text| !text.is_empty());
    let inner = inner.map(str::parse::<MediaType>).transpose()?;
    let declared = declared.filter(|media_type| media_type.manifest_kind().is_some());
    match (declared, inner) {
        (Some(declared), Some(inner)) if *declared != inner => Err(Error::MediaTypeMismatch {
            declared: declared.to_string().into(),
        }),
        (Some(declared), _) => Ok(declared.clone()),
        (None, Some(inner)) if inner.manifest_kind().is_some() => Ok(inner),
        (None, Some(inner)) => Err(Error::UnknownMediaType(Excerpt(inner.as_str()).into())),
        // OCI documents may leave mediaType out; docker ones may not.
        (None, None) if document.manifests.is_some() => Ok(MediaType::OCI_INDEX),
        (None, None) => Ok(MediaType::OCI_MANIFEST),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EMPTY: &str = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";

    fn image(extra: &str) -> Bytes {
        format!(
            r#"{{"schemaVersion":2{extra},"config":{{"mediaType":"application/vnd.oci.empty.v1+json","digest":"{EMPTY}","size":2}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar+zstd","digest":"{EMPTY}","size":2}}]}}"#
        )
        .into()
    }

    #[test]
    fn an_image_lists_config_then_layers() {
        let manifest = Manifest::parse(image(""), None).unwrap();
        assert_eq!(*manifest.media_type(), MediaType::OCI_MANIFEST);
        assert_eq!(manifest.children().count(), 2);
        assert!(
            manifest
                .children()
                .all(|child| matches!(child, Child::Blob(_)))
        );
    }

    #[test]
    fn docker_and_oci_types_are_kept_apart() {
        let docker = format!(r#","mediaType":"{}""#, MediaType::DOCKER_MANIFEST);
        let manifest = Manifest::parse(image(&docker), None).unwrap();
        assert_eq!(*manifest.media_type(), MediaType::DOCKER_MANIFEST);
        let contradicted = Manifest::parse(image(&docker), Some(&MediaType::OCI_MANIFEST));
        assert!(matches!(contradicted, Err(Error::MediaTypeMismatch { .. })));
    }

    #[test]
    fn an_index_declared_as_an_image_is_refused() {
        let index = Bytes::from_static(br#"{"schemaVersion":2,"manifests":[]}"#);
        assert!(matches!(
            Manifest::parse(index, Some(&MediaType::OCI_MANIFEST)),
            Err(Error::MediaTypeMismatch { .. })
        ));
    }

    #[test]
    fn refuses_documents_that_read_two_ways() {
        assert!(matches!(
            Manifest::parse(image(r#","manifests":[]"#), None),
            Err(Error::Ambiguous)
        ));
        let nothing = Bytes::from_static(br#"{"schemaVersion":2}"#);
        assert!(matches!(Manifest::parse(nothing, None), Err(Error::Empty)));
        let first = Bytes::from_static(br#"{"schemaVersion":1,"fsLayers":[]}"#);
        assert!(matches!(
            Manifest::parse(first, None),
            Err(Error::SchemaVersion(1))
        ));
    }

    #[test]
    fn a_wrong_digest_is_named() {
        let expected: Digest = EMPTY.parse().unwrap();
        let error = Manifest::with_digest(image(""), expected, None).unwrap_err();
        assert!(error.to_string().contains(EMPTY));
    }

    #[test]
    fn an_index_may_list_what_we_do_not_know() {
        let index = format!(
            r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"application/vnd.example.thing+json","digest":"{EMPTY}","size":2}}]}}"#
        );
        let manifest = Manifest::parse(index.into(), Some(&MediaType::OCI_INDEX)).unwrap();
        assert!(
            manifest
                .children()
                .all(|child| matches!(child, Child::Blob(_)))
        );
    }

    #[test]
    fn deep_nesting_is_an_error_not_a_stack_overflow() {
        let deep = format!(r#"{{"schemaVersion":2,"x":{}"#, "[".repeat(1_000_000));
        assert!(matches!(
            Manifest::parse(deep.into(), None),
            Err(Error::Json(_))
        ));
    }

    proptest! {
        #[test]
        fn parsing_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            drop(Manifest::parse(bytes.into(), None));
        }

        #[test]
        fn bytes_are_kept_exactly(space in "[ \\n\\t]{0,20}") {
            let mut bytes = image("").to_vec();
            bytes.extend_from_slice(space.as_bytes());
            let bytes = Bytes::from(bytes);
            let manifest = Manifest::parse(bytes.clone(), None).unwrap();
            prop_assert_eq!(manifest.bytes(), &bytes);
            prop_assert_eq!(manifest.digest(), Algorithm::Sha256.digest(&bytes));
        }
    }
}
