//! All hosts once, several at a time; each is written down as soon as it is done.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use oci_mirror::tree::{Catalog, Tree};
use serde::Serialize;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tracing::info;

use super::visit::{Options, Surroundings, visit};
use super::wire::{self, Wire};
use crate::db::{self, Crawl, Database, Evidence, Outcome, Verdict};
use crate::network::{Host, HostName};

/// What a crawl of all hosts found.
#[derive(Debug, Serialize)]
pub struct Report {
    /// One entry per host, by name.
    pub hosts: Vec<HostReport>,
}

/// What was found at one host.
#[derive(Debug, Serialize)]
pub struct HostReport {
    /// The host.
    pub name: String,
    /// Why the crawl failed, if it did; the counts are then all zero.
    pub failure: Option<String>,
    /// Blobs that are there and right.
    pub verified: u64,
    /// Blobs that are there, and of which nothing was ever read.
    pub present: u64,
    /// Blobs that are not there.
    pub missing: u64,
    /// Blobs that are there and wrong.
    pub damaged: u64,
    /// Blobs of which it could not be told.
    pub unknown: u64,
    /// What was wrong.
    pub evidence: Vec<Evidence>,
    /// Bytes read.
    pub bytes: u64,
    /// Requests made.
    pub requests: u64,
    /// How long it took.
    pub duration_ms: u64,
}

/// Crawls the named hosts, or all enabled ones, and records what was found.
///
/// `tree` is what the hosts are mirrors of, `catalog` what it holds.
pub async fn crawl(
    database: &Path,
    tree: &Tree,
    catalog: Arc<Catalog>,
    names: &[HostName],
    options: &Options,
) -> Result<Report, Error> {
    let surroundings = Surroundings {
        tree: tree.clone(),
        catalog,
        wire: Wire::new(&options.wire).map_err(Error::Wire)?,
        options: options.clone(),
    };
    let hosts = {
        let (path, names) = (database.to_owned(), names.to_vec());
        blocking(move || choose(&path, &names)).await?
    };
    let slots = Arc::new(Semaphore::new(options.concurrency.max(1)));
    let mut tasks = JoinSet::new();
    for host in hosts {
        let (surroundings, slots) = (surroundings.clone(), Arc::clone(&slots));
        let database = database.to_owned();
        tasks.spawn(async move {
            let _slot = slots.acquire().await;
            crawl_host(&database, host, &surroundings).await
        });
    }
    let mut reports = Vec::new();
    for report in tasks.join_all().await {
        reports.push(report?);
    }
    reports.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Report { hosts: reports })
}

/// Crawls one host and records what was found.
pub(super) async fn crawl_host(
    database: &Path,
    host: Host,
    surroundings: &Surroundings,
) -> Result<HostReport, Error> {
    let (began, began_at) = (Instant::now(), Timestamp::now());
    let catalog = Arc::clone(&surroundings.catalog);
    let known = {
        let (path, catalog, id) = (database.to_owned(), Arc::clone(&catalog), host.id);
        blocking(move || Database::open_existing(&path)?.known(id, &catalog)).await?
    };
    let today = began_at.to_zoned(TimeZone::UTC).date();
    let visit = visit(&host, &known, today, surroundings).await;
    let crawl = Crawl {
        began: began_at,
        cost: visit.cost,
        ..Crawl::new(Timestamp::now(), visit.outcome)
    };
    let mut report = summary(&host, &crawl.outcome);
    report.bytes = crawl.cost.bytes;
    report.requests = crawl.cost.requests;
    report.duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    info!(
        host.name = %host.name,
        host.verified = report.verified,
        host.missing = report.missing,
        host.damaged = report.damaged,
        failure = report.failure,
        duration_ms = report.duration_ms,
        "crawled {}", host.name
    );
    let path = database.to_owned();
    blocking(move || Database::open_existing(&path)?.record_crawl(host.id, &crawl, &catalog))
        .await?;
    Ok(report)
}

fn choose(database: &Path, names: &[HostName]) -> Result<Vec<Host>, db::Error> {
    let database = Database::open_existing(database)?;
    if names.is_empty() {
        return Ok(database
            .hosts()?
            .into_iter()
            .filter(Host::is_wanted)
            .collect());
    }
    names
        .iter()
        .map(|name| Ok(database.host(name)?.host))
        .collect()
}

fn summary(host: &Host, outcome: &Outcome) -> HostReport {
    let mut report = HostReport {
        name: host.name.to_string(),
        failure: None,
        verified: 0,
        present: 0,
        missing: 0,
        damaged: 0,
        unknown: 0,
        evidence: Vec::new(),
        bytes: 0,
        requests: 0,
        duration_ms: 0,
    };
    match outcome {
        Outcome::Failed(reason) => report.failure = Some(reason.clone()),
        Outcome::Finished {
            verdicts, evidence, ..
        } => {
            for (_, verdict) in verdicts {
                *match verdict {
                    Verdict::Read | Verdict::Sampled | Verdict::Confirmed => &mut report.verified,
                    Verdict::Present => &mut report.present,
                    Verdict::Missing => &mut report.missing,
                    Verdict::Damaged => &mut report.damaged,
                    Verdict::Unknown => &mut report.unknown,
                } += 1;
            }
            report.evidence.clone_from(evidence);
        }
    }
    report
}

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
