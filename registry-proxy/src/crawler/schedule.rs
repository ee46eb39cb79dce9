//! Crawling again and again, beside a running front end.
//!
//! Each host has its own turn (`turn`), about an interval after its last crawl, and its own task: one
//! that takes half a day to be read does not keep the others from being looked at every hour. Where
//! clients came back for the same blob, the mirror they were sent to is looked at out of turn.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use jiff::Timestamp;
use oci_mirror::tree::Catalog;
use tokio::sync::{Semaphore, watch};
use tokio::task::{self, JoinSet};
use tokio::time::{MissedTickBehavior, timeout};
use tokio_util::sync::CancellationToken;
use tracing::error;

use super::doubt::Doubt;
use super::once::{self, Crawled, Crawler, Error, HostReport};
use super::turn;
use super::visit::{Depth, Occasion, Options, Surroundings};
use super::wire::{self, Wire};
use crate::config::Config;
use crate::db::{Database, Numbering, Turn};
use crate::network::{Health, HostId};
use crate::notify::Notifier;
use crate::snapshot::Snapshot;

/// How often to look whose turn it is.
const TICK: Duration = Duration::from_secs(30);

/// How long what was found until the end may take to be recorded.
const RECORDING: Duration = Duration::from_secs(10);

/// How long to wait at the end for notices to be delivered.
pub(crate) const DELIVERY: Duration = Duration::from_secs(5);

/// How many of the blobs that clients ask for most are favoured.
const POPULAR: usize = 1000;

/// The crawler's part of a front end.
#[derive(Debug)]
pub struct Schedule {
    database: PathBuf,
    interval: Duration,
    options: Options,
    snapshot: Arc<ArcSwapOption<Snapshot>>,
    /// Whether nothing is begun.
    is_paused: bool,
    changes: watch::Receiver<Option<Settings>>,
    sender: watch::Sender<Option<Settings>>,
    /// Whoever was given, or else who is told when it runs.
    notifier: Option<Notifier>,
    /// Made at the first turn.
    wire: Option<Wire>,
    numbering: Option<Arc<Numbering>>,
    slots: Arc<Semaphore>,
    tasks: JoinSet<Result<Option<HostReport>, Error>>,
    underway: HashMap<task::Id, HostId>,
    /// When each host was last begun with. The database knows too, unless it cannot be written to, and
    /// then mirrors must not be asked for everything at every tick.
    begun: HashMap<HostId, Instant>,
}

/// How to go on with crawls that have not begun yet.
#[derive(Debug, Clone)]
pub struct Settings {
    is_enabled: bool,
    interval: Duration,
    options: Options,
    wire: Wire,
}

impl Settings {
    /// As the configuration says; reads the files of the authorities.
    pub fn read(config: &Config) -> Result<Self, wire::Error> {
        let options = Options::from_config(config);
        Ok(Self {
            is_enabled: config.crawler.enabled,
            interval: config.crawler.interval,
            wire: Wire::new(&options.wire)?,
            options,
        })
    }
}

/// Gives a running [`Schedule`] other settings.
#[derive(Debug, Clone)]
pub struct Reconfigure(watch::Sender<Option<Settings>>);

impl Reconfigure {
    /// Puts settings into force, for the crawls that begin afterwards.
    pub fn put(&self, settings: Settings) {
        self.0.send_replace(Some(settings));
    }
}

impl Schedule {
    /// Crawls as the configuration says, what the current snapshot's catalog holds.
    pub fn new(config: &Config, snapshot: Arc<ArcSwapOption<Snapshot>>) -> Self {
        let options = Options::from_config(config);
        let (sender, changes) = watch::channel(None);
        Self {
            database: config.database.clone(),
            interval: config.crawler.interval,
            slots: slots(&options),
            options,
            snapshot,
            is_paused: false,
            changes,
            sender,
            notifier: None,
            wire: None,
            numbering: None,
            tasks: JoinSet::new(),
            underway: HashMap::new(),
            begun: HashMap::new(),
        }
    }

    /// Begins with nothing until settings are put into force that say so.
    #[must_use]
    pub fn paused(self) -> Self {
        Self {
            is_paused: true,
            ..self
        }
    }

