//! Keeping the snapshot current: noticing changes of tree and database, and loading them.
//!
//! Everything that reads, and the end of a snapshot that is no longer used, happens on threads that may
//! block: a request in flight waits for none of it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use oci_mirror::tree::Tree;
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info};

use super::load::{Before, Error, Loaded, load};
use super::mirrors::{Reading, Source, Version};
use super::seen::{Connection, Seen, look};
use super::{Settings, Snapshot};
use crate::config::Config;
use crate::geo::Geo;

/// How often the tree and the database are looked at: one `stat` and one pragma.
const TICK: Duration = Duration::from_secs(1);

/// How long to wait before trying a tree again that could not be read and has not changed since.
const RETRY: Duration = Duration::from_secs(10);

/// How often every repository is looked at, at most: a mirror being synced may get a new `state.json`
/// before an index.
const THOROUGH: Duration = Duration::from_secs(10);

/// The part of the time that may be spent on looking at every repository: a hundredth.
const LOOKING: u32 = 100;

/// The part of the time that may be spent on taking up changes of the database: a fifth. During
/// a round of crawls it changes every few seconds.
const READING: u32 = 4;

/// Keeps a snapshot current.
#[derive(Debug)]
pub struct Watcher {
    tree: PathBuf,
    database: PathBuf,
    settings: Settings,
    snapshot: Arc<ArcSwapOption<Snapshot>>,
    changes: mpsc::Receiver<Change>,
    sender: mpsc::Sender<Change>,
    open: Connection,
    /// What was seen when a snapshot was last attempted, and when that was.
    seen: Option<(Seen, Instant)>,
    /// Whether that attempt failed.
    failed: bool,
    /// The version of the database that the mirrors of the snapshot were read from.
    read: Option<Version>,
    /// What more is known of what they were read from.
    reading: Option<Reading>,
    /// Before when a change of the database alone is not taken up.
    rest: Instant,
    /// When every repository is looked at again.
    thorough: Instant,
    /// Snapshots that were replaced and may still be in use.
    replaced: Vec<Arc<Snapshot>>,
}

/// New settings, and who waits until they hold.
type Change = (Settings, oneshot::Sender<()>);

/// Gives a running [`Watcher`] other settings.
#[derive(Debug, Clone)]
pub struct Reconfigure(mpsc::Sender<Change>);

impl Reconfigure {
    /// Puts settings into force; afterwards every new request sees them, whole.
    pub async fn put(&self, settings: Settings) {
        let (done, held) = oneshot::channel();
        // Both fail only when the watcher has ended, and with it the serving of requests.
        if self.0.send((settings, done)).await.is_ok() {
            let _ = held.await;
        }
    }
}

impl Watcher {
    /// Opens what the configuration names; only what can never come right later is an error.
    pub fn open(config: &Config, snapshot: Arc<ArcSwapOption<Snapshot>>) -> Result<Self, Error> {
        Tree::open(&config.tree).map_err(Error::Tree)?;
        let (sender, changes) = mpsc::channel(1);
        let now = Instant::now();
        Ok(Self {
            tree: config.tree.clone(),
            database: config.database.clone(),
            settings: Settings::open(config).map_err(Error::Geo)?,
            changes,
            sender,
            snapshot,
            open: Connection {
                source: Source::Absent,
                number: 0,
            },
            seen: None,
            failed: false,
            read: None,
            reading: None,
            rest: now,
            thorough: now + THOROUGH,
            replaced: Vec::new(),
        })
    }

    /// The geographic databases it was given.
    pub fn geo(&self) -> Arc<Geo> {
        Arc::clone(&self.settings.geo)
    }

    /// What gives this watcher other settings while it runs.
    pub fn reconfigure(&self) -> Reconfigure {
        Reconfigure(self.sender.clone())
    }

