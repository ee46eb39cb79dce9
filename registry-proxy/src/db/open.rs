//! Opening: which files are databases of ours, and how one of an earlier version becomes one of today.

use std::cell::RefCell;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::{Database, Error, schema};

/// How long to wait for another writer before giving up.
const BUSY: Duration = Duration::from_secs(10);

/// How long a front end waits for a writer: the tree is to be looked at meanwhile.
const READER_BUSY: Duration = Duration::from_secs(1);

impl Database {
    /// Opens the database for writing, making it and its directory if they are not there.
    pub fn open(path: &Path) -> Result<Self, Error> {
        if let Some(directory) = path
            .parent()
            .filter(|directory| !directory.as_os_str().is_empty())
        {
            let failed = |source| Error::Directory {
                path: directory.to_owned(),
                source,
            };
            std::fs::create_dir_all(directory).map_err(failed)?;
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        Self::with_flags(path, flags)
    }

    /// Opens a database that must be there.
    pub fn open_existing(path: &Path) -> Result<Self, Error> {
        Self::with_flags(
            path,
            OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        )
    }

    /// Opens a database only to read it: nothing is written, not even a migration, so that a front end
    /// may run as somebody who must not change it.
    pub fn open_reader(path: &Path) -> Result<Self, Error> {
        let failed = |doing| {
            move |source| Error::Sql {
                doing,
                path: path.to_owned(),
                source,
            }
        };
        // SQLite opens read-only what may not be written.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(failed("open"))?;
        connection
            .busy_timeout(READER_BUSY)
            .map_err(failed("set up"))?;
        let version = recognise(&connection, path)?;
        if version < schema::MIGRATIONS.len() {
            return Err(Error::Older {
                path: path.to_owned(),
            });
        }
        Self::with_connection(connection, path)
    }

    fn with_flags(path: &Path, flags: OpenFlags) -> Result<Self, Error> {
        let failed = |doing| {
            move |source| Error::Sql {
                doing,
                path: path.to_owned(),
                source,
            }
        };
        let mut connection = Connection::open_with_flags(path, flags).map_err(failed("open"))?;
        connection.busy_timeout(BUSY).map_err(failed("set up"))?;
        let version = recognise(&connection, path)?;
        connection
            .pragma_update(None, "journal_mode", "WAL")
            .map_err(failed("set up"))?;
        connection
            .pragma_update(None, "synchronous", "NORMAL")
            .map_err(failed("set up"))?;
        connection
            .pragma_update(None, "foreign_keys", true)
            .map_err(failed("set up"))?;
        // Whoever opens one of today is not to wait for those who write.
        if version < schema::MIGRATIONS.len() {
            migrate(&mut connection).map_err(failed("bring up to date"))?;
        }
        Self::with_connection(connection, path)
    }

    fn with_connection(connection: Connection, path: &Path) -> Result<Self, Error> {
        let metadata = std::fs::metadata(path).map_err(|source| Error::Directory {
            path: path.to_owned(),
            source,
        })?;
        Ok(Self {
            connection,
            path: path.to_owned(),
            file: (metadata.dev(), metadata.ino()),
            told: RefCell::default(),
        })
    }
}

/// The version of a database of ours, or of an empty one; any other is refused.
fn recognise(connection: &Connection, path: &Path) -> Result<usize, Error> {
    let number = |query| {
        connection
            .query_row(query, (), |row| row.get::<_, i64>(0))
            .map_err(|source| Error::Sql {
                doing: "read",
                path: path.to_owned(),
                source,
            })
    };
    let application = number("PRAGMA application_id")?;
    let version = number("PRAGMA user_version")?;
    let tables = number("SELECT count(*) FROM sqlite_schema")?;
    if application != schema::APPLICATION_ID && (application != 0 || version != 0 || tables != 0) {
        return Err(Error::Foreign {
            path: path.to_owned(),
        });
    }
    match usize::try_from(version) {
        Ok(known) if known <= schema::MIGRATIONS.len() => Ok(known),
        _ => Err(Error::Newer {
            path: path.to_owned(),
            version,
        }),
    }
}

/// Applies what is missing. The version is read inside the transaction: two processes may start at once.
fn migrate(connection: &mut Connection) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let version: i64 = transaction.query_row("PRAGMA user_version", (), |row| row.get(0))?;
    let version = usize::try_from(version).unwrap_or(usize::MAX);
    for migration in schema::MIGRATIONS.iter().skip(version) {
        transaction.execute_batch(migration)?;
    }
    if version < schema::MIGRATIONS.len() {
        transaction.pragma_update(None, "application_id", schema::APPLICATION_ID)?;
        transaction.pragma_update(
            None,
            "user_version",
            i64::try_from(schema::MIGRATIONS.len()).unwrap_or(i64::MAX),
        )?;
    }
    transaction.commit()
}

