//! A tree, and a registry to fill it from.

#![expect(dead_code, reason = "each test binary uses a part of it")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mirror_tool::exit::Exit;
use mirror_tool::export::report::ImageReport;
use mirror_tool::export::source::Source;
use mirror_tool::export::{self, Options, Order, Report};
use mirror_tool::verify;
use oci_mirror::digest::Digest;
use oci_mirror::registry::client;
use oci_mirror::registry::retry::Retry;
use oci_mirror::tree::{Catalog, Tree, TreePath};
use tempfile::TempDir;

use crate::fake_registry::FakeRegistry;

pub(crate) const MIB: usize = 1 << 20;

pub(crate) struct Bench {
    pub(crate) registry: FakeRegistry,
    pub(crate) dir: TempDir,
}

impl Bench {
    pub(crate) async fn new() -> Self {
        Self {
            registry: FakeRegistry::start().await,
            dir: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn tree(&self) -> PathBuf {
        self.dir.path().join("tree")
    }

    pub(crate) fn options(&self, sources: &[&str]) -> Options {
        let host = self.registry.address;
        let sources = sources.iter().map(|source| match source.strip_prefix('/') {
            Some(name) => format!("{host}/{name}").parse().unwrap(),
            None => source.parse().unwrap(),
        });
        Options {
            tree: self.tree(),
            orders: sources.map(|source: Source| Order::from(source)).collect(),
            connection: client::Options {
                plain_http: true,
                read_timeout: Duration::from_secs(2),
                retry: Retry {
                    retries: 3,
                    first_delay: Duration::from_millis(5),
                    max_delay: Duration::from_millis(20),
                    max_retry_after: Duration::from_secs(2),
                },
                ..client::Options::default()
            },
            ..Options::default()
        }
    }

    pub(crate) async fn export(&self, sources: &[&str]) -> Report {
        export::run(self.options(sources)).await.unwrap()
    }

    /// Exports what must succeed, and checks that the tree is sound.
    #[track_caller]
    pub(crate) fn sound(&self, report: &Report) {
        assert_eq!(report.exit(), Exit::Fine, "{report:#?}");
        let verified = verify::run(&self.tree()).unwrap();
        assert_eq!(verified.damage, [], "{verified}");
        Catalog::load(&Tree::open(&self.tree()).unwrap(), None).unwrap();
    }

    pub(crate) fn holds(&self, digest: Digest) -> bool {
        TreePath::Blob(digest).under(&self.tree()).exists()
    }
}

/// Bytes that no two seeds share and nothing compresses.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Every file with its inode, time and content.
pub(crate) fn snapshot(root: &Path) -> BTreeMap<PathBuf, (u64, i64, i64, Vec<u8>)> {
    let mut files = BTreeMap::new();
    let mut pending = vec![root.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let metadata = fs::metadata(&path).unwrap();
            if metadata.is_dir() {
                pending.push(path);
            } else {
                let content = fs::read(&path).unwrap();
                let entry = (
                    metadata.ino(),
                    metadata.mtime(),
                    metadata.mtime_nsec(),
                    content,
                );
                files.insert(path, entry);
            }
        }
    }
    files
}

#[track_caller]
pub(crate) fn only(report: &Report) -> &ImageReport {
    assert_eq!(report.images.len(), 1, "{report:#?}");
    &report.images[0]
}
