//! What rows say of hosts. The file may have been edited by hand: a row that makes no sense costs its
//! host and no other.

use std::collections::HashMap;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row};

use super::{Listed, Unreadable};
use crate::db::health;
use crate::geo::Coordinates;
use crate::network::standing::FAILURES_TO_DISABLE;
use crate::network::{Bandwidth, Host, HostId, Switch, Visibility};

/// All hosts, in the order in which they were entered: seven queries, however many there are.
pub(in crate::db) fn entries(
    connection: &Connection,
) -> rusqlite::Result<(Vec<Listed>, Vec<Unreadable>)> {
    let lists = Lists::read(connection)?;
    let mut statement = connection.prepare_cached(
        "SELECT host.id, host.name, country, latitude, longitude, bandwidth, private, host.disabled, failed_crawls,
                failure, quarantine, crawled_at, kind, max_blob_size, host.disabled_by_site,
                site.name, site.disabled, site.disabled_by_site, checked_in_at
         FROM host JOIN site ON site.id = host.site ORDER BY host.id",
    )?;
    let mut rows = statement.query(())?;
    let (mut listed, mut unreadable) = (Vec::new(), Vec::new());
    while let Some(row) = rows.next()? {
        let entry = Entry::read(row)?;
        match entry.listed(&lists) {
            Ok(host) => listed.push(host),
            Err(field) => unreadable.push(Unreadable {
                id: entry.id,
                name: entry.name,
                field,
            }),
        }
    }
    Ok((listed, unreadable))
}

