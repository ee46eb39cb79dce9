//! One host: every blob it should carry, one after the other, over one connection.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::civil::Date;
use oci_mirror::registry::rate::Rate;
use oci_mirror::tree::catalog::{Blob, BlobId};
use oci_mirror::tree::{Catalog, Tree, TreePath};
use tokio::time::{Instant, timeout_at};
use tracing::debug;

use super::check::Answer;
use super::guard::Policy;
use super::identity::{Identity, user_agent};
use super::pace::Pace;
use super::sample::is_recent;
use super::wire::{self, Wire};
use crate::config::Config;
use crate::db::{Cost, Evidence, Known, Outcome, Scope, Verdict};
use crate::network::Host;

/// So many requests in a row without an answer, and the host is given up for this time.
const PATIENCE: usize = 3;

/// Most wrong answers described: after these it is clear.
const MAX_EVIDENCE: usize = 20;

/// How thorough to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Read every byte.
    Full,
    /// Read what is new and what was not read for a week; of the rest only look whether it is there.
    Incremental,
    /// Look only at what was damaged or may be. As yet, as incremental.
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

/// What a visit found, and what it cost.
#[derive(Debug)]
pub struct Visit {
    /// What it came to.
    pub outcome: Outcome,
    /// What it took.
    pub cost: Cost,
}

/// Visits a host; `today` is what day it is.
pub async fn visit(host: &Host, known: &Known, today: Date, surroundings: &Surroundings) -> Visit {
    let (catalog, options) = (&*surroundings.catalog, &surroundings.options);
    let Some(base) = host.download_url() else {
        return Visit {
            outcome: Outcome::Failed("it has no http or https URL".to_owned()),
            cost: Cost::default(),
        };
    };
    let policy = if host.is_private() {
        Policy::Any
    } else {
        options.policy
    };
    let pace = Arc::new(Pace::new(options.rate, options.bytes_per_second));
    let mut mirror = surroundings.wire.mirror(policy, pace);
    let deadline = Instant::now() + options.per_host;
    let mut findings = Findings::default();
    for id in carried(host, catalog) {
        if findings.given_up.is_some() {
            // It could be asked no more, so it cannot be told.
            findings.verdicts.push((id, Verdict::Unknown));
            continue;
        }
        let blob = catalog.blob(id);
        let url = base.join(&TreePath::Blob(blob.digest));
        let look_only = options.depth != Depth::Full
            && known
                .read
                .get(id.index())
                .copied()
                .flatten()
                .is_some_and(|day| is_recent(day, today));
        let asking = async {
            if look_only {
                mirror.look(&url, blob.size, &blob.digest).await
            } else {
                mirror.read(&url, blob.size, &blob.digest).await
            }
        };
        match timeout_at(deadline, asking).await {
            Ok(answer) => findings.note(id, blob, url, answer),
            Err(_) => findings.run_out_of(options.per_host, id),
        }
    }
    Visit {
        outcome: findings.outcome(),
        cost: Cost {
            requests: mirror.requests,
            bytes: mirror.bytes,
        },
    }
}

/// What was found so far.
#[derive(Debug, Default)]
struct Findings {
    verdicts: Vec<(BlobId, Verdict)>,
    evidence: Vec<Evidence>,
    /// Whether anything could be told at all.
    answered: bool,
    /// Requests in a row that got no usable answer.
    unanswered: usize,
    /// Why the last of them got none.
    reason: Option<String>,
    given_up: Option<GivenUp>,
}

/// Why no more is asked.
#[derive(Debug)]
enum GivenUp {
    /// It stopped answering, so clients would get nothing either.
    Silent,
    /// There is no more time; it may be large or far away.
    Late,
}

impl Findings {
    fn note(&mut self, id: BlobId, blob: &Blob, url: String, answer: Answer) {
        let verdict = match answer {
            Answer::Right => Verdict::Read,
            Answer::There => Verdict::Confirmed,
            Answer::Missing => Verdict::Missing,
            Answer::Damaged(found) => {
                if self.evidence.len() < MAX_EVIDENCE {
                    self.evidence.push(Evidence {
                        digest: blob.digest,
                        url,
                        expected: format!("{} bytes with the digest {}", blob.size, blob.digest),
                        found,
                        identity: Identity::Crawler,
                    });
                }
                Verdict::Damaged
            }
            Answer::Unknown(reason) => {
                debug!(url, reason, "no usable answer");
                self.reason = Some(reason);
                self.unanswered += 1;
                Verdict::Unknown
            }
            Answer::Unreachable(reason) => {
                debug!(url, reason, "no connection");
                self.reason = Some(reason);
                // At the very first request once is enough: the host is down.
                self.unanswered += if self.verdicts.is_empty() {
                    PATIENCE
                } else {
                    1
                };
                Verdict::Unknown
            }
        };
        if verdict != Verdict::Unknown {
            self.answered = true;
            self.unanswered = 0;
        } else if self.unanswered >= PATIENCE {
            self.given_up = Some(GivenUp::Silent);
        }
        self.verdicts.push((id, verdict));
    }

    fn run_out_of(&mut self, time: Duration, id: BlobId) {
        self.reason = Some(format!("not done within {time:?}"));
        self.given_up = Some(GivenUp::Late);
        self.verdicts.push((id, Verdict::Unknown));
    }

    fn outcome(self) -> Outcome {
        let useless = match self.given_up {
            Some(GivenUp::Silent) => true,
            Some(GivenUp::Late) | None => !self.answered,
        };
        match self.reason {
            // Damage is kept even so: falling silent after it must not save a mirror from quarantine.
            Some(reason) if useless && self.evidence.is_empty() => Outcome::Failed(reason),
            _ => Outcome::Finished {
                scope: Scope::Whole,
                verdicts: self.verdicts,
                evidence: self.evidence,
            },
        }
    }
}

/// The blobs of the repositories a host carries.
fn carried(host: &Host, catalog: &Catalog) -> Vec<BlobId> {
    let repositories = catalog
        .repositories()
        .filter(|(name, _)| host.carries(name));
    let mut blobs: Vec<BlobId> = repositories
        .flat_map(|(_, repository)| repository.members())
        .collect();
    blobs.sort_unstable();
    blobs.dedup();
    blobs
}
