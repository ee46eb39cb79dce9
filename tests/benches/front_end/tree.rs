//! A made-up tree: real indexes and manifests, and no layers, which nobody asks for here.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use oci_mirror::descriptor::Descriptor;
use oci_mirror::digest::{Algorithm, Digest};
use oci_mirror::media_type::MediaType;
use oci_mirror::reference::{RepoName, Tag};
use oci_mirror::tree::TreePath;
use oci_mirror::tree::index::RepoIndex;

/// Layers of an image.
pub(crate) const LAYERS: usize = 9;

/// Size of each layer: 24 pieces of 1 MiB, which make a metalink of about 4 KB.
const LAYER_SIZE: u64 = 24 << 20;

/// One layer in so many has piece hashes.
pub(crate) const WITH_PIECES: usize = 250;

/// How large a tree and its network are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) repositories: usize,
    /// Images over all repositories; each has a manifest, a config and [`LAYERS`] layers of its own.
    pub(crate) manifests: usize,
    pub(crate) mirrors: u32,
}

/// One image of a tree.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Image(pub(crate) usize);

impl Image {
    pub(crate) fn repository(self, shape: &Shape) -> anyhow::Result<RepoName> {
        Ok(format!("project-{}/image", self.0 % shape.repositories).parse()?)
    }

    pub(crate) fn tag(self) -> anyhow::Result<Tag> {
        Ok(format!("1.{}", self.0).parse()?)
    }

    /// The digest of one of its layers.
    pub(crate) fn layer(self, number: usize) -> Digest {
        let number = self.0 * LAYERS + number;
        Algorithm::Sha256.digest(format!("layer {number}").as_bytes())
    }

    pub(crate) fn manifest(self) -> anyhow::Result<Vec<u8>> {
        let config = Algorithm::Sha256.digest(format!("config {}", self.0).as_bytes());
        let mut text = format!(
            "{{\"schemaVersion\":2,\"mediaType\":\"{}\",\"config\":{{\"mediaType\":\"application/vnd.oci.image.config.v1+json\",\
             \"digest\":\"{config}\",\"size\":1500}},\"layers\":[",
            MediaType::OCI_MANIFEST
        );
        for number in 0..LAYERS {
            let separator = if number == 0 { "" } else { "," };
            let digest = self.layer(number);
            write!(
                text,
                "{separator}{{\"mediaType\":\"application/vnd.oci.image.layer.v1.tar+gzip\",\"digest\":\"{digest}\",\
                 \"size\":{LAYER_SIZE}}}"
            )?;
        }
        text.push_str("]}");
        Ok(text.into_bytes())
    }
}

impl Shape {
    /// The tree of this shape, made if there is none yet.
    pub(crate) fn tree(&self) -> anyhow::Result<PathBuf> {
        let target = std::env::current_exe()?;
        let target = target
            .ancestors()
            .nth(3)
            .context("the benchmark is not below target")?;
        let root = target.join(format!("front-end-{}", self.manifests));
        if !TreePath::State.under(&root).exists() {
            eprintln!("writing {} manifests to {}", self.manifests, root.display());
            self.write(&root)
                .with_context(|| format!("cannot write {}", root.display()))?;
        }
        Ok(root)
    }

    fn write(&self, root: &Path) -> anyhow::Result<()> {
        let mut indexes: Vec<Vec<(Tag, Descriptor)>> = vec![Vec::new(); self.repositories];
        let place = |path: &TreePath, bytes: &[u8]| -> anyhow::Result<()> {
            let path = path.under(root);
            fs::create_dir_all(path.parent().context("a file has a directory")?)?;
            Ok(fs::write(path, bytes)?)
        };
        for image in (0..self.manifests).map(Image) {
            let bytes = image.manifest()?;
            let digest = Algorithm::Sha256.digest(&bytes);
            place(&TreePath::Blob(digest), &bytes)?;
            let descriptor = Descriptor::new(MediaType::OCI_MANIFEST, digest, bytes.len() as u64);
            indexes[image.0 % self.repositories].push((image.tag()?, descriptor));
            for number in 0..LAYERS {
                if (image.0 * LAYERS + number).is_multiple_of(WITH_PIECES) {
                    let hashes = [0x5a; 32 * (LAYER_SIZE >> 20) as usize];
                    place(&TreePath::Pieces(image.layer(number)), &hashes)?;
                }
            }
        }
        for (number, entries) in indexes.iter().enumerate() {
            let mut index = RepoIndex::default();
            index.set_all(entries.iter().map(|(tag, it)| (Some(tag), it.clone())));
            let repository = Image(number).repository(self)?;
            let path = TreePath::Index(repository.as_str().parse()?);
            place(&path, &index.to_bytes())?;
        }
        let (repositories, tags) = (self.repositories, self.manifests);
        let state = format!(
            "{{\"format\":1,\"serial\":1,\"created\":\"2026-11-21T00:00:00Z\",\"list\":null,\"totals\":\
             {{\"repositories\":{repositories},\"tags\":{tags},\"blobs\":{},\"bytes\":0}}}}",
            tags * (LAYERS + 2)
        );
        place(&TreePath::State, state.as_bytes())
    }
}
