//! The bytes of a host: which of them are read this time, and whether they are right.
//!
//! A blob counts as verified only after bytes of that very blob were read there. [`choose`](mod@choose) says which;
//! here they are read, and what was found becomes verdicts and evidence.

pub mod choose;

use std::ops::ControlFlow;

use jiff::civil::Date;
use oci_mirror::digest::Digest;
use oci_mirror::tree::catalog::{Blob, BlobId};
use oci_mirror::tree::pieces::Pieces;
use oci_mirror::tree::{Catalog, Tree, TreePath};
use tracing::debug;

use super::check::{Answer, Mirror, NO_RANGES};
use super::end::End;
use super::identity::Identity;
use super::odds;
use super::visit::Depth;
use crate::db::{Evidence, Known, Sampled, Verdict};
use crate::network::{Health, Host};
use choose::{Choice, Part, Reading, choose};

/// So many readings in a row without a usable answer, and the host is given up for this time.
const PATIENCE: u32 = 3;

/// Most wrong answers described: after these it is clear.
const MAX_EVIDENCE: usize = 20;

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
    /// How many bytes may be read. What was damaged is read even so.
    pub budget: u64,
    /// How thorough to be.
    pub depth: Depth,
    /// What day it is.
    pub today: Date,
    /// What chance is made of.
    pub seed: u64,
    /// When to stop.
    pub end: &'a End,
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
    /// Why no client can do with this host: it stopped answering, or does not send parts of files.
    pub failure: Option<String>,
}

/// Reads bytes of a host, and compares them.
pub async fn sample(mirror: &mut Mirror, task: &Task<'_>) -> Found {
    let Some(base) = task.host.download_url() else {
        return Found::default();
    };
    let before = mirror.bytes;
    let readings = chosen(task);
    let damaged: u64 = readings
        .iter()
        .filter(|reading| task.known.damaged.contains(reading.id.0))
        .map(|reading| reading.cost(task.catalog.blob(reading.id).size))
        .sum();
    let budget = task.budget.max(damaged);
    let mut sampling = Sampling::default();
    for mut reading in readings {
        let was_damaged = task.known.damaged.contains(reading.id.0);
        if !was_damaged && sampling.still_damaged {
            // It is shown already; the rest can wait until that is mended.
            break;
        }
        let blob = task.catalog.blob(reading.id);
        let pieces = match reading.part {
            Part::Whole => None,
            Part::Piece(_) => pieces_of(task.tree, blob).await,
        };
        if pieces.is_none() && reading.part != Part::Whole {
            // Nothing to compare a piece with.
            reading.part = Part::Whole;
            let spent = mirror.bytes - before;
            if !sampling.found.verdicts.is_empty() && spent + reading.cost(blob.size) > budget {
                continue;
            }
        }
        let url = base.join(&TreePath::Blob(blob.digest));
        let read = read(mirror, &url, blob, &reading, pieces.as_ref());
        let Some(answer) = task.end.before(read).await else {
            break;
        };
        if sampling
            .note(&reading, blob, &url, answer, was_damaged)
            .is_break()
        {
            break;
        }
    }
    sampling.finish()
}

/// Which blobs are read.
fn chosen(task: &Task<'_>) -> Vec<Reading> {
    let known = task.known;
    let is_damaged = |id: &BlobId| known.damaged.contains(id.0);
    let (damaged, suspects): (Vec<_>, Vec<_>) = task.first.iter().partition(|id| is_damaged(id));
    let among = |wanted: &dyn Fn(&BlobId) -> bool| -> Vec<BlobId> {
        task.present.iter().copied().filter(wanted).collect()
    };
    let new = among(&|id| !known.verified.contains(id.0));
    let is_held = matches!(task.host.health, Health::Quarantined { .. });
    let is_unread = |id: &BlobId| known.read.get(id.index()).copied().flatten().is_none();
    let unread = if is_held {
        among(&is_unread)
    } else {
        Vec::new()
    };
    let mut present = task.present.to_vec();
    present.sort_unstable();
    let mut popular = task.popular.to_vec();
    popular.retain(|id| present.binary_search(id).is_ok());
    let choice = Choice {
        damaged: &damaged,
        suspects: &suspects,
        new: &new,
        unread: &unread,
        popular: &popular,
        present: &present,
        budget: task.budget,
        depth: task.depth,
        seed: task.seed,
    };
    choose(&choice, |id| task.catalog.blob(id).size)
}

/// The hashes of the pieces of a blob; none if there are none to be had.
async fn pieces_of(tree: &Tree, blob: &Blob) -> Option<Pieces> {
    let (tree, digest, size) = (tree.clone(), blob.digest, blob.size);
    let reading = tokio::task::spawn_blocking(move || tree.pieces(&digest, size));
    match reading.await.ok()? {
        Ok(pieces) => pieces,
        Err(error) => {
            debug!(%digest, error = &error as &dyn std::error::Error, "no hashes of pieces");
            None
        }
    }
}

