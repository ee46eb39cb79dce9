//! A tree as large as a large distribution's, made without the exporter.
//!
//! Every tag is an index of two platforms; an image has a configuration, layers of its own and layers
//! it shares with its neighbours. Manifests are real; configurations and layers are named by digests of
//! content nobody made, as a front end never reads them. Their files are links to a few.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use oci_mirror::descriptor::Descriptor;
use oci_mirror::digest::{Algorithm, Digest};
use oci_mirror::media_type::MediaType;
use oci_mirror::tree::index::{OCI_LAYOUT, RepoIndex};
use oci_mirror::tree::state::{FORMAT, State, Totals};
use oci_mirror::tree::{RepoDir, TreePath};

/// Layers that belong to one tag, over its platforms.
const OWN_LAYERS: u64 = 5;

/// Layers an image shares with the tags beside it.
const SHARED_LAYERS: u64 = 3;

/// How many tags in a row have the same shared layers.
const SHARED_FOR: u64 = 10;

/// How many names one file is given; ext4 allows 65,000.
const LINKS: u64 = 60_000;

/// How large a tree.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) repositories: u64,
    pub(crate) tags: u64,
}

/// A tree being written.
pub(crate) struct Maker {
    root: PathBuf,
    links: u64,
    source: PathBuf,
    totals: Totals,
}

impl Maker {
    /// Writes the whole tree below `root`, unless it is there.
    pub(crate) fn make(root: &Path, shape: Shape) -> io::Result<Self> {
        let mut maker = Self {
            root: root.to_owned(),
            links: LINKS,
            source: PathBuf::new(),
            totals: Totals::default(),
        };
        if let Ok(bytes) = fs::read(TreePath::State.under(root)) {
            let state = State::from_bytes(&bytes).map_err(io::Error::other)?;
            maker.totals = state.totals;
            return Ok(maker);
        }
        for fan in 0..=255_u8 {
            fs::create_dir_all(root.join(format!("blobs/sha256/{fan:02x}")))?;
        }
        for number in 0..shape.repositories {
            let mut index = RepoIndex::default();
            let repo = repo(number)?;
            let directory = root.join(repo.to_string());
            fs::create_dir_all(directory.join("blobs/sha256"))?;
            fs::write(TreePath::Layout(repo.clone()).under(root), OCI_LAYOUT)?;
            let mut entries = Vec::new();
            for tag in 0..shape.tags {
                let name = format!("1.{tag}").parse().map_err(io::Error::other)?;
                entries.push((name, maker.image(&repo, number, tag)?));
            }
            index.set_all(
                entries
                    .iter()
                    .map(|(tag, target)| (Some(tag), target.clone())),
            );
            fs::write(TreePath::Index(repo).under(root), index.to_bytes())?;
            maker.totals.repositories += 1;
            maker.totals.tags += shape.tags;
        }
        maker.finish(1)?;
        Ok(maker)
    }

    /// Moves a tag of a repository to a new image, as an export would, and gives the tree a new serial.
    pub(crate) fn move_tag(&mut self, number: u64, serial: u64) -> io::Result<()> {
        let repo = repo(number)?;
        let target = self.image(&repo, number, 1_000_000 + serial)?;
        let path = TreePath::Index(repo).under(&self.root);
        let mut index = RepoIndex::from_bytes(&fs::read(&path)?).map_err(io::Error::other)?;
        index.set(Some(&"1.0".parse().map_err(io::Error::other)?), target);
        self.replace(&path, &index.to_bytes())?;
        self.finish(serial)
    }

    /// How many blobs there are.
    pub(crate) fn blobs(&self) -> u64 {
        self.totals.blobs
    }

