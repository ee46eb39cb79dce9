//! A damaged tree, made whole again from a volunteer's mirror.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use support::peer::nginx;
use support::peer::rsyncd;
use support::process::run;
use tempfile::TempDir;

use crate::network::{fails, tree, verify};

/// A copy of the tree with damage, and where that is.
struct Damaged {
    directory: TempDir,
    tree: PathBuf,
    /// One byte is wrong, under both of its names.
    wrong: PathBuf,
    /// The blob is missing, not its link.
    missing: PathBuf,
    /// Half is left, of the link alone.
    cut: PathBuf,
}

impl Damaged {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let copy = directory.path().join("tree");
        rsyncd::sync(tree(), &copy, &[]).unwrap();
        let layout = copy.join("repos/app");
        let index = json(&layout.join("index.json"));
        let (manifest, _) = places(&copy, &index["manifests"][0]);
        let layers = json(&manifest)["layers"].clone();
        let (wrong, _) = places(&copy, &layers[0]);
        let (_, cut) = places(&copy, &layers[3]);

        let mut bytes = fs::read(&wrong).unwrap();
        bytes[1000] ^= 1;
        fs::write(&wrong, bytes).unwrap();
        fs::remove_file(&manifest).unwrap();
        let bytes = fs::read(&cut).unwrap();
        fs::remove_file(&cut).unwrap();
        fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
        Self {
            directory,
            tree: copy,
            wrong,
            missing: manifest,
            cut,
        }
    }

    fn verify(&self, repair: Option<&str>) -> Command {
        let mut command = verify(&self.tree);
        command.args(repair.map(|source| format!("--repair={source}")));
        command
    }

    fn same(&self, path: &Path) -> bool {
        let original = tree().join(path.strip_prefix(&self.tree).unwrap());
        fs::read(path).is_ok_and(|bytes| bytes == fs::read(original).unwrap())
    }
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// The blob of a descriptor, and the link of the repository `app` to it.
fn places(tree: &Path, descriptor: &Value) -> (PathBuf, PathBuf) {
    let digest = descriptor["digest"].as_str().unwrap();
    let hex = digest.strip_prefix("sha256:").unwrap();
    let blob = tree.join("blobs/sha256").join(&hex[..2]).join(hex);
    (blob, tree.join("repos/app/blobs/sha256").join(hex))
}

#[test]
fn all_damage_is_repaired_from_a_mirror() {
    let damaged = Damaged::new();
    let state = damaged.directory.path().join("nginx");
    let mirror = damaged.directory.path().join("mirror");
    rsyncd::sync(tree(), mirror.join("pub/containers"), &["--mkpath"]).unwrap();
    let nginx = nginx::start(&mirror, &state).unwrap();
    let (code, failure) = fails(&mut damaged.verify(None));
    assert_eq!(code, 3, "{failure}");

    let url = format!("{}/pub/containers/", nginx.url());
    run(&mut damaged.verify(Some(&url))).unwrap_or_else(|error| panic!("{error:#}"));
    for path in [&damaged.wrong, &damaged.missing, &damaged.cut] {
        assert!(damaged.same(path), "{}", path.display());
    }
    run(&mut damaged.verify(None)).unwrap_or_else(|error| panic!("{error:#}"));
    let inode = |path: &Path| fs::metadata(path).unwrap().ino();
    let (blob, link) = (&damaged.missing, damaged.missing.file_name().unwrap());
    let link = damaged.tree.join("repos/app/blobs/sha256").join(link);
    assert_eq!(inode(blob), inode(&link), "it takes its place twice");
    let asked = nginx.requests().unwrap();
    let named = asked.iter().filter(|line| line.contains("/blobs/"));
    assert!((1..=3).contains(&named.count()), "{asked:#?}");
}

#[test]
fn a_mirror_with_the_same_damage_or_none_of_the_content_repairs_nothing() {
    let damaged = Damaged::new();
    let path = |name: &str| damaged.directory.path().join(name);
    rsyncd::sync(&damaged.tree, path("mirror"), &[]).unwrap();
    let lying = nginx::start(&path("mirror"), &path("nginx")).unwrap();
    fs::create_dir(path("empty")).unwrap();
    let empty = nginx::start(&path("empty"), &path("nginx-of-none")).unwrap();
    for mirror in [&lying, &empty] {
        let (code, failure) = fails(&mut damaged.verify(Some(&mirror.url())));
        assert_eq!(code, 3, "{failure}");
        assert!(!damaged.same(&damaged.wrong));
    }
}
