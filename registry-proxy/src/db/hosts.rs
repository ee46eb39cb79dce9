//! Hosts: entering, reading, changing.

use jiff::Timestamp;
use rusqlite::{OptionalExtension as _, Transaction, params};

use super::{Database, Error, health};
use crate::geo::Coordinates;
use crate::network::{Bandwidth, Host, HostId, HostName, NewHost, SiteName, Switch, Visibility};

/// A host with what is known beside it.
#[derive(Debug, Clone, PartialEq)]
pub struct Listed {
    /// The host.
    pub host: Host,
    /// When it was last crawled.
    pub crawled_at: Option<Timestamp>,
}

impl Database {
    /// Enters a host. It gets its first clients after its first crawl.
    pub fn add_host(&mut self, host: &NewHost) -> Result<HostId, Error> {
        let path = self.path.clone();
        let failed = |source: rusqlite::Error| match source.sqlite_error_code() {
            Some(rusqlite::ErrorCode::ConstraintViolation) => {
                Error::NameTaken(host.name.to_string())
            }
            _ => Error::Sql {
                doing: "enter a mirror into",
                path: path.clone(),
                source,
            },
        };
        let transaction = self.connection.transaction().map_err(failed)?;
        let id = insert(&transaction, host).map_err(failed)?;
        transaction.commit().map_err(failed)?;
        Ok(id)
    }

    /// All hosts, in the order in which they were entered.
    pub fn hosts(&self) -> Result<Vec<Host>, Error> {
        Ok(self
            .listed()?
            .into_iter()
            .map(|listed| listed.host)
            .collect())
    }

    /// One host with what is known beside it.
    pub fn host(&self, name: &HostName) -> Result<Listed, Error> {
        let found = self
            .listed()?
            .into_iter()
            .find(|listed| listed.host.name == *name);
        found.ok_or_else(|| Error::NameUnknown(name.to_string()))
    }

    /// All hosts with what is known beside them.
    pub fn listed(&self) -> Result<Vec<Listed>, Error> {
        let rows = self
            .rows()
            .map_err(|source| self.failed("read mirrors from", source))?;
        rows.iter().map(|row| self.listed_from(row)).collect()
    }

    /// Takes a host out of service, or, without a reason, back into it.
    pub fn set_disabled(&mut self, name: &HostName, reason: Option<&str>) -> Result<(), Error> {
        let changed = self
            .connection
            .execute(
                "UPDATE host SET disabled = ?2 WHERE name = ?1",
                params![name.as_str(), reason],
            )
            .map_err(|source| self.failed("change a mirror in", source))?;
        if changed == 0 {
            Err(Error::NameUnknown(name.to_string()))
        } else {
            Ok(())
        }
    }

    /// Forgets a host and all that was found out about it.
    pub fn remove_host(&mut self, name: &HostName) -> Result<(), Error> {
        let changed = self
            .connection
            .execute("DELETE FROM host WHERE name = ?1", [name.as_str()])
            .map_err(|source| self.failed("remove a mirror from", source))?;
        if changed == 0 {
            Err(Error::NameUnknown(name.to_string()))
        } else {
            Ok(())
        }
    }

    fn rows(&self) -> rusqlite::Result<Vec<Row>> {
        let mut statement = self.connection.prepare_cached(
            "SELECT host.id, host.name, country, latitude, longitude, bandwidth, private, host.disabled, failed_crawls,
                    failure, quarantine, crawled_at, kind, max_blob_size, host.disabled_by_site,
                    site.name, site.disabled, site.disabled_by_site
             FROM host JOIN site ON site.id = host.site ORDER BY host.id",
        )?;
        let rows = statement.query_map((), |row| {
            Ok(Row {
                id: row.get(0)?,
                name: row.get(1)?,
                country: row.get(2)?,
                coordinates: row
                    .get::<_, Option<f64>>(3)?
                    .zip(row.get::<_, Option<f64>>(4)?),
                bandwidth: row.get(5)?,
                private: row.get(6)?,
                disabled: row.get(7)?,
                failed_crawls: row.get(8)?,
                failure: row.get(9)?,
                quarantine: row.get(10)?,
                crawled_at: row.get(11)?,
                kind: row.get(12)?,
                max_blob_size: row.get(13)?,
                disabled_by_site: row.get(14)?,
                site: row.get(15)?,
                site_disabled: row.get(16)?,
                site_disabled_by_site: row.get(17)?,
            })
        })?;
        rows.collect()
    }

    fn texts(&self, query: &str, host: i64) -> Result<Vec<String>, Error> {
        let read = || {
            let mut statement = self.connection.prepare_cached(query)?;
            let rows = statement.query_map([host], |row| row.get(0))?;
            rows.collect::<rusqlite::Result<Vec<String>>>()
        };
        read().map_err(|source| self.failed("read mirrors from", source))
    }

