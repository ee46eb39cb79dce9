//! Check-ins: what mirrors have said, and what follows.
//!
//! For a public mirror all that follows is that it is looked at soon. For a private one what it says is what is known
//! of it, by the same arithmetic as what a crawl finds; it is not crawled any more then, and when it falls silent what
//! it said is forgotten.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use oci_mirror::digest::Digest;
use oci_mirror::reference::RepoName;
use oci_mirror::tree::Catalog;
use oci_mirror::tree::catalog::BlobId;
use roaring::RoaringBitmap;
use rusqlite::{OptionalExtension as _, Transaction, params};
use serde::{Serialize, Serializer};

use super::crawls::{Change, Crawl, Outcome, Recorded, Scope, Verdict};
use super::held::Told;
use super::numbers::Book;
use super::record::count;
use super::rounds::clock;
use super::{Database, Error, Failure, categories, health, record, repositories};
use crate::network::{Health, HostId};

/// How many check-ins of a host are remembered.
const HISTORY: u32 = 50;

/// What a mirror has said, as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct CheckIn {
    /// When.
    pub at: Timestamp,
    /// How.
    pub way: Way,
    /// The serial of its tree.
    pub serial: Option<u64>,
    /// The digest of its `state.json`.
    pub state: Option<Digest>,
    /// How many repositories it carries; none: all.
    pub repositories: Option<u64>,
    /// What tells these from as many others, if it can be the same as last time: a digest of them, and of the grounds on
    /// which blobs were taken as present.
    #[serde(skip)]
    pub carried: Option<Digest>,
    /// How many blobs were taken as present.
    pub blobs: u64,
    /// How many of its blobs are damaged, if it has looked.
    pub damaged: Option<u64>,
}

/// By what a check-in is known to say what the last one has said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Same {
    /// What it carries.
    pub carried: Digest,
    /// How many blobs were taken as present then, if it may not be any number.
    pub blobs: Option<u64>,
}

/// How a mirror checks in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// By `mirror-tool report`.
    Report,
    /// As with MirrorManager.
    XmlRpc,
}

