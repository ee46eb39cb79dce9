//! Health: what a crawl means for a host as a whole.

use jiff::{SignedDuration, Timestamp};
use oci_mirror::tree::Catalog;
use oci_mirror::tree::catalog::BlobId;
use roaring::RoaringBitmap;
use rusqlite::{OptionalExtension as _, Transaction, params};

use super::crawls::{Crawl, Outcome, Scope, Verdict};
use super::evidence::{Evidence, cut};
use super::numbers::{Book, Numbers};
use super::presence::bitmap;
use super::{Database, Error};
use crate::crawler::odds;
use crate::network::standing::FAILURES_TO_DISABLE;
use crate::network::{Health, HostId, HostName};

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

/// So many right samples in a row end a quarantine: if one blob in a hundred were damaged, one time in a
/// thousand none of these would have been.
const PROOF: u64 = 690;

/// So many are wanted even where all that is known to be there was read: a crawl of a part may know little.
const LITTLE: u64 = 20;

/// What the row of a host says of its health.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct State {
    failed_crawls: u32,
    failure: Option<String>,
    quarantine: Option<String>,
    /// When the first damage was seen.
    quarantined_at: Option<String>,
    /// Right in a row since damage was last seen.
    clean_samples: u64,
}

/// What a crawl says of it.
#[derive(Debug)]
enum Told {
    /// It could not be finished.
    Failed(String),
    /// It has seen damage.
    Damage(String),
    /// It went through and has seen none.
    Clean(Clean),
}

/// A crawl without damage.
#[derive(Debug, Clone, Copy, Default)]
struct Clean {
    /// Of so many blobs bytes were read and were right.
    samples: u64,
    /// What became of what was damaged.
    damage: Damage,
    /// Whether everything it holds was read since damage was last seen.
    is_all_read: bool,
    /// Whether that is everything it should hold.
    is_whole: bool,
}

/// What became of the blobs of a host that were damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Damage {
    /// All of them were read whole and are right, or are gone.
    #[default]
    Mended,
    /// All but those that it is not to carry any more.
    Evaded,
    /// Some are damaged still.
    Open,
}

/// What follows.
///
/// A failed crawl neither begins nor ends a quarantine. Only bytes end it: of all blobs that were damaged,
/// and of all others or of so many that a little damage is unlikely. Where a damaged blob is not to be carried
/// any more it cannot be mended, nor does it harm anybody; but whoever says what is carried must not be able
/// to leave him only a few right blobs and so be done with it. So there nothing counts but the number.
fn next(before: State, at: &str, told: Told) -> State {
    match told {
        Told::Failed(reason) => State {
            failed_crawls: before.failed_crawls.saturating_add(1),
            failure: Some(reason),
            ..before
        },
        Told::Damage(reason) => State {
            failed_crawls: 0,
            failure: None,
            quarantine: Some(reason),
            quarantined_at: Some(before.quarantined_at.unwrap_or_else(|| at.to_owned())),
            clean_samples: 0,
        },
        Told::Clean(_) if before.quarantine.is_none() => State::default(),
        Told::Clean(clean) => {
            let clean_samples = before.clean_samples.saturating_add(clean.samples);
            let is_all_read = clean.is_all_read && (clean.is_whole || clean_samples >= LITTLE);
            let is_proven = match clean.damage {
                Damage::Mended => is_all_read || clean_samples >= PROOF,
                Damage::Evaded => clean_samples >= PROOF,
                Damage::Open => false,
            };
            if is_proven {
                return State::default();
            }
            State {
                failed_crawls: 0,
                failure: None,
                clean_samples,
                ..before
            }
        }
    }
}

/// Writes down what follows from a crawl, whose presence and readings are written down already.
pub(super) fn update(
    transaction: &Transaction<'_>,
    book: &mut Book,
    host: HostId,
    crawl: &Crawl,
    catalog: &Catalog,
) -> rusqlite::Result<()> {
    let (before, at) = (state(transaction, host)?, crawl.at.to_string());
    let told = match &crawl.outcome {
        Outcome::Failed(reason) => Told::Failed(cut(reason).to_owned()),
        Outcome::Finished { evidence, .. } if !evidence.is_empty() => {
            // What was read until now says nothing of the time from which damage may be.
            transaction.execute("DELETE FROM reading WHERE host = ?1", [host.0])?;
            Told::Damage(damage(&evidence[0]))
        }
        Outcome::Finished { .. } if before.quarantine.is_none() => Told::Clean(Clean::default()),
        Outcome::Finished {
            scope, verdicts, ..
        } => {
            book.bring_up_to_date(transaction, catalog)?;
            let carried = crawl.carried.as_ref();
            let told = (*scope, &**verdicts);
            Told::Clean(clean(transaction, host, told, carried, book.numbers())?)
        }
    };
    let after = next(before, &at, told);
    transaction.execute(
        "UPDATE host SET failed_crawls = ?2, failure = ?3, quarantine = ?4, quarantined_at = ?5,
                         clean_samples = ?6, crawled_at = ?7 WHERE id = ?1",
        params![
            host.0,
            after.failed_crawls,
            after.failure,
            after.quarantine,
            after.quarantined_at,
            i64::try_from(after.clean_samples).unwrap_or(i64::MAX),
            at
        ],
    )?;
    Ok(())
}

