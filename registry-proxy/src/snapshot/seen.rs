//! What tells one version of tree and database from the next: their marks, without reading them.

use std::path::Path;

use oci_mirror::tree::TreePath;
use tracing::debug;

use super::mirrors::{Source, Version};
use crate::db::Database;
use crate::file_mark::FileMark;

/// The database of mirrors, and how often it was opened.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) source: Source,
    pub(super) number: u64,
}

/// Tells one version of tree and database from the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) state: Option<FileMark>,
    /// Device and inode, and the version if it can be read.
    database: Option<(u64, u64)>,
    pub(super) version: Option<Version>,
}

/// The marks of the files, and the database opened if its file is there and is still the same.
pub(super) fn look(tree: &Path, path: &Path, open: Connection) -> (Seen, Connection) {
    let state = FileMark::of(&TreePath::State.under(tree));
    let mut number = open.number;
    let file = FileMark::of(path).map(|mark| mark.identity());
    let found = match (file, open.source) {
        (None, Source::Absent) => Ok((Source::Absent, None)),
        // One that is being replaced, or was removed by mistake.
        (None, _) => Ok((Source::Broken, None)),
        (Some(file), source) => {
            let opened = match source {
                Source::Open(open) if open.is_file(file) => Ok(open),
                _ => {
                    number += 1;
                    Database::open_reader(path)
                }
            };
            opened.and_then(|open| {
                let data = open.data_version()?;
                let version = Version {
                    connection: number,
                    data,
                };
                Ok((Source::Open(open), Some(version)))
            })
        }
    };
    let (source, version) = found.unwrap_or_else(|error| {
        debug!(
            error = &error as &dyn std::error::Error,
            "cannot open the database of mirrors"
        );
        (Source::Broken, None)
    });
    let seen = Seen {
        state,
        database: file,
        version,
    };
    (seen, Connection { source, number })
}
