//! The database of mirrors: SQLite, and the only place with SQL in it.
//!
//! Everything blocks; callers that must not go through `spawn_blocking`. The request path never comes
//! here: it reads the snapshot that is built from [`Database::hosts`] and [`Database::presence`].

mod accounts;
mod categories;
mod checkins;
mod crawls;
mod error;
mod evidence;
mod health;
mod held;
mod hosts;
mod import;
mod numbers;
mod open;
mod presence;
mod probes;
mod record;
mod repositories;
mod rounds;
mod schema;
mod silence;
mod sites;
mod tokens;

use std::cell::RefCell;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use rusqlite::{Connection, Transaction, TransactionBehavior};

pub use checkins::{CheckIn, Same, Way};
pub use crawls::{Change, Cost, Crawl, Outcome, Recorded, Sampled, Scope, TreeState, Verdict};
pub use error::Error;
pub use evidence::Evidence;
pub use held::{Held, Told};
pub use hosts::{Listed, Unreadable};
pub use import::{Changed, Imported, Pruning, Tally, Trial};
pub use numbers::Numbering;
pub(crate) use numbers::Numbers;
pub(crate) use presence::Revision;
pub use probes::{Probe, ProbeName, ProbeResult, UnknownWord};
pub use record::HISTORY;
pub use repositories::RepositoryHealth;
pub use rounds::{Known, Turn};
pub use sites::Mirrors;

use error::{Failure, is_taken};

/// An open database.
#[derive(Debug)]
pub struct Database {
    connection: Connection,
    path: PathBuf,
    /// Device and inode, to notice that the file was replaced.
    file: (u64, u64),
    /// The rows that cannot be read, as the log was last told.
    told: RefCell<Vec<Unreadable>>,
}

impl Database {
    /// Whether this is still the file with the given device and inode.
    pub fn is_file(&self, file: (u64, u64)) -> bool {
        self.file == file
    }

    /// Whether its path still leads to it.
    pub fn is_in_place(&self) -> bool {
        let found = std::fs::metadata(&self.path);
        found.is_ok_and(|found| self.is_file((found.dev(), found.ino())))
    }

    /// A number that changes whenever another connection has changed the database.
    pub fn data_version(&self) -> Result<i64, Error> {
        self.connection
            .query_row("PRAGMA data_version", (), |row| row.get(0))
            .map_err(|source| self.failed("look for changes", source))
    }

    /// Changes something, all of it or nothing.
    fn write<T>(
        &mut self,
        doing: &'static str,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, Failure>,
    ) -> Result<T, Error> {
        self.transact(doing, Trial::Done, work)
    }

    /// Does something with nobody writing meanwhile; it may be undone at the end.
    fn transact<T>(
        &mut self,
        doing: &'static str,
        trial: Trial,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, Failure>,
    ) -> Result<T, Error> {
        let immediate = TransactionBehavior::Immediate;
        let transaction = self.connection.transaction_with_behavior(immediate);
        let done = transaction.map_err(Failure::Sql).and_then(|transaction| {
            let done = work(&transaction)?;
            match trial {
                Trial::Done => transaction.commit()?,
                Trial::Undone => transaction.rollback()?,
            }
            Ok(done)
        });
        done.map_err(|failure| self.explained(failure, doing))
    }

    fn explained(&self, failure: Failure, doing: &'static str) -> Error {
        match failure {
            Failure::Sql(source) => self.failed(doing, source),
            Failure::Told(error) => error,
        }
    }

    fn failed(&self, doing: &'static str, source: rusqlite::Error) -> Error {
        Error::Sql {
            doing,
            path: self.path.clone(),
            source,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_connections_change_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.db");
        let (one, other) = (
            Database::open(&path).unwrap(),
            Database::open(&path).unwrap(),
        );
        let before = one.data_version().unwrap();
        assert_eq!(one.data_version().unwrap(), before);
        other
            .connection
            .execute("INSERT INTO site (name) VALUES ('x')", ())
            .unwrap();
        assert_ne!(one.data_version().unwrap(), before);
    }
}