    /// Parses what a row holds: the file may have been edited by hand.
    fn listed_from(&self, row: &Row) -> Result<Listed, Error> {
        let id = row.id;
        let malformed = |field| Error::Malformed {
            host: row.name.clone(),
            field,
        };
        let health = health::health(
            row.quarantine.clone(),
            row.failed_crawls,
            row.failure.clone(),
        );
        let urls = self.texts("SELECT url FROM url WHERE host = ?1 ORDER BY position", id)?;
        let netblocks = self.texts(
            "SELECT cidr FROM netblock WHERE host = ?1 ORDER BY cidr",
            id,
        )?;
        let asns = self.texts(
            "SELECT CAST(asn AS TEXT) FROM asn WHERE host = ?1 AND NOT peer ORDER BY asn",
            id,
        )?;
        let peers = self.texts(
            "SELECT CAST(asn AS TEXT) FROM asn WHERE host = ?1 AND peer ORDER BY asn",
            id,
        )?;
        let allowed = self.texts(
            "SELECT country FROM served_country WHERE host = ?1 AND allowed ORDER BY country",
            id,
        )?;
        let denied = self.texts(
            "SELECT country FROM served_country WHERE host = ?1 AND NOT allowed ORDER BY country",
            id,
        )?;
        let globs = self.texts(
            "SELECT glob FROM repository WHERE host = ?1 AND NOT excluded ORDER BY position",
            id,
        )?;
        let excluded = self.texts(
            "SELECT glob FROM repository WHERE host = ?1 AND excluded ORDER BY position",
            id,
        )?;
        let country = row
            .country
            .as_deref()
            .map(str::parse)
            .transpose()
            .map_err(|_| malformed("country"))?;
        let coordinates = match row.coordinates {
            None => None,
            Some((latitude, longitude)) => {
                Some(Coordinates::new(latitude, longitude).ok_or_else(|| malformed("place"))?)
            }
        };
        let host = Host {
            id: HostId(u32::try_from(id).map_err(|_| malformed("number"))?),
            name: row.name.parse().map_err(|_| malformed("name"))?,
            urls: parse_all(&urls).ok_or_else(|| malformed("URL"))?,
            country,
            coordinates,
            bandwidth: Bandwidth::from_mbit(row.bandwidth.into())
                .ok_or_else(|| malformed("bandwidth"))?,
            netblocks: parse_all(&netblocks).ok_or_else(|| malformed("netblock"))?,
            asns: parse_all(&asns).ok_or_else(|| malformed("AS number"))?,
            visibility: if row.private {
                Visibility::Private
            } else {
                Visibility::Public
            },
            repositories: parse_all(&globs).ok_or_else(|| malformed("repository pattern"))?,
            peer_asns: parse_all(&peers).ok_or_else(|| malformed("AS number"))?,
            allowed_countries: parse_all(&allowed).ok_or_else(|| malformed("country"))?,
            denied_countries: parse_all(&denied).ok_or_else(|| malformed("country"))?,
            site: row.site.parse().map_err(|_| malformed("site"))?,
            kind: row.kind.parse().map_err(|_| malformed("kind"))?,
            max_blob_size: row
                .max_blob_size
                .map(u64::try_from)
                .transpose()
                .map_err(|_| malformed("largest blob"))?,
            excluded_repositories: parse_all(&excluded)
                .ok_or_else(|| malformed("repository pattern"))?,
            admin: Switch::from(row.disabled.clone()),
            own: Switch::from(row.disabled_by_site.clone()),
            site_admin: Switch::from(row.site_disabled.clone()),
            site_own: Switch::from(row.site_disabled_by_site.clone()),
            health,
            failing_repositories: Vec::new(),
        };
        let crawled_at = row
            .crawled_at
            .as_deref()
            .map(str::parse)
            .transpose()
            .map_err(|_| malformed("time"))?;
        Ok(Listed { host, crawled_at })
    }
}

struct Row {
    id: i64,
    name: String,
    country: Option<String>,
    coordinates: Option<(f64, f64)>,
    bandwidth: u32,
    private: bool,
    disabled: Option<String>,
    failed_crawls: u32,
    failure: Option<String>,
    quarantine: Option<String>,
    crawled_at: Option<String>,
    kind: String,
    max_blob_size: Option<i64>,
    disabled_by_site: Option<String>,
    site: String,
    site_disabled: Option<String>,
    site_disabled_by_site: Option<String>,
}

