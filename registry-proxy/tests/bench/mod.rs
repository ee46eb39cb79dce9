//! A tree, a database and mirrors, and what a front end would make of them.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use jiff::{SignedDuration, Timestamp};
use oci_mirror::descriptor::Descriptor;
use oci_mirror::digest::{Algorithm, Digest};
use oci_mirror::media_type::MediaType;
use oci_mirror::tree::writer::Image;
use oci_mirror::tree::{Catalog, Tree, TreePath, TreeWriter};
use registry_proxy::config::Config;
use registry_proxy::crawler::check::Limits;
use registry_proxy::crawler::guard::Policy;
use registry_proxy::crawler::once::HostReport;
use registry_proxy::crawler::{Depth, Options, Report, Schedule, crawl, wire};
use registry_proxy::db::{Crawl, Database, Outcome, Scope, Verdict};
use registry_proxy::network::{Host, HostName, NewHost};
use registry_proxy::snapshot::{Snapshot, Watcher};
use registry_proxy::v2::Asker;
use tempfile::TempDir;

use crate::hostile_mirror::HostileMirror;

/// How many blobs the tree of a new bench has: two images of a manifest, a config and two layers each.
pub(crate) const BLOBS: u64 = 8;

/// Nothing is silent: whoever is late has been given no time by this machine.
pub(crate) const PATIENT: Limits = Limits {
    connect: Duration::from_secs(60),
    silence: Duration::from_secs(60),
    grace: Duration::from_secs(60),
};

/// Something is silent, and that is to be found.
pub(crate) const IMPATIENT: Limits = Limits {
    connect: Duration::from_secs(2),
    silence: Duration::from_millis(1500),
    grace: Duration::from_secs(3),
};

/// So short a re-check that it is every blob's turn in each crawl.
pub(crate) const ALWAYS: Duration = Duration::from_millis(1);