impl Way {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Report => "report",
            Self::XmlRpc => "xml-rpc",
        }
    }

    fn of(word: &str) -> Option<Self> {
        let mut all = [Self::Report, Self::XmlRpc].into_iter();
        all.find(|way| way.as_str() == word)
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Serialize for Way {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl Database {
    /// Writes down what a public mirror has said, and whether it is to be looked at soon because of it: not if that
    /// very state was seen there already, and all was well.
    pub fn hint(&mut self, host: HostId, entry: &CheckIn) -> Result<bool, Error> {
        self.write("record a check-in in", |transaction| {
            let Some((_, health)) = health::of(transaction, host)? else {
                return Ok(false);
            };
            self::enter(transaction, host, entry)?;
            let query = "SELECT state_digest FROM host WHERE id = ?1";
            let seen: Option<String> = transaction.query_row(query, [host.0], |row| row.get(0))?;
            let is_known = entry
                .state
                .is_some_and(|state| seen == Some(state.to_string()));
            if is_known && health == Health::Healthy && entry.damaged.unwrap_or(0) == 0 {
                return Ok(false);
            }
            let query = "UPDATE host SET hinted_at = ?2 WHERE id = ?1";
            transaction.execute(query, params![host.0, clock(entry.at)])?;
            Ok(true)
        })
    }

    /// Writes down what a private mirror has said, and what is known of it now: this, and nothing that was known before.
    /// The entry that comes back is of the time when it was written. `None` if it is gone or public meanwhile.
    pub fn check_in(
        &mut self,
        host: HostId,
        entry: &CheckIn,
        verdicts: Vec<(BlobId, Verdict)>,
        catalog: &Catalog,
    ) -> Result<Option<(CheckIn, Recorded)>, Error> {
        self.write("record a check-in in", |transaction| {
            let Some((name, before)) = private(transaction, host)? else {
                return Ok(None);
            };
            let entry = as_written(entry);
            self::enter(transaction, host, &entry)?;
            // It says now how far it is.
            categories::forget(transaction, host)?;
            let word = Word {
                host,
                entry: &entry,
                scope: Scope::Whole,
                verdicts,
            };
            let repositories = believe(transaction, &mut Book::new(catalog), word, catalog)?;
            let recorded = recorded(transaction, host, (name, before), repositories)?;
            Ok(recorded.map(|recorded| (entry, recorded)))
        })
    }

    /// Writes down what a private mirror has said that does not say how far it is: the numbers in the catalog of the
    /// blobs it `named`, by category. What counts of that is in the entry that comes back, and when it was written.
    ///
    /// Where nothing is proved by it there is only less to be known of it than before. `None` if it is gone or public
    /// meanwhile.
    pub fn check_in_by_category(
        &mut self,
        host: HostId,
        entry: &CheckIn,
        named: &BTreeMap<String, RoaringBitmap>,
        catalog: &Catalog,
    ) -> Result<Option<(CheckIn, Recorded)>, Error> {
        self.write("record a check-in in", |transaction| {
            let Some((name, before)) = private(transaction, host)? else {
                return Ok(None);
            };
            let entry = as_written(entry);
            let mut book = Book::new(catalog);
            let call = (host, entry.at);
            let counted = categories::count(transaction, &mut book, call, named, catalog)?;
            let there = book.numbers().among(&counted.there);
            let verdicts: Vec<_> = there.map(|id| (id, Verdict::Confirmed)).collect();
            let entry = CheckIn {
                blobs: verdicts.len() as u64,
                ..entry
            };
            self::enter(transaction, host, &entry)?;
            // What a crawl has found is not its word, and not for it to take back.
            if !counted.lost.is_empty() && categories::is_believed(transaction, host)? {
                let lost = Told {
                    unknown: counted.lost,
                    ..Told::default()
                };
                record::held(transaction, host, Scope::Part, &lost)?;
            }
            let mut repositories = Vec::new();
            if !verdicts.is_empty() {
                let word = Word {
                    host,
                    entry: &entry,
                    scope: Scope::Part,
                    verdicts,
                };
                repositories = believe(transaction, &mut book, word, catalog)?;
                categories::keep_rest(transaction, host, entry.at)?;
            }
            let recorded = recorded(transaction, host, (name, before), repositories)?;
            Ok(recorded.map(|recorded| (entry, recorded)))
        })
    }

    /// Writes down that a private mirror is as it was, if that is so: its state is that of its last report, it carries
    /// one of the `same`, what it said then is not forgotten, and no crawl has failed since: that takes its whole word
    /// to end.
    pub fn check_in_again(
        &mut self,
        host: HostId,
        entry: &CheckIn,
        same: &[Same],
    ) -> Result<bool, Error> {
        self.write("record a check-in in", |transaction| {
            let query = "SELECT last.blobs, last.carried FROM host
                         JOIN presence ON presence.host = host.id
                         JOIN check_in AS last ON last.host = host.id
                         WHERE host.id = ?1 AND host.private = 1 AND host.checked_in_at IS NOT NULL
                           AND host.failed_crawls = 0
                           AND host.state_digest = ?2 AND presence.verified != x''
                           AND last.id = (SELECT max(id) FROM check_in WHERE host = ?1)
                           AND last.way = ?3 AND last.state_digest = ?2 AND last.serial = ?4";
            let last = transaction.query_row(
                query,
                params![
                    host.0,
                    entry.state.map(|state| state.to_string()),
                    entry.way.as_str(),
                    entry.serial.map(count),
                ],
                |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Option<String>>(1)?)),
            );
            let Some((blobs, carried)) = last.optional()? else {
                return Ok(false);
            };
            let (blobs, carried) = (blobs.unsigned_abs(), carried.and_then(|it| it.parse().ok()));
            let is_same = |same: &Same| {
                Some(same.carried) == carried && same.blobs.is_none_or(|it| it == blobs)
            };
            if !same.iter().any(is_same) {
                return Ok(false);
            }
            let entry = CheckIn {
                carried,
                blobs,
                ..as_written(entry)
            };
            self::enter(transaction, host, &entry)?;
            let query = "UPDATE host SET checked_in_at = ?2, hinted_at = NULL WHERE id = ?1";
            transaction.execute(query, params![host.0, clock(entry.at)])?;
            Ok(true)
        })
    }

    /// What a host has said, newest first.
    pub fn check_ins(&self, host: HostId) -> Result<Vec<CheckIn>, Error> {
        let read = || {
            let query =
                "SELECT at, way, serial, state_digest, repositories, blobs, damaged, carried FROM check_in
                         WHERE host = ?1 ORDER BY id DESC";
            let mut statement = self.connection.prepare_cached(query)?;
            let mut rows = statement.query([host.0])?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                let text = |column| row.get::<_, Option<String>>(column);
                let number = |column| {
                    let number = row.get::<_, Option<i64>>(column)?;
                    Ok::<_, rusqlite::Error>(number.map(i64::unsigned_abs))
                };
                let (at, way) = (text(0)?.unwrap_or_default(), text(1)?.unwrap_or_default());
                // What a later version wrote means nothing here.
                if let (Ok(at), Some(way)) = (at.parse(), Way::of(&way)) {
                    found.push(CheckIn {
                        at,
                        way,
                        serial: number(2)?,
                        state: text(3)?.and_then(|digest| digest.parse().ok()),
                        repositories: number(4)?,
                        carried: text(7)?.and_then(|digest| digest.parse().ok()),
                        blobs: number(5)?.unwrap_or_default(),
                        damaged: number(6)?,
                    });
                }
            }
            Ok(found)
        };
        read().map_err(|source| self.failed("read mirrors from", source))
    }
}

