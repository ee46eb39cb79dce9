//! Sites: organisations with one or several hosts.

use rusqlite::{Connection, OptionalExtension as _, Transaction, params};

use super::hosts::text;
use super::{Database, Error, Failure, is_taken};
use crate::network::{BaseUrl, By, HostName, NewSite, Reason, Site, SiteName, Switch};

/// What becomes of the hosts of a site that is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mirrors {
    /// There must be none.
    Kept,
    /// They are removed with it.
    Removed,
}

impl Database {
    /// Enters a site.
    pub fn add_site(&mut self, site: &NewSite) -> Result<(), Error> {
        self.write("enter a site into", |transaction| {
            insert(transaction, site).map_err(|source| {
                if is_taken(&source) {
                    Error::SiteTaken(site.name.clone()).into()
                } else {
                    source.into()
                }
            })
        })
    }

    /// Changes what is said of a site, and tells which fields are other than before.
    pub fn change_site(&mut self, site: &NewSite) -> Result<Vec<&'static str>, Error> {
        self.write("change a site in", |transaction| {
            let sites = all(transaction)?;
            let old = sites.iter().find(|old| old.name == site.name);
            let old = old.ok_or_else(|| Error::SiteUnknown(site.name.clone()))?;
            Ok(change(transaction, old, site)?)
        })
    }

    /// All sites, by name.
    pub fn sites(&self) -> Result<Vec<Site>, Error> {
        all(&self.connection).map_err(|failure| self.explained(failure, "read sites from"))
    }

    /// One site.
    pub fn site(&self, name: &SiteName) -> Result<Site, Error> {
        let mut sites = self.sites()?.into_iter();
        let found = sites.find(|site| site.name == *name);
        found.ok_or_else(|| Error::SiteUnknown(name.clone()))
    }

    /// Takes all hosts of a site out of service, or, without a reason, back into it as far as `by` may
    /// say.
    pub fn set_site_switch(
        &mut self,
        name: &SiteName,
        by: By,
        reason: Option<&str>,
    ) -> Result<(), Error> {
        let query = match by {
            By::Admin => "UPDATE site SET disabled = ?2 WHERE name = ?1",
            By::Site => "UPDATE site SET disabled_by_site = ?2 WHERE name = ?1",
        };
        self.write("change a site in", |transaction| {
            match transaction.execute(query, params![name.as_str(), reason])? {
                0 => Err(Error::SiteUnknown(name.clone()).into()),
                _ => Ok(()),
            }
        })
    }

    /// Forgets a site; the hosts that went with it.
    pub fn remove_site(
        &mut self,
        name: &SiteName,
        mirrors: Mirrors,
    ) -> Result<Vec<HostName>, Error> {
        self.write("remove a site from", |transaction| {
            let mut sites = all(transaction)?.into_iter();
            let found = sites.find(|site| site.name == *name);
            let site = found.ok_or_else(|| Error::SiteUnknown(name.clone()))?;
            if mirrors == Mirrors::Kept && !site.mirrors.is_empty() {
                return Err(Error::SiteInUse {
                    name: name.clone(),
                    mirrors: site.mirrors.len(),
                }
                .into());
            }
            transaction.execute("DELETE FROM site WHERE name = ?1", [name.as_str()])?;
            Ok(site.mirrors)
        })
    }
}

/// All sites, by name.
pub(super) fn all(connection: &Connection) -> Result<Vec<Site>, Failure> {
    let mut sites = Vec::new();
    let mut statement = connection.prepare_cached(
        "SELECT id, name, url, disabled, disabled_by_site FROM site ORDER BY name",
    )?;
    let mut hosts =
        connection.prepare_cached("SELECT name FROM host WHERE site = ?1 ORDER BY name")?;
    let mut accounts = connection.prepare_cached(
        "SELECT name FROM account JOIN site_account ON account = id WHERE site = ?1 ORDER BY name",
    )?;
    let mut rows = statement.query(())?;
    while let Some(row) = rows.next()? {
        let id: i64 = row.get(0)?;
        let name = text(row, 1)?.unwrap_or_default();
        let malformed = |field| Error::Malformed {
            what: "site",
            name: name.clone(),
            field,
        };
        let mirrors = hosts.query_map([id], |row| text(row, 0))?;
        let mirrors = mirrors.collect::<rusqlite::Result<Vec<_>>>()?;
        let people = accounts.query_map([id], |row| text(row, 0))?;
        let people = people.collect::<rusqlite::Result<Vec<_>>>()?;
        let people = people.iter().flatten().map(|name| name.parse());
        let url = text(row, 2)?.map(|url| url.parse()).transpose();
        sites.push(Site {
            name: name.parse().map_err(|_| malformed("name"))?,
            url: url.map_err(|_| malformed("URL"))?,
            admin: Switch::from(text(row, 3)?),
            own: Switch::from(text(row, 4)?),
            // A host whose name is malformed is told where hosts are read.
            mirrors: mirrors
                .iter()
                .flatten()
                .filter_map(|name| name.parse().ok())
                .collect(),
            accounts: people
                .collect::<Result<_, _>>()
                .map_err(|_| malformed("account"))?,
        });
    }
    Ok(sites)
}

