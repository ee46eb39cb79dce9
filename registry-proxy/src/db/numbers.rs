//! Numbers: by which the database knows the blobs of a catalog.
//!
//! A blob keeps its number whatever becomes of the catalog. Reading those of a million blobs takes a second, so
//! whoever needs them again and again keeps them, and adds what was entered since: [`Numbers`] for those who
//! read, [`Numbering`] for the crawls of a round, which enter blobs themselves.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};

use oci_mirror::digest::Digest;
use oci_mirror::tree::Catalog;
use oci_mirror::tree::catalog::BlobId;
use roaring::RoaringBitmap;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::{Database, Error};

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
    /// None yet.
    fn new(catalog: &Catalog) -> Self {
        Self {
            known: Vec::with_capacity(catalog.blobs().in_use()),
            last: None,
            blobs: catalog.blobs().len(),
        }
    }

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

/// The numbers of a catalog's blobs both ways, for those who enter blobs.
#[derive(Debug)]
pub(super) struct Book {
    numbers: Numbers,
    /// For each blob of the catalog, its number, if it was met.
    of: Vec<Option<NonZeroU32>>,
}

impl Book {
    /// One in which nothing is written yet.
    pub(super) fn new(catalog: &Catalog) -> Self {
        Self {
            numbers: Numbers::new(catalog),
            of: vec![None; catalog.blobs().len()],
        }
    }

    /// Adds what was entered since.
    pub(super) fn bring_up_to_date(
        &mut self,
        connection: &Connection,
        catalog: &Catalog,
    ) -> rusqlite::Result<()> {
        if !is_there(connection, self.numbers.last.as_ref())? {
            *self = Self::new(catalog);
        }
        let met = self.numbers.known.len();
        extend(connection, &mut self.numbers, catalog)?;
        for (number, id) in &self.numbers.known[met..] {
            self.of[id.index()] = NonZeroU32::new(*number);
        }
        Ok(())
    }

    /// The blobs by their numbers.
    pub(super) fn numbers(&self) -> &Numbers {
        &self.numbers
    }

    /// The number of a blob, if it was met.
    pub(super) fn of(&self, id: BlobId) -> Option<u32> {
        self.of[id.index()].map(NonZeroU32::get)
    }
}

/// The numbers of one catalog's blobs, read once for all crawls of it.
#[derive(Debug)]
pub struct Numbering {
    catalog: Arc<Catalog>,
    book: Mutex<Book>,
}

impl Numbering {
    /// Those of a catalog; they are read when they are needed.
    pub fn new(catalog: Arc<Catalog>) -> Self {
        Self {
            book: Mutex::new(Book::new(&catalog)),
            catalog,
        }
    }

    /// Whether they are those of this very catalog.
    pub fn is_of(&self, catalog: &Arc<Catalog>) -> bool {
        Arc::ptr_eq(&self.catalog, catalog)
    }

    /// Does something by the numbers, alone. After a failure nothing of them is believed: they may be of what
    /// was entered and undone.
    pub(super) fn with<T, E>(
        &self,
        work: impl FnOnce(&mut Book, &Catalog) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut book = self.book.lock().unwrap_or_else(|poisoned| {
            self.book.clear_poison();
            let mut book = PoisonError::into_inner(poisoned);
            *book = Book::new(&self.catalog);
            book
        });
        let result = work(&mut book, &self.catalog);
        if result.is_err() {
            *book = Book::new(&self.catalog);
        }
        result
    }
}

fn numbers(connection: &Connection, catalog: &Catalog) -> rusqlite::Result<Numbers> {
    let mut numbers = Numbers::new(catalog);
    extend(connection, &mut numbers, catalog)?;
    Ok(numbers)
}

/// Adds what has a larger number than any read.
fn extend(
    connection: &Connection,
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
    connection: &Connection,
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
fn is_there(connection: &Connection, last: Option<&(u32, Box<str>)>) -> rusqlite::Result<bool> {
    let Some((number, digest)) = last else {
        return Ok(true);
    };
    let query = "SELECT 1 FROM blob WHERE id = ?1 AND digest = ?2";
    connection
        .prepare_cached(query)?
        .exists(params![number, digest])
}

/// So many blobs are not looked for one by one.
pub(super) const MANY: usize = 10_000;

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
}
