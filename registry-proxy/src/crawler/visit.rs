//! One host: every blob it should carry, one after the other, over one connection.

use std::time::Duration;

use jiff::civil::Date;
use oci_mirror::tree::catalog::{Blob, BlobId};
use oci_mirror::tree::{Catalog, TreePath};
use tokio::time::{Instant, timeout_at};
use tracing::debug;

use super::check::{Answer, Limits, Mirror};
use super::guard::Policy;
use crate::db::{Evidence, Outcome, Verdict};
use crate::network::Host;

/// How we introduce ourselves to mirror admins.
pub const USER_AGENT: &str = concat!(
    "registry-proxy/",
    env!("CARGO_PKG_VERSION"),
    " (crawler; verifies what this mirror holds)"
);

/// So many requests in a row without an answer, and the host is given up for this time.
const PATIENCE: usize = 3;

/// Most wrong answers described: after these it is clear.
const MAX_EVIDENCE: usize = 20;

/// In so many days every blob is read again.
const CYCLE: i64 = 7;

/// How thorough to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Read every byte.
    Full,
    /// Read what is new and what was not read for a week; of the rest only look whether it is there.
    Incremental,
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
    /// How long to wait for a mirror.
    pub limits: Limits,
    /// How long one host may take; what was found until then counts.
    pub per_host: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            policy: Policy::PublicOnly,
            depth: Depth::Incremental,
            concurrency: 16,
            limits: Limits::default(),
            per_host: Duration::from_secs(12 * 3600),
        }
    }
}

/// What a visit found, and what it cost.
#[derive(Debug)]
pub struct Visit {
    /// What it came to.
    pub outcome: Outcome,
    /// Bytes of blobs read.
    pub bytes: u64,
    /// Requests made.
    pub requests: u64,
}

/// Visits a host; `last_read` says for each blob when it was last read there, `today` what day it is.
pub async fn visit(
    host: &Host,
    last_read: &[Option<Date>],
    today: Date,
    catalog: &Catalog,
    options: &Options,
) -> Visit {
    let failed = |reason| Visit {
        outcome: Outcome::Failed(reason),
        bytes: 0,
        requests: 0,
    };
    let Some(base) = host.download_url() else {
        return failed("it has no http or https URL".to_owned());
    };
    let policy = if host.is_private() {
        Policy::Any
    } else {
        options.policy
    };
    let mut mirror = match Mirror::new(policy, USER_AGENT, options.limits) {
        Ok(mirror) => mirror,
        Err(error) => return failed(format!("cannot make a client: {error}")),
    };
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
        let look_only = options.depth == Depth::Incremental
            && last_read
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
        bytes: mirror.bytes,
        requests: mirror.requests,
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
                        found,
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
                whole: self
                    .verdicts
                    .iter()
                    .all(|(_, verdict)| !matches!(verdict, Verdict::Confirmed | Verdict::Unknown)),
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

/// Whether a blob read on `day` need not be read again `today`. A clock that went back counts as old.
fn is_recent(day: Date, today: Date) -> bool {
    let age = day.until(today).map(|span| i64::from(span.get_days()));
    age.is_ok_and(|age| (0..CYCLE).contains(&age))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_is_good_for_a_week() {
        let today = Date::constant(2026, 11, 21);
        for (day, recent) in [(21, true), (15, true), (14, false), (1, false), (22, false)] {
            assert_eq!(
                is_recent(Date::constant(2026, 11, day), today),
                recent,
                "{day}"
            );
        }
    }
}
