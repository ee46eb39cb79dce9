//! Crawls: what was found at a host, and what follows for its clients.

use std::collections::HashMap;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use oci_mirror::digest::Digest;
use oci_mirror::tree::Catalog;
use oci_mirror::tree::catalog::BlobId;
use roaring::RoaringBitmap;
use rusqlite::{OptionalExtension as _, Transaction, TransactionBehavior, params};

use super::{Database, Error};
use crate::network::{Host, HostId, HostName};
use crate::presence::{self, HostPosition, Presence};

/// Most pieces of evidence kept per host: enough to show its admin, not enough to fill a disk.
const MAX_EVIDENCE: u32 = 100;

/// One crawl of one host.
#[derive(Debug, Clone)]
pub struct Crawl {
    /// When it ended.
    pub at: Timestamp,
    /// What it came to.
    pub outcome: Outcome,
}

/// What a crawl came to.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// It could not be finished; what was known before is set aside until one can.
    Failed(String),
    /// It went through.
    Finished {
        /// Whether the bytes of every blob were read, not only their presence looked at.
        whole: bool,
        /// What was found of each blob the host should carry.
        verdicts: Vec<(BlobId, Verdict)>,
        /// What was wrong with the damaged ones.
        evidence: Vec<Evidence>,
    },
}

/// What was found of one blob at one host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// All its bytes were read and have the right digest.
    Read,
    /// It is there with the right length, and its bytes were read not long ago.
    Confirmed,
    /// It is not there.
    Missing,
    /// It is there and wrong.
    Damaged,
    /// It could not be told; never taken for missing.
    Unknown,
}

/// Proof that a host sent something wrong.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Evidence {
    /// Which blob.
    pub digest: Digest,
    /// Where it was fetched from.
    pub url: String,
    /// What was found instead.
    pub found: String,
}

impl Database {
    /// Writes down a crawl, all of it or nothing; that of a host removed meanwhile is passed over.
    pub fn record_crawl(
        &mut self,
        host: HostId,
        crawl: &Crawl,
        catalog: &Catalog,
    ) -> Result<(), Error> {
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
        record(&transaction, host, crawl, catalog).map_err(failed)?;
        transaction.commit().map_err(failed)
    }

    /// For each blob of the catalog, the day on which its bytes were last read whole and right from the
    /// host, if it is still held to be there.
    pub fn last_read(&self, host: HostId, catalog: &Catalog) -> Result<Vec<Option<Date>>, Error> {
        let read = || {
            let verified = verified_by(&self.connection, host)?;
            let mut days = vec![None; catalog.blobs().len()];
            let numbers = numbers(&self.connection, catalog)?;
            let mut statement = self
                .connection
                .prepare_cached("SELECT day, blobs FROM reading WHERE host = ?1 ORDER BY day")?;
            let mut rows = statement.query([host.0])?;
            while let Some(row) = rows.next()? {
                let (day, blobs): (String, Vec<u8>) = (row.get(0)?, row.get(1)?);
                let Ok(day) = day.parse::<Date>() else {
                    continue;
                };
                for id in numbers.among(&(bitmap(&blobs) & &verified)) {
                    days[id.index()] = Some(day);
                }
            }
            Ok(days)
        };
        read().map_err(|source| self.failed("read crawls from", source))
    }

    /// Which of `hosts` was verified to hold which blob of the catalog.
    pub fn presence(&self, catalog: &Catalog, hosts: &[Host]) -> Result<Presence, Error> {
        let read = || {
            let numbers = numbers(&self.connection, catalog)?;
            let mut presence = presence::Builder::new(catalog.blobs().len(), hosts.len());
            for (position, host) in (0..).zip(hosts) {
                let verified = verified_by(&self.connection, host.id)?;
                presence.add(HostPosition(position), numbers.among(&verified));
            }
            Ok(presence.finish())
        };
        read().map_err(|source| self.failed("read crawls from", source))
    }

    /// Whether the database knows one of the blobs of the catalog whose numbers are `from` or more, or
    /// there are too many to ask.
    pub fn has_met(&self, catalog: &Catalog, from: usize) -> Result<bool, Error> {
        const MANY: usize = 10_000;
        let new = from..catalog.blobs().len();
        if new.len() > MANY {
            return Ok(true);
        }
        let has_met = || {
            let query = "SELECT 1 FROM blob WHERE digest = ?1";
            let mut find = self.connection.prepare_cached(query)?;
            for number in new {
                if find.exists([catalog.blobs()[number].digest.to_string()])? {
                    return Ok(true);
                }
            }
            Ok(false)
        };
        has_met().map_err(|source| self.failed("read crawls from", source))
    }