fn state(transaction: &Transaction<'_>, host: HostId) -> rusqlite::Result<State> {
    let query = "SELECT failed_crawls, failure, quarantine, quarantined_at, clean_samples
                 FROM host WHERE id = ?1";
    transaction.query_row(query, [host.0], |row| {
        Ok(State {
            failed_crawls: row.get(0)?,
            failure: row.get(1)?,
            quarantine: row.get(2)?,
            quarantined_at: row.get(3)?,
            clean_samples: row.get::<_, i64>(4)?.try_into().unwrap_or_default(),
        })
    })
}

fn damage(piece: &Evidence) -> String {
    let reason = format!(
        "{} is damaged at {}: {}",
        piece.digest, piece.url, piece.found
    );
    cut(&reason).to_owned()
}

/// What a crawl without damage says of a host in quarantine.
fn clean(
    transaction: &Transaction<'_>,
    host: HostId,
    (scope, verdicts): (Scope, &[(BlobId, Verdict)]),
    carried: Option<&RoaringBitmap>,
    numbers: &Numbers,
) -> rusqlite::Result<Clean> {
    let query = "SELECT verified, damaged FROM presence WHERE host = ?1";
    let sets = transaction.query_row(query, [host.0], |row| {
        let set = |column| row.get(column).map(|bytes: Vec<u8>| bitmap(&bytes));
        Ok((set(0)?, set(1)?))
    });
    let (verified, damaged) = sets.optional()?.unwrap_or_default();
    let mut read = RoaringBitmap::new();
    let mut statement = transaction.prepare_cached("SELECT blobs FROM reading WHERE host = ?1")?;
    let mut rows = statement.query([host.0])?;
    while let Some(row) = rows.next()? {
        read |= bitmap(&row.get::<_, Vec<u8>>(0)?);
    }
    let is = |wanted: &'static [Verdict]| {
        move |(_, verdict): &&(BlobId, Verdict)| wanted.contains(verdict)
    };
    let samples = verdicts
        .iter()
        .filter(is(&[Verdict::Read, Verdict::Sampled]));
    let mut open = verdicts
        .iter()
        .filter(is(&[Verdict::Present, Verdict::Unknown]));
    // What has left the tree is nobody's to mend.
    let owed = |set: &RoaringBitmap| -> RoaringBitmap {
        let owed = numbers.among(set);
        owed.map(|id| id.0).collect()
    };
    let samples = samples.count() as u64;
    let damaged = owed(&damaged);
    let still = carried.map_or_else(|| damaged.clone(), |carried| &damaged & carried);
    // Where nothing was read nothing was shown: a host that has lost all it had has mended nothing.
    Ok(Clean {
        samples,
        damage: match (still.is_empty(), damaged.is_empty()) {
            (false, _) => Damage::Open,
            (true, false) => Damage::Evaded,
            (true, true) => Damage::Mended,
        },
        is_all_read: open.next().is_none() && owed(&verified).is_subset(&owed(&read)),
        is_whole: scope == Scope::Whole && samples > 0,
    })
}

impl Database {
    /// Ends the quarantine of a host on the word of an operator; whether there was one.
    ///
    /// What was damaged there is read again at the next crawl, and if it still is, the quarantine begins anew.
    pub fn clear_quarantine(&mut self, name: &HostName) -> Result<bool, Error> {
        // Failures of that time were told to nobody: the next one is.
        let query = "UPDATE host SET quarantine = NULL, quarantined_at = NULL, clean_samples = 0,
                                     failed_crawls = min(failed_crawls, ?2)
                     WHERE name = ?1 AND quarantine IS NOT NULL";
        let untold = FAILURES_TO_DISABLE - 1;
        let cleared = self
            .connection
            .execute(query, params![name.as_str(), untold]);
        cleared
            .map(|rows| rows > 0)
            .map_err(|source| self.failed("change", source))
    }

    /// The chance that damage to one blob in a hundred would have been found in the crawls of a host that
    /// ended at `since` or later; `None` if there was none.
    pub fn odds_since(&self, host: HostId, since: Timestamp) -> Result<Option<f64>, Error> {
        let read = || {
            // As text times do not sort: fractions of a second are left out where there are none.
            let query = "SELECT ended_at, undetected FROM crawl WHERE host = ?1 ORDER BY id DESC";
            let mut statement = self.connection.prepare_cached(query)?;
            let mut rows = statement.query([host.0])?;
            let mut undetected = None;
            while let Some(row) = rows.next()? {
                let ended: Option<Timestamp> = row.get::<_, String>(0)?.parse().ok();
                if ended.is_some_and(|ended| ended >= since) {
                    *undetected.get_or_insert(0.0) += row.get::<_, f64>(1)?;
                }
            }
            Ok(undetected.map(odds::detected))
        };
        read().map_err(|source| self.failed("read crawls from", source))
    }

