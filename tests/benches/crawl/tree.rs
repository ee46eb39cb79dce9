//! A tree of many small blobs, the same each time.

use std::fs;
use std::io;
use std::path::Path;

use jiff::Timestamp;
use oci_mirror::descriptor::Descriptor;
use oci_mirror::digest::{Algorithm, Digest};
use oci_mirror::media_type::MediaType;
use oci_mirror::reference::Tag;
use oci_mirror::tree::index::{OCI_LAYOUT, RepoIndex};
use oci_mirror::tree::state::{FORMAT, State, Totals};
use oci_mirror::tree::{RepoDir, TreePath};
use support::layers::{content, descriptor};

/// How many blobs a repository has: a manifest, a config and layers.
const EACH: usize = 100;

/// Writes a tree of at least so many blobs below `root`.
pub(crate) fn make(root: &Path, blobs: usize) -> io::Result<()> {
    for fan in 0..=255_u8 {
        fs::create_dir_all(root.join(format!("blobs/sha256/{fan:02x}")))?;
    }
    let repositories = blobs.div_ceil(EACH);
    let mut totals = Totals::default();
    for number in 0..repositories {
        let repo: RepoDir = format!("app{number}").parse().map_err(io::Error::other)?;
        fs::create_dir_all(root.join(repo.to_string()).join("blobs/sha256"))?;
        fs::write(TreePath::Layout(repo.clone()).under(root), OCI_LAYOUT)?;
        let mut put = |bytes: &[u8]| -> io::Result<Digest> {
            let digest = Algorithm::Sha256.digest(bytes);
            let path = TreePath::Blob(digest).under(root);
            fs::write(&path, bytes)?;
            fs::hard_link(&path, TreePath::Link(repo.clone(), digest).under(root))?;
            totals.blobs += 1;
            totals.bytes += bytes.len() as u64;
            Ok(digest)
        };
        let config = format!(r#"{{"of":{number}}}"#);
        let digest = put(config.as_bytes())?;
        let config = descriptor("config.v1+json", digest, config.len());
        let layers = (0..EACH - 2).map(|layer| {
            let bytes = content(number * EACH + layer);
            Ok(descriptor("layer.v1.tar", put(&bytes)?, bytes.len()))
        });
        let layers = layers.collect::<io::Result<Vec<String>>>()?;
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","config":{config},"layers":[{}]}}"#,
            MediaType::OCI_MANIFEST.as_str(),
            layers.join(",")
        );
        let digest = put(manifest.as_bytes())?;
        let target = Descriptor::new(MediaType::OCI_MANIFEST, digest, manifest.len() as u64);
        let tag: Tag = "1".parse().map_err(io::Error::other)?;
        let mut index = RepoIndex::default();
        index.set(Some(&tag), target);
        fs::write(TreePath::Index(repo).under(root), index.to_bytes())?;
        totals.repositories += 1;
        totals.tags += 1;
    }
    let state = State {
        format: FORMAT,
        serial: 1,
        created: Timestamp::UNIX_EPOCH,
        list: None,
        totals,
    };
    fs::write(TreePath::State.under(root), state.to_bytes())
}