/// Reads a blob, or a piece of it, as all who are to; the first answer that is not right, and to whom.
async fn read(
    mirror: &mut Mirror,
    url: &str,
    blob: &Blob,
    reading: &Reading,
    pieces: Option<&Pieces>,
) -> (Identity, Answer) {
    let mut last = (Identity::Crawler, Answer::Right);
    for &identity in reading.by.identities() {
        let answer = match (reading.part, pieces) {
            (Part::Piece(number), Some(pieces)) => {
                let start = number * pieces.length();
                let range = start..start + reading.part.bytes(blob.size);
                let hash = usize::try_from(number).ok();
                match hash.and_then(|number| pieces.hashes().get(number)) {
                    Some(hash) => mirror.piece(identity, url, blob.size, range, hash).await,
                    None => Answer::Unknown("there is no such piece".to_owned()),
                }
            }
            _ => mirror.read_as(identity, url, blob.size, &blob.digest).await,
        };
        let is_right = answer == Answer::Right;
        last = (identity, answer);
        if !is_right {
            break;
        }
    }
    last
}

/// What was found so far.
#[derive(Debug, Default)]
struct Sampling {
    found: Found,
    /// Readings in a row that got no usable answer.
    unanswered: u32,
    answered: bool,
    /// Why the last of them got none.
    reason: Option<String>,
    /// Whether a blob that was damaged still is.
    still_damaged: bool,
    /// Pieces that were sent, and those for which all of the file was.
    parts: u32,
    wholes: u32,
}

impl Sampling {
    fn note(
        &mut self,
        reading: &Reading,
        blob: &Blob,
        url: &str,
        (identity, answer): (Identity, Answer),
        was_damaged: bool,
    ) -> ControlFlow<()> {
        let is_part = reading.part != Part::Whole;
        let verdict = match answer {
            Answer::Right => {
                let fraction = odds::fraction(reading.part.bytes(blob.size), blob.size);
                self.found.sampled.undetected += odds::undetected(fraction, odds::SHARE);
                self.parts += u32::from(is_part);
                if is_part {
                    Verdict::Sampled
                } else {
                    Verdict::Read
                }
            }
            Answer::There => Verdict::Present,
            Answer::Missing => Verdict::Missing,
            Answer::Damaged(found) => {
                self.parts += u32::from(is_part);
                self.still_damaged |= was_damaged;
                self.found.evidence.push(Evidence {
                    digest: blob.digest,
                    url: url.to_owned(),
                    expected: expected(&blob.digest, blob.size, reading.part),
                    found,
                    identity,
                });
                Verdict::Damaged
            }
            Answer::Unknown(reason) | Answer::Unreachable(reason) => {
                debug!(url, reason, "no usable answer");
                self.wholes += u32::from(reason == NO_RANGES);
                self.reason = Some(reason);
                Verdict::Unknown
            }
        };
        self.found.verdicts.push((reading.id, verdict));
        if verdict == Verdict::Unknown {
            self.unanswered += 1;
        } else {
            self.unanswered = 0;
            self.answered = true;
        }
        let was_read = matches!(verdict, Verdict::Read | Verdict::Sampled | Verdict::Damaged);
        self.found.sampled.blobs += u64::from(was_read);
        let is_clear = self.found.evidence.len() >= MAX_EVIDENCE;
        let sends_no_parts = self.wholes >= PATIENCE && self.parts == 0;
        if self.unanswered >= PATIENCE || is_clear || sends_no_parts {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }

    fn finish(mut self) -> Found {
        let is_silent = self.unanswered >= PATIENCE || !self.answered;
        if !self.found.evidence.is_empty() {
            // Falling silent after damage must not save a mirror from quarantine.
        } else if self.wholes > 0 && self.parts == 0 {
            self.found.failure = Some(NO_RANGES.to_owned());
        } else if is_silent {
            self.found.failure = self.reason;
        }
        self.found
    }
}

/// What should have been found.
fn expected(digest: &Digest, size: u64, part: Part) -> String {
    let whole = format!("{size} bytes with the digest {digest}");
    match part {
        Part::Whole => whole,
        Part::Piece(number) => {
            let count = oci_mirror::tree::pieces::count_for(size);
            let bytes = part.bytes(size);
            format!(
                "{bytes} bytes that are piece {} of {count} of {whole}",
                number + 1
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evidence_says_what_should_have_been_found() {
        let digest = oci_mirror::digest::Algorithm::Sha256.digest(b"x");
        let text = expected(&digest, (2 << 20) + 5, Part::Piece(2));
        assert_eq!(
            text,
            format!("5 bytes that are piece 3 of 3 of 2097157 bytes with the digest {digest}")
        );
    }
}
