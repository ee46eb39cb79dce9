//! Crawls: what was found at a host, and what follows for its clients.

use std::collections::HashMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use oci_mirror::digest::Digest;
use oci_mirror::reference::RepoName;
use oci_mirror::tree::Catalog;
use oci_mirror::tree::catalog::BlobId;
use roaring::RoaringBitmap;
use rusqlite::{OptionalExtension as _, Transaction, TransactionBehavior, params};

use super::evidence::{self, Evidence};
use super::held::{Held, Told};
use super::presence::{bitmap, bytes};
use super::probes::{self, Probe};
use super::{Database, Error, health, repositories};
use crate::network::{Health, HostId, HostName};

/// One crawl of one host.
#[derive(Debug, Clone)]
pub struct Crawl {
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
}

impl Crawl {
    /// A crawl of which no more is known than what it came to.
    pub fn new(at: Timestamp, outcome: Outcome) -> Self {
        Self {
            began: at,
            at,
            outcome,
            cost: Cost::default(),
            state: None,
            probes: Vec::new(),
            sampled: Sampled::default(),
            is_complete: true,
        }
    }
}

/// What a crawl took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cost {
    /// Requests made.
    pub requests: u64,
    /// Bytes of blobs read.
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
        let recorded = record(&transaction, host, crawl, catalog).map_err(failed)?;
        transaction.commit().map_err(failed)?;
        Ok(recorded)
    }
}