    /// Tells what becomes of mirrors there, and not to somebody of its own.
    #[must_use]
    pub fn telling(self, notifier: Notifier) -> Self {
        Self {
            notifier: Some(notifier),
            ..self
        }
    }

    /// What gives this schedule other settings while it runs.
    pub fn reconfigure(&self) -> Reconfigure {
        Reconfigure(self.sender.clone())
    }

    /// Crawls until `shutdown`.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let delivery = if self.notifier.is_none() {
            let (notifier, delivery) = Notifier::start(&self.options.notify);
            self.notifier = Some(notifier);
            Some(delivery)
        } else {
            None
        };
        self.options.stop = shutdown.clone();
        self.keep_crawling(shutdown).await;
        // What is under way ends there; what it has found is recorded, and that is told.
        if timeout(RECORDING, self.all_finished()).await.is_err() {
            self.tasks.shutdown().await;
        }
        if let Some(delivery) = delivery {
            delivery.finish(DELIVERY).await;
        }
    }

    async fn all_finished(&mut self) {
        while let Some(result) = self.finished().await {
            if let Err(error) = result {
                error!(error = &error as &dyn std::error::Error, "cannot crawl");
            }
        }
    }

    async fn keep_crawling(&mut self, shutdown: CancellationToken) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut changes = self.changes.clone();
        loop {
            let result = tokio::select! {
                () = shutdown.cancelled() => return,
                Ok(()) = changes.changed() => {
                    let settings = changes.borrow_and_update().clone();
                    self.apply(settings);
                    // Whose turn it is by now may be another.
                    tick.reset_immediately();
                    continue;
                }
                Some(result) = self.finished() => result.map(drop),
                _ = tick.tick(), if !self.is_paused => self.once().await.map(drop),
            };
            if let Err(error) = result {
                error!(error = &error as &dyn std::error::Error, "cannot crawl");
            }
        }
    }

    /// Takes over other settings; what is under way goes on with those it began with.
    fn apply(&mut self, settings: Option<Settings>) {
        let Some(settings) = settings else {
            return;
        };
        self.is_paused = !settings.is_enabled;
        self.interval = settings.interval;
        if settings.options.concurrency != self.options.concurrency {
            self.slots = slots(&settings.options);
        }
        self.options = Options {
            stop: self.options.stop.clone(),
            ..settings.options
        };
        self.wire = Some(settings.wire);
    }

    /// Begins with the hosts whose turn it is, and says how many that were.
    pub async fn once(&mut self) -> Result<usize, Error> {
        let Some(snapshot) = self.snapshot.load_full() else {
            return Ok(0);
        };
        let wire = self.wire()?;
        let turns = self.turns().await?;
        let now = Timestamp::now();
        let doubt = Doubt::new(
            turns
                .iter()
                .filter(|turn| !turn.checks_in())
                .map(|turn| &turn.host),
            wire.clone(),
            self.options.policy,
        );
        let numbering = self.numbering(&snapshot.catalog);
        let [incremental, check] = [Depth::Incremental, Depth::Check].map(|depth| {
            Arc::new(Crawler {
                database: self.database.clone(),
                numbering: Arc::clone(&numbering),
                surroundings: Surroundings {
                    tree: snapshot.tree.clone(),
                    catalog: Arc::clone(&snapshot.catalog),
                    wire: wire.clone(),
                    options: Options {
                        depth,
                        ..self.options.clone()
                    },
                },
                doubt: doubt.clone(),
                notifier: self.notifier.clone().unwrap_or_default(),
            })
        });
        let remembered = &snapshot.remembered;
        let suspected = remembered.suspects.hosts();
        let mut due: Vec<(&Arc<Crawler>, Turn)> = Vec::new();
        for turn in turns {
            let host = &turn.host;
            if !host.is_wanted() || self.underway.values().any(|id| *id == host.id) {
                continue;
            }
            let pause = turn::pause(self.interval);
            let pause = match turn.hinted_at {
                Some(_) => pause.min(turn::CHECK),
                None => pause,
            };
            if turn::is_due(&turn, self.interval, now) && self.may_begin(host.id, pause) {
                due.push((&incremental, turn));
            } else if host.health == Health::Healthy
                && suspected.contains(&host.id)
                && turn::may_be_checked(&turn, now)
                && self.may_begin(host.id, turn::CHECK)
            {
                // Of others it would be believed that they are well, by what little is looked at.
                due.push((&check, turn));
            }
        }
        // A mirror of which clients complain is looked at first.
        due.sort_by_key(|(_, turn)| !suspected.contains(&turn.host.id));
        let count = due.len();
        let popular = if due.is_empty() {
            Vec::new()
        } else {
            remembered.popular.most(POPULAR)
        };
        for (crawler, turn) in due {
            let (id, host) = (turn.host.id, turn.host);
            let (popular, remembered) = (popular.clone(), Arc::clone(remembered));
            let (crawler, slots) = (Arc::clone(crawler), Arc::clone(&self.slots));
            let snapshot = Arc::clone(&self.snapshot);
            let task = self.tasks.spawn(async move {
                let _slot = slots.acquire().await;
                if crawler.surroundings.options.stop.is_cancelled() {
                    return Ok(None);
                }
                // It may have waited for a slot, and more may have been said of it meanwhile.
                let catalog = &crawler.surroundings.catalog;
                let is_newest = |snapshot: Arc<Snapshot>| Arc::ptr_eq(&snapshot.catalog, catalog);
                let occasion = Occasion {
                    now: Timestamp::now(),
                    suspects: remembered.suspects.take(id),
                    popular,
                    is_by_name: false,
                    is_outdated: !snapshot.load_full().is_some_and(is_newest),
                };
                let came_to = crawler.crawl(&host, &occasion).await;
                if !matches!(&came_to, Ok(Crawled::Reported(report)) if report.failure.is_none()) {
                    // Nobody has looked.
                    for suspect in occasion.suspects {
                        remembered.suspects.note(id, suspect);
                    }
                }
                Ok(match came_to? {
                    Crawled::Reported(report) => Some(report),
                    Crawled::Taken | Crawled::Spared => None,
                })
            });
            self.underway.insert(task.id(), id);
            self.begun.insert(id, Instant::now());
        }
        Ok(count)
    }

    /// Whether a host was last begun with so long ago.
    fn may_begin(&self, host: HostId, pause: Duration) -> bool {
        let begun = self.begun.get(&host);
        begun.is_none_or(|begun| begun.elapsed() >= pause)
    }

    /// The numbers of the blobs of a catalog: those there are, if they are of this one.
    fn numbering(&mut self, catalog: &Arc<Catalog>) -> Arc<Numbering> {
        if let Some(numbering) = &self.numbering
            && numbering.is_of(catalog)
        {
            return Arc::clone(numbering);
        }
        let numbering = Arc::new(Numbering::new(Arc::clone(catalog)));
        self.numbering = Some(Arc::clone(&numbering));
        numbering
    }

    /// The way to mirrors.
    fn wire(&mut self) -> Result<Wire, Error> {
        if let Some(wire) = &self.wire {
            return Ok(wire.clone());
        }
        let wire = Wire::new(&self.options.wire).map_err(Error::Wire)?;
        self.wire = Some(wire.clone());
        Ok(wire)
    }

    /// Waits for the next crawl under way to end; `None` if none is.
    pub async fn finished(&mut self) -> Option<Result<HostReport, Error>> {
        loop {
            let (id, result) = match self.tasks.join_next_with_id().await? {
                Ok((id, result)) => (id, result),
                Err(stopped) => (stopped.id(), Err(Error::Stopped)),
            };
            self.underway.remove(&id);
            // Another process was faster, or the mirror itself.
            if let Some(result) = result.transpose() {
                return Some(result);
            }
        }
    }

    /// When each host was crawled.
    async fn turns(&self) -> Result<Vec<Turn>, Error> {
        let path = self.database.clone();
        once::blocking(move || {
            if !path.exists() {
                return Ok(Vec::new());
            }
            Database::open_existing(&path)?.turns()
        })
        .await
    }
}

/// Room for as many crawls at a time as there shall be.
fn slots(options: &Options) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(options.concurrency.max(1)))
}