    /// The same, of the last 24 hours.
    pub fn odds_of_a_day(&self, host: HostId) -> Result<Option<f64>, Error> {
        self.odds_since(host, Timestamp::now() - SignedDuration::from_hours(24))
    }
}

#[cfg(test)]
mod tests {
    use super::super::hosts::tests::new_host;
    use super::*;

    fn quarantined(clean_samples: u64) -> State {
        State {
            quarantine: Some("wrong".to_owned()),
            quarantined_at: Some("then".to_owned()),
            clean_samples,
            ..State::default()
        }
    }

    fn failing(crawls: u32) -> State {
        State {
            failed_crawls: crawls,
            failure: Some("refused".to_owned()),
            ..State::default()
        }
    }

    #[test]
    fn failures_add_up_and_one_good_crawl_ends_them() {
        let mut state = State::default();
        for crawls in 1..=5 {
            state = next(state, "now", Told::Failed("refused".to_owned()));
            assert_eq!(state, failing(crawls));
        }
        let state = next(state, "now", Told::Clean(Clean::default()));
        assert_eq!(state, State::default());
    }

    #[test]
    fn one_wrong_byte_begins_a_quarantine_and_failures_do_not_end_it() {
        let told = || Told::Damage("wrong".to_owned());
        let state = next(failing(3), "then", told());
        assert_eq!(state, quarantined(0));
        let state = next(state, "now", Told::Failed("refused".to_owned()));
        assert_eq!(
            (state.failed_crawls, &*state.quarantine.clone().unwrap()),
            (1, "wrong")
        );
        let state = next(quarantined(500), "now", told());
        assert_eq!(
            state,
            quarantined(0),
            "since then, and from the start again"
        );
    }

    #[test]
    fn a_quarantine_ends_by_proof_and_not_by_looking() {
        use Damage::{Evaded, Mended, Open};
        let clean = |samples, damage, is_all_read, is_whole| Clean {
            samples,
            damage,
            is_all_read,
            is_whole,
        };
        for (before, clean, ended) in [
            (0, clean(0, Mended, false, true), false),
            (0, clean(8, Mended, true, true), true),
            (0, clean(8, Open, true, true), false),
            (0, clean(8, Mended, true, false), false),
            (12, clean(8, Mended, true, false), true),
            (689, clean(0, Mended, false, false), false),
            (689, clean(1, Mended, false, false), true),
            (5000, clean(1, Open, false, true), false),
            (681, clean(8, Evaded, true, true), false),
            (682, clean(8, Evaded, true, true), true),
        ] {
            let after = next(quarantined(before), "now", Told::Clean(clean));
            assert_eq!(after == State::default(), ended, "{before} {clean:?}");
            if !ended {
                assert_eq!(after, quarantined(before + clean.samples));
            }
        }
    }

    #[test]
    fn an_operator_can_end_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut database = Database::open(&dir.path().join("x.db")).unwrap();
        let new = new_host("m", "https://m.example/t");
        database.add_host(&new).unwrap();
        assert!(!database.clear_quarantine(&new.name).unwrap());
        let query = "UPDATE host SET quarantine = 'wrong', quarantined_at = 'then'";
        database.connection.execute(query, ()).unwrap();
        assert!(database.clear_quarantine(&new.name).unwrap());
        assert_eq!(
            database.host(&new.name).unwrap().host.health,
            Health::Healthy
        );
    }

    #[test]
    fn the_odds_are_those_of_the_crawls_since() {
        let dir = tempfile::tempdir().unwrap();
        let mut database = Database::open(&dir.path().join("x.db")).unwrap();
        let host = database
            .add_host(&new_host("m", "https://m.example/t"))
            .unwrap();
        let since: Timestamp = "2026-11-20T10:00:00Z".parse().unwrap();
        assert_eq!(database.odds_since(host, since).unwrap(), None);
        let half = 0.5_f64.ln();
        for (ended, undetected) in [
            ("2026-11-20T09:59:59.9Z", -100.0),
            ("2026-11-20T10:00:00Z", half),
            ("2026-11-20T10:00:00.5Z", half),
            ("2026-11-20T11:00:00Z", 0.0),
        ] {
            let query =
                "INSERT INTO crawl (host, began_at, ended_at, requests, bytes, verified, present,
                         missing, damaged, unknown, sampled, undetected)
                         VALUES (?1, ?2, ?2, 0, 0, 0, 0, 0, 0, 0, 0, ?3)";
            let row = params![host.0, ended, undetected];
            database.connection.execute(query, row).unwrap();
        }
        let odds = database.odds_since(host, since).unwrap().unwrap();
        assert!((odds - 0.75).abs() < 1e-9, "{odds}");
    }
}
