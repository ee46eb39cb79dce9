//! Evidence: what a host sent that was wrong, kept to be shown to its people.

use oci_mirror::digest::Digest;
use rusqlite::{Transaction, params};

use super::{Database, Error};
use crate::crawler::identity::Identity;
use crate::network::{HostId, HostName};

/// Most pieces of evidence kept per host: enough to show its admin, not enough to fill a disk.
const MAX_EVIDENCE: u32 = 100;

/// Longest text kept, in bytes. What a mirror sends finds its way into evidence.
const MAX_TEXT: usize = 2 << 10;

/// Proof that a host sent something wrong.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Evidence {
    /// Which blob.
    pub digest: Digest,
    /// Where it was fetched from.
    pub url: String,
    /// What should have been found.
    pub expected: String,
    /// What was found instead.
    pub found: String,
    /// As whom it was asked for.
    pub identity: Identity,
}

impl Database {
    /// What is held against a host, newest first, with the times it was seen.
    pub fn evidence(&self, name: &HostName) -> Result<Vec<(String, Evidence)>, Error> {
        let read = || {
            let mut statement = self.connection.prepare_cached(
                "SELECT seen_at, digest, url, expected, found, identity FROM evidence
                 WHERE host = (SELECT id FROM host WHERE name = ?1) ORDER BY id DESC",
            )?;
            let mut rows = statement.query([name.as_str()])?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                let (digest, identity): (String, String) = (row.get(1)?, row.get(5)?);
                if let (Ok(digest), Ok(identity)) = (digest.parse(), identity.parse()) {
                    let evidence = Evidence {
                        digest,
                        url: row.get(2)?,
                        expected: row.get(3)?,
                        found: row.get(4)?,
                        identity,
                    };
                    found.push((row.get(0)?, evidence));
                }
            }
            Ok(found)
        };
        read().map_err(|source| self.failed("read crawls from", source))
    }
}

/// Enters what was found at a host, and forgets the oldest.
pub(super) fn enter(
    transaction: &Transaction<'_>,
    host: HostId,
    at: &str,
    evidence: &[Evidence],
) -> rusqlite::Result<()> {
    for piece in evidence {
        transaction.execute(
            "INSERT INTO evidence (host, digest, url, expected, found, identity, seen_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![
                host.0,
                piece.digest.to_string(),
                cut(&piece.url),
                cut(&piece.expected),
                cut(&piece.found),
                piece.identity.as_str(),
                at
            ],
        )?;
    }
    transaction.execute(
        "DELETE FROM evidence WHERE host = ?1 AND id NOT IN
           (SELECT id FROM evidence WHERE host = ?1 ORDER BY id DESC LIMIT ?2)",
        params![host.0, MAX_EVIDENCE],
    )?;
    Ok(())
}

/// As much of a text as is kept.
pub(super) fn cut(text: &str) -> &str {
    let mut ends = (0..=MAX_TEXT.min(text.len())).rev();
    let end = ends.find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or_default()]
}
