//! Presence: which host was verified to hold which blob, as bitmaps over the database's own numbers.
//!
//! A blob keeps its number whatever becomes of the catalog; [`Numbers`] translates. What a host holds has a
//! revision, so that a reader who keeps both reads only what has changed.

use std::collections::HashMap;

use oci_mirror::digest::Digest;
use oci_mirror::tree::Catalog;
use oci_mirror::tree::catalog::BlobId;
use roaring::RoaringBitmap;
use rusqlite::{OptionalExtension as _, Row, params};

use super::{Database, Error};
use crate::network::{Host, HostId};
use crate::presence::{self, BlobSet, HostPosition, Presence};

impl Database {
    /// The database's numbers of the blobs of a catalog.
    pub(crate) fn numbers(&self, catalog: &Catalog) -> Result<Numbers, Error> {
        numbers(&self.connection, catalog).map_err(|source| self.failed("read crawls from", source))
    }

    /// Numbers that belong to an earlier catalog, brought up to one that goes on from it; `true` if a blob
    /// the database had met before is among the new ones, so that any host may hold it.
    pub(crate) fn renewed(
        &self,
        numbers: Numbers,
        catalog: &Catalog,
    ) -> Result<(Numbers, bool), Error> {
        renewed(&self.connection, numbers, catalog)
            .map_err(|source| self.failed("read crawls from", source))
    }

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

/// The blobs of a catalog by the database's numbers, in their order.
#[derive(Debug)]
pub(crate) struct Numbers {
    known: Vec<(u32, BlobId)>,
    /// The largest number read, and what it stands for.
    last: Option<(u32, Box<str>)>,
    /// How many blobs of the catalog were looked for.
    blobs: usize,
}

impl Numbers {
    /// The blobs with the given numbers; both are in order, so one pass finds them.
    pub(crate) fn among(&self, wanted: &RoaringBitmap) -> impl Iterator<Item = BlobId> {
        let mut rest = self.known.iter().peekable();
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
    let mut numbers = Numbers {
        known: Vec::with_capacity(catalog.blobs().in_use()),
        last: None,
        blobs: catalog.blobs().len(),
    };
    extend(connection, &mut numbers, catalog)?;
    Ok(numbers)
}

/// Adds what has a larger number than any read.
fn extend(
    connection: &rusqlite::Connection,
    numbers: &mut Numbers,
    catalog: &Catalog,
) -> rusqlite::Result<()> {
    let query = "SELECT id, digest FROM blob WHERE id > ?1 ORDER BY id";
    let mut statement = connection.prepare_cached(query)?;
    let last = numbers.last.as_ref().map(|(number, _)| *number);
    let mut rows = statement.query([last.unwrap_or_default()])?;
    let mut end = None;
    while let Some(row) = rows.next()? {
        // Borrowed: there may be a million.
        let text = row.get_ref(1)?.as_str().unwrap_or_default();
        let number = row.get(0)?;
        let digest = text.parse::<Digest>().ok();
        if let Some(id) = digest.and_then(|digest| catalog.id(&digest)) {
            numbers.known.push((number, id));
        }
        let (kept, last): &mut (u32, String) = end.get_or_insert_default();
        *kept = number;
        last.clear();
        last.push_str(text);
    }
    if let Some((number, text)) = end {
        numbers.last = Some((number, text.into()));
    }
    Ok(())
}

fn renewed(
    connection: &rusqlite::Connection,
    mut numbers: Numbers,
    catalog: &Catalog,
) -> rusqlite::Result<(Numbers, bool)> {
    let new = numbers.blobs..catalog.blobs().len();
    if new.len() > MANY || !is_there(connection, numbers.last.as_ref())? {
        return Ok((self::numbers(connection, catalog)?, true));
    }
    let last = numbers.last.as_ref().map_or(0, |(number, _)| *number);
    extend(connection, &mut numbers, catalog)?;
    numbers.blobs = new.end;
    let mut has_met = false;
    let mut find = connection.prepare_cached("SELECT id FROM blob WHERE digest = ?1")?;
    for id in new {
        let blob = &catalog.blobs()[id];
        let digest = blob.digest.to_string();
        let number: Option<u32> = find.query_row([digest], |row| row.get(0)).optional()?;
        let (Some(number), Some(id)) = (number.filter(|it| *it <= last), catalog.id(&blob.digest))
        else {
            continue;
        };
        has_met = true;
        match numbers.known.binary_search_by_key(&number, |known| known.0) {
            Ok(at) => numbers.known[at].1 = id,
            Err(at) => numbers.known.insert(at, (number, id)),
        }
    }
    Ok((numbers, has_met))
}

/// Whether a number still stands for the same blob; else the file was exchanged in its place.
fn is_there(
    connection: &rusqlite::Connection,
    last: Option<&(u32, Box<str>)>,
) -> rusqlite::Result<bool> {
    let Some((number, digest)) = last else {
        return Ok(true);
    };
    let query = "SELECT 1 FROM blob WHERE id = ?1 AND digest = ?2";
    connection
        .prepare_cached(query)?
        .exists(params![number, digest])
}

/// So many blobs are not looked for one by one.
const MANY: usize = 10_000;

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
    use jiff::Timestamp;
    use oci_mirror::descriptor::Descriptor;
    use oci_mirror::digest::Algorithm;
    use oci_mirror::media_type::MediaType;
    use oci_mirror::tree::TreeWriter;
    use oci_mirror::tree::writer::Image;