    /// How many blobs the host was verified to hold at its last crawl.
    pub fn verified_count(&self, host: HostId) -> Result<u64, Error> {
        let verified = verified_by(&self.connection, host);
        Ok(verified
            .map_err(|source| self.failed("read crawls from", source))?
            .len())
    }

    /// What is held against a host, newest first, with the times it was seen.
    pub fn evidence(&self, name: &HostName) -> Result<Vec<(String, Evidence)>, Error> {
        let read = || {
            let mut statement = self.connection.prepare_cached(
                "SELECT seen_at, digest, url, found FROM evidence
                 WHERE host = (SELECT id FROM host WHERE name = ?1) ORDER BY id DESC",
            )?;
            let rows = statement.query_map([name.as_str()], |row| {
                Ok((
                    row.get::<_, String>(0)?,
                    row.get::<_, String>(1)?,
                    row.get(2)?,
                    row.get(3)?,
                ))
            })?;
            let mut found = Vec::new();
            for row in rows {
                let (seen_at, digest, url, wrong) = row?;
                if let Ok(digest) = digest.parse() {
                    found.push((
                        seen_at,
                        Evidence {
                            digest,
                            url,
                            found: wrong,
                        },
                    ));
                }
            }
            Ok(found)
        };
        read().map_err(|source| self.failed("read crawls from", source))
    }
}

fn record(
    transaction: &Transaction<'_>,
    host: HostId,
    crawl: &Crawl,
    catalog: &Catalog,
) -> rusqlite::Result<()> {
    let is_there = "SELECT 1 FROM host WHERE id = ?1";
    if transaction
        .query_row(is_there, [host.0], |_| Ok(()))
        .optional()?
        .is_none()
    {
        return Ok(());
    }
    let at = crawl.at.to_string();
    match &crawl.outcome {
        Outcome::Failed(reason) => {
            transaction.execute(
                "UPDATE host SET failed_crawls = failed_crawls + 1, failure = ?2, crawled_at = ?3 WHERE id = ?1",
                params![host.0, reason, at],
            )?;
        }
        Outcome::Finished {
            whole,
            verdicts,
            evidence,
        } => {
            let numbers = enter_blobs(transaction, verdicts, catalog)?;
            let select = |wanted: &[Verdict]| -> RoaringBitmap {
                let chosen = verdicts
                    .iter()
                    .zip(&numbers)
                    .filter(|((_, verdict), _)| wanted.contains(verdict));
                chosen.map(|(_, number)| *number).collect()
            };
            transaction.execute(
                "INSERT OR REPLACE INTO presence (host, verified, missing, damaged) VALUES (?1, ?2, ?3, ?4)",
                params![
                    host.0,
                    bytes(select(&[Verdict::Read, Verdict::Confirmed])),
                    bytes(select(&[Verdict::Missing])),
                    bytes(select(&[Verdict::Damaged])),
                ],
            )?;
            record_reading(transaction, host, crawl.at, &select(&[Verdict::Read]))?;
            for piece in evidence {
                transaction.execute(
                    "INSERT INTO evidence (host, digest, url, found, seen_at) VALUES (?1, ?2, ?3, ?4, ?5)",
                    params![host.0, piece.digest.to_string(), piece.url, piece.found, at],
                )?;
            }
            transaction.execute(
                "DELETE FROM evidence WHERE host = ?1 AND id NOT IN
                   (SELECT id FROM evidence WHERE host = ?1 ORDER BY id DESC LIMIT ?2)",
                params![host.0, MAX_EVIDENCE],
            )?;
            transaction.execute(
                "UPDATE host SET failed_crawls = 0, failure = NULL, crawled_at = ?2 WHERE id = ?1",
                params![host.0, at],
            )?;
            if let Some(piece) = evidence.first() {
                let reason = format!(
                    "{} is damaged at {}: {}",
                    piece.digest, piece.url, piece.found
                );
                transaction.execute(
                    "UPDATE host SET quarantine = ?2 WHERE id = ?1",
                    params![host.0, reason],
                )?;
            } else if *whole {
                // Only having read everything proves that the damage is gone.
                transaction.execute("UPDATE host SET quarantine = NULL WHERE id = ?1", [host.0])?;
            }
        }
    }
    Ok(())
}

