//! A tree with one of everything the specification speaks of, to be read.
//!
//! One image under five tags, an index of it, and what refers to the image: an artifact with a type
//! of its own, one whose type is that of its config, and an index without any. A second repository has
//! a manifest and no tags, a third has referrers that only the index under a tag names.

use std::path::Path;

use anyhow::Result;
use oci_mirror::descriptor::Descriptor;
use oci_mirror::digest::{Algorithm, Digest};
use oci_mirror::media_type::MediaType;
use oci_mirror::tree::TreeWriter;
use oci_mirror::tree::writer::Image;
use serde_json::{Value, json};

/// The repository that has everything.
pub const NAME: &str = "conformance/image";

/// A repository with a manifest that has no tag.
pub const UNTAGGED: &str = "conformance/untagged";

/// A repository in which referrers are listed as registries without an API for it have them: under a
/// tag made of the digest.
pub const LISTED: &str = "conformance/listed";

/// The tags of [`NAME`], in the order in which they are listed.
pub const TAGS: [&str; 5] = ["1", "2", "B", "a", "b"];

/// The type of the artifact that has one of its own.
pub const ARTIFACT: &str = "application/vnd.example.signature";

/// The type of the config of the artifact that has none.
pub const CONFIG: &str = "application/vnd.example.config";

/// Something that is addressed by its digest.
#[derive(Debug, Clone)]
pub struct Content {
    /// Its digest.
    pub digest: Digest,
    /// All of it.
    pub bytes: Vec<u8>,
    /// Its media type.
    pub media_type: MediaType,
}

/// What was published.
#[derive(Debug, Clone)]
pub struct Sample {
    /// The image, tagged with each of [`TAGS`].
    pub manifest: Content,
    /// Its layer, large enough for parts of it.
    pub layer: Content,
    /// The same layer under another algorithm, in an image without a tag.
    pub sha512: (Content, Content),
    /// The index, without a tag.
    pub index: Content,
    /// What refers to the image: the artifact with a type, the one without, the index.
    pub referrers: [Content; 3],
}

impl Sample {
    /// Publishes everything in a new tree.
    pub fn publish(root: &Path) -> Result<Self> {
        let mut stage = Stage {
            writer: TreeWriter::open(root)?,
            images: Vec::new(),
        };
        let layer: Vec<u8> = (0..20_000_u32).flat_map(u32::to_le_bytes).collect();
        let empty = stage.put(
            Algorithm::Sha256,
            "application/vnd.oci.empty.v1+json",
            b"{}".to_vec(),
        )?;
        let config = stage.put(Algorithm::Sha256, CONFIG, b"{ }".to_vec())?;
        let layer_type = "application/vnd.oci.image.layer.v1.tar";
        let layer512 = stage.put(Algorithm::Sha512, layer_type, layer.clone())?;
        let layer = stage.put(Algorithm::Sha256, layer_type, layer)?;

        let image = |layer: &Content| {
            json!({
                "schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST,
                "config": empty.descriptor(), "layers": [layer.descriptor()],
            })
        };
        let manifest = stage.manifest(Algorithm::Sha256, &image(&layer))?;
        let manifest512 = stage.manifest(Algorithm::Sha512, &image(&layer512))?;
        let index = stage.manifest(
            Algorithm::Sha256,
            &json!({
                "schemaVersion": 2, "mediaType": MediaType::OCI_INDEX,
                "manifests": [manifest.descriptor()],
            }),
        )?;
        let typed = stage.manifest(
            Algorithm::Sha256,
            &json!({
                "schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST, "artifactType": ARTIFACT,
                "config": empty.descriptor(), "layers": [], "subject": manifest.descriptor(),
                "annotations": {"by": "us"},
            }),
        )?;
        let untyped = stage.manifest(
            Algorithm::Sha256,
            &json!({
                "schemaVersion": 2, "mediaType": MediaType::OCI_MANIFEST,
                "config": config.descriptor(), "layers": [], "subject": manifest.descriptor(),
            }),
        )?;
        let listing = stage.manifest(Algorithm::Sha256, &json!({
            "schemaVersion": 2, "mediaType": MediaType::OCI_INDEX,
            "manifests": [], "subject": manifest.descriptor(), "annotations": {"lists": "nothing"},
        }))?;

        for tag in TAGS {
            stage.image(NAME, Some(tag), &manifest, &[&empty, &layer])?;
        }
        stage.image(NAME, None, &manifest512, &[&empty, &layer512])?;
        stage.image(NAME, None, &index, &[&manifest, &empty, &layer])?;
        stage.image(NAME, None, &typed, &[&empty])?;
        stage.image(NAME, None, &untyped, &[&config])?;
        stage.image(NAME, None, &listing, &[])?;
        stage.image(UNTAGGED, None, &manifest, &[&empty, &layer])?;
        let listed = stage.manifest(
            Algorithm::Sha256,
            &json!({
                "schemaVersion": 2, "mediaType": MediaType::OCI_INDEX,
                "manifests": [typed.descriptor()],
            }),
        )?;
        let tag = manifest.digest.to_string().replace(':', "-");
        stage.image(LISTED, Some(&tag), &listed, &[&typed, &empty])?;
        stage.writer.publish(&stage.images)?;
        stage.writer.finish(jiff::Timestamp::UNIX_EPOCH)?;
        Ok(Self {
            manifest,
            layer,
            sha512: (manifest512, layer512),
            index,
            referrers: [typed, untyped, listing],
        })
    }
}

impl Content {
    fn descriptor(&self) -> Value {
        json!({"mediaType": self.media_type, "digest": self.digest, "size": self.bytes.len()})
    }
}

struct Stage {
    writer: TreeWriter,
    images: Vec<Image>,
}

impl Stage {
    fn put(&self, algorithm: Algorithm, media_type: &str, bytes: Vec<u8>) -> Result<Content> {
        let digest = algorithm.digest(&bytes);
        self.writer.stage_bytes(digest, &bytes)?;
        let media_type = media_type.parse()?;
        Ok(Content {
            digest,
            bytes,
            media_type,
        })
    }

    fn manifest(&self, algorithm: Algorithm, document: &Value) -> Result<Content> {
        let media_type = document["mediaType"].as_str().unwrap_or_default();
        self.put(algorithm, media_type, serde_json::to_vec(document)?)
    }

    fn image(
        &mut self,
        name: &str,
        tag: Option<&str>,
        root: &Content,
        below: &[&Content],
    ) -> Result<()> {
        let mut reach: Vec<Digest> = below.iter().map(|content| content.digest).collect();
        reach.push(root.digest);
        self.images.push(Image {
            repo: name.parse()?,
            tag: tag.map(str::parse).transpose()?,
            root: Descriptor::new(
                root.media_type.clone(),
                root.digest,
                root.bytes.len() as u64,
            ),
            reach,
            tag_referrers: None,
        });
        Ok(())
    }
}
