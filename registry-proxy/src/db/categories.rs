//! Categories: what mirrors have directories for that check in as with MirrorManager.
//!
//! Such a call says, category by category, which directories are there, and nothing of how new it is what is in them. So
//! what the catalog held of a category when it was named counts at a later call, once there was a sync.
//!
//! A category is told whole, as MirrorManager takes it: what it named once and does not name any more is gone, unless
//! another one names it. Of a category that a call does not name it says nothing, since quick-fedora-mirror tells only
//! of those that have changed; but one that is not told of for as long as a silent mirror is believed is gone too.
//!
//! A call vouches for a sync that has just ended: so it is documented, and so the clients do it. Nothing in it tells
//! whether there was one, as the directories of two syncs are mostly the same. But a call is made again by hand, or
//! because its answer was lost, and what came to the tree in the hours of a long sync must not count because of that. So
//! calls less than [`ONE_SYNC`] apart are of one sync: the later ones keep a mirror from falling silent and may say that
//! there is less, and no more counts by them. Who calls again and again without a sync says what is not true, and
//! nobody but the mirror's own clients would find out.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use oci_mirror::tree::Catalog;
use oci_mirror::tree::catalog::BlobId;
use roaring::RoaringBitmap;
use rusqlite::{OptionalExtension as _, Transaction, params};

use super::crawls::Verdict;
use super::numbers::Book;
use super::presence::{bitmap, bytes};
use super::record;
use super::rounds::clock;
use crate::checkin::report_mirror::MAX_CATEGORIES;
use crate::network::HostId;

/// Calls that are less than this apart are taken to be of one sync, as far as anything new counts. Who syncs more
/// often is credited with what is new so much later.
const ONE_SYNC: SignedDuration = SignedDuration::from_mins(10);

/// The category of what a host is credited with and none of its categories names: on the word of an earlier report, or
/// by a crawl. It is never named, so it is gone like any other that is not told of any more. Calls have no category
/// without a name.
pub(super) const REST: &str = "";

/// What counts of a call, by the database's numbers.
#[derive(Debug, Default)]
pub(super) struct Counted {
    /// What is there.
    pub(super) there: RoaringBitmap,
    /// What is there no more, or is not to be believed any more.
    pub(super) lost: RoaringBitmap,
}

/// What the catalog held of a category when it was named.
#[derive(Debug, Clone, PartialEq, Default)]
struct Listed {
    blobs: RoaringBitmap,
    /// When the catalog held that, as text that sorts.
    since: String,
    /// When it was named last, as text that sorts.
    named_at: String,
}

impl Listed {
    /// What there is of it after a call that names these blobs; the call counts unless it is of the same sync.
    fn after(&self, now: RoaringBitmap, at: Timestamp) -> (Self, Call) {
        let named_at = clock(at);
        let since = self.since.parse::<Timestamp>();
        // However the clock was turned meanwhile.
        let is_again = since.is_ok_and(|since| at.duration_since(since).abs() < ONE_SYNC);
        if is_again {
            let again = Self {
                blobs: &self.blobs & now,
                since: self.since.clone(),
                named_at,
            };
            return (again, Call::Again);
        }
        let next = Self {
            blobs: now,
            since: named_at.clone(),
            named_at,
        };
        (next, Call::AfterSync)
    }
}

/// What a call may prove.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    /// That what was listed before was synced.
    AfterSync,
    /// That what it was credited with on its word is still there.
    Again,
}

/// Writes down what a call names, and says what of it counts. `named` are numbers of the catalog, by category.
pub(super) fn count(
    transaction: &Transaction<'_>,
    book: &mut Book,
    (host, at): (HostId, Timestamp),
    named: &BTreeMap<String, RoaringBitmap>,
    catalog: &Catalog,
) -> rusqlite::Result<Counted> {
    let mut listed = read(transaction, host)?;
    listed.remove(REST);
    // What a crawl has found is no proof of its word.
    let credited = if is_believed(transaction, host)? {
        credited(transaction, host)?
    } else {
        RoaringBitmap::new()
    };
    // Categories may have much in common.
    let all = named
        .values()
        .fold(RoaringBitmap::new(), |all, it| all | it);
    let ids = all.iter().map(|id| (BlobId(id), Verdict::Unknown));
    record::blobs(transaction, book, &ids.collect::<Vec<_>>(), catalog)?;
    let mut counted = Counted::default();
    for (category, blobs) in named {
        let now = blobs.iter().filter_map(|id| book.of(BlobId(id)));
        let now: RoaringBitmap = now.collect();
        let before = listed.remove(category).unwrap_or_default();
        counted.lost |= &before.blobs - &now;
        let there = &before.blobs & &now;
        let (after, call) = before.after(now, at);
        counted.there |= match call {
            Call::AfterSync => there,
            Call::Again => there & &credited,
        };
        write(transaction, host, category, &after)?;
        if !after.blobs.is_empty() {
            listed.insert(category.clone(), after);
        }
    }
    // It is remembered what as many categories named as one call may name.
    while listed.len() > MAX_CATEGORIES
        && let Some(oldest) = oldest(&listed)
    {
        write(transaction, host, &oldest, &Listed::default())?;
        counted.lost |= listed.remove(&oldest).unwrap_or_default().blobs;
    }
    for other in listed.values() {
        counted.lost -= &other.blobs;
    }
    counted.there -= &counted.lost;
    Ok(counted)
}

