//! Rounds of crawls: what is known of a host before it is looked at again.

use jiff::Timestamp;
use jiff::civil::Date;
use oci_mirror::digest::Digest;
use oci_mirror::tree::Catalog;
use roaring::RoaringBitmap;
use rusqlite::OptionalExtension as _;

use super::presence::bitmap;
use super::{Database, Error};
use crate::network::HostId;

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
}

impl Database {
    /// What is known of a host, by the numbers of a catalog.
    pub fn known(&self, host: HostId, catalog: &Catalog) -> Result<Known, Error> {
        let numbers = self.numbers(catalog)?;
        let read = || {
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
            Ok(known)
        };
        read().map_err(|source| self.failed("read crawls from", source))
    }
}
