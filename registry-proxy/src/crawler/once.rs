//! All hosts once, several at a time; each is written down as soon as it is done.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use oci_mirror::tree::{Catalog, Tree};
use serde::Serialize;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tracing::{debug, info, warn};

use super::doubt::Doubt;
use super::odds;
use super::visit::{Depth, Occasion, Options, Surroundings, Visit, odds_of_a_day, visit};
use super::wire::{self, Wire};
use crate::db::{
    self, Crawl, Database, Evidence, Known, Numbering, Outcome, Probe, ProbeResult, Told,
};
use crate::network::{Host, HostId, HostName};
use crate::notify::{Notice, Notifier};

/// What a crawl of all hosts found.
#[derive(Debug, Serialize)]
pub struct Report {
    /// One entry per host, by name.
    pub hosts: Vec<HostReport>,
}

/// What was found at one host.
#[derive(Debug, Default, Serialize)]
pub struct HostReport {
    /// The host.
    pub name: String,
    /// Why the crawl failed, if it did; the counts are then all zero.
    pub failure: Option<String>,
    /// Blobs that are there and right, by this crawl or an earlier one.
    pub verified: u64,
    /// Blobs of which nothing was read yet, and that are not known to be missing.
    pub present: u64,
    /// Blobs that are not there.
    pub missing: u64,
    /// Blobs that are there and wrong.
    pub damaged: u64,
    /// Blobs of which it could not be told.
    pub unknown: u64,
    /// Blobs of which bytes were read to verify them, besides those read when they were new.
    pub sampled: u64,
    /// How likely these would have shown it if one blob in a hundred were damaged.
    pub odds: f64,
    /// How likely the first day of a mirror of all this would show it, with what may be read in a day.
    pub expected: f64,
    /// What was wrong.
    pub evidence: Vec<Evidence>,
    /// What else clients do, and it did not work.
    pub failed_probes: Vec<Probe>,
    /// The serial of the mirror's copy of the tree.
    pub serial: Option<u64>,
    /// How many serials that is behind the tree.
    pub behind: Option<u64>,
    /// Bytes read.
    pub bytes: u64,
    /// Requests made.
    pub requests: u64,
    /// How long it took.
    pub duration_ms: u64,
}

/// Crawls the named hosts, or all enabled ones, and records what was found. One that somebody else is
/// crawling is waited for.
///
/// `tree` is what the hosts are mirrors of, `catalog` what it holds.
pub async fn crawl(
    database: &Path,
    tree: &Tree,
    catalog: Arc<Catalog>,
    names: &[HostName],
    options: &Options,
) -> Result<Report, Error> {
    crawl_at(Timestamp::now(), database, tree, catalog, names, options).await
}

/// The same, at a time that is not now. If it is told to stop, of hosts it has not come to there is no report.
pub async fn crawl_at(
    now: Timestamp,
    database: &Path,
    tree: &Tree,
    catalog: Arc<Catalog>,
    names: &[HostName],
    options: &Options,
) -> Result<Report, Error> {
    let asked = Instant::now();
    let numbering = Arc::new(Numbering::new(Arc::clone(&catalog)));
    let surroundings = Surroundings {
        tree: tree.clone(),
        catalog,
        wire: Wire::new(&options.wire).map_err(Error::Wire)?,
        options: options.clone(),
    };
    let (hosts, all) = {
        let (path, names) = (database.to_owned(), names.to_vec());
        blocking(move || choose(&path, &names)).await?
    };
    let doubt = Doubt::new(all.iter(), surroundings.wire.clone(), options.policy);
    let (notifier, delivery) = Notifier::start(&options.notify);
    let crawler = Arc::new(Crawler {
        database: database.to_owned(),
        numbering,
        surroundings,
        doubt,
        notifier,
    });
    let slots = Arc::new(Semaphore::new(options.concurrency.max(1)));
    let is_by_name = !names.is_empty();
    let mut tasks = JoinSet::new();
    for host in hosts {
        let (crawler, slots) = (Arc::clone(&crawler), Arc::clone(&slots));
        tasks.spawn(async move {
            let _slot = slots.acquire().await;
            let stop = &crawler.surroundings.options.stop;
            while !stop.is_cancelled() {
                // It may have waited for a slot or for somebody else, and more may have been said of it meanwhile.
                let waited = SignedDuration::try_from(asked.elapsed());
                let occasion = Occasion {
                    now: now + waited.unwrap_or(SignedDuration::ZERO),
                    is_by_name,
                    is_outdated: crawler.is_outdated().await,
                    ..Occasion::default()
                };
                match crawler.crawl(&host, &occasion).await? {
                    Crawled::Reported(report) => return Ok(Some(report)),
                    Crawled::Spared => return Ok(None),
                    Crawled::Taken => {}
                }
                debug!(host.name = %host.name, "waiting for another crawl of {}", host.name);
                let waiting = tokio::time::sleep(TAKEN);
                stop.run_until_cancelled(waiting).await;
            }
            Ok(None)
        });
    }
    let ended = tasks.join_all().await;
    // What was recorded is told, even if something else could not be.
    delivery.finish(DELIVERY).await;
    let mut reports = Vec::new();
    for report in ended {
        reports.extend(report?);
    }
    reports.sort_by(|a: &HostReport, b| a.name.cmp(&b.name));
    Ok(Report { hosts: reports })
}

