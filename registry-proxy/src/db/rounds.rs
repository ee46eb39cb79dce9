//! Rounds of crawls: when each host was crawled, by whom it is being crawled, and what is known of it
//! before it is looked at again.

use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp};
use oci_mirror::digest::Digest;
use oci_mirror::tree::Catalog;
use roaring::RoaringBitmap;
use rusqlite::{OptionalExtension as _, params};

use super::held::Held;
use super::numbers::{Book, Numbering};
use super::presence::bitmap;
use super::{Crawl, Database, Error, health, record};
use crate::network::{Host, HostId};

/// What is known of a host. Bitmaps are over the numbers of one catalog, and of no other.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Known {
    /// Blobs that are there, and of which bytes were read there and were right.
    pub verified: RoaringBitmap,
    /// Blobs that are not there.
    pub missing: RoaringBitmap,
    /// Blobs that are there and wrong.
    pub damaged: RoaringBitmap,
    /// For each blob of the catalog, the day on which its bytes were last read whole and right, if it
    /// is still held to be there.
    pub read: Vec<Option<Date>>,
    /// When the last crawl ended that went through.
    pub finished_at: Option<Timestamp>,
    /// The digest of the mirror's own `state.json`, when it was last seen.
    pub state: Option<Digest>,
    /// When the crawls that are remembered ended, and how many bytes each has read; the oldest first.
    pub bytes: Vec<(Timestamp, u64)>,
}

impl Known {
    /// The three sets.
    pub fn held(&self) -> Held {
        Held {
            verified: self.verified.clone(),
            missing: self.missing.clone(),
            damaged: self.damaged.clone(),
        }
    }
}

/// A host, and when it was crawled.
#[derive(Debug, Clone, PartialEq)]
pub struct Turn {
    /// The host.
    pub host: Host,
    /// When the last crawl ended, whatever it came to.
    pub crawled_at: Option<Timestamp>,
    /// When the last one ended that went through.
    pub finished_at: Option<Timestamp>,
    /// Until when somebody has it for himself.
    pub claimed_until: Option<Timestamp>,
    /// When a check-in last said that there is something new, if it was not crawled since.
    pub hinted_at: Option<Timestamp>,
    /// The last check-in by which it is known what the host holds.
    pub checked_in_at: Option<Timestamp>,
}

impl Turn {
    /// Whether it is known what the host holds because it says so itself: nobody else can look.
    pub fn checks_in(&self) -> bool {
        self.host.is_private() && self.checked_in_at.is_some()
    }
}

/// No claim is for longer; one that is was made by a clock that has gone back since.
const LONGEST_CLAIM: SignedDuration = SignedDuration::from_hours(1);

impl Database {
    /// All hosts, with the times by which their turns are reckoned.
    pub fn turns(&self) -> Result<Vec<Turn>, Error> {
        let hosts = self.hosts()?;
        let read = || {
            let query = "SELECT crawled_at, finished_at, claimed_until, hinted_at, checked_in_at FROM host WHERE id = ?1";
            let mut statement = self.connection.prepare_cached(query)?;
            let mut turns = Vec::with_capacity(hosts.len());
            for host in hosts {
                let times = statement.query_row([host.id.0], |row| {
                    let time = |column| row.get::<_, Option<String>>(column);
                    Ok([time(0)?, time(1)?, time(2)?, time(3)?, time(4)?])
                });
                // It may have been removed a moment ago.
                let Some(times) = times.optional()? else {
                    continue;
                };
                let [
                    crawled_at,
                    finished_at,
                    claimed_until,
                    hinted_at,
                    checked_in_at,
                ] = times.map(|time| time.and_then(|text| text.parse().ok()));
                turns.push(Turn {
                    host,
                    crawled_at,
                    finished_at,
                    claimed_until,
                    hinted_at,
                    checked_in_at,
                });
            }
            Ok(turns)
        };
        read().map_err(|source| self.failed("read mirrors from", source))
    }

    /// Takes a host for oneself until some time, and says whether nobody else has it. The recording of
    /// a crawl gives it back. What is gone is nobody's.
    pub fn claim(&self, host: HostId, now: Timestamp, until: Timestamp) -> Result<bool, Error> {
        let claim = || {
            let changed = self.connection.execute(
                "UPDATE host SET claimed_until = ?2 WHERE id = ?1
                 AND (claimed_until IS NULL OR claimed_until < ?3 OR claimed_until > ?4)",
                params![host.0, clock(until), clock(now), clock(now + LONGEST_CLAIM)],
            )?;
            let query = "SELECT 1 FROM host WHERE id = ?1";
            Ok(changed > 0 || !self.connection.prepare_cached(query)?.exists([host.0])?)
        };
        claim().map_err(|source| self.failed("claim a mirror in", source))
    }

    /// As [`Turn::checks_in`], of one host as it is now.
    pub fn checks_in(&self, host: HostId) -> Result<bool, Error> {
        let query =
            "SELECT 1 FROM host WHERE id = ?1 AND private = 1 AND checked_in_at IS NOT NULL";
        let find = || self.connection.prepare_cached(query)?.exists([host.0]);
        find().map_err(|source| self.failed("read mirrors from", source))
    }

    /// Keeps a host that one has `until` then for longer.
    pub fn hold(&self, host: HostId, until: Timestamp, longer: Timestamp) -> Result<(), Error> {
        let changed = self.connection.execute(
            "UPDATE host SET claimed_until = ?3 WHERE id = ?1 AND claimed_until = ?2",
            params![host.0, clock(until), clock(longer)],
        );
        changed
            .map(drop)
            .map_err(|source| self.failed("claim a mirror in", source))
    }