/// The name and the health of a private host; `None` if it is gone or public.
fn private(
    transaction: &Transaction<'_>,
    host: HostId,
) -> rusqlite::Result<Option<(String, Health)>> {
    let query = "SELECT 1 FROM host WHERE id = ?1 AND private = 1";
    if !transaction.prepare_cached(query)?.exists([host.0])? {
        return Ok(None);
    }
    health::of(transaction, host)
}

/// What is to be believed of what a host has said.
struct Word<'a> {
    host: HostId,
    entry: &'a CheckIn,
    scope: Scope,
    verdicts: Vec<(BlobId, Verdict)>,
}

/// Takes a host at its word; what changed for its repositories.
fn believe(
    transaction: &Transaction<'_>,
    book: &mut Book,
    word: Word<'_>,
    catalog: &Catalog,
) -> rusqlite::Result<Vec<(RepoName, Change)>> {
    let Word {
        host,
        entry,
        scope,
        verdicts,
    } = word;
    transaction.execute(
        "UPDATE host SET checked_in_at = ?2, state_digest = coalesce(?3, state_digest),
                         tree_serial = coalesce(?4, tree_serial), hinted_at = NULL WHERE id = ?1",
        params![
            host.0,
            clock(entry.at),
            entry.state.map(|state| state.to_string()),
            entry.serial.map(count),
        ],
    )?;
    let at = entry.at.to_string();
    let numbers = record::blobs(transaction, book, &verdicts, catalog)?;
    let by_number = numbers.into_iter().zip(verdicts.iter().map(|told| told.1));
    let told: Told = by_number.collect();
    record::held(transaction, host, scope, &told)?;
    record::reading(transaction, host, entry.at, &told)?;
    let news = (&*at, &*verdicts);
    let repositories = repositories::update(transaction, host, news, book.numbers(), catalog)?;
    // For its health it is as if all of that had been found there.
    let outcome = Outcome::Finished {
        scope,
        verdicts,
        evidence: Vec::new(),
    };
    let found = Crawl::new(entry.at, outcome);
    health::update(transaction, book, host, &found, catalog)?;
    Ok(repositories)
}

/// What a check-in has changed for clients.
fn recorded(
    transaction: &Transaction<'_>,
    host: HostId,
    (name, before): (String, Health),
    repositories: Vec<(RepoName, Change)>,
) -> Result<Option<Recorded>, Failure> {
    let after = health::of(transaction, host)?.map_or(Health::Healthy, |(_, after)| after);
    // A name that was spoilt by hand is nobody's.
    Ok(name.parse().ok().map(|name| Recorded {
        name,
        before,
        after,
        repositories,
    }))
}

/// A check-in as of now, when its transaction has begun. One that has waited for the lock would else be older than a
/// crawl that was begun meanwhile, in ignorance of it: nothing but the lock puts the two in order.
fn as_written(entry: &CheckIn) -> CheckIn {
    CheckIn {
        at: entry.at.max(Timestamp::now()),
        ..entry.clone()
    }
}

/// Enters a check-in into the history of its host, and forgets the oldest.
fn enter(transaction: &Transaction<'_>, host: HostId, entry: &CheckIn) -> rusqlite::Result<()> {
    transaction.execute(
        "INSERT INTO check_in (host, at, way, serial, state_digest, repositories, blobs, damaged, carried)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        params![
            host.0,
            entry.at.to_string(),
            entry.way.as_str(),
            entry.serial.map(count),
            entry.state.map(|state| state.to_string()),
            entry.repositories.map(count),
            count(entry.blobs),
            entry.damaged.map(count),
            entry.carried.map(|carried| carried.to_string()),
        ],
    )?;
    transaction.execute(
        "DELETE FROM check_in WHERE host = ?1 AND id <=
           (SELECT id FROM check_in WHERE host = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)",
        params![host.0, HISTORY],
    )?;
    Ok(())
}