fn record(
    transaction: &Transaction<'_>,
    host: HostId,
    crawl: &Crawl,
    catalog: &Catalog,
) -> rusqlite::Result<Option<Recorded>> {
    let Some((name, before)) = health::of(transaction, host)? else {
        return Ok(None);
    };
    let at = crawl.at.to_string();
    let mut counts = Counts::default();
    let mut changes = Vec::new();
    probes::enter(transaction, host, &at, &crawl.probes)?;
    if let Outcome::Finished {
        scope,
        verdicts,
        evidence,
    } = &crawl.outcome
    {
        let numbers = enter_blobs(transaction, verdicts, catalog)?;
        let by_number = numbers.into_iter().zip(verdicts.iter().map(|told| told.1));
        let told: Told = by_number.collect();
        let held = record_held(transaction, host, *scope, &told)?;
        record_reading(transaction, host, crawl.at, &told)?;
        evidence::enter(transaction, host, &at, evidence)?;
        changes = repositories::update(transaction, host, &at, verdicts, catalog)?;
        if crawl.is_complete {
            record_turn(transaction, host, &at, crawl.state)?;
        }
        counts = Counts {
            verified: held.verified.len(),
            present: told.present.len(),
            missing: held.missing.len(),
            damaged: held.damaged.len(),
            unknown: told.unknown.len(),
        };
    }
    health::update(transaction, host, &at, &crawl.outcome)?;
    enter_history(transaction, host, crawl, &counts)?;
    // Whoever crawled it is done.
    transaction.execute(
        "UPDATE host SET claimed_until = NULL WHERE id = ?1",
        [host.0],
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

/// How many blobs of a host are what after a crawl.
#[derive(Debug, Default)]
struct Counts {
    verified: u64,
    present: u64,
    missing: u64,
    damaged: u64,
    unknown: u64,
}

/// Brings what is known of the blobs of a host up to date, and returns it.
///
/// The revision tells front ends which hosts they have to read again, so it grows only with a change.
fn record_held(
    transaction: &Transaction<'_>,
    host: HostId,
    scope: Scope,
    told: &Told,
) -> rusqlite::Result<Held> {
    let query = "SELECT verified, missing, damaged FROM presence WHERE host = ?1";
    let row = transaction.query_row(query, [host.0], |row| {
        let map = |column| row.get(column).map(|bytes: Vec<u8>| bitmap(&bytes));
        Ok(Held {
            verified: map(0)?,
            missing: map(1)?,
            damaged: map(2)?,
        })
    });
    let before = row.optional()?;
    let after = before.clone().unwrap_or_default().after(scope, told);
    if before.as_ref() != Some(&after) {
        transaction.execute(
            "INSERT OR REPLACE INTO presence (host, verified, missing, damaged, revision)
             SELECT ?1, ?2, ?3, ?4, 1 + coalesce(max(revision), 0) FROM presence",
            params![
                host.0,
                bytes(after.verified.clone()),
                bytes(after.missing.clone()),
                bytes(after.damaged.clone()),
            ],
        )?;
    }
    Ok(after)
}

/// From when on the next crawl counts whose turn it is, and what the mirror's state was.
fn record_turn(
    transaction: &Transaction<'_>,
    host: HostId,
    at: &str,
    state: Option<TreeState>,
) -> rusqlite::Result<()> {
    transaction.execute(
        "UPDATE host SET finished_at = ?2 WHERE id = ?1",
        params![host.0, at],
    )?;
    if let Some(state) = state {
        transaction.execute(
            "UPDATE host SET state_digest = ?2, tree_serial = ?3 WHERE id = ?1",
            params![host.0, state.digest.to_string(), state.serial.map(count),],
        )?;
    }
    Ok(())
}

/// Enters a crawl into the history of its host, and forgets the oldest.
fn enter_history(
    transaction: &Transaction<'_>,
    host: HostId,
    crawl: &Crawl,
    counts: &Counts,
) -> rusqlite::Result<()> {
    let failure = match &crawl.outcome {
        Outcome::Failed(reason) => Some(reason),
        Outcome::Finished { .. } => None,
    };
    transaction.execute(
        "INSERT INTO crawl (host, began_at, ended_at, failure, requests, bytes, verified, present, missing,
                            damaged, unknown, sampled, undetected)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
        params![
            host.0,
            crawl.began.to_string(),
            crawl.at.to_string(),
            failure,
            count(crawl.cost.requests),
            count(crawl.cost.bytes),
            count(counts.verified),
            count(counts.present),
            count(counts.missing),
            count(counts.damaged),
            count(counts.unknown),
            count(crawl.sampled.blobs),
            crawl.sampled.undetected,
        ],
    )?;
    transaction.execute(
        "DELETE FROM crawl WHERE host = ?1 AND id <=
           (SELECT id FROM crawl WHERE host = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)",
        params![host.0, HISTORY],
    )?;
    Ok(())
}

fn count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// How many crawls of a host are remembered.
const HISTORY: u32 = 200;

/// Moves what was read now to the day of the crawl. What is gone or wrong was not read: if it comes
/// back, it is another file.
fn record_reading(
    transaction: &Transaction<'_>,
    host: HostId,
    at: Timestamp,
    told: &Told,
) -> rusqlite::Result<()> {
    let gone = &told.read | &told.missing | &told.damaged;
    if gone.is_empty() {
        return Ok(());
    }
    let today = at.to_zoned(TimeZone::UTC).date().to_string();
    let mut statement = transaction.prepare("SELECT day, blobs FROM reading WHERE host = ?1")?;
    let rows = statement.query_map([host.0], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, Vec<u8>>(1)?))
    })?;
    let mut days: HashMap<String, RoaringBitmap> = HashMap::new();
    for row in rows {
        let (day, blobs) = row?;
        days.insert(day, bitmap(&blobs) - &gone);
    }
    *days.entry(today).or_default() |= &told.read;
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
    // Reading all numbers is faster than asking for each blob, unless few are wanted.
    let all = if verdicts.len() * 8 < catalog.blobs().len() {
        None
    } else {
        Some(all_numbers(transaction, catalog)?)
    };
    let mut find = transaction.prepare_cached("SELECT id FROM blob WHERE digest = ?1")?;
    let mut enter =
        transaction.prepare_cached("INSERT INTO blob (digest, size) VALUES (?1, ?2)")?;
    let mut numbers = Vec::with_capacity(verdicts.len());
    for (id, _) in verdicts {
        let blob = catalog.blob(*id);
        let met = match &all {
            Some(all) => all[id.index()],
            None => {
                let digest = blob.digest.to_string();
                find.query_row([digest], |row| row.get(0)).optional()?
            }
        };
        let number = match met {
            Some(number) => number,
            None => {
                enter.execute(params![blob.digest.to_string(), count(blob.size)])?;
                u32::try_from(transaction.last_insert_rowid()).unwrap_or(u32::MAX)
            }
        };
        numbers.push(number);
    }
    Ok(numbers)
}

