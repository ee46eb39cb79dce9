//! Crawls: what was found at a host, and what follows for its clients.

use std::borrow::Cow;

use jiff::Timestamp;
use oci_mirror::digest::Digest;
use oci_mirror::reference::RepoName;
use oci_mirror::tree::Catalog;
use oci_mirror::tree::catalog::BlobId;
use roaring::RoaringBitmap;
use rusqlite::{Transaction, TransactionBehavior, params};

use super::evidence::{self, Evidence};
use super::held::Told;
use super::numbers::{Book, Numbering};
use super::probes::{self, Probe};
use super::rounds::clock;
use super::{Database, Error, health, record, repositories};
use crate::network::{BaseUrl, Health, HostId, HostName};

/// One crawl of one host.
#[derive(Debug, Clone)]
pub struct Crawl {
    /// Where: `None` if that cannot have changed meanwhile.
    pub base: Option<BaseUrl>,
    /// When it began.
    pub began: Timestamp,
    /// When it ended.
    pub at: Timestamp,
    /// What it came to.
    pub outcome: Outcome,
    /// What it took.
    pub cost: Cost,
    /// The mirror's own `state.json`, if it was seen.
    pub state: Option<TreeState>,
    /// What was tried besides.
    pub probes: Vec<Probe>,
    /// How much was sampled.
    pub sampled: Sampled,
    /// Whether all was looked at whose turn it was; if not, it is its turn next time.
    pub is_complete: bool,
    /// Whether it looked for what is new there, and not only at what clients complain of.
    pub has_looked_for_news: bool,
    /// The numbers in the catalog of the blobs it should carry; `None`: all.
    pub carried: Option<RoaringBitmap>,
}

impl Crawl {
    /// A crawl of which no more is known than what it came to.
    pub fn new(at: Timestamp, outcome: Outcome) -> Self {
        Self {
            base: None,
            began: at,
            at,
            outcome,
            cost: Cost::default(),
            state: None,
            probes: Vec::new(),
            sampled: Sampled::default(),
            is_complete: true,
            has_looked_for_news: true,
            carried: None,
        }
    }

    /// The same with nothing of what it found but the damage; `None` if it found none.
    fn damage(&self) -> Option<Self> {
        let Outcome::Finished {
            verdicts, evidence, ..
        } = &self.outcome
        else {
            return None;
        };
        if evidence.is_empty() {
            return None;
        }
        let is_damaged = |told: &&(BlobId, Verdict)| told.1 == Verdict::Damaged;
        Some(Self {
            outcome: Outcome::Finished {
                scope: Scope::Part,
                verdicts: verdicts.iter().filter(is_damaged).copied().collect(),
                evidence: evidence.clone(),
            },
            state: None,
            probes: Vec::new(),
            is_complete: false,
            has_looked_for_news: false,
            ..self.clone()
        })
    }
}

/// What a crawl took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cost {
    /// Requests made.
    pub requests: u64,
    /// Bytes read, but for those of header fields.
    pub bytes: u64,
}

/// What a mirror says of its own copy of the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreeState {
    /// The digest of its `state.json`.
    pub digest: Digest,
    /// The serial in it, if it can be read.
    pub serial: Option<u64>,
}

/// How much of a host was sampled.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Sampled {
    /// Blobs of which bytes were read.
    pub blobs: u64,
    /// The logarithm of the chance that one damaged blob in a hundred would not have been found; never
    /// above zero, which is nothing read.
    pub undetected: f64,
}

/// What a crawl came to.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// It could not be finished; what was known before is set aside until one can.
    Failed(String),
    /// It went through.
    Finished {
        /// Of how much there are verdicts.
        scope: Scope,
        /// What was found.
        verdicts: Vec<(BlobId, Verdict)>,
        /// What was wrong with the damaged ones.
        evidence: Vec<Evidence>,
    },
}

/// Of how much of what a host should carry there are verdicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Of all of it.
    Whole,
    /// Of some; the rest stays as it was known.
    Part,
}

/// What was found of one blob at one host.
///
/// A blob is verified at a host after bytes of that very blob were read there and were right: the first
/// three. Only such a blob is offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// All its bytes were read and have the right digest.
    Read,
    /// It is there with the right length, and a piece of it was read and is right.
    Sampled,
    /// It is there again with the right length, and some or all of its bytes were read before.
    Confirmed,
    /// It is there with the right length, and none of its bytes were ever read: neither offered nor missing.
    Present,
    /// It is not there.
    Missing,
    /// It is there and wrong.
    Damaged,
    /// It could not be told; never taken for missing.
    Unknown,
}