fn insert(transaction: &Transaction<'_>, host: &NewHost) -> rusqlite::Result<HostId> {
    let site = host.site.clone();
    let site = site.unwrap_or_else(|| SiteName::from(&host.name));
    transaction.execute(
        "INSERT OR IGNORE INTO site (name) VALUES (?1)",
        [site.as_str()],
    )?;
    let site: Option<i64> = transaction
        .query_row(
            "SELECT id FROM site WHERE name = ?1",
            [site.as_str()],
            |row| row.get(0),
        )
        .optional()?;
    transaction.execute(
        "INSERT INTO host (site, name, country, latitude, longitude, bandwidth, private, kind, max_blob_size,
                           disabled, disabled_by_site)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        params![
            site,
            host.name.as_str(),
            host.country.map(|country| country.to_string()),
            host.coordinates.map(|coordinates| coordinates.latitude()),
            host.coordinates.map(|coordinates| coordinates.longitude()),
            host.bandwidth.mbit(),
            host.visibility == Visibility::Private,
            host.kind.as_str(),
            host.max_blob_size
                .map(|size| i64::try_from(size.0).unwrap_or(i64::MAX)),
            host.disabled,
            host.disabled_by_site,
        ],
    )?;
    let id = transaction.last_insert_rowid();
    for (position, url) in (0_i64..).zip(&host.urls) {
        transaction.execute(
            "INSERT INTO url VALUES (?1, ?2, ?3)",
            params![id, position, url.as_str()],
        )?;
    }
    for netblock in &host.netblocks {
        transaction.execute(
            "INSERT OR IGNORE INTO netblock VALUES (?1, ?2)",
            params![id, netblock.trunc().to_string()],
        )?;
    }
    for (asns, peer) in [(&host.asns, false), (&host.peer_asns, true)] {
        for asn in asns {
            transaction.execute(
                "INSERT OR IGNORE INTO asn VALUES (?1, ?2, ?3)",
                params![id, asn.0, peer],
            )?;
        }
    }
    for (countries, allowed) in [
        (&host.allowed_countries, true),
        (&host.denied_countries, false),
    ] {
        for country in countries {
            let row = params![id, country.to_string(), allowed];
            transaction.execute(
                "INSERT OR IGNORE INTO served_country VALUES (?1, ?2, ?3)",
                row,
            )?;
        }
    }
    let carried = host.repositories.iter().map(|glob| (glob, false));
    let excluded = host.excluded_repositories.iter().map(|glob| (glob, true));
    for (position, (glob, excluded)) in (0_i64..).zip(carried.chain(excluded)) {
        transaction.execute(
            "INSERT INTO repository (host, position, glob, excluded) VALUES (?1, ?2, ?3, ?4)",
            params![id, position, glob.as_str(), excluded],
        )?;
    }
    Ok(HostId(u32::try_from(id).unwrap_or(u32::MAX)))
}

fn parse_all<T: std::str::FromStr>(texts: &[String]) -> Option<Vec<T>> {
    texts.iter().map(|text| text.parse().ok()).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use oci_mirror::size::ByteSize;

    use super::*;
    use crate::network::Kind;

    /// A host with every field set.
    pub(crate) fn new_host(name: &str, url: &str) -> NewHost {
        NewHost {
            country: "DE".parse().ok(),
            coordinates: "49.4,8.7".parse().ok(),
            bandwidth: Bandwidth::from_mbit(1000).unwrap(),
            netblocks: vec![
                "192.0.2.0/24".parse().unwrap(),
                "2001:db8::/32".parse().unwrap(),
            ],
            asns: vec!["AS64496".parse().unwrap()],
            peer_asns: vec!["AS64497".parse().unwrap()],
            visibility: Visibility::Private,
            repositories: vec!["fedora/*".parse().unwrap(), "a".parse().unwrap()],
            allowed_countries: vec!["DE".parse().unwrap()],
            denied_countries: vec!["FR".parse().unwrap()],
            site: "s".parse().ok(),
            kind: Kind::Cdn,
            max_blob_size: Some(ByteSize(1 << 30)),
            excluded_repositories: vec!["fedora/eln".parse().unwrap()],
            ..NewHost::new(name.parse().unwrap(), vec![url.parse().unwrap()])
        }
    }

    #[test]
    fn what_is_entered_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let mut database = Database::open(&dir.path().join("x.db")).unwrap();
        let new = new_host("m", "https://m.example/t");
        let id = database.add_host(&new).unwrap();
        let listed = database.host(&new.name).unwrap();
        assert_eq!(
            listed,
            Listed {
                host: Host::new(id, new),
                crawled_at: None
            }
        );
    }

    #[test]
    fn names_are_taken_once_and_unknown_ones_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let mut database = Database::open(&dir.path().join("x.db")).unwrap();
        let host = new_host("m", "https://m.example/t");
        database.add_host(&host).unwrap();
        assert!(matches!(database.add_host(&host), Err(Error::NameTaken(name)) if name == "m"));
        let other = "other".parse().unwrap();
        assert!(matches!(
            database.set_disabled(&other, None),
            Err(Error::NameUnknown(_))
        ));
        assert!(matches!(
            database.remove_host(&other),
            Err(Error::NameUnknown(_))
        ));
        database
            .set_disabled(&host.name, Some("moving house"))
            .unwrap();
        let reason = Switch::from(Some("moving house".to_owned()));
        assert_eq!(database.host(&host.name).unwrap().host.admin, reason);
        database.remove_host(&host.name).unwrap();
        assert!(database.hosts().unwrap().is_empty());
    }

    #[test]
    fn a_row_edited_by_hand_is_an_error_that_names_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut database = Database::open(&dir.path().join("x.db")).unwrap();
        database
            .add_host(&new_host("m", "https://m.example/t"))
            .unwrap();
        database
            .connection
            .execute("UPDATE url SET url = 'javascript:x'", ())
            .unwrap();
        let error = database.hosts().unwrap_err().to_string();
        assert!(
            error.contains("mirror m") && error.contains("URL"),
            "{error}"
        );
    }
}
