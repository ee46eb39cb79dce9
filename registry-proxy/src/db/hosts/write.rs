//! Writing down what is said of a host: only what differs, so that saying the same again changes nothing.

use rusqlite::{OptionalExtension as _, Transaction, params};

use crate::db::sites;
use crate::network::{BaseUrl, Host, HostId, NewHost, Reason, SiteName, Visibility};

/// Enters a host, and its site if that is not there.
pub(in crate::db) fn insert(
    transaction: &Transaction<'_>,
    host: &NewHost,
) -> rusqlite::Result<HostId> {
    let site = host.site.clone();
    let site = site.unwrap_or_else(|| SiteName::from(&host.name));
    let site = sites::ensure(transaction, &site)?;
    let mut statement = transaction.prepare_cached(
        "INSERT INTO host (site, name, bandwidth, private, disabled, disabled_by_site)
         VALUES (?1, ?2, 1, 0, ?3, ?4)",
    )?;
    statement.execute(params![
        site,
        host.name.as_str(),
        host.disabled.as_ref().map(Reason::as_str),
        host.disabled_by_site.as_ref().map(Reason::as_str),
    ])?;
    let id = transaction.last_insert_rowid();
    row(transaction, id, host)?;
    for list in List::ALL {
        list.write(transaction, id, host)?;
    }
    Ok(HostId(u32::try_from(id).unwrap_or(u32::MAX)))
}

/// Changes a host where it differs, and tells in which fields it did. Its site stays unless another is
/// named, a switch unless it is turned off.
pub(in crate::db) fn change(
    transaction: &Transaction<'_>,
    old: &Host,
    new: &NewHost,
) -> rusqlite::Result<Vec<&'static str>> {
    let (id, before) = (i64::from(old.id.0), NewHost::from(old).in_order());
    let new = new.clone().in_order();
    let mut changed = Vec::new();
    for (field, differs) in [
        ("country", before.country != new.country),
        ("coordinates", before.coordinates != new.coordinates),
        ("bandwidth", before.bandwidth != new.bandwidth),
        ("visibility", before.visibility != new.visibility),
        ("kind", before.kind != new.kind),
        ("max-blob-size", before.max_blob_size != new.max_blob_size),
    ] {
        changed.extend(differs.then_some(field));
    }
    if !changed.is_empty() {
        row(transaction, id, &new)?;
    }
    for list in List::ALL {
        let fields = list.differing(&before, &new);
        if !fields.is_empty() {
            list.write(transaction, id, &new)?;
        }
        changed.extend(fields);
    }
    changed.extend(turn_off(transaction, old, &new)?);
    if let Some(site) = new.site.as_ref().filter(|site| **site != old.site) {
        move_to(transaction, id, site)?;
        changed.push("site");
    }
    // A public mirror is not believed what it said while it was private.
    let is_doubted = before.visibility != new.visibility && has_checked_in(transaction, id)?;
    if is_doubted || download_url(&before) != download_url(&new) {
        forget(transaction, id)?;
    } else if changed
        .iter()
        .any(|field| ["repositories", "max-blob-size"].contains(field))
    {
        // What it says next is looked at anew: more of it may count.
        let query = "UPDATE host SET state_digest = NULL WHERE id = ?1 AND private = 1 AND checked_in_at IS NOT NULL";
        transaction.execute(query, [id])?;
    }
    Ok(changed)
}

/// Writes down everything that is said of a host whose row nobody can read.
pub(in crate::db) fn rewrite(
    transaction: &Transaction<'_>,
    id: i64,
    new: &NewHost,
) -> rusqlite::Result<()> {
    row(transaction, id, new)?;
    for list in List::ALL {
        list.write(transaction, id, new)?;
    }
    if let Some(site) = &new.site {
        move_to(transaction, id, site)?;
    }
    transaction.execute(
        "UPDATE host SET disabled = coalesce(?2, disabled), disabled_by_site = coalesce(?3, disabled_by_site),
                         failed_crawls = 0, failure = NULL
         WHERE id = ?1",
        params![
            id,
            new.disabled.as_ref().map(Reason::as_str),
            new.disabled_by_site.as_ref().map(Reason::as_str)
        ],
    )?;
    forget(transaction, id)
}