/// A tree, a database, and what a front end would make of them.
pub(crate) struct Bench {
    pub(crate) directory: TempDir,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let bench = Self {
            directory: tempfile::tempdir().unwrap(),
        };
        bench.publish("debian/base", &[&noise(300_000), b"debian"]);
        bench.publish("alpine", &[&noise(70_000), b"alpine"]);
        drop(Database::open(&bench.database_path()).unwrap());
        bench
    }

    pub(crate) fn tree(&self) -> PathBuf {
        self.directory.path().join("tree")
    }

    pub(crate) fn database_path(&self) -> PathBuf {
        self.directory.path().join("mirrors.db")
    }

    pub(crate) fn database(&self) -> Database {
        Database::open_existing(&self.database_path()).unwrap()
    }

    /// Puts one more image into the tree.
    pub(crate) fn publish(&self, repository: &str, layers: &[&[u8]]) {
        let writer = TreeWriter::open(&self.tree()).unwrap();
        let mut reach = Vec::new();
        let mut stage = |bytes: &[u8]| {
            let digest = Algorithm::Sha256.digest(bytes);
            writer.stage_bytes(digest, bytes).unwrap();
            reach.push(digest);
            digest
        };
        let descriptor = |kind: &str, digest: Digest, size: usize| {
            format!(
                r#"{{"mediaType":"application/vnd.oci.image.{kind}","digest":"{digest}","size":{size}}}"#
            )
        };
        let config = format!(r#"{{"of":"{repository}"}}"#);
        let config = descriptor("config.v1+json", stage(config.as_bytes()), config.len());
        let layers: Vec<_> = layers
            .iter()
            .map(|layer| descriptor("layer.v1.tar", stage(layer), layer.len()))
            .collect();
        let manifest = format!(
            r#"{{"schemaVersion":2,"config":{config},"layers":[{}]}}"#,
            layers.join(",")
        );
        let digest = stage(manifest.as_bytes());
        let image = Image {
            repo: repository.parse().unwrap(),
            tag: Some("1".parse().unwrap()),
            root: Descriptor::new(MediaType::OCI_MANIFEST, digest, manifest.len() as u64),
            reach,
            tag_referrers: None,
        };
        writer.publish(&[image]).unwrap();
        writer.finish(Timestamp::UNIX_EPOCH).unwrap();
    }

    pub(crate) fn catalog(&self) -> Arc<Catalog> {
        Arc::new(Catalog::load(&Tree::open(&self.tree()).unwrap(), None).unwrap())
    }

    pub(crate) fn blobs(&self) -> BTreeSet<Digest> {
        let catalog = self.catalog();
        catalog.blobs().iter().map(|blob| blob.digest).collect()
    }

    pub(crate) fn all_but(&self, digest: &Digest) -> BTreeSet<Digest> {
        let mut blobs = self.blobs();
        assert!(blobs.remove(digest));
        blobs
    }

    pub(crate) fn blobs_of(&self, repository: &str) -> BTreeSet<Digest> {
        let catalog = self.catalog();
        let repository = catalog.repository(&repository.parse().unwrap()).unwrap();
        let members = repository.members();
        members.map(|id| catalog.blob(id).digest).collect()
    }

    /// The blob that is asked for as the `position`th.
    pub(crate) fn nth(&self, position: u64) -> Digest {
        self.catalog().blobs()[usize::try_from(position).unwrap()].digest
    }

    pub(crate) fn size(&self, digest: &Digest) -> u64 {
        let catalog = self.catalog();
        catalog.blob(catalog.id(digest).unwrap()).size
    }

    /// The length of the state of the tree.
    pub(crate) fn state(&self) -> u64 {
        let state = std::fs::metadata(self.tree().join("state.json"));
        state.unwrap().len()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.catalog().blobs().iter().map(|blob| blob.size).sum()
    }

    pub(crate) fn enter(&self, host: &NewHost) {
        self.database().add_host(host).unwrap();
    }

    /// A mirror of the tree, entered under `name`.
    pub(crate) async fn mirror(&self, name: &str) -> HostileMirror {
        let mirror = HostileMirror::start(&self.tree()).await;
        self.enter(&new_host(name, &mirror.url()));
        mirror
    }

    pub(crate) async fn crawl(&self, depth: Depth) -> Report {
        self.crawl_with(&[], &options(depth)).await
    }

    pub(crate) async fn crawl_with(&self, names: &[HostName], options: &Options) -> Report {
        let tree = Tree::open(&self.tree()).unwrap();
        crawl(&self.database_path(), &tree, self.catalog(), names, options)
            .await
            .unwrap()
    }

    /// Writes down that everything was read from a host so many days ago.
    pub(crate) fn record_read(&self, host: &str, days: i64) {
        let catalog = self.catalog();
        let mut database = self.database();
        let id = database.host(&name(host)).unwrap().host.id;
        let verdicts = (0..).map(oci_mirror::tree::catalog::BlobId);
        let outcome = Outcome::Finished {
            scope: Scope::Whole,
            verdicts: verdicts
                .take(catalog.blobs().len())
                .map(|id| (id, Verdict::Read))
                .collect(),
            evidence: Vec::new(),
        };
        let at = Timestamp::now() - SignedDuration::from_hours(24 * days);
        let crawl = Crawl::new(at, outcome);
        database.record_crawl(id, &crawl, &catalog).unwrap();
    }

    pub(crate) fn standing(&self, host: &str) -> Result<(), String> {
        let host: Host = self.database().host(&name(host)).unwrap().host;
        host.standing().map_err(|reason| reason.to_string())
    }

    pub(crate) fn config(&self) -> Config {
        let mut config = Config {
            tree: self.tree(),
            database: self.database_path(),
            ..Config::default()
        };
        config.crawler.allow_private_addresses = true;
        config.crawler.recheck = ALWAYS;
        config
    }

    pub(crate) async fn schedule(&self, interval: Duration) -> Schedule {
        self.schedule_of(interval, self.snapshot().await)
    }

    /// One of what a front end shares with it.
    pub(crate) fn schedule_of(
        &self,
        interval: Duration,
        snapshot: Arc<ArcSwapOption<Snapshot>>,
    ) -> Schedule {
        let mut config = self.config();
        config.crawler.interval = interval;
        Schedule::new(&config, snapshot)
    }

    pub(crate) async fn snapshot(&self) -> Arc<ArcSwapOption<Snapshot>> {
        let snapshot = Arc::new(ArcSwapOption::empty());
        let mut watcher = Watcher::open(&self.config(), Arc::clone(&snapshot)).unwrap();
        watcher.once().await;
        snapshot
    }

    /// The blobs for which a front end would send clients to a host.
    pub(crate) async fn offered(&self, host: &str) -> BTreeSet<Digest> {
        let host = self.database().host(&name(host)).unwrap().host;
        let base = format!("{}/", host.download_url().unwrap());
        let snapshot = self.snapshot().await.load_full().unwrap();
        let mut offered = BTreeSet::new();
        for (name, repository) in snapshot.catalog.repositories() {
            for id in repository.members() {
                let digest = snapshot.catalog.blob(id).digest;
                let mirrors = snapshot.mirrors(name, id, Asker::default());
                if mirrors.iter().any(|mirror| mirror.base == base) {
                    offered.insert(digest);
                }
            }
        }
        offered
    }
}

pub(crate) fn options(depth: Depth) -> Options {
    Options {
        policy: Policy::Any,
        depth,
        wire: waiting(PATIENT),
        recheck: ALWAYS,
        ..Options::default()
    }
}

/// Asks mirrors with these limits.
pub(crate) fn waiting(limits: Limits) -> wire::Settings {
    wire::Settings {
        limits,
        ..wire::Settings::default()
    }
}

pub(crate) fn name(name: &str) -> HostName {
    name.parse().unwrap()
}

pub(crate) fn new_host(host: &str, url: &str) -> NewHost {
    NewHost::new(name(host), vec![url.parse().unwrap()])
}

pub(crate) fn path(digest: &Digest) -> String {
    format!("/{}", TreePath::Blob(*digest))
}

#[track_caller]
pub(crate) fn only(report: &Report) -> &HostReport {
    let [host] = &report.hosts[..] else {
        panic!("{report:?}");
    };
    host
}

/// Bytes that do not compress or repeat.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = length as u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005) + 1;
        state.to_be_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}

/// The layer that takes more than one packet.
pub(crate) fn large_layer() -> Digest {
    Algorithm::Sha256.digest(&noise(300_000))
}
