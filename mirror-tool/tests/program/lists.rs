//! The file list and the sizes of a tree, from writing them to checking them.

mod checked;
mod mounts;
mod written;

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use jiff::Timestamp;
use mirror_tool::verify;
use oci_mirror::descriptor::Descriptor;
use oci_mirror::digest::{Algorithm, Digest};
use oci_mirror::manifest::Manifest;
use oci_mirror::media_type::MediaType;
use oci_mirror::tree::TreeWriter;
use oci_mirror::tree::list::{Entry, FileList};
use oci_mirror::tree::writer::{DIRTY, Image, TEMPORARY};

const LIST: &str = "fullfiletimelist-containers";

/// Stages and publishes an image of one layer, and returns the digest of that.
fn publish(writer: &TreeWriter, repo: &str, tag: &str, layer: &[u8]) -> Digest {
    let put = |bytes: &[u8]| {
        let digest = Algorithm::Sha256.digest(bytes);
        if writer.holds(&digest).unwrap() != Some(bytes.len() as u64) {
            writer.stage_bytes(digest, bytes).unwrap();
        }
        digest
    };
    let (config, layer_digest) = (put(b"{}"), put(layer));
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","config":{{"mediaType":"{}","digest":"{config}","size":2}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{layer_digest}","size":{}}}]}}"#,
        MediaType::OCI_MANIFEST,
        "application/vnd.oci.image.config.v1+json",
        layer.len()
    );
    Manifest::parse(manifest.clone().into_bytes().into(), None).unwrap();
    let digest = put(manifest.as_bytes());
    let image = Image {
        repo: repo.parse().unwrap(),
        tag: Some(tag.parse().unwrap()),
        root: Descriptor::new(MediaType::OCI_MANIFEST, digest, manifest.len() as u64),
        reach: vec![config, layer_digest, digest],
        tag_referrers: None,
    };
    writer.publish(&[image]).unwrap();
    layer_digest
}

fn finish(writer: &TreeWriter) -> bool {
    writer.finish(Timestamp::UNIX_EPOCH).unwrap()
}

fn list(root: &Path) -> FileList {
    FileList::read(&fs::read(root.join(LIST)).unwrap()[..]).unwrap()
}

fn entry(root: &Path, path: &str) -> Entry {
    let list = list(root);
    let found = list
        .entries
        .iter()
        .find(|entry| entry.path.as_str() == path);
    found.unwrap_or_else(|| panic!("no {path}")).clone()
}

#[track_caller]
fn assert_sound(root: &Path) {
    let report = verify::run(root).unwrap();
    assert_eq!(report.damage, [], "{report}");
}

/// All there is below `root`, by path.
fn files(root: &Path) -> BTreeMap<String, Metadata> {
    let mut found = BTreeMap::new();
    let mut pending = vec![root.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            if metadata.is_dir() {
                pending.push(path.clone());
            }
            let path = path.strip_prefix(root).unwrap();
            found.insert(path.to_str().unwrap().to_owned(), metadata);
        }
    }
    found
}

/// What an untouched tree keeps: all inodes and times, but those of the temporary directory.
fn stamps(root: &Path) -> Vec<(String, u64, i64, i64, i64, i64)> {
    files(root)
        .into_iter()
        .filter(|(path, _)| !path.starts_with(TEMPORARY))
        .map(|(path, m)| {
            (
                path,
                m.ino(),
                m.mtime(),
                m.mtime_nsec(),
                m.ctime(),
                m.ctime_nsec(),
            )
        })
        .collect()
}

fn mark_dirty(root: &Path) {
    fs::write(root.join(TEMPORARY).join(DIRTY), "").unwrap();
}
