//! Health: what a crawl means for a host as a whole.

use rusqlite::{OptionalExtension as _, Transaction, params};

use super::crawls::{Outcome, Scope, Verdict};
use crate::network::{Health, HostId};

/// What the columns of a host say.
pub(super) fn health(
    quarantine: Option<String>,
    failed_crawls: u32,
    failure: Option<String>,
) -> Health {
    match (quarantine, failed_crawls) {
        (Some(reason), _) => Health::Quarantined { reason },
        (None, 0) => Health::Healthy,
        (None, crawls) => Health::Failing {
            crawls,
            reason: failure.unwrap_or_default(),
        },
    }
}

/// The name and the health of a host; `None` if it is gone.
pub(super) fn of(
    transaction: &Transaction<'_>,
    host: HostId,
) -> rusqlite::Result<Option<(String, Health)>> {
    let query = "SELECT name, quarantine, failed_crawls, failure FROM host WHERE id = ?1";
    let row = transaction.query_row(query, [host.0], |row| {
        Ok((row.get(0)?, health(row.get(1)?, row.get(2)?, row.get(3)?)))
    });
    row.optional()
}

/// Writes down what follows from a crawl.
pub(super) fn update(
    transaction: &Transaction<'_>,
    host: HostId,
    at: &str,
    outcome: &Outcome,
) -> rusqlite::Result<()> {
    let (scope, verdicts, evidence) = match outcome {
        Outcome::Failed(reason) => {
            transaction.execute(
                "UPDATE host SET failed_crawls = failed_crawls + 1, failure = ?2, crawled_at = ?3 WHERE id = ?1",
                params![host.0, reason, at],
            )?;
            return Ok(());
        }
        Outcome::Finished {
            scope,
            verdicts,
            evidence,
        } => (scope, verdicts, evidence),
    };
    transaction.execute(
        "UPDATE host SET failed_crawls = 0, failure = NULL, crawled_at = ?2 WHERE id = ?1",
        params![host.0, at],
    )?;
    if let Some(piece) = evidence.first() {
        let reason = format!(
            "{} is damaged at {}: {}",
            piece.digest, piece.url, piece.found
        );
        transaction.execute(
            "UPDATE host SET quarantine = ?2 WHERE id = ?1",
            params![host.0, reason],
        )?;
    } else if *scope == Scope::Whole && verdicts.iter().all(|(_, verdict)| is_read(*verdict)) {
        // Only having read everything proves that the damage is gone.
        transaction.execute("UPDATE host SET quarantine = NULL WHERE id = ?1", [host.0])?;
    }
    Ok(())
}

/// Whether all bytes there were have been read.
fn is_read(verdict: Verdict) -> bool {
    match verdict {
        Verdict::Read | Verdict::Missing | Verdict::Damaged => true,
        Verdict::Sampled | Verdict::Confirmed | Verdict::Present | Verdict::Unknown => false,
    }
}