/// What crawls hosts and records what was found.
#[derive(Debug)]
pub(super) struct Crawler {
    pub(super) database: PathBuf,
    /// Of the catalog of the surroundings.
    pub(super) numbering: Arc<Numbering>,
    pub(super) surroundings: Surroundings,
    pub(super) doubt: Doubt,
    pub(super) notifier: Notifier,
}

/// What became of a host that was to be crawled.
#[derive(Debug)]
pub(super) enum Crawled {
    /// It was.
    Reported(HostReport),
    /// Somebody else is crawling it.
    Taken,
    /// It says itself what it holds by now, and nobody asked for it.
    Spared,
}

impl Crawler {
    /// Crawls one host.
    pub(super) async fn crawl(&self, host: &Host, occasion: &Occasion) -> Result<Crawled, Error> {
        let (began, id) = (Instant::now(), host.id);
        let catalog = &self.surroundings.catalog;
        let claimed = Timestamp::now() + CLAIM;
        let (numbering, is_by_name) = (Arc::clone(&self.numbering), occasion.is_by_name);
        let claim = self.with_database(move |database| {
            if !database.claim(id, Timestamp::now(), claimed)? {
                return Ok(Err(Crawled::Taken));
            }
            // What it says from now on is later than `occasion.now`.
            if !is_by_name && database.checks_in(id)? {
                database.release(id)?;
                return Ok(Err(Crawled::Spared));
            }
            database.known_by(id, &numbering).map(Ok)
        });
        let known = match claim.await? {
            Ok(known) => known,
            Err(untouched) => return Ok(untouched),
        };
        let visit = tokio::select! {
            visit = visit(host, &known, occasion, &self.surroundings) => visit,
            never = self.hold(id, claimed) => match never {},
        };
        let mut report = summary(host, &known, &visit, catalog);
        let daily = self.surroundings.options.daily_bytes;
        report.expected = odds_of_a_day(&visit.carried, catalog, daily);
        report.duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let elapsed = SignedDuration::try_from(began.elapsed()).unwrap_or(SignedDuration::ZERO);
        let crawl = Crawl {
            base: host.download_url().cloned(),
            began: occasion.now,
            cost: visit.cost,
            // A state that says more than was looked for is not one of which all is known.
            state: visit.state.filter(|_| !occasion.is_outdated),
            probes: visit.probes,
            sampled: visit.sampled,
            is_complete: visit.is_complete,
            has_looked_for_news: self.surroundings.options.depth != Depth::Check
                && !occasion.is_outdated,
            carried: Some(visit.carried),
            ..Crawl::new(occasion.now + elapsed, visit.outcome)
        };
        let (at, numbering) = (crawl.at, Arc::clone(&self.numbering));
        if let Some(failure) = &mut report.failure
            && let Some(excuse) = self.excuse(id).await
        {
            warn!(
                host.name = %host.name,
                failure,
                "{} does not answer, and {excuse}: this is not held against it", host.name
            );
            let _ = write!(failure, "; {excuse}, so it is not held against it");
            self.with_database(move |database| database.give_back(id, &crawl))
                .await?;
            return Ok(Crawled::Reported(report));
        }
        info!(
            host.name = %host.name,
            host.verified = report.verified,
            host.missing = report.missing,
            host.damaged = report.damaged,
            requests = report.requests,
            bytes = report.bytes,
            failure = report.failure,
            duration_ms = report.duration_ms,
            "crawled {}", host.name
        );
        let recorded = self
            .with_database(move |database| database.record_crawl_by(id, &crawl, &numbering))
            .await?;
        if let Some(recorded) = recorded {
            for notice in Notice::of(&recorded, &host.site, &report.evidence, at) {
                self.notifier.tell(notice);
            }
        }
        Ok(Crawled::Reported(report))
    }

    /// Whether the tree is known to be another one by now than that of the catalog.
    async fn is_outdated(&self) -> bool {
        let Surroundings { tree, catalog, .. } = &self.surroundings;
        let tree = tree.clone();
        let state = tokio::task::spawn_blocking(move || tree.state()).await;
        matches!(state, Ok(Ok(state)) if state != *catalog.state())
    }