/// Moves what was read now to the day of the crawl.
fn record_reading(
    transaction: &Transaction<'_>,
    host: HostId,
    at: Timestamp,
    read: &RoaringBitmap,
) -> rusqlite::Result<()> {
    let today = at.to_zoned(TimeZone::UTC).date().to_string();
    let mut statement = transaction.prepare("SELECT day, blobs FROM reading WHERE host = ?1")?;
    let rows = statement.query_map([host.0], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, Vec<u8>>(1)?))
    })?;
    let mut days: HashMap<String, RoaringBitmap> = HashMap::new();
    for row in rows {
        let (day, blobs) = row?;
        days.insert(day, bitmap(&blobs) - read);
    }
    *days.entry(today).or_default() |= read;
    for (day, blobs) in days {
        if blobs.is_empty() {
            transaction.execute(
                "DELETE FROM reading WHERE host = ?1 AND day = ?2",
                params![host.0, day],
            )?;
        } else {
            transaction.execute(
                "INSERT OR REPLACE INTO reading (host, day, blobs) VALUES (?1, ?2, ?3)",
                params![host.0, day, bytes(blobs)],
            )?;
        }
    }
    Ok(())
}

/// The database's numbers of the blobs of the verdicts, entering those it has not met.
fn enter_blobs(
    transaction: &Transaction<'_>,
    verdicts: &[(BlobId, Verdict)],
    catalog: &Catalog,
) -> rusqlite::Result<Vec<u32>> {
    let mut find = transaction.prepare_cached("SELECT id FROM blob WHERE digest = ?1")?;
    let mut enter =
        transaction.prepare_cached("INSERT INTO blob (digest, size) VALUES (?1, ?2)")?;
    let mut numbers = Vec::with_capacity(verdicts.len());
    for (id, _) in verdicts {
        let blob = catalog.blob(*id);
        let digest = blob.digest.to_string();
        let number = match find.query_row([&digest], |row| row.get(0)).optional()? {
            Some(number) => number,
            None => {
                enter.execute(params![
                    digest,
                    i64::try_from(blob.size).unwrap_or(i64::MAX)
                ])?;
                u32::try_from(transaction.last_insert_rowid()).unwrap_or(u32::MAX)
            }
        };
        numbers.push(number);
    }
    Ok(numbers)
}

/// The blobs of the catalog by the database's numbers, in their order.
struct Numbers(Vec<(u32, BlobId)>);

impl Numbers {
    /// The blobs with the given numbers; both are in order, so one pass finds them.
    fn among(&self, wanted: &RoaringBitmap) -> impl Iterator<Item = BlobId> {
        let mut rest = self.0.iter().peekable();
        wanted.iter().filter_map(move |number| {
            while rest.next_if(|(known, _)| *known < number).is_some() {}
            let found = rest.next_if(|(known, _)| *known == number);
            found.map(|(_, id)| *id)
        })
    }
}

fn numbers(connection: &rusqlite::Connection, catalog: &Catalog) -> rusqlite::Result<Numbers> {
    let mut statement = connection.prepare_cached("SELECT id, digest FROM blob ORDER BY id")?;
    let mut rows = statement.query(())?;
    let mut numbers = Vec::with_capacity(catalog.blobs().in_use());
    while let Some(row) = rows.next()? {
        // Borrowed: there may be a million.
        let digest = row.get_ref(1)?.as_str().ok();
        let digest = digest.and_then(|text| text.parse::<Digest>().ok());
        if let Some(id) = digest.and_then(|digest| catalog.id(&digest)) {
            numbers.push((row.get(0)?, id));
        }
    }
    Ok(Numbers(numbers))
}

/// The blobs the host was verified to hold at its last crawl, by the database's numbers.
fn verified_by(connection: &rusqlite::Connection, host: HostId) -> rusqlite::Result<RoaringBitmap> {
    let query = "SELECT verified FROM presence WHERE host = ?1";
    let blob: Option<Vec<u8>> = connection
        .query_row(query, [host.0], |row| row.get(0))
        .optional()?;
    Ok(blob.map(|blob| bitmap(&blob)).unwrap_or_default())
}

/// A damaged bitmap reads as empty: the host then gets no clients until it is crawled again.
fn bitmap(bytes: &[u8]) -> RoaringBitmap {
    RoaringBitmap::deserialize_from(bytes).unwrap_or_default()
}

fn bytes(mut bitmap: RoaringBitmap) -> Vec<u8> {
    // A mirror that holds nearly all is a few runs of numbers.
    bitmap.optimize();
    let mut bytes = Vec::with_capacity(bitmap.serialized_size());
    // Writing to a vector cannot fail.
    drop(bitmap.serialize_into(&mut bytes));
    bytes
}