/// Remembers what a host is credited with that none of its categories names, since the first call at which it was so.
pub(super) fn keep_rest(
    transaction: &Transaction<'_>,
    host: HostId,
    at: Timestamp,
) -> rusqlite::Result<()> {
    let mut listed = read(transaction, host)?;
    let before = listed.remove(REST);
    let mut blobs = credited(transaction, host)?;
    for named in listed.values() {
        blobs -= &named.blobs;
    }
    let (since, named_at) = match before {
        Some(before) => (before.since, before.named_at),
        None => (clock(at), clock(at)),
    };
    let rest = Listed {
        blobs,
        since,
        named_at,
    };
    write(transaction, host, REST, &rest)
}

/// What a host is known to hold.
fn credited(transaction: &Transaction<'_>, host: HostId) -> rusqlite::Result<RoaringBitmap> {
    let query = "SELECT verified FROM presence WHERE host = ?1";
    let verified = transaction.query_row(query, [host.0], |row| row.get::<_, Vec<u8>>(0));
    Ok(bitmap(&verified.optional()?.unwrap_or_default()))
}

fn oldest(listed: &BTreeMap<String, Listed>) -> Option<String> {
    let oldest = listed.iter().min_by_key(|(_, it)| &it.named_at);
    oldest.map(|(category, _)| category.clone())
}

/// What is remembered of all categories of a host.
fn read(transaction: &Transaction<'_>, host: HostId) -> rusqlite::Result<BTreeMap<String, Listed>> {
    let query = "SELECT name, blobs, listed_at, named_at FROM category WHERE host = ?1";
    let mut statement = transaction.prepare_cached(query)?;
    let rows = statement.query_map([host.0], |row| {
        let listed = Listed {
            blobs: bitmap(&row.get::<_, Vec<u8>>(1)?),
            since: row.get(2)?,
            named_at: row.get(3)?,
        };
        Ok((row.get(0)?, listed))
    });
    rows?.collect()
}

/// Remembers what a category names; nothing is forgotten.
fn write(
    transaction: &Transaction<'_>,
    host: HostId,
    category: &str,
    listed: &Listed,
) -> rusqlite::Result<()> {
    if listed.blobs.is_empty() {
        let query = "DELETE FROM category WHERE host = ?1 AND name = ?2";
        transaction.execute(query, params![host.0, category])?;
    } else {
        transaction.execute(
            "INSERT OR REPLACE INTO category (host, name, blobs, listed_at, named_at)
             VALUES (?1, ?2, ?3, ?4, ?5)",
            params![
                host.0,
                category,
                bytes(listed.blobs.clone()),
                listed.since,
                listed.named_at
            ],
        )?;
    }
    Ok(())
}

/// Forgets what a host has named: what it lists from now on it may not have synced.
pub(super) fn forget(transaction: &Transaction<'_>, host: HostId) -> rusqlite::Result<()> {
    let query = "DELETE FROM category WHERE host = ?1";
    transaction.execute(query, [host.0]).map(drop)
}

/// Forgets what a host has named last before `before`: what it lists when it comes back it may not have synced. What it
/// has listed since it was to sync as any other mirror.
pub(super) fn forget_older(
    transaction: &Transaction<'_>,
    host: HostId,
    before: Timestamp,
) -> rusqlite::Result<()> {
    let query = "DELETE FROM category WHERE host = ?1 AND named_at < ?2";
    let forgotten = transaction.execute(query, params![host.0, clock(before)]);
    forgotten.map(drop)
}

/// The same; which categories that were, and what no other names either, by the database's numbers.
pub(super) fn expire(
    transaction: &Transaction<'_>,
    host: HostId,
    before: Timestamp,
) -> rusqlite::Result<(Vec<String>, RoaringBitmap)> {
    let mut expired = Vec::new();
    let (mut lost, mut named) = (RoaringBitmap::new(), RoaringBitmap::new());
    for (category, listed) in read(transaction, host)? {
        if listed.named_at < clock(before) {
            lost |= listed.blobs;
            expired.push(category);
        } else if category != REST {
            named |= listed.blobs;
        }
    }
    forget_older(transaction, host, before)?;
    Ok((expired, lost - named))
}

/// Whether a host is believed what it says of itself.
pub(super) fn is_believed(transaction: &Transaction<'_>, host: HostId) -> rusqlite::Result<bool> {
    let query = "SELECT 1 FROM host WHERE id = ?1 AND checked_in_at IS NOT NULL";
    transaction.prepare_cached(query)?.exists([host.0])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(blobs: &[u32]) -> RoaringBitmap {
        blobs.iter().copied().collect()
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + seconds).unwrap()
    }

    #[test]
    fn a_call_of_the_same_sync_lists_nothing_new() {
        let (first, call) = Listed::default().after(set(&[1, 2]), at(0));
        assert_eq!((call, &first.blobs), (Call::AfterSync, &set(&[1, 2])));
        let (again, call) = first.after(set(&[2, 3]), at(599));
        assert_eq!((call, &again.blobs), (Call::Again, &set(&[2])));
        assert_eq!(again.since, first.since);
        assert_eq!(again.named_at, clock(at(599)));
        // However often that was.
        let (next, call) = again.after(set(&[2, 3]), at(600));
        assert_eq!((call, next.blobs), (Call::AfterSync, set(&[2, 3])));
        assert_eq!(next.since, clock(at(600)));
    }

    #[test]
    fn a_clock_that_was_turned_back_keeps_nobody_from_being_credited() {
        let (first, _) = Listed::default().after(set(&[1]), at(0));
        let (_, call) = first.after(set(&[1]), at(-86_400));
        assert_eq!(call, Call::AfterSync);
        let (_, call) = first.after(set(&[1]), at(-60));
        assert_eq!(call, Call::Again);
    }
}