/// For each blob of the catalog, the database's number, if it has met it.
fn all_numbers(
    transaction: &Transaction<'_>,
    catalog: &Catalog,
) -> rusqlite::Result<Vec<Option<u32>>> {
    let mut numbers = vec![None; catalog.blobs().len()];
    let mut statement = transaction.prepare_cached("SELECT id, digest FROM blob")?;
    let mut rows = statement.query(())?;
    while let Some(row) = rows.next()? {
        let digest = row.get_ref(1)?.as_str().ok();
        let digest = digest.and_then(|text| text.parse::<Digest>().ok());
        if let Some(id) = digest.and_then(|digest| catalog.id(&digest)) {
            numbers[id.index()] = row.get(0)?;
        }
    }
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use jiff::civil::Date;
    use oci_mirror::descriptor::Descriptor;
    use oci_mirror::digest::Algorithm;
    use oci_mirror::media_type::MediaType;
    use oci_mirror::tree::TreeWriter;
    use oci_mirror::tree::writer::Image;

    use super::super::hosts::tests::new_host;
    use super::*;
    use crate::crawler::identity::Identity;

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

    fn crawl(outcome: Outcome) -> Crawl {
        Crawl::new(Timestamp::UNIX_EPOCH, outcome)
    }

    fn finished(scope: Scope, verdicts: Vec<(BlobId, Verdict)>, evidence: Vec<Evidence>) -> Crawl {
        crawl(Outcome::Finished {
            scope,
            verdicts,
            evidence,
        })
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
            .record_crawl(id, &finished(Scope::Whole, both.clone(), vec![]), &catalog)
            .unwrap();
        assert_eq!(
            (health(&database), held(&database)),
            (Health::Healthy, vec![true, true])
        );
        assert_eq!(
            database.known(id, &catalog).unwrap().read,
            [Some(Date::constant(1970, 1, 1)); 2]
        );

        let failed = crawl(Outcome::Failed("refused".to_owned()));
        let recorded = database.record_crawl(id, &failed, &catalog).unwrap();
        let failing = Health::Failing {
            crawls: 1,
            reason: "refused".to_owned(),
        };
        assert_eq!(health(&database), failing);
        let recorded = recorded.unwrap();
        assert_eq!(recorded.name, new.name);
        assert_eq!(
            (recorded.before, recorded.after),
            (Health::Healthy, failing)
        );

        let lost = vec![
            (BlobId(0), Verdict::Confirmed),
            (BlobId(1), Verdict::Missing),
        ];
        database
            .record_crawl(id, &finished(Scope::Whole, lost, vec![]), &catalog)
            .unwrap();
        assert_eq!(
            (health(&database), held(&database)),
            (Health::Healthy, vec![true, false])
        );

        let digest = catalog.blob(BlobId(1)).digest;
        let evidence = Evidence {
            digest,
            url: "https://m/x".to_owned(),
            expected: "sense".to_owned(),
            found: "nonsense".to_owned(),
            identity: Identity::Crawler,
        };
        let damaged = vec![(BlobId(0), Verdict::Read), (BlobId(1), Verdict::Damaged)];
        database
            .record_crawl(
                id,
                &finished(Scope::Whole, damaged, vec![evidence.clone()]),
                &catalog,
            )
            .unwrap();
        assert!(matches!(health(&database), Health::Quarantined { .. }));
        assert_eq!(database.evidence(&new.name).unwrap()[0].1, evidence);

        database
            .record_crawl(id, &finished(Scope::Part, both.clone(), vec![]), &catalog)
            .unwrap();
        assert!(
            matches!(health(&database), Health::Quarantined { .. }),
            "only a whole crawl clears it"
        );
        database
            .record_crawl(id, &finished(Scope::Whole, both, vec![]), &catalog)
            .unwrap();
        assert_eq!(health(&database), Health::Healthy);

        database.remove_host(&new.name).unwrap();
        assert_eq!(database.record_crawl(id, &failed, &catalog).unwrap(), None);
    }

    #[test]
    fn a_blob_is_offered_once_bytes_of_it_were_read() {
        let dir = tempfile::tempdir().unwrap();
        let catalog = catalog(&dir.path().join("tree"));
        let mut database = Database::open(&dir.path().join("x.db")).unwrap();
        let id = database
            .add_host(&new_host("m", "https://m.example/t"))
            .unwrap();
        for (verdict, verified) in [
            (Verdict::Present, false),
            (Verdict::Sampled, true),
            (Verdict::Confirmed, true),
            (Verdict::Unknown, false),
        ] {
            let found = finished(Scope::Whole, vec![(BlobId(1), verdict)], vec![]);
            database.record_crawl(id, &found, &catalog).unwrap();
            let known = database.known(id, &catalog).unwrap();
            assert_eq!(known.verified.contains(1), verified, "{verdict:?}");
            assert!(known.missing.is_empty() && known.damaged.is_empty());
            assert_eq!(known.read, [None; 2]);
        }
    }
}