#[cfg(test)]
mod tests {
    use oci_mirror::descriptor::Descriptor;
    use oci_mirror::digest::Algorithm;
    use oci_mirror::media_type::MediaType;
    use oci_mirror::tree::TreeWriter;
    use oci_mirror::tree::writer::Image;

    use super::super::hosts::tests::new_host;
    use super::*;
    use crate::network::Health;

    /// A catalog of one manifest and its config.
    fn catalog(root: &std::path::Path) -> Catalog {
        let writer = TreeWriter::open(root).unwrap();
        let config = Algorithm::Sha256.digest(b"{}");
        let manifest = format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"application/vnd.oci.empty.v1+json","digest":"{config}","size":2}},"layers":[]}}"#
        );
        let digest = Algorithm::Sha256.digest(manifest.as_bytes());
        writer.stage_bytes(config, b"{}").unwrap();
        writer.stage_bytes(digest, manifest.as_bytes()).unwrap();
        let root = Descriptor::new(MediaType::OCI_MANIFEST, digest, manifest.len() as u64);
        let image = Image {
            repo: "a".parse().unwrap(),
            tag: "1".parse().ok(),
            root,
            reach: vec![config, digest],
            tag_referrers: None,
        };
        writer.publish(&[image]).unwrap();
        writer.finish(Timestamp::UNIX_EPOCH).unwrap();
        Catalog::load(writer.tree(), None).unwrap()
    }

    fn finished(whole: bool, verdicts: Vec<(BlobId, Verdict)>, evidence: Vec<Evidence>) -> Crawl {
        Crawl {
            at: Timestamp::UNIX_EPOCH,
            outcome: Outcome::Finished {
                whole,
                verdicts,
                evidence,
            },
        }
    }

    #[test]
    fn a_host_passes_through_its_states() {
        let dir = tempfile::tempdir().unwrap();
        let catalog = catalog(&dir.path().join("tree"));
        let mut database = Database::open(&dir.path().join("x.db")).unwrap();
        let new = new_host("m", "https://m.example/t");
        let id = database.add_host(&new).unwrap();
        let health = |database: &Database| database.host(&new.name).unwrap().host.health;
        let held = |database: &Database| {
            let hosts = database.hosts().unwrap();
            let presence = database.presence(&catalog, &hosts).unwrap();
            (0..2)
                .map(|blob| !presence.of(BlobId(blob)).is_empty())
                .collect::<Vec<_>>()
        };
        assert_eq!(held(&database), [false, false]);

        let both = vec![(BlobId(0), Verdict::Read), (BlobId(1), Verdict::Read)];
        database
            .record_crawl(id, &finished(true, both.clone(), vec![]), &catalog)
            .unwrap();
        assert_eq!(
            (health(&database), held(&database)),
            (Health::Healthy, vec![true, true])
        );
        assert_eq!(
            database.last_read(id, &catalog).unwrap(),
            [Some(Date::constant(1970, 1, 1)); 2]
        );

        let failed = Crawl {
            at: Timestamp::UNIX_EPOCH,
            outcome: Outcome::Failed("refused".to_owned()),
        };
        database.record_crawl(id, &failed, &catalog).unwrap();
        assert_eq!(
            health(&database),
            Health::Failing {
                crawls: 1,
                reason: "refused".to_owned()
            }
        );

        let lost = vec![
            (BlobId(0), Verdict::Confirmed),
            (BlobId(1), Verdict::Missing),
        ];
        database
            .record_crawl(id, &finished(false, lost, vec![]), &catalog)
            .unwrap();
        assert_eq!(
            (health(&database), held(&database)),
            (Health::Healthy, vec![true, false])
        );

        let digest = catalog.blob(BlobId(1)).digest;
        let evidence = Evidence {
            digest,
            url: "https://m/x".to_owned(),
            found: "nonsense".to_owned(),
        };
        let damaged = vec![(BlobId(0), Verdict::Read), (BlobId(1), Verdict::Damaged)];
        database
            .record_crawl(
                id,
                &finished(true, damaged, vec![evidence.clone()]),
                &catalog,
            )
            .unwrap();
        assert!(matches!(health(&database), Health::Quarantined { .. }));
        assert_eq!(database.evidence(&new.name).unwrap()[0].1, evidence);

        database
            .record_crawl(id, &finished(false, both.clone(), vec![]), &catalog)
            .unwrap();
        assert!(
            matches!(health(&database), Health::Quarantined { .. }),
            "only a whole crawl clears it"
        );
        database
            .record_crawl(id, &finished(true, both, vec![]), &catalog)
            .unwrap();
        assert_eq!(health(&database), Health::Healthy);
    }
}