    /// Looks for changes until `shutdown`.
    pub async fn run(mut self, shutdown: CancellationToken) {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                Some((settings, done)) = self.changes.recv() => {
                    self.apply(settings);
                    // Whoever asked may have ended meanwhile.
                    let _ = done.send(());
                    continue;
                }
                () = tokio::time::sleep(TICK) => {}
            }
            self.once().await;
        }
    }

    /// Takes over other settings, and swaps in the current snapshot with them.
    fn apply(&mut self, mut settings: Settings) {
        let relay = &settings.policy.relay;
        settings.policy.relay = Arc::new(relay.going_on_from(&self.settings.policy.relay));
        if let Some(current) = self.snapshot.load_full() {
            let Settings {
                geo,
                policy,
                trusted,
                access,
            } = settings.clone();
            self.snapshot.store(Some(Arc::new(Snapshot {
                tree: current.tree.clone(),
                catalog: Arc::clone(&current.catalog),
                network: Arc::clone(&current.network),
                presence: Arc::clone(&current.presence),
                pieces: Arc::clone(&current.pieces),
                redirects: current.redirects.clone(),
                remembered: Arc::clone(&current.remembered),
                loaded: current.loaded,
                geo,
                policy,
                trusted,
                access,
            })));
        }
        self.settings = settings;
    }

    /// Looks once, and swaps in a new snapshot if something changed.
    pub async fn once(&mut self) {
        self.release().await;
        let Some(seen) = self.look().await else {
            return;
        };
        let last = self.seen.as_ref();
        let is_new = last.is_none_or(|(last, _)| *last != seen);
        let due = match last {
            None => true,
            Some((last, _)) if last.state != seen.state => true,
            Some(_) if is_new => Instant::now() >= self.rest,
            Some((_, when)) => self.failed && when.elapsed() >= RETRY,
        };
        if !due && !self.is_outdated().await {
            return;
        }
        if is_new && matches!(self.open.source, Source::Broken) {
            error!(path = %self.database.display(), "cannot open the database of mirrors; those known stay");
        }
        let version = seen.version;
        self.seen = Some((seen, Instant::now()));
        let began = Instant::now();
        let result = self.load(version).await;
        let problem = match result {
            Ok(loaded) => {
                if loaded.read != self.read {
                    self.rest = Instant::now() + began.elapsed() * READING;
                }
                self.read = loaded.read;
                self.reading = loaded.reading;
                self.swap_in(loaded.snapshot, began);
                loaded.problem
            }
            Err(error) => Some(error),
        };
        self.failed = problem.is_some();
        // Said once for each version of the files, not at every retry.
        if let Some(error) = problem.filter(|_| is_new) {
            let kept = self.snapshot.load().is_some();
            error!(
                error = &error as &dyn std::error::Error,
                kept, "cannot load a snapshot; what was known of it stays if there is anything"
            );
        }
    }

    /// The marks of the files, with the database opened if it is there; `None` when the process ends.
    async fn look(&mut self) -> Option<Seen> {
        let (tree, path) = (self.tree.clone(), self.database.clone());
        let number = self.open.number;
        let open = std::mem::replace(&mut self.open.source, Source::Absent);
        let open = Connection {
            source: open,
            number,
        };
        let look = move || look(&tree, &path, open);
        let (seen, open) = spawn_blocking(look).await.ok()?;
        self.open = open;
        Some(seen)
    }

    /// Whether a repository is not what it was, if it is time to look.
    async fn is_outdated(&mut self) -> bool {
        if Instant::now() < self.thorough {
            return false;
        }
        let Some(snapshot) = self.snapshot.load_full() else {
            return false;
        };
        let (root, began) = (self.tree.clone(), Instant::now());
        let catalog = Arc::clone(&snapshot.catalog);
        let look = move || Tree::open(&root).and_then(|tree| catalog.is_current(&tree));
        let found = spawn_blocking(look).await;
        self.thorough = Instant::now() + THOROUGH.max(began.elapsed() * LOOKING);
        // What cannot be looked at is no news.
        matches!(found, Ok(Ok(false)))
    }

    async fn load(&mut self, found: Option<Version>) -> Result<Loaded, Error> {
        let (root, settings) = (self.tree.clone(), self.settings.clone());
        let before = Before {
            snapshot: self.snapshot.load_full(),
            version: self.read,
            reading: self.reading.take(),
        };
        let source = std::mem::replace(&mut self.open.source, Source::Absent);
        let load = move || (load(&root, settings, (&source, found), before), source);
        let (loaded, source) = spawn_blocking(load).await.map_err(|_| Error::Stopped)?;
        self.open.source = source;
        loaded
    }

    fn swap_in(&mut self, snapshot: Snapshot, began: Instant) {
        let snapshot = Arc::new(snapshot);
        let replaced = self.snapshot.swap(Some(Arc::clone(&snapshot)));
        let is_news = replaced.as_ref().is_none_or(|old| {
            *old.catalog.state() != *snapshot.catalog.state()
                || !snapshot.catalog.holds_the_same_as(&old.catalog)
                || !Arc::ptr_eq(&old.network, &snapshot.network)
        });
        self.replaced.extend(replaced);
        if !is_news {
            debug!("looked at the tree again; nothing has changed");
            return;
        }
        info!(
            tree.serial = snapshot.catalog.state().serial,
            tree.blobs = snapshot.catalog.blobs().in_use(),
            tree.manifest_bytes = snapshot.catalog.manifest_bytes(),
            network.hosts = snapshot.network.hosts().len(),
            duration_ms = began.elapsed().as_millis(),
            "loaded a snapshot"
        );
    }

    /// Frees the snapshots that no request uses any more, where that may take its time.
    async fn release(&mut self) {
        let is_unused = |snapshot: &mut Arc<Snapshot>| Arc::strong_count(snapshot) == 1;
        let unused: Vec<_> = self.replaced.extract_if(.., is_unused).collect();
        if !unused.is_empty() {
            // It fails only when the process ends.
            drop(spawn_blocking(move || drop(unused)).await);
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use oci_mirror::descriptor::Descriptor;
    use oci_mirror::digest::Algorithm;
    use oci_mirror::media_type::MediaType;
    use oci_mirror::tree::writer::{Image, TreeWriter};

    use super::*;
    use crate::db::Database;
    use crate::network::NewHost;

    fn publish(writer: &TreeWriter, name: &str) {
        let index =
            format!(r#"{{"schemaVersion":2,"manifests":[],"annotations":{{"name":"{name}"}}}}"#);
        let digest = Algorithm::Sha256.digest(index.as_bytes());
        writer.stage_bytes(digest, index.as_bytes()).unwrap();
        let image = Image {
            repo: name.parse().unwrap(),
            tag: Some("1".parse().unwrap()),
            root: Descriptor::new(MediaType::OCI_INDEX, digest, index.len() as u64),
            reach: vec![digest],
            tag_referrers: None,
        };
        writer.publish(&[image]).unwrap();
        writer.finish(Timestamp::UNIX_EPOCH).unwrap();
    }

    #[tokio::test]
    async fn a_crawl_costs_no_piece_hashes_but_another_tree_does() {
        let directory = tempfile::tempdir().unwrap();
        let (tree, path) = (directory.path().join("tree"), directory.path().join("db"));
        let writer = TreeWriter::open(&tree).unwrap();
        publish(&writer, "a");
        let mut database = Database::open(&path).unwrap();
        let config = Config {
            tree,
            database: path,
            ..Config::default()
        };
        let snapshot = Arc::new(ArcSwapOption::empty());
        let mut watcher = Watcher::open(&config, Arc::clone(&snapshot)).unwrap();
        watcher.once().await;
        let known = || Arc::clone(&snapshot.load().as_ref().unwrap().pieces);
        let first = known();
        let urls = vec!["https://m.example".parse().unwrap()];
        database
            .add_host(&NewHost::new("m".parse().unwrap(), urls))
            .unwrap();
        watcher.rest = Instant::now();
        watcher.once().await;
        assert_eq!(snapshot.load().as_ref().unwrap().network.hosts().len(), 1);
        assert!(Arc::ptr_eq(&first, &known()));
        publish(&writer, "b");
        watcher.once().await;
        let catalog = Arc::clone(&snapshot.load().as_ref().unwrap().catalog);
        assert_eq!(catalog.repositories().count(), 2);
        assert!(!Arc::ptr_eq(&first, &known()));
    }
}