/// A text, or what can be read of it: whatever is no UTF-8 does not parse afterwards.
pub(in crate::db) fn text(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<String>> {
    Ok(match row.get_ref(column)? {
        ValueRef::Text(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        _ => None,
    })
}

/// Texts by host, and by the one thing that tells them apart.
type Texts = HashMap<(i64, bool), Vec<String>>;

/// The lists of all hosts.
struct Lists {
    urls: Texts,
    netblocks: Texts,
    /// Of peers: true.
    asns: Texts,
    /// Allowed: true.
    countries: Texts,
    /// Excluded: true.
    repositories: Texts,
    failing: HashMap<i64, Vec<(String, String)>>,
}

impl Lists {
    fn read(connection: &Connection) -> rusqlite::Result<Self> {
        let texts = |query: &str| {
            let mut statement = connection.prepare_cached(query)?;
            let mut rows = statement.query(())?;
            let mut texts = Texts::new();
            while let Some(row) = rows.next()? {
                let list = texts.entry((row.get(0)?, row.get(1)?)).or_default();
                list.push(text(row, 2)?.unwrap_or_default());
            }
            Ok::<_, rusqlite::Error>(texts)
        };
        let failing = || {
            let mut statement = connection.prepare_cached(
                "SELECT host, repository, failure FROM repository_health WHERE failed_crawls >= ?1
                 ORDER BY host, repository",
            )?;
            let mut rows = statement.query([FAILURES_TO_DISABLE])?;
            let mut failing: HashMap<i64, Vec<_>> = HashMap::new();
            while let Some(row) = rows.next()? {
                let name = text(row, 1)?.unwrap_or_default();
                let failure = text(row, 2)?.unwrap_or_default();
                failing
                    .entry(row.get(0)?)
                    .or_default()
                    .push((name, failure));
            }
            Ok::<_, rusqlite::Error>(failing)
        };
        Ok(Self {
            urls: texts("SELECT host, 0, url FROM url ORDER BY host, position")?,
            netblocks: texts("SELECT host, 0, cidr FROM netblock ORDER BY host, cidr")?,
            asns: texts("SELECT host, peer, CAST(asn AS TEXT) FROM asn ORDER BY host, asn")?,
            countries: texts(
                "SELECT host, allowed, country FROM served_country ORDER BY host, country",
            )?,
            repositories: texts(
                "SELECT host, excluded, glob FROM repository ORDER BY host, position",
            )?,
            failing: failing()?,
        })
    }
}

/// A row, as it is written.
struct Entry {
    id: i64,
    name: String,
    country: Option<String>,
    coordinates: Option<(f64, f64)>,
    bandwidth: i64,
    private: bool,
    disabled: Option<String>,
    failed_crawls: i64,
    failure: Option<String>,
    quarantine: Option<String>,
    crawled_at: Option<String>,
    kind: String,
    max_blob_size: Option<i64>,
    disabled_by_site: Option<String>,
    site: String,
    site_disabled: Option<String>,
    site_disabled_by_site: Option<String>,
    checked_in_at: Option<String>,
}

impl Entry {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            name: text(row, 1)?.unwrap_or_default(),
            country: text(row, 2)?,
            coordinates: row
                .get::<_, Option<f64>>(3)?
                .zip(row.get::<_, Option<f64>>(4)?),
            bandwidth: row.get(5)?,
            private: row.get(6)?,
            disabled: text(row, 7)?,
            failed_crawls: row.get(8)?,
            failure: text(row, 9)?,
            quarantine: text(row, 10)?,
            crawled_at: text(row, 11)?,
            kind: text(row, 12)?.unwrap_or_default(),
            max_blob_size: row.get(13)?,
            disabled_by_site: text(row, 14)?,
            site: text(row, 15)?.unwrap_or_default(),
            site_disabled: text(row, 16)?,
            site_disabled_by_site: text(row, 17)?,
            checked_in_at: text(row, 18)?,
        })
    }

    /// The host, or the field that is malformed.
    fn listed(&self, lists: &Lists) -> Result<Listed, &'static str> {
        let of = |texts: &Texts, which: bool| -> Vec<String> {
            texts.get(&(self.id, which)).cloned().unwrap_or_default()
        };
        let country = self.country.as_deref().map(str::parse).transpose();
        let place = |(latitude, longitude)| Coordinates::new(latitude, longitude).ok_or("place");
        let bandwidth = u64::try_from(self.bandwidth).ok();
        let health = health::health(
            self.quarantine.clone(),
            u32::try_from(self.failed_crawls).map_err(|_| "number of failed crawls")?,
            self.failure.clone(),
        );
        let failing = lists.failing.get(&self.id).map_or(&[][..], Vec::as_slice);
        let failing = failing
            .iter()
            .map(|(name, reason)| Some((name.parse().ok()?, reason.clone())));
        let host = Host {
            id: HostId(u32::try_from(self.id).map_err(|_| "number")?),
            name: self.name.parse().map_err(|_| "name")?,
            urls: parse(&of(&lists.urls, false)).ok_or("URL")?,
            country: country.map_err(|_| "country")?,
            coordinates: self.coordinates.map(place).transpose()?,
            bandwidth: bandwidth
                .and_then(Bandwidth::from_mbit)
                .ok_or("bandwidth")?,
            netblocks: parse(&of(&lists.netblocks, false)).ok_or("netblock")?,
            asns: parse(&of(&lists.asns, false)).ok_or("AS number")?,
            peer_asns: parse(&of(&lists.asns, true)).ok_or("AS number")?,
            visibility: if self.private {
                Visibility::Private
            } else {
                Visibility::Public
            },
            repositories: parse(&of(&lists.repositories, false)).ok_or("repository pattern")?,
            excluded_repositories: parse(&of(&lists.repositories, true))
                .ok_or("repository pattern")?,
            allowed_countries: parse(&of(&lists.countries, true)).ok_or("country")?,
            denied_countries: parse(&of(&lists.countries, false)).ok_or("country")?,
            site: self.site.parse().map_err(|_| "site")?,
            kind: self.kind.parse().map_err(|_| "kind")?,
            max_blob_size: self
                .max_blob_size
                .map(|size| u64::try_from(size).map_err(|_| "largest blob"))
                .transpose()?,
            admin: Switch::from(self.disabled.clone()),
            own: Switch::from(self.disabled_by_site.clone()),
            site_admin: Switch::from(self.site_disabled.clone()),
            site_own: Switch::from(self.site_disabled_by_site.clone()),
            health,
            failing_repositories: failing.collect::<Option<_>>().ok_or("repository")?,
        };
        let time = |text: &Option<String>| {
            let time = text.as_deref().map(str::parse).transpose();
            time.map_err(|_| "time")
        };
        Ok(Listed {
            host,
            crawled_at: time(&self.crawled_at)?,
            checked_in_at: time(&self.checked_in_at)?,
        })
    }
}

fn parse<T: std::str::FromStr>(texts: &[String]) -> Option<Vec<T>> {
    texts.iter().map(|text| text.parse().ok()).collect()
}