    fn finish(&self, serial: u64) -> io::Result<()> {
        let state = State {
            format: FORMAT,
            serial,
            created: Timestamp::UNIX_EPOCH,
            list: None,
            totals: self.totals,
        };
        self.replace(&TreePath::State.under(&self.root), &state.to_bytes())
    }

    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let new = self.root.join("new");
        fs::write(&new, bytes)?;
        fs::rename(new, path)
    }

    /// Writes the image of one tag, and returns what the tag points at.
    fn image(&mut self, repo: &RepoDir, number: u64, tag: u64) -> io::Result<Descriptor> {
        let mut manifests = Vec::new();
        for (position, platform) in (0..).zip(["amd64", "arm64"]) {
            let own = OWN_LAYERS / 2 + if position == 0 { OWN_LAYERS % 2 } else { 0 };
            let shared = (0..SHARED_LAYERS)
                .map(|layer| format!("shared {number} {} {platform} {layer}", tag / SHARED_FOR));
            let layers = shared
                .chain((0..own).map(|layer| format!("own {number} {tag} {platform} {layer}")));
            let layers = layers
                .map(|name| self.blob(repo, &name, 30 << 20))
                .collect::<io::Result<Vec<_>>>()?;
            let config = self.blob(repo, &format!("config {number} {tag} {platform}"), 5_000)?;
            let layers: Vec<String> = layers.iter().map(|layer| {
                format!(r#"{{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"{layer}","size":{}}}"#, 30 << 20)
            }).collect();
            let manifest = format!(
                r#"{{"schemaVersion":2,"mediaType":"{}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{config}","size":5000}},"layers":[{}],"annotations":{{"org.opencontainers.image.created":"2026-01-01T00:00:00Z","org.opencontainers.image.version":"{tag}"}}}}"#,
                MediaType::OCI_MANIFEST.as_str(),
                layers.join(",")
            );
            let (digest, size) = self.document(repo, &manifest)?;
            manifests.push(format!(
                r#"{{"mediaType":"{}","digest":"{digest}","size":{size},"platform":{{"architecture":"{platform}","os":"linux"}}}}"#,
                MediaType::OCI_MANIFEST.as_str(),
            ));
        }
        let index = format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{}]}}"#,
            MediaType::OCI_INDEX.as_str(),
            manifests.join(",")
        );
        let (digest, size) = self.document(repo, &index)?;
        Ok(Descriptor::new(MediaType::OCI_INDEX, digest, size))
    }

    fn document(&mut self, repo: &RepoDir, text: &str) -> io::Result<(Digest, u64)> {
        let digest = Algorithm::Sha256.digest(text.as_bytes());
        let path = TreePath::Blob(digest).under(&self.root);
        if !path.exists() {
            fs::write(&path, text)?;
            self.count(text.len() as u64);
            fs::hard_link(
                &path,
                TreePath::Link(repo.clone(), digest).under(&self.root),
            )?;
        }
        Ok((digest, text.len() as u64))
    }

    /// A blob that nobody reads: the digest of its name stands for that of its content.
    fn blob(&mut self, repo: &RepoDir, name: &str, size: u64) -> io::Result<Digest> {
        let digest = Algorithm::Sha256.digest(name.as_bytes());
        let path = TreePath::Blob(digest).under(&self.root);
        if self.links >= LINKS {
            self.links = 0;
            let directory = self.root.join(".~tmp~");
            fs::create_dir_all(&directory)?;
            self.source = directory.join(digest.hex().to_string());
            File::create(&self.source)?;
        }
        match fs::hard_link(&self.source, &path) {
            Ok(()) => {
                self.links += 2;
                self.count(size);
                fs::hard_link(
                    &self.source,
                    TreePath::Link(repo.clone(), digest).under(&self.root),
                )?;
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        Ok(digest)
    }

    fn count(&mut self, size: u64) {
        self.totals.blobs += 1;
        self.totals.bytes += size;
    }
}

fn repo(number: u64) -> io::Result<RepoDir> {
    format!("team{}/app{number}", number % 40)
        .parse()
        .map_err(io::Error::other)
}