    /// Gives a host back.
    pub fn release(&self, host: HostId) -> Result<(), Error> {
        let query = "UPDATE host SET claimed_until = NULL WHERE id = ?1";
        let changed = self.connection.execute(query, [host.0]);
        changed
            .map(drop)
            .map_err(|source| self.failed("claim a mirror in", source))
    }

    /// Gives a host back after a crawl that says nothing of it. What it took is remembered.
    pub fn give_back(&mut self, host: HostId, crawl: &Crawl) -> Result<(), Error> {
        self.write("record a crawl in", |transaction| {
            if health::of(transaction, host)?.is_some() {
                record::history(transaction, host, crawl, &record::Counts::default())?;
            }
            let query = "UPDATE host SET claimed_until = NULL WHERE id = ?1";
            transaction.execute(query, [host.0])?;
            Ok(())
        })
    }

    /// What is known of a host, by the numbers of a catalog.
    pub fn known(&self, host: HostId, catalog: &Catalog) -> Result<Known, Error> {
        self.known_in(&mut Book::new(catalog), host, catalog)
    }

    /// The same by numbers that are kept.
    pub fn known_by(&self, host: HostId, numbering: &Numbering) -> Result<Known, Error> {
        numbering.with(|book, catalog| self.known_in(book, host, catalog))
    }

    fn known_in(&self, book: &mut Book, host: HostId, catalog: &Catalog) -> Result<Known, Error> {
        let mut read = || {
            book.bring_up_to_date(&self.connection, catalog)?;
            let numbers = book.numbers();
            let mut known = Known {
                read: vec![None; catalog.blobs().len()],
                ..Known::default()
            };
            let query = "SELECT verified, missing, damaged FROM presence WHERE host = ?1";
            let found = self.connection.query_row(query, [host.0], |row| {
                let map = |column| row.get(column).map(|bytes: Vec<u8>| bitmap(&bytes));
                Ok([map(0)?, map(1)?, map(2)?])
            });
            let found = found.optional()?.unwrap_or_default();
            let [verified, missing, damaged] = found
                .each_ref()
                .map(|map| numbers.among(map).map(|id| id.0).collect());
            (known.verified, known.missing, known.damaged) = (verified, missing, damaged);
            let mut statement = self
                .connection
                .prepare_cached("SELECT day, blobs FROM reading WHERE host = ?1 ORDER BY day")?;
            let mut rows = statement.query([host.0])?;
            while let Some(row) = rows.next()? {
                let (day, blobs): (String, Vec<u8>) = (row.get(0)?, row.get(1)?);
                let Ok(day) = day.parse::<Date>() else {
                    continue;
                };
                for id in numbers.among(&(bitmap(&blobs) & &found[0])) {
                    known.read[id.index()] = Some(day);
                }
            }
            let query = "SELECT finished_at, state_digest FROM host WHERE id = ?1";
            let found = self.connection.query_row(query, [host.0], |row| {
                Ok((
                    row.get::<_, Option<String>>(0)?,
                    row.get::<_, Option<String>>(1)?,
                ))
            });
            let (finished_at, state) = found.optional()?.unwrap_or_default();
            known.finished_at = finished_at.and_then(|at| at.parse().ok());
            known.state = state.and_then(|digest| digest.parse().ok());
            known.bytes = self.bytes(host)?;
            Ok(known)
        };
        read().map_err(|source| self.failed("read crawls from", source))
    }

    /// How many bytes the crawls of a host that are remembered have read.
    fn bytes(&self, host: HostId) -> rusqlite::Result<Vec<(Timestamp, u64)>> {
        let query = "SELECT ended_at, bytes FROM crawl WHERE host = ?1 ORDER BY id";
        let mut statement = self.connection.prepare_cached(query)?;
        let mut rows = statement.query([host.0])?;
        let mut crawls = Vec::new();
        while let Some(row) = rows.next()? {
            let (ended, bytes): (String, i64) = (row.get(0)?, row.get(1)?);
            if let Ok(ended) = ended.parse() {
                crawls.push((ended, bytes.unsigned_abs()));
            }
        }
        Ok(crawls)
    }
}

/// A time as text that sorts as times do.
pub(super) fn clock(time: Timestamp) -> String {
    format!("{time:.6}")
}

#[cfg(test)]
mod tests {
    use super::super::hosts::tests::new_host;
    use super::*;

    #[test]
    fn a_host_is_claimed_by_one_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.db");
        let mut one = Database::open(&path).unwrap();
        let other = Database::open(&path).unwrap();
        let id = one.add_host(&new_host("m", "https://m.example")).unwrap();
        let at = |seconds: i64| Timestamp::from_second(seconds).unwrap();
        assert!(one.claim(id, at(0), at(60)).unwrap());
        assert!(!other.claim(id, at(30), at(90)).unwrap());
        assert_eq!(other.turns().unwrap()[0].claimed_until, Some(at(60)));

        one.hold(id, at(60), at(120)).unwrap();
        assert!(!other.claim(id, at(61), at(121)).unwrap(), "it was renewed");
        other.hold(id, at(60), at(999)).unwrap();
        assert!(!other.claim(id, at(61), at(121)).unwrap(), "not his");
        one.release(id).unwrap();
        assert!(other.claim(id, at(61), at(121)).unwrap(), "given back");

        let half = at(121) + SignedDuration::from_millis(500);
        assert!(one.claim(id, half, at(200)).unwrap(), "its time is over");
        let before = at(-9000);
        assert!(
            other.claim(id, before, at(0)).unwrap(),
            "the clock went back"
        );
        let gone = HostId(id.0 + 1);
        assert!(one.claim(gone, at(0), at(60)).unwrap());
    }
}