/// What the recording of a crawl has changed for clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// The host.
    pub name: HostName,
    /// Its health until then.
    pub before: Health,
    /// Its health now.
    pub after: Health,
    /// Repositories for which it is used no more, or again.
    pub repositories: Vec<(RepoName, Change)>,
}

/// What became of a repository at a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The host is not used for it any more, for this reason.
    Disabled(String),
    /// The host is used for it again.
    Returned,
}

impl Database {
    /// Writes down a crawl, all of it or nothing; that of a host removed meanwhile is passed over.
    pub fn record_crawl(
        &mut self,
        host: HostId,
        crawl: &Crawl,
        catalog: &Catalog,
    ) -> Result<Option<Recorded>, Error> {
        self.record_in(&mut Book::new(catalog), host, crawl, catalog)
    }

    /// The same by numbers that are kept.
    pub fn record_crawl_by(
        &mut self,
        host: HostId,
        crawl: &Crawl,
        numbering: &Numbering,
    ) -> Result<Option<Recorded>, Error> {
        numbering.with(|book, catalog| self.record_in(book, host, crawl, catalog))
    }

    fn record_in(
        &mut self,
        book: &mut Book,
        host: HostId,
        crawl: &Crawl,
        catalog: &Catalog,
    ) -> Result<Option<Recorded>, Error> {
        let path = self.path.clone();
        let failed = |source| Error::Sql {
            doing: "record a crawl in",
            path: path.clone(),
            source,
        };
        // One that reads first and writes later is refused if another crawl was recorded in between.
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(failed)?;
        let recorded = enter(&transaction, book, host, crawl, catalog).map_err(failed)?;
        transaction.commit().map_err(failed)?;
        Ok(recorded)
    }
}

fn enter(
    transaction: &Transaction<'_>,
    book: &mut Book,
    host: HostId,
    crawl: &Crawl,
    catalog: &Catalog,
) -> rusqlite::Result<Option<Recorded>> {
    let Some((name, before)) = health::of(transaction, host)? else {
        return Ok(None);
    };
    // Whoever crawled it is done.
    let query = "UPDATE host SET claimed_until = NULL WHERE id = ?1";
    transaction.execute(query, [host.0])?;
    if !record::is_of_this_server(transaction, host, crawl)? {
        return Ok(None);
    }
    // Its own word came while it was crawled, and counts for more than anything that was found but damage.
    let query = "SELECT 1 FROM host WHERE id = ?1 AND private = 1 AND checked_in_at >= ?2";
    let has_spoken = transaction
        .prepare_cached(query)?
        .exists(params![host.0, clock(crawl.began)])?;
    let believed = if has_spoken {
        crawl.damage().map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(crawl))
    };
    let Some(crawl) = believed.as_deref() else {
        record::history(transaction, host, crawl, &record::Counts::default())?;
        return Ok(None);
    };
    let at = crawl.at.to_string();
    let mut counts = record::Counts::default();
    let mut changes = Vec::new();
    probes::enter(transaction, host, &at, &crawl.probes)?;
    if let Outcome::Finished {
        scope,
        verdicts,
        evidence,
    } = &crawl.outcome
    {
        let numbers = record::blobs(transaction, book, verdicts, catalog)?;
        let by_number = numbers.into_iter().zip(verdicts.iter().map(|told| told.1));
        let told: Told = by_number.collect();
        let held = record::held(transaction, host, *scope, &told)?;
        record::reading(transaction, host, crawl.at, &told)?;
        evidence::enter(transaction, host, &at, evidence)?;
        let (numbers, news) = (book.numbers(), (&*at, &**verdicts));
        changes = repositories::update(transaction, host, news, numbers, catalog)?;
        if crawl.is_complete {
            record::turn(transaction, host, &at, crawl.state)?;
        }
        counts = record::Counts {
            verified: held.verified.len(),
            present: told.present.len(),
            missing: held.missing.len(),
            damaged: held.damaged.len(),
            unknown: told.unknown.len(),
        };
    }
    health::update(transaction, book, host, crawl, catalog)?;
    record::history(transaction, host, crawl, &counts)?;
    // Whoever crawled it has seen what it was to be looked at for, if that was said before and he looked for news.
    transaction.execute(
        "UPDATE host SET crawled_at = ?2,
                         hinted_at = CASE WHEN hinted_at > ?3 OR NOT ?4 THEN hinted_at END WHERE id = ?1",
        params![host.0, at, clock(crawl.began), crawl.has_looked_for_news],
    )?;
    let after = health::of(transaction, host)?.map_or_else(|| before.clone(), |(_, after)| after);
    // A name that was spoilt by hand is nobody's.
    Ok(name.parse().ok().map(|name| Recorded {
        name,
        before,
        after,
        repositories: changes,
    }))
}

#[cfg(test)]
mod tests;
