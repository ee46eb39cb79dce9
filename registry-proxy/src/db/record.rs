//! The parts of the record of a crawl: what is held, when it was read, when it was whose turn, and history.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use oci_mirror::tree::Catalog;
use oci_mirror::tree::catalog::BlobId;
use roaring::RoaringBitmap;
use rusqlite::{OptionalExtension as _, Transaction, params};

use super::crawls::{Crawl, Outcome, Scope, TreeState, Verdict};
use super::held::{Held, Told};
use super::numbers::Book;
use super::presence::{bitmap, bytes};
use crate::network::{BaseUrl, HostId};

/// How many blobs of a host are what after a crawl.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) verified: u64,
    pub(super) present: u64,
    pub(super) missing: u64,
    pub(super) damaged: u64,
    pub(super) unknown: u64,
}

/// Whether a crawl was of the server at which clients are sent for the host now: it may have moved meanwhile.
pub(super) fn is_of_this_server(
    transaction: &Transaction<'_>,
    host: HostId,
    crawl: &Crawl,
) -> rusqlite::Result<bool> {
    let Some(base) = &crawl.base else {
        return Ok(true);
    };
    let mut statement =
        transaction.prepare_cached("SELECT url FROM url WHERE host = ?1 ORDER BY position")?;
    let urls = statement.query_map([host.0], |row| row.get::<_, String>(0))?;
    for url in urls {
        if let Ok(url) = url?.parse::<BaseUrl>()
            && url.is_http()
        {
            return Ok(url == *base);
        }
    }
    Ok(false)
}

/// Brings what is known of the blobs of a host up to date, and returns it.
///
/// The revision tells front ends which hosts they have to read again, so it grows only with a change.
pub(super) fn held(
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
        // It was not known to be there, and what is there now may be another file than the one that was read once.
        let verified = before.map(|before| before.verified).unwrap_or_default();
        let back = &after.verified - &verified - &told.read;
        forget_readings(transaction, host, &back)?;
        if verified.is_empty() {
            // All that was right in a row was lost since.
            let query = "UPDATE host SET clean_samples = 0 WHERE id = ?1";
            transaction.execute(query, [host.0])?;
        }
    }
    Ok(after)
}

/// From when on the next crawl counts whose turn it is, and what the mirror's state was.
pub(super) fn turn(
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
pub(super) fn history(
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

/// A number as the database keeps it.
pub(super) fn count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// How many crawls of a host are remembered.
pub const HISTORY: u16 = 200;

/// Moves what was read now to the day of the crawl. What is gone or wrong was not read: if it comes
/// back, it is another file.
pub(super) fn reading(
    transaction: &Transaction<'_>,
    host: HostId,
    at: Timestamp,
    told: &Told,
) -> rusqlite::Result<()> {
    let gone = &told.missing | &told.damaged;
    forget_readings(transaction, host, &(gone | &told.read))?;
    if told.read.is_empty() {
        return Ok(());
    }
    let today = at.to_zoned(TimeZone::UTC).date().to_string();
    let query = "SELECT blobs FROM reading WHERE host = ?1 AND day = ?2";
    let mut statement = transaction.prepare_cached(query)?;
    let before = statement.query_row(params![host.0, today], |row| row.get::<_, Vec<u8>>(0));
    let blobs = bitmap(&before.optional()?.unwrap_or_default()) | &told.read;
    transaction.execute(
        "INSERT OR REPLACE INTO reading (host, day, blobs) VALUES (?1, ?2, ?3)",
        params![host.0, today, bytes(blobs)],
    )?;
    Ok(())
}

/// Forgets that blobs of a host were read.
fn forget_readings(
    transaction: &Transaction<'_>,
    host: HostId,
    blobs: &RoaringBitmap,
) -> rusqlite::Result<()> {
    if blobs.is_empty() {
        return Ok(());
    }
    let mut statement =
        transaction.prepare_cached("SELECT day, blobs FROM reading WHERE host = ?1")?;
    let rows = statement.query_map([host.0], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, Vec<u8>>(1)?))
    })?;
    let rows: Vec<(String, Vec<u8>)> = rows.collect::<rusqlite::Result<_>>()?;
    for (day, read) in rows {
        let read = bitmap(&read);
        if read.is_disjoint(blobs) {
            continue;
        }
        let rest = read - blobs;
        if rest.is_empty() {
            let query = "DELETE FROM reading WHERE host = ?1 AND day = ?2";
            transaction.execute(query, params![host.0, day])?;
        } else {
            let query = "UPDATE reading SET blobs = ?3 WHERE host = ?1 AND day = ?2";
            transaction.execute(query, params![host.0, day, bytes(rest)])?;
        }
    }
    Ok(())
}

/// The database's numbers of the blobs of the verdicts, entering those it has not met.
pub(super) fn blobs(
    transaction: &Transaction<'_>,
    book: &mut Book,
    verdicts: &[(BlobId, Verdict)],
    catalog: &Catalog,
) -> rusqlite::Result<Vec<u32>> {
    book.bring_up_to_date(transaction, catalog)?;
    let mut enter =
        transaction.prepare_cached("INSERT INTO blob (digest, size) VALUES (?1, ?2)")?;
    let is_new = |(id, _): &&(BlobId, Verdict)| book.of(*id).is_none();
    for (id, _) in verdicts.iter().filter(is_new) {
        let blob = catalog.blob(*id);
        enter.execute(params![blob.digest.to_string(), count(blob.size)])?;
    }
    book.bring_up_to_date(transaction, catalog)?;
    // There is none without a number now.
    let numbers = verdicts.iter().map(|(id, _)| book.of(*id));
    Ok(numbers.map(|number| number.unwrap_or(u32::MAX)).collect())
}
