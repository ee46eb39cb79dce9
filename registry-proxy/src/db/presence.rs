//! Presence: which host was verified to hold which blob, as bitmaps over the database's own numbers.
//!
//! [`Numbers`] translates. What a host holds has a revision, so that a reader who keeps both reads only what
//! has changed.

use std::collections::HashMap;

use oci_mirror::tree::Catalog;
use roaring::RoaringBitmap;
use rusqlite::{OptionalExtension as _, Row};

use super::numbers::{MANY, Numbers};
use super::{Database, Error};
use crate::network::{Host, HostId};
use crate::presence::{self, BlobSet, HostPosition, Presence};

impl Database {
    /// Which state of its presence each host is in; a host that was never crawled is in none.
    pub(crate) fn revisions(&self) -> Result<HashMap<HostId, Revision>, Error> {
        let read = || -> rusqlite::Result<_> {
            let query = "SELECT host, revision, length(verified) FROM presence";
            let mut statement = self.connection.prepare_cached(query)?;
            let revision = |row: &Row<'_>| {
                let (number, length) = (row.get(1)?, row.get(2)?);
                Ok((HostId(row.get(0)?), Revision { number, length }))
            };
            statement.query_map((), revision)?.collect()
        };
        read().map_err(|source| self.failed("read crawls from", source))
    }

    /// What one host was verified to hold.
    pub(crate) fn held_by(&self, host: HostId, numbers: &Numbers) -> Result<BlobSet, Error> {
        let verified = verified_by(&self.connection, host)
            .map_err(|source| self.failed("read crawls from", source))?;
        Ok(numbers.among(&verified).collect())
    }

    /// Which of `hosts` was verified to hold which blob of the catalog.
    pub fn presence(&self, catalog: &Catalog, hosts: &[Host]) -> Result<Presence, Error> {
        self.presence_by(&self.numbers(catalog)?, catalog, hosts)
    }

    /// The same by numbers that are known.
    pub(crate) fn presence_by(
        &self,
        numbers: &Numbers,
        catalog: &Catalog,
        hosts: &[Host],
    ) -> Result<Presence, Error> {
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

/// One state of what a host holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Revision {
    number: i64,
    length: i64,
}

impl Revision {
    /// Whether a host that was in this state is in it still; what has no number yet may be anything.
    pub(crate) fn is_still(self, now: Self) -> bool {
        self == now && now.number > 0
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_without_a_number_may_be_any() {
        let revision = |number, length| Revision { number, length };
        assert!(revision(3, 8).is_still(revision(3, 8)));
        for (then, now) in [((0, 8), (0, 8)), ((3, 8), (4, 8)), ((3, 8), (3, 9))] {
            assert!(!revision(then.0, then.1).is_still(revision(now.0, now.1)));
        }
    }
}