    /// Why it is not the fault of a host that its crawl has failed, if it is not.
    async fn excuse(&self, host: HostId) -> Option<&'static str> {
        let stop = &self.surroundings.options.stop;
        match stop.run_until_cancelled(self.doubt.is_our_own(host)).await {
            None => Some("the crawl was cut off"),
            Some(true) => Some("others do not answer either"),
            Some(false) => None,
        }
    }

    /// Keeps a host for us for as long as this is waited for.
    async fn hold(&self, host: HostId, mut until: Timestamp) -> Infallible {
        loop {
            tokio::time::sleep(CLAIM.unsigned_abs() / 3).await;
            let longer = Timestamp::now() + CLAIM;
            let held = self
                .with_database(move |database| database.hold(host, until, longer))
                .await;
            match held {
                Ok(()) => until = longer,
                // The next attempt may come in time.
                Err(error) => {
                    warn!(
                        error = &error as &dyn std::error::Error,
                        "cannot keep a claim"
                    );
                }
            }
        }
    }

    async fn with_database<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Database) -> Result<T, db::Error> + Send + 'static,
    ) -> Result<T, Error> {
        let path = self.database.clone();
        blocking(move || work(&mut Database::open_existing(&path)?)).await
    }
}

/// The hosts to be crawled, and all that can be reached from here.
fn choose(database: &Path, names: &[HostName]) -> Result<(Vec<Host>, Vec<Host>), db::Error> {
    let database = Database::open_existing(database)?;
    let turns = database.turns()?;
    let find = |name: &HostName| {
        let turn = turns.iter().find(|turn| turn.host.name == *name);
        turn.map(|turn| turn.host.clone())
            .ok_or_else(|| db::Error::NameUnknown(name.to_string()))
    };
    let asked_for: Result<Vec<Host>, db::Error> = names.iter().map(find).collect();
    // One that says itself what it has is looked at only by name.
    let hosts = turns.into_iter().filter(|turn| !turn.checks_in());
    let reachable: Vec<Host> = hosts.map(|turn| turn.host).collect();
    let chosen = if names.is_empty() {
        let wanted = reachable.iter().filter(|host| host.is_wanted());
        wanted.cloned().collect()
    } else {
        asked_for?
    };
    Ok((chosen, reachable))
}

fn summary(host: &Host, known: &Known, visit: &Visit, catalog: &Catalog) -> HostReport {
    let serial = visit.state.and_then(|state| state.serial);
    let mut report = HostReport {
        name: host.name.to_string(),
        sampled: visit.sampled.blobs,
        odds: odds::detected(visit.sampled.undetected),
        serial,
        behind: serial.map(|serial| catalog.state().serial.saturating_sub(serial)),
        bytes: visit.cost.bytes,
        requests: visit.cost.requests,
        ..HostReport::default()
    };
    let failed = |probe: &&Probe| probe.result == ProbeResult::Failed;
    report.failed_probes = visit.probes.iter().filter(failed).cloned().collect();
    match &visit.outcome {
        Outcome::Failed(reason) => report.failure = Some(reason.clone()),
        Outcome::Finished {
            scope,
            verdicts,
            evidence,
        } => {
            let told: Told = verdicts.iter().map(|(id, told)| (id.0, *told)).collect();
            let held = known.held().after(*scope, &told);
            report.verified = held.verified.intersection_len(&visit.carried);
            report.missing = held.missing.intersection_len(&visit.carried);
            report.damaged = held.damaged.intersection_len(&visit.carried);
            let open = &visit.carried - held.verified - held.missing - held.damaged;
            // The first time, what was not reached may be there or not.
            let unknown = if known.finished_at.is_none() {
                &open - told.present
            } else {
                &open & told.unknown
            };
            report.unknown = unknown.len();
            report.present = open.len() - unknown.len();
            report.evidence.clone_from(evidence);
        }
    }
    report
}

/// How long to wait at the end for notices to be delivered.
const DELIVERY: Duration = Duration::from_secs(70);

/// For how long a host is claimed; a crawl that goes on claims it again.
const CLAIM: SignedDuration = SignedDuration::from_secs(5 * 60);

/// How long to wait before asking again for a host that somebody else has.
const TAKEN: Duration = Duration::from_millis(500);

/// The one way from here to the database.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, db::Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(Error::Database),
        Err(_) => Err(Error::Stopped),
    }
}

/// Why a crawl could not be made or recorded.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database.
    #[error(transparent)]
    Database(db::Error),
    /// The way to mirrors.
    #[error(transparent)]
    Wire(wire::Error),
    /// The process is ending.
    #[error("the crawl was cut off")]
    Stopped,
}
