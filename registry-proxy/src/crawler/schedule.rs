//! Crawling again and again, beside a running front end.
//!
//! Each host has its own turn, an interval after its last crawl, and its own task: one that takes half a
//! day to be read does not keep the others from being looked at every hour.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use jiff::Timestamp;
use tokio::sync::Semaphore;
use tokio::task::{self, JoinSet};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::error;

use super::once::{self, Error, HostReport};
use super::visit::{Depth, Options, Surroundings};
use super::wire::Wire;
use crate::config::Config;
use crate::db::{self, Database};
use crate::network::{Health, Host, HostId};
use crate::snapshot::Snapshot;

/// How often to look whose turn it is.
const TICK: Duration = Duration::from_secs(30);

/// The crawler's part of a front end.
#[derive(Debug)]
pub struct Schedule {
    database: PathBuf,
    interval: Duration,
    options: Options,
    snapshot: Arc<ArcSwapOption<Snapshot>>,
    /// Made at the first turn.
    wire: Option<Wire>,
    slots: Arc<Semaphore>,
    tasks: JoinSet<Result<HostReport, Error>>,
    underway: HashMap<task::Id, HostId>,
    /// When each host was last begun with. The database knows too, unless it cannot be written to, and
    /// then mirrors must not be asked for everything at every tick.
    begun: HashMap<HostId, Instant>,
}

impl Schedule {
    /// Crawls as the configuration says, what the current snapshot's catalog holds.
    pub fn new(config: &Config, snapshot: Arc<ArcSwapOption<Snapshot>>) -> Self {
        let options = Options::from_config(config);
        Self {
            database: config.database.clone(),
            interval: config.crawler.interval,
            slots: Arc::new(Semaphore::new(options.concurrency.max(1))),
            options,
            snapshot,
            wire: None,
            tasks: JoinSet::new(),
            underway: HashMap::new(),
            begun: HashMap::new(),
        }
    }

    /// Crawls until `shutdown`.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let result = tokio::select! {
                () = shutdown.cancelled() => return,
                Some(result) = self.finished() => result.map(drop),
                _ = tick.tick() => self.once().await.map(drop),
            };
            if let Err(error) = result {
                error!(error = &error as &dyn std::error::Error, "cannot crawl");
            }
        }
    }

    /// Begins with the hosts whose turn it is, and says how many that were.
    pub async fn once(&mut self) -> Result<usize, Error> {
        let Some(snapshot) = self.snapshot.load_full() else {
            return Ok(0);
        };
        let wire = self.wire()?;
        let mut due = self.due().await?;
        due.retain(|host| {
            let begun = self.begun.get(&host.id);
            begun.is_none_or(|begun| begun.elapsed() >= self.interval)
                && !self.underway.values().any(|id| *id == host.id)
        });
        let count = due.len();
        for host in due {
            let id = host.id;
            // Only reading everything can clear a host in quarantine.
            let depth = match host.health {
                Health::Quarantined { .. } => Depth::Full,
                _ => Depth::Incremental,
            };
            let surroundings = Surroundings {
                tree: snapshot.tree.clone(),
                catalog: Arc::clone(&snapshot.catalog),
                wire: wire.clone(),
                options: Options {
                    depth,
                    ..self.options.clone()
                },
            };
            let (database, slots) = (self.database.clone(), Arc::clone(&self.slots));
            let task = self.tasks.spawn(async move {
                let _slot = slots.acquire().await;
                once::crawl_host(&database, host, &surroundings).await
            });
            self.underway.insert(task.id(), id);
            self.begun.insert(id, Instant::now());
        }
        Ok(count)
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
        let (id, result) = match self.tasks.join_next_with_id().await? {
            Ok((id, result)) => (id, result),
            Err(stopped) => (stopped.id(), Err(Error::Stopped)),
        };
        self.underway.remove(&id);
        Some(result)
    }

    /// The hosts whose last crawl is an interval old.
    async fn due(&self) -> Result<Vec<Host>, Error> {
        let (path, interval) = (self.database.clone(), self.interval);
        once::blocking(move || {
            if !path.exists() {
                return Ok(Vec::new());
            }
            let now = Timestamp::now();
            let is_due = |listed: &db::Listed| {
                // A crawl in the future means that the clock went back.
                let age = listed
                    .crawled_at
                    .map(|at| Duration::try_from(now.duration_since(at)).unwrap_or(interval));
                listed.host.is_wanted() && age.is_none_or(|age| age >= interval)
            };
            let listed = Database::open_existing(&path)?.listed()?.into_iter();
            Ok(listed.filter(is_due).map(|listed| listed.host).collect())
        })
        .await
    }
}
