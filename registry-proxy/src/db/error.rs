//! Errors: why the database cannot be used, or not do what it is asked for.

use std::path::PathBuf;

use crate::network::{AccountName, HostName, SiteName, Unacceptable};

/// Why the database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its directory cannot be made, or the file not looked at.
    #[error("cannot use {}", .path.display())]
    Directory {
        /// Which directory or file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A statement failed: the file is damaged, locked for long, or on a full disk.
    #[error("cannot {doing} the database {}", .path.display())]
    Sql {
        /// What was being done.
        doing: &'static str,
        /// Which database.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// A database of another program.
    #[error("{} is a database, but not one of registry-proxy", .path.display())]
    Foreign {
        /// Which file.
        path: PathBuf,
    },
    /// A later version of this program wrote it.
    #[error("the database {} has version {version}, which this program is too old for", .path.display())]
    Newer {
        /// Which file.
        path: PathBuf,
        /// Its version.
        version: i64,
    },
    /// An earlier version of this program wrote it, and it may only be read here.
    #[error("the database {} is of an earlier version; any `registry-proxy mirror` command brings it up to date", .path.display())]
    Older {
        /// Which file.
        path: PathBuf,
    },
    /// There is a host of that name.
    #[error("there is already a mirror called {0}")]
    NameTaken(String),
    /// There is no host of that name.
    #[error("there is no mirror called {0}")]
    NameUnknown(String),
    /// There is a site of that name.
    #[error("there is already a site called {0}")]
    SiteTaken(SiteName),
    /// There is no site of that name.
    #[error("there is no site called {0}")]
    SiteUnknown(SiteName),
    /// A site cannot go without its hosts.
    #[error("site {name} still has {mirrors} mirrors; they can be removed with it")]
    SiteInUse {
        /// Which site.
        name: SiteName,
        /// How many hosts it has.
        mirrors: usize,
    },
    /// There is an account of that name.
    #[error("there is already an account called {0}")]
    AccountTaken(AccountName),
    /// There is no account of that name.
    #[error("there is no account called {0}")]
    AccountUnknown(AccountName),
    /// A host cannot be what it was to become.
    #[error("mirror {name} cannot be changed so")]
    Unacceptable {
        /// Which host.
        name: HostName,
        /// Why not.
        source: Unacceptable,
    },
    /// A row holds what cannot have been written by this program.
    #[error("the database has a {what} {} with a malformed {field}", .name.escape_debug())]
    Malformed {
        /// A row of what kind.
        what: &'static str,
        /// Of which name.
        name: String,
        /// Which of its fields.
        field: &'static str,
    },
}

/// Why something in the database was not done, where what was being done is not known yet.
#[derive(Debug)]
pub(super) enum Failure {
    /// A statement failed.
    Sql(rusqlite::Error),
    /// It cannot be done.
    Told(Error),
}

impl From<rusqlite::Error> for Failure {
    fn from(source: rusqlite::Error) -> Self {
        Self::Sql(source)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Told(error)
    }
}

/// Whether a name that must be there once was there already.
pub(super) fn is_taken(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error().map(|error| error.extended_code);
    code == Some(rusqlite::ffi::SQLITE_CONSTRAINT_UNIQUE)
}