/// Removes a host, and its site if nothing is known of that but its name.
pub(in crate::db) fn remove(transaction: &Transaction<'_>, name: &str) -> rusqlite::Result<bool> {
    let query = "DELETE FROM host WHERE name = ?1 RETURNING site";
    let site: Option<i64> = transaction
        .query_row(query, [name], |row| row.get(0))
        .optional()?;
    if let Some(site) = site {
        sites::sweep(transaction, site)?;
    }
    Ok(site.is_some())
}

/// The columns that are neither switches nor the site.
fn row(transaction: &Transaction<'_>, id: i64, host: &NewHost) -> rusqlite::Result<()> {
    let mut statement = transaction.prepare_cached(
        "UPDATE host SET country = ?2, latitude = ?3, longitude = ?4, bandwidth = ?5, private = ?6, kind = ?7,
                         max_blob_size = ?8
         WHERE id = ?1",
    )?;
    statement.execute(params![
        id,
        host.country.map(|country| country.to_string()),
        host.coordinates.map(|coordinates| coordinates.latitude()),
        host.coordinates.map(|coordinates| coordinates.longitude()),
        host.bandwidth.mbit(),
        host.visibility == Visibility::Private,
        host.kind.as_str(),
        host.max_blob_size
            .map(|size| i64::try_from(size.0).unwrap_or(i64::MAX)),
    ])?;
    Ok(())
}

fn turn_off(
    transaction: &Transaction<'_>,
    old: &Host,
    new: &NewHost,
) -> rusqlite::Result<Vec<&'static str>> {
    let mut changed = Vec::new();
    for (field, before, now, query) in [
        (
            "disabled",
            &old.admin,
            &new.disabled,
            "UPDATE host SET disabled = ?2 WHERE id = ?1",
        ),
        (
            "disabled-by-site",
            &old.own,
            &new.disabled_by_site,
            "UPDATE host SET disabled_by_site = ?2 WHERE id = ?1",
        ),
    ] {
        let Some(now) = now else { continue };
        if before.reason() != Some(now.as_str()) {
            transaction.execute(query, params![old.id.0, now.as_str()])?;
            changed.push(field);
        }
    }
    Ok(changed)
}

/// Puts a host to another site; the one it leaves goes if nothing is known of it but its name.
fn move_to(transaction: &Transaction<'_>, id: i64, site: &SiteName) -> rusqlite::Result<()> {
    let query = "SELECT site FROM host WHERE id = ?1";
    let left: i64 = transaction.query_row(query, [id], |row| row.get(0))?;
    let site = sites::ensure(transaction, site)?;
    transaction.execute("UPDATE host SET site = ?2 WHERE id = ?1", [id, site])?;
    if left != site {
        sites::sweep(transaction, left)?;
    }
    Ok(())
}

fn download_url(host: &NewHost) -> Option<&str> {
    let mut urls = host.urls.iter();
    urls.find(|url| url.is_http()).map(BaseUrl::as_str)
}

fn has_checked_in(transaction: &Transaction<'_>, id: i64) -> rusqlite::Result<bool> {
    let query = "SELECT 1 FROM host WHERE id = ?1 AND checked_in_at IS NOT NULL";
    transaction.prepare_cached(query)?.exists([id])
}

/// Forgets what was true of another server. That it once sent wrong bytes is not forgotten: moving must
/// not be a way out of quarantine.
pub(in crate::db) fn forget(transaction: &Transaction<'_>, id: i64) -> rusqlite::Result<()> {
    // The row stays: whoever has read it sees by its revision that it is another.
    transaction.execute(
        "UPDATE presence SET verified = x'', missing = x'', damaged = x'',
                             revision = (SELECT 1 + max(revision) FROM presence)
         WHERE host = ?1",
        [id],
    )?;
    for query in [
        "DELETE FROM reading WHERE host = ?1",
        "DELETE FROM probe WHERE host = ?1",
        "DELETE FROM repository_health WHERE host = ?1",
        "DELETE FROM category WHERE host = ?1",
        "UPDATE host SET crawled_at = NULL, finished_at = NULL, state_digest = NULL, tree_serial = NULL,
                         hinted_at = NULL, checked_in_at = NULL
         WHERE id = ?1",
    ] {
        transaction.execute(query, [id])?;
    }
    Ok(())
}

