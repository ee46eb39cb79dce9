//! The bytes of a host: which of them are read this time, and whether they are right.

use jiff::civil::Date;
use oci_mirror::tree::catalog::BlobId;
use oci_mirror::tree::{Catalog, Tree, TreePath};
use tokio::time::{Instant, timeout_at};

use super::check::{Answer, Mirror};
use super::identity::Identity;
use super::visit::Depth;
use crate::db::{Evidence, Known, Sampled, Verdict};
use crate::network::{Health, Host};

/// So many requests in a row without an answer, and the host is given up for this time.
const PATIENCE: usize = 3;

/// In so many days every blob is read again.
const CYCLE: i64 = 7;

/// What there is to be sampled, and how much of it may be.
#[derive(Debug)]
pub struct Task<'a> {
    /// The host.
    pub host: &'a Host,
    /// What it should carry is part of this.
    pub catalog: &'a Catalog,
    /// Where the hashes of pieces are.
    pub tree: &'a Tree,
    /// Blobs that are there, with the right length.
    pub present: &'a [BlobId],
    /// What is known of the host.
    pub known: &'a Known,
    /// Blobs to begin with: those that were damaged, and those that may be.
    pub first: &'a [BlobId],
    /// Blobs that clients ask for most.
    pub popular: &'a [BlobId],
    /// How many bytes may be read.
    pub budget: u64,
    /// How thorough to be.
    pub depth: Depth,
    /// What day it is.
    pub today: Date,
    /// What chance is made of.
    pub seed: u64,
    /// When to stop.
    pub deadline: Instant,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Found {
    /// Of blobs of which bytes were asked for.
    pub verdicts: Vec<(BlobId, Verdict)>,
    /// What was wrong.
    pub evidence: Vec<Evidence>,
    /// How much was read.
    pub sampled: Sampled,
    /// Why nothing could be told at all.
    pub failure: Option<String>,
}

/// Reads bytes of a host. As yet these are whole blobs: all, or those that were not read for a week,
/// whatever the budget.
pub async fn sample(mirror: &mut Mirror, task: &Task<'_>) -> Found {
    let mut found = Found::default();
    let Some(base) = task.host.download_url() else {
        return found;
    };
    let is_quarantined = matches!(task.host.health, Health::Quarantined { .. });
    let is_due = |id: &&BlobId| {
        let read = task.known.read.get(id.index()).copied().flatten();
        task.depth == Depth::Full
            || is_quarantined
            || !read.is_some_and(|day| is_recent(day, task.today))
    };
    let rest = task.present.iter().filter(is_due);
    let rest = rest.filter(|id| !task.first.contains(id));
    let mut reason = None;
    let mut unanswered = 0;
    for &id in task.first.iter().chain(rest) {
        let blob = task.catalog.blob(id);
        let url = base.join(&TreePath::Blob(blob.digest));
        let reading = mirror.read(&url, blob.size, &blob.digest);
        let Ok(answer) = timeout_at(task.deadline, reading).await else {
            break;
        };
        let verdict = match answer {
            Answer::Right => Verdict::Read,
            Answer::There => Verdict::Present,
            Answer::Missing => Verdict::Missing,
            Answer::Damaged(wrong) => {
                found.evidence.push(Evidence {
                    digest: blob.digest,
                    url,
                    expected: format!("{} bytes with the digest {}", blob.size, blob.digest),
                    found: wrong,
                    identity: Identity::Crawler,
                });
                Verdict::Damaged
            }
            Answer::Unknown(why) | Answer::Unreachable(why) => {
                reason = Some(why);
                Verdict::Unknown
            }
        };
        found.sampled.blobs += u64::from(verdict != Verdict::Unknown);
        found.verdicts.push((id, verdict));
        unanswered = if verdict == Verdict::Unknown {
            unanswered + 1
        } else {
            0
        };
        if unanswered >= PATIENCE {
            break;
        }
    }
    found.failure = reason.filter(|_| found.sampled.blobs == 0 || unanswered >= PATIENCE);
    found
}

/// Whether a blob read on `day` need not be read again `today`. A clock that went back counts as old.
pub(super) fn is_recent(day: Date, today: Date) -> bool {
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
