//! Keeping the snapshot current: noticing changes of tree and database, and loading them.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use jiff::Timestamp;
use oci_mirror::tree::{Catalog, Tree, TreePath, reader};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info};

use super::{Settings, Snapshot};
use crate::config::Config;
use crate::db::{self, Database};
use crate::geo::{self, Geo};
use crate::observe::Redirects;
use crate::presence::Presence;
use crate::select::Network;

/// How often the tree and the database are looked at: one `stat` and one pragma.
const TICK: Duration = Duration::from_secs(1);

/// How long to wait before trying a tree again that could not be read and has not changed since.
const RETRY: Duration = Duration::from_secs(10);

/// Keeps a snapshot current.
#[derive(Debug)]
pub struct Watcher {
    tree: PathBuf,
    database: PathBuf,
    settings: Settings,
    snapshot: Arc<ArcSwapOption<Snapshot>>,
    changes: mpsc::Receiver<Change>,
    sender: mpsc::Sender<Change>,
    open: Source,
    /// What was seen when a snapshot was last attempted, and when that was.
    seen: Option<(Seen, Instant)>,
    /// Whether that attempt failed.
    failed: bool,
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

/// Tells one version of tree and database from the next.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    state: Option<FileMark>,
    /// Device and inode, and the version if it can be read.
    database: Option<((u64, u64), Option<i64>)>,
}

/// The database of mirrors as it is found.
#[derive(Debug)]
enum Source {
    /// There is no such file: there are no mirrors.
    Absent,
    /// There is one that cannot be opened.
    Broken,
    /// It is open.
    Open(Database),
}

/// Device, inode, length and time of a file: a file replaced by rename differs in one of them.
type FileMark = (u64, u64, u64, i64, i64);