/// A table with several rows for a host.
#[derive(Clone, Copy)]
enum List {
    Urls,
    Netblocks,
    Asns,
    Countries,
    Repositories,
}

impl List {
    const ALL: [Self; 5] = [
        Self::Urls,
        Self::Netblocks,
        Self::Asns,
        Self::Countries,
        Self::Repositories,
    ];

    /// The fields of the table that are not the same.
    fn differing(self, old: &NewHost, new: &NewHost) -> Vec<&'static str> {
        let pairs = match self {
            Self::Urls => vec![("urls", old.urls != new.urls)],
            Self::Netblocks => vec![("netblocks", old.netblocks != new.netblocks)],
            Self::Asns => vec![
                ("asns", old.asns != new.asns),
                ("peer-asns", old.peer_asns != new.peer_asns),
            ],
            Self::Countries => vec![
                (
                    "allowed-countries",
                    old.allowed_countries != new.allowed_countries,
                ),
                (
                    "denied-countries",
                    old.denied_countries != new.denied_countries,
                ),
            ],
            Self::Repositories => vec![
                ("repositories", old.repositories != new.repositories),
                (
                    "excluded-repositories",
                    old.excluded_repositories != new.excluded_repositories,
                ),
            ],
        };
        let differing = pairs.into_iter().filter(|(_, differs)| *differs);
        differing.map(|(field, _)| field).collect()
    }

    /// Replaces the rows of the host.
    fn write(self, transaction: &Transaction<'_>, id: i64, host: &NewHost) -> rusqlite::Result<()> {
        let (delete, insert) = match self {
            Self::Urls => (
                "DELETE FROM url WHERE host = ?1",
                "INSERT INTO url (host, position, url) VALUES (?1, ?2, ?3)",
            ),
            Self::Netblocks => (
                "DELETE FROM netblock WHERE host = ?1",
                "INSERT OR IGNORE INTO netblock (host, cidr) VALUES (?1, ?2)",
            ),
            Self::Asns => (
                "DELETE FROM asn WHERE host = ?1",
                "INSERT OR IGNORE INTO asn (host, asn, peer) VALUES (?1, ?2, ?3)",
            ),
            Self::Countries => (
                "DELETE FROM served_country WHERE host = ?1",
                "INSERT OR IGNORE INTO served_country (host, country, allowed) VALUES (?1, ?2, ?3)",
            ),
            Self::Repositories => (
                "DELETE FROM repository WHERE host = ?1",
                "INSERT INTO repository (host, position, glob, excluded) VALUES (?1, ?2, ?3, ?4)",
            ),
        };
        transaction.prepare_cached(delete)?.execute([id])?;
        let mut insert = transaction.prepare_cached(insert)?;
        match self {
            Self::Urls => {
                for (position, url) in (0_i64..).zip(&host.urls) {
                    insert.execute(params![id, position, url.as_str()])?;
                }
            }
            Self::Netblocks => {
                for netblock in &host.netblocks {
                    insert.execute(params![id, netblock.trunc().to_string()])?;
                }
            }
            Self::Asns => {
                let own = host.asns.iter().map(|asn| (asn, false));
                for (asn, peer) in own.chain(host.peer_asns.iter().map(|asn| (asn, true))) {
                    insert.execute(params![id, asn.0, peer])?;
                }
            }
            Self::Countries => {
                let allowed = host.allowed_countries.iter().map(|code| (code, true));
                let denied = host.denied_countries.iter().map(|code| (code, false));
                for (country, allowed) in allowed.chain(denied) {
                    insert.execute(params![id, country.as_str(), allowed])?;
                }
            }
            Self::Repositories => {
                let carried = host.repositories.iter().map(|glob| (glob, false));
                let excluded = host.excluded_repositories.iter().map(|glob| (glob, true));
                for (position, (glob, excluded)) in (0_i64..).zip(carried.chain(excluded)) {
                    insert.execute(params![id, position, glob.as_str(), excluded])?;
                }
            }
        }
        Ok(())
    }
}
