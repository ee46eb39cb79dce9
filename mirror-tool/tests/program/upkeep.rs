//! Prune and repair against a registry on loopback that fails on demand.

mod litter;
mod repair;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use mirror_tool::exit::Exit;
use mirror_tool::export::source::Source;
use mirror_tool::export::{self, Order};
use mirror_tool::{prune, verify};
use oci_mirror::digest::{Algorithm, Digest};
use oci_mirror::registry::client;
use oci_mirror::registry::credentials::Credentials;
use oci_mirror::registry::retry::Retry;
use oci_mirror::tree::{Catalog, RepoDir, Tree, TreePath};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::fake_registry::FakeRegistry;

const MIB: usize = 1 << 20;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

struct Bench {
    registry: FakeRegistry,
    dir: TempDir,
}

impl Bench {
    async fn new() -> Self {
        Self {
            registry: FakeRegistry::start().await,
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn tree(&self) -> PathBuf {
        self.dir.path().join("tree")
    }

    fn path(&self, path: &TreePath) -> PathBuf {
        path.under(&self.tree())
    }

    async fn export(&self, names: &[&str]) {
        let host = self.registry.address;
        let sources = names
            .iter()
            .map(|name| format!("{host}/{name}").parse::<Source>());
        let options = export::Options {
            tree: self.tree(),
            orders: sources.map(|source| Order::from(source.unwrap())).collect(),
            connection: connection(),
            ..export::Options::default()
        };
        let report = export::run(options).await.unwrap();
        assert_eq!(report.exit(), Exit::Fine, "{report:#?}");
    }

    /// Prunes as if it were `later`.
    #[track_caller]
    fn prune(&self, grace: Duration, later: Duration) -> prune::Report {
        prune::run(&self.options(grace, later)).unwrap()
    }

    fn options(&self, grace: Duration, later: Duration) -> prune::Options {
        prune::Options {
            tree: self.tree(),
            grace,
            dry_run: false,
            now: Some(Timestamp::now() + SignedDuration::try_from(later).unwrap()),
        }
    }

    async fn repair(&self, sources: &[&str]) -> verify::Report {
        let sources = sources.iter().map(|source| source.parse().unwrap());
        let options = verify::RepairOptions {
            tree: self.tree(),
            sources: sources.collect(),
            connection: connection(),
            credentials: Credentials::none(),
            shutdown: CancellationToken::new(),
        };
        verify::run_and_repair(options).await.unwrap()
    }

    #[track_caller]
    fn sound(&self) -> verify::Summary {
        let report = verify::run(&self.tree()).unwrap();
        assert_eq!(report.damage, [], "{report}");
        Catalog::load(&Tree::open(&self.tree()).unwrap(), None).unwrap();
        report.summary
    }

    fn registry(&self) -> String {
        format!("docker://{}", self.registry.address)
    }
}

fn connection() -> client::Options {
    client::Options {
        plain_http: true,
        read_timeout: Duration::from_secs(2),
        retry: Retry {
            retries: 1,
            first_delay: Duration::from_millis(5),
            max_delay: Duration::from_millis(20),
            max_retry_after: Duration::from_secs(2),
        },
        ..client::Options::default()
    }
}

fn sha256(content: &[u8]) -> Digest {
    Algorithm::Sha256.digest(content)
}

fn blob(content: &[u8]) -> TreePath {
    TreePath::Blob(sha256(content))
}

fn repo(name: &str) -> RepoDir {
    name.parse().unwrap()
}

/// Every file with its inode and time.
fn snapshot(root: &Path) -> BTreeMap<PathBuf, (u64, i64, i64)> {
    let mut files = BTreeMap::new();
    let mut pending = vec![root.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let metadata = fs::metadata(&path).unwrap();
            let entry = (metadata.ino(), metadata.mtime(), metadata.mtime_nsec());
            files.insert(path.clone(), entry);
            if metadata.is_dir() {
                pending.push(path);
            }
        }
    }
    files
}