    use super::*;

    /// Adds a manifest with a config of its own to a tree.
    fn publish(writer: &TreeWriter, number: u32) {
        let config = format!("{{\"number\":{number}}}");
        let (bytes, size) = (config.as_bytes(), config.len());
        let config = Algorithm::Sha256.digest(bytes);
        writer.stage_bytes(config, bytes).unwrap();
        let manifest = format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"application/vnd.oci.empty.v1+json","digest":"{config}","size":{size}}},"layers":[]}}"#
        );
        let digest = Algorithm::Sha256.digest(manifest.as_bytes());
        writer.stage_bytes(digest, manifest.as_bytes()).unwrap();
        let image = Image {
            repo: "a".parse().unwrap(),
            tag: number.to_string().parse().ok(),
            root: Descriptor::new(MediaType::OCI_MANIFEST, digest, manifest.len() as u64),
            reach: vec![config, digest],
            tag_referrers: None,
        };
        writer.publish(&[image]).unwrap();
        writer.finish(Timestamp::UNIX_EPOCH).unwrap();
    }

    fn enter(database: &Database, digest: &impl ToString) {
        let enter = "INSERT INTO blob (digest, size) VALUES (?1, 1)";
        let digest = digest.to_string();
        database.connection.execute(enter, [digest]).unwrap();
    }

    #[test]
    fn numbers_brought_up_to_date_are_those_read_anew() {
        let directory = tempfile::tempdir().unwrap();
        let writer = TreeWriter::open(&directory.path().join("tree")).unwrap();
        let database = Database::open(&directory.path().join("mirrors.db")).unwrap();
        publish(&writer, 1);
        let mut catalog = Catalog::load(writer.tree(), None).unwrap();
        let mut numbers = database.numbers(&catalog).unwrap();
        let step = |numbers: Numbers, catalog: &Catalog| {
            let (renewed, has_met) = database.renewed(numbers, catalog).unwrap();
            let anew = database.numbers(catalog).unwrap();
            assert_eq!((&renewed.known, &renewed.last), (&anew.known, &anew.last));
            (renewed, has_met)
        };
        // What a crawl enters.
        for blob in catalog.blobs().iter() {
            enter(&database, &blob.digest);
        }
        let met;
        (numbers, met) = step(numbers, &catalog);
        assert_eq!((numbers.known.len(), met), (2, false));
        // What is new in the tree and at no mirror, and what comes to the database while it is not.
        let later = Algorithm::Sha256.digest(b"{\"number\":3}");
        enter(&database, &later);
        enter(&database, &"no digest");
        for (number, expected) in [(2, (2, false)), (3, (3, true)), (4, (3, false))] {
            publish(&writer, number);
            let next = Catalog::load(writer.tree(), Some(&catalog)).unwrap();
            assert!(next.goes_on_from(&catalog));
            catalog = next;
            let met;
            (numbers, met) = step(numbers, &catalog);
            assert_eq!((numbers.known.len(), met), expected, "{number}");
        }
        // A database exchanged in its place.
        let exchange = "UPDATE blob SET digest = id || 'x'";
        database.connection.execute(exchange, ()).unwrap();
        let (numbers, met) = step(numbers, &catalog);
        assert_eq!((numbers.known.len(), met), (0, true));
    }

    #[test]
    fn a_state_without_a_number_may_be_any() {
        let revision = |number, length| Revision { number, length };
        assert!(revision(3, 8).is_still(revision(3, 8)));
        for (then, now) in [((0, 8), (0, 8)), ((3, 8), (4, 8)), ((3, 8), (3, 9))] {
            assert!(!revision(then.0, then.1).is_still(revision(now.0, now.1)));
        }
    }
}
