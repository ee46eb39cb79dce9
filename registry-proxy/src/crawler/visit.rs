//! One host: what is asked of it, one thing after the other, over one connection.
//!
//! `walk` is the way through it, `findings` what is brought home.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use oci_mirror::registry::rate::Rate;
use oci_mirror::tree::catalog::BlobId;
use oci_mirror::tree::{Catalog, Tree};
use roaring::RoaringBitmap;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::end::End;
use super::findings::Findings;
use super::guard::Policy;
use super::identity::user_agent;
use super::odds;
use super::pace::Pace;
use super::turn;
use super::walk::Walk;
use super::wire::{self, Wire};
use crate::config::{self, Config};
use crate::db::{Cost, Known, Outcome, Probe, Sampled, TreeState};
use crate::network::Host;

/// How thorough to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Read every byte.
    Full,
    /// Look whether there is what is new, what was missing and a part of the rest, and read some of it.
    Incremental,
    /// Read only what was damaged or may be.
    Check,
}

/// How to crawl.
#[derive(Debug, Clone)]
pub struct Options {
    /// Which addresses public mirrors may have.
    pub policy: Policy,
    /// How thorough to be.
    pub depth: Depth,
    /// How many hosts at once.
    pub concurrency: usize,
    /// How long one host may take; what was found until then counts.
    pub per_host: Duration,
    /// How mirrors are asked.
    pub wire: wire::Settings,
    /// Requests to one mirror; none: without bound.
    pub rate: Option<Rate>,
    /// What is read of one mirror in a second; none: without bound.
    pub bytes_per_second: Option<u64>,
    /// What is read of one mirror in a day.
    pub daily_bytes: u64,
    /// Within this time every blob of a mirror is looked at again.
    pub recheck: Duration,
    /// The program that lists what a mirror holds.
    pub rsync: PathBuf,
    /// Who is told what becomes of mirrors.
    pub notify: config::Notify,
    /// When this is cancelled, no more is asked; what was found until then counts.
    pub stop: CancellationToken,
}

impl Options {
    /// As the configuration says; incremental.
    pub fn from_config(config: &Config) -> Self {
        let crawler = &config.crawler;
        let contact = crawler.contact.as_ref().map(ToString::to_string);
        Self {
            policy: Policy::from(crawler),
            depth: Depth::Incremental,
            concurrency: crawler.concurrency.get().into(),
            per_host: Duration::from_secs(12 * 3600),
            wire: wire::Settings {
                user_agent: user_agent(&contact.unwrap_or_else(at_this_machine)).into(),
                authorities: crawler.authorities.clone(),
                ..wire::Settings::default()
            },
            rate: crawler.rate,
            bytes_per_second: Some(crawler.bytes_per_second.0).filter(|bytes| *bytes > 0),
            daily_bytes: crawler.daily_bytes.0,
            recheck: crawler.recheck,
            rsync: crawler.rsync.clone(),
            notify: config.notify.clone(),
            stop: CancellationToken::new(),
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self::from_config(&Config::default())
    }
}

/// Where somebody may ask who we are, if nobody said: names of machines may hold anything.
fn at_this_machine() -> String {
    let system = rustix::system::uname();
    let name = system.nodename().to_str().unwrap_or_default();
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if name.is_empty() || !name.chars().all(legal) {
        return "http://localhost/".to_owned();
    }
    format!("http://{name}/")
}

/// What all visits of a round have in common.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// The tree of which hosts are mirrors.
    pub tree: Tree,
    /// What it holds.
    pub catalog: Arc<Catalog>,
    /// The way to the hosts.
    pub wire: Wire,
    /// How to crawl.
    pub options: Options,
}

/// When and why a host is visited.
#[derive(Debug, Clone, Default)]
pub struct Occasion {
    /// What time it is when the host is first asked for something, however long that was waited for: what was said of it
    /// later counts for more.
    pub now: Timestamp,
    /// Blobs of it that may be wrong.
    pub suspects: Vec<BlobId>,
    /// Blobs that clients ask for most, anywhere.
    pub popular: Vec<BlobId>,
    /// Whether somebody asked for this very host. Only then it is crawled although it says itself what it holds.
    pub is_by_name: bool,
    /// Whether the catalog has become another one while the host waited for its turn: what is new will not be looked
    /// for.
    pub is_outdated: bool,
}

/// What a visit found, and what it cost.
#[derive(Debug)]
pub struct Visit {
    /// What it came to.
    pub outcome: Outcome,
    /// The numbers of the blobs it should carry.
    pub carried: RoaringBitmap,
    /// What it took.
    pub cost: Cost,
    /// The mirror's own state, if it was seen.
    pub state: Option<TreeState>,
    /// What was tried besides.
    pub probes: Vec<Probe>,
    /// How much was sampled.
    pub sampled: Sampled,
    /// Whether all was looked at whose turn it was.
    pub is_complete: bool,
}

/// Visits a host.
pub async fn visit(
    host: &Host,
    known: &Known,
    occasion: &Occasion,
    surroundings: &Surroundings,
) -> Visit {
    let options = &surroundings.options;
    let Some(base) = host.download_url() else {
        let mut findings = Findings::default();
        findings.fail("it has no http or https URL".to_owned());
        return findings.into_visit(RoaringBitmap::new(), options.depth, Cost::default());
    };
    let policy = options.policy.towards(host);
    let pace = Arc::new(Pace::new(options.rate, options.bytes_per_second));
    let carried = carried(host, &surroundings.catalog);
    let budget = match options.depth {
        Depth::Full => u64::MAX,
        Depth::Incremental | Depth::Check => {
            turn::budget(options.daily_bytes, &known.bytes, occasion.now)
        }
    };
    let mut walk = Walk {
        host,
        base,
        carried: &carried,
        known,
        occasion,
        surroundings,
        policy,
        mirror: surroundings.wire.mirror(policy, Arc::clone(&pace)),
        end: End::new(Instant::now() + options.per_host, options.stop.clone()),
        budget,
        findings: Findings::default(),
    };
    walk.walk().await;
    if options.depth != Depth::Check {
        walk.probe(Arc::clone(&pace)).await;
    }
    let findings = walk.findings;
    findings.into_visit(carried, options.depth, pace.cost())
}

/// How likely the first day of a host that was never crawled will show damage to one blob in a hundred, if so
/// many bytes of it may be read in a day.
pub fn expected(host: &Host, catalog: &Catalog, daily: u64) -> f64 {
    odds_of_a_day(&carried(host, catalog), catalog, daily)
}

/// The same by the numbers of the blobs it should carry.
pub(super) fn odds_of_a_day(carried: &RoaringBitmap, catalog: &Catalog, daily: u64) -> f64 {
    let sizes = carried
        .iter()
        .map(|number| catalog.blob(BlobId(number)).size);
    odds::detected(odds::expected(sizes, daily))
}

/// The numbers of the blobs of the repositories a host carries, but for those that are too large for it.
pub(crate) fn carried(host: &Host, catalog: &Catalog) -> RoaringBitmap {
    let repositories = catalog
        .repositories()
        .filter(|(name, _)| host.carries(name));
    let mut blobs = RoaringBitmap::new();
    for (_, repository) in repositories {
        let fits = |id: &BlobId| {
            let size = catalog.blob(*id).size;
            host.max_blob_size.is_none_or(|most| size <= most)
        };
        blobs.extend(repository.members().filter(fits).map(|id| id.0));
    }
    blobs
}