pub(super) fn insert(transaction: &Transaction<'_>, site: &NewSite) -> rusqlite::Result<()> {
    transaction.execute(
        "INSERT INTO site (name, url, disabled, disabled_by_site) VALUES (?1, ?2, ?3, ?4)",
        params![
            site.name.as_str(),
            site.url.as_ref().map(BaseUrl::as_str),
            site.disabled.as_ref().map(Reason::as_str),
            site.disabled_by_site.as_ref().map(Reason::as_str),
        ],
    )?;
    Ok(())
}

/// Changes a site where it differs, and tells in which fields it did. A switch stays unless it is turned
/// off.
pub(super) fn change(
    transaction: &Transaction<'_>,
    old: &Site,
    new: &NewSite,
) -> rusqlite::Result<Vec<&'static str>> {
    let mut changed = Vec::new();
    let name = new.name.as_str();
    if old.url != new.url {
        let url = new.url.as_ref().map(BaseUrl::as_str);
        transaction.execute(
            "UPDATE site SET url = ?2 WHERE name = ?1",
            params![name, url],
        )?;
        changed.push("url");
    }
    let disabled = new.disabled.as_ref().map(Reason::as_str);
    if disabled.is_some() && disabled != old.admin.reason() {
        let query = "UPDATE site SET disabled = ?2 WHERE name = ?1";
        transaction.execute(query, params![name, disabled])?;
        changed.push("disabled");
    }
    let own = new.disabled_by_site.as_ref().map(Reason::as_str);
    if own.is_some() && own != old.own.reason() {
        let query = "UPDATE site SET disabled_by_site = ?2 WHERE name = ?1";
        transaction.execute(query, params![name, own])?;
        changed.push("disabled-by-site");
    }
    Ok(changed)
}

/// The number of a site, which is entered if it is not there.
pub(super) fn ensure(transaction: &Transaction<'_>, name: &SiteName) -> rusqlite::Result<i64> {
    let mut find = transaction.prepare_cached("SELECT id FROM site WHERE name = ?1")?;
    let found = find
        .query_row([name.as_str()], |row| row.get(0))
        .optional()?;
    if let Some(id) = found {
        return Ok(id);
    }
    transaction.execute("INSERT INTO site (name) VALUES (?1)", [name.as_str()])?;
    Ok(transaction.last_insert_rowid())
}

/// Removes a site that no host and no account belongs to and of which nothing else is known: it came
/// with a host and goes with it.
pub(super) fn sweep(transaction: &Transaction<'_>, site: i64) -> rusqlite::Result<()> {
    transaction.execute(
        "DELETE FROM site WHERE id = ?1 AND url IS NULL AND disabled IS NULL AND disabled_by_site IS NULL
             AND NOT EXISTS (SELECT 1 FROM host WHERE site = ?1)
             AND NOT EXISTS (SELECT 1 FROM site_account WHERE site = ?1)",
        [site],
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{Inactive, NewHost};

    #[test]
    fn a_site_switched_off_takes_its_hosts_out() {
        let dir = tempfile::tempdir().unwrap();
        let mut database = Database::open(&dir.path().join("x.db")).unwrap();
        let site: SiteName = "s".parse().unwrap();
        assert!(matches!(
            database.set_site_switch(&site, By::Admin, None),
            Err(Error::SiteUnknown(_))
        ));
        database.add_site(&NewSite::new(site.clone())).unwrap();
        assert!(matches!(
            database.add_site(&NewSite::new(site.clone())),
            Err(Error::SiteTaken(_))
        ));
        for name in ["a", "b", "c"] {
            let new = NewHost {
                site: (name != "c").then(|| site.clone()),
                ..NewHost::new(
                    name.parse().unwrap(),
                    vec!["https://m.example".parse().unwrap()],
                )
            };
            database.add_host(&new).unwrap();
        }
        for (by, objection) in [
            (
                By::Admin,
                Inactive::SiteDisabled {
                    site: site.clone(),
                    reason: "why".into(),
                },
            ),
            (
                By::Site,
                Inactive::SiteDisabledBySite {
                    site: site.clone(),
                    reason: "why".into(),
                },
            ),
        ] {
            database.set_site_switch(&site, by, Some("why")).unwrap();
            let standings = database.hosts().unwrap();
            let standings: Vec<_> = standings
                .iter()
                .map(crate::network::Host::standing)
                .collect();
            assert_eq!(standings, [Err(objection.clone()), Err(objection), Ok(())]);
            database.set_site_switch(&site, by, None).unwrap();
            assert!(
                database
                    .hosts()
                    .unwrap()
                    .iter()
                    .all(|host| host.standing().is_ok())
            );
        }
    }

    #[test]
    fn a_site_goes_with_its_hosts_only_if_that_is_meant() {
        let dir = tempfile::tempdir().unwrap();
        let mut database = Database::open(&dir.path().join("x.db")).unwrap();
        let new = NewHost::new(
            "m".parse().unwrap(),
            vec!["https://m.example".parse().unwrap()],
        );
        database.add_host(&new).unwrap();
        let site = SiteName::from(&new.name);
        assert!(matches!(
            database.remove_site(&site, Mirrors::Kept),
            Err(Error::SiteInUse { mirrors: 1, .. })
        ));
        assert_eq!(
            database.remove_site(&site, Mirrors::Removed).unwrap(),
            [new.name]
        );
        assert!(database.hosts().unwrap().is_empty() && database.sites().unwrap().is_empty());
    }
}