impl Watcher {
    /// Opens what the configuration names; only what can never come right later is an error.
    pub fn open(config: &Config, snapshot: Arc<ArcSwapOption<Snapshot>>) -> Result<Self, Error> {
        Tree::open(&config.tree).map_err(Error::Tree)?;
        let (sender, changes) = mpsc::channel(1);
        Ok(Self {
            tree: config.tree.clone(),
            database: config.database.clone(),
            settings: Settings::open(config).map_err(Error::Geo)?,
            changes,
            sender,
            snapshot,
            open: Source::Absent,
            seen: None,
            failed: false,
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
    fn apply(&mut self, settings: Settings) {
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
        let (seen, open) = {
            let open = std::mem::replace(&mut self.open, Source::Absent);
            let (tree, path) = (self.tree.clone(), self.database.clone());
            let look = move || look(&tree, &path, open);
            let Ok(found) = tokio::task::spawn_blocking(look).await else {
                return;
            };
            found
        };
        self.open = open;
        let due = match &self.seen {
            None => true,
            Some((last, _)) if *last != seen => true,
            Some((_, when)) => self.failed && when.elapsed() >= RETRY,
        };
        if !due {
            return;
        }
        let changed = self.seen.as_ref().is_none_or(|(last, _)| *last != seen);
        if matches!(self.open, Source::Broken) {
            error!(path = %self.database.display(), "cannot open the database of mirrors; those known stay");
        }
        self.seen = Some((seen, Instant::now()));
        let began = Instant::now();
        match self.load().await {
            Ok(snapshot) => {
                info!(
                    tree.serial = snapshot.catalog.state().serial,
                    tree.blobs = snapshot.catalog.blobs().len(),
                    network.hosts = snapshot.network.hosts().len(),
                    duration_ms = began.elapsed().as_millis(),
                    "loaded a snapshot"
                );
                self.failed = false;
                self.snapshot.store(Some(Arc::new(snapshot)));
            }
            Err(error) => {
                // Said once for each version of the files, not at every retry.
                if changed {
                    let kept = self.snapshot.load().is_some();
                    error!(
                        error = &error as &dyn std::error::Error,
                        kept, "cannot load a snapshot; the last good one stays if there is one"
                    );
                }
                self.failed = true;
            }
        }
    }

    async fn load(&mut self) -> Result<Snapshot, Error> {
        let (root, settings) = (self.tree.clone(), self.settings.clone());
        let previous = self.snapshot.load_full();
        let open = std::mem::replace(&mut self.open, Source::Absent);
        let load = move || {
            let loaded = build(&root, &open, settings, previous.as_deref());
            (loaded, open)
        };
        let (loaded, open) = tokio::task::spawn_blocking(load)
            .await
            .map_err(|_| Error::Stopped)?;
        self.open = open;
        loaded
    }
}

fn build(
    root: &Path,
    database: &Source,
    settings: Settings,
    previous: Option<&Snapshot>,
) -> Result<Snapshot, Error> {
    // Opened anew each time: the directory may have been replaced as a whole.
    let tree = Tree::open(root).map_err(Error::Tree)?;
    let state = tree.state().map_err(Error::Tree)?;
    let catalog = match previous.map(|snapshot| &snapshot.catalog) {
        Some(known) if *known.state() == state => Arc::clone(known),
        Some(known) => Arc::new(Catalog::load(&tree, Some(known)).map_err(Error::Tree)?),
        None => Arc::new(first_catalog(&tree).map_err(Error::Tree)?),
    };
    let mirrors = match database {
        Source::Absent => Ok(None),
        Source::Broken => Err(None),
        Source::Open(database) => read_mirrors(database, &catalog).map(Some).map_err(Some),
    };
    let (network, presence) = match mirrors {
        Ok(Some(mirrors)) => mirrors,
        Ok(None) => no_mirrors(&catalog),
        Err(error) => {
            if let Some(error) = error {
                error!(
                    error = &error as &dyn std::error::Error,
                    "cannot read the mirrors"
                );
            }
            // Mirrors do not come and go with the state of a file: those known before are kept, as
            // long as the numbers of the blobs still mean the same.
            let kept = previous.filter(|previous| Arc::ptr_eq(&previous.catalog, &catalog));
            kept.map_or_else(
                || no_mirrors(&catalog),
                |kept| (Arc::clone(&kept.network), Arc::clone(&kept.presence)),
            )
        }
    };
    let pieces = previous
        .filter(|previous| Arc::ptr_eq(&previous.catalog, &catalog))
        .map(|previous| Arc::clone(&previous.pieces));
    let counted = previous.map(|previous| (&*previous.network, &previous.redirects));
    let redirects = Redirects::following(&network, counted);
    Ok(Snapshot {
        redirects,
        loaded: Timestamp::now(),
        tree,
        pieces: pieces.unwrap_or_default(),
        catalog,
        network,
        presence,
        geo: settings.geo,
        policy: settings.policy,
        trusted: settings.trusted,
        access: settings.access,
    })
}

type Mirrors = (Arc<Network>, Arc<Presence>);

fn no_mirrors(catalog: &Catalog) -> Mirrors {
    (
        Arc::new(Network::new(Vec::new())),
        Arc::new(Presence::empty(catalog.blobs().len())),
    )
}

fn read_mirrors(database: &Database, catalog: &Catalog) -> Result<Mirrors, db::Error> {
    let hosts = database.hosts()?;
    let presence = database.presence(catalog, &hosts)?;
    Ok((Arc::new(Network::new(hosts)), Arc::new(presence)))
}

/// The catalog to start with: without an earlier one to keep, what is damaged is left out.
fn first_catalog(tree: &Tree) -> Result<Catalog, reader::Error> {
    let (catalog, damage) = Catalog::salvage(tree)?;
    for (name, error) in damage {
        error!(error = &error as &dyn std::error::Error, repository = %name, "leaving out what is damaged");
    }
    Ok(catalog)
}

/// The marks of the files, and the database opened if its file is there and is still the same.
fn look(tree: &Path, path: &Path, open: Source) -> (Seen, Source) {
    let state = mark(&TreePath::State.under(tree));
    let Some(file) = mark(path).map(|(device, inode, ..)| (device, inode)) else {
        return (
            Seen {
                state,
                database: None,
            },
            Source::Absent,
        );
    };
    let open = match open {
        Source::Open(open) if open.is_file(file) => Ok(open),
        _ => Database::open_reader(path),
    };
    let opened = open.and_then(|open| Ok((open.data_version()?, open)));
    match opened {
        Ok((version, open)) => (
            Seen {
                state,
                database: Some((file, Some(version))),
            },
            Source::Open(open),
        ),
        Err(error) => {
            debug!(
                error = &error as &dyn std::error::Error,
                "cannot open the database of mirrors"
            );
            (
                Seen {
                    state,
                    database: Some((file, None)),
                },
                Source::Broken,
            )
        }
    }
}

fn mark(path: &Path) -> Option<FileMark> {
    let found = std::fs::metadata(path).ok()?;
    Some((
        found.dev(),
        found.ino(),
        found.len(),
        found.mtime(),
        found.mtime_nsec(),
    ))
}

/// Why there is no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The tree.
    #[error("cannot use the tree")]
    Tree(#[source] reader::Error),
    /// A geographic database.
    #[error("cannot use the geographic databases")]
    Geo(#[source] geo::Error),
    /// The process is ending.
    #[error("loading was cut off")]
    Stopped,
}
