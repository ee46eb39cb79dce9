//! Presence: which host was verified to hold which blob, as bitmaps over the database's own numbers.
//!
//! A blob keeps its number whatever becomes of the catalog; [`Numbers`] translates.

use oci_mirror::digest::Digest;
use oci_mirror::tree::Catalog;
use oci_mirror::tree::catalog::BlobId;
use roaring::RoaringBitmap;
use rusqlite::OptionalExtension as _;

use super::{Database, Error};
use crate::network::{Host, HostId};
use crate::presence::{self, HostPosition, Presence};

impl Database {
    /// The database's numbers of the blobs of a catalog.
    pub(crate) fn numbers(&self, catalog: &Catalog) -> Result<Numbers, Error> {
        numbers(&self.connection, catalog).map_err(|source| self.failed("read crawls from", source))
    }

    /// Which of `hosts` was verified to hold which blob of the catalog.
    pub fn presence(&self, catalog: &Catalog, hosts: &[Host]) -> Result<Presence, Error> {
        let numbers = self.numbers(catalog)?;
        let read = || {
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
}

/// The blobs of a catalog by the database's numbers, in their order.
#[derive(Debug)]
pub(crate) struct Numbers(Vec<(u32, BlobId)>);

impl Numbers {
    /// The blobs with the given numbers; both are in order, so one pass finds them.
    pub(crate) fn among(&self, wanted: &RoaringBitmap) -> impl Iterator<Item = BlobId> {
        let mut rest = self.0.iter().peekable();
        wanted.iter().filter_map(move |number| {
            while rest.next_if(|(known, _)| *known < number).is_some() {}
            let found = rest.next_if(|(known, _)| *known == number);
            found.map(|(_, id)| *id)
        })
    }
}

pub(super) fn numbers(
    connection: &rusqlite::Connection,
    catalog: &Catalog,
) -> rusqlite::Result<Numbers> {
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
pub(super) fn verified_by(
    connection: &rusqlite::Connection,
    host: HostId,
) -> rusqlite::Result<RoaringBitmap> {
    let query = "SELECT verified FROM presence WHERE host = ?1";
    let blob: Option<Vec<u8>> = connection
        .query_row(query, [host.0], |row| row.get(0))
        .optional()?;
    Ok(blob.map(|blob| bitmap(&blob)).unwrap_or_default())
}

/// A damaged bitmap reads as empty: the host then gets no clients until it is crawled again.
pub(super) fn bitmap(bytes: &[u8]) -> RoaringBitmap {
    RoaringBitmap::deserialize_from(bytes).unwrap_or_default()
}

pub(super) fn bytes(mut bitmap: RoaringBitmap) -> Vec<u8> {
    // A mirror that holds nearly all is a few runs of numbers.
    bitmap.optimize();
    let mut bytes = Vec::with_capacity(bitmap.serialized_size());
    // Writing to a vector cannot fail.
    drop(bitmap.serialize_into(&mut bytes));
    bytes
}