#[cfg(test)]
mod tests {
    use super::super::hosts;
    use super::*;

    #[test]
    fn a_file_that_is_no_database_of_ours_is_refused_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.db");
        std::fs::write(
            &path,
            "this is not a database, but long enough to be looked at as one",
        )
        .unwrap();
        assert!(matches!(Database::open(&path), Err(Error::Sql { .. })));
        assert!(
            std::fs::read_to_string(&path)
                .unwrap()
                .starts_with("this is not")
        );

        let foreign = dir.path().join("foreign.db");
        Connection::open(&foreign)
            .unwrap()
            .execute_batch("CREATE TABLE theirs (x)")
            .unwrap();
        assert!(matches!(
            Database::open(&foreign),
            Err(Error::Foreign { .. })
        ));
    }

    #[test]
    fn a_database_from_the_future_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.db");
        drop(Database::open(&path).unwrap());
        Connection::open(&path)
            .unwrap()
            .pragma_update(None, "user_version", 99)
            .unwrap();
        assert!(matches!(
            Database::open(&path),
            Err(Error::Newer { version: 99, .. })
        ));
    }

    #[test]
    fn a_reader_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.db");
        assert!(Database::open_reader(&path).is_err());
        drop(Connection::open(&path).unwrap());
        assert!(matches!(
            Database::open_reader(&path),
            Err(Error::Older { .. })
        ));
        drop(Database::open(&path).unwrap());
        assert!(
            Database::open_reader(&path)
                .unwrap()
                .hosts()
                .unwrap()
                .is_empty()
        );
    }

    /// A database of the first version with rows of every kind.
    fn first_version(path: &Path) {
        let first = Connection::open(path).unwrap();
        first.execute_batch(schema::MIGRATIONS[0]).unwrap();
        first
            .execute_batch(
                "PRAGMA application_id = 0x4f43496d; PRAGMA user_version = 1; PRAGMA foreign_keys = ON;
                 INSERT INTO site VALUES (1, 'm'), (2, 'n');
                 INSERT INTO host VALUES
                   (7, 1, 'm', 'DE', 49.4, 8.7, 100, 1, 'moving', 2, 'refused', NULL, '2026-01-02T03:04:05Z'),
                   (9, 2, 'n', NULL, NULL, NULL, 1000, 0, NULL, 0, NULL, 'damaged', '2026-01-02T03:04:06Z');
                 INSERT INTO url VALUES (7, 0, 'https://m.example'), (7, 1, 'rsync://m.example/x'), (9, 0, 'http://n.example');
                 INSERT INTO netblock VALUES (7, '192.0.2.0/24'), (7, '2001:db8::/32');
                 INSERT INTO asn VALUES (7, 64496, 0), (7, 64497, 1);
                 INSERT INTO served_country VALUES (7, 'DE', 1), (7, 'FR', 0);
                 INSERT INTO repository VALUES (7, 0, 'fedora/*'), (7, 1, 'a');
                 INSERT INTO blob VALUES (1, 'sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855', 0);
                 INSERT INTO presence VALUES (7, x'', x'', x'');
                 INSERT INTO reading VALUES (7, '2026-01-02', x'');
                 INSERT INTO evidence VALUES (1, 9, 'sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855', 'u', 'f', '2026-01-02T03:04:06Z');",
            )
            .unwrap();
    }

    /// All rows of all tables of the first version, but for the columns that came later.
    fn rows_of_the_first_version(database: &Connection) -> Vec<String> {
        let tables = [
            ("site", "id, name"),
            (
                "host",
                "id, site, name, country, latitude, longitude, bandwidth, private, disabled, failed_crawls, failure,
                 quarantine, crawled_at",
            ),
            ("url", "host, position, url"),
            ("netblock", "host, cidr"),
            ("asn", "host, asn, peer"),
            ("served_country", "host, country, allowed"),
            ("repository", "host, position, glob"),
            ("blob", "id, digest, size"),
            ("presence", "host, verified, missing, damaged"),
            ("reading", "host, day, blobs"),
            ("evidence", "id, host, digest, url, found, seen_at"),
        ];
        let mut all = Vec::new();
        for (table, columns) in tables {
            let query = format!("SELECT {columns} FROM {table} ORDER BY 1, 2");
            let mut statement = database.prepare(&query).unwrap();
            let count = statement.column_count();
            let mut rows = statement.query(()).unwrap();
            let before = all.len();
            while let Some(row) = rows.next().unwrap() {
                let values = (0..count).map(|column| format!("{:?}", row.get_ref(column).unwrap()));
                all.push(format!("{table}: {}", values.collect::<Vec<_>>().join(" ")));
            }
            assert!(
                all.len() > before,
                "{table} is empty: it would prove nothing"
            );
        }
        all
    }

    #[test]
    fn a_database_of_the_first_version_keeps_what_it_holds() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.db");
        first_version(&path);
        let before = rows_of_the_first_version(&Connection::open(&path).unwrap());
        let mut database = Database::open(&path).unwrap();
        assert_eq!(rows_of_the_first_version(&database.connection), before);
        let check = |pragma: &str| -> Vec<String> {
            let mut statement = database.connection.prepare(pragma).unwrap();
            let rows = statement.query_map((), |row| row.get(0)).unwrap();
            rows.collect::<Result<_, _>>().unwrap()
        };
        assert_eq!(check("PRAGMA integrity_check"), ["ok"]);
        assert!(check("PRAGMA foreign_key_check").is_empty());

        let hosts = database.hosts().unwrap();
        let host = &hosts[0];
        assert_eq!((host.id.0, host.site.as_str(), hosts.len()), (7, "m", 2));
        assert_eq!(host.admin.reason(), Some("moving"));
        assert!(host.carries(&"fedora/fedora".parse().unwrap()));
        assert_eq!(host.objections().len(), 2);
        assert_eq!(database.evidence(&hosts[1].name).unwrap().len(), 1);
        assert_eq!(database.verified_count(host.id).unwrap(), 0);
        // It is exported whole, and a number is not used again.
        assert_eq!(database.export().unwrap().mirrors().len(), 2);
        database.remove_host(&hosts[1].name).unwrap();
        let new = hosts::tests::new_host("o", "https://o.example");
        assert_eq!(database.add_host(&new).unwrap().0, 10);
    }

    #[test]
    fn several_processes_may_bring_it_up_to_date_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.db");
        first_version(&path);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope
                    .spawn(|| assert_eq!(Database::open(&path).unwrap().hosts().unwrap().len(), 2));
            }
        });
    }

    #[test]
    fn a_database_of_today_is_opened_while_another_is_writing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.db");
        let mut one = Database::open(&path).unwrap();
        let immediate = TransactionBehavior::Immediate;
        let writing = one.connection.transaction_with_behavior(immediate).unwrap();
        let began = std::time::Instant::now();
        assert!(Database::open(&path).unwrap().hosts().unwrap().is_empty());
        assert!(began.elapsed() < BUSY, "{:?}", began.elapsed());
        writing.commit().unwrap();
    }
}
